/** `check` of a volume that has a bucket: of the bucket alone, and of what is here with the bucket behind it. */
import { describe, expect, test } from 'vitest';
import { type CheckReport, checkVolume } from '../../src/volume/check.ts';
import { checkRemote } from '../../src/volume/check-remote.ts';
import { explainBlock } from '../../src/volume/explain.ts';
import type { Progress } from '../../src/volume/inspect-findings.ts';
import { repairVolume } from '../../src/volume/repair.ts';
import { takeVolumeOver } from '../../src/volume/take-over.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, SLAB_BYTES, pattern, smallSettings } from '../support/engine-harness.ts';
import { NO_FAULTS } from '../sim/remote-bucket.ts';
import { REMOTE, RemoteMachine } from '../support/remote-machine.ts';
import { text } from '../support/text.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const SLABS = 8;
const SETTINGS = smallSettings({ flushBytes: SLAB_BYTES, checkpointChunks: 4 });

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

/** A volume in `/first` that was shipped whole and closed. */
async function shipped(world: RemoteMachine, seed = 1): Promise<void> {
  await world.create('/first');
  const volume = await world.open('/first');
  await fill(volume, seed);
  await volume.drain();
  await volume.close();
}

function toolsOf(world: RemoteMachine, onProgress: (progress: Progress) => void = () => undefined) {
  const { env, settings } = world.machine;
  return { env, name: 'first', directory: '/first', settings, remotes: world.access('first'), onProgress };
}

function remoteReport(world: RemoteMachine, deep = false): Promise<CheckReport> {
  return checkRemote({ ...toolsOf(world), deep });
}

const keysIn = (world: RemoteMachine, folder: string): string[] => [...world.bucket.objects.keys()].filter((key) => key.startsWith(`${folder}/`)).toSorted();

function change(world: RemoteMachine, key: string, make: (bytes: Uint8Array) => Uint8Array): void {
  const object = world.bucket.objects.get(key);
  expect(object, key).toBeDefined();
  if (object !== undefined) world.bucket.put(key, make(object.bytes));
}

const flipped = (offsetBytes: number) => (bytes: Uint8Array): Uint8Array => bytes.map((byte, at) => (at === offsetBytes ? byte ^ 0x10 : byte));

async function otherVolume(): Promise<ReadonlyMap<string, { readonly bytes: Uint8Array }>> {
  const world = new RemoteMachine(SETTINGS, 2);
  await world.run(() => shipped(world, 40));
  return world.bucket.objects;
}

/** Runs `task` in a world with a shipped volume whose directory is not there (but for what says where the bucket is). */
async function withShipped(task: (world: RemoteMachine, chunk: string) => Promise<void>, settings = SETTINGS): Promise<void> {
  const world = new RemoteMachine(settings);
  await world.run(async () => {
    await shipped(world);
    const [chunk = ''] = keysIn(world, 'chunks');
    await task(world, chunk);
  });
}

async function removeHere(world: RemoteMachine, ...folders: string[]): Promise<void> {
  for (const folder of folders) for (const name of world.machine.names(`/first/${folder}`)) await world.machine.env.files.remove(`/first/${folder}/${name}`);
}

