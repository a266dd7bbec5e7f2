/** The tools on a volume whose log is compressed: they read its records as they read others. */
import { beforeAll, expect, test } from 'vitest';
import { RECORD_CODEC, RECORD_HEADER_BYTES } from '../../src/format/log-record.ts';
import { explainBlock } from '../../src/volume/explain.ts';
import { type VolumeFiles, check, fileOf, flipped, machineWith, readContent, repair, sampleFiles, toolOptions, tryOpen, withFile } from '../support/damaged-volumes.ts';
import { BLOCK_BYTES, type SimMachine } from '../support/engine-harness.ts';
import { sampleStates } from '../support/make-sample.ts';
import { text } from '../support/text.ts';

const CHECKPOINT = 'checkpoints/k0000000001-e000001';
const LOG = 'log/00.log';
/** LSN of the synced record of blocks 7 and 8, the second of which a later record writes again. */
const SYNCED_LSN = 9;
const STATES = sampleStates('chunked');

let sample: VolumeFiles;
beforeAll(async () => {
  sample = await sampleFiles(1, 'log');
});

/** Where the record of an LSN begins in the log. */
function recordOf(lsn: number): number {
  const log = fileOf(sample, LOG);
  let at = log.indexOf('BLR1');
  while (at >= 0 && log.readUInt32LE(at + 16) !== lsn) at = log.indexOf('BLR1', at + 1);
  expect(log[at + 6]).toBe(RECORD_CODEC.LZ4);
  return at;
}

/** In the payload of the synced record. */
function rotten(): VolumeFiles {
  return withFile(sample, LOG, flipped(fileOf(sample, LOG), recordOf(SYNCED_LSN) + RECORD_HEADER_BYTES + 8 + 5));
}

async function contentOf(machine: SimMachine): Promise<{ readonly unreadable: readonly number[]; readonly states: readonly number[] }> {
  const volume = await machine.open('/v');
  const { unreadable, states } = await readContent(volume, STATES);
  await volume.close();
  return { unreadable, states: states.map((state) => STATES.indexOf(state)) };
}

test('check finds nothing wrong with it', async () => {
  const machine = machineWith(sample);
  expect(await machine.run(() => check(machine))).toMatchObject({ isClean: true, findings: [] });
});

test('explain says where a block stands, and compares its checksum', async () => {
  const machine = machineWith(sample);
  const { isReadable, location } = await machine.run(() => explainBlock({ ...toolOptions(machine), offsetBytes: 7 * BLOCK_BYTES }));
  expect({ isReadable, location }).toMatchObject({ isReadable: true, location: { file: LOG, lsn: SYNCED_LSN, offsetBytes: recordOf(SYNCED_LSN) + RECORD_HEADER_BYTES + 8 } });
  expect(location?.computedChecksum).toBe(location?.storedChecksum);
});

test('repair puts what only the log has into chunks', async () => {
  const machine = machineWith(withFile(sample, CHECKPOINT, flipped(fileOf(sample, CHECKPOINT), 20)));
  const report = await machine.run(() => repair(machine));
  expect(report).toMatchObject({ state: 'repaired', lost: [], uncertain: [], setBack: [] });
  expect(await machine.run(() => contentOf(machine))).toEqual({ unreadable: [], states: [STATES.length - 1] });
});

test('a rotten payload is damage: the volume does not open, and explain says that the block cannot be read', async () => {
  const machine = machineWith(rotten());
  expect(await machine.run(() => tryOpen(machine))).toMatchObject({ code: 'corrupt', message: text('the log is damaged') });
  const report = await machine.run(() => explainBlock({ ...toolOptions(machine), offsetBytes: 7 * BLOCK_BYTES }));
  expect(report).toMatchObject({ isReadable: false });
});

test('repair gives up the blocks of a record whose payload is rotten, but for those that were written again', async () => {
  const machine = machineWith(rotten());
  const report = await machine.run(() => repair(machine));
  expect(report).toMatchObject({ lost: [{ blockNumber: 7, blockCount: 1 }], setBack: [] });
  expect(await machine.run(() => contentOf(machine))).toEqual({ unreadable: [7], states: [STATES.length - 1] });
});
