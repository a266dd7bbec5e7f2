/** Rot of what is here of a volume with a bucket: it is never shipped, and what the bucket has sound comes back from there. */
import { describe, expect, test } from 'vitest';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, SLAB_BYTES, pattern, smallSettings } from '../support/engine-harness.ts';
import { REMOTE, RemoteMachine } from '../support/remote-machine.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const SLABS = 12;

/** Writes all of the first slabs anew; several chunks come of it. */
async function fill(volume: Volume, seed: number): Promise<void> {
  for (let slab = 0; slab < SLABS; slab += 1) await volume.write(slab * SLAB_BYTES, pattern(seed + slab, SLOTS), false);
}

async function expectContent(volume: Volume, seed: number): Promise<void> {
  for (let slab = 0; slab < SLABS; slab += 1) {
    const target = Buffer.alloc(SLAB_BYTES);
    await volume.read(slab * SLAB_BYTES, target);
    expect(target.equals(pattern(seed + slab, SLOTS)), `slab ${slab}`).toBe(true);
  }
}

/** Chunks of a slab each, and a checkpoint only when the volume is drained or closed. */
const SETTINGS = smallSettings({ flushBytes: SLAB_BYTES, checkpointChunks: 1000, checkpointIntervalMs: 3_600_000 });
const SCRUB = { bytesPerSecond: 1e9, onProgress: () => undefined, signal: new AbortController().signal };

/** Of a volume in `/first` that is shipped, and opened anew: nothing of it is in memory. */
async function shippedVolume(world: RemoteMachine, seed = 1): Promise<Volume> {
  await world.create('/first');
  const before = await world.open('/first');
  await fill(before, seed);
  await before.drain();
  await before.close();
  world.machine.restart();
  return world.open('/first');
}

