import { describe, expect, test } from 'vitest';
import { NO_FAULT_PLAN, type WorldPlan } from '../sim/plan.ts';
import { TOY_FLAWS, toyEngine, type ToyFlaw } from '../sim/toy-engine.ts';
import { runWorld } from '../sim/world.ts';

/**
 * The toy syncs only when it is asked to, so it suits only the modes that promise no more; it holds the whole volume in
 * memory; and it cannot stand a full disk.
 */
function forToy(plan: WorldPlan): WorldPlan {
  const { blockSizeBytes, ...create } = plan.volumes[0].create;
  const durability = create.durability === 'strict' ? 'strict' : 'relaxed';
  const blockCount = Math.min(create.sizeBytes / blockSizeBytes, 64);
  return {
    ...plan,
    volumes: [{ create: { sizeBytes: blockCount * blockSizeBytes, blockSizeBytes, durability }, regions: [{ firstBlock: 0, blockCount }] }],
    operationsPerLife: Math.min(80, plan.operationsPerLife),
    weights: new Map([...plan.weights, ['durability', 0], ['compression', 0]]), // it keeps its mode, and has no chunks
    diskFullChance: 0,
    secondOpenerChance: 0.2,
    faults: NO_FAULT_PLAN,
  };
}

/** The first seed of `count` whose world fails, and the message. */
async function firstFailure(flaw: ToyFlaw | null, count: number, adjust = forToy): Promise<{ seed: number; message: string } | null> {
  for (let seed = 1; seed <= count; seed += 1) {
    try {
      await runWorld({ engine: toyEngine(flaw), seed, adjust });
    } catch (error) {
      return { seed, message: String(error) };
    }
  }
  return null;
}

describe('a simulated world', () => {
  test('finds nothing in a toy engine that keeps its promises', async () => {
    expect(await firstFailure(null, 50)).toBeNull();
  });

  test.each(TOY_FLAWS)('finds a toy engine with the flaw: %s', async (flaw) => {
    const failure = await firstFailure(flaw, 200);
    expect(failure?.message).toMatch(/^SimulationFailure: seed \d+ fails at/);
  });

  test('finds a batched engine that never syncs on its own', async () => {
    const failure = await firstFailure(null, 60, (plan) => {
      const toy = forToy(plan);
      return { ...toy, volumes: toy.volumes.map((volume) => ({ ...volume, create: { ...volume.create, durability: 'batched' } })) };
    });
    expect(failure?.message).toMatch(/was answered at .* before the crash/);
  });

  test('has one history for one seed', async () => {
    const digests = new Set<string>();
    for (const seed of [1, 1, 2, 2, 3, 3]) {
      const report = await runWorld({ engine: toyEngine(null), seed, adjust: forToy });
      digests.add(`${report.seed} ${report.digest}`);
    }
    expect(digests.size).toBe(3);
  });
});
