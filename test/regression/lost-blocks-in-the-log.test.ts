/**
 * Blocks that no sound chunk has, while the log still has the records that wrote them: `repair` declared them lost, and the log was used
 * again over them. What it must not do is take an older version of a block for its last one.
 */
import { describe, expect, test } from 'vitest';
import { KIB } from '../../src/base/units.ts';
import { checkVolume } from '../../src/volume/check.ts';
import { openForServing } from '../../src/volume/open-read-only.ts';
import { type RepairReport, repairVolume } from '../../src/volume/repair.ts';
import { flipped, toolOptions, type VolumeFiles, withFile } from '../support/damaged-volumes.ts';
import { BLOCK_BYTES, SimMachine, pattern, smallArena, smallSettings } from '../support/engine-harness.ts';
import type { Volume } from '../../src/volume/volume.ts';

const LOG = 'log/00.log';
const SETTINGS = smallSettings({ logFileBytes: 64 * KIB, logFileCount: 8 });
const RECORD_MAGIC = 'BLR1';

async function session(machine: SimMachine, use: (volume: Volume) => Promise<void>): Promise<void> {
  const volume = await machine.open('/v');
  await use(volume);
  await volume.close();
}

type Use = (volume: Volume) => Promise<void>;

/** The files of a volume of which all processes but the last were killed, and that was closed then. */
async function filesAfter(...lives: readonly Use[]): Promise<VolumeFiles> {
  const machine = new SimMachine(SETTINGS);
  await machine.run(async () => {
    await machine.create('/v');
    for (const use of lives.slice(0, -1)) {
      await use(await machine.open('/v'));
      machine.restart();
    }
    await session(machine, lives[lives.length - 1]);
  });
  return machine.snapshot('/v');
}

function write(block: number, seed: number): Use {
  return (volume) => volume.write(block * BLOCK_BYTES, pattern(seed), false);
}

const nothing: Use = () => Promise.resolve();
const flush: Use = (volume) => volume.flush();

function all(...uses: readonly Use[]): Use {
  return async (volume) => {
    for (const use of uses) await use(volume);
  };
}

function withoutChunks(files: VolumeFiles): VolumeFiles {
  return new Map([...files].filter(([name]) => !name.startsWith('chunks/')));
}

function chunkOf(files: VolumeFiles): string {
  return [...files.keys()].find((name) => name.startsWith('chunks/')) ?? '';
}

function machineOf(files: VolumeFiles): SimMachine {
  const machine = new SimMachine(SETTINGS);
  machine.load('/v', files);
  return machine;
}

function repair(machine: SimMachine, apply = true): Promise<RepairReport> {
  return repairVolume({ ...toolOptions(machine), settings: SETTINGS, apply, uncertain: null });
}

/** The repair's report; then the volume is sound, and the seeds of the patterns that its first blocks have; -1: cannot be read, 0: zeroes. */
async function repaired(files: VolumeFiles, blocks = 3): Promise<{ report: RepairReport; seeds: number[] }> {
  const machine = machineOf(files);
  return machine.run(async () => {
    const report = await repair(machine);
    const seeds: number[] = [];
    await session(machine, async (volume) => {
      for (let block = 0; block < blocks; block += 1) seeds.push(await seedOf(volume, block));
    });
    const { findings } = await checkVolume({ ...toolOptions(machine), settings: SETTINGS, deep: true });
    expect(findings.filter(({ needsRepair }) => needsRepair)).toEqual([]);
    return { report, seeds };
  });
}

async function seedOf(volume: Volume, block: number): Promise<number> {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  const failed = await volume.read(block * BLOCK_BYTES, bytes).then(
    () => false,
    () => true,
  );
  if (failed) return -1;
  for (let seed = 1; seed < 40; seed += 1) if (bytes.equals(pattern(seed))) return seed;
  expect(bytes.every((byte) => byte === 0)).toBe(true);
  return 0;
}

/** Where the records of the log's first file begin. */
function recordsOf(files: VolumeFiles): number[] {
  const bytes = files.get(LOG) ?? Buffer.alloc(0);
  const found: number[] = [];
  for (let at = bytes.indexOf(RECORD_MAGIC); at >= 0; at = bytes.indexOf(RECORD_MAGIC, at + 1)) found.push(at);
  return found;
}

function damaged(files: VolumeFiles, name: string, at: number): VolumeFiles {
  return withFile(files, name, flipped(files.get(name) ?? Buffer.alloc(0), at));
}


/** Blocks 0 to 2 are written, the first one twice. */
const THREE_BLOCKS = all(write(0, 1), write(1, 2), write(2, 4), write(0, 3));
const ALL_BACK = { state: 'repaired', lost: [], restored: [{ blockNumber: 0, blockCount: 3 }] };

