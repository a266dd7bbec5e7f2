/**
 * The catalogue: every chunk that exists, with its size and how many of its blocks the map still refers to. Pages of
 * typed arrays, 1024 chunks each; a page is written to a checkpoint when it changed.
 */
import { assert } from '../base/assert.ts';
import { type CatalogueEntry, PAGE_FANOUT, type PageReference } from '../format/checkpoint-layout.ts';

/** Chunks in a page. */
export const PAGE_CHUNKS = PAGE_FANOUT;

export interface ChunkFacts {
  readonly epoch: number;
  readonly blockCount: number;
  readonly liveBlocks: number;
  readonly objectBytes: number;
}

/** Bytes that a block of a chunk takes in its object, on the average: all of them, or fewer where the chunk is compressed. */
export function storedBlockBytes({ blockCount, objectBytes }: Pick<ChunkFacts, 'blockCount' | 'objectBytes'>, blockSizeBytes: number): number {
  return blockCount === 0 ? 0 : Math.min(blockSizeBytes, Math.floor(objectBytes / blockCount));
}

export class CataloguePage {
  readonly index: number;
  reference: PageReference | null;
  /** 0: no such chunk. An epoch is never 0. */
  readonly epochs = new Uint32Array(PAGE_FANOUT);
  readonly blockCounts = new Uint16Array(PAGE_FANOUT);
  readonly liveBlocks = new Uint16Array(PAGE_FANOUT);
  readonly objectBytes = new Uint32Array(PAGE_FANOUT);

  constructor(index: number, reference: PageReference | null) {
    this.index = index;
    this.reference = reference;
  }

  entries(): CatalogueEntry[] {
    const entries: CatalogueEntry[] = [];
    for (let place = 0; place < PAGE_FANOUT; place += 1) {
      if (this.epochs[place] === 0) continue;
      entries.push({
        place,
        liveBlocks: this.liveBlocks[place],
        blockCount: this.blockCounts[place],
        objectBytes: this.objectBytes[place],
        epoch: this.epochs[place],
      });
    }
    return entries;
  }
}

export class ChunkCatalogue {
  readonly #pages = new Map<number, CataloguePage>();
  readonly #dirty = new Set<CataloguePage>();
  /** Chunks with no live block, until somebody takes them. */
  readonly #dead = new Set<number>();
  /** Dead chunks whose objects are being removed, or have been, and which are still counted. */
  readonly #leaving = new Set<number>();
  #chunkCount = 0;
  readonly #blockSizeBytes: number;
  #liveBlocks = 0;
  #liveStoredBytes = 0;
  #objectBytes = 0;
  #deadBytes = 0;

  constructor(blockSizeBytes: number) {
    this.#blockSizeBytes = blockSizeBytes;
  }

  get chunkCount(): number {
    return this.#chunkCount;
  }

  /** Blocks that the map refers to, in all chunks. */
  get liveBlocks(): number {
    return this.#liveBlocks;
  }

  /** What these take in their chunks: less than they have where they are compressed. */
  get liveStoredBytes(): number {
    return this.#liveStoredBytes;
  }

  get objectBytes(): number {
    return this.#objectBytes;
  }

  /** Of these, the bytes of chunks without a live block. */
  get deadBytes(): number {
    return this.#deadBytes;
  }

  get dirtyPages(): ReadonlySet<CataloguePage> {
    return this.#dirty;
  }

  get deadChunks(): ReadonlySet<number> {
    return this.#dead;
  }

  pages(): IterableIterator<CataloguePage> {
    return this.#pages.values();
  }

  /** Takes a page as a checkpoint has it. */
  restore(index: number, reference: PageReference, entries: readonly CatalogueEntry[]): void {
    const page = new CataloguePage(index, reference);
    this.#pages.set(index, page);
    for (const entry of entries) {
      page.epochs[entry.place] = entry.epoch;
      page.blockCounts[entry.place] = entry.blockCount;
      page.liveBlocks[entry.place] = entry.liveBlocks;
      page.objectBytes[entry.place] = entry.objectBytes;
      this.#chunkCount += 1;
      this.#liveBlocks += entry.liveBlocks;
      this.#liveStoredBytes += entry.liveBlocks * storedBlockBytes(entry, this.#blockSizeBytes);
      this.#objectBytes += entry.objectBytes;
      if (entry.liveBlocks === 0) this.#died(index * PAGE_FANOUT + entry.place, entry.objectBytes);
    }
  }

