/** Scrubbing what is not a chunk: the manifest, the checkpoint's pages, and whether block map, catalogue and chunks fit together. */
import { beforeAll, describe, expect, test } from 'vitest';
import { SerialQueue } from '../../src/base/async.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { PAGE_MAGIC } from '../../src/format/checkpoint-layout.ts';
import { type Manifest, decodeManifest, encodeManifest } from '../../src/format/manifest.ts';
import { checkVolume } from '../../src/volume/check.ts';
import { openForServing } from '../../src/volume/open-read-only.ts';
import { loadForReading } from '../../src/volume/probe-volume.ts';
import { scrubClosed } from '../../src/volume/scrub-closed.ts';
import { type ScrubUpkeep, scrubOpen } from '../../src/volume/scrub.ts';
import type { VolumeCore } from '../../src/volume/volume-core.ts';
import { readManifest } from '../../src/volume/volume-files.ts';
import type { ScrubReport } from '../../src/volume/volume-info.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { type VolumeFiles, digests, fileOf, flipped, machineWith, sampleFiles, toolOptions, withFile } from '../support/damaged-volumes.ts';
import { BLOCK_BYTES, SimMachine, pattern, smallArena, smallSettings } from '../support/engine-harness.ts';
import { SAMPLE_SETTINGS } from '../support/make-sample.ts';
import { text } from '../support/text.ts';

const BLOCKS = 64;
const NO_STOP = new AbortController().signal;
const CHECKPOINT = '/v/checkpoints/k0000000001-e000001';

function quick(bytesPerSecond = 64 * MIB) {
  return { bytesPerSecond, onProgress: () => undefined, signal: NO_STOP };
}

/** A volume in chunks and one checkpoint, opened anew: of the block map only nodes and catalogue are in memory. */
async function filled(machine: SimMachine): Promise<Volume> {
  await machine.create('/v');
  const first = await machine.open('/v');
  await first.write(0, pattern(1, BLOCKS), false);
  await first.close();
  return machine.open('/v');
}

function rot(machine: SimMachine, path: string, at: number): void {
  machine.disk.write(machine.disk.findFile(path), flipped(machine.bytesOf(path), at), 0);
}

async function firstBlock(volume: Pick<Volume, 'read'>): Promise<Buffer> {
  const target = Buffer.alloc(BLOCK_BYTES);
  await volume.read(0, target);
  return target;
}

async function isClean(machine: SimMachine): Promise<boolean> {
  const report = await checkVolume({ env: machine.env, name: 'v', directory: '/v', settings: machine.settings, onProgress: () => undefined, deep: true });
  return report.isClean;
}