describe('the blocks of a missing chunk', () => {
  test('come back from the log that still has their records, and the plan says which', async () => {
    const files = withoutChunks(await filesAfter(THREE_BLOCKS));
    const machine = machineOf(files);
    const plan = await machine.run(() => repair(machine, false));
    expect(plan).toMatchObject({ ...ALL_BACK, state: 'planned' });
    expect(plan.steps.join('\n')).toContain('bring 3 blocks back that no chunk has whole: the log still has their last versions: blocks 0 to 2');
    const { report, seeds } = await repaired(files);
    expect({ report, seeds }).toMatchObject({ report: ALL_BACK, seeds: [3, 2, 4] });
  });

  test('come back from several lives of the log, with openings in between that wrote nothing', async () => {
    const files = withoutChunks(await filesAfter(all(write(0, 1), write(1, 2), flush), nothing, nothing, all(write(2, 4), write(0, 3), flush), nothing));
    const { report, seeds } = await repaired(files);
    expect({ report, seeds }).toMatchObject({ report: ALL_BACK, seeds: [3, 2, 4] });
  });

  test('can be read before the repair, too', async () => {
    const machine = machineOf(withoutChunks(await filesAfter(THREE_BLOCKS)));
    await machine.run(async () => {
      const volume = await openForServing({ ...toolOptions(machine), settings: SETTINGS, arena: smallArena(SETTINGS) });
      const found = Buffer.alloc(BLOCK_BYTES);
      await volume.read(0, found);
      expect(found.equals(pattern(3))).toBe(true);
      await volume.close();
    });
  });

  test('stay lost where the record of the last version is gone: an older one is not taken for it', async () => {
    const files = await filesAfter(THREE_BLOCKS);
    const { report, seeds } = await repaired(damaged(withoutChunks(files), LOG, recordsOf(files)[3] + 5));
    expect({ report, seeds }).toMatchObject({ report: { lost: [{ blockNumber: 0, blockCount: 3 }], restored: [] }, seeds: [-1, -1, -1] });
  });

  test('stay lost alone where the data of the last version is damaged', async () => {
    const files = await filesAfter(THREE_BLOCKS);
    const { report, seeds } = await repaired(damaged(withoutChunks(files), LOG, recordsOf(files)[3] + 500));
    expect({ report, seeds }).toMatchObject({ report: { lost: [{ blockNumber: 0, blockCount: 1 }], restored: [{ blockNumber: 1, blockCount: 2 }] }, seeds: [-1, 2, 4] });
  });

  test('come back as far as they were written behind a gap of the log', async () => {
    const files = await filesAfter(THREE_BLOCKS);
    const { report, seeds } = await repaired(damaged(withoutChunks(files), LOG, recordsOf(files)[0] + 5));
    expect({ report, seeds }).toMatchObject({ report: ALL_BACK, seeds: [3, 2, 4] });
    const later = await repaired(damaged(withoutChunks(files), LOG, recordsOf(files)[1] + 5));
    expect(later).toMatchObject({ report: { lost: [{ blockNumber: 1, blockCount: 1 }] }, seeds: [3, -1, 4] });
  });
});

describe('a rotten block', () => {
  test('comes back from the log, and the advice of check says how', async () => {
    const files = await filesAfter(THREE_BLOCKS);
    const rotten = damaged(files, chunkOf(files), BLOCK_BYTES + 100);
    const machine = machineOf(rotten);
    await machine.run(async () => {
      const { findings, lost } = await checkVolume({ ...toolOptions(machine), settings: SETTINGS, deep: true });
      expect({ findings, lost }).toMatchObject({ findings: [{ advice: 'run: basalt repair v', needsRepair: true, lost: [] }], lost: [] });
    });
    const { report, seeds } = await repaired(rotten);
    expect({ report, seeds }).toMatchObject({ report: { lost: [], restored: [{ blockNumber: 0, blockCount: 1 }] }, seeds: [3, 2, 4] });
  });

  test('is not replaced by a record that contradicts the table of its chunk', async () => {
    const files = await filesAfter(THREE_BLOCKS);
    const other = await filesAfter(all(write(0, 9), write(1, 2), write(2, 4), write(0, 8)));
    const rotten = withFile(damaged(files, chunkOf(files), BLOCK_BYTES + 100), LOG, other.get(LOG) ?? null);
    const { report, seeds } = await repaired(rotten);
    expect({ report, seeds }).toMatchObject({ report: { state: 'sound' }, seeds: [-1, 2, 4] });
  });
});

/**
 * Records that were cut off, up to the very LSN at which the volume stands now, in a file that was not used again; what was written in
 * their places is in no file of the log any more.
 */
async function withDeadEnd(): Promise<VolumeFiles> {
  const machine = new SimMachine(SETTINGS);
  await machine.run(async () => {
    await machine.create('/v');
    const first = await machine.open('/v');
    // Three files of the log; block 0 is in the third.
    for (let block = 0; block < 40; block += 1) await first.write((block + 10) * BLOCK_BYTES, pattern(5), false);
    await first.write(0, pattern(6), false);
    const dead = first.lastLsn;
    machine.restart();
    const files = machine.snapshot('/v');
    const torn = recordsOf(files).at(-1) ?? 0;
    machine.disk.write(machine.disk.findFile(`/v/${LOG}`), Buffer.alloc(8), torn + 8);
    const second = await machine.open('/v');
    await second.write(0, pattern(7), false);
    while (second.lastLsn < dead) await second.trim(10 * BLOCK_BYTES, BLOCK_BYTES, false);
    await second.close();
    await session(machine, nothing);
  });
  return withFile(withoutChunks(machine.snapshot('/v')), 'log/01.log', Buffer.alloc(0));
}

test('records that were cut off do not count, though they end where the volume ends now', async () => {
  const { seeds } = await repaired(await withDeadEnd(), 1);
  expect(seeds).toEqual([-1]);
});
