import { describe, expect, test } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import { DirectLog } from '../../src/wal/direct-log.ts';
import { FakeFile, MemoryLogger, settleMicrotasks, systemError } from '../support/fake-world.ts';
import { DirectHarness, Ended, ONE_BLOCK_RECORD_BYTES, recover } from '../support/log-harness.ts';

/** Fast syncs go into the turn after eight in a row. */
const IN_TURN = { settings: { logInlineSyncLatencyMs: 1 } };

async function change(harness: DirectHarness, durability: 'strict' | 'relaxed'): Promise<void> {
  const ended = new Ended();
  harness.log.setDurability(durability, ended);
  await settleMicrotasks();
  expect(ended.code).toBe('done');
}

describe('a strict log with direct writes', () => {
  test('makes a batch durable by one call, without a sync', async () => {
    const harness = await DirectHarness.make();
    const [file] = harness.files;
    const [direct] = harness.directFiles;
    await harness.writeDurably();
    direct.hold = true;
    const waits = [harness.durable(harness.append(1)), harness.durable(harness.append(2))];
    harness.log.submit();
    expect(waits.map(({ code }) => code)).toEqual(['waiting', 'waiting']);
    await direct.release();
    expect(waits.map(({ code }) => code)).toEqual(['done', 'done']);
    expect([harness.log.writtenLsn, harness.log.durableLsn]).toEqual([3, 3]);
    expect(direct.calls).toEqual(['write', 'write']);
    // The one sync went before the life, for what an earlier process may have left.
    expect(file.calls).toEqual(['sync']);
  });

  test('gathers the next batch while a write is under way', async () => {
    const harness = await DirectHarness.make();
    const [direct] = harness.directFiles;
    await harness.writeDurably();
    direct.hold = true;
    harness.writeRecords(1);
    const waits = [1, 2, 3].map((block) => harness.durable(harness.append(block)));
    for (const _ of waits) harness.log.submit();
    expect(direct.writes).toBe(2);
    await direct.release();
    expect([direct.writes, ...waits.map(({ code }) => code)]).toEqual([3, 'waiting', 'waiting', 'waiting']);
    await direct.release();
    expect(waits.map(({ code }) => code)).toEqual(['done', 'done', 'done']);
  });

  test('writes whole pages, and what its last page had once more in front of the next batch', async () => {
    const harness = await DirectHarness.make();
    const [direct] = harness.directFiles;
    for (let i = 0; i < 5; i += 1) await harness.writeDurably();
    // The header's page and 4168 bytes of the record; then from the page in which the last one ended.
    expect(direct.lengths).toEqual([3, 2, 2, 2, 2].map((pages) => pages * 4096));
    const end = 4096 + 5 * ONE_BLOCK_RECORD_BYTES;
    expect(harness.files[0].synced.length).toBe(Math.ceil(end / 4096) * 4096);
    expect(harness.files[0].synced.subarray(end).every((byte) => byte === 0)).toBe(true);
    expect(harness.log.stats.logBytes).toBe(11 * 4096);
    expect((await recover(harness.files)).replayed.map(({ lsn }) => lsn)).toEqual([1, 2, 3, 4, 5]);
  });

  test.each([1, 3, 200])('survives its files being read back after records of up to %d blocks, over the ends of files', async (blocks) => {
    const harness = await DirectHarness.make({ fileBytes: 4 * MIB });
    for (let i = 0; i < 12; i += 1) {
      harness.append(0, 1 + (i * 7) % blocks);
      harness.append(5, blocks); // several in one batch: it may go over the end of a file
      expect((await harness.writeDurably(1)).code).toBe('done');
    }
    expect(harness.files.flatMap(({ calls }) => calls).filter((call) => call.startsWith('write'))).toEqual([]);
    expect((await recover(harness.files)).replayed).toHaveLength(36);
  });

  test('goes into the turn when the disk is fast, and leaves it when it is not', async () => {
    const harness = await DirectHarness.make(IN_TURN);
    const [direct] = harness.directFiles;
    for (let i = 0; i < 9; i += 1) await harness.writeDurably();
    expect(direct.calls.slice(-2)).toEqual(['write', 'write now']);
    direct.during = () => harness.clock.spend(20);
    await harness.writeDurably();
    await harness.writeDurably();
    expect(direct.calls.slice(-2)).toEqual(['write now', 'write']);
  });

  test('keeps records that found no space, and writes them again at their places', async () => {
    const harness = await DirectHarness.make();
    const [direct] = harness.directFiles;
    await harness.writeDurably();
    direct.writeError = systemError('ENOSPC');
    expect((await harness.writeDurably()).code).toBe('no-space');
    direct.writeError = null;
    harness.clock.advance(10);
    await settleMicrotasks();
    expect([harness.log.trouble, harness.log.durableLsn]).toEqual([null, 2]);
    expect((await harness.writeDurably()).code).toBe('done');
    expect((await recover(harness.files)).lastLsn).toBe(3);
  });

  test.each([IN_TURN, {}])('ends for good when a write fails (%j)', async (options) => {
    const harness = await DirectHarness.make(options);
    const [direct] = harness.directFiles;
    for (let i = 0; i < 9; i += 1) await harness.writeDurably();
    direct.writeError = systemError('EIO');
    expect((await harness.writeDurably()).code).toBe('failed');
    const calls = direct.calls.length;
    harness.clock.advance(1000);
    await settleMicrotasks();
    expect([direct.calls.length, harness.failures.length, harness.log.durableLsn]).toEqual([calls, 1, 9]);
  });

  test.each([IN_TURN, {}])('writes plainly and syncs from the moment when the file system refuses, with one warning (%j)', async (options) => {
    const harness = await DirectHarness.make(options);
    const [direct] = harness.directFiles;
    for (let i = 0; i < 9; i += 1) await harness.writeDurably();
    direct.writeError = systemError('EINVAL');
    for (let i = 0; i < 3; i += 1) expect((await harness.writeDurably()).code).toBe('done');
    expect(direct.writes).toBe(10);
    expect(harness.logger.events()).toEqual(['no-direct-log']);
    expect(harness.files[0].synced.equals(harness.files[0].bytes)).toBe(true);
    expect((await recover(harness.files)).lastLsn).toBe(12);
  });

  test('fails when the sync before a life of direct writes fails', async () => {
    const harness = await DirectHarness.make();
    harness.files[0].syncError = systemError('ENOSPC');
    const ended = await harness.writeDurably();
    expect([ended.code, harness.directFiles[0].writes]).toEqual(['failed', 0]);
  });
});

