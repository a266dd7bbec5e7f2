/** What a bucket costs: little waits for more, puts are counted and limited, and `show` estimates the bill. */
import { describe, expect, test } from 'vitest';
import { buildSettings } from '../../src/config/settings.ts';
import { checkRelations } from '../../src/config/cross-checks.ts';
import { newCounters } from '../../src/store/remote-store.ts';
import { estimateBill } from '../../src/volume/remote-bill.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { PutBudget } from '../../src/volume/put-budget.ts';
import { GIB } from '../../src/base/units.ts';
import { BLOCK_BYTES, SLAB_BYTES, pattern, smallSettings } from '../support/engine-harness.ts';
import { REMOTE, RemoteMachine } from '../support/remote-machine.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const HOUR_MS = 3_600_000;

/** Four slabs, `rounds` times in each of four seconds. */
async function rewrite(world: RemoteMachine, volume: Volume, rounds: number): Promise<void> {
  for (let second = 0; second < 4; second += 1) {
    for (let round = 0; round < rounds; round += 1) for (let slab = 0; slab < 4; slab += 1) await volume.write(slab * SLAB_BYTES, pattern(10 * round + slab, SLOTS), false);
    await world.machine.process.sleep(1500);
  }
}

describe('what is less than a slab', () => {
  const settings = smallSettings({ flushIntervalMs: 1000, checkpointIntervalMs: 5000 });

  test('waits for more, no longer than the lease allows; a slab goes at once', async () => {
    const world = new RemoteMachine(settings);
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      await volume.drain();
      const before = world.requests;
      await volume.write(0, pattern(1), false);
      await world.machine.process.sleep(25_000);
      expect(volume.status().shipping?.unshippedObjects).toBe(1);
      // Only whose the volume is was asked.
      expect(world.requests - before).toBeLessThanOrEqual(1);
      await world.machine.process.sleep(10_000);
      expect(volume.status().shipping?.unshippedObjects).toBe(0);
      await volume.write(0, pattern(2, SLOTS), false);
      await world.machine.process.sleep(3000);
      expect(volume.status().shipping?.unshippedObjects).toBe(0);
      await volume.close();
    });
  });

  test('goes after remote.ship_interval_ms, if that is asked for', async () => {
    const world = new RemoteMachine(settings);
    world.remoteSettings = { ...REMOTE, shipIntervalMs: 3000 };
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      await volume.drain();
      await volume.write(0, pattern(1), false);
      await world.machine.process.sleep(3000);
      expect(volume.status().shipping?.unshippedObjects).toBe(1);
      await world.machine.process.sleep(2000);
      expect(volume.status().shipping?.unshippedObjects).toBe(0);
      await volume.close();
    });
  });
});

describe('what is written again and again', () => {
  const settings = smallSettings({ flushIntervalMs: 1000, checkpointIntervalMs: 5000 });

  /** Chunks that the bucket has then. */
  async function shippedOf(rounds: number, drainToo: boolean): Promise<number> {
    const world = new RemoteMachine(settings);
    let shipped = 0;
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      await volume.drain();
      await rewrite(world, volume, rounds);
      if (drainToo) await volume.drain();
      shipped = [...world.bucket.objects.keys()].filter((key) => key.startsWith('chunks/')).length;
      const waiting = volume.status().shipping?.unshippedObjects ?? 0;
      expect(waiting > 0).toBe(rounds > 1 && !drainToo);
      if (waiting > 0) await world.machine.process.sleep(30_000);
      expect(volume.status().shipping?.unshippedObjects).toBe(0);
      await volume.close();
    });
    return shipped;
  }

  test('waits for its next version, and half a lease at most; what is written once goes at once', async () => {
    expect(await shippedOf(1, false)).toBeGreaterThan(3);
    expect(await shippedOf(3, false)).toBe(0);
  });

  test('does not wait for more than that when somebody waits for it', async () => {
    expect(await shippedOf(3, true)).toBeGreaterThanOrEqual(4);
  });
});

test('no more is put in an hour than remote.max_puts_per_hour, unless somebody waits for it', async () => {
  const world = new RemoteMachine(smallSettings({ flushBytes: SLAB_BYTES, flushIntervalMs: 500 }));
  world.remoteSettings = { ...REMOTE, maxPutsPerHour: 360 };
  await world.run(async () => {
    await world.create('/first');
    const volume = await world.open('/first');
    await volume.drain();
    const putsBefore = volume.status().bucketRequests?.puts ?? 0;
    for (let second = 0; second < 100; second += 1) {
      await volume.write((second % 40) * SLAB_BYTES, pattern(second, SLOTS), false);
      await world.machine.process.sleep(1000);
    }
    const puts = (volume.status().bucketRequests?.puts ?? 0) - putsBefore;
    // Ten of time, and what had been saved up.
    expect(puts).toBeGreaterThanOrEqual(9);
    expect(puts).toBeLessThanOrEqual(17);
    expect(volume.status().shipping?.unshippedObjects).toBeGreaterThan(10);
    const sinceMs = world.machine.env.clock.nowMs();
    await volume.drain();
    expect(world.machine.env.clock.nowMs() - sinceMs).toBeLessThan(10_000);
    await volume.close();
  });
});

test('a budget allows so many an hour, of which a minute can be saved up', () => {
  let nowMs = 0;
  const budget = new PutBudget({ nowMs: () => nowMs }, 120);
  budget.take();
  expect(budget.waitMs).toBe(0);
  budget.take();
  expect(budget.waitMs).toBeCloseTo(30_000);
  nowMs += 30_000;
  expect(budget.waitMs).toBe(0);
  nowMs += 100 * HOUR_MS;
  budget.take();
  budget.take();
  expect(budget.waitMs).toBeCloseTo(30_000);
  expect(new PutBudget({ nowMs: () => 0 }, 0).waitMs).toBe(0);
});

test('the bill is what is stored, and what was asked for since the volume was opened, for a month', () => {
  const prices = { pricePuts: 5, priceGets: 1, priceStored: 0.02, priceReceived: 0.1 };
  const counters = { ...newCounters(), puts: 900, lists: 100, gets: 2000, deletes: 50, receivedBytes: GIB };
  expect(estimateBill(prices, counters, 100 * GIB, 24 * HOUR_MS)).toEqual({ storage: 2, requests: 30 * (5 + 2), transfer: 0.1 * 30 });
  expect(estimateBill(prices, counters, 100 * GIB, 1000)).toEqual({ storage: 2, requests: null, transfer: null });
});

const check = (changes: Record<string, number>): void => checkRelations(buildSettings(new Map(Object.entries(changes))));

test('settings by which a server that writes would seem to be gone are refused', () => {
  expect(() => check({ 'remote.max_puts_per_hour': 100 })).toThrow(/less than the 240 that remote\.lease_ms/);
  expect(() => check({ 'remote.max_puts_per_hour': 240 })).not.toThrow();
  expect(() => check({ 'remote.ship_interval_ms': 31_000 })).toThrow(/must not exceed half of remote\.lease_ms/);
});
