import { describe, expect, test, vi } from 'vitest';
import { chunkCompressionOf, type VolumeCompression } from '../../src/base/compression.ts';
import { MIB } from '../../src/base/units.ts';
import type { BuildChunkJob } from '../../src/chunk/build-chunk.ts';
import { changeCompressionOffline } from '../../src/volume/change-compression.ts';
import { readManifest } from '../../src/volume/volume-files.ts';
import { VolumeSet } from '../../src/volume/volume-set.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, readAll, smallArena, smallSettings } from '../support/engine-harness.ts';
import { text } from '../support/text.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const AGE_MS = 10;
const PAUSE_MS = 1000;
/** Nothing of what was not synced is kept. */
const NOTHING_KEPT = { keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false };

/** Blocks of which half compresses. */
function half(seed: number, count: number): Buffer {
  const blocks = Array.from({ length: count }, (_, i) => [pattern(seed * 100 + i).subarray(0, BLOCK_BYTES / 2), Buffer.alloc(BLOCK_BYTES / 2)]);
  return Buffer.concat(blocks.flat());
}

async function withVolume(use: (machine: SimMachine, volume: Volume) => Promise<void>, settings = smallSettings({ flushIntervalMs: AGE_MS }), compression?: VolumeCompression): Promise<void> {
  const machine = new SimMachine(settings);
  await machine.run(async () => {
    await machine.create('/v', { sizeBytes: 4 * MIB, ...(compression === undefined ? {} : { compression }) });
    await use(machine, await machine.open('/v'));
  });
}

const onDisk = async (machine: SimMachine): Promise<VolumeCompression> => (await readManifest(machine.env.files, '/v')).compression;

/** Writes a slab of blocks and lets them become chunks; true if these are compressed. */
async function chunkIsPacked(machine: SimMachine, volume: Volume, chunk: number): Promise<boolean> {
  const before = volume.stats();
  await volume.write(chunk * SLAB_BYTES, half(chunk + 1, SLOTS), false);
  await machine.process.sleep(10 * AGE_MS);
  const after = volume.stats();
  expect(after.liveBytes - before.liveBytes).toBe(SLAB_BYTES);
  return after.liveStoredBytes - before.liveStoredBytes < 0.7 * SLAB_BYTES;
}

test.each([
  ['default', 'off', 'off'],
  ['default', 'lz4', 'lz4'],
  ['none', 'lz4', 'off'],
  ['lz4', 'off', 'lz4'],
] as const)('a volume that says %s under settings that say %s: new chunks are %s', async (own, setting, expected) => {
  expect(chunkCompressionOf(own, setting)).toBe(expected);
  await withVolume(
    async (machine, volume) => {
      expect(volume.compression).toBe(own);
      expect(await chunkIsPacked(machine, volume, 0)).toBe(expected === 'lz4');
      await volume.close();
    },
    smallSettings({ flushIntervalMs: AGE_MS, chunkCompress: setting }),
    own,
  );
});

