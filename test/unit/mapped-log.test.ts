import { describe, expect, test } from 'vitest';
import { KIB } from '../../src/base/units.ts';
import { MappedLog } from '../../src/wal/mapped-log.ts';
import { FakeFile, FakeMapping, MemoryLogger, settleMicrotasks, systemError } from '../support/fake-world.ts';
import { Ended, MappedHarness, recover } from '../support/log-harness.ts';

const FILE_BYTES = 32 * KIB;
/** Whole files from the start: as if the log had gone round before. */
const WRITTEN = { fileBytes: FILE_BYTES, writtenBytes: FILE_BYTES };

/** Appends and submits records, and makes room for the next ones as a checkpoint does. */
function lap(harness: MappedHarness, records: number): void {
  for (let i = 0; i < records; i += 1) {
    if (harness.ring.freeFiles() === 0) harness.log.recycleTo(harness.log.lastLsn - 1);
    harness.writeRecords(1);
  }
}

const callsOf = (harness: MappedHarness): string[] => harness.files.flatMap(({ calls }) => calls);
const copiesOf = (harness: MappedHarness): number => harness.mappings.reduce((sum, { copies }) => sum + copies, 0);

describe('a mapped log', () => {
  test('grows by plain writes, and copies where it has been written before', async () => {
    const harness = await MappedHarness.make({ fileBytes: FILE_BYTES });
    lap(harness, 18);
    expect([copiesOf(harness), callsOf(harness).length]).toEqual([0, 18]);
    lap(harness, 18);
    expect([copiesOf(harness), callsOf(harness).length]).toEqual([18, 18]);
    expect((await recover(harness.files, { chunkedLsn: 30 })).lastLsn).toBe(36);
  });

  test('never copies behind the end of a file, also where the last life ended before', async () => {
    const harness = await MappedHarness.make({ fileBytes: FILE_BYTES, writtenBytes: 3 * 4096 });
    lap(harness, 36);
    // The header and the first record lie in front of byte 12,288; the other five of each file in its first life do not.
    expect([copiesOf(harness), callsOf(harness).length]).toEqual([21, 15]);
    expect((await recover(harness.files, { chunkedLsn: 30 })).lastLsn).toBe(36);
  });

  test.each(['write', 'writeNow'] as const)('takes no bytes for written that a failed %s should have brought, and none in a gap', async (how) => {
    const harness = await MappedHarness.make({ writtenBytes: 10 });
    const [file] = harness.mapped.files;
    const [plain] = harness.files;
    const put = async (offsetBytes: number): Promise<void> => file[how]([new Uint8Array(10)], offsetBytes);
    plain.writeError = systemError('ENOSPC');
    await expect(put(10)).rejects.toThrow('ENOSPC');
    plain.writeError = null;
    const copied = (offsetBytes: number): boolean => {
      const before = copiesOf(harness);
      file.writeNow([new Uint8Array(10)], offsetBytes);
      return copiesOf(harness) > before;
    };
    expect([copied(0), copied(10), copied(10)]).toEqual([true, false, true]);
    await put(30);
    expect([copied(30), copied(20), copied(25), copied(15)]).toEqual([false, false, false, true]);
    await put(30);
    expect(copied(30)).toBe(true);
  });

  test('has a copy for written, and makes it durable by a sync of the file', async () => {
    const harness = await MappedHarness.make(WRITTEN);
    harness.writeRecords(2);
    const ended = new Ended();
    harness.log.flush(ended);
    expect([harness.log.writtenLsn, harness.log.durableLsn, ended.code, copiesOf(harness)]).toEqual([2, 0, 'waiting', 2]);
    harness.log.submit();
    await settleMicrotasks();
    expect([harness.log.durableLsn, ended.code, callsOf(harness)]).toEqual([2, 'done', ['sync']]);
    expect(harness.files[0].synced.equals(harness.files[0].bytes)).toBe(true);
  });

  test('copies in strict mode, too, and answers after the sync', async () => {
    const harness = await MappedHarness.make({ ...WRITTEN, durability: 'strict' });
    const ended = harness.durable(harness.append());
    harness.log.submit();
    expect([ended.code, copiesOf(harness)]).toEqual(['waiting', 1]);
    await settleMicrotasks();
    expect([ended.code, callsOf(harness)]).toEqual(['done', ['sync']]);
  });

  test('ends for good when a sync fails (I4)', async () => {
    const harness = await MappedHarness.make(WRITTEN);
    harness.writeRecords(1);
    harness.files[0].syncError = systemError('EIO');
    const ended = new Ended();
    harness.log.force(ended);
    await settleMicrotasks();
    expect([ended.code, harness.log.trouble?.code, harness.failures.length]).toEqual(['failed', 'failed', 1]);
  });

  test('leaves to plain writes what goes to the thread pool', async () => {
    const harness = await MappedHarness.make({ ...WRITTEN, settings: { logInlineBytes: 8 * KIB } });
    harness.append();
    harness.append();
    harness.log.submit();
    await settleMicrotasks();
    expect([copiesOf(harness), callsOf(harness), harness.log.writtenLsn]).toEqual([0, ['write'], 2]);
  });

  test('writes plainly from the moment when the kernel refuses a copy, with one warning', async () => {
    const harness = await MappedHarness.make(WRITTEN);
    harness.writeRecords(1);
    harness.mappings[0].error = systemError('EFAULT');
    harness.writeRecords(2);
    lap(harness, 10);
    expect([copiesOf(harness), harness.mapped.isInUse, harness.log.writtenLsn]).toEqual([2, false, 13]);
    expect(harness.logger.lines.map(({ level, event }) => `${level} ${event}`)).toEqual(['warn no-mapped-log']);
    expect((await recover(harness.files)).lastLsn).toBe(13);
  });

  test('stalls on a full disk as a plain one does', async () => {
    const harness = await MappedHarness.make(WRITTEN);
    harness.mappings[0].error = systemError('EFAULT');
    harness.files[0].writeError = systemError('ENOSPC');
    const waits = harness.written(harness.append());
    harness.log.submit();
    expect([waits.code, harness.log.trouble?.code]).toEqual(['no-space', 'no-space']);
  });
});

describe('opening', () => {
  const plainFiles = [new FakeFile(), new FakeFile()];
  const options = { volume: 'v', paths: ['a', 'b'], plainFiles, fileBytes: FILE_BYTES };

  test('answers null, with one warning, where there are no mappings, and leaves none', async () => {
    const logger = new MemoryLogger();
    const first = new FakeMapping(plainFiles[0]);
    const map = (path: string): Promise<FakeMapping> => (path === 'a' ? Promise.resolve(first) : Promise.reject(systemError('ENODEV')));
    expect(await MappedLog.open({ ...options, logger, files: { map } })).toBeNull();
    expect([first.isOpen, logger.lines.map(({ level, event }) => `${level} ${event}`)]).toEqual([false, ['warn no-mapped-log']]);
  });

  test('fails where the mistake is our own', async () => {
    await expect(MappedLog.open({ ...options, logger: new MemoryLogger(), files: { map: () => Promise.reject(new Error('a mistake')) } })).rejects.toThrow('a mistake');
  });
});
