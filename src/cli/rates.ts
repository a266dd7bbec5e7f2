/** What happened between two looks at a server's statistics. */
import { bucketsSince, quantileMs } from '../base/latency-histogram.ts';
import { OPERATIONS, type Operation, type OperationStats, type RequestSnapshot } from '../base/request-stats.ts';

/** One kind of request within a time. */
export interface OperationRate {
  readonly operation: Operation;
  readonly count: number;
  readonly bytes: number;
  readonly errors: number;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  readonly p999Ms: number | null;
}

const NOTHING: Pick<OperationStats, 'count' | 'bytes' | 'errors' | 'buckets'> = { count: 0, bytes: 0, errors: 0, buckets: [] };

/** The kinds of requests that there were since `before`; null: since the server began. */
export function operationsSince(now: RequestSnapshot | null, before: RequestSnapshot | null): readonly OperationRate[] {
  if (now === null) return [];
  return OPERATIONS.map((operation) => {
    const last = now.operations[operation];
    // A server that was started anew counts from nothing.
    const first = before === null || before.operations[operation].count > last.count ? NOTHING : before.operations[operation];
    const buckets = bucketsSince(last.buckets, first.buckets);
    return {
      operation,
      count: last.count - first.count,
      bytes: last.bytes - first.bytes,
      errors: Math.max(0, last.errors - first.errors),
      p50Ms: quantileMs(buckets, 0.5),
      p99Ms: quantileMs(buckets, 0.99),
      p999Ms: quantileMs(buckets, 0.999),
    };
  }).filter(({ count, errors }) => count > 0 || errors > 0);
}

/** `85 us`, `1.20 ms`, `3.1 s`; a dash for nothing. */
export function formatLatency(latencyMs: number | null): string {
  if (latencyMs === null) return '-';
  if (latencyMs < 1) return `${Math.round(latencyMs * 1000)} us`;
  if (latencyMs < 1000) return `${latencyMs.toPrecision(3)} ms`;
  return `${(latencyMs / 1000).toFixed(1)} s`;
}

/** `12`, `15.2k`, `3.4M`: a number per second, or any other that is read at a glance. */
export function formatCount(count: number): string {
  if (count < 10_000) return String(Math.round(count));
  if (count < 1_000_000) return `${(count / 1000).toFixed(1)}k`;
  return `${(count / 1_000_000).toFixed(1)}M`;
}
