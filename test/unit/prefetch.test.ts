/** Volumes that are made of their bucket, and fetch what was used last before somebody asks for it. */
import { describe, expect, test } from 'vitest';
import { HOT_KEY, decodeHotList } from '../../src/format/remote-records.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, SLAB_BYTES, pattern, smallSettings } from '../support/engine-harness.ts';
import { REMOTE, RemoteMachine } from '../support/remote-machine.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const SLABS = 40;

function newWorld(cacheBytes = REMOTE.cacheBytes): RemoteMachine {
  const world = new RemoteMachine(smallSettings({ checkpointChunks: 1 }));
  world.remoteSettings = { ...REMOTE, hotIntervalMs: 1000, cacheBytes };
  return world;
}

async function readSlab(volume: Volume, slab: number): Promise<void> {
  const bytes = Buffer.alloc(SLAB_BYTES);
  await volume.read(slab * SLAB_BYTES, bytes);
  expect(bytes.equals(pattern(1000 * slab + 1, SLOTS))).toBe(true);
}

/** Fills a volume, and reads the first slabs last: they are what is hot. */
async function leave(world: RemoteMachine, hotSlabs: number): Promise<void> {
  await world.create('/first');
  const volume = await world.open('/first');
  for (let slab = 0; slab < SLABS; slab += 1) await volume.write(slab * SLAB_BYTES, pattern(1000 * slab + 1, SLOTS), false);
  await volume.drain();
  await volume.close();
  const again = await world.open('/first');
  for (let slab = hotSlabs - 1; slab >= 0; slab -= 1) await readSlab(again, slab);
  await again.close();
}

async function restored(world: RemoteMachine, prefetches: boolean): Promise<Volume> {
  await world.restore('/second', true, 'second', prefetches);
  return world.open('/second', 'second');
}

async function settled(world: RemoteMachine, volume: Volume): Promise<void> {
  while (volume.status().shipping?.prefetch !== null) await world.machine.env.clock.sleep(10);
}

