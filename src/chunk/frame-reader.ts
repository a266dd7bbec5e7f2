/**
 * Compressed frames of which a part is wanted, one at a time. Whoever reads small pieces in sequence comes back to a frame many times: one that
 * is asked for again is unpacked whole and kept for a while. One that is asked for once, as random reads do, is unpacked as far as it is needed.
 */
import { VolumeError } from '../base/errors.ts';
import { KIB } from '../base/units.ts';
import type { ChunkFrame } from '../format/chunk-layout.ts';
import type { StoredObject } from '../store/object-store.ts';
import { type Wanted, unpackFrame } from './stored-blocks.ts';

/** Length of the buffers that are kept for what is read next, which hold nearly every frame: new ones for each frame cost as much as unpacking it. */
const SCRATCH_BYTES = 32 * KIB;
/** No more of them, however much may be kept. */
const SCRATCH_MAX = 32;

export class FrameReader {
  /** Frames that were asked for last, oldest first; null: it was once, and is not kept. */
  readonly #recent = new Map<ChunkFrame, Promise<Uint8Array> | null>();
  /** What they all stand for, those that are not kept, too. */
  #recentBytes = 0;
  readonly #recentBytesMax: number;
  readonly #scratch: Uint8Array[] = [];
  readonly #scratchMax: number;

  /** `keptBytes`: limit of the frames that are kept, and of the buffers that wait for what is read next. */
  constructor(keptBytes: number) {
    this.#recentBytesMax = keptBytes;
    this.#scratchMax = Math.min(SCRATCH_MAX, Math.floor(keptBytes / SCRATCH_BYTES));
  }

  /** Hands over the frame's bytes up to `wanted.endBytes` or further, borrowed for the call. Errors: `corrupt`, `io-error`. */
  async read(object: StoredObject, frame: ChunkFrame, wanted: Wanted, use: (plain: Uint8Array) => void): Promise<void> {
    const kept = this.#keep(object, frame, wanted);
    if (kept !== null) {
      try {
        use(await kept);
        return;
      } catch (error) {
        // Whoever began to read it wanted another block of it: the error that is told names this one.
        if (!(error instanceof VolumeError)) throw error;
      }
    }
    await this.readOnce(object, frame, wanted, use);
  }

  /** The same, of which nothing is kept. */
  async readOnce(object: StoredObject, frame: ChunkFrame, wanted: Wanted, use: (plain: Uint8Array) => void): Promise<void> {
    await this.#withStored(object, frame, (stored) => use(unpackFrame(frame, stored, wanted)));
  }

  /** The whole frame, if it was asked for lately; notes that it is now. */
  #keep(object: StoredObject, frame: ChunkFrame, wanted: Wanted): Promise<Uint8Array> | null {
    if (frame.plainBytes > this.#recentBytesMax) return null;
    const known = this.#recent.get(frame);
    const kept = known === null ? this.#readWhole(object, frame, wanted) : (known ?? null);
    this.#forget(frame);
    this.#recent.set(frame, kept);
    this.#recentBytes += frame.plainBytes;
    for (const oldest of this.#recent.keys()) {
      if (this.#recentBytes <= this.#recentBytesMax) break;
      this.#forget(oldest);
    }
    return kept;
  }

  #forget(frame: ChunkFrame): void {
    if (this.#recent.delete(frame)) this.#recentBytes -= frame.plainBytes;
  }

  #readWhole(object: StoredObject, frame: ChunkFrame, wanted: Wanted): Promise<Uint8Array> {
    const reading = this.#withStored(object, frame, (stored) => unpackFrame(frame, stored, { ...wanted, endBytes: frame.plainBytes }).slice());
    reading.catch(() => {
      if (this.#recent.get(frame) === reading) this.#forget(frame);
    });
    return reading;
  }

  async #withStored<T>(object: StoredObject, frame: ChunkFrame, use: (stored: Uint8Array) => T): Promise<T> {
    const isLong = frame.storedBytes > SCRATCH_BYTES;
    const scratch = isLong ? new Uint8Array(frame.storedBytes) : (this.#scratch.pop() ?? new Uint8Array(SCRATCH_BYTES));
    const stored = scratch.subarray(0, frame.storedBytes);
    await object.read(stored, frame.offset);
    const result = use(stored);
    // Not after an error: nobody knows whether a read that failed is over.
    if (!isLong && this.#scratch.length < this.#scratchMax) this.#scratch.push(scratch);
    return result;
  }
}
