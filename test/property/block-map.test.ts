import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { PageReference, Run } from '../../src/format/checkpoint-layout.ts';
import { BlockMap, LEAF_BLOCKS, LOOKUP } from '../../src/index/block-map.ts';
import { ChunkCatalogue } from '../../src/index/chunk-catalogue.ts';

const VOLUME_BLOCKS = 3 * LEAF_BLOCKS;

/** A map with its catalogue, and a "checkpoint" in memory that leaves are written to and read back from. */
class World {
  readonly catalogue = new ChunkCatalogue(4096);
  readonly pages = new Map<number, Run[]>();
  readonly map: BlockMap;
  /** What each block should be: chunk and slot; chunk 0 for provisioned zeroes. */
  readonly model = new Map<number, { chunk: number; slot: number }>();
  nextChunk = 1;
  #nextPage = 1;
  loads = 0;

  constructor(limitBytes: number) {
    this.map = new BlockMap({
      limitBytes,
      readLeaf: (index, reference) => {
        this.loads += 1;
        const runs = this.pages.get(reference.offset);
        return runs === undefined ? Promise.reject(new Error(`leaf ${index} is in no checkpoint`)) : Promise.resolve(runs);
      },
      displaced: (chunk, blockCount) => this.catalogue.displaced(chunk, blockCount),
    });
  }

  async loadAll(): Promise<void> {
    for (const leaf of this.map.leaves()) await this.map.load(leaf.index);
  }

  async place(blockNumber: number, blockCount: number, provisioned: boolean): Promise<void> {
    const release = this.map.hold();
    await this.loadAll();
    const chunk = provisioned ? 0 : this.nextChunk;
    if (!provisioned) {
      this.nextChunk += 1;
      this.catalogue.add(chunk, { epoch: 1, blockCount, objectBytes: blockCount });
    }
    this.map.place(blockNumber, blockCount, chunk, 0);
    for (let i = 0; i < blockCount; i += 1) this.model.set(blockNumber + i, { chunk, slot: provisioned ? 0 : i });
    release();
  }

  async clear(blockNumber: number, blockCount: number): Promise<void> {
    const release = this.map.hold();
    await this.loadAll();
    this.map.clear(blockNumber, blockCount);
    for (let i = 0; i < blockCount; i += 1) this.model.delete(blockNumber + i);
    release();
  }

  checkpoint(): number {
    const written = [...this.map.dirtyLeaves];
    for (const leaf of written) {
      if (leaf.mapped === 0) {
        this.map.checkpointed(leaf, null);
        continue;
      }
      const offset = this.#nextPage;
      this.#nextPage += 1;
      this.pages.set(offset, this.map.runsOf(leaf));
      const reference: PageReference = { number: 1, epoch: 1, offset, length: 0, checksum: 0 };
      this.map.checkpointed(leaf, reference);
    }
    this.map.trimMemory();
    return written.length;
  }

  async verify(): Promise<void> {
    const release = this.map.hold();
    await this.loadAll();
    for (let block = 0; block < VOLUME_BLOCKS; block += 1) {
      const found = this.#found(block);
      const expected = this.#expected(block);
      if (found !== expected) expect(found, `block ${block}`).toBe(expected); // one call of expect for each block would take seconds
    }
    this.verifyCounts();
    release();
  }

  #expected(block: number): string {
    const expected = this.model.get(block);
    if (expected === undefined) return 'empty';
    return expected.chunk === 0 ? 'provisioned' : `chunk ${expected.chunk} slot ${expected.slot}`;
  }

  #found(block: number): string {
    const found = this.map.lookup(block);
    if (found === LOOKUP.STORED) return `chunk ${this.map.foundChunk} slot ${this.map.foundSlot}`;
    if (found === LOOKUP.EMPTY) return 'empty';
    return found === LOOKUP.PROVISIONED ? 'provisioned' : 'not resident';
  }

  verifyCounts(): void {
    const live = new Map<number, number>();
    for (const { chunk } of this.model.values()) if (chunk !== 0) live.set(chunk, (live.get(chunk) ?? 0) + 1);
    for (let chunk = 1; chunk < this.nextChunk; chunk += 1) expect(this.catalogue.get(chunk)?.liveBlocks, `chunk ${chunk}`).toBe(live.get(chunk) ?? 0);
    expect([...this.catalogue.deadChunks].every((chunk) => !live.has(chunk))).toBe(true);
    let mapped = 0;
    for (const leaf of this.map.leaves()) mapped += leaf.mapped;
    expect(mapped).toBe(this.model.size);
  }
}

type Step = { readonly kind: 'place' | 'provision' | 'clear'; readonly first: number; readonly count: number } | { readonly kind: 'checkpoint' };

