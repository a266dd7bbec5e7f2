/** `remote.flush_target = "remote"`: FLUSH and FUA wait for the bucket. */
import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES, SLAB_BYTES, pattern, smallSettings } from '../support/engine-harness.ts';
import { REMOTE, RemoteMachine } from '../support/remote-machine.ts';

function machine(): RemoteMachine {
  const world = new RemoteMachine(smallSettings({ checkpointChunks: 1000, checkpointIntervalMs: 3_600_000 }));
  world.remoteSettings = { ...REMOTE, flushTarget: 'remote' };
  return world;
}

async function readBlock(world: RemoteMachine, directory: string, block: number): Promise<Buffer> {
  const volume = await world.open(directory, directory);
  const target = Buffer.alloc(BLOCK_BYTES);
  await volume.read(block * BLOCK_BYTES, target);
  await volume.close();
  return target;
}

const SLOTS = SLAB_BYTES / BLOCK_BYTES;

describe('a flush that is for the bucket', () => {
  test('is answered when the volume can be made of the bucket with all that was written before', async () => {
    const world = machine();
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      await volume.write(0, pattern(1), false);
      await volume.flush();
      world.machine.restart();
      await world.machine.env.files.removeTree('/first');
      await world.restore('/second');
      expect((await readBlock(world, '/second', 0)).equals(pattern(1))).toBe(true);
    });
  });

  test('so is a write with FUA; others are answered at once', async () => {
    const world = machine();
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      await volume.flush();
      world.bucket.isDown = true;
      await volume.write(0, pattern(1), false);
      let isAnswered = false;
      const forced = volume.write(BLOCK_BYTES, pattern(2), true).then(() => {
        isAnswered = true;
      });
      await world.machine.process.sleep(60_000);
      expect(isAnswered, 'the bucket is out of reach').toBe(false);
      expect(volume.durableLsn, 'here it is safe').toBe(2);
      world.bucket.isDown = false;
      await forced;
      world.machine.restart();
      await world.machine.env.files.removeTree('/first');
      await world.restore('/second');
      expect((await readBlock(world, '/second', 1)).equals(pattern(2))).toBe(true);
    });
  });

  test('many at once are one shipment, and one of what is there costs nothing', async () => {
    const world = machine();
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      await volume.flush();
      const before = world.requests;
      await Promise.all(Array.from({ length: 20 }, async (_, index) => {
        await volume.write(index * BLOCK_BYTES, pattern(index), false);
        await volume.flush();
      }));
      // A check of who has the volume before and after each chunk that was put.
      expect(world.requests - before).toBeLessThanOrEqual(6);
      const then = world.requests;
      await volume.flush();
      expect(world.requests).toBe(then);
      await volume.close();
    });
  });

  test('waits for the root where a chunk died before its turn', async () => {
    const world = machine();
    world.remoteSettings = { ...world.remoteSettings, shipConcurrency: 1 };
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      await volume.flush();
      // The first one of three chunks is on its way; then the second one is overwritten whole, and removed with the checkpoint.
      for (let slab = 0; slab < 3; slab += 1) await volume.write(slab * SLAB_BYTES, pattern(slab, SLOTS), false);
      const before = world.requests;
      const flushed = volume.flush();
      while (world.requests < before + 2) await world.machine.process.sleep(0.1);
      world.bucket.isDown = true;
      await volume.write(SLAB_BYTES, pattern(9, SLOTS), false);
      volume.drain().catch(() => undefined);
      await world.machine.process.sleep(1000);
      expect(world.chunksIn('/first'), 'one of four is gone').toHaveLength(3);
      world.bucket.isDown = false;
      await flushed;
      world.machine.restart();
      await world.machine.env.files.removeTree('/first');
      await world.restore('/second');
      expect((await readBlock(world, '/second', 2 * SLOTS)).equals(pattern(2, SLOTS).subarray(0, BLOCK_BYTES))).toBe(true);
    });
  });

  test('of a volume that was lost says so', async () => {
    const world = machine();
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      await volume.write(0, pattern(1, SLOTS), false);
      await volume.flush();
      await world.restore('/second');
      await volume.write(0, pattern(2), false);
      await expect(volume.flush()).rejects.toMatchObject({ code: 'fenced' });
      await volume.close().catch(() => undefined);
    });
  });
});