describe('check --remote', () => {
  test('of a bucket that has all is clean, tells of it, and changes nothing', () =>
    withShipped(async (world) => {
      const before = new Map(world.bucket.objects);
      const progress: Progress[] = [];
      const report = await checkRemote({ ...toolsOf(world, (step) => void progress.push(step)), deep: true });
      expect(report).toMatchObject({ volume: 'first', deep: true, isClean: true, findings: [], notes: [], lost: [], logRecords: 0, bucket: { url: 's3://simulated', epoch: 1, isReleased: true } });
      expect(report.chunks).toBe(keysIn(world, 'chunks').length);
      expect(report.bucket?.objects).toBeGreaterThanOrEqual(report.chunks + 1);
      expect(progress.some(({ task, done, total }) => task === 'chunks' && done === total)).toBe(true);
      expect(world.bucket.objects).toEqual(before);
    }));

  test('names a chunk that is missing, and the blocks that are lost by it', () =>
    withShipped(async (world, chunk) => {
      world.bucket.objects.delete(chunk);
      await removeHere(world, 'chunks');
      const report = await remoteReport(world);
      expect(report.findings).toMatchObject([{ file: chunk, problem: 'is missing', advice: text(/^this host has no sound copy of it: bring s3:\/\/simulated\/chunks\/.* write the blocks/u) }]);
      expect(report.lost.reduce((sum, { blockCount }) => sum + blockCount, 0)).toBeGreaterThanOrEqual(SLOTS);
    }));

  test('says of what this host has that serving it helps, and so it does', () =>
    withShipped(async (world, chunk) => {
      world.bucket.objects.delete(chunk);
      expect((await remoteReport(world)).findings).toMatchObject([{ file: chunk, problem: 'is missing', advice: text('serve the volume here, and drain it') }]);
      const volume = await world.open('/first');
      await volume.drain();
      await volume.close();
      expect(await remoteReport(world, true)).toMatchObject({ isClean: true });
      await world.restore('/second');
      const second = await world.open('/second', 'second');
      await expectContent(second, 1);
      await second.close();
    }));

  test('says of what is damaged there and sound here how it gets back, and so it does', () =>
    withShipped(async (world, chunk) => {
      change(world, chunk, flipped(5000));
      expect(await remoteReport(world)).toMatchObject({ isClean: true });
      expect((await remoteReport(world, true)).findings).toMatchObject([{ file: chunk, problem: text(/^block \d+: checksum/u), advice: text(`take s3://simulated/${chunk} out of the bucket`) }]);
      world.bucket.objects.delete(chunk);
      const volume = await world.open('/first');
      await volume.drain();
      await volume.close();
      expect(await remoteReport(world, true)).toMatchObject({ isClean: true });
    }));

  test.each<[string, (world: RemoteMachine, chunk: string) => void, RegExp]>([
    ['was cut', (world, chunk) => change(world, chunk, (bytes) => bytes.subarray(0, bytes.length - 100)), /footer|ends at|checksum|length/u],
    ['is empty', (world, chunk) => change(world, chunk, () => new Uint8Array(0)), /0 bytes long, too short/u],
    ['has a changed header', (world, chunk) => change(world, chunk, flipped(20)), /checksum|volume/u],
    ['has changed tables', (world, chunk) => change(world, chunk, (bytes) => flipped(bytes.length - 80)(bytes)), /checksum/u],
    ['has taken the place of another', (world, chunk) => change(world, chunk, () => world.bucket.objects.get(keysIn(world, 'chunks').at(-1) ?? '')?.bytes ?? new Uint8Array(0)), /chunk|number/u],
  ])('names a chunk that %s', (_, damage, problem) =>
    withShipped(async (world, chunk) => {
      damage(world, chunk);
      await removeHere(world, 'chunks');
      const report = await remoteReport(world);
      expect(report.isClean).toBe(false);
      expect(report.findings.map(({ file }) => file)).toEqual([chunk]);
      expect(report.findings[0]?.problem).toMatch(problem);
      expect(report.findings[0]?.lost.length).toBeGreaterThan(0);
    }));

  test('names a chunk of another volume', async () => {
    const other = await otherVolume();
    await withShipped(async (world, chunk) => {
      change(world, chunk, () => other.get(chunk)?.bytes ?? new Uint8Array(0));
      const { findings } = await remoteReport(world);
      expect(findings).toMatchObject([{ file: chunk, problem: text(/volume/u) }]);
    });
  });

  test('names a checkpoint that is missing, cut or changed', () =>
    withShipped(async (world) => {
      const key = keysIn(world, 'checkpoints').at(-1) ?? '';
      const sound = world.bucket.objects.get(key)?.bytes ?? new Uint8Array(0);
      const damages = [() => world.bucket.objects.delete(key), () => world.bucket.put(key, sound.subarray(0, sound.length - 10)), ...[20, Math.floor(sound.length / 2), sound.length - 60].map((at) => () => world.bucket.put(key, flipped(at)(sound)))];
      for (const damage of damages) {
        damage();
        const { findings } = await remoteReport(world);
        expect(findings.map(({ file }) => file)).toContain(key);
      }
      world.bucket.put(key, sound);
      expect(await remoteReport(world)).toMatchObject({ isClean: true });
    }));

  test('names what the bucket begins with: a root or a claim that is damaged, another volume, no root at all', async () => {
    const other = await otherVolume();
    await withShipped(async (world) => {
      const root = keysIn(world, 'roots').at(-1) ?? '';
      const sound = world.bucket.objects.get(root)?.bytes ?? new Uint8Array(0);
      world.bucket.put(root, flipped(100)(sound));
      expect((await remoteReport(world)).findings).toMatchObject([{ file: 's3://simulated', problem: text(root), advice: text('no volume can be made of the bucket') }]);
      world.bucket.put(root, other.get(root)?.bytes ?? new Uint8Array(0));
      expect((await remoteReport(world)).findings).toMatchObject([{ file: 's3://simulated', problem: text('holds another volume') }]);
      for (const key of keysIn(world, 'roots')) world.bucket.objects.delete(key);
      expect((await remoteReport(world)).findings).toMatchObject([{ file: 'roots', problem: text('there is no root') }]);
    });
  });

  test('tells of chunks behind a gap of a chain that was shipped whole', () =>
    withShipped(
      async (world) => {
        const keys = keysIn(world, 'chunks');
        expect(keys.length).toBeGreaterThan(3);
        // Behind the first root alone, whose checkpoint is none.
        for (const key of keysIn(world, 'roots').slice(1)) world.bucket.objects.delete(key);
        world.bucket.objects.delete(keys[1] ?? '');
        const { findings } = await remoteReport(world);
        expect(findings).toMatchObject([{ problem: text(/the chain of chunks ends at chunk 1: what \d+ later ones, chunks\/.* follow is missing, though its last writer had shipped all/u) }]);
      },
      smallSettings({ flushBytes: SLAB_BYTES, checkpointChunks: 1000, checkpointIntervalMs: 3_600_000 }),
    ));

  test('goes on while the volume is served and written, and finds it clean', async () => {
    const world = new RemoteMachine(SETTINGS);
    await world.run(async () => {
      await world.create('/first');
      const volume = await world.open('/first');
      let done = false;
      const writing = (async () => {
        for (let round = 0; !done; round += 1) {
          await fill(volume, round);
          await world.machine.process.sleep(200);
        }
      })();
      await volume.drain();
      const reports: CheckReport[] = [];
      for (let look = 0; look < 12; look += 1) {
        reports.push(await remoteReport(world, look % 2 === 0));
        await world.machine.process.sleep(777);
      }
      done = true;
      await writing;
      await volume.close();
      for (const { findings } of reports) expect(findings).toEqual([]);
      expect(new Set(reports.map(({ bucket }) => bucket?.checkpoint)).size).toBeGreaterThan(2);
    });
  });

  test('looks again where what a root named went while it looked', () =>
    withShipped(async (world, chunk) => {
      await removeHere(world, 'chunks');
      const object = world.bucket.objects.get(chunk)?.bytes ?? new Uint8Array(0);
      world.bucket.objects.delete(chunk);
      let looks = 0;
      const putBack = ({ task, done, total }: Progress): void => {
        if (task !== 'chunks' || done !== total) return;
        looks += 1;
        world.bucket.put(chunk, object);
      };
      expect(await checkRemote({ ...toolsOf(world, putBack), deep: false })).toMatchObject({ isClean: true });
      expect(looks).toBe(2);
    }));

  test('takes bits that flip on the way for no damage', () =>
    withShipped(async (world) => {
      world.bucket.faults = { ...NO_FAULTS, flippedBit: 0.05 };
      for (let round = 0; round < 15; round += 1) expect((await remoteReport(world, true)).findings).toEqual([]);
    }));

  test('is refused for a volume without a bucket, and says what keeps it from one that cannot be reached', async () => {
    const world = new RemoteMachine(SETTINGS);
    await world.run(async () => {
      await shipped(world);
      world.bucket.isDown = true;
      await expect(remoteReport(world)).rejects.toMatchObject({ code: 'unavailable', message: text('s3://simulated') });
      await world.machine.env.files.remove('/first/remote');
      await expect(remoteReport(world)).rejects.toMatchObject({ code: 'unsupported', message: text('check it without --remote') });
    });
  });
});

