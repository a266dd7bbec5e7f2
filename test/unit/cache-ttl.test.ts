/** Chunks that are here and in the bucket as well, and that nobody reads. */
import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, SLAB_BYTES, pattern, smallSettings } from '../support/engine-harness.ts';
import { REMOTE, RemoteMachine } from '../support/remote-machine.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const TTL_MS = 60_000;

function worldWith(cacheTtlMs: number): RemoteMachine {
  const world = new RemoteMachine(smallSettings({ checkpointChunks: 1, openChunkFiles: 64 }));
  world.remoteSettings = { ...REMOTE, cacheTtlMs };
  return world;
}

async function begin(world: RemoteMachine): Promise<Volume> {
  await world.create('/v');
  const volume = await world.open('/v');
  for (let slab = 0; slab < 40; slab += 1) await volume.write(slab * SLAB_BYTES, pattern(1000 * slab + 1, SLOTS), false);
  await volume.drain();
  return volume;
}

async function readSlab(volume: Volume, slab: number): Promise<void> {
  const bytes = Buffer.alloc(SLAB_BYTES);
  await volume.read(slab * SLAB_BYTES, bytes);
  expect(bytes.equals(pattern(1000 * slab + 1, SLOTS))).toBe(true);
}

describe('the time to live of what is in the bucket as well', () => {
  test('ends when nobody has read it for so long, and what is read again is fetched', async () => {
    const world = worldWith(TTL_MS);
    await world.run(async () => {
      const volume = await begin(world);
      const all = world.chunksIn('/v');
      expect(all.length).toBeGreaterThan(20);
      const { clock } = world.machine.env;
      await clock.sleep(TTL_MS / 2);
      expect(world.chunksIn('/v')).toEqual(all);
      await clock.sleep(TTL_MS / 2 + TTL_MS / 8 + 1000);
      expect(world.chunksIn('/v')).toEqual([]);
      expect(volume.status().shipping).toMatchObject({ cachedBytes: 0 });
      for (let slab = 0; slab < 40; slab += 1) await readSlab(volume, slab);
      expect(world.chunksIn('/v').length).toBeGreaterThan(20);
      await volume.close();
    });
  });

  test('begins anew with each read, also of what was fetched ahead and is still in memory', async () => {
    const world = worldWith(TTL_MS);
    world.remoteSettings = { ...world.remoteSettings, readAheadBytes: 2 * MIB };
    await world.run(async () => {
      await (await begin(world)).close();
      await world.restore('/w');
      const volume = await world.open('/w', 'second');
      // So long a read keeps nothing in the volume's own memory.
      const bytes = Buffer.alloc(17 * SLAB_BYTES);
      const readAll = async (): Promise<void> => {
        for (const slab of [0, 17, 23]) await volume.read(slab * SLAB_BYTES, bytes);
      };
      await readAll();
      const { clock } = world.machine.env;
      await clock.sleep(1000);
      const all = world.chunksIn('/w');
      expect(all.length).toBeGreaterThan(35);
      for (let round = 0; round < 8; round += 1) {
        await readAll();
        await clock.sleep(TTL_MS / 3);
        expect(world.chunksIn('/w')).toEqual(expect.arrayContaining(all));
      }
      await volume.close();
    });
  });

  test('begins anew with each read, also by who has it open for long', async () => {
    const world = worldWith(TTL_MS);
    await world.run(async () => {
      await (await begin(world)).close();
      const volume = await world.open('/v');
      const all = world.chunksIn('/v').length;
      // So long a read keeps nothing in memory; the chunks stay open from the first one on.
      const bytes = Buffer.alloc(26 * SLAB_BYTES);
      const received = volume.status().bucketRequests?.receivedBytes;
      for (let round = 0; round < 6; round += 1) {
        await volume.read(0, bytes);
        await world.machine.env.clock.sleep(TTL_MS / 2);
      }
      const left = world.chunksIn('/v').length;
      expect(left).toBeGreaterThanOrEqual(26);
      expect(left).toBeLessThan(all - 8);
      expect(volume.status().bucketRequests?.receivedBytes).toBe(received);
      await volume.close();
    });
  });

  test('is none for what the bucket does not have', async () => {
    const world = worldWith(TTL_MS);
    await world.run(async () => {
      await world.create('/v');
      const volume = await world.open('/v');
      await volume.drain();
      world.bucket.isDown = true;
      for (let slab = 0; slab < 40; slab += 1) await volume.write(slab * SLAB_BYTES, pattern(1000 * slab + 1, SLOTS), false);
      await volume.flush();
      await world.machine.env.clock.sleep(5 * TTL_MS);
      const waiting = world.chunksIn('/v');
      expect(waiting.length).toBeGreaterThan(15);
      expect(volume.status().shipping?.unshippedObjects).toBeGreaterThan(15);
      for (let slab = 0; slab < 40; slab += 1) await readSlab(volume, slab);
      world.bucket.isDown = false;
      await volume.drain();
      await world.machine.env.clock.sleep(2 * TTL_MS);
      expect(world.chunksIn('/v')).toEqual([]);
      await volume.close();
    });
  });

  test('is endless where it is 0', async () => {
    const world = worldWith(0);
    await world.run(async () => {
      const volume = await begin(world);
      const all = world.chunksIn('/v');
      expect(all.length).toBeGreaterThan(20);
      await world.machine.env.clock.sleep(1000 * TTL_MS);
      expect(world.chunksIn('/v')).toEqual(all);
      await volume.close();
    });
  });
});
