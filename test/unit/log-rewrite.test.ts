import { describe, expect, test } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import { LOG_HEADER_BYTES } from '../../src/format/log-record.ts';
import { type LogRecovery, type LogRecoveryOptions, recoverLog, rereadLog } from '../../src/wal/log-recovery.ts';
import type { LogPlace } from '../../src/wal/unsynced-tail.ts';
import { drawPowerCut } from '../sim/power-cut.ts';
import { SeededRandom } from '../sim/random.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, readAll, smallSettings } from '../support/engine-harness.ts';
import { FakeFile } from '../support/fake-world.ts';
import { LogHarness, ONE_BLOCK_RECORD_BYTES, VOLUME_BLOCKS, VOLUME_ID } from '../support/log-harness.ts';

const NO_CUT = { epoch: 0, lsn: 0 };

/** Remembers which of its bytes were written, and how many reads and writes there were at a time. */
class RewrittenFile extends FakeFile {
  readonly ranges: [number, number][] = [];
  inOneWrite = 0;

  constructor(content: FakeFile) {
    super();
    this.replace(content.bytes);
  }

  override async write(parts: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    this.inOneWrite = Math.max(this.inOneWrite, length);
    const before = this.bytes.subarray(offsetBytes, offsetBytes + length);
    if (Buffer.compare(before, Buffer.concat(parts)) !== 0) throw new Error(`other bytes are written at ${offsetBytes}`);
    const last = this.ranges.at(-1);
    if (last !== undefined && last[1] === offsetBytes) last[1] += length;
    else this.ranges.push([offsetBytes, offsetBytes + length]);
    // The reader goes on meanwhile, and may not use the memory that is being written.
    const copy = Buffer.concat(parts);
    await new Promise((resolve) => setImmediate(resolve));
    if (Buffer.compare(copy, Buffer.concat(parts)) !== 0) throw new Error(`the bytes for ${offsetBytes} changed while they were written`);
    await super.write(parts, offsetBytes);
  }
}

function optionsFor(files: readonly FakeFile[], changes: Partial<LogRecoveryOptions> = {}): LogRecoveryOptions {
  return { files, volumeId: VOLUME_ID, blockSizeBytes: BLOCK_BYTES, volumeBlocks: VOLUME_BLOCKS, chunkedLsn: 0, cut: NO_CUT, markedLsn: 0, lastEpoch: Number.POSITIVE_INFINITY, apply: () => undefined, ...changes };
}

interface RereadOptions {
  readonly between?: (files: readonly RewrittenFile[]) => void;
  readonly restOf?: (recovery: LogRecovery) => LogPlace | null;
}

/** Recovers a log, then does to it what `between` says, and reads it again. Returns its files and the LSNs that the second reading handed on. */
async function reread(harness: LogHarness, { between = () => undefined, restOf = () => null, ...changes }: Partial<LogRecoveryOptions> & RereadOptions = {}): Promise<{ files: readonly RewrittenFile[]; lsns: number[] }> {
  const files = harness.files.map((file) => new RewrittenFile(file));
  const recovery = await recoverLog(optionsFor(files, changes));
  expect(files.flatMap(({ calls }) => calls)).toEqual([]);
  between(files);
  const lsns: number[] = [];
  await rereadLog(optionsFor(files, { ...changes, apply: ({ record }) => void lsns.push(record.lsn) }), recovery, restOf(recovery));
  return { files, lsns };
}

/** Four records of one block in a file. */
const FOUR_RECORDS = LOG_HEADER_BYTES + 4 * ONE_BLOCK_RECORD_BYTES + 500;
const recordAt = (index: number): number => LOG_HEADER_BYTES + index * ONE_BLOCK_RECORD_BYTES;

