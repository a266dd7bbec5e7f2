/** Volumes with a bucket that are given another size. */
import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { checkRemote } from '../../src/volume/check-remote.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, SLAB_BYTES, pattern, smallSettings } from '../support/engine-harness.ts';
import { REMOTE, RemoteMachine } from '../support/remote-machine.ts';
import { text } from '../support/text.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;

async function read(volume: Pick<Volume, 'read'>, offsetBytes: number, lengthBytes: number): Promise<Buffer> {
  const target = Buffer.alloc(lengthBytes);
  await volume.read(offsetBytes, target);
  return target;
}

async function contentOf(volume: Pick<Volume, 'read' | 'sizeBytes'>): Promise<Buffer> {
  return read(volume, 0, volume.sizeBytes);
}

async function begin(world: RemoteMachine): Promise<Volume> {
  await world.create('/first', MIB);
  const volume = await world.open('/first');
  for (let slab = 0; slab < MIB / SLAB_BYTES; slab += 1) await volume.write(slab * SLAB_BYTES, pattern(slab + 1, SLOTS), false);
  await volume.drain();
  return volume;
}

async function restored(world: RemoteMachine): Promise<Volume> {
  await world.restore('/second');
  return world.open('/second', 'second');
}

async function checked(world: RemoteMachine, directory: string): Promise<Awaited<ReturnType<typeof checkRemote>>> {
  const { env, settings } = world.machine;
  return checkRemote({ env, directory, name: 'v', settings, remotes: world.access('looking'), deep: true, onProgress: () => undefined });
}