describe('a change of the mode', () => {
  test('from strict writes plainly from then on', async () => {
    const harness = await DirectHarness.make();
    await harness.writeDurably();
    await change(harness, 'relaxed');
    harness.writeRecords(1);
    expect([harness.log.writtenLsn, harness.log.durableLsn]).toEqual([2, 1]);
    expect(harness.files[0].calls.at(-1)).toBe('write now');
  });

  test('to strict writes plainly, and syncs, to the end of the file, and directly in the next one', async () => {
    const harness = await DirectHarness.make({ durability: 'relaxed', fileBytes: 32 * KIB });
    harness.writeRecords(1);
    await change(harness, 'strict');
    for (let i = 0; i < 5; i += 1) expect((await harness.writeDurably()).code).toBe('done');
    expect([harness.directFiles[0].writes, harness.files[0].syncs]).toEqual([0, 6]);
    await harness.writeDurably();
    expect([harness.directFiles[1].writes, harness.files[1].calls]).toEqual([1, ['sync']]);
    expect((await recover(harness.files)).lastLsn).toBe(7);
  });

  test('to strict does not take a direct write for durable while the plain ones before it are being synced', async () => {
    const harness = await DirectHarness.make({ durability: 'relaxed', fileBytes: 32 * KIB });
    harness.writeRecords(6); // the next one goes to another file
    harness.files[0].hold = true;
    const changed = new Ended();
    harness.log.setDurability('strict', changed);
    const later = await harness.writeDurably();
    expect([harness.log.writtenLsn, harness.directFiles[1].writes, later.code, harness.log.durableLsn]).toEqual([7, 1, 'waiting', 0]);
    await harness.files[0].release();
    expect([changed.code, later.code, harness.log.durableLsn]).toEqual(['done', 'done', 7]);
  });

  test('within a direct life and back: the file is synced before it is written directly again', async () => {
    const harness = await DirectHarness.make({ fileBytes: 32 * KIB });
    await harness.writeDurably();
    await change(harness, 'relaxed');
    harness.writeRecords(1);
    await change(harness, 'strict');
    for (let i = 0; i < 20; i += 1) {
      if (harness.ring.freeFiles() === 0) harness.log.recycleTo(harness.log.lastLsn - 1);
      await harness.writeDurably();
    }
    const { calls } = harness.files[0];
    expect([calls[0], calls[1], calls.at(-1)]).toEqual(['sync', 'write now', 'sync']);
    expect(harness.directFiles[0].writes).toBeGreaterThan(1);
  });
});

test('a direct write that ends behind a failed sync makes nothing durable (I4): what that sync should have covered may be lost', async () => {
  const harness = await DirectHarness.make({ durability: 'relaxed', fileBytes: 128 * KIB });
  harness.writeRecords(30); // plainly; the next record begins the next file
  const [plain] = harness.files;
  plain.hold = true;
  const changed = new Ended();
  harness.log.setDurability('strict', changed);
  await settleMicrotasks();
  for (const direct of harness.directFiles) direct.hold = true;
  harness.append(1, 4);
  const ended = harness.durable(harness.append(2, 4));
  harness.log.submit();
  await settleMicrotasks();
  plain.syncError = systemError('EIO');
  await plain.release();
  expect([changed.code, ended.code]).toEqual(['failed', 'failed']);
  await harness.directFiles[1].release();
  expect(harness.directFiles[1].writes).toBeGreaterThan(0);
  expect(harness.log.durableLsn).toBe(0);
  expect(harness.log.unsynced.blockCount).toBeGreaterThan(30);
});

describe('opening', () => {
  const options = { logger: new MemoryLogger(), volume: 'v', paths: ['a', 'b'], plainFiles: [new FakeFile(), new FakeFile()], fileBytes: MIB };

  test.each(['EINVAL', 'ENOTSUP'])('answers null, with one warning, where there is no O_DIRECT (%s), and leaves no file open', async (code) => {
    const logger = new MemoryLogger();
    const opened = new FakeFile();
    let closed = 0;
    opened.close = () => {
      closed += 1;
      return Promise.resolve();
    };
    const open = (path: string): Promise<FakeFile> => (path === 'a' ? Promise.resolve(opened) : Promise.reject(systemError(code)));
    expect(await DirectLog.open({ ...options, logger, files: { open } })).toBeNull();
    expect([closed, logger.lines.map(({ level, event }) => `${level} ${event}`)]).toEqual([1, ['warn no-direct-log']]);
  });

  test('fails for any other reason', async () => {
    await expect(DirectLog.open({ ...options, files: { open: () => Promise.reject(systemError('EMFILE')) } })).rejects.toThrow('EMFILE');
  });

  test('answers null for files that are no whole pages long', async () => {
    expect(await DirectLog.open({ ...options, fileBytes: 1_000_000, files: { open: () => Promise.resolve(new FakeFile()) } })).toBeNull();
  });
});
