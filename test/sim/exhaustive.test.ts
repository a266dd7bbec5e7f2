import { expect, test } from 'vitest';
import { crashEverywhere } from './exhaustive.ts';
import { realEngine } from './real-engine.ts';

/** Every n-th call, and subsets of the last three changes; `make exhaustive` takes every call, and subsets of six. */
const STEP = 37;
const DECIDED = 3;

test.each([
  ['relaxed', 'buffered'],
  ['strict', 'buffered'],
  ['strict', 'direct'],
  ['strict', 'mmap'],
  ['batched', 'buffered'],
  ['async', 'buffered'],
] as const)('a volume in %s mode with a %s log survives a crash at any call of a long script', async (durability, logIo) => {
  const report = await crashEverywhere({ engine: realEngine, durability, logIo, decided: DECIDED, step: STEP, first: 5 });
  expect(report.calls).toBeGreaterThan(300);
  expect(report.crashes).toBe(3 * Math.ceil((report.calls - 4) / STEP));
  expect(report.distinct).toBeGreaterThan(100);
});

test('a script is crashed where it was told to, and has one history', async () => {
  const options = { engine: realEngine, durability: 'relaxed', decided: 2, step: 101, first: 60 } as const;
  expect(await crashEverywhere(options)).toEqual(await crashEverywhere(options));
});
