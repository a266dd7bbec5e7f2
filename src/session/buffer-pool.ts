/**
 * Buffers for replies, payloads and unparsed input, reused: a fresh megabyte costs 256 page faults before its first byte is
 * copied. Sizes are a power of two and 8 KiB, so that a payload of the usual size and the headers beside it share one buffer.
 */
import { assert } from '../base/assert.ts';
import { KIB, MIB } from '../base/units.ts';

const HEADROOM = 8 * KIB;

const CLASS_BYTES: readonly number[] = [
  HEADROOM,
  32 * KIB + HEADROOM,
  128 * KIB + HEADROOM,
  256 * KIB + HEADROOM,
  512 * KIB + HEADROOM,
  MIB + HEADROOM,
  2 * MIB + HEADROOM,
  4 * MIB + HEADROOM,
  8 * MIB + HEADROOM,
  16 * MIB + HEADROOM,
  32 * MIB + HEADROOM,
  64 * MIB + HEADROOM,
];

/** What is left over of one read when it is small: a header, a 4 KiB write. */
export const SMALL_BUFFER_BYTES = HEADROOM;
/** One buffer of replies, and the unparsed input of a connection that needs no reservation. */
export const PIECE_BYTES = 512 * KIB + HEADROOM;

/** The size of the buffer that `take(bytes)` gives: what a reservation must count. */
export function bufferClassBytes(bytes: number): number {
  const found = CLASS_BYTES.find((size) => size >= bytes);
  return found ?? bytes;
}

/** Idle buffers of one size, and when one of that size was last asked for. */
interface Stock {
  readonly free: Uint8Array[];
  lastTake: number;
}

export class BufferPool {
  readonly #stocks: ReadonlyMap<number, Stock> = new Map(CLASS_BYTES.map((size) => [size, { free: [], lastTake: 0 }]));
  readonly #idleBytesMax: number;
  #idleBytes = 0;
  #leasedBytes = 0;
  #takes = 0;

  /** Keeps at most `idleBytesMax` bytes of buffers that nobody uses. How much is in use is bounded by the users. */
  constructor(idleBytesMax: number) {
    this.#idleBytesMax = idleBytesMax;
  }

  get idleBytes(): number {
    return this.#idleBytes;
  }

  /** Bytes taken and not given back; 0 when every connection is gone. */
  get leasedBytes(): number {
    return this.#leasedBytes;
  }

  /**
   * A buffer of at least `bytes` bytes, the caller's until `give`. It may hold bytes of an earlier user: whoever sends from it sends
   * only what was written into it.
   */
  take(bytes: number): Uint8Array {
    const size = bufferClassBytes(bytes);
    this.#leasedBytes += size;
    const stock = this.#stocks.get(size);
    if (stock === undefined) return new Uint8Array(size);
    this.#takes += 1;
    stock.lastTake = this.#takes;
    const free = stock.free.pop(); // the last one given is the warmest
    if (free === undefined) return new Uint8Array(size);
    this.#idleBytes -= size;
    return free;
  }

  /** Gives back what `take` gave; exactly once. */
  give(buffer: Uint8Array): void {
    const size = buffer.length;
    this.#leasedBytes -= size;
    assert(this.#leasedBytes >= 0, `a buffer of ${size} bytes was given back twice`);
    const stock = this.#stocks.get(size);
    // Larger than any class: made for one use. Larger than all that is kept: nothing makes way for it.
    if (stock === undefined || size > this.#idleBytesMax) return;
    this.#makeRoom(size, stock.lastTake);
    if (this.#idleBytes + size > this.#idleBytesMax) return;
    stock.free.push(buffer);
    this.#idleBytes += size;
  }

  /**
   * Drops idle buffers of sizes that were asked for before `since`, longest ago first. Else those of earlier traffic would stay for ever, and what
   * is needed now be made anew each time (1 MiB writes after 128 KiB reads: a quarter more processor time, for page faults and for
   * the collection of garbage).
   */
  #makeRoom(size: number, since: number): void {
    while (this.#idleBytes + size > this.#idleBytesMax) {
      let oldest: Stock | null = null;
      for (const stock of this.#stocks.values()) {
        if (stock.free.length > 0 && stock.lastTake < (oldest?.lastTake ?? since)) oldest = stock;
      }
      const dropped = oldest?.free.pop();
      if (dropped === undefined) return;
      this.#idleBytes -= dropped.length;
    }
  }
}