describe('the log is written again', () => {
  test('as far as no record calls it durable: whole lives, and the rest of the one in which that begins', async () => {
    const harness = new LogHarness({ fileBytes: FOUR_RECORDS });
    harness.writeRecords(6);
    await harness.sync();
    harness.writeRecords(4);
    const { files } = await reread(harness);
    // Record 7, the first one behind the sync, says that 6 is durable.
    expect(files.map(({ ranges }) => ranges)).toEqual([
      [],
      [
        [0, LOG_HEADER_BYTES],
        [recordAt(2), recordAt(4)],
      ],
      [[0, recordAt(2)]],
    ]);
    expect(files.map(({ syncs }) => syncs)).toEqual([0, 1, 1]);
    for (const { bytes, synced } of files.slice(1)) expect(synced.equals(bytes)).toBe(true);
  });

  test('behind what the manifest calls durable', async () => {
    const harness = new LogHarness({ fileBytes: FOUR_RECORDS });
    harness.writeRecords(6);
    const { files } = await reread(harness, { cut: { epoch: 1, lsn: 5 } });
    expect(files.map(({ syncs }) => syncs)).toEqual([0, 1, 0]);
    expect(files[1].ranges.at(-1)).toEqual([recordAt(1), recordAt(2)]);
  });

  test('not where chunks have the records', async () => {
    const harness = new LogHarness({ fileBytes: FOUR_RECORDS });
    harness.writeRecords(6);
    const { files, lsns } = await reread(harness, { chunkedLsn: 4 });
    expect(lsns).toEqual([5, 6]);
    expect(files.map(({ ranges }) => ranges)).toEqual([[], [[0, recordAt(2)]], []]);
  });

  test('not at all when all of it is durable: then nothing is read either', async () => {
    const harness = new LogHarness();
    harness.writeRecords(3);
    const { files, lsns } = await reread(harness, { cut: { epoch: 1, lsn: 3 } });
    expect(lsns).toEqual([]);
    expect(files.flatMap(({ calls }) => calls)).toEqual([]);
  });

  test('not what is only read again because it has not been put back yet', async () => {
    const harness = new LogHarness({ fileBytes: FOUR_RECORDS });
    harness.writeRecords(3);
    await harness.sync();
    harness.append(3);
    harness.log.submit();
    const { files, lsns } = await reread(harness, { restOf: ({ lives }) => ({ generation: lives[0].generation, offsetBytes: recordAt(1), lsn: 2 }) });
    expect(lsns).toEqual([2, 3, 4]);
    expect(files[0].ranges).toEqual([
      [0, LOG_HEADER_BYTES],
      [recordAt(3), recordAt(4)],
    ]);
  });

  test('window by window, with the memory of each left alone until it is written', async () => {
    const harness = new LogHarness({ fileBytes: 64 * MIB, settings: { logInlineBytes: 64 * MIB } });
    for (let record = 0; record < 90; record += 1) harness.append(0, 1 + ((record * 37) % 90));
    await harness.sync();
    const { files, lsns } = await reread(harness);
    expect(lsns).toEqual(Array.from({ length: 90 }, (_, index) => index + 1));
    expect(files[0].ranges).toEqual([[0, files[0].bytes.length]]);
    expect(files[0].inOneWrite).toBeLessThan(4 * MIB);
  });
});

describe('an opening ends with an error', () => {
  test('when the log is no longer what was found sound: none of what changed is written', async () => {
    const harness = new LogHarness({ fileBytes: FOUR_RECORDS });
    harness.writeRecords(6);
    let changed: readonly RewrittenFile[] = [];
    const between = (files: readonly RewrittenFile[]): void => {
      changed = files;
      const bytes = Buffer.from(files[0].bytes);
      bytes[recordAt(2) + 1000] ^= 1;
      files[0].replace(bytes);
    };
    await expect(reread(harness, { between })).rejects.toThrow(/^log file 0, byte \d+, expected LSN 3: wrong block checksum; up to LSN 6 the records were there .* open it again$/);
    expect(changed.map(({ ranges }) => ranges)).toEqual([[[0, recordAt(2)]], [], []]);
  });

  test.each(['writeError', 'syncError'] as const)('when a file cannot be written or synced (%s)', async (kind) => {
    const harness = new LogHarness({ fileBytes: FOUR_RECORDS });
    harness.writeRecords(6);
    const between = (files: readonly RewrittenFile[]): void => {
      files[0][kind] = Object.assign(new Error('the card is gone'), { code: 'EIO' });
    };
    await expect(reread(harness, { between })).rejects.toThrow('the card is gone');
  });

  test('that does not come before the syncs under way have ended: their files may be closed', async () => {
    const harness = new LogHarness({ fileBytes: FOUR_RECORDS });
    harness.writeRecords(6);
    let settled = false;
    let held: RewrittenFile | null = null;
    const between = (files: readonly RewrittenFile[]): void => {
      [held] = files;
      files[0].sync = async () => {
        for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
        settled = true;
      };
      files[1].writeError = new Error('the card is gone');
    };
    await expect(reread(harness, { between })).rejects.toThrow('the card is gone');
    expect(held).not.toBeNull();
    expect(settled).toBe(true);
  });
});

