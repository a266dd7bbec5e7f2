/** Records on their way into the log: what one write, or one for each file it touches, hands to the kernel. */
import { assert } from '../base/assert.ts';
import { viewOf } from '../format/bytes.ts';

/** Bytes for one place of one file. */
export interface Segment {
  readonly fileIndex: number;
  readonly offsetBytes: number;
  readonly parts: Uint8Array[];
}

const STAGING_BYTES = 256 * 1024;

/** Payloads up to this are copied next to their headers: one part is cheaper than three. */
export const COPY_LIMIT_BYTES = 16 * 1024;

/** A piece of memory that record headers and small payloads are gathered in. */
class Staging {
  readonly bytes: Buffer;
  readonly view: DataView;
  used = 0;
  /** Start of the bytes that are not in a part yet. */
  partStart = 0;

  constructor(length: number) {
    this.bytes = Buffer.alloc(length);
    this.view = viewOf(this.bytes);
  }
}

export class LogBatch {
  segments: Segment[] = [];
  bytes = 0;
  blockCount = 0;
  lastLsn = 0;
  /** When its first record was accepted. */
  sinceMs = 0;
  #stagings: Staging[] = [new Staging(STAGING_BYTES)];
  #staging: Staging = this.#stagings[0];

  get isEmpty(): boolean {
    return this.segments.length === 0;
  }

  /** The bytes that follow go to `offsetBytes` of a file. */
  beginSegment(fileIndex: number, offsetBytes: number): void {
    this.#closePart();
    this.segments.push({ fileIndex, offsetBytes, parts: [] });
  }

  /** Makes room for `length` bytes behind the ones gathered so far; they are written with `view` at `start`. */
  reserve(length: number): { readonly bytes: Buffer; readonly view: DataView; readonly start: number } {
    if (this.#staging.used + length > this.#staging.bytes.length) {
      this.#closePart();
      this.#staging = new Staging(Math.max(STAGING_BYTES, length));
      this.#stagings.push(this.#staging);
    }
    const start = this.#staging.used;
    this.#staging.used += length;
    this.bytes += length;
    return { bytes: this.#staging.bytes, view: this.#staging.view, start };
  }

  /** Appends bytes that stay as they are until the batch is written: a slab's. */
  appendBorrowed(bytes: Uint8Array): void {
    this.#closePart();
    this.#lastSegment().parts.push(bytes);
    this.bytes += bytes.length;
  }

  /** Ends the gathering: `segments` hold everything. */
  finish(): void {
    this.#closePart();
  }

  /** Forgets all, keeping one piece of memory for the next use. */
  reset(): void {
    this.segments = [];
    this.bytes = 0;
    this.blockCount = 0;
    this.lastLsn = 0;
    this.#stagings = [this.#stagings[0]];
    this.#staging = this.#stagings[0];
    this.#staging.used = 0;
    this.#staging.partStart = 0;
  }

  #lastSegment(): Segment {
    const segment = this.segments.at(-1);
    assert(segment !== undefined, 'bytes are gathered before their place in the log is known');
    return segment;
  }

  #closePart(): void {
    const staging = this.#staging;
    if (staging.used === staging.partStart) return;
    this.#lastSegment().parts.push(staging.bytes.subarray(staging.partStart, staging.used));
    staging.partStart = staging.used;
  }
}
