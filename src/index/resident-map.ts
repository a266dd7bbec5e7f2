/**
 * Which blocks are in memory, and where: an open-addressing hash table in typed arrays, from block number to a 32-bit
 * location. It stands over the block map of what is stored: an entry here is newer than, or a copy of, what stands there.
 * Its size follows the memory for blocks, not the volume.
 *
 * A location is a slot of a slab (`slab * slotsPerSlab + slot`), or a zero mark: the block reads as zeroes, by a record
 * that is in the given dirty slab. Whole leaves of zeroes are marks of their own (`zeroLeaves`), under the blocks' entries.
 */
import { assert } from '../base/assert.ts';

/** No entry. */
export const NO_LOCATION = 0xffffffff;
const ZERO_BIT = 0x80000000;
const PROVISIONED_BIT = 0x40000000;
const NO_KEY = -1;

/** Location of a block that reads as zeroes since a record in dirty slab `slabIndex`. */
export function zeroLocation(slabIndex: number, provisioned: boolean): number {
  return (ZERO_BIT | (provisioned ? PROVISIONED_BIT : 0) | slabIndex) >>> 0;
}

export function isZeroLocation(location: number): boolean {
  return location >= ZERO_BIT && location !== NO_LOCATION;
}

export function isProvisioned(location: number): boolean {
  return (location & PROVISIONED_BIT) !== 0;
}

/** The slab whose record made the mark. */
export function zeroSlab(location: number): number {
  return location & (PROVISIONED_BIT - 1);
}

export class ResidentMap {
  #keys: Float64Array;
  #locations: Uint32Array;
  #mask: number;
  #size = 0;

  constructor(expectedEntries: number) {
    const capacity = 2 ** Math.ceil(Math.log2(Math.max(16, expectedEntries * 2)));
    this.#keys = new Float64Array(capacity).fill(NO_KEY);
    this.#locations = new Uint32Array(capacity);
    this.#mask = capacity - 1;
  }

  get size(): number {
    return this.#size;
  }

  #slotOf(blockNumber: number): number {
    // Multiplicative hashing of both halves of the number; neighbours land far apart, which keeps probe runs short.
    const high = Math.floor(blockNumber / 0x100000000);
    let hash = Math.imul((blockNumber >>> 0) ^ Math.imul(high, 0x9e3779b1), 0x85ebca6b);
    hash ^= hash >>> 15;
    return hash & this.#mask;
  }

  /** The block's location, or NO_LOCATION. */
  get(blockNumber: number): number {
    const keys = this.#keys;
    let at = this.#slotOf(blockNumber);
    for (;;) {
      const key = keys[at];
      if (key === blockNumber) return this.#locations[at];
      if (key === NO_KEY) return NO_LOCATION;
      at = (at + 1) & this.#mask;
    }
  }

  /** Sets the block's location; returns the one it had, or NO_LOCATION. */
  set(blockNumber: number, location: number): number {
    const keys = this.#keys;
    let at = this.#slotOf(blockNumber);
    for (;;) {
      const key = keys[at];
      if (key === blockNumber) {
        const previous = this.#locations[at];
        this.#locations[at] = location;
        return previous;
      }
      if (key === NO_KEY) break;
      at = (at + 1) & this.#mask;
    }
    keys[at] = blockNumber;
    this.#locations[at] = location;
    this.#size += 1;
    if (this.#size * 2 > this.#mask) this.#grow();
    return NO_LOCATION;
  }

  /** Removes the block's entry; returns the location it had, or NO_LOCATION. */
  delete(blockNumber: number): number {
    const keys = this.#keys;
    let at = this.#slotOf(blockNumber);
    while (keys[at] !== blockNumber) {
      if (keys[at] === NO_KEY) return NO_LOCATION;
      at = (at + 1) & this.#mask;
    }
    const previous = this.#locations[at];
    this.#close(at);
    this.#size -= 1;
    return previous;
  }

  /** Moves later entries of the probe run back over the hole, so that no tombstones are needed. */
  #close(hole: number): void {
    const keys = this.#keys;
    let at = hole;
    let next = (hole + 1) & this.#mask;
    while (keys[next] !== NO_KEY) {
      const home = this.#slotOf(keys[next]);
      const distance = (next - home) & this.#mask;
      if (distance >= ((next - at) & this.#mask)) {
        keys[at] = keys[next];
        this.#locations[at] = this.#locations[next];
        at = next;
      }
      next = (next + 1) & this.#mask;
    }
    keys[at] = NO_KEY;
  }

  #grow(): void {
    const keys = this.#keys;
    const locations = this.#locations;
    const capacity = keys.length * 2;
    assert(capacity <= 2 ** 30, 'the resident map grew out of all proportion');
    this.#keys = new Float64Array(capacity).fill(NO_KEY);
    this.#locations = new Uint32Array(capacity);
    this.#mask = capacity - 1;
    this.#size = 0;
    for (let i = 0; i < keys.length; i += 1) {
      if (keys[i] !== NO_KEY) this.set(keys[i], locations[i]);
    }
  }

  /** All block numbers from `first` up to, not including, `end`, in no order. Costs the size of the table. */
  keysBetween(first: number, end: number): number[] {
    const found: number[] = [];
    for (const key of this.#keys) if (key >= first && key < end) found.push(key);
    return found;
  }
}