describe('a chunk that is rotten here', () => {
  test('is shipped from the copy in memory, if there is one, and made anew of that when it is read', async () => {
    const world = new RemoteMachine(SETTINGS);
    world.remoteSettings = { ...REMOTE, shipMemoryBytes: 64 * SLAB_BYTES };
    await world.run(async () => {
      await world.create('/first');
      const before = await world.open('/first');
      await before.drain();
      world.bucket.isDown = true;
      await fill(before, 1);
      await world.machine.process.sleep(20_000);
      const names = world.chunksIn('/first');
      expect(names.length).toBeGreaterThan(2);
      for (const name of names) world.rot(`/first/chunks/${name}`);
      world.bucket.isDown = false;
      await before.drain();
      await before.close();
      world.machine.restart();
      const volume = await world.open('/first');
      await expectContent(volume, 1);
      await volume.close();
    });
  });

  test('is not shipped, nor what came after it, until it is not needed any more', async () => {
    const world = new RemoteMachine(SETTINGS);
    world.remoteSettings = { ...REMOTE, shipMemoryBytes: 0 };
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      await volume.drain();
      world.bucket.isDown = true;
      await fill(volume, 1);
      await world.machine.process.sleep(20_000);
      const [first = '', second = '', third = ''] = world.chunksIn('/first');
      expect(third, 'there are some chunks').not.toBe('');
      world.rot(`/first/chunks/${second}`);
      world.bucket.isDown = false;
      await expect(volume.drain()).rejects.toThrow(new RegExp(`chunks/${second}: block \\d+, at byte \\d+: checksum .* basalt scrub first`));
      expect(volume.status().shipping?.trouble).toContain(`chunks/${second}`);
      await world.machine.process.sleep(20_000);
      const there = [...world.bucket.objects.keys()].filter((key) => key.startsWith('chunks/'));
      expect(there).toEqual([`chunks/${first}`]);
      expect(volume.failure).toBeNull();
      await fill(volume, 50);
      await volume.drain();
      await expectContent(volume, 50);
      expect(volume.status().shipping).toMatchObject({ trouble: null, unshippedBytes: 0 });
      expect(world.bucket.objects.has(`chunks/${second}`)).toBe(false);
      await volume.close();
      await world.restore('/second');
      const copy = await world.open('/second', 'second');
      await expectContent(copy, 50);
      await copy.close();
    });
  });

  test('and sound in the bucket is read, and written anew from there', async () => {
    const world = new RemoteMachine(SETTINGS);
    await world.run(async () => {
      const volume = await shippedVolume(world);
      const [name = ''] = world.chunksIn('/first');
      const sound = world.machine.bytesOf(`/first/chunks/${name}`);
      world.rot(`/first/chunks/${name}`);
      await expectContent(volume, 1);
      expect(world.machine.bytesOf(`/first/chunks/${name}`).equals(sound)).toBe(true);
      expect(world.machine.names('/first/chunks').filter((file) => file.startsWith('.far'))).toEqual([]);
      await volume.close();
    });
  });

  test('in its tables or its length is no other case', async () => {
    const world = new RemoteMachine(SETTINGS);
    await world.run(async () => {
      const volume = await shippedVolume(world);
      const [name = '', other = ''] = world.chunksIn('/first');
      const sizeBytes = world.machine.bytesOf(`/first/chunks/${name}`).length;
      world.rot(`/first/chunks/${name}`, sizeBytes - 30);
      world.machine.disk.write(world.machine.disk.findFile(`/first/chunks/${other}`), new Uint8Array(100), world.machine.bytesOf(`/first/chunks/${other}`).length);
      await expectContent(volume, 1);
      await volume.close();
    });
  });

  test('while the bucket has another block of it rotten: each sound block is read', async () => {
    const world = new RemoteMachine(SETTINGS);
    await world.run(async () => {
      const volume = await shippedVolume(world);
      const [name = ''] = world.chunksIn('/first');
      world.rot(`/first/chunks/${name}`);
      const before = world.machine.bytesOf(`/first/chunks/${name}`);
      const there = Buffer.from(world.bucket.objects.get(`chunks/${name}`)?.bytes ?? []);
      there.writeUInt8(there.readUInt8(5000 + 4 * BLOCK_BYTES) ^ 1, 5000 + 4 * BLOCK_BYTES);
      world.bucket.put(`chunks/${name}`, there);
      // The slab that the chunk is of is read block by block.
      let failed = 0;
      for (let block = 0; block < SLABS * SLOTS; block += 1) {
        const target = Buffer.alloc(BLOCK_BYTES);
        await volume.read(block * BLOCK_BYTES, target).then(
          () => expect(target.equals(pattern(1 + Math.floor(block / SLOTS), SLOTS).subarray((block % SLOTS) * BLOCK_BYTES, ((block % SLOTS) + 1) * BLOCK_BYTES))).toBe(true),
          (error: unknown) => {
            failed += 1;
            expect(error).toMatchObject({ code: 'corrupt' });
          },
        );
      }
      // Once the bucket's bytes are asked for its own rot is met, too; never is a wrong block read.
      expect(failed).toBeLessThanOrEqual(1);
      expect(world.machine.bytesOf(`/first/chunks/${name}`).equals(before), 'the copy here stays').toBe(true);
      await volume.close();
    });
  });

  test('is healed by a scrub, which says so', async () => {
    const world = new RemoteMachine(SETTINGS);
    await world.run(async () => {
      const volume = await shippedVolume(world);
      const [name = ''] = world.chunksIn('/first');
      world.rot(`/first/chunks/${name}`);
      const report = await volume.scrub(SCRUB);
      expect(report).toMatchObject({ rottenCount: 1, rewrittenCount: 1 });
      expect(report.rotten[0]).toMatchObject({ file: `chunks/${name}` });
      expect(await volume.scrub(SCRUB)).toMatchObject({ isClean: true });
      await volume.close();
    });
  });

  test('stays when the bucket cannot be asked, and reads of it say that', async () => {
    const world = new RemoteMachine(SETTINGS);
    await world.run(async () => {
      const volume = await shippedVolume(world);
      const [name = ''] = world.chunksIn('/first');
      world.rot(`/first/chunks/${name}`);
      world.bucket.isDown = true;
      const target = Buffer.alloc(SLABS * SLAB_BYTES);
      await expect(volume.read(0, target)).rejects.toMatchObject({ code: 'unavailable' });
      world.bucket.isDown = false;
      await expectContent(volume, 1);
      await volume.close();
    });
  });
});

test('a checkpoint that is rotten here is not shipped; another one is made that needs nothing of it', async () => {
  const world = new RemoteMachine(SETTINGS);
  await world.run(async () => {
    await world.create('/first');
    const volume = await world.open('/first');
    await volume.drain();
    await fill(volume, 1);
    world.bucket.isDown = true;
    const drained = volume.drain();
    await world.machine.process.sleep(10_000);
    const name = world.machine.names('/first/checkpoints').find((file) => file.startsWith('k')) ?? '';
    world.rot(`/first/checkpoints/${name}`, 300);
    world.bucket.isDown = false;
    await drained;
    expect(world.bucket.objects.has(`checkpoints/${name}`)).toBe(false);
    await volume.close();
    await world.restore('/second');
    const copy = await world.open('/second', 'second');
    await expectContent(copy, 1);
    await copy.close();
  });
});