describe('a volume with a bucket', () => {
  test('that was made larger is that in the bucket, too, with what was written there', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      const volume = await begin(world);
      await volume.resize(3 * MIB);
      expect(volume.sizeBytes).toBe(3 * MIB);
      await volume.write(3 * MIB - SLAB_BYTES, pattern(77, SLOTS), true);
      const content = await contentOf(volume);
      await volume.drain();
      expect((await checked(world, '/first')).findings).toEqual([]);
      await volume.close();
      const again = await world.open('/first');
      expect(again.sizeBytes).toBe(3 * MIB);
      await again.close();
      const second = await restored(world);
      expect((await contentOf(second)).equals(content)).toBe(true);
      await second.close();
    });
  });

  test('that was made smaller and larger again has zeroes there, also when it is made of the bucket', async () => {
    const world = new RemoteMachine(smallSettings({ flushIntervalMs: 3_600_000 }));
    await world.run(async () => {
      const volume = await begin(world);
      const kept = await read(volume, 0, MIB / 2);
      await volume.resize(MIB / 2);
      await volume.drain();
      await volume.resize(MIB);
      await volume.drain();
      const second = await restored(world);
      expect(second.sizeBytes).toBe(MIB);
      expect((await contentOf(second)).equals(Buffer.concat([kept, Buffer.alloc(MIB / 2)]))).toBe(true);
      await second.close();
      await volume.close().catch(() => undefined); // it was fenced
    });
  });

  test('made of the bucket behind a smaller size hides what was cut off, and a larger size there shows zeroes', async () => {
    const world = new RemoteMachine(smallSettings({ flushIntervalMs: 3_600_000 }));
    await world.run(async () => {
      const volume = await begin(world);
      await volume.resize(MIB / 2);
      // The size is in the bucket, the trim behind it is not.
      await world.machine.env.clock.sleep(2000);
      expect(volume.status().shipping).toMatchObject({ unshippedObjects: 0 });
      world.machine.restart();
      const second = await restored(world);
      expect(second.sizeBytes).toBe(MIB / 2);
      await second.resize(MIB);
      expect((await read(second, MIB / 2, MIB / 2)).every((byte) => byte === 0)).toBe(true);
      await second.close();
    });
  });

  test('is not resized again before the bucket knows the last size; a drain waits for that', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      const volume = await begin(world);
      world.bucket.isDown = true;
      await volume.resize(2 * MIB);
      await volume.write(MIB, pattern(5, SLOTS), true);
      await expect(volume.resize(3 * MIB)).rejects.toMatchObject({ code: 'unavailable', message: text(/does not know yet which size it was given last; basalt drain first waits/u) });
      expect(volume.sizeBytes).toBe(2 * MIB);
      world.bucket.isDown = false;
      await volume.drain();
      await volume.resize(3 * MIB);
      await volume.drain();
      await volume.close();
      const second = await restored(world);
      expect(second.sizeBytes).toBe(3 * MIB);
      expect((await read(second, MIB, SLAB_BYTES)).equals(Buffer.from(pattern(5, SLOTS)))).toBe(true);
      await second.close();
    });
  });

  test('whose flushes are for the bucket answers them when that knows the size', async () => {
    const world = new RemoteMachine();
    world.remoteSettings = { ...REMOTE, flushTarget: 'remote' };
    await world.run(async () => {
      const volume = await begin(world);
      world.bucket.isDown = true;
      await volume.resize(2 * MIB);
      // In the pause before the next try nothing is under way, and all chunks are there.
      while (volume.status().shipping?.trouble === null) await world.machine.env.clock.sleep(20);
      let isAnswered = false;
      const flushed = volume.flush().then(() => void (isAnswered = true));
      await world.machine.env.clock.sleep(20_000);
      expect(isAnswered).toBe(false);
      world.bucket.isDown = false;
      await flushed;
      world.machine.restart();
      const second = await restored(world);
      expect(second.sizeBytes).toBe(2 * MIB);
      await second.close();
    });
  });

  test('that was resized while the bucket was away, and killed, is made of it with the size of its data', async () => {
    const world = new RemoteMachine(smallSettings({ checkpointChunks: 1 }));
    world.remoteSettings = { ...REMOTE, cacheBytes: 0 };
    await world.run(async () => {
      const volume = await begin(world);
      const before = await contentOf(volume);
      world.bucket.isDown = true;
      await volume.resize(2 * MIB);
      for (let slab = 0; slab < 32; slab += 1) await volume.write(slab * SLAB_BYTES, pattern(1000 + slab, SLOTS), false);
      await volume.flush();
      await world.machine.env.clock.sleep(5000);
      const after = await contentOf(volume);
      world.machine.restart();
      // What it ships now does not count before the root that says its size: the bucket takes nothing from the sixth object on.
      world.bucket.isDown = false;
      const chunksBefore = world.bucket.keysFrom('chunks/', '').length;
      const again = await world.open('/first');
      while (world.bucket.keysFrom('chunks/', '').length < chunksBefore + 6) await world.machine.env.clock.sleep(0.5);
      world.bucket.isDown = true;
      await world.machine.env.clock.sleep(100);
      world.machine.restart();
      world.bucket.isDown = false;
      const second = await restored(world);
      expect((await contentOf(second)).equals(before)).toBe(true);
      await second.close();
      expect(again.sizeBytes).toBe(2 * MIB);
      expect(after.length).toBe(2 * MIB);
    });
  });

  test('goes on on its own disk where it was, when it is killed twice before the bucket knows its size', async () => {
    const world = new RemoteMachine(smallSettings({ checkpointChunks: 1 }));
    world.remoteSettings = { ...REMOTE, cacheBytes: 0, orphanGraceMs: 1 };
    await world.run(async () => {
      const volume = await begin(world);
      world.bucket.isDown = true;
      await volume.resize(2 * MIB);
      for (let slab = 0; slab < 32; slab += 1) await volume.write(slab * SLAB_BYTES, pattern(1000 + slab, SLOTS), false);
      await volume.flush();
      await world.machine.env.clock.sleep(5000);
      const content = await contentOf(volume);
      for (let kill = 0; kill < 2; kill += 1) {
        world.machine.restart();
        world.bucket.isDown = false;
        const before = world.bucket.keysFrom('chunks/', '').length;
        await world.open('/first');
        while (world.bucket.keysFrom('chunks/', '').length < before + 4) await world.machine.env.clock.sleep(0.5);
        world.bucket.isDown = true;
        await world.machine.env.clock.sleep(100);
      }
      world.machine.restart();
      world.bucket.isDown = false;
      const last = await world.open('/first');
      expect((await contentOf(last)).equals(content)).toBe(true);
      // Roots enough that what nothing refers to is removed.
      for (let root = 0; root < 5; root += 1) {
        await last.write(0, content.subarray(0, SLAB_BYTES), false);
        await last.drain();
      }
      await last.close();
      const second = await restored(world);
      expect((await contentOf(second)).equals(content)).toBe(true);
      await second.close();
    });
  });

  test('is followed to its new size', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      const volume = await begin(world);
      await world.follow('/reader');
      const follower = await world.openFollower('/reader');
      await volume.resize(2 * MIB);
      await volume.write(2 * MIB - SLAB_BYTES, pattern(9, SLOTS), false);
      await volume.drain();
      await follower.refresh();
      expect(follower.sizeBytes).toBe(2 * MIB);
      expect((await contentOf(follower)).equals(await contentOf(volume))).toBe(true);
      await volume.resize(MIB / 2);
      await volume.drain();
      await follower.refresh();
      expect(follower.sizeBytes).toBe(MIB / 2);
      await expect(read(follower, MIB, 512)).rejects.toMatchObject({ code: 'out-of-range' });
      await follower.close();
      await volume.close();
    });
  });
});
