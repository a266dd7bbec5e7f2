/** Repairing a damaged volume: what it brings back, what it gives up and says so, and that it can be killed anywhere. */
import { beforeAll, describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import type { RepairReport } from '../../src/volume/repair.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { type VolumeFiles, check, digests, fileOf, filesAfter, flipped, machineWith, makeDurable, readContent, repair, sampleFiles, tryOpen, withFile } from '../support/damaged-volumes.ts';
import { BLOCK_BYTES, type SimMachine, pattern } from '../support/engine-harness.ts';
import { sampleStates } from '../support/make-sample.ts';
import { text } from '../support/text.ts';

const CHECKPOINT = 'checkpoints/k0000000001-e000001';
const FIRST_CHUNK = 'chunks/c0000000001-e000001';
const SECOND_CHUNK = 'chunks/c0000000002-e000002';
const LOG = 'log/00.log';
const STATES = sampleStates('chunked');
const NEWEST = STATES.length - 1;
/** Within the last leaf of the sample's checkpoint, its only one. */
const IN_LEAF = 100;

let sample: VolumeFiles;
beforeAll(async () => {
  sample = await sampleFiles();
});

function damaged(name: string, at: number): VolumeFiles {
  return withFile(sample, name, flipped(fileOf(sample, name), at));
}

/** Log records of the sample are cut off somewhere in the middle of what was synced. */
function damagedLog(): VolumeFiles {
  const bytes = fileOf(sample, LOG);
  // The second of the records that only the log has; the ones behind it say that it had been synced.
  const zeroRecord = bytes.lastIndexOf('BLR1', bytes.lastIndexOf('BLR1', bytes.lastIndexOf('BLR1') - 1) - 1);
  return damaged(LOG, zeroRecord + 20);
}

async function opened<T>(machine: SimMachine, use: (volume: Volume) => Promise<T>): Promise<T> {
  const volume = await machine.open('/v');
  try {
    return await use(volume);
  } finally {
    await volume.close();
  }
}

/** What can be read, and which of the states (by number: to compare whole ones takes long) it is. */
async function contentOf(volume: Volume): Promise<{ readonly unreadable: readonly number[]; readonly states: readonly number[] }> {
  const { unreadable, states } = await readContent(volume, STATES);
  return { unreadable, states: states.map((state) => STATES.indexOf(state)) };
}

/** Repairs the files; the report, and what the volume reads then, of which state. */
async function repaired(files: VolumeFiles, machine = machineWith(files)): Promise<{ report: RepairReport; machine: SimMachine; unreadable: readonly number[]; states: readonly number[] }> {
  const { report, content } = await machine.run(async () => {
    const done = await repair(machine);
    return { report: done, content: await opened(machine, contentOf) };
  });
  return { report, machine, ...content };
}

test('of a sound volume says that there is nothing to repair, and changes nothing', async () => {
  const machine = machineWith(sample);
  expect(await machine.run(() => repair(machine))).toMatchObject({ state: 'sound', findings: [], steps: [] });
  expect(digests(machine.snapshot('/v'))).toEqual(digests(sample));
});

test('without the order to apply it only reports: what it would do, what is lost, what it would keep aside', async () => {
  const files = withFile(sample, FIRST_CHUNK, null);
  const machine = machineWith(files);
  const report = await machine.run(() => repair(machine, { apply: false }));
  expect(report).toMatchObject({ state: 'planned', lost: [{ blockNumber: 0, blockCount: 1 }, { blockNumber: 101, blockCount: 1 }], folder: 'kept-aside/1' });
  expect(report.steps.join('\n')).toMatch(/mark 2 blocks as lost; .*: blocks 0, 101/u);
  expect(digests(machine.snapshot('/v'))).toEqual(digests(files));
});

test('a block whose chunk is missing cannot be read until it is written, also after the next checkpoint; all others can', async () => {
  const { machine, unreadable, states } = await repaired(withFile(sample, FIRST_CHUNK, null));
  expect(unreadable).toEqual([0, 101]);
  expect(states).toEqual([NEWEST]);
  await machine.run(async () => {
    await opened(machine, async (volume) => {
      await expect(volume.write(100, pattern(1).subarray(0, 8), false)).rejects.toMatchObject({ code: 'corrupt', message: text('block 0 of volume v was lost') });
      await volume.write(0, pattern(1), false);
    });
    expect(await check(machine)).toMatchObject({ findings: [{ lost: [{ blockNumber: 101, blockCount: 1 }], needsRepair: false }] });
    await opened(machine, async (volume) => {
      const block = new Uint8Array(BLOCK_BYTES);
      await volume.read(0, block);
      expect(Buffer.compare(block, pattern(1))).toBe(0);
      await expect(volume.read(101 * BLOCK_BYTES, block)).rejects.toMatchObject({ code: 'corrupt' });
      await volume.trim(101 * BLOCK_BYTES, BLOCK_BYTES, false);
    });
    expect(await check(machine)).toMatchObject({ isClean: true });
  });
});

describe('nothing is lost when', () => {
  test.each([
    ['the header of the checkpoint is damaged', CHECKPOINT, 20],
    ['a leaf of the block map is damaged', CHECKPOINT, IN_LEAF],
    ['the footer of the checkpoint is damaged, and no chunk was ever removed', CHECKPOINT, 400],
    ['a chunk behind the checkpoint is damaged, and the log still has its records', SECOND_CHUNK, 41],
  ])('%s', async (_, name, at) => {
    const { report, machine, unreadable, states } = await repaired(damaged(name, at));
    expect(report).toMatchObject({ state: 'repaired', lost: [], uncertain: [], setBack: [] });
    expect({ unreadable, states }).toEqual({ unreadable: [], states: [NEWEST] });
    expect(await machine.run(() => check(machine))).toMatchObject({ isClean: true });
  });
});

test('a log with a hole ends before it: what stands behind is kept aside, and what was written there is named', async () => {
  const files = damagedLog();
  const machine = machineWith(files);
  expect(await machine.run(() => tryOpen(machine))).toMatchObject({ code: 'corrupt', message: text('the log is damaged') });
  const { report, machine: after, unreadable, states } = await repaired(files);
  expect(report).toMatchObject({ lost: [], setBack: [{ blockNumber: 8, blockCount: 1 }, { blockNumber: 200, blockCount: 1 }], keptAside: [LOG, 'log/01.log', 'log/02.log'] });
  expect({ unreadable, states }).toEqual({ unreadable: [], states: [1] });
  expect(fileOf(after.snapshot('/v'), `kept-aside/1/${LOG}`).equals(fileOf(files, LOG))).toBe(true);
  expect(fileOf(after.snapshot('/v'), 'kept-aside/1/report.json').toString()).toContain('"setBack"');
});

test('a rotten block in a synced record of the log costs that block alone: what was written later stays', async () => {
  const start = fileOf(sample, LOG).indexOf('in the log, in the log, ');
  const { report, machine, unreadable, states } = await repaired(damaged(LOG, start + 10));
  expect(report).toMatchObject({ lost: [{ blockNumber: 7, blockCount: 1 }], setBack: [], keptAside: [LOG, 'log/01.log', 'log/02.log'] });
  expect({ unreadable, states }).toEqual({ unreadable: [7], states: [NEWEST] });
  expect(await machine.run(() => check(machine))).toMatchObject({ findings: [{ needsRepair: false, lost: [{ blockNumber: 7, blockCount: 1 }] }] });
});

test('a damaged chunk in the chain, whose records the log has no more, ends the history there', async () => {
  const files = withFile(damaged(SECOND_CHUNK, 41), LOG, Buffer.alloc(0));
  const { report, machine, unreadable } = await repaired(files);
  expect(report.setBack).toEqual([{ blockNumber: 2, blockCount: 1 }]);
  expect(unreadable).toEqual([]);
  const kept = machine.snapshot('/v');
  for (const name of [SECOND_CHUNK, 'chunks/c0000000003-e000002']) expect(fileOf(kept, `kept-aside/1/${name}`).equals(fileOf(files, name))).toBe(true);
});

test("a manifest that is another volume's is refused: all files would seem to be damaged", async () => {
  const other = await sampleFiles(2);
  const machine = machineWith(withFile(sample, 'manifest', fileOf(other, 'manifest')));
  const before = digests(machine.snapshot('/v'));
  await expect(machine.run(() => repair(machine))).rejects.toMatchObject({ code: 'corrupt', message: text("it is another volume's") });
  expect(digests(machine.snapshot('/v'))).toEqual(before);
});

test('a second repair keeps its files in a folder of its own', async () => {
  const { machine } = await repaired(withFile(sample, FIRST_CHUNK, null));
  const files = machine.snapshot('/v');
  const checkpoint = [...files.keys()].findLast((name) => name.startsWith('checkpoints/')) ?? '';
  machine.disk.write(machine.disk.findFile(`/v/${checkpoint}`), flipped(fileOf(files, checkpoint), 3), 0);
  const { report } = await repaired(files, machine);
  expect(report).toMatchObject({ state: 'repaired', folder: 'kept-aside/2', keptAside: [checkpoint] });
});

describe('a block that was trimmed, in a chunk that is gone,', () => {
  const TRIMMED = 1;
  let files: VolumeFiles;
  beforeAll(async () => {
    files = await filesAfter(async (machine) => {
      await opened(machine, (volume) => volume.write(0, pattern(1, 3), false));
      await opened(machine, (volume) => volume.trim(TRIMMED * BLOCK_BYTES, BLOCK_BYTES, false));
      await opened(machine, (volume) => volume.write(5 * BLOCK_BYTES, pattern(2), false));
    });
    expect([...files.keys()].filter((name) => name.startsWith('chunks/')), 'the chunk of the trim was removed').toHaveLength(2);
  });

  const newestCheckpoint = (): string => [...files.keys()].findLast((name) => name.startsWith('checkpoints/')) ?? '';
  const changed = (at: (length: number) => number): VolumeFiles => {
    const name = newestCheckpoint();
    return withFile(files, name, flipped(fileOf(files, name), at(fileOf(files, name).length)));
  };
  const readTrimmed = async (machine: SimMachine): Promise<string> => {
    const block = new Uint8Array(BLOCK_BYTES);
    const found = await opened(machine, (volume) => volume.read(TRIMMED * BLOCK_BYTES, block).catch((error: unknown) => (error instanceof VolumeError ? error.code : 'other')));
    if (typeof found === 'string') return found;
    return block.every((byte) => byte === 0) ? 'zeroes' : 'old content';
  };

  test('is uncertain when its leaf is put together again: of three blocks two are live, the catalogue says, and not which', async () => {
    const machine = machineWith(changed(() => 100));
    await machine.run(async () => {
      const report = await repair(machine);
      expect(report).toMatchObject({ uncertain: [{ blockNumber: 0, blockCount: 3 }], lost: [{ blockNumber: 0, blockCount: 3 }] });
      expect(await readTrimmed(machine)).toBe('corrupt');
    });
  });

  test('is uncertain without a catalogue: nothing is done before somebody chooses', async () => {
    const machine = machineWith(changed((length) => length - 3));
    const before = digests(machine.snapshot('/v'));
    const report = await machine.run(() => repair(machine, { uncertain: null }));
    expect(report).toMatchObject({ state: 'choice-needed', uncertain: [{ blockNumber: 0, blockCount: 3 }] });
    expect(digests(machine.snapshot('/v'))).toEqual(before);
  });

  test.each([
    ['lost', 'corrupt'],
    ['restore', 'old content'],
  ] as const)('becomes %s by choice: a read of it gives %s', async (uncertain, found) => {
    const machine = machineWith(changed((length) => length - 3));
    await machine.run(async () => {
      expect(await repair(machine, { uncertain })).toMatchObject({ state: 'repaired', uncertain: [{ blockNumber: 0, blockCount: 3 }] });
      expect(await readTrimmed(machine)).toBe(found);
    });
  });
});

/** Repairs the files while the process dies at call `index`; false if it has fewer calls. */
async function killAt(machine: SimMachine, index: number, when: 'before' | 'during' | 'after'): Promise<boolean> {
  const { process } = machine;
  const first = machine.calls.length;
  machine.fault = () => (machine.calls.length === first + index + 1 ? { kind: 'crash', when } : null);
  await machine.run(() => Promise.race([repair(machine).then(() => undefined), process.death]));
  machine.fault = () => null;
  return !process.alive;
}

test('a file that was kept aside, and that a power cut brings back under its old name as well, is not taken for the new one', async () => {
  const files = damagedLog();
  const machine = machineWith(files);
  const { process } = machine;
  await machine.run(() => makeDurable(machine));
  machine.fault = (call) => (call.kind === 'sync-directory' && call.path === '/v/log' ? { kind: 'crash', when: 'during' } : null);
  await machine.run(() => Promise.race([repair(machine).then(() => undefined), process.death]));
  expect(process.alive).toBe(false);
  machine.fault = () => null;
  machine.disk.cutPower({ keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false });
  const left = machine.snapshot('/v');
  expect([left.has(LOG), left.has(`kept-aside/1/${LOG}`)]).toEqual([true, true]);
  machine.restart();
  const { unreadable, states } = await repaired(files, machine);
  expect({ unreadable, states }).toEqual({ unreadable: [], states: [1] });
  expect(fileOf(machine.snapshot('/v'), `kept-aside/1/${LOG}`).equals(fileOf(files, LOG))).toBe(true);
});

describe('a repair that is killed at any call, or loses power there,', () => {
  const DAMAGES: readonly (readonly [string, () => VolumeFiles])[] = [
    ['a missing chunk', () => withFile(sample, FIRST_CHUNK, null)],
    ['a hole in the log', damagedLog],
    ['a damaged leaf and chunk', () => withFile(damaged(CHECKPOINT, IN_LEAF), SECOND_CHUNK, flipped(fileOf(sample, SECOND_CHUNK), 41))],
  ];
  const NOTHING_KEPT = { keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false };

  test.each(DAMAGES.flatMap(([name, files]) => [false, true].map((cut) => [name, cut, files] as const)))('with %s (power cut: %s) is refused or right, and ends right when it is run again', async (_, cut, makeFiles) => {
    const files = makeFiles();
    const whole = await repaired(files);
    const ends = new Set<string>();
    let calls = 0;
    for (let index = 0; ; index += 1) {
      const when = (['before', 'during', 'after'] as const)[index % 3];
      const machine = machineWith(files);
      await machine.run(() => makeDurable(machine));
      if (!(await killAt(machine, index, when))) break;
      calls += 1;
      if (cut) machine.disk.cutPower(NOTHING_KEPT);
      machine.restart();
      await machine.run(async () => {
        const attempt = await tryOpen(machine);
        ends.add(attempt instanceof VolumeError ? 'refused' : 'opened');
        if (!(attempt instanceof VolumeError)) await attempt.close();
        await repair(machine);
        expect(await opened(machine, contentOf), `call ${index}, ${when}`).toEqual({ unreadable: whole.unreadable, states: whole.states });
        const after = machine.snapshot('/v');
        for (const name of whole.report.keptAside) expect(after.get(`kept-aside/1/${name}`)?.equals(fileOf(files, name)), `${name} is kept: call ${index}, ${when}`).toBe(true);
        expect(await machine.env.files.exists('/v/repairing')).toBe(false);
      });
    }
    expect(calls).toBeGreaterThan(100);
    expect([...ends].toSorted()).toEqual(['opened', 'refused']);
  });
});