/** A log of more than half a file, none of it synced, of a process that was killed. */
async function killedVolume(machine: SimMachine, records: number): Promise<void> {
  await machine.create('/v');
  const volume = await machine.open('/v');
  for (let record = 0; record < records; record += 1) await volume.write(record * BLOCK_BYTES, pattern(record), false);
  machine.restart();
  machine.calls.length = 0;
}

const changes = (machine: SimMachine): string[] => machine.calls.filter(({ kind }) => !['open', 'read', 'list', 'exists', 'size', 'close', 'lock'].includes(kind)).map(({ kind, path }) => `${kind} ${path}`);

describe('an opening that has much to write again', () => {
  const settings = smallSettings({ logFileBytes: 256 * KIB });

  test('writes nothing before all of the log was found sound', async () => {
    const machine = new SimMachine(settings);
    await machine.run(async () => {
      await machine.create('/v');
      const volume = await machine.open('/v');
      for (let record = 0; record < 120; record += 1) await volume.write(record * BLOCK_BYTES, pattern(record), false);
      await volume.flush();
      await volume.write(0, pattern(120), false);
      machine.restart();
      const file = await machine.env.files.open('/v/log/01.log', 'write');
      const byte = new Uint8Array(1);
      await file.read(byte, recordAt(50) + 1000);
      await file.write([Uint8Array.of(byte[0] ^ 1)], recordAt(50) + 1000);
      await file.close();
      machine.calls.length = 0;
      await expect(machine.open('/v')).rejects.toThrow(/the log is damaged: log file 1, .* says that records up to LSN 120 had been synced.*nothing was changed/);
      expect(changes(machine)).toEqual([]);
    });
  });

  test('has all of it back, and on the disk', async () => {
    const machine = new SimMachine(settings);
    await machine.run(async () => {
      await killedVolume(machine, 120);
      const volume = await machine.open('/v');
      expect(volume.recoveredLsn).toBe(120);
      expect(volume.stats().chunksWritten).toBe(0);
      machine.restart();
      machine.disk.cutPower(drawPowerCut(new SeededRandom(1), machine.disk.unsyncedSequences(), 'nothing-kept'));
      const again = await machine.open('/v');
      expect(again.recoveredLsn).toBe(120);
      const expected = Buffer.concat(Array.from({ length: 120 }, (_, record) => pattern(record)));
      expect((await readAll(again)).subarray(0, 120 * BLOCK_BYTES).equals(expected)).toBe(true);
      await again.close();
    });
  });

  test('and does not fit the memory makes chunks of it, after it was found sound', async () => {
    const machine = new SimMachine(smallSettings({ logFileBytes: 2 * MIB, arenaBytes: 24 * SLAB_BYTES, dirtyBytes: 16 * SLAB_BYTES }));
    await machine.run(async () => {
      const records = (14 * SLAB_BYTES) / BLOCK_BYTES;
      await killedVolume(machine, records);
      const small = { ...machine.settings, arenaBytes: 8 * SLAB_BYTES, dirtyBytes: 4 * SLAB_BYTES, flushBytes: 2 * SLAB_BYTES };
      const volume = await machine.open('/v', small);
      expect(volume.recoveredLsn).toBe(records);
      expect(volume.stats().chunksWritten).toBeGreaterThan(0);
      const done = changes(machine);
      const epoch = done.findIndex((change) => change.includes('manifest'));
      expect(done.findIndex((change) => change.includes('/chunks/'))).toBeGreaterThan(epoch);
      expect(done.findIndex((change) => change.includes('/log/'))).toBeGreaterThan(epoch);
      const expected = Buffer.concat(Array.from({ length: records }, (_, record) => pattern(record)));
      expect((await readAll(volume)).subarray(0, records * BLOCK_BYTES).equals(expected)).toBe(true);
      await volume.close();
    });
  });
});
