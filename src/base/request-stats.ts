/** What clients have asked of one volume: counters and latencies of its requests, from all connections together. */
import { LatencyHistogram, type LatencyBuckets, type LatencySummary } from './latency-histogram.ts';

export const OPERATIONS = ['read', 'write', 'flush', 'trim', 'zero', 'cache', 'status'] as const;
export type Operation = (typeof OPERATIONS)[number];

/** Places in `OPERATIONS`, for those who count. */
export const OPERATION = { READ: 0, WRITE: 1, FLUSH: 2, TRIM: 3, ZERO: 4, CACHE: 5, STATUS: 6 } as const;

/** One kind of request. */
export interface OperationStats {
  /** Answered well; their latency is in the histogram. */
  readonly count: number;
  /** Bytes of their ranges. */
  readonly bytes: number;
  /** Answered with an error by the volume; neither counted nor timed above. */
  readonly errors: number;
  readonly latency: LatencySummary;
  readonly buckets: LatencyBuckets;
}

export interface RequestSnapshot {
  /** Clients that have the volume. */
  readonly clients: number;
  /** Requests that wait for the volume now, and the most that did at a time. */
  readonly inFlight: number;
  readonly inFlightMax: number;
  /** Requests that were refused before the volume was asked: past its end, read-only, not understood. */
  readonly refused: number;
  /** Requests that had to wait for a limit of the volume (`basalt limit`). */
  readonly throttled: number;
  readonly operations: Readonly<Record<Operation, OperationStats>>;
}

export class RequestStats {
  readonly latencies: readonly LatencyHistogram[] = OPERATIONS.map(() => new LatencyHistogram());
  readonly bytes = new Float64Array(OPERATIONS.length);
  readonly errors = new Float64Array(OPERATIONS.length);
  clients = 0;
  inFlight = 0;
  inFlightMax = 0;
  refused = 0;
  throttled = 0;

  begun(): void {
    this.inFlight += 1;
    if (this.inFlight > this.inFlightMax) this.inFlightMax = this.inFlight;
  }

  snapshot(): RequestSnapshot {
    const of = (index: number): OperationStats => {
      const latency = this.latencies[index];
      return { count: latency.count, bytes: this.bytes[index], errors: this.errors[index], latency: latency.summary(), buckets: latency.buckets() };
    };
    const operations = { read: of(0), write: of(1), flush: of(2), trim: of(3), zero: of(4), cache: of(5), status: of(6) };
    return { clients: this.clients, inFlight: this.inFlight, inFlightMax: this.inFlightMax, refused: this.refused, throttled: this.throttled, operations };
  }
}
