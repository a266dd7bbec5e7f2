/**
 * Memory of shipping: copies of chunks that wait for their turn, so that they need not be read back, and a few buffers for those that have none. All of it is limited; who finds none reads from
 * the disk, or takes memory that goes with its use.
 */
import { assert } from '../base/assert.ts';
import { pageAligned } from '../base/aligned-memory.ts';

/** The bytes of an object; they stay as they are until `release`, which is called once. */
export interface Lease {
  readonly bytes: Uint8Array;
  /** `isReusable` false: somebody may still look at the bytes. */
  release(isReusable: boolean): void;
}

export interface CopyOptions {
  /** Of all copies together. */
  readonly memoryBytes: number;
  /** Of one buffer: longer objects are not copied. */
  readonly objectBytes: number;
  /** Buffers for what is read from the disk. */
  readonly readersMax: number;
}

/** A copy of an object that is being written. */
export class ShipCopy {
  readonly memory: Uint8Array;
  lengthBytes = 0;
  isLeased = false;
  isDropped = false;

  constructor(memory: Uint8Array) {
    this.memory = memory;
  }

  append(parts: readonly Uint8Array[]): void {
    for (const part of parts) {
      this.memory.set(part, this.lengthBytes);
      this.lengthBytes += part.length;
    }
  }
}

export class ShipCopies {
  readonly #options: CopyOptions;
  readonly #copies = new Map<string, ShipCopy>();
  readonly #free: Uint8Array[] = [];
  readonly #freeForReaders: Uint8Array[] = [];
  #left: number;
  #readersLeft: number;

  constructor(options: CopyOptions) {
    this.#options = options;
    this.#left = Math.floor(options.memoryBytes / options.objectBytes);
    this.#readersLeft = options.readersMax;
  }

  /** Memory for a copy of an object of so many bytes, of whoever gives it to `keep` or `drop`; null: there is none. */
  begin(sizeBytes: number): ShipCopy | null {
    if (sizeBytes > this.#options.objectBytes) return null;
    const free = this.#free.pop();
    if (free !== undefined) return new ShipCopy(free);
    if (this.#left === 0) return null;
    this.#left -= 1;
    return new ShipCopy(pageAligned(this.#options.objectBytes));
  }

  /** The object is there, and waits to be shipped. */
  keep(key: string, copy: ShipCopy): void {
    assert(!this.#copies.has(key), `${key} is copied twice`);
    this.#copies.set(key, copy);
  }

  /** It will not be shipped. */
  abandon(copy: ShipCopy): void {
    assert(!copy.isLeased && !copy.isDropped, 'a copy that is in use is abandoned');
    this.#giveBack(copy);
  }

  /** The object was shipped, or will not be; of one that has no copy nothing happens. */
  drop(key: string): void {
    const copy = this.#copies.get(key);
    if (copy === undefined) return;
    this.#copies.delete(key);
    if (copy.isLeased) copy.isDropped = true;
    else this.#giveBack(copy);
  }

  #giveBack({ memory }: ShipCopy): void {
    this.#free.push(memory);
  }

  /** The copy of an object; null: there is none. */
  lease(key: string): Lease | null {
    const copy = this.#copies.get(key);
    if (copy === undefined) return null;
    assert(!copy.isLeased, `${key} is shipped twice at a time`);
    copy.isLeased = true;
    return {
      bytes: copy.memory.subarray(0, copy.lengthBytes),
      release: (isReusable) => {
        assert(copy.isLeased, `${key} is released twice`);
        copy.isLeased = false;
        if (!copy.isDropped) return;
        if (isReusable) this.#giveBack(copy);
        else this.#left += 1;
      },
    };
  }

  /** Memory for the bytes of an object that is read from the disk; all of it is to be written. */
  leaseForReading(sizeBytes: number): Lease {
    const memory = sizeBytes > this.#options.objectBytes ? undefined : this.#readerMemory();
    if (memory === undefined) return { bytes: new Uint8Array(sizeBytes), release: () => undefined };
    return {
      bytes: memory.subarray(0, sizeBytes),
      release: (isReusable) => {
        if (isReusable) this.#freeForReaders.push(memory);
        else this.#readersLeft += 1;
      },
    };
  }

  #readerMemory(): Uint8Array | undefined {
    const free = this.#freeForReaders.pop();
    if (free !== undefined || this.#readersLeft === 0) return free;
    this.#readersLeft -= 1;
    return pageAligned(this.#options.objectBytes);
  }
}
