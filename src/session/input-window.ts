/**
 * The bytes of one connection that were received and not yet consumed: always one contiguous range, `[start, end)` of `bytes`,
 * so that a request and its payload are parsed and written to the volume from where they landed.
 *
 * Input lands in the scratch buffer that all connections share, and what is left there at the end of a turn moves away:
 * - up to 8 KiB (a header, a small write) to a small buffer of the connection; it is put in front of the next read;
 * - more than that to a piece of 512 KiB, and the rest of the payload is then received right behind it;
 * - a payload larger than a piece gets a buffer for all of it, counted in the budget of payloads, once an eighth of it
 *   or a whole piece has arrived: a client that only announces 32 MiB holds none of them.
 * A stream of large writes stays in its buffer: reading stops at the header after the payload, and only that header is moved.
 *
 * The socket knows where its next read will land before it happens. So the window changes its place only in the turn of a
 * read, or while reading is stopped; for the time when it is stopped, `readTarget` is a place that stays valid.
 */
import { assert } from '../base/assert.ts';
import { REQUEST_BYTES } from '../protocol/transmission.ts';
import { bufferClassBytes, type BufferPool, PIECE_BYTES, SMALL_BUFFER_BYTES } from './buffer-pool.ts';
import type { PayloadBudget, Reservation } from './payload-budget.ts';

const SCRATCH_BYTES = PIECE_BYTES - SMALL_BUFFER_BYTES;
const EAGER_SHARE = 8;
const NOTHING = new Uint8Array(0);

/** A payload's memory, with its share of the budget. */
export interface PayloadLease {
  readonly buffer: Uint8Array;
  readonly reservation: Reservation;
}

export interface WindowResources {
  readonly scratch: Uint8Array;
  readonly pool: BufferPool;
  readonly budget: PayloadBudget;
}

export class InputWindow {
  bytes: Uint8Array = NOTHING;
  start = 0;
  end = 0;

  readonly #resources: WindowResources;
  readonly #onGranted: () => void;
  readonly #scratchTarget: Uint8Array;
  #small: Uint8Array = NOTHING;
  #own: Uint8Array | null = null;
  #ownReservation: Reservation | null = null;
  #wanted: Reservation | null = null;
  #readEnd = 0;

  /** `onGranted` is called when `keep`, which had returned false, is worth another try. */
  constructor(resources: WindowResources, onGranted: () => void) {
    assert(resources.scratch.length === PIECE_BYTES, 'the scratch buffer is one piece');
    this.#resources = resources;
    this.#onGranted = onGranted;
    this.#scratchTarget = resources.scratch.subarray(SMALL_BUFFER_BYTES);
  }

  /** Whether the window holds memory that the budget counts, or waits for some. */
  get usesBudget(): boolean {
    return this.#own !== null || this.#wanted !== null;
  }

