/**
 * The block map: for each block that is stored, the chunk and the slot in that chunk's block table. A paged map: a leaf
 * covers 1024 blocks; a leaf is absent (empty), uniform (one run within one chunk) or dense (typed arrays), and a clean one
 * may be dropped and read back from the checkpoint that holds it. The map always stands for the volume after some whole
 * chunk: it changes only when a chunk is committed.
 */
import { assert } from '../base/assert.ts';
import { VolumeError } from '../base/errors.ts';
import { PAGE_FANOUT, type PageReference, type Run } from '../format/checkpoint-layout.ts';

/** What a lookup found. `not-resident`: the leaf must be loaded first. */
export const LOOKUP = { EMPTY: 0, PROVISIONED: 1, STORED: 2, NOT_RESIDENT: 3 } as const;
export type Lookup = (typeof LOOKUP)[keyof typeof LOOKUP];

export const LEAF_BLOCKS = PAGE_FANOUT;
/** Chunk number in the map for zeroes that stay provisioned; chunk numbers begin at 1. */
const PROVISIONED_SLOT = 1;
/** Stands in the map for what was lost and not written since: a read of it fails. Only `repair` puts it there. */
export const LOST_CHUNK = 0xffffffff;
/** The map names chunks with 32 bits: 16 EiB of writes in the life of a volume. */
export const MAX_CHUNK_NUMBER = LOST_CHUNK - 1;
const DENSE_LEAF_BYTES = LEAF_BLOCKS * 6;
const UNIFORM_LEAF_BYTES = 96;

/** Chunk and slot of each block; chunk 0 with slot 0 is empty, with slot 1 provisioned zeroes. */
interface DenseEntries {
  readonly chunks: Uint32Array;
  readonly slots: Uint16Array;
}

export class Leaf {
  readonly index: number;
  /** Where the newest checkpoint has it; null if it is in none. */
  reference: PageReference | null;
  /** Differs from the checkpoint's. */
  dirty = false;
  resident: boolean;
  /** Second chance for the clock that drops clean leaves. */
  used = true;
  /** Entries that are not empty. */
  mapped = 0;
  dense: DenseEntries | null = null;
  /** The uniform form: one run, or an empty leaf when its count is 0. */
  run: Run = EMPTY_RUN;

  constructor(index: number, reference: PageReference | null) {
    this.index = index;
    this.reference = reference;
    this.resident = reference === null;
  }
}

function kindIn({ chunks, slots }: DenseEntries, place: number): Lookup {
  if (chunks[place] !== 0) return LOOKUP.STORED;
  return slots[place] === 0 ? LOOKUP.EMPTY : LOOKUP.PROVISIONED;
}

function isChunk(chunk: number): boolean {
  return chunk !== 0 && chunk !== LOST_CHUNK;
}

const EMPTY_RUN: Run = { place: 0, blockCount: 0, chunk: 0, slot: 0 };

/** Told when stored blocks lose their last place in the map. */
export type Displaced = (chunk: number, blockCount: number) => void;

/** Told, in the turn of the change, that a leaf has so many more (or, below 0, fewer) places in a chunk. */
export type Watcher = (leaf: number, chunk: number, change: number) => void;

export interface BlockMapOptions {
  /** Memory for resident leaves, in bytes. */
  readonly limitBytes: number;
  /** Reads and decodes a leaf from the checkpoint that holds it. */
  readonly readLeaf: (index: number, reference: PageReference) => Promise<Run[]>;
  readonly displaced: Displaced;
}

export class BlockMap {
  /** Result of the last lookup that said STORED. */
  foundChunk = 0;
  foundSlot = 0;
  /** Result of the last `lookupRun`: the first block that it does not speak of. */
  foundEnd = 0;
  readonly #leaves = new Map<number, Leaf>();
  /** Dense leaves that may be dropped: dirty ones wait for a checkpoint. */
  readonly #droppable = new Set<Leaf>();
  readonly #dirty = new Set<Leaf>();
  readonly #loading = new Map<number, Promise<void>>();
  readonly #watchers = new Set<Watcher>();
  readonly #options: BlockMapOptions;
  #residentBytes = 0;
  #holds = 0;
  #lastIndex = -1;
  #lastLeaf: Leaf | undefined;

