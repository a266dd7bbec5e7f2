import { describe, expect, test } from 'vitest';
import { realEngine } from './real-engine.ts';
import { runWorld } from './world.ts';

/** A short list; `make sim` runs thousands. */
const SEEDS = 80;
const SEEDS_PER_TEST = 10;

describe('the engine in simulated worlds', () => {
  test.each(Array.from({ length: SEEDS / SEEDS_PER_TEST }, (_none, index) => 1 + index * SEEDS_PER_TEST))(
    'keeps every promise in the worlds from seed %i on',
    async (first) => {
      for (let seed = first; seed < first + SEEDS_PER_TEST; seed += 1) {
        const report = await runWorld({ engine: realEngine, seed });
        expect(report.counts.opens).toBeGreaterThan(1);
      }
    },
  );

  test('has one history for one seed', async () => {
    const first = await runWorld({ engine: realEngine, seed: 4 });
    const second = await runWorld({ engine: realEngine, seed: 4 });
    expect(second).toEqual(first);
  });
});