  /**
   * Where the next read lands. `stopped`: reading stops, and the window may move before it starts again; then a single byte of
   * the scratch buffer is the target if the window is elsewhere, and the read after that one finds the right place.
   */
  readTarget(stopped: boolean): Uint8Array {
    if (this.#own === null) return this.#scratchTarget;
    if (stopped) return this.#scratchTarget.subarray(0, 1);
    assert(this.#readEnd > this.end, 'the input buffer has room for the next read');
    return this.#own.subarray(this.end, this.#readEnd);
  }

  /** `byteCount` bytes have landed in the target that was given last, with this `stopped`. */
  received(byteCount: number, stopped: boolean): void {
    const { scratch } = this.#resources;
    if (this.#own === null) {
      const have = this.end - this.start;
      const at = SMALL_BUFFER_BYTES - have;
      if (have > 0) scratch.set(this.bytes.subarray(this.start, this.end), at);
      this.bytes = scratch;
      this.start = at;
      this.end = SMALL_BUFFER_BYTES + byteCount;
      return;
    }
    if (stopped) {
      assert(byteCount === 1 && this.end < this.#own.length, 'one byte follows a stop');
      this.#own[this.end] = scratch[SMALL_BUFFER_BYTES];
    }
    this.end += byteCount;
  }

  /**
   * Ends a turn: what is left moves to a place of its own. `needBytes` is what the message at `start` takes, header included, as
   * far as it is known. False: there is no room for more of it until `onGranted`.
   */
  keep(needBytes: number): boolean {
    const have = this.end - this.start;
    const own = this.#own;
    if (this.#wanted !== null && this.#wanted.bytes !== bufferClassBytes(needBytes)) this.#cancelWanted(); // that request was refused
    if (have <= SMALL_BUFFER_BYTES && (own === null || needBytes <= SCRATCH_BYTES || needBytes > own.length)) {
      this.#moveToSmall(have);
      return true;
    }
    if (own === null || needBytes > own.length) return this.#grow(have, needBytes);
    this.#compact(own, needBytes);
    this.#readEnd = this.#ownReservation === null ? own.length : Math.min(own.length, this.start + needBytes + REQUEST_BYTES);
    return true;
  }

  /**
   * Consumes `byteCount` bytes and hands their buffer over to the caller, if it is one of the budget's; null if not, and nothing is
   * consumed. What little follows them moves to the small buffer.
   */
  detachPayload(byteCount: number): PayloadLease | null {
    if (this.#own === null || this.#ownReservation === null) return null;
    const lease = { buffer: this.#own, reservation: this.#ownReservation };
    this.start += byteCount;
    const have = this.end - this.start;
    assert(have <= SMALL_BUFFER_BYTES, 'reading stopped at the header after the payload');
    this.#copyToSmall(have);
    this.#own = null;
    this.#ownReservation = null;
    return lease;
  }

  /** Forgets all input and gives all memory back. */
  release(): void {
    this.#moveToSmall(0);
    this.#small = NOTHING;
    this.bytes = NOTHING;
    this.#cancelWanted();
  }

  #cancelWanted(): void {
    this.#wanted?.release();
    this.#wanted = null;
  }

  #moveToSmall(have: number): void {
    this.#copyToSmall(have);
    this.#releaseOwn();
  }

  #copyToSmall(have: number): void {
    if (have > 0 && this.bytes !== this.#small) {
      if (this.#small.length === 0) this.#small = new Uint8Array(SMALL_BUFFER_BYTES);
      this.#small.set(this.bytes.subarray(this.start, this.end));
      this.start = 0;
    } else if (have === 0) {
      this.start = 0;
    }
    this.bytes = this.#small;
    this.end = this.start + have;
  }

  #compact(own: Uint8Array, needBytes: number): void {
    if (this.start + needBytes <= own.length) return;
    own.copyWithin(0, this.start, this.end);
    this.end -= this.start;
    this.start = 0;
  }

  #grow(have: number, needBytes: number): boolean {
    assert(this.#ownReservation === null, 'a holder of a payload buffer never asks for a larger one');
    if (needBytes > PIECE_BYTES) {
      if (this.#wanted === null && (have * EAGER_SHARE >= needBytes || have === PIECE_BYTES)) {
        this.#wanted = this.#resources.budget.reserve(bufferClassBytes(needBytes), this.#onGranted);
      }
      if (this.#wanted?.granted === true) {
        this.#moveTo(this.#resources.pool.take(needBytes), have);
        this.#ownReservation = this.#wanted;
        this.#wanted = null;
        this.#readEnd = Math.min(this.bytes.length, needBytes + REQUEST_BYTES);
        return true;
      }
    }
    if (this.#own === null) this.#takePiece(have);
    else this.#compact(this.#own, PIECE_BYTES);
    this.#readEnd = PIECE_BYTES;
    return this.end < PIECE_BYTES;
  }

  #takePiece(have: number): void {
    this.#resources.budget.countPiece(PIECE_BYTES);
    this.#moveTo(this.#resources.pool.take(PIECE_BYTES), have);
  }

  #moveTo(target: Uint8Array, have: number): void {
    target.set(this.bytes.subarray(this.start, this.end));
    this.#releaseOwn();
    this.#own = target;
    this.bytes = target;
    this.start = 0;
    this.end = have;
  }

  #releaseOwn(): void {
    if (this.#own === null) return;
    this.#resources.pool.give(this.#own);
    this.#own = null;
    if (this.#ownReservation === null) this.#resources.budget.countPiece(-PIECE_BYTES);
    this.#ownReservation?.release();
    this.#ownReservation = null;
  }
}