describe('changing it for an open volume', () => {
  test('holds for the next chunk at once and after a restart, and what was stored before stays as it is', async () => {
    await withVolume(async (machine, volume) => {
      const expected = Buffer.alloc(4 * MIB);
      let at = volume;
      for (const [chunk, compression] of (['lz4', 'none', 'lz4', 'default'] as const).entries()) {
        await at.setCompression(compression);
        expect([at.compression, await onDisk(machine)]).toEqual([compression, compression]);
        expect(await chunkIsPacked(machine, at, chunk)).toBe(compression === 'lz4');
        expected.set(half(chunk + 1, SLOTS), chunk * SLAB_BYTES);
        const { liveStoredBytes } = at.stats();
        await at.close();
        machine.restart();
        at = await machine.open('/v');
        expect([at.compression, at.stats().liveStoredBytes]).toEqual([compression, liveStoredBytes]);
        expect((await readAll(at)).equals(expected)).toBe(true);
      }
      await at.close();
    });
  });

  test('while chunks are being made and a checkpoint is written, loses nothing of either', async () => {
    const settings = smallSettings({ flushIntervalMs: 5, checkpointChunks: 1 });
    await withVolume(async (machine, volume) => {
      const expected = Buffer.alloc(4 * MIB);
      for (let round = 0; round < 12; round += 1) {
        expected.set(half(round + 1, SLOTS), (round % 5) * SLAB_BYTES);
        void volume.write((round % 5) * SLAB_BYTES, half(round + 1, SLOTS), false);
        await machine.process.sleep(round / 2);
        await Promise.all([volume.setCompression(round % 2 === 0 ? 'lz4' : 'none'), volume.setDurability(round % 3 === 0 ? 'strict' : 'batched')]);
      }
      await machine.process.sleep(500);
      expect(await readManifest(machine.env.files, '/v')).toMatchObject({ compression: 'none', durability: 'batched' });
      expect((await readAll(volume)).equals(expected)).toBe(true);
      await volume.close();
      const again = await machine.open('/v');
      expect((await readAll(again)).equals(expected)).toBe(true);
      await again.close();
    }, settings);
  });

  test('makes compaction look again at chunks that were not worth it', async () => {
    const settings = smallSettings({ flushIntervalMs: AGE_MS, compactLivePercent: 60, compactPauseMs: PAUSE_MS, compactBytesPerSecond: 64 * MIB, checkpointIntervalMs: 2 * PAUSE_MS });
    await withVolume(
      async (machine, volume) => {
        const expected = Buffer.alloc(4 * MIB);
        for (let chunk = 0; chunk < 16; chunk += 1) {
          await volume.write(chunk * SLAB_BYTES, half(chunk + 1, SLOTS), false);
          expected.set(half(chunk + 1, SLOTS).subarray(0, 8 * BLOCK_BYTES), chunk * SLAB_BYTES);
        }
        await machine.process.sleep(4 * AGE_MS);
        await volume.setCompression('none');
        for (let chunk = 0; chunk < 16; chunk += 1) await volume.trim(chunk * SLAB_BYTES + 8 * BLOCK_BYTES, 8 * BLOCK_BYTES, false);
        await machine.process.sleep(20 * PAUSE_MS);
        expect(volume.stats().compactions, 'copies as they are would take what they give back').toBe(0);
        await volume.setCompression('lz4');
        await machine.process.sleep(20 * PAUSE_MS);
        const { compactions, storedChunkBytes, liveStoredBytes } = volume.stats();
        expect(compactions).toBeGreaterThan(0);
        expect(storedChunkBytes / liveStoredBytes).toBeLessThan(1.4);
        const calls = machine.calls.length;
        await machine.process.sleep(100 * PAUSE_MS);
        expect(machine.calls.length, 'it has come to an end').toBe(calls);
        expect((await readAll(volume)).equals(expected)).toBe(true);
        await volume.close();
      },
      settings,
      'lz4',
    );
  });

  test('while a chunk of copies is gathered, judges them by what they will be', async () => {
    const settings = smallSettings({ flushIntervalMs: AGE_MS, compactLivePercent: 60, compactPauseMs: PAUSE_MS, compactBytesPerSecond: 64 * MIB });
    await withVolume(
      async (machine, volume) => {
        for (let chunk = 0; chunk < 16; chunk += 1) await volume.write(chunk * SLAB_BYTES, half(chunk + 1, SLOTS), false);
        await machine.process.sleep(4 * AGE_MS);
        for (let chunk = 0; chunk < 16; chunk += 1) await volume.trim(chunk * SLAB_BYTES + 8 * BLOCK_BYTES, 8 * BLOCK_BYTES, false);
        let changed: Promise<void> | null = null;
        machine.fault = (call) => {
          if (call.kind !== 'read' || !call.path.includes('/chunks/') || changed !== null) return null;
          changed = volume.setCompression('none');
          return { kind: 'slow', delayMs: 50 };
        };
        await machine.process.sleep(20 * PAUSE_MS);
        expect(changed, 'it was gathering').not.toBeNull();
        expect(volume.stats()).toMatchObject({ compactions: 0, compactionBytes: 0 });
        await volume.close();
      },
      smallSettings({ ...settings, arenaBytes: settings.dirtyBytes + SLAB_BYTES }),
      'lz4',
    );
  });

  test('leaves it as it was when the disk is full, and ends the volume when the manifest may or may not be written', async () => {
    await withVolume(async (machine, volume) => {
      machine.fault = (call) => (call.path.includes('manifest') && call.kind === 'write' ? { kind: 'error', code: 'ENOSPC' } : null);
      await expect(volume.setCompression('lz4')).rejects.toMatchObject({ code: 'no-space' });
      expect([volume.compression, await onDisk(machine), volume.failure]).toEqual(['default', 'default', null]);
      machine.fault = (call) => (call.kind === 'sync' && call.path.includes('manifest') ? { kind: 'error', code: 'EIO' } : null);
      await volume.setCompression('default'); // nothing to write
      await expect(volume.setCompression('lz4')).rejects.toMatchObject({ code: 'io-error' });
      expect([volume.failure?.code, volume.compression]).toEqual(['io-error', 'default']);
      await expect(volume.setCompression('default')).rejects.toMatchObject({ code: 'io-error' });
    });
  });

  test('is refused by a volume that is closed', async () => {
    await withVolume(async (_machine, volume) => {
      await volume.close();
      await expect(volume.setCompression('lz4')).rejects.toMatchObject({ code: 'closed' });
    });
  });
});

