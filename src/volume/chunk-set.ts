/**
 * What goes into the next set of chunks: an unbroken run of sealed slabs, oldest first, and of each block the newest version
 * within that run. Versions that a later slab of the run overwrites are left out: blocks that are written again and again
 * reach a chunk once. Versions that are overwritten only behind the run stay in, for what is behind it may be lost by a power cut.
 */
import { PICK_SOURCE_FACTOR } from '../chunk/build-chunk.ts';
import type { ZeroRange } from '../format/chunk-layout.ts';
import { isZeroLocation, zeroSlab } from '../index/resident-map.ts';
import type { VolumeCore } from './volume-core.ts';
import type { DirtySlab } from './write-path.ts';

export interface ChunkSet {
  readonly slabs: readonly DirtySlab[];
  readonly firstLsn: number;
  readonly lastLsn: number;
  /** Picks as in `build-chunk.ts`, in no order; the sources are `slabs`. */
  readonly picks: Uint32Array;
  readonly ranges: readonly ZeroRange[];
  /** Bytes that the log took while the slabs were filled: more than the picks have where blocks were overwritten. */
  readonly loggedBytes: number;
}

/**
 * How many of the oldest sealed slabs make the next set: about `wanted`, more if something of one of them is gone because later
 * ones have overwritten it: these must then be in the set, too. 0: the records of those are not all written yet, or not all sealed.
 */
export function setLength(sealed: readonly DirtySlab[], wanted: number, writtenLsn: number): number {
  let length = Math.min(wanted, sealed.length);
  let coverLsn = 0;
  for (let i = 0; i < length; i += 1) {
    const dirty = sealed[i];
    if (dirty.lastLsn > writtenLsn) return i > 0 && coverLsn <= sealed[i - 1].lastLsn ? i : 0;
    coverLsn = Math.max(coverLsn, dirty.coverLsn);
    if (i === length - 1 && coverLsn > dirty.lastLsn) {
      if (length === sealed.length) return 0;
      length += 1;
    }
  }
  return length;
}

/** Makes a set of consecutive sealed slabs. `endLogBytes`: what the log had taken when the next slab was opened. */
export function makeSet(core: VolumeCore, slabs: readonly DirtySlab[], endLogBytes: number): ChunkSet {
  return {
    slabs,
    firstLsn: slabs[0].firstLsn,
    lastLsn: slabs[slabs.length - 1].lastLsn,
    picks: pickNewest(core, slabs),
    ranges: slabs.flatMap((dirty) => dirty.ranges),
    loggedBytes: endLogBytes - slabs[0].logBytes,
  };
}

function pickNewest(core: VolumeCore, slabs: readonly DirtySlab[]): Uint32Array {
  const inSet = new Set<number>();
  for (const { slab } of slabs) if (slab !== null) inSet.add(slab.index);
  const picks: number[] = [];
  // Blocks whose newest version is behind the set, and the zero ranges between: few, so they may cost more.
  const coveredBehind = new Set<number>();
  const laterRanges = new RangeUnion();
  for (let source = slabs.length - 1; source >= 0; source -= 1) {
    const { slab, ranges } = slabs[source];
    for (let slot = 0; slab !== null && slot < slab.slotCount; slot += 1) {
      if (slab.live[slot] === 0) continue;
      const blockNumber = slab.blockNumbers[slot];
      const location = core.residentLocation(blockNumber);
      if (location !== core.locationOf(slab, slot)) {
        const newest = isZeroLocation(location) ? zeroSlab(location) : core.slabAt(location).index;
        if (inSet.has(newest) || coveredBehind.has(blockNumber) || laterRanges.has(blockNumber)) continue;
        coveredBehind.add(blockNumber);
      }
      picks.push(source * PICK_SOURCE_FACTOR + slot);
    }
    laterRanges.add(ranges);
  }
  return Uint32Array.from(picks);
}

/** Ranges as one sorted list without overlaps: thousands of trims stand against thousands of blocks in one turn. */
class RangeUnion {
  #firsts: number[] = [];
  #ends: number[] = [];

  add(ranges: readonly ZeroRange[]): void {
    if (ranges.length === 0) return;
    const all = ranges.map(({ blockNumber, blockCount }) => ({ first: blockNumber, end: blockNumber + blockCount }));
    for (let i = 0; i < this.#firsts.length; i += 1) all.push({ first: this.#firsts[i], end: this.#ends[i] });
    all.sort((a, b) => a.first - b.first);
    this.#firsts = [];
    this.#ends = [];
    for (const { first, end } of all) {
      const last = this.#ends.length - 1;
      if (last >= 0 && first <= this.#ends[last]) this.#ends[last] = Math.max(this.#ends[last], end);
      else {
        this.#firsts.push(first);
        this.#ends.push(end);
      }
    }
  }

  has(blockNumber: number): boolean {
    let low = 0;
    let high = this.#firsts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#firsts[middle] <= blockNumber) low = middle + 1;
      else high = middle;
    }
    return low > 0 && blockNumber < this.#ends[low - 1];
  }
}
