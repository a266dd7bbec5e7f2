/** Looking at a damaged volume: everything that is wrong with it is said, with file, byte, what is lost and what to do. */
import { beforeAll, describe, expect, test } from 'vitest';
import { checkVolume } from '../../src/volume/check.ts';
import type { Progress } from '../../src/volume/inspect-findings.ts';
import { BlockRanges, formatRanges, subtractRanges } from '../../src/volume/inspect-findings.ts';
import { type VolumeFiles, check, fileOf, flipped, machineWith, sampleFiles, toolOptions, withFile } from '../support/damaged-volumes.ts';
import { text } from '../support/text.ts';

const CHECKPOINT = 'checkpoints/k0000000001-e000001';
const FIRST_CHUNK = 'chunks/c0000000001-e000001';
const SECOND_CHUNK = 'chunks/c0000000002-e000002';

let sample: VolumeFiles;
beforeAll(async () => {
  sample = await sampleFiles();
});

function reportOn(files: VolumeFiles, deep = true) {
  const machine = machineWith(files);
  return machine.run(() => check(machine, deep));
}

function damaged(files: VolumeFiles, name: string, at: number): VolumeFiles {
  return withFile(files, name, flipped(fileOf(files, name), at));
}

test('a sound volume is clean, and what was looked at is counted', async () => {
  expect(await reportOn(sample)).toEqual({ volume: 'v', deep: true, isClean: true, findings: [], notes: [], lost: [], chunks: 3, leaves: 1, logRecords: 4, lastLsn: 12, blockSizeBytes: 4096, bucket: null });
});

test('a rotten block in a synced record of the log is named, and lost unless a later record has it anew', async () => {
  const start = fileOf(sample, 'log/00.log').indexOf('in the log, in the log, ');
  const first = await reportOn(damaged(sample, 'log/00.log', start + 10));
  expect(first).toMatchObject({ isClean: false, lost: [{ blockNumber: 7, blockCount: 1 }], logRecords: 4, lastLsn: 12 });
  expect(first.findings).toMatchObject([{ file: 'log/00.log', offsetBytes: start, problem: text(/^the record of LSN \d+, which had been synced, has damaged data of block 7$/u), lost: [{ blockNumber: 7, blockCount: 1 }], needsRepair: true }]);
  const second = await reportOn(damaged(sample, 'log/00.log', start + 4096 + 10));
  expect(second).toMatchObject({ lost: [], findings: [{ problem: text('damaged data of block 8'), lost: [] }], lastLsn: 12 });
});

test('rotten data at the end of the log that nobody calls synced is what a power cut leaves: the log ends before it', async () => {
  const start = fileOf(sample, 'log/00.log').indexOf('the newest, the newest, ');
  expect(await reportOn(damaged(sample, 'log/00.log', start + 10))).toMatchObject({ isClean: true, findings: [], logRecords: 3, lastLsn: 11 });
});

test('every finding is reported, not only the first', async () => {
  const files = withFile(damaged(damaged(sample, CHECKPOINT, 20), SECOND_CHUNK, 41), 'log/02.log', null);
  const { findings } = await reportOn(withFile(files, FIRST_CHUNK, null));
  expect(findings.map(({ file }) => file).toSorted()).toEqual([CHECKPOINT, FIRST_CHUNK, SECOND_CHUNK, 'chunks/c0000000003-e000002', 'log/02.log']);
  for (const { advice } of findings) expect(advice).toBe('run: basalt repair v');
});

test('a missing chunk: the blocks that only it has are lost, not those that are newer elsewhere', async () => {
  expect(await reportOn(withFile(sample, FIRST_CHUNK, null))).toMatchObject({
    isClean: false,
    findings: [{ file: FIRST_CHUNK, offsetBytes: null, problem: 'is missing', lost: [{ blockNumber: 0, blockCount: 1 }, { blockNumber: 101, blockCount: 1 }], needsRepair: true }],
  });
});

test('a block that fails its checksum, and that the log has no more, is found by a deep check alone, and needs no repair', async () => {
  const files = damaged(sample, FIRST_CHUNK, 5000);
  expect(await reportOn(files, false)).toMatchObject({ isClean: true });
  expect(await reportOn(files)).toMatchObject({
    findings: [{ file: FIRST_CHUNK, offsetBytes: 4096, problem: text(/^block 0: checksum [0-9a-f]{8}, expected [0-9a-f]{8}$/u), lost: [{ blockNumber: 0, blockCount: 1 }], advice: text('from a backup'), needsRepair: false }],
  });
});

test('a damaged page is named with its place; blocks that the chunks prove are not lost', async () => {
  expect(await reportOn(damaged(sample, CHECKPOINT, 100))).toMatchObject({
    findings: [{ file: CHECKPOINT, offsetBytes: 96, problem: text(/^page checksum/u), lost: [], needsRepair: true }],
    lost: [],
  });
});

