/** Volumes that have a bucket: shipped, evicted, made of the bucket alone, taken over. */
import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { Volume } from '../../src/volume/volume.ts';
import { VolumeSet } from '../../src/volume/volume-set.ts';
import { BLOCK_BYTES, SLAB_BYTES, pattern, smallSettings } from '../support/engine-harness.ts';
import { schedulerClock } from '../sim/remote-bucket.ts';
import { REMOTE, RemoteMachine } from '../support/remote-machine.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;

async function contentOf(volume: Volume): Promise<Buffer> {
  const target = Buffer.alloc(volume.sizeBytes);
  await volume.read(0, target);
  return target;
}

/** Writes `rounds` of everything at changing places. */
async function fill(volume: Volume, rounds: number, seed = 1): Promise<void> {
  for (let round = 0; round < rounds; round += 1) await volume.write(((round * 7) % 12) * SLAB_BYTES, pattern(seed + round, SLOTS), false);
}

describe('a volume with a bucket', () => {
  test('is there whole after a drain, and can be made of the bucket alone', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      await fill(volume, 20);
      await volume.trim(3 * SLAB_BYTES, SLAB_BYTES, false);
      await volume.drain();
      expect(volume.status().shipping).toMatchObject({ unshippedBytes: 0, trouble: null });
      const content = await contentOf(volume);
      await volume.close();
      await world.machine.env.files.removeTree('/first');
      const restored = await world.restore('/second');
      expect(restored.epoch).toBe(2);
      const second = await world.open('/second', 'second');
      expect((await contentOf(second)).equals(content)).toBe(true);
      await second.write(0, pattern(99), true);
      await second.drain();
      await second.close();
    });
  });

  test('goes on where it was after a restart, and ships what was not shipped', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      await world.create('/first');
      let volume = await world.open('/first');
      await fill(volume, 8);
      world.bucket.isDown = true;
      await fill(volume, 8, 50);
      const content = await contentOf(volume);
      await volume.flush();
      world.machine.restart();
      world.bucket.isDown = false;
      volume = await world.open('/first');
      expect((await contentOf(volume)).equals(content)).toBe(true);
      await volume.drain();
      await volume.close();
      await world.restore('/second');
      const second = await world.open('/second', 'second');
      expect((await contentOf(second)).equals(content)).toBe(true);
      await second.close();
    });
  });

  test('keeps no more here than it may, and reads the rest from the bucket', async () => {
    const world = new RemoteMachine(smallSettings({ arenaBytes: 8 * SLAB_BYTES, dirtyBytes: 4 * SLAB_BYTES, flushBytes: 2 * SLAB_BYTES, checkpointChunks: 2 }));
    world.remoteSettings = { ...REMOTE, cacheBytes: 2 * SLAB_BYTES };
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      await fill(volume, 12);
      await volume.drain();
      const names = await world.machine.env.files.list('/first/chunks');
      expect(names.filter((name) => name.startsWith('c')).length).toBeLessThanOrEqual(3);
      for (let round = 0; round < 12; round += 1) {
        const target = Buffer.alloc(SLAB_BYTES);
        await volume.read(((round * 7) % 12) * SLAB_BYTES, target);
        expect(target.equals(pattern(1 + round, SLOTS))).toBe(true);
      }
      expect(volume.status().shipping?.cachedBytes).toBeLessThanOrEqual(3 * SLAB_BYTES);
      await volume.close();
    });
  });

  test('that was taken over takes no more writes, and never counts again', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      await world.create('/first');
      const first = await world.open('/first');
      await fill(first, 6);
      await first.drain();
      const content = await contentOf(first);
      await expect(world.restore('/second', false)).rejects.toMatchObject({ code: 'in-use' });
      await world.restore('/second');
      const second = await world.open('/second', 'second');
      await first.write(0, pattern(77, SLOTS), true);
      await expect(first.drain()).rejects.toMatchObject({ code: 'fenced' });
      await expect(first.write(0, pattern(78), true)).rejects.toMatchObject({ code: 'fenced' });
      expect((await contentOf(second)).equals(content)).toBe(true);
      await second.write(SLAB_BYTES, pattern(55, SLOTS), true);
      await second.drain();
      const newer = await contentOf(second);
      await second.close();
      await first.close().catch(() => undefined);
      await expect(world.open('/first')).rejects.toMatchObject({ code: 'fenced' });
      await world.restore('/third');
      const third = await world.open('/third', 'third');
      expect((await contentOf(third)).equals(newer)).toBe(true);
      await third.close();
    });
  });

  test('that was taken over learns it while it writes, without shipping anything', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      await world.create('/first');
      const first = await world.open('/first');
      await fill(first, 1);
      await first.drain();
      await world.restore('/second');
      // A block now and then: nothing of it becomes a chunk.
      const sinceMs = world.machine.env.clock.nowMs();
      let answered = 0;
      const write = async (): Promise<void> => {
        for (let index = 0; index < 100; index += 1) {
          await first.write(index * BLOCK_BYTES, pattern(index), false);
          answered += 1;
          await world.machine.process.sleep(300);
        }
      };
      await expect(write()).rejects.toMatchObject({ code: 'fenced' });
      expect(world.machine.env.clock.nowMs() - sinceMs).toBeLessThanOrEqual(REMOTE.ownerCheckMs + 1000);
      expect(answered).toBeGreaterThan(0);
      expect(first.stats().chunksWritten).toBe(1);
      await expect(first.flush()).rejects.toMatchObject({ code: 'fenced' });
      await first.close().catch(() => undefined);
    });
  });

  test('whose put had its effect after it was given up, in an outage, goes on', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      await fill(volume, 1);
      await volume.drain();
      await fill(volume, 2, 30);
      const before = world.requests;
      const drained = volume.drain();
      while (world.requests === before) await world.machine.process.sleep(0.1);
      // The look whose it is comes through; of all that follows only the effect.
      world.bucket.faults = { ...world.bucket.faults, lostAnswer: 1 };
      while (volume.status().shipping?.trouble === null) await world.machine.process.sleep(100);
      world.bucket.faults = { ...world.bucket.faults, lostAnswer: 0 };
      await drained;
      await volume.close();
    });
  });

  test('asks no more often than it should whose it is', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      await volume.drain();
      const before = world.requests;
      for (let index = 0; index < 600; index += 1) {
        await volume.write(0, pattern(index), false);
        await world.machine.process.sleep(100);
      }
      expect(world.requests - before).toBeGreaterThanOrEqual(11);
      expect(world.requests - before).toBeLessThanOrEqual(20);
      // A last look, and what was not a slab yet.
      await world.machine.process.sleep(60_000);
      const then = world.requests;
      await world.machine.process.sleep(600_000);
      expect(world.requests).toBe(then);
      await volume.close();
    });
  });

  test('asks the bucket for nothing while nothing happens', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      await world.create('/first', 4 * MIB);
      const volume = await world.open('/first');
      await fill(volume, 4);
      await volume.drain();
      const before = world.requests;
      await world.machine.process.sleep(600_000);
      expect(world.requests).toBe(before);
      await volume.close();
    });
  });
});