describe('a volume that is made of its bucket with a prefetch', () => {
  test('has all that there is room for, and then nothing is fetched any more', async () => {
    const world = newWorld();
    await world.run(async () => {
      await leave(world, 5);
      const volume = await restored(world, true);
      expect(volume.status().shipping?.prefetch).not.toBeNull();
      await settled(world, volume);
      expect(world.chunksIn('/second').length).toBe(SLABS);
      const received = volume.status().bucketRequests?.receivedBytes;
      for (let slab = 0; slab < SLABS; slab += 1) await readSlab(volume, slab);
      expect(volume.status().bucketRequests?.receivedBytes).toBe(received);
      expect(world.machine.names('/second')).not.toContain('prefetch');
      await volume.close();
    });
  });

  test('fetches what was read last, where there is no room for more', async () => {
    const hot = 8;
    const world = newWorld((hot + 1) * (SLAB_BYTES + 8192));
    await world.run(async () => {
      world.remoteSettings = { ...world.remoteSettings, cacheBytes: REMOTE.cacheBytes };
      await leave(world, hot);
      const list = decodeHotList(world.bucket.objects.get(HOT_KEY)?.bytes ?? new Uint8Array(0), 'hot');
      expect(list.chunks.length).toBe(SLABS);
      world.remoteSettings = { ...world.remoteSettings, cacheBytes: (hot + 1) * (SLAB_BYTES + 8192) };
      const volume = await restored(world, true);
      await settled(world, volume);
      const { length } = world.chunksIn('/second');
      expect(length).toBeGreaterThanOrEqual(hot);
      expect(length).toBeLessThanOrEqual(hot + 2);
      const received = volume.status().bucketRequests?.receivedBytes;
      for (let slab = 0; slab < hot; slab += 1) await readSlab(volume, slab);
      expect(volume.status().bucketRequests?.receivedBytes).toBe(received);
      await volume.close();
    });
  });

  test('begins with the newest chunks where nobody noted which are used', async () => {
    const world = newWorld();
    await world.run(async () => {
      await leave(world, 8);
      world.bucket.objects.delete(HOT_KEY);
      world.remoteSettings = { ...world.remoteSettings, cacheBytes: 9 * (SLAB_BYTES + 8192) };
      const volume = await restored(world, true);
      await settled(world, volume);
      const received = volume.status().bucketRequests?.receivedBytes;
      for (let slab = SLABS - 8; slab < SLABS; slab += 1) await readSlab(volume, slab);
      expect(volume.status().bucketRequests?.receivedBytes).toBe(received);
      await volume.close();
    });
  });

  test('takes a hint that is damaged for none', async () => {
    for (const spoil of [(bytes: Uint8Array) => bytes.map((byte, at) => (at === 45 ? byte ^ 1 : byte)), () => Uint8Array.of(1, 2, 3)]) {
      const world = newWorld();
      await world.run(async () => {
        await leave(world, 3);
        world.bucket.put(HOT_KEY, spoil(world.bucket.objects.get(HOT_KEY)?.bytes ?? new Uint8Array(0)));
        const volume = await restored(world, true);
        await settled(world, volume);
        expect(world.chunksIn('/second').length).toBe(SLABS);
        await volume.close();
      });
    }
  });

  test('goes on after a restart, and when the bucket is back', async () => {
    const world = newWorld();
    await world.run(async () => {
      await leave(world, 3);
      let volume = await restored(world, true);
      await volume.close();
      expect(world.machine.names('/second')).toContain('prefetch');
      expect(world.chunksIn('/second').length).toBeLessThan(SLABS);
      volume = await world.open('/second', 'second');
      world.bucket.isDown = true;
      await world.machine.env.clock.sleep(60_000);
      expect(volume.status().shipping?.prefetch).not.toBeNull();
      world.bucket.isDown = false;
      await settled(world, volume);
      expect(world.chunksIn('/second').length).toBe(SLABS);
      await volume.close();
    });
  });

  test('answers a read before it fetches on', async () => {
    const world = newWorld();
    await world.run(async () => {
      await leave(world, 3);
      const volume = await restored(world, true);
      const { clock } = world.machine.env;
      const beganMs = clock.nowMs();
      await readSlab(volume, SLABS - 1);
      const tookMs = clock.nowMs() - beganMs;
      const here = volume.status().shipping?.prefetch;
      expect(here?.fetchedBytes).toBeLessThan((here?.totalBytes ?? 0) / 2);
      // A chunk's tables, its block table and its data, by what the network takes at most.
      expect(tookMs).toBeLessThan(60);
      await settled(world, volume);
      await volume.close();
    });
  });
});

test('without one nothing is fetched before somebody asks for it', async () => {
  const world = newWorld();
  await world.run(async () => {
    await leave(world, 3);
    const volume = await restored(world, false);
    await world.machine.env.clock.sleep(60_000);
    expect(volume.status().shipping?.prefetch).toBeNull();
    expect(world.chunksIn('/second')).toEqual([]);
    await volume.close();
  });
});

test('which chunks are used is noted no more often than the setting says, and not at all where that is 0', async () => {
  for (const [hotIntervalMs, expected] of [[0, 0], [3_600_000, 1]] as const) {
    const world = newWorld();
    world.remoteSettings = { ...world.remoteSettings, hotIntervalMs };
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      let notes = 0;
      let before: Uint8Array | undefined;
      for (let slab = 0; slab < 20; slab += 1) {
        await volume.write(slab * SLAB_BYTES, pattern(slab + 1, SLOTS), false);
        await volume.drain();
        const now = world.bucket.objects.get(HOT_KEY)?.bytes;
        if (now !== before) notes += 1;
        before = now;
      }
      expect(notes).toBe(expected);
      await volume.close();
      expect(world.bucket.objects.has(HOT_KEY)).toBe(expected === 1);
    });
  }
});