test('a crash at any call of a change, and of the first chunks behind it, leaves the one or the other, and every block', async () => {
  const blocks = half(1, 2 * SLOTS);
  let crashed = true;
  for (let at = 1; crashed; at += 1) {
    expect(at).toBeLessThan(200);
    for (const when of ['before', 'during', 'after'] as const) {
      await withVolume(async (machine, volume) => {
        await volume.write(0, blocks, true);
        const first = machine.calls.length;
        machine.fault = () => (machine.calls.length === first + at ? { kind: 'crash', when } : null);
        let answered = false;
        const work = (async (): Promise<void> => {
          await volume.setCompression('lz4');
          answered = true;
          await volume.close();
        })();
        await Promise.race([work, machine.process.death]);
        crashed = !machine.process.alive;
        machine.fault = () => null;
        machine.process.die();
        machine.disk.cutPower(NOTHING_KEPT);
        machine.restart();
        expect(answered ? ['lz4'] : ['default', 'lz4']).toContain(await onDisk(machine));
        const again = await machine.open('/v');
        expect((await readAll(again)).subarray(0, blocks.length).equals(blocks), `call ${at} ${when}`).toBe(true);
        await again.close();
      }, smallSettings({ flushIntervalMs: 60_000 }));
    }
  }
});

test('a crash at any call of a change of a closed volume leaves the one or the other, and all that only its log has', async () => {
  const blocks = half(1, SLOTS);
  let crashed = true;
  for (let at = 1; crashed; at += 1) {
    expect(at).toBeLessThan(200);
    for (const when of ['before', 'during', 'after'] as const) {
      await withVolume(async (machine, volume) => {
        await volume.write(0, blocks, true);
        machine.restart();
        const options = { env: machine.env, directory: '/v', name: 'v', settings: machine.settings, arena: smallArena(machine.settings) };
        const first = machine.calls.length;
        machine.fault = () => (machine.calls.length === first + at ? { kind: 'crash', when } : null);
        const answered = await Promise.race([changeCompressionOffline(options, 'lz4').then(() => true), machine.process.death.then(() => false, () => false)]);
        crashed = !machine.process.alive;
        expect(crashed || answered).toBe(true);
        machine.fault = () => null;
        machine.process.die();
        machine.disk.cutPower(NOTHING_KEPT);
        machine.restart();
        expect(answered ? ['lz4'] : ['default', 'lz4']).toContain(await onDisk(machine));
        const again = await machine.open('/v');
        expect((await readAll(again)).subarray(0, blocks.length).equals(blocks), `call ${at} ${when}`).toBe(true);
        await again.close();
      }, smallSettings({ flushIntervalMs: 60_000 }));
    }
  }
});

