import { describe, expect, test } from 'vitest';
import { ResizeWorld, noResizeCounts } from './resize-world.ts';

const SEEDS = Number(process.env.BASALT_SIM_RESIZE_SEEDS ?? 40);

describe('a volume that is resized while its machine dies', () => {
  test('has the size before or after, loses nothing, and nothing that was cut off comes back', async () => {
    const sums = noResizeCounts();
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const counts = await new ResizeWorld(seed).run().catch((error: unknown) => {
        throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      });
      for (const key of ['crashes', 'grown', 'shrunk', 'interrupted', 'effective'] as const) sums[key] += counts[key];
    }
    // The worlds do meet what they are there for.
    expect(sums.crashes).toBeGreaterThan(SEEDS);
    expect(sums.interrupted).toBeGreaterThan(sums.effective);
    expect(sums.effective).toBeGreaterThan(0);
    expect(Math.min(sums.grown, sums.shrunk)).toBeGreaterThan(SEEDS);
  }, 300_000);
});
