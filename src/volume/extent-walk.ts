/**
 * What stands where in a range of the volume: the index read in order. Three layers decide of each block, the upper one first: the resident map,
 * whole leaves of zeroes, the block map. Ranges that nobody wrote are passed at once, whatever their length.
 *
 * Short ranges are looked up block by block within the turn. Long ones are taken in windows that grow: who wants one extent only does not pay
 * for the rest, and between two windows others have their turn.
 */
import { forEachLimited } from '../base/async.ts';
import { VolumeError } from '../base/errors.ts';
import { EXTENT, type Extent, type ExtentList } from '../base/extent-list.ts';
import type { PageReference, Run } from '../format/checkpoint-layout.ts';
import { LEAF_BLOCKS, LOOKUP, type Leaf, type Lookup } from '../index/block-map.ts';
import { NO_LOCATION, isProvisioned, isZeroLocation } from '../index/resident-map.ts';
import type { VolumeCore } from './volume-core.ts';
import { markedLeaves } from './write-path.ts';

/** Blocks that are looked up within one turn. */
const NOW_BLOCKS_MAX = 16 * LEAF_BLOCKS;
/** Leaves with something in them that a window has at most. */
const WINDOW_LEAVES_MAX = 256;
/** So many leaves that are missing come into the map, to be there for the next question. More of them would push out those in use: they are read for this walk alone. */
const KEPT_LEAVES_MAX = 4;

/** Nothing that only the log has. */
const NOTHING_LOGGED: ReadonlyMap<number, unknown> = new Map();

/** Where a walk puts what it finds; blocks at the ends count as far as they are within these bytes. */
interface WalkTarget {
  readonly startBytes: number;
  readonly endBytes: number;
  readonly extents: ExtentList;
}

/** Entries of a leaf as a checkpoint has them: true as long as the map names this place and has no newer ones in memory. */
interface PassingLeaf {
  readonly reference: PageReference;
  readonly runs: readonly Run[];
}

type PassingLeaves = ReadonlyMap<number, PassingLeaf>;

function passingRuns(passing: PassingLeaves, leaf: Leaf | undefined): readonly Run[] | null {
  if (leaf === undefined || leaf.resident) return null;
  const found = passing.get(leaf.index);
  return found !== undefined && found.reference === leaf.reference ? found.runs : null;
}

/** A part of a walk: its blocks, its leaves in order, and what was read of these for it. */
interface Window {
  readonly first: number;
  readonly end: number;
  readonly leaves: readonly number[];
  readonly passing: PassingLeaves;
}

export class ExtentWalk {
  readonly #core: VolumeCore;
  readonly #logged: ReadonlyMap<number, unknown>;

  /** `logged`: blocks that stand above everything else, since only the log has them; their values do not matter. */
  constructor(core: VolumeCore, logged: ReadonlyMap<number, unknown> = NOTHING_LOGGED) {
    this.#core = core;
    this.#logged = logged;
  }