describe('of an open volume a scrub', () => {
  test.each<readonly [string, (file: Buffer) => number]>([
    ['the header', () => 20],
    ['a leaf', (file) => file.indexOf(PAGE_MAGIC.LEAF) + 20],
    ['a node', (file) => file.indexOf(PAGE_MAGIC.NODE) + 20],
    ['a page of the catalogue', (file) => file.indexOf(PAGE_MAGIC.CATALOGUE) + 20],
    ['the root', (file) => file.indexOf(PAGE_MAGIC.ROOT) + 20],
    ['the footer', (file) => file.length - 10],
  ])('names %s that is rotten and in memory, and writes it anew', async (_, at) => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await filled(machine);
      await firstBlock(volume);
      rot(machine, CHECKPOINT, at(machine.bytesOf(CHECKPOINT)));
      const report = await volume.scrub(quick());
      expect(report).toMatchObject({ isClean: false, rottenCount: 1, rewrittenCount: 1 });
      expect(report.rotten).toEqual([{ file: CHECKPOINT.slice('/v/'.length), chunk: null, blockNumber: null, offsetBytes: report.rotten[0].offsetBytes, problem: text(/expected/u), inUse: true, rewritten: 1 }]);
      expect(await volume.scrub(quick())).toMatchObject({ isClean: true, chunks: 4, mappedBlocks: BLOCKS });
      expect(volume.stats()).toMatchObject({ rottenFound: 1, rottenRewritten: 1 });
      await volume.close();
      expect(await isClean(machine)).toBe(true);
    });
  });

  test('names a leaf that is rotten and not in memory, by file and byte', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await filled(machine);
      const at = machine.bytesOf(CHECKPOINT).indexOf(PAGE_MAGIC.LEAF);
      rot(machine, CHECKPOINT, at + 20);
      const report = await volume.scrub(quick());
      expect(report.rotten).toMatchObject([{ file: CHECKPOINT.slice('/v/'.length), offsetBytes: at, problem: text(/^page checksum [0-9a-f]{8}, expected [0-9a-f]{8}, at byte 96$/u), rewritten: 0 }]);
      expect(report.mappedBlocks).toBe(0);
      // Nothing needs it: the stop succeeds.
      await volume.close();
      expect(await isClean(machine)).toBe(false);
    });
  });

  test('writes a rotten manifest anew, and one that is missing', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await filled(machine);
      rot(machine, '/v/manifest', 50);
      expect((await volume.scrub(quick())).rotten).toMatchObject([{ file: 'manifest', chunk: null, problem: text('checksum'), rewritten: 1 }]);
      await machine.env.files.remove('/v/manifest');
      expect((await volume.scrub(quick())).rotten).toMatchObject([{ file: 'manifest', problem: text('is missing'), rewritten: 1 }]);
      expect(await volume.scrub(quick())).toMatchObject({ isClean: true });
      await volume.close();
      expect(await isClean(machine)).toBe(true);
    });
  });

  // A simulated disk found it (seed 907466).
  test('takes the manifest over which the volume has failed for no rot, and tells of any other', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await filled(machine);
      const older = machine.bytesOf('/v/manifest');
      machine.fault = (call) => (call.kind === 'sync-directory' && call.path === '/v' ? { kind: 'error', code: 'EIO' } : null);
      await expect(volume.setDurability('strict')).rejects.toMatchObject({ code: 'failed' });
      machine.fault = () => null;
      const inDoubt = machine.bytesOf('/v/manifest');
      expect(decodeManifest(inDoubt, 'manifest').durability).toBe('strict');
      expect(await volume.scrub(quick())).toMatchObject({ isClean: true });
      // What was there before may be there as well.
      machine.disk.write(machine.disk.findFile('/v/manifest'), older, 0);
      expect(await volume.scrub(quick())).toMatchObject({ isClean: true });
      const other = encodeManifest({ ...decodeManifest(inDoubt, 'manifest'), durability: 'async' });
      machine.disk.write(machine.disk.findFile('/v/manifest'), other, 0);
      expect((await volume.scrub(quick())).rotten).toMatchObject([{ file: 'manifest', problem: text('is another one than this volume has'), rewritten: 0 }]);
      await volume.close().catch(() => undefined); // it has failed
    });
  });

  test.each<readonly [string, (manifest: Manifest) => Manifest, number]>([
    ['an older manifest is replaced', (manifest) => ({ ...manifest, epoch: manifest.epoch - 1 }), 1],
    ['a newer manifest is left to whoever wrote it', (manifest) => ({ ...manifest, epoch: manifest.epoch + 1 }), 0],
    ['the manifest of another volume is left', (manifest) => ({ ...manifest, volumeId: new Uint8Array(16) }), 0],
  ])('tells: %s', async (_, change, rewritten) => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await filled(machine);
      const other = encodeManifest(change(decodeManifest(machine.bytesOf('/v/manifest'), 'manifest')));
      machine.disk.write(machine.disk.findFile('/v/manifest'), other, 0);
      expect((await volume.scrub(quick())).rotten).toMatchObject([{ file: 'manifest', problem: text('is another one than this volume has'), rewritten }]);
      expect(machine.bytesOf('/v/manifest').equals(other)).toBe(rewritten === 0);
      await volume.close();
    });
  });

  test('takes no change for rot: writes, trims, commits, checkpoints and removals go on beside it', async () => {
    const machine = new SimMachine(smallSettings({ checkpointChunks: 2, flushIntervalMs: 5, indexBytes: 10 * KIB, compactLivePercent: 50, compactPauseMs: 5 }));
    await machine.run(async () => {
      await machine.create('/v', { sizeBytes: 64 * MIB });
      const volume = await machine.open('/v');
      let isDone = false;
      let next = 0;
      const work = async (): Promise<void> => {
        while (!isDone) {
          next += 1;
          const block = (next * 389) % 16_000;
          if (next % 7 === 0) await volume.trim(block * BLOCK_BYTES, 40 * BLOCK_BYTES, false);
          else await volume.write(block * BLOCK_BYTES, pattern(next, 3), false);
          await machine.process.sleep(2);
        }
      };
      const working = work();
      await machine.process.sleep(500);
      const before = volume.stats();
      // Changes come between any two pages of the map.
      machine.fault = (call) => (call.kind === 'read' && call.path.includes('/checkpoints/') ? { kind: 'slow', delayMs: 20 } : null);
      const reports: ScrubReport[] = [];
      for (const rate of [8 * MIB, 16 * MIB, 64 * MIB]) reports.push(await volume.scrub(quick(rate)));
      isDone = true;
      await working;
      expect(volume.stats().checkpoints).toBeGreaterThan(before.checkpoints + 10);
      expect(volume.stats().chunksRemoved).toBeGreaterThan(before.chunksRemoved);
      expect(reports.flatMap(({ rotten }) => rotten)).toEqual([]);
      expect(reports[0].mappedBlocks).toBeGreaterThan(100);
      await volume.close();
    });
  });

  const NOBODY: ScrubUpkeep = {
    device: { writeNow: () => 'partial', submit: () => undefined, whenAdmitting: () => Promise.resolve() },
    flusher: { serial: new SerialQueue() },
    checkpointer: { rewrite: () => undefined, run: () => Promise.resolve() },
  };

  test.each<readonly [string, (core: VolumeCore) => void, readonly string[]]>([
    [
      'a live count that is wrong',
      ({ catalogue }) => {
        for (const page of catalogue.pages()) page.liveBlocks[2] -= 1;
      },
      ['the catalogue says that chunk 2 has 15 live blocks, the block map refers to 16', '15 blocks are mapped to it; 16 of its slots hold the block that is mapped to them'],
    ],
    [
      'a chunk that does not exist',
      ({ map }) => map.place(5, 1, 99, 0),
      ['block 5 is mapped to chunk 99, which the catalogue does not know'],
    ],
    [
      'a slot that does not exist',
      ({ map, catalogue }) => {
        map.place(5, 1, 1, 40);
        for (const page of catalogue.pages()) page.liveBlocks[1] += 1;
      },
      ['block 5 is mapped to slot 40 of chunk 1, which has 16', '16 blocks are mapped to it; 15 of its slots hold the block that is mapped to them'],
    ],
    [
      'a slot of another block',
      ({ map, catalogue }) => {
        map.place(5, 1, 1, 7);
        for (const page of catalogue.pages()) page.liveBlocks[1] += 1;
      },
      ['16 blocks are mapped to it; 15 of its slots hold the block that is mapped to them'],
    ],
  ])('tells of %s', async (_, spoil, problems) => {
    const machine = new SimMachine();
    await machine.run(async () => {
      await (await filled(machine)).close();
      const options = { env: machine.env, directory: '/v', name: 'v', settings: machine.settings, arena: smallArena(machine.settings) };
      const core = await loadForReading(options, await readManifest(machine.env.files, '/v'), () => undefined, () => Promise.resolve());
      await core.map.load(0);
      spoil(core);
      expect((await scrubOpen(core, NOBODY, quick())).rotten.map(({ problem }) => problem)).toEqual(problems);
    });
  });
});

