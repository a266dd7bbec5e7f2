import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LEAF_BLOCKS } from '../../src/index/block-map.ts';
import { NO_LOCATION, ResidentMap, isProvisioned, isZeroLocation, zeroLocation, zeroSlab } from '../../src/index/resident-map.ts';

/** Few numbers, near and far, so that the same ones come again and probe runs grow long. */
const blockNumber = fc.oneof(
  fc.integer({ min: 0, max: 40 }),
  fc.integer({ min: 0, max: 20 }).map((leaf) => leaf * LEAF_BLOCKS),
  fc.integer({ min: 0, max: 8 }).map((index) => 2 ** 32 + index),
  fc.integer({ min: 0, max: 8 }).map((index) => 2 ** 41 - 1 - index * 4096 * LEAF_BLOCKS),
);

type Step =
  | { readonly kind: 'set'; readonly key: number; readonly location: number }
  | { readonly kind: 'delete'; readonly key: number }
  | { readonly kind: 'range'; readonly first: number; readonly end: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('set' as const), key: blockNumber, location: fc.integer({ min: 0, max: 0xfffffffe }) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('delete' as const), key: blockNumber }) },
  {
    weight: 2,
    arbitrary: fc.tuple(blockNumber, blockNumber).map(([a, b]) => ({ kind: 'range' as const, first: Math.min(a, b), end: Math.max(a, b) + 1 })),
  },
);

function ascending(numbers: Iterable<number>): number[] {
  return [...numbers].sort((a, b) => a - b);
}

/** Does a step with both; returns what the map answered and what it should have. */
function perform(map: ResidentMap, model: Map<number, number>, next: Step): { readonly actual: unknown; readonly expected: unknown } {
  if (next.kind === 'range') {
    const inside = ascending([...model.keys()].filter((key) => key >= next.first && key < next.end));
    // Exact for short ranges; a long one may be said to have entries though it has none, but not the other way round.
    const may = map.mayHaveEntries(next.first, next.end);
    const exact = next.end - next.first <= LEAF_BLOCKS || inside.length > 0;
    return { actual: [ascending(map.keysBetween(next.first, next.end)), exact ? may : null], expected: [inside, exact ? inside.length > 0 : null] };
  }
  const expected = model.get(next.key) ?? NO_LOCATION;
  if (next.kind === 'delete') {
    model.delete(next.key);
    return { actual: map.delete(next.key), expected };
  }
  model.set(next.key, next.location);
  return { actual: map.set(next.key, next.location), expected };
}

describe('the resident map', () => {
  test('behaves as a Map does, in any order of sets, deletions and range queries', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const map = new ResidentMap(4);
        const model = new Map<number, number>();
        for (const next of steps) {
          const { actual, expected } = perform(map, model, next);
          expect(actual).toEqual(expected);
          expect(map.size).toBe(model.size);
        }
        for (const [key, location] of model) expect(map.get(key)).toBe(location);
      }),
      { numRuns: 200 },
    );
  });

  test('keeps every entry while it grows, and finds the others when some are deleted from the middle of probe runs', () => {
    const map = new ResidentMap(1);
    for (let key = 0; key < 5000; key += 1) map.set(key * 7, key);
    for (let key = 0; key < 5000; key += 3) expect(map.delete(key * 7)).toBe(key);
    for (let key = 0; key < 5000; key += 1) expect(map.get(key * 7)).toBe(key % 3 === 0 ? NO_LOCATION : key);
    expect(map.size).toBe(5000 - 1667);
  });

  test('says of a range of many leaves that nothing is there once the last entry of it is gone', () => {
    const map = new ResidentMap(16);
    const far = 3000 * LEAF_BLOCKS;
    map.set(far + 5, 1);
    expect(map.mayHaveEntries(0, far + LEAF_BLOCKS)).toBe(true);
    expect(map.mayHaveEntries(0, far)).toBe(false);
    map.delete(far + 5);
    expect(map.mayHaveEntries(0, far + LEAF_BLOCKS)).toBe(false);
  });

  test('tells zero marks from slots, and whose they are', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 30 - 2 }), fc.boolean(), (slab, provisioned) => {
        const mark = zeroLocation(slab, provisioned);
        expect([isZeroLocation(mark), isProvisioned(mark), zeroSlab(mark)]).toEqual([true, provisioned, slab]);
        expect(isZeroLocation(slab)).toBe(false);
      }),
    );
    expect(isZeroLocation(NO_LOCATION)).toBe(false);
  });
});