test('a manifest that cannot be read, and has no copy, is the one finding there can be', async () => {
  const report = await reportOn(withFile(damaged(sample, 'manifest', 40), 'manifest-copy', null));
  expect(report).toMatchObject({ isClean: false, findings: [{ file: 'manifest', offsetBytes: 508, problem: text('checksum'), needsRepair: false }], lastLsn: null });
});

test('what an interrupted process left, and files that nobody knows, are notes and no findings', async () => {
  const files = withFile(withFile(sample, 'chunks/notes.txt', Buffer.from('mine')), 'checkpoints/k0000000009-e000002', Buffer.from('half'));
  const report = await reportOn(files);
  expect(report.isClean).toBe(true);
  expect(report.notes).toEqual([text('chunks/notes.txt is no file of basalt'), text('checkpoints/k0000000009-e000002 belongs to no checkpoint')]);
});

test('a chunk that is there twice, and one that the catalogue has otherwise, are findings', async () => {
  const twice = await reportOn(withFile(sample, 'chunks/c0000000001-e000002', fileOf(sample, FIRST_CHUNK)));
  expect(twice.findings).toMatchObject([{ file: 'chunks/c0000000001-e000002', problem: 'chunk 1 is there twice, of epochs 1 and 2' }]);
});

describe('a disk that fails to read', () => {
  test.each([
    ['a chunk', FIRST_CHUNK],
    ['a checkpoint', CHECKPOINT],
    ['the log', 'log/00.log'],
  ])('%s (EIO): a finding that names it, and the rest is looked at', async (_, name) => {
    const machine = machineWith(sample);
    machine.fault = (call) => (call.kind === 'read' && call.path === `/v/${name}` ? { kind: 'error', code: 'EIO' } : null);
    const report = await machine.run(() => check(machine));
    expect(report.findings.map(({ file }) => file)).toContain(name);
    expect(report.chunks).toBe(3);
  });

  test('for another reason is no finding: nothing can be said then', async () => {
    const machine = machineWith(sample);
    machine.fault = (call) => (call.kind === 'open' && call.path.endsWith(FIRST_CHUNK) ? { kind: 'error', code: 'EACCES' } : null);
    await expect(machine.run(() => check(machine))).rejects.toMatchObject({ code: 'io-error', message: text('EACCES') });
  });
});

test('a volume that is open is refused, and its lock is free after a check', async () => {
  const machine = machineWith(sample);
  await machine.run(async () => {
    const volume = await machine.open('/v');
    await expect(check(machine)).rejects.toMatchObject({ code: 'in-use' });
    await volume.close();
    await check(machine);
    await (await machine.open('/v')).close();
  });
});

test('how far it is, is told', async () => {
  const machine = machineWith(sample);
  const seen: Progress[] = [];
  await machine.run(() => checkVolume({ ...toolOptions(machine), deep: false, onProgress: (progress) => void seen.push(progress) }));
  expect(seen).toContainEqual({ task: 'chunks', done: 3, total: 3 });
  expect(seen).toContainEqual({ task: 'block map', done: 1, total: 1 });
});

describe('block ranges', () => {
  test('are put in order and together, whatever the order they come in', () => {
    const ranges = new BlockRanges();
    for (const [blockNumber, blockCount] of [[10, 2], [3, 1], [4, 2], [11, 5], [30, 1]] as const) ranges.add(blockNumber, blockCount);
    expect(ranges.list).toEqual([{ blockNumber: 3, blockCount: 3 }, { blockNumber: 10, blockCount: 6 }, { blockNumber: 30, blockCount: 1 }]);
    expect(ranges.blockCount).toBe(10);
  });

  test('lose what others cover', () => {
    const ranges = [{ blockNumber: 0, blockCount: 10 }, { blockNumber: 20, blockCount: 5 }];
    const cover = [{ blockNumber: 2, blockCount: 3 }, { blockNumber: 8, blockCount: 14 }, { blockNumber: 24, blockCount: 1 }];
    expect(subtractRanges(ranges, cover)).toEqual([{ blockNumber: 0, blockCount: 2 }, { blockNumber: 5, blockCount: 3 }, { blockNumber: 22, blockCount: 2 }]);
    expect(subtractRanges(ranges, [])).toEqual(ranges);
    expect(subtractRanges(ranges, [{ blockNumber: 0, blockCount: 100 }])).toEqual([]);
  });

  test('are said in words, and long lists are cut', () => {
    expect(formatRanges([{ blockNumber: 5, blockCount: 1 }])).toBe('block 5');
    expect(formatRanges([{ blockNumber: 5, blockCount: 1 }, { blockNumber: 7, blockCount: 3 }, { blockNumber: 20, blockCount: 2 }], 2)).toBe('blocks 5, 7 to 9 and 2 more');
  });
});