  /** As `BlockDevice.extentsNow`. The caller has checked the range. */
  now(offsetBytes: number, lengthBytes: number, extents: ExtentList): boolean {
    const { blockSizeBytes, map, resident } = this.#core;
    const target = { startBytes: offsetBytes, endBytes: offsetBytes + lengthBytes, extents };
    const end = Math.ceil(target.endBytes / blockSizeBytes);
    let blockNumber = Math.floor(offsetBytes / blockSizeBytes);
    if (end - blockNumber > NOW_BLOCKS_MAX) return false;
    while (blockNumber < end) {
      let next = blockNumber + 1;
      let extent = this.#extentAbove(blockNumber, extents.wantsStates);
      if (extent === null) {
        const found = map.lookupRun(blockNumber, end);
        if (found === LOOKUP.NOT_RESIDENT) return false;
        extent = extentOf(found);
        next = this.#firstLogged(next, resident.firstBetween(next, map.foundEnd));
      }
      if (!this.#add(target, blockNumber, next, extent)) return true;
      blockNumber = next;
    }
    return true;
  }

  /** As `BlockDevice.extents`. */
  async run(offsetBytes: number, lengthBytes: number, extents: ExtentList): Promise<void> {
    const { blockSizeBytes, env } = this.#core;
    const target = { startBytes: offsetBytes, endBytes: offsetBytes + lengthBytes, extents };
    const end = Math.ceil(target.endBytes / blockSizeBytes);
    let blockNumber = Math.floor(offsetBytes / blockSizeBytes);
    for (let leafCount = 1; ; leafCount *= 2) {
      const reached = await this.#window(target, blockNumber, Math.min(end, (Math.floor(blockNumber / LEAF_BLOCKS) + leafCount) * LEAF_BLOCKS));
      if (reached === null || reached >= end) return;
      blockNumber = reached;
      await env.clock.yield();
    }
  }

  /** Walks a range, or the first part of it; returns the block behind it, null if the list is full. */
  async #window(target: WalkTarget, first: number, wantedEnd: number): Promise<number | null> {
    const { map } = this.#core;
    const release = map.hold();
    const passing = new Map<number, PassingLeaf>();
    try {
      for (;;) {
        if (this.#core.closed) throw new VolumeError('closed', `volume ${this.#core.name} is closed`);
        const leaves = this.#leavesBetween(Math.floor(first / LEAF_BLOCKS), Math.ceil(wantedEnd / LEAF_BLOCKS));
        const end = leaves.length > WINDOW_LEAVES_MAX ? leaves[WINDOW_LEAVES_MAX] * LEAF_BLOCKS : wantedEnd;
        const missing = leaves.slice(0, WINDOW_LEAVES_MAX).filter((index) => {
          const leaf = map.leaf(index);
          return leaf !== undefined && !leaf.resident && passingRuns(passing, leaf) === null;
        });
        if (missing.length === 0) return this.#walkWindow(target, { first, end, leaves, passing }) ? end : null;
        // All at once: those that stand side by side in a checkpoint are read together.
        const isKept = missing.length <= KEPT_LEAVES_MAX;
        await forEachLimited(missing, WINDOW_LEAVES_MAX, (index) => (isKept ? map.load(index) : this.#readPassing(index, passing)));
      }
    } finally {
      release();
    }
  }

  async #readPassing(index: number, passing: Map<number, PassingLeaf>): Promise<void> {
    const { map } = this.#core;
    const reference = map.leaf(index)?.reference ?? null;
    if (reference !== null) passing.set(index, { reference, runs: await map.readStored(index, reference) });
  }

  /** False if the list is full. */
  #walkWindow(target: WalkTarget, window: Window): boolean {
    const { wantsStates } = target.extents;
    const { first, end } = window;
    const below = new LowerLayers(this.#core, window, (from, to, extent) => this.#add(target, from, to, extent));
    let blockNumber = first;
    for (const key of this.#keysBetween(first, end)) {
      if (!below.walk(blockNumber, key)) return false;
      const extent = this.#extentAbove(key, wantsStates);
      if (extent !== null && !this.#add(target, key, key + 1, extent)) return false;
      blockNumber = key + 1;
    }
    return below.walk(blockNumber, end);
  }

  /** Blocks of a range that have an entry above the block map, in order. */
  #keysBetween(first: number, end: number): Float64Array {
    const keys = this.#core.resident.keysBetween(first, end);
    const logged = this.#logged;
    if (logged.size > end - first) {
      for (let blockNumber = first; blockNumber < end; blockNumber += 1) if (logged.has(blockNumber)) keys.push(blockNumber);
    } else {
      for (const blockNumber of logged.keys()) if (blockNumber >= first && blockNumber < end) keys.push(blockNumber);
    }
    // One that is in both comes twice: the second time there is nothing left between the two.
    return Float64Array.from(logged.size === 0 ? keys : new Set(keys)).sort();
  }

  /** What stands above the block map for a block; null: nothing, it decides. */
  #extentAbove(blockNumber: number, wantsStates: boolean): Extent | null {
    if (this.#logged.has(blockNumber)) return EXTENT.PENDING;
    const location = this.#core.residentLocation(blockNumber);
    if (location === NO_LOCATION) return null;
    if (isZeroLocation(location)) return isProvisioned(location) ? EXTENT.PROVISIONED : EXTENT.EMPTY;
    if (!wantsStates) return EXTENT.DATA;
    const state = this.#core.stateAt(location);
    return state === 'cached' ? EXTENT.CACHED : state === 'pending' ? EXTENT.PENDING : EXTENT.HOT;
  }

  #firstLogged(first: number, end: number): number {
    if (this.#logged.size === 0) return end;
    let blockNumber = first;
    while (blockNumber < end && !this.#logged.has(blockNumber)) blockNumber += 1;
    return blockNumber;
  }

  #add({ startBytes, endBytes, extents }: WalkTarget, first: number, end: number, extent: Extent): boolean {
    const { blockSizeBytes } = this.#core;
    return extents.add(Math.min(endBytes, end * blockSizeBytes) - Math.max(startBytes, first * blockSizeBytes), extent);
  }

  /** Leaves of a range that are not absent, or have a mark, in order. */
  #leavesBetween(firstLeaf: number, endLeaf: number): number[] {
    const { map, zeroLeaves } = this.#core;
    const leaves = new Set(map.leavesIn(firstLeaf * LEAF_BLOCKS, (endLeaf - firstLeaf) * LEAF_BLOCKS).map(({ index }) => index));
    for (const leaf of markedLeaves(zeroLeaves, firstLeaf, endLeaf)) leaves.add(leaf);
    return [...leaves].sort((a, b) => a - b);
  }
}

function extentOf(found: Lookup): Extent {
  if (found === LOOKUP.STORED) return EXTENT.PERSISTED;
  return found === LOOKUP.PROVISIONED ? EXTENT.PROVISIONED : EXTENT.EMPTY;
}

/** The layers below the resident map, front to back. */
class LowerLayers {
  readonly #core: VolumeCore;
  /** All that are not absent, or have a mark, in order. */
  readonly #leaves: readonly number[];
  readonly #passing: PassingLeaves;
  readonly #add: (first: number, end: number, extent: Extent) => boolean;
  #next = 0;

