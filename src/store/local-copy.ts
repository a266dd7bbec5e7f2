/**
 * The copy here of an object that may be in the bucket as well. A copy that is rotten is made anew from the bucket's; where that is not sound as a whole, or
 * cannot be kept, what is read comes from the bucket.
 */
import { VolumeError } from '../base/errors.ts';
import type { StoredObject } from './object-store.ts';

/** What a copy is made anew from. */
export interface OtherCopy {
  /** What is here is read. */
  onRead(): void;
  /** Size of the object in the bucket; undefined: it is not there. */
  sizeBytes(): number | undefined;
  /** Makes the copy here anew. False: the bucket's is not sound either, or cannot be kept. Errors: those of the bucket. */
  heal(): Promise<boolean>;
  /** Opens what is here. */
  openHere(): Promise<StoredObject>;
  /** Reads from the bucket. */
  readThere(target: Uint8Array, offsetBytes: number): Promise<void>;
}

/** The first doubt heals; the next one may be that of a reader who had read before that. */
const TRUSTED_DOUBTS = 2;
/** Behind these the bytes of the bucket are rotten, too: bits that flip on the way do not flip again and again. */
const DOUBTS_MAX = 5;

export class LocalCopy implements StoredObject {
  #here: StoredObject;
  readonly #other: OtherCopy;
  #doubts = 0;
  #healing: Promise<boolean> | null = null;

  /** `isTrusted`: false: what is here is not read before it was made anew. */
  constructor(here: StoredObject, other: OtherCopy, isTrusted: boolean) {
    this.#here = here;
    this.#other = other;
    if (!isTrusted) this.doubt();
  }

  get sizeBytes(): number {
    return this.#doubts === 0 ? this.#here.sizeBytes : (this.#other.sizeBytes() ?? this.#here.sizeBytes);
  }

  async read(target: Uint8Array, offsetBytes: number): Promise<void> {
    const isHere = this.#doubts === 0 || ((await this.#healed()) && this.#doubts <= TRUSTED_DOUBTS);
    if (!isHere) return this.#other.readThere(target, offsetBytes);
    this.#other.onRead();
    try {
      await this.#here.read(target, offsetBytes);
    } catch (error) {
      // A sector that cannot be read is rot that the disk has found itself. One that ends early is told by who reads.
      const isRot = !(error instanceof VolumeError) || error.code === 'io-error';
      if (!isRot || !this.doubt()) throw error;
      await this.read(target, offsetBytes);
    }
  }

  doubt(): boolean {
    if (this.#other.sizeBytes() === undefined || this.#doubts === DOUBTS_MAX) return false;
    this.#doubts += 1;
    return true;
  }

  #healed(): Promise<boolean> {
    this.#healing ??= this.#heal();
    return this.#healing;
  }

  async #heal(): Promise<boolean> {
    try {
      if (!(await this.#other.heal())) return false;
      const anew = await this.#other.openHere();
      const rotten = this.#here;
      this.#here = anew;
      await rotten.close();
      return true;
    } catch (error) {
      this.#healing = null; // the next read tries again
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#here.close();
  }
}