describe('check and explain of a closed volume that has a bucket', () => {
  test('read in the bucket what is not here', () =>
    withShipped(async (world) => {
      await removeHere(world, 'chunks');
      expect(await checkVolume({ ...toolsOf(world), deep: true })).toMatchObject({ isClean: true, chunks: keysIn(world, 'chunks').length, bucket: null });
      const report = await explainBlock({ ...toolsOf(world), offsetBytes: 2 * SLAB_BYTES });
      expect(report).toMatchObject({ state: 'persisted', isReadable: true, problem: null, needsRepair: false });
      expect(world.chunksIn('/first')).toEqual([]);
    }));

  test('take damage here for none that the bucket has sound, and name what neither has', () =>
    withShipped(async (world, chunk) => {
      world.rot(`/first/${chunk}`, 20);
      const here = await checkVolume({ ...toolsOf(world), deep: true });
      expect(here).toMatchObject({ isClean: true, notes: [text(new RegExp(`^${chunk}: .*the bucket has it sound`, 'u'))] });
      change(world, chunk, flipped(21));
      const both = await checkVolume({ ...toolsOf(world), deep: true });
      expect(both.findings).toMatchObject([{ file: chunk }]);
      expect(both.notes.filter((note) => note.includes('has it sound'))).toEqual([]);
    }));

  test('a block that is rotten here is explained from the bucket', () =>
    withShipped(async (world, chunk) => {
      world.rot(`/first/${chunk}`, 20);
      const { findings } = await checkVolume({ ...toolsOf(world), deep: false });
      expect(findings).toEqual([]);
      for (let slab = 0; slab < SLABS; slab += 1) expect(await explainBlock({ ...toolsOf(world), offsetBytes: slab * SLAB_BYTES })).toMatchObject({ isReadable: true });
    }));

  test('of one that another host has says who', () =>
    withShipped(async (world) => {
      await world.restore('/second');
      await expect(checkVolume({ ...toolsOf(world), deep: false })).rejects.toMatchObject({ code: 'fenced', message: text('host second has taken this volume over') });
    }));

  test('repair is refused, with what helps', () =>
    withShipped(async (world) => {
      await expect(repairVolume({ ...toolsOf(world), apply: false, uncertain: null })).rejects.toMatchObject({ code: 'unsupported', message: text('basalt takeover first') });
    }));

  test('of one that was made of its bucket is clean before anything was fetched', () =>
    withShipped(async (world) => {
      await world.restore('/second');
      const { env, settings } = world.machine;
      const second = { env, name: 'second', directory: '/second', settings, remotes: { ...world.access('second'), settings: REMOTE }, onProgress: () => undefined };
      expect(await checkVolume({ ...second, deep: true })).toMatchObject({ isClean: true, findings: [], notes: [] });
    }));
});

