/** Where a block stands and how it got there. */
import { beforeAll, expect, test } from 'vitest';
import { type ExplainReport, explainBlock } from '../../src/volume/explain.ts';
import { type VolumeFiles, fileOf, flipped, machineWith, repair, sampleFiles, toolOptions, withFile } from '../support/damaged-volumes.ts';
import { BLOCK_BYTES, type SimMachine } from '../support/engine-harness.ts';
import { text } from '../support/text.ts';

const CHECKPOINT = 'checkpoints/k0000000001-e000001';
const FIRST_CHUNK = 'chunks/c0000000001-e000001';
const SECOND_CHUNK = 'chunks/c0000000002-e000002';
const LOG = 'log/00.log';

let sample: VolumeFiles;
beforeAll(async () => {
  sample = await sampleFiles();
});

function explainIn(machine: SimMachine, blockNumber: number): Promise<ExplainReport> {
  return machine.run(() => explainBlock({ ...toolOptions(machine), offsetBytes: blockNumber * BLOCK_BYTES + 17 }));
}

function explain(blockNumber: number, files = sample): Promise<ExplainReport> {
  return explainIn(machineWith(files), blockNumber);
}

test('a block in a chunk that the checkpoint covers: page, chunk, slot, byte and checksum', async () => {
  const report = await explain(101);
  expect(report).toMatchObject({
    offsetBytes: 101 * BLOCK_BYTES + 17,
    blockNumber: 101,
    state: 'persisted',
    isReadable: true,
    problem: null,
    location: { file: FIRST_CHUNK, chunk: 1, slot: 4, lsn: null, offsetBytes: 4096 + 4 * BLOCK_BYTES },
    needsRepair: false,
  });
  expect(report.location?.storedChecksum).toMatch(/^[0-9a-f]{8}$/u);
  expect(report.location?.computedChecksum).toBe(report.location?.storedChecksum);
  expect(report.history).toMatchObject([{ file: CHECKPOINT, offsetBytes: 96, what: text('has the block in slot 4 of chunk 1') }]);
});

test('a block that a later set of chunks overwrote: both are in its history', async () => {
  const report = await explain(1);
  expect(report).toMatchObject({ state: 'persisted', location: { file: SECOND_CHUNK, chunk: 2 } });
  expect(report.history).toMatchObject([{ what: text('chunk 1') }, { file: SECOND_CHUNK, what: text(/chunk 2 \(LSN 5 to 7\) has the block/u) }]);
});

test('a block in the log: its record, and those that it superseded', async () => {
  const report = await explain(8);
  expect(report).toMatchObject({ state: 'pending', isReadable: true, location: { file: LOG, lsn: 11, chunk: null } });
  expect(report.history.slice(-2)).toMatchObject([{ lsn: 9, what: text('the record of LSN 9 writes blocks 7 to 8') }, { lsn: 11, file: LOG, what: text('the record of LSN 11 writes blocks 8 to 8') }]);
});

test('blocks that are empty: never written, trimmed by a chunk, zeroed by a record of the log', async () => {
  expect(await explain(50)).toMatchObject({ state: 'empty', isReadable: true, doubt: null, location: null, history: [{ what: text('it is empty') }] });
  const trimmed = await explain(100);
  expect(trimmed).toMatchObject({ state: 'empty' });
  expect(trimmed.history.at(-1)).toMatchObject({ what: text('empties the block') });
  const zeroed = await explain(255);
  expect(zeroed).toMatchObject({ state: 'empty' });
  expect(zeroed.history.at(-1)).toMatchObject({ lsn: 10, what: text('the record of LSN 10 empties') });
});

test('a block that fails its checksum: both checksums', async () => {
  const report = await explain(1, withFile(sample, SECOND_CHUNK, flipped(fileOf(sample, SECOND_CHUNK), 5000)));
  expect(report).toMatchObject({ state: 'persisted', isReadable: false, problem: text(/checksum [0-9a-f]{8}, expected [0-9a-f]{8}, at byte 4096/u) });
  expect(report.location?.computedChecksum).not.toBe(report.location?.storedChecksum);
});

test('a block whose chunk is missing, and the same block after a repair', async () => {
  const machine = machineWith(withFile(sample, FIRST_CHUNK, null));
  expect(await explainIn(machine, 0)).toMatchObject({ state: 'persisted', isReadable: false, problem: text('is missing'), needsRepair: true });
  await machine.run(() => repair(machine));
  expect(await explainIn(machine, 0)).toMatchObject({ state: 'lost', isReadable: false, problem: text('lost'), needsRepair: false });
});

test('a record behind damage of the log is told of, and does not count', async () => {
  const bytes = fileOf(sample, LOG);
  const second = bytes.lastIndexOf('BLR1', bytes.lastIndexOf('BLR1', bytes.lastIndexOf('BLR1') - 1) - 1);
  const report = await explain(200, withFile(sample, LOG, flipped(bytes, second + 20)));
  expect(report, 'it reads as zeroes now, and was written').toMatchObject({ state: 'empty', needsRepair: true, isReadable: false, problem: text('may be older than it seems'), doubt: text('records') });
  expect(report.history.at(-1)).toMatchObject({ lsn: 12, what: text('does not count'), place: null });
});

test('an offset beyond the end is refused', async () => {
  await expect(explain(256)).rejects.toMatchObject({ code: 'invalid-argument', message: text('beyond the end of volume v, which has 1048576 bytes') });
});