const BUCKET = { url: 's3://simulated', endpoint: 'memory', region: '', credentialsFile: '', caFile: '', singleWriter: false } as const;
const CREATE = { sizeBytes: 4 * MIB, blockSizeBytes: BLOCK_BYTES, durability: 'batched' } as const;

async function writeTo(volumes: VolumeSet, name: string, seed: number): Promise<void> {
  const volume = await volumes.acquireVolume(name);
  if (!(volume instanceof Volume)) throw new Error('it is open for reading alone');
  await fill(volume, 5, seed);
  volumes.release(volume);
}

describe('in a set of volumes', () => {
  const settings = smallSettings({ idleCloseMs: 1000, arenaBytes: 80 * MIB, dirtyBytes: 40 * MIB, flushBytes: 20 * MIB });
  const setOf = (world: RemoteMachine, directory: string): VolumeSet => new VolumeSet({ env: world.machine.env, directory, settings, remotes: world.access(directory) });

  test('one that nobody uses ships everything before it is closed, and gives its lease up', async () => {
    const world = new RemoteMachine(settings);
    await world.run(async () => {
      for (const directory of ['/one', '/two']) await world.machine.env.files.makeDirectory(directory);
      const volumes = setOf(world, '/one');
      await volumes.create('v', CREATE, BUCKET);
      await writeTo(volumes, 'v', 1);
      world.bucket.isDown = true;
      await world.machine.process.sleep(30_000);
      expect(volumes.statusOf('v')?.shipping?.trouble, 'it waits for its bucket').not.toBeNull();
      world.bucket.isDown = false;
      await world.machine.process.sleep(30_000);
      expect(volumes.statusOf('v'), 'it is closed').toBeNull();
      const other = setOf(world, '/two');
      await other.openRemote('copy', BUCKET, { isForced: false, onProgress: () => undefined });
      await writeTo(other, 'copy', 7);
      await other.close();
      await volumes.close();
    });
  });

  test('all that are open are drained before they are closed, and one that was taken over keeps no other from it', async () => {
    const world = new RemoteMachine(settings);
    await world.run(async () => {
      for (const directory of ['/one', '/two']) await world.machine.env.files.makeDirectory(directory);
      const volumes = setOf(world, '/one');
      await volumes.create('lost', CREATE, { ...BUCKET, url: 's3://simulated/lost' });
      await volumes.create('kept', CREATE, { ...BUCKET, url: 's3://simulated/kept' });
      for (const name of ['lost', 'kept']) await writeTo(volumes, name, 1);
      const other = setOf(world, '/two');
      await other.openRemote('lost', { ...BUCKET, url: 's3://simulated/lost' }, { isForced: true, onProgress: () => undefined });
      await expect(volumes.drainAll()).rejects.toMatchObject({ code: 'fenced' });
      expect(volumes.statusOf('kept')?.shipping).toMatchObject({ unshippedBytes: 0, trouble: null });
      await volumes.close();
      // Its lease was given up, so nobody has to take it by force.
      await other.openRemote('kept', { ...BUCKET, url: 's3://simulated/kept' }, { isForced: false, onProgress: () => undefined });
      await writeTo(other, 'kept', 7);
      await other.close();
    });
  });

  test('a bucket that holds something is not taken for a new volume', async () => {
    const world = new RemoteMachine(settings);
    await world.run(async () => {
      await world.machine.env.files.makeDirectory('/one');
      const volumes = setOf(world, '/one');
      world.bucket.put('letters/1', Buffer.from('dear'));
      await expect(volumes.create('v', CREATE, BUCKET)).rejects.toThrow(/letters\/1 is there/);
      await expect(volumes.describe('v')).rejects.toMatchObject({ code: 'not-found' });
      await volumes.close();
    });
  });

  test('one that was taken over is taken back, and what was here of it is kept aside', async () => {
    const world = new RemoteMachine(settings);
    await world.run(async () => {
      for (const directory of ['/one', '/two']) await world.machine.env.files.makeDirectory(directory);
      const volumes = setOf(world, '/one');
      await volumes.create('v', CREATE, BUCKET);
      await writeTo(volumes, 'v', 1);
      await volumes.drain('v');
      const other = setOf(world, '/two');
      await other.openRemote('v', BUCKET, { isForced: true, onProgress: () => undefined });
      await writeTo(other, 'v', 20);
      await other.drain('v');
      await other.close();
      await volumes.close().catch(() => undefined);
      const again = setOf(world, '/one');
      await expect(again.acquire('v')).rejects.toMatchObject({ code: 'fenced' });
      const { keptAs } = await again.takeOver('v', { isForced: false, onProgress: () => undefined });
      expect(await world.machine.env.files.list('/one')).toEqual(expect.arrayContaining(['v', keptAs]));
      const volume = await again.acquireVolume('v');
      const target = Buffer.alloc(SLAB_BYTES);
      await volume.read(0, target);
      expect(target.equals(pattern(20, SLOTS))).toBe(true);
      again.release(volume);
      await again.close();
    });
  });

  test.each([['before the first rename', 1], ['between the two renames', 2]] as const)('a takeover that died %s is finished by whoever looks next', async (_when, renames) => {
    const world = new RemoteMachine(settings);
    await world.run(async () => {
      for (const directory of ['/one', '/two']) await world.machine.env.files.makeDirectory(directory);
      const volumes = setOf(world, '/one');
      await volumes.create('v', CREATE, BUCKET);
      await writeTo(volumes, 'v', 1);
      await volumes.drain('v');
      const other = setOf(world, '/two');
      await other.openRemote('v', BUCKET, { isForced: true, onProgress: () => undefined });
      await writeTo(other, 'v', 20);
      await other.drain('v');
      await other.close();
      await volumes.close().catch(() => undefined);
      let left: number = renames;
      world.machine.fault = (call) => {
        if (call.kind !== 'rename' || !/^\/one\/(?:v|\.taking-over-v) to /.test(call.path)) return null;
        left -= 1;
        return left === 0 ? { kind: 'crash', when: 'before' } : null;
      };
      void setOf(world, '/one').takeOver('v', { isForced: false, onProgress: () => undefined });
      await schedulerClock(world.machine.scheduler).sleep(10_000);
      expect(left, 'it died').toBe(0);
      world.machine.fault = () => null;
      world.machine.restart();
      expect(world.machine.names('/one')).toContain('.taking-over-v');
      const again = setOf(world, '/one');
      expect((await again.describeAll()).map(({ name }) => name)).toEqual(['v', 'v.before-e1']);
      expect(world.machine.names('/one')).not.toContain('.taking-over-v');
      const volume = await again.acquireVolume('v');
      const target = Buffer.alloc(SLAB_BYTES);
      await volume.read(0, target);
      expect(target.equals(pattern(20, SLOTS))).toBe(true);
      again.release(volume);
      await again.close();
    });
  });

  test('where the store lets several win, a volume is made only for a single writer', async () => {
    const loose = new RemoteMachine(settings, 1, 'ignored');
    await loose.run(async () => {
      await loose.machine.env.files.makeDirectory('/one');
      const volumes = setOf(loose, '/one');
      await expect(volumes.create('v', CREATE, BUCKET)).rejects.toThrow(/add --single-writer/);
      await volumes.create('v', CREATE, { ...BUCKET, singleWriter: true });
      await writeTo(volumes, 'v', 3);
      await volumes.drain('v');
      await volumes.close();
    });
  });
});