describe('a set of volumes', () => {
  const CREATE = { sizeBytes: MIB, blockSizeBytes: BLOCK_BYTES, durability: 'batched' } as const;

  async function withSet(use: (machine: SimMachine, set: VolumeSet) => Promise<void>): Promise<void> {
    const machine = new SimMachine(smallSettings({ arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB, idleCloseMs: 100, chunkCompress: 'lz4' }));
    machine.disk.makeDirectory('/data');
    await machine.run(async () => {
      const set = new VolumeSet({ env: machine.env, directory: '/data', settings: machine.settings });
      await set.create('a', CREATE);
      await use(machine, set);
      await set.close();
    });
  }

  test('changes a volume that is closed, without opening it, and says what becomes of new chunks', async () => {
    await withSet(async (_machine, set) => {
      for (const [compression, chunkCompress] of [['none', 'off'], ['lz4', 'lz4'], ['default', 'lz4']] as const) {
        expect(await set.setCompression('a', compression)).toBe(chunkCompress);
        expect(await set.describe('a')).toMatchObject({ compression, chunkCompress, epoch: 0, open: false });
      }
      await set.create('b', { ...CREATE, compression: 'none' });
      expect(await set.describe('b')).toMatchObject({ compression: 'none', chunkCompress: 'off' });
      await expect(set.setCompression('c', 'lz4')).rejects.toMatchObject({ code: 'not-found' });
    });
  });

  test('changes one that is open here, lets it close in its time, and knows what its chunks take then', async () => {
    await withSet(async (machine, set) => {
      const volume = await set.acquireVolume('a');
      await volume.write(0, half(1, SLOTS), false);
      await set.setCompression('a', 'lz4');
      set.release(volume);
      await machine.process.sleep(500);
      expect(await set.describe('a')).toMatchObject({ compression: 'lz4', open: false });
      const { space = null } = (await set.probe('a')) ?? {};
      expect(space).toMatchObject({ liveBytes: SLAB_BYTES });
      expect(space?.compressionRatio).toBeGreaterThan(1.5);
    });
  });

  test('refuses one that another process has, that is being repaired, or that is damaged, and changes nothing of it', async () => {
    await withSet(async (machine, set) => {
      const lock = await machine.env.files.lock('/data/a/lock');
      await expect(set.setCompression('a', 'lz4')).rejects.toThrow(/open in another process; change it there/);
      await lock?.release();
      machine.disk.createFile('/data/a/repairing');
      await expect(set.setCompression('a', 'lz4')).rejects.toMatchObject({ code: 'corrupt' });
      await machine.env.files.remove('/data/a/repairing');
      await machine.env.files.remove('/data/a/log/00.log');
      const before = machine.bytesOf('/data/a/manifest');
      await expect(set.setCompression('a', 'lz4')).rejects.toMatchObject({ code: 'corrupt', message: text(/00\.log is missing.*basalt repair a/u) });
      expect(machine.bytesOf('/data/a/manifest').equals(before)).toBe(true);
      expect(machine.names('/data/a')).not.toContain('manifest-copy');
    });
  });
});

function isBuildJob(job: unknown): job is BuildChunkJob {
  return typeof job === 'object' && job !== null && 'vainTries' in job;
}

/** Noise into which zeroes are strewn: too few of them for LZ4. */
function nearlyNoise(seed: number): Buffer {
  const bytes = Buffer.from(pattern(seed, SLAB_BYTES / BLOCK_BYTES));
  for (let at = 0; at < bytes.length; at += 512) bytes.fill(0, at + 64, at + 88);
  return bytes;
}

test('a chunk is built with what those before it found of data that is nearly noise', async () => {
  await withVolume(
    async (machine, volume) => {
      const run = vi.spyOn(machine.env.workers, 'run');
      for (let slab = 0; slab < 12; slab += 1) {
        await volume.write(slab * SLAB_BYTES, nearlyNoise(slab + 1), false);
        await machine.process.sleep(10 * AGE_MS);
      }
      const found = run.mock.calls.map(([, job]) => job).filter(isBuildJob).map(({ vainTries }) => vainTries.inVain);
      expect([found.length, found[0]]).toEqual([12, 0]);
      expect(found).toEqual(found.toSorted((a, b) => a - b));
      // Of two frames a chunk; most of them are noise by their samples.
      expect(found[11]).toBeGreaterThan(4);
      expect(await readAll(volume)).toEqual(Buffer.concat([...Array.from({ length: 12 }, (_, slab) => nearlyNoise(slab + 1)), Buffer.alloc(4 * MIB - 12 * SLAB_BYTES)]));
      await volume.close();
    },
    smallSettings({ flushIntervalMs: AGE_MS, chunkCompress: 'lz4' }),
  );
});