describe('of a volume whose files stand still a scrub', () => {
  /** A tool makes its own arena, of whole slabs. */
  const TOOL_SETTINGS = { ...SAMPLE_SETTINGS, arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB };
  const NEWEST = 'checkpoints/k0000000001-e000001';
  let sample: VolumeFiles;
  beforeAll(async () => {
    sample = await sampleFiles();
  });

  async function scrubbed(files: VolumeFiles): Promise<ScrubReport> {
    const machine = machineWith(files);
    const report = await machine.run(() => scrubClosed({ ...toolOptions(machine), settings: TOOL_SETTINGS, ...quick() }));
    expect(digests(machine.snapshot('/v'))).toEqual(digests(files));
    return report;
  }

  test('counts pages and references, and finds each kind of page that is rotten', async () => {
    const whole = await scrubbed(sample);
    expect(whole).toMatchObject({ isClean: true });
    expect([whole.pages >= 4, whole.mappedBlocks > 0]).toEqual([true, true]);
    const file = fileOf(sample, NEWEST);
    for (const magic of Object.values(PAGE_MAGIC)) {
      const { rotten } = await scrubbed(withFile(sample, NEWEST, flipped(file, file.indexOf(magic) + 20)));
      expect(rotten).toMatchObject([{ file: NEWEST, chunk: null, offsetBytes: file.indexOf(magic), problem: text('page checksum') }]);
    }
  });

  test('misses a chunk that is not there', async () => {
    const name = 'chunks/c0000000001-e000001';
    expect((await scrubbed(withFile(sample, name, null))).rotten).toMatchObject([{ file: name, problem: 'is missing', inUse: null }]);
  });

  test('that is open for reading alone looks at the same', async () => {
    const file = fileOf(sample, NEWEST);
    const machine = machineWith(withFile(sample, NEWEST, flipped(file, file.indexOf(PAGE_MAGIC.NODE) + 20)));
    await machine.run(async () => {
      const volume = await openForServing({ env: machine.env, directory: '/v', name: 'v', settings: SAMPLE_SETTINGS, arena: smallArena(SAMPLE_SETTINGS) });
      expect(volume.readOnly).toBe(true);
      expect(await volume.scrub(quick())).toMatchObject({ chunks: 3, rottenCount: 1, rewrittenCount: 0, rotten: [{ file: NEWEST, chunk: null }] });
      await volume.close();
    });
  });
});