  constructor(core: VolumeCore, { leaves, passing }: Window, add: (first: number, end: number, extent: Extent) => boolean) {
    this.#core = core;
    this.#leaves = leaves;
    this.#passing = passing;
    this.#add = add;
  }

  /** Tells of a range that lies behind all that were told before. False if the list is full. */
  walk(first: number, end: number): boolean {
    let blockNumber = first;
    while (blockNumber < end) {
      const index = Math.floor(blockNumber / LEAF_BLOCKS);
      while (this.#next < this.#leaves.length && this.#leaves[this.#next] < index) this.#next += 1;
      const following = this.#next < this.#leaves.length ? this.#leaves[this.#next] : Number.POSITIVE_INFINITY;
      const next = Math.min(end, (following === index ? index + 1 : following) * LEAF_BLOCKS);
      const goesOn = following === index ? this.#walkLeaf(index, blockNumber, next) : this.#add(blockNumber, next, EXTENT.EMPTY);
      if (!goesOn) return false;
      blockNumber = next;
    }
    return true;
  }

  #walkLeaf(index: number, first: number, end: number): boolean {
    const { map, zeroLeaves } = this.#core;
    const mark = zeroLeaves.get(index);
    if (mark !== undefined) return this.#add(first, end, isProvisioned(mark) ? EXTENT.PROVISIONED : EXTENT.EMPTY);
    const runs = passingRuns(this.#passing, map.leaf(index));
    if (runs !== null) return this.#walkRuns(runs, index * LEAF_BLOCKS, first, end);
    let blockNumber = first;
    while (blockNumber < end) {
      const extent = extentOf(map.lookupRun(blockNumber, end));
      if (!this.#add(blockNumber, map.foundEnd, extent)) return false;
      blockNumber = map.foundEnd;
    }
    return true;
  }
  #walkRuns(runs: readonly Run[], base: number, first: number, end: number): boolean {
    let blockNumber = first;
    for (const { place, blockCount, chunk } of runs) {
      const runFirst = Math.max(blockNumber, base + place);
      const runEnd = Math.min(end, base + place + blockCount);
      if (runFirst >= runEnd) continue;
      if (runFirst > blockNumber && !this.#add(blockNumber, runFirst, EXTENT.EMPTY)) return false;
      if (!this.#add(runFirst, runEnd, chunk === 0 ? EXTENT.PROVISIONED : EXTENT.PERSISTED)) return false;
      blockNumber = runEnd;
    }
    return blockNumber >= end || this.#add(blockNumber, end, EXTENT.EMPTY);
  }
}