const range = fc
  .tuple(
    fc.oneof(fc.integer({ min: 0, max: VOLUME_BLOCKS - 1 }), fc.constantFrom(0, LEAF_BLOCKS - 1, LEAF_BLOCKS, 2 * LEAF_BLOCKS)),
    fc.oneof(fc.integer({ min: 1, max: 8 }), fc.constantFrom(LEAF_BLOCKS, LEAF_BLOCKS + 1, VOLUME_BLOCKS)),
  )
  .map(([first, count]) => ({ first, count: Math.min(count, VOLUME_BLOCKS - first) }));

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: range.map((where) => ({ kind: 'place' as const, ...where })) },
  { weight: 1, arbitrary: range.map((where) => ({ kind: 'provision' as const, ...where })) },
  { weight: 2, arbitrary: range.map((where) => ({ kind: 'clear' as const, ...where })) },
  { weight: 2, arbitrary: fc.constant({ kind: 'checkpoint' as const }) },
);

async function apply(world: World, next: Step): Promise<void> {
  if (next.kind === 'checkpoint') world.checkpoint();
  else if (next.kind === 'clear') await world.clear(next.first, next.count);
  else await world.place(next.first, next.count, next.kind === 'provision');
}

describe('the block map', () => {
  test.each([
    ['plenty of memory', 2 ** 30],
    ['memory for one leaf', 6500],
    ['no memory at all', 0],
  ])('equals a plain model and its catalogue counts what is live, with %s', async (_, limitBytes) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 14 }), async (steps) => {
        const world = new World(limitBytes);
        for (const next of steps) await apply(world, next);
        await world.verify();
      }),
      { numRuns: 25 },
    );
  });

  test('counts the memory of its leaves the same way however they came about', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), fc.constantFrom(0, 7000, 2 ** 30), async (steps, limitBytes) => {
        const world = new World(limitBytes);
        for (const next of steps) await apply(world, next);
        await world.clear(0, VOLUME_BLOCKS);
        world.checkpoint();
        expect(world.map.leafCount).toBe(0);
        expect(world.map.residentBytes).toBe(0);
      }),
      { numRuns: 60 },
    );
  });
});

describe('a leaf', () => {
  test('that is one run takes no table, and one that grows at its end stays so', async () => {
    const { map, catalogue } = new World(2 ** 30);
    catalogue.add(9, { epoch: 1, blockCount: 200, objectBytes: 1 });
    map.place(10, 100, 9, 0);
    map.place(110, 100, 9, 100);
    expect(map.leaf(0)?.dense).toBeNull();
    expect([...map.leaves()].flatMap((leaf) => map.runsOf(leaf))).toEqual([{ place: 10, blockCount: 200, chunk: 9, slot: 0 }]);
  });

  test('that was dropped is read back when it is needed, once for all who wait', async () => {
    const world = new World(0);
    await world.place(0, 4, false);
    await world.place(8, 4, false);
    world.checkpoint();
    world.map.trimMemory();
    world.map.trimMemory();
    expect(world.map.lookup(0)).toBe(LOOKUP.NOT_RESIDENT);
    const release = world.map.hold();
    await Promise.all([world.map.load(0), world.map.load(0)]);
    expect(world.loads).toBe(1);
    expect(world.map.lookup(9)).toBe(LOOKUP.STORED);
    release();
  });

  test('that changed since the checkpoint is never dropped', async () => {
    const world = new World(0);
    await world.place(0, 4, false);
    await world.place(8, 4, false);
    for (let i = 0; i < 4; i += 1) world.map.trimMemory();
    expect(world.map.lookup(0)).toBe(LOOKUP.STORED);
  });

  test('that is held is not dropped until it is let go', async () => {
    const world = new World(0);
    const release = world.map.hold();
    await world.place(0, 4, false);
    await world.place(8, 4, false);
    world.checkpoint();
    for (let i = 0; i < 4; i += 1) world.map.trimMemory();
    expect(world.map.lookup(0)).toBe(LOOKUP.STORED);
    release();
    for (let i = 0; i < 4; i += 1) world.map.trimMemory();
    expect(world.map.leaf(0)?.resident).toBe(false);
  });

  test('is written to a checkpoint only if it changed', async () => {
    const world = new World(2 ** 30);
    await world.place(0, VOLUME_BLOCKS, false);
    expect(world.checkpoint()).toBe(3);
    expect(world.checkpoint()).toBe(0);
    await world.place(LEAF_BLOCKS, 1, false);
    expect(world.checkpoint()).toBe(1);
  });

  test('that cannot be read leaves the map as it was', async () => {
    const world = new World(0);
    world.map.addStored(0, { number: 1, epoch: 1, offset: 777, length: 0, checksum: 0 });
    await expect(world.map.load(0)).rejects.toThrow('leaf 0 is in no checkpoint');
    expect(world.map.lookup(3)).toBe(LOOKUP.NOT_RESIDENT);
    expect(() => world.map.place(3, 1, 5, 0)).toThrow(/not in memory/);
  });
});
