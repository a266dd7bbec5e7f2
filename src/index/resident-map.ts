/**
 * Which blocks are in memory, and where: an open-addressing hash table in typed arrays, from block number to a 32-bit
 * location. It stands over the block map of what is stored: an entry here is newer than, or a copy of, what stands there.
 * Its size follows the memory for blocks, not the volume.
 *
 * A location is a slot of a slab (`slab * slotsPerSlab + slot`), or a zero mark: the block reads as zeroes, by a record
 * that is in the given dirty slab. Whole leaves of zeroes are marks of their own (`zeroLeaves`), under the blocks' entries.
 */
import { assert } from '../base/assert.ts';
import { LEAF_BLOCKS } from './block-map.ts';

/** No entry. */
export const NO_LOCATION = 0xffffffff;
const ZERO_BIT = 0x80000000;
const PROVISIONED_BIT = 0x40000000;
const NO_KEY = -1;
const LEAF_BUCKETS = 4096;

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
  /** Entries by leaf, many leaves to a counter: where it is 0 a large range has nothing to look for. */
  readonly #leafEntries = new Uint32Array(LEAF_BUCKETS);

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
    // Neighbours share cache lines, eight by eight; groups land far apart, which keeps probe runs short.
    const high = blockNumber < 0x100000000 ? 0 : Math.floor(blockNumber / 0x100000000);
    let hash = Math.imul((blockNumber >>> 3) ^ Math.imul(high, 0x9e3779b1), 0x85ebca6b);
    hash ^= hash >>> 15;
    return ((hash << 3) | (blockNumber & 7)) & this.#mask;
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
    this.#leafEntries[Math.floor(blockNumber / LEAF_BLOCKS) % LEAF_BUCKETS] += 1;
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
    this.#leafEntries[Math.floor(blockNumber / LEAF_BLOCKS) % LEAF_BUCKETS] -= 1;
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
    this.#leafEntries.fill(0);
    for (let i = 0; i < keys.length; i += 1) {
      if (keys[i] !== NO_KEY) this.set(keys[i], locations[i]);
    }
  }

  /** All block numbers from `first` up to, not including, `end`, in no order. */
  keysBetween(first: number, end: number): number[] {
    const found: number[] = [];
    const leaves = this.#leavesWithEntries(Math.floor(first / LEAF_BLOCKS), Math.floor((end - 1) / LEAF_BLOCKS));
    if (leaves === null) {
      const keys = this.#keys;
      for (let at = 0; at < keys.length; at += 1) if (keys[at] >= first && keys[at] < end) found.push(keys[at]); // an iterator would take ten times as long
      return found;
    }
    for (const leaf of leaves) {
      const last = Math.min(end, (leaf + 1) * LEAF_BLOCKS);
      for (let key = Math.max(first, leaf * LEAF_BLOCKS); key < last; key += 1) if (this.get(key) !== NO_LOCATION) found.push(key);
    }
    return found;
  }

  /** The first block of a range within one leaf that has an entry; `end` if none has. */
  firstBetween(first: number, end: number): number {
    if (first >= end || this.#leafEntries[Math.floor(first / LEAF_BLOCKS) % LEAF_BUCKETS] === 0) return end;
    let key = first;
    while (key < end && this.get(key) === NO_LOCATION) key += 1;
    return key;
  }

  /** Whether some block of a range may have an entry: exact for short ranges, by leaf for long ones. */
  mayHaveEntries(first: number, end: number): boolean {
    if (this.#size === 0) return false;
    if (end - first <= LEAF_BLOCKS) {
      for (let key = first; key < end; key += 1) if (this.get(key) !== NO_LOCATION) return true;
      return false;
    }
    const firstLeaf = Math.floor(first / LEAF_BLOCKS);
    const lastLeaf = Math.min(Math.floor((end - 1) / LEAF_BLOCKS), firstLeaf + LEAF_BUCKETS);
    for (let leaf = firstLeaf; leaf <= lastLeaf; leaf += 1) if (this.#leafEntries[leaf % LEAF_BUCKETS] > 0) return true;
    return false;
  }

  /** Leaves of a range that may have entries; null if it is cheaper to go through the table. */
  #leavesWithEntries(firstLeaf: number, lastLeaf: number): number[] | null {
    // Going through the table in order is many times cheaper per entry than looking blocks up.
    const affordable = this.#keys.length / LEAF_BLOCKS / 16;
    const leaves: number[] = [];
    if (lastLeaf - firstLeaf >= LEAF_BUCKETS) return null;
    for (let leaf = firstLeaf; leaf <= lastLeaf; leaf += 1) {
      if (this.#leafEntries[leaf % LEAF_BUCKETS] === 0) continue;
      leaves.push(leaf);
      if (leaves.length > affordable) return null;
    }
    return leaves;
  }
}
