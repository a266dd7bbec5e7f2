import { describe, expect, test } from 'vitest';
import { RemoteResizeWorld, noRemoteResizeCounts } from './remote-resize-world.ts';

const SEEDS = Number(process.env.BASALT_SIM_RESIZE_SEEDS ?? 40);

describe('a volume with a bucket that is resized while its machine dies', () => {
  test('is made of the bucket with the size of its data, and nothing that was cut off comes back', async () => {
    const sums = noRemoteResizeCounts();
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const counts = await new RemoteResizeWorld(seed).run().catch((error: unknown) => {
        throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      });
      for (const key of ['crashes', 'grown', 'shrunk', 'refused', 'drains', 'restored', 'older'] as const) sums[key] += counts[key];
    }
    // The worlds do meet what they are there for.
    expect(sums.crashes).toBeGreaterThan(SEEDS);
    expect(sums.restored).toBeGreaterThan(SEEDS);
    expect(Math.min(sums.older, sums.refused)).toBeGreaterThan(0);
    expect(Math.min(sums.grown, sums.shrunk)).toBeGreaterThan(SEEDS);
  }, 300_000);
});
