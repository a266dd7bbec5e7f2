import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type BlockState, assertTransition, isTransition } from '../../src/index/block-state.ts';
import { ChunkCatalogue } from '../../src/index/chunk-catalogue.ts';

const REFERENCE = { number: 1, epoch: 1, offset: 96, length: 16, checksum: 0 };

describe('the catalogue', () => {
  test('counts chunks, live blocks and bytes as a plain list does, and comes back from its pages', () => {
    const facts = fc.record({ blockCount: fc.integer({ min: 0, max: 1024 }), displaced: fc.integer({ min: 0, max: 1024 }), objectBytes: fc.integer({ min: 1, max: 2 ** 32 - 1 }) });
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 5000 }), { maxLength: 40 }), fc.array(facts, { minLength: 40, maxLength: 40 }), (chunks, list) => {
        const catalogue = new ChunkCatalogue(4096);
        let live = 0;
        let bytes = 0;
        const dead = new Set<number>();
        chunks.forEach((chunk, index) => {
          const { blockCount, objectBytes } = list[index];
          const displaced = Math.min(blockCount, list[index].displaced);
          catalogue.add(chunk, { epoch: 3, blockCount, objectBytes });
          if (displaced > 0) catalogue.displaced(chunk, displaced);
          live += blockCount - displaced;
          bytes += objectBytes;
          if (displaced === blockCount) dead.add(chunk);
        });
        const restored = new ChunkCatalogue(4096);
        for (const page of catalogue.pages()) restored.restore(page.index, REFERENCE, page.entries());
        for (const copy of [catalogue, restored]) {
          expect([copy.chunkCount, copy.liveBlocks, copy.objectBytes]).toEqual([chunks.length, live, bytes]);
          expect(new Set(copy.deadChunks)).toEqual(dead);
          for (const chunk of chunks) expect(copy.get(chunk)).toEqual(catalogue.get(chunk));
        }
        for (const chunk of dead) catalogue.remove(chunk);
        expect([catalogue.chunkCount, catalogue.liveBlocks, catalogue.deadChunks.size]).toEqual([chunks.length - dead.size, live, 0]);
      }),
    );
  });

  test('refuses to count wrong: a chunk added twice, blocks displaced twice, a live chunk removed', () => {
    const catalogue = new ChunkCatalogue(4096);
    catalogue.add(7, { epoch: 1, blockCount: 2, objectBytes: 1 });
    expect(() => catalogue.add(7, { epoch: 2, blockCount: 2, objectBytes: 1 })).toThrow(/already/);
    expect(() => catalogue.remove(7)).toThrow(/live blocks/);
    catalogue.displaced(7, 2);
    expect(() => catalogue.displaced(7, 1)).toThrow(/fewer live blocks/);
    catalogue.remove(7);
    expect(catalogue.get(7)).toBeUndefined();
    expect(() => catalogue.remove(7)).toThrow(/removed with live blocks/);
  });

  test('knows which pages a checkpoint must write', () => {
    const catalogue = new ChunkCatalogue(4096);
    for (const chunk of [1, 2, 1024, 5000]) catalogue.add(chunk, { epoch: 1, blockCount: 1, objectBytes: 1 });
    expect([...catalogue.dirtyPages].map((page) => page.index)).toEqual([0, 1, 4]);
    for (const page of [...catalogue.dirtyPages]) catalogue.checkpointed(page, REFERENCE);
    catalogue.displaced(1024, 1);
    expect([...catalogue.dirtyPages].map((page) => page.index)).toEqual([1]);
  });
});

describe('a block', () => {
  const STATES: readonly BlockState[] = ['empty', 'hot', 'pending', 'persisted', 'cached'];

  test('goes down from hot by way of the log, never past it', () => {
    expect([isTransition('hot', 'pending'), isTransition('pending', 'persisted'), isTransition('pending', 'cached')]).toEqual([true, true, true]);
    expect([isTransition('hot', 'persisted'), isTransition('hot', 'cached'), isTransition('empty', 'persisted')]).toEqual([false, false, false]);
    expect(() => assertTransition('hot', 'cached', 9)).toThrow('block 9 cannot go from hot to cached');
  });

  test('becomes hot by a write and empty by a trim, whatever it was', () => {
    for (const state of STATES) expect([isTransition(state, 'hot'), isTransition(state, 'empty')]).toEqual([true, true]);
  });
});