describe('what is damaged here, and what helps', () => {
  test.each([
    ['the manifest', ['manifest'], []],
    ['the manifest and its copy', ['manifest', 'manifest-copy'], []],
    ['a file of the log', [], ['log/00.log']],
  ] as const)('%s: a takeover goes on from the bucket, as check and opening say', (_, rotten, missing) =>
    withShipped(async (world) => {
      for (const name of rotten) world.rot(`/first/${name}`, 60);
      for (const name of missing) await world.machine.env.files.remove(`/first/${name}`);
      const { findings } = await checkVolume({ ...toolsOf(world), deep: true });
      expect(findings.length).toBeGreaterThan(0);
      for (const { advice } of findings) expect(advice).toContain('basalt takeover first goes on from there');
      await expect(world.open('/first')).rejects.toMatchObject({ code: 'corrupt', message: text('basalt takeover first goes on from there') });
      expect(await remoteReport(world, true)).toMatchObject({ isClean: true });
      const { env, settings } = world.machine;
      const { keptAs } = await takeVolumeOver({ env, parent: '/.', name: 'first', settings, access: world.access('first'), isForced: true, onProgress: () => undefined });
      expect(world.machine.names(`/${keptAs}`)).toContain('remote');
      const volume = await world.open('/first');
      await expectContent(volume, 1);
      await volume.close();
    }));
});