  constructor(options: BlockMapOptions) {
    this.#options = options;
  }

  get residentBytes(): number {
    return this.#residentBytes;
  }

  get leafCount(): number {
    return this.#leaves.size;
  }

  /** Leaves that changed since the last checkpoint. */
  get dirtyLeaves(): ReadonlySet<Leaf> {
    return this.#dirty;
  }

  leaf(index: number): Leaf | undefined {
    if (index === this.#lastIndex) return this.#lastLeaf;
    const leaf = this.#leaves.get(index);
    this.#lastIndex = index;
    this.#lastLeaf = leaf;
    return leaf;
  }

  /** Every leaf that is not absent, in no order. */
  leaves(): IterableIterator<Leaf> {
    return this.#leaves.values();
  }

  /** Makes a leaf known that a checkpoint holds; its entries are read when they are needed. */
  addStored(index: number, reference: PageReference): void {
    assert(!this.#leaves.has(index), `leaf ${index} is in the checkpoint twice`);
    this.#leaves.set(index, new Leaf(index, reference));
    this.#forgetLast();
  }

  lookup(blockNumber: number): Lookup {
    const index = Math.floor(blockNumber / LEAF_BLOCKS);
    const leaf = this.leaf(index);
    if (leaf === undefined) return LOOKUP.EMPTY;
    if (!leaf.resident) return LOOKUP.NOT_RESIDENT;
    leaf.used = true;
    return this.#find(leaf, blockNumber - index * LEAF_BLOCKS);
  }

  #find(leaf: Leaf, place: number): Lookup {
    let chunk = 0;
    let slot = 0;
    if (leaf.dense !== null) {
      chunk = leaf.dense.chunks[place];
      slot = leaf.dense.slots[place];
    } else {
      const { run } = leaf;
      if (place < run.place || place >= run.place + run.blockCount) return LOOKUP.EMPTY;
      chunk = run.chunk;
      slot = chunk === 0 ? PROVISIONED_SLOT : run.slot + place - run.place;
    }
    if (chunk === 0) return slot === 0 ? LOOKUP.EMPTY : LOOKUP.PROVISIONED;
    this.foundChunk = chunk;
    this.foundSlot = slot;
    return LOOKUP.STORED;
  }

  /**
   * As `lookup`, for all blocks from `blockNumber` up to, not including, `foundEnd`: the answer is the same for each of them. It ends at `end`, or
   * where the leaf does. Where stored blocks lie is not told.
   */
  lookupRun(blockNumber: number, end: number): Lookup {
    const index = Math.floor(blockNumber / LEAF_BLOCKS);
    const base = index * LEAF_BLOCKS;
    const place = blockNumber - base;
    const endPlace = Math.min(LEAF_BLOCKS, end - base);
    const leaf = this.leaf(index);
    this.foundEnd = base + endPlace;
    if (leaf === undefined) return LOOKUP.EMPTY;
    if (!leaf.resident) return LOOKUP.NOT_RESIDENT;
    leaf.used = true;
    if (leaf.dense === null) return this.#runInUniform(leaf.run, base, place, endPlace);
    const found = kindIn(leaf.dense, place);
    let next = place + 1;
    while (next < endPlace && kindIn(leaf.dense, next) === found) next += 1;
    this.foundEnd = base + next;
    return found;
  }

  #runInUniform(run: Run, base: number, place: number, endPlace: number): Lookup {
    const runEnd = run.place + run.blockCount;
    if (place >= runEnd) return LOOKUP.EMPTY;
    if (place < run.place) {
      this.foundEnd = base + Math.min(endPlace, run.place);
      return LOOKUP.EMPTY;
    }
    this.foundEnd = base + Math.min(endPlace, runEnd);
    return run.chunk === 0 ? LOOKUP.PROVISIONED : LOOKUP.STORED;
  }