  /** Adds a chunk, all of whose blocks are live. */
  add(chunk: number, facts: { readonly epoch: number; readonly blockCount: number; readonly objectBytes: number }): void {
    const { page, place } = this.#pageFor(chunk);
    assert(page.epochs[place] === 0, `chunk ${chunk} is in the catalogue already`);
    page.epochs[place] = facts.epoch;
    page.blockCounts[place] = facts.blockCount;
    page.liveBlocks[place] = facts.blockCount;
    page.objectBytes[place] = facts.objectBytes;
    this.#chunkCount += 1;
    this.#liveBlocks += facts.blockCount;
    this.#liveStoredBytes += facts.blockCount * storedBlockBytes(facts, this.#blockSizeBytes);
    this.#objectBytes += facts.objectBytes;
    if (facts.blockCount === 0) this.#died(chunk, facts.objectBytes);
    this.#dirty.add(page);
  }

  /** Some of a chunk's blocks are referred to no more. */
  displaced(chunk: number, blockCount: number): void {
    const { page, place } = this.#pageFor(chunk);
    assert(page.epochs[place] !== 0 && blockCount > 0 && page.liveBlocks[place] >= blockCount, 'a chunk has fewer live blocks than lose their place');
    page.liveBlocks[place] -= blockCount;
    this.#liveBlocks -= blockCount;
    this.#liveStoredBytes -= blockCount * storedBlockBytes({ blockCount: page.blockCounts[place], objectBytes: page.objectBytes[place] }, this.#blockSizeBytes);
    if (page.liveBlocks[place] === 0) this.#died(chunk, page.objectBytes[place]);
    this.#dirty.add(page);
  }

  #died(chunk: number, objectBytes: number): void {
    this.#dead.add(chunk);
    this.#deadBytes += objectBytes;
  }

  /** The object of a dead chunk is about to be removed: from now on it may be missing. */
  leave(chunk: number): void {
    this.#leaving.add(chunk);
  }

  /** Whether there may be an object of this chunk to look for. */
  holds(chunk: number, epoch: number): boolean {
    return this.get(chunk)?.epoch === epoch && !this.#leaving.has(chunk);
  }

  /** Takes a dead chunk out. */
  remove(chunk: number): void {
    const { page, place } = this.#pageFor(chunk);
    assert(page.epochs[place] !== 0 && page.liveBlocks[place] === 0, `chunk ${chunk} is removed with live blocks`);
    this.#chunkCount -= 1;
    this.#objectBytes -= page.objectBytes[place];
    this.#deadBytes -= page.objectBytes[place];
    page.epochs[place] = 0;
    page.blockCounts[place] = 0;
    page.objectBytes[place] = 0;
    this.#dead.delete(chunk);
    this.#leaving.delete(chunk);
    this.#dirty.add(page);
  }

  get(chunk: number): ChunkFacts | undefined {
    const page = this.#pages.get(Math.floor(chunk / PAGE_FANOUT));
    const place = chunk % PAGE_FANOUT;
    if (page === undefined || page.epochs[place] === 0) return undefined;
    return {
      epoch: page.epochs[place],
      blockCount: page.blockCounts[place],
      liveBlocks: page.liveBlocks[place],
      objectBytes: page.objectBytes[place],
    };
  }

  /** A checkpoint holds the page now; null: it is empty and goes. */
  checkpointed(page: CataloguePage, reference: PageReference | null): void {
    page.reference = reference;
    this.#dirty.delete(page);
    if (reference === null) this.#pages.delete(page.index);
  }

  /** Marks a page to be written again by the next checkpoint though it did not change. */
  rewrite(page: CataloguePage): void {
    this.#dirty.add(page);
  }

  #pageFor(chunk: number): { page: CataloguePage; place: number } {
    const index = Math.floor(chunk / PAGE_FANOUT);
    let page = this.#pages.get(index);
    if (page === undefined) {
      page = new CataloguePage(index, null);
      this.#pages.set(index, page);
    }
    return { page, place: chunk % PAGE_FANOUT };
  }
}
