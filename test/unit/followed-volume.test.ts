/** Volumes that another host writes, read from their bucket. */
import { describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { MIB } from '../../src/base/units.ts';
import { ExtentList } from '../../src/base/extent-list.ts';
import { claimKey, encodeClaim } from '../../src/format/remote-records.ts';
import type { FollowedVolume } from '../../src/volume/followed-volume.ts';
import { decodeFollowing, encodeFollowing, readFollowing } from '../../src/volume/following.ts';
import { VolumeSet } from '../../src/volume/volume-set.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { SLAB_BYTES, BLOCK_BYTES, pattern, smallSettings } from '../support/engine-harness.ts';
import { REMOTE, RemoteMachine } from '../support/remote-machine.ts';
import { text } from '../support/text.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;

async function contentOf(volume: Pick<Volume, 'sizeBytes' | 'read'>): Promise<Buffer> {
  const target = Buffer.alloc(volume.sizeBytes);
  await volume.read(0, target);
  return target;
}

async function fill(volume: Volume, rounds: number, seed = 1): Promise<void> {
  for (let round = 0; round < rounds; round += 1) await volume.write(((round * 7) % 12) * SLAB_BYTES, pattern(seed + round, SLOTS), false);
}

/** A volume that was filled and drained, and one that follows it. */
async function begin(world: RemoteMachine, isPinned = false): Promise<{ readonly owner: Volume; readonly follower: FollowedVolume }> {
  await world.create('/first');
  const owner = await world.open('/first');
  await fill(owner, 20);
  await owner.drain();
  await world.follow('/reader', isPinned);
  return { owner, follower: await world.openFollower('/reader') };
}

/** So much is written, in so many roots, that all objects of before are gone from the bucket. */
async function overtake(owner: Volume): Promise<void> {
  for (let root = 0; root < 6; root += 1) {
    await fill(owner, 24, 100 * (root + 1));
    await owner.drain();
  }
}

const code = (wanted: string): unknown => expect.objectContaining({ code: wanted });

describe('a volume that is followed', () => {
  test('is what its owner has drained, and nothing is changed in the bucket by it', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      const { owner, follower } = await begin(world);
      const before = [...world.bucket.objects.keys()];
      expect((await contentOf(follower)).equals(await contentOf(owner))).toBe(true);
      expect(follower.readOnly).toBe(true);
      expect(follower.sizeBytes).toBe(owner.sizeBytes);
      const { following, bucketRequests, readOnly } = follower.status();
      expect(following).toMatchObject({ url: 's3://simulated', owner: 'first', epoch: 1, isPinned: false, moves: 0, trouble: null, lsn: owner.status().shipping?.rootLsn });
      expect(bucketRequests).toMatchObject({ puts: 0, deletes: 0 });
      expect(readOnly).toMatch(/it is followed/u);
      await follower.close();
      expect([...world.bucket.objects.keys()]).toEqual(before);
      await owner.write(0, pattern(77), true);
      await owner.drain();
      await owner.close();
    });
  });

  test('moves on by itself, and at once when it is asked to', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      const { owner, follower } = await begin(world);
      const old = await contentOf(follower);
      await fill(owner, 9, 50);
      await owner.drain();
      expect((await contentOf(follower)).equals(old)).toBe(true);
      const status = await follower.refresh();
      expect(status.moves).toBe(1);
      expect(status.lookAgeMs).toBeLessThan(1000);
      expect((await contentOf(follower)).equals(await contentOf(owner))).toBe(true);
      await fill(owner, 5, 70);
      await owner.drain();
      await world.machine.env.clock.sleep(11_000);
      expect(follower.following().moves).toBe(2);
      expect((await contentOf(follower)).equals(await contentOf(owner))).toBe(true);
      const extents = new ExtentList('content', 1000);
      await follower.extents(0, follower.sizeBytes, extents);
      expect(extents.count).toBeGreaterThan(1);
      await follower.close();
      await owner.close();
    });
  });

  test('asks three small things of a bucket in which nothing happens', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      const { owner, follower } = await begin(world);
      await owner.close();
      await follower.refresh();
      const before = { ...follower.status().bucketRequests };
      await world.machine.env.clock.sleep(30_500);
      const { gets = 0, lists = 0, receivedBytes } = follower.status().bucketRequests ?? {};
      expect({ gets: gets - (before.gets ?? 0), lists: lists - (before.lists ?? 0), receivedBytes }).toEqual({ gets: 3, lists: 6, receivedBytes: before.receivedBytes });
      expect(follower.following()).toMatchObject({ moves: 0, trouble: null });
      await follower.close();
    });
  });

  test('moves on and reads again when its objects were removed, and never mixes two states', async () => {
    const world = new RemoteMachine(smallSettings({ checkpointChunks: 1 }));
    world.remoteSettings = { ...REMOTE, cacheBytes: 0, followIntervalMs: 0 };
    await world.run(async () => {
      const { owner, follower } = await begin(world);
      const keys = [...world.bucket.objects.keys()].filter((key) => key.startsWith('chunks/'));
      await overtake(owner);
      expect(keys.filter((key) => world.bucket.objects.has(key))).toEqual([]);
      expect(follower.following().moves).toBe(0);
      expect((await contentOf(follower)).equals(await contentOf(owner))).toBe(true);
      expect(follower.following().moves).toBe(1);
      await follower.close();
      await owner.close();
    });
  });

  test('says what is missing when the newest state needs it', async () => {
    const world = new RemoteMachine();
    world.remoteSettings = { ...REMOTE, cacheBytes: 0, followIntervalMs: 0 };
    await world.run(async () => {
      const { owner, follower } = await begin(world);
      for (const key of world.bucket.objects.keys()) if (key.startsWith('chunks/')) world.bucket.objects.delete(key);
      await expect(contentOf(follower)).rejects.toMatchObject({ code: 'corrupt', message: text(/chunks\/c\d+-e000001.*newest state of the volume needs it.*check --remote/u) });
      await follower.close();
      await owner.close();
    });
  });

  test('that is pinned stays where it is, also over a restart, and says so when that is gone', async () => {
    const world = new RemoteMachine(smallSettings({ checkpointChunks: 1 }));
    world.remoteSettings = { ...REMOTE, cacheBytes: 0 };
    await world.run(async () => {
      const { owner, follower } = await begin(world, true);
      const old = await contentOf(follower);
      await follower.close();
      await fill(owner, 2, 500);
      await owner.drain();
      const again = await world.openFollower('/reader');
      await world.machine.env.clock.sleep(60_000);
      expect((await contentOf(again)).equals(old)).toBe(true);
      expect(again.following()).toMatchObject({ isPinned: true, moves: 0 });
      await overtake(owner);
      await expect(contentOf(again)).rejects.toMatchObject({ code: 'not-found', message: text(/pinned to the state up to LSN \d+.*basalt refresh reader/u) });
      await again.refresh();
      const newest = await contentOf(owner);
      expect((await contentOf(again)).equals(newest)).toBe(true);
      await fill(owner, 2, 900);
      await owner.drain();
      await again.close();
      const last = await world.openFollower('/reader');
      expect((await contentOf(last)).equals(newest)).toBe(true);
      await last.close();
      await overtake(owner);
      await expect(world.openFollower('/reader')).rejects.toMatchObject({ message: text(/reader is pinned.*is missing.*follow s3:\/\/simulated anew/u) });
      await owner.close();
    });
  });

  test('keeps what it serves while another host has claimed the volume and not said what counts', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      const { owner, follower } = await begin(world);
      const content = await contentOf(follower);
      await owner.close();
      const manifest = (await readFollowing(world.machine.env.files, '/reader'))?.root.manifest;
      const claim = { volumeId: manifest?.volumeId ?? new Uint8Array(16), epoch: 2, writer: new Uint8Array(16).fill(7), timeMs: 1, leaseMs: 1000, host: 'third' };
      world.bucket.put(claimKey(2), encodeClaim(claim));
      await expect(follower.refresh()).rejects.toMatchObject({ code: 'unavailable', message: text(/host third has claimed s3:\/\/simulated \(epoch 2\)/u) });
      expect(follower.following().trouble).toMatch(/first root/u);
      expect((await contentOf(follower)).equals(content)).toBe(true);
      await follower.close();
      const again = await world.openFollower('/reader');
      expect((await contentOf(again)).equals(content)).toBe(true);
      await expect(world.follow('/other')).rejects.toEqual(code('unavailable'));
      await again.close();
      await world.restore('/second');
      const second = await world.open('/second', 'second');
      const goesOn = await world.openFollower('/reader');
      expect(goesOn.following()).toMatchObject({ owner: 'second', trouble: null });
      expect((await contentOf(goesOn)).equals(content)).toBe(true);
      await goesOn.close();
      await second.close();
    });
  });

  test('goes on where it was when it was killed, though the newest state cannot be told', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      const { owner, follower } = await begin(world);
      await fill(owner, 9, 50);
      await owner.drain();
      await world.machine.env.clock.sleep(11_000);
      expect(follower.following().moves).toBe(1);
      const content = await contentOf(follower);
      await owner.close();
      const manifest = (await readFollowing(world.machine.env.files, '/reader'))?.root.manifest;
      world.bucket.put(claimKey(2), encodeClaim({ volumeId: manifest?.volumeId ?? new Uint8Array(16), epoch: 2, writer: new Uint8Array(16).fill(7), timeMs: 1, leaseMs: 1000, host: 'third' }));
      world.machine.restart();
      const again = await world.openFollower('/reader');
      expect((await contentOf(again)).equals(content)).toBe(true);
      await again.close();
    });
  });

  test('does not serve what a host puts that has lost the volume', async () => {
    const world = new RemoteMachine();
    world.remoteSettings = { ...REMOTE, ownerCheckMs: 3_600_000, followIntervalMs: 0 };
    await world.run(async () => {
      const { owner, follower } = await begin(world);
      await world.restore('/second');
      const second = await world.open('/second', 'second');
      await second.write(0, pattern(4000), true);
      await second.drain();
      const content = await contentOf(second);
      // The one that was fenced ships what it has, and finds out afterwards.
      await fill(owner, 8, 8000);
      await expect(owner.drain()).rejects.toEqual(code('fenced'));
      expect([...world.bucket.objects.keys()].some((key) => key.startsWith('chunks/') && key.endsWith('-e000001'))).toBe(true);
      await follower.refresh();
      expect(follower.following().owner).toBe('second');
      expect((await contentOf(follower)).equals(content)).toBe(true);
      await follower.close();
      await second.close();
      await owner.close().catch(() => undefined); // it was fenced
    });
  });

  test('is at rest when its bucket cannot be reached, and goes on when it can', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      const { owner, follower } = await begin(world);
      const content = await contentOf(follower);
      world.bucket.isDown = true;
      await world.machine.env.clock.sleep(60_000);
      expect(follower.following().trouble).not.toBeNull();
      expect(follower.following().lookAgeMs).toBeGreaterThan(50_000);
      expect((await contentOf(follower)).equals(content)).toBe(true);
      world.bucket.isDown = false;
      await world.machine.env.clock.sleep(30_000);
      expect(follower.following()).toMatchObject({ trouble: null });
      expect(follower.following().lookAgeMs).toBeLessThan(15_000);
      await follower.close();
      await owner.close();
    });
  });

  test('tries again what it could not load', async () => {
    const world = new RemoteMachine();
    world.remoteSettings = { ...REMOTE, followIntervalMs: 0 };
    await world.run(async () => {
      const { owner, follower } = await begin(world);
      const old = await contentOf(follower);
      const before = new Set(world.bucket.objects.keys());
      await fill(owner, 9, 50);
      await owner.drain();
      const added = [...world.bucket.objects].filter(([key]) => key.startsWith('checkpoints/') && !before.has(key));
      for (const [key] of added) world.bucket.objects.delete(key);
      await expect(follower.refresh()).rejects.toMatchObject({ code: 'corrupt', message: text('checkpoints/') });
      expect(follower.following().trouble).toMatch(/checkpoints/u);
      expect((await contentOf(follower)).equals(old)).toBe(true);
      for (const [key, object] of added) world.bucket.objects.set(key, object);
      expect(await follower.refresh()).toMatchObject({ moves: 1, trouble: null });
      expect((await contentOf(follower)).equals(await contentOf(owner))).toBe(true);
      await follower.close();
      await owner.close();
    });
  });

  test('is refused what only its owner may do, and can be described, renamed and deleted', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      const { env } = world.machine;
      const settings = smallSettings({ arenaBytes: 80 * MIB, dirtyBytes: 40 * MIB, flushBytes: 20 * MIB });
      await env.files.makeDirectory('/data');
      await world.create('/first');
      const owner = await world.open('/first');
      await fill(owner, 3);
      await owner.drain();
      await world.follow('/data/copy');
      const volumes = new VolumeSet({ env, directory: '/data', settings, remotes: world.access('reader') });
      expect(await volumes.describe('copy')).toMatchObject({ follows: 's3://simulated', sizeBytes: owner.sizeBytes, damage: null });
      expect(await volumes.list()).toEqual([{ name: 'copy', sizeBytes: owner.sizeBytes, description: 'basalt volume of another host, read-only' }]);
      expect(await volumes.probe('copy')).toEqual({ damage: null, space: null });
      const tries: readonly (() => Promise<unknown>)[] = [
        () => volumes.takeOver('copy', { isForced: true, onProgress: () => undefined }),
        () => volumes.setDurability('copy', 'strict'),
        () => volumes.resize('copy', 8 * SLAB_BYTES, { mayShrink: true }),
        () => volumes.drain('copy'),
      ];
      for (const attempt of tries) await expect(attempt()).rejects.toMatchObject({ code: 'unsupported', message: text(/written by another host/u) });
      const device = await volumes.acquire('copy');
      expect(() => device.writeNow(0, 1, new Uint8Array(1), 0, false, { settle: () => undefined })).toThrow(VolumeError);
      await expect(device.write(0, pattern(1), false)).rejects.toEqual(code('read-only'));
      await expect(volumes.setCompression('copy', 'lz4')).rejects.toEqual(code('read-only'));
      expect(await volumes.describe('copy')).toMatchObject({ open: true, damage: null });
      volumes.release(device);
      expect(await volumes.refresh('copy')).toMatchObject({ url: 's3://simulated' });
      await volumes.rename('copy', 'other');
      await volumes.remove('other');
      expect(await volumes.list()).toEqual([]);
      await volumes.close();
      await owner.close();
    });
  });
});

describe('the file that says what is followed', () => {
  test('is read as it was written, and refused when it is damaged', async () => {
    const world = new RemoteMachine();
    await world.run(async () => {
      const { owner, follower } = await begin(world);
      await follower.close();
      await owner.close();
      const following = await readFollowing(world.machine.env.files, '/reader');
      if (following === null) throw new Error('there is none');
      const written = Buffer.from(encodeFollowing(following)).toString('utf8');
      expect(decodeFollowing(written, 'x')).toEqual(following);
      for (const [from, to] of [['"isPinned":false', '"isPinned":1'], ['"lastChunk":', '"lastChunk":-'], ['"root":"', '"root":"z'], ['"root":"42', '"root":"43'], ['"url"', '"uri"'], ['{', '']] as const) {
        expect(() => decodeFollowing(written.replace(from, to), 'x'), to).toThrow(expect.objectContaining({ code: 'corrupt' }));
      }
      expect(() => decodeFollowing(written.replace('"version":1', '"version":2'), 'x')).toThrow(expect.objectContaining({ code: 'unsupported' }));
    });
  });
});