  /** Makes the leaf of a block resident. Rejects with what `readLeaf` rejects with. */
  load(index: number): Promise<void> {
    const leaf = this.#leaves.get(index);
    if (leaf === undefined || leaf.resident) return Promise.resolve();
    const loading = this.#loading.get(index) ?? this.#startLoading(leaf);
    return loading;
  }

  /** Entries of a leaf in a checkpoint, for one who passes by: the map does not keep them. Rejects as `load` does. */
  readStored(index: number, reference: PageReference): Promise<readonly Run[]> {
    return this.#options.readLeaf(index, reference);
  }

  #startLoading(leaf: Leaf): Promise<void> {
    assert(leaf.reference !== null, `leaf ${leaf.index} is neither resident nor stored`);
    const loading = this.#options
      .readLeaf(leaf.index, leaf.reference)
      .then((runs) => {
        this.#fill(leaf, runs);
        this.trimMemory();
      })
      .finally(() => this.#loading.delete(leaf.index));
    this.#loading.set(leaf.index, loading);
    return loading;
  }

  #fill(leaf: Leaf, runs: readonly Run[]): void {
    leaf.resident = true;
    leaf.used = true;
    this.#residentBytes += UNIFORM_LEAF_BYTES;
    if (runs.length <= 1) {
      leaf.run = runs[0] ?? EMPTY_RUN;
      leaf.mapped = leaf.run.blockCount;
      return;
    }
    const dense = this.#makeDense(leaf);
    for (const run of runs) this.#writeRun(leaf, dense, run);
  }

  #makeDense(leaf: Leaf): DenseEntries {
    const dense = { chunks: new Uint32Array(LEAF_BLOCKS), slots: new Uint16Array(LEAF_BLOCKS) };
    const { run } = leaf;
    leaf.dense = dense;
    leaf.mapped = 0;
    leaf.run = EMPTY_RUN;
    if (!leaf.dirty) this.#droppable.add(leaf);
    this.#residentBytes += DENSE_LEAF_BYTES - UNIFORM_LEAF_BYTES;
    if (run.blockCount > 0) this.#writeRun(leaf, dense, run);
    return dense;
  }

  #writeRun(leaf: Leaf, dense: DenseEntries, run: Run): void {
    for (let i = 0; i < run.blockCount; i += 1) {
      const place = run.place + i;
      if (dense.chunks[place] === 0 && dense.slots[place] === 0) leaf.mapped += 1;
      dense.chunks[place] = run.chunk;
      dense.slots[place] = run.chunk === 0 ? PROVISIONED_SLOT : run.slot + i;
    }
  }

  /** Keeps all leaves resident until the returned function is called: for work that needs several of them at once. */
  hold(): () => void {
    this.#holds += 1;
    return () => {
      this.#holds -= 1;
      this.trimMemory();
    };
  }

  /** Whether leaves take more memory than they should: what cannot be dropped waits for a checkpoint. */
  get isOverLimit(): boolean {
    return this.#residentBytes > this.#options.limitBytes;
  }

  /** Drops clean leaves, those not used lately first, until memory is within its limit. */
  trimMemory(): void {
    if (this.#holds > 0) return;
    let attempts = this.#droppable.size * 2;
    // One iterator for all of them: each new one would first have to pass what was deleted before.
    for (const leaf of this.#droppable) {
      if (this.#residentBytes <= this.#options.limitBytes || attempts === 0) return;
      attempts -= 1;
      this.#droppable.delete(leaf);
      if (leaf.used) {
        leaf.used = false;
        this.#droppable.add(leaf);
      } else {
        leaf.dense = null;
        leaf.resident = false;
        leaf.mapped = 0;
        this.#residentBytes -= DENSE_LEAF_BYTES;
      }
    }
  }

  /** Puts consecutive blocks into consecutive slots of a chunk (0: provisioned zeroes). Their leaves must be resident. */
  place(blockNumber: number, blockCount: number, chunk: number, slot: number): void {
    assert(chunk <= MAX_CHUNK_NUMBER || chunk === LOST_CHUNK, 'a chunk number does not fit the map');
    let done = 0;
    while (done < blockCount) {
      const index = Math.floor((blockNumber + done) / LEAF_BLOCKS);
      const place = blockNumber + done - index * LEAF_BLOCKS;
      const count = Math.min(blockCount - done, LEAF_BLOCKS - place);
      this.#placeInLeaf(this.#leafForChange(index), { place, blockCount: count, chunk, slot: chunk === 0 ? 0 : slot + done });
      done += count;
    }
  }

  /** Makes blocks empty. Their leaves must be resident. */
  clear(blockNumber: number, blockCount: number): void {
    for (const leaf of this.leavesIn(blockNumber, blockCount)) {
      const base = leaf.index * LEAF_BLOCKS;
      const place = Math.max(0, blockNumber - base);
      const end = Math.min(LEAF_BLOCKS, blockNumber + blockCount - base);
      this.#clearInLeaf(leaf, place, end - place);
    }
  }

  #leafForChange(index: number): Leaf {
    let leaf = this.#leaves.get(index);
    if (leaf === undefined) {
      leaf = new Leaf(index, null);
      this.#leaves.set(index, leaf);
      this.#residentBytes += UNIFORM_LEAF_BYTES;
      this.#forgetLast();
    }
    if (!leaf.resident) throw new VolumeError('io-error', `block map leaf ${index} is not in memory`);
    this.#markDirty(leaf);
    return leaf;
  }

  #markDirty(leaf: Leaf): void {
    leaf.dirty = true;
    leaf.used = true;
    this.#dirty.add(leaf);
    this.#droppable.delete(leaf);
  }

  #placeInLeaf(leaf: Leaf, run: Run): void {
    this.#reportDisplaced(leaf, run.place, run.blockCount);
    if (isChunk(run.chunk)) this.#tell(leaf, run.chunk, run.blockCount);
    const old = leaf.run;
    if (leaf.dense === null) {
      const covers = run.place <= old.place && run.place + run.blockCount >= old.place + old.blockCount;
      const extends_ =
        run.chunk !== 0 && old.chunk === run.chunk && run.place === old.place + old.blockCount && run.slot === old.slot + old.blockCount;
      if (old.blockCount === 0 || covers || extends_) {
        leaf.run = extends_ && old.blockCount > 0 ? { ...old, blockCount: old.blockCount + run.blockCount } : run;
        leaf.mapped = leaf.run.blockCount;
        return;
      }
    }
    this.#writeRun(leaf, leaf.dense ?? this.#makeDense(leaf), run);
  }

  #clearInLeaf(leaf: Leaf, place: number, count: number): void {
    if (!leaf.resident) throw new VolumeError('io-error', `block map leaf ${leaf.index} is not in memory`);
    this.#markDirty(leaf);
    this.#reportDisplaced(leaf, place, count);
    const { run } = leaf;
    if (leaf.dense === null) {
      const end = run.place + run.blockCount;
      if (place >= end || place + count <= run.place) return;
      if (place <= run.place && place + count >= end) {
        leaf.run = EMPTY_RUN;
        leaf.mapped = 0;
        return;
      }
    }
    const dense = leaf.dense ?? this.#makeDense(leaf);
    for (let i = place; i < place + count; i += 1) {
      if (dense.chunks[i] !== 0 || dense.slots[i] !== 0) leaf.mapped -= 1;
      dense.chunks[i] = 0;
      dense.slots[i] = 0;
    }
  }

  /** Reports the stored blocks of part of a leaf, run by run, to whoever counts the chunks' live blocks. */
  #reportDisplaced(leaf: Leaf, place: number, count: number): void {
    if (leaf.dense === null) {
      const { run } = leaf;
      const overlap = Math.min(place + count, run.place + run.blockCount) - Math.max(place, run.place);
      if (isChunk(run.chunk) && overlap > 0) this.#lost(leaf, run.chunk, overlap);
      return;
    }
    const { chunks } = leaf.dense;
    let at = place;
    const end = place + count;
    while (at < end) {
      const chunk = chunks[at];
      const first = at;
      while (at < end && chunks[at] === chunk) at += 1;
      if (isChunk(chunk)) this.#lost(leaf, chunk, at - first);
    }
  }

  #lost(leaf: Leaf, chunk: number, blockCount: number): void {
    this.#options.displaced(chunk, blockCount);
    this.#tell(leaf, chunk, -blockCount);
  }

  /** The leaf's entries as runs, in order. The leaf must be resident. */
  runsOf(leaf: Leaf): Run[] {
    if (leaf.dense === null) return leaf.run.blockCount === 0 ? [] : [leaf.run];
    const { chunks, slots } = leaf.dense;
    const runs: Run[] = [];
    let at = 0;
    while (at < LEAF_BLOCKS) {
      const [chunk, slot, first] = [chunks[at], slots[at], at];
      at += 1;
      if (chunk === 0 && slot === 0) continue;
      while (at < LEAF_BLOCKS && chunks[at] === chunk && slots[at] === (chunk === 0 ? slot : slot + at - first)) at += 1;
      runs.push({ place: first, blockCount: at - first, chunk, slot: chunk === 0 ? 0 : slot });
    }
    return runs;
  }

  /** A checkpoint holds the leaf now, at `reference`; null: the leaf is empty and goes. */
  checkpointed(leaf: Leaf, reference: PageReference | null): void {
    leaf.dirty = false;
    this.#dirty.delete(leaf);
    leaf.reference = reference;
    if (reference !== null) {
      if (leaf.dense !== null) this.#droppable.add(leaf);
      return;
    }
    assert(leaf.mapped === 0, `leaf ${leaf.index} has blocks and is dropped`);
    this.#leaves.delete(leaf.index);
    this.#residentBytes -= UNIFORM_LEAF_BYTES;
    if (leaf.dense !== null) this.#residentBytes -= DENSE_LEAF_BYTES - UNIFORM_LEAF_BYTES;
    this.#forgetLast();
  }

  /** Tells `watcher` of all changes until the returned function is called: for counting a map that changes meanwhile. */
  watch(watcher: Watcher): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  #tell(leaf: Leaf, chunk: number, change: number): void {
    for (const watcher of this.#watchers) watcher(leaf.index, chunk, change);
  }

  /** Marks a leaf to be written again by the next checkpoint though it did not change. It must be resident. */
  rewrite(leaf: Leaf): void {
    assert(leaf.resident, `leaf ${leaf.index} is not in memory`);
    this.#markDirty(leaf);
  }

  /** Existing leaves that a range of blocks touches, whether resident or not: the cheaper way round for huge ranges. */
  leavesIn(blockNumber: number, blockCount: number): Leaf[] {
    const first = Math.floor(blockNumber / LEAF_BLOCKS);
    const last = Math.floor((blockNumber + blockCount - 1) / LEAF_BLOCKS);
    const found: Leaf[] = [];
    if (last - first < this.#leaves.size) {
      for (let index = first; index <= last; index += 1) {
        const leaf = this.#leaves.get(index);
        if (leaf !== undefined) found.push(leaf);
      }
    } else {
      for (const leaf of this.#leaves.values()) if (leaf.index >= first && leaf.index <= last) found.push(leaf);
    }
    return found;
  }

  #forgetLast(): void {
    this.#lastIndex = -1;
    this.#lastLeaf = undefined;
  }
}
