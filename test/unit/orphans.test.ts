/** Objects of a bucket that nothing refers to. */
import { describe, expect, test } from 'vitest';
import { OrphanSweep } from '../../src/volume/orphans.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, SLAB_BYTES, pattern } from '../support/engine-harness.ts';
import { REMOTE, RemoteMachine } from '../support/remote-machine.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const GRACE_MS = 3_600_000;

/** Each drain is a chunk, a checkpoint and a root. */
async function writeAndDrain(volume: Volume, seed: number): Promise<void> {
  await volume.write((seed % 8) * SLAB_BYTES, pattern(seed, SLOTS), false);
  await volume.drain();
}

const keysOf = (world: RemoteMachine, folder: string): string[] => [...world.bucket.objects.keys()].filter((key) => key.startsWith(folder)).toSorted();

describe('objects that nothing refers to', () => {
  test('of a host that had lost the volume go behind a later root, when they are old enough; what counts stays', async () => {
    const world = new RemoteMachine();
    world.remoteSettings = { ...REMOTE, orphanGraceMs: GRACE_MS };
    await world.run(async () => {
      await world.create('/first');
      const first = await world.open('/first');
      await writeAndDrain(first, 1);
      await writeAndDrain(first, 2);
      const [chunk = ''] = keysOf(world, 'chunks/');
      await world.restore('/second');
      // What an owner that does not know it yet puts late: a chunk, and a whole set behind the fence.
      const late = 'chunks/c0000000099-e000001';
      world.bucket.put(late, world.bucket.objects.get(chunk)?.bytes ?? new Uint8Array(0));
      let second = await world.open('/second', 'second');
      for (let seed = 10; seed < 14; seed += 1) await writeAndDrain(second, seed);
      expect(keysOf(world, 'chunks/'), 'it is too young').toContain(late);
      expect(second.status().shipping?.orphans).toBeGreaterThanOrEqual(1);
      await world.machine.process.sleep(GRACE_MS);
      for (let seed = 20; seed < 22; seed += 1) await writeAndDrain(second, seed);
      expect(keysOf(world, 'chunks/')).not.toContain(late);
      expect(second.status().shipping?.orphans).toBe(0);
      // Those of the time within the grace time, and the last two.
      expect(keysOf(world, 'roots/').every((key) => key.startsWith('roots/e000003'))).toBe(true);
      expect(keysOf(world, 'epochs/').length, 'claims stay').toBeGreaterThanOrEqual(3);
      await second.close();
      await first.close().catch(() => undefined);
      await world.machine.env.files.removeTree('/second');
      await world.restore('/third');
      second = await world.open('/third', 'third');
      for (const seed of [1, 2, 10, 11, 12, 13, 20, 21]) {
        const target = Buffer.alloc(SLAB_BYTES);
        await second.read((seed % 8) * SLAB_BYTES, target);
        const newest = [21, 20, 13, 12, 11, 10, 2, 1].find((other) => other % 8 === seed % 8) ?? seed;
        expect(target.equals(pattern(newest, SLOTS)), `write ${seed}`).toBe(true);
      }
      await second.close();
    });
  });

  test('stay when the volume was taken over meanwhile', async () => {
    const world = new RemoteMachine();
    world.remoteSettings = { ...REMOTE, orphanGraceMs: 60_000 };
    await world.run(async () => {
      await world.create('/first');
      const first = await world.open('/first');
      for (let seed = 1; seed < 5; seed += 1) await writeAndDrain(first, seed);
      await world.machine.process.sleep(120_000);
      await world.restore('/second');
      const before = [...world.bucket.objects.keys()];
      await first.write(0, pattern(9, SLOTS), false);
      await expect(first.drain()).rejects.toMatchObject({ code: 'fenced' });
      const after = new Set(world.bucket.objects.keys());
      expect(before.filter((key) => !after.has(key))).toEqual([]);
      await first.close().catch(() => undefined);
    });
  });
});

test('nothing goes before two roots have taken the place of the first one, nor before the grace time is over', () => {
  let nowMs = 0;
  const sweep = new OrphanSweep({ clock: { nowMs: () => nowMs }, graceMs: 100, orphans: [{ key: 'old', ageMs: 90 }, { key: 'young', ageMs: 0 }], isInUse: () => false });
  nowMs = 20;
  for (const key of ['r1', 'r2', 'r2']) sweep.rootPut(key);
  expect(sweep.due()).toEqual([]);
  sweep.rootPut('r3');
  expect(sweep.due()).toEqual(['old']);
  sweep.forget(['old']);
  expect(sweep.count).toBe(1);
  nowMs = 120;
  expect(sweep.due()).toEqual(['young', 'r1']);
  const inUse = new OrphanSweep({ clock: { nowMs: () => 0 }, graceMs: 0, orphans: [{ key: 'a', ageMs: 0 }], isInUse: () => true });
  for (const key of ['r1', 'r2', 'r3']) inUse.rootPut(key);
  expect(() => inUse.due()).toThrow(/in use/);
});
