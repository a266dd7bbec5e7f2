import { describe, expect, test } from 'vitest';
import { LOG_HEADER_BYTES } from '../../src/format/log-record.ts';
import { settleMicrotasks, systemError } from '../support/fake-world.ts';
import { LogHarness, ONE_BLOCK_RECORD_BYTES, recover } from '../support/log-harness.ts';

/** Everything through the thread pool: calls end when the test says so. */
const BACKGROUND = { settings: { logInlineBytes: 0 } };

describe('records of one turn', () => {
  test('reach the kernel in one write, and nobody is told before', () => {
    const harness = new LogHarness();
    const waits = [harness.append(0), harness.append(1), harness.append(2, 10)].map((lsn) => harness.written(lsn));
    expect(waits.map((wait) => wait.code)).toEqual(['waiting', 'waiting', 'waiting']);
    expect(harness.files[0].writes).toBe(0);
    harness.log.submit();
    expect(waits.map((wait) => wait.code)).toEqual(['done', 'done', 'done']);
    expect(harness.files[0].calls).toEqual(['write now']);
    expect([harness.log.lastLsn, harness.log.writtenLsn, harness.log.durableLsn]).toEqual([3, 3, 0]);
  });

  test('are written through the thread pool when they are many bytes, and the next ones gather meanwhile', async () => {
    const harness = new LogHarness({ settings: { logInlineBytes: 10_000 } });
    const [file] = harness.files;
    file.hold = true;
    const large = harness.written(harness.append(0, 8));
    harness.log.submit();
    const small = [harness.written(harness.append(1))];
    harness.log.submit();
    small.push(harness.written(harness.append(2)));
    harness.log.submit();
    expect(file.calls).toEqual(['write']);
    expect(large.code).toBe('waiting');
    await file.release();
    expect([large.code, ...small.map((wait) => wait.code)]).toEqual(['done', 'done', 'done']);
    // Two turns, one write.
    expect(file.calls).toEqual(['write', 'write now']);
  });

  test('leave the turn for a while after a slow write', () => {
    const harness = new LogHarness({ settings: { logInlineLatencyMs: 2 } });
    const [file] = harness.files;
    file.during = () => harness.clock.spend(50);
    harness.writeRecords(1);
    file.hold = true;
    harness.writeRecords(1);
    expect(file.calls).toEqual(['write now', 'write']);
  });
});

describe('one sync', () => {
  test('serves all that wait, and what comes while it is under way waits for the next', async () => {
    const harness = new LogHarness({ durability: 'strict' });
    const [file] = harness.files;
    file.hold = true;
    const first = [harness.durable(harness.append(0)), harness.durable(harness.append(1))];
    harness.log.submit();
    const second = harness.durable(harness.append(2));
    harness.log.submit();
    expect(file.syncs).toBe(1);
    await file.release();
    expect([...first.map((wait) => wait.code), second.code]).toEqual(['done', 'done', 'waiting']);
    expect(harness.log.durableLsn).toBe(2);
    await file.release();
    expect(second.code).toBe('done');
    expect(file.syncs).toBe(2);
  });

  test('covers no write that was still under way when it began, and a later one does', async () => {
    const harness = new LogHarness(BACKGROUND);
    const [file] = harness.files;
    file.hold = true;
    harness.append(0);
    harness.log.submit();
    await file.release();
    harness.append(1);
    harness.log.submit(); // its write is under way
    const first = harness.durable(1);
    harness.log.submit();
    expect(file.held.map((call) => call.kind)).toEqual(['write', 'sync']);
    const [write, sync] = file.held.splice(0);
    write.end.resolve();
    await settleMicrotasks();
    sync.end.resolve();
    await settleMicrotasks();
    expect(first.code).toBe('done');
    expect(harness.log.durableLsn).toBe(1);
    const second = harness.durable(2);
    harness.log.submit();
    await file.release();
    expect(second.code).toBe('done');
    expect(file.synced.length).toBe(LOG_HEADER_BYTES + 2 * ONE_BLOCK_RECORD_BYTES);
    expect((await recover([Object.assign(file, { hold: false }), harness.files[1], harness.files[2]])).lastLsn).toBe(2);
  });

  test('reaches every file that holds something unsynced', async () => {
    const harness = new LogHarness({ fileBytes: LOG_HEADER_BYTES + 2 * ONE_BLOCK_RECORD_BYTES });
    harness.writeRecords(3);
    await harness.sync();
    expect(harness.files.map((file) => file.syncs)).toEqual([1, 1, 0]);
    expect(harness.files[1].synced.length).toBe(LOG_HEADER_BYTES + ONE_BLOCK_RECORD_BYTES);
    harness.writeRecords(1);
    await harness.sync();
    expect(harness.files.map((file) => file.syncs)).toEqual([1, 2, 0]);
  });

  test('is done within the turn once several in a row were fast', async () => {
    const harness = new LogHarness({ durability: 'strict', settings: { logInlineSyncLatencyMs: 1 } });
    for (let i = 0; i < 10; i += 1) {
      harness.append(i);
      const wait = harness.durable(i + 1);
      harness.log.submit();
      await settleMicrotasks();
      expect(wait.code).toBe('done');
    }
    expect(harness.files[0].calls.filter((call) => call === 'sync now').length).toBe(2);
  });
});

describe('the durability mode', () => {
  test('batched syncs when enough blocks are unsynced', async () => {
    const harness = new LogHarness({ durability: 'batched', settings: { batchBlocks: 4 } });
    harness.writeRecords(3);
    await settleMicrotasks();
    expect(harness.files[0].syncs).toBe(0);
    harness.writeRecords(1);
    await settleMicrotasks();
    expect(harness.log.durableLsn).toBe(4);
  });

  test('batched syncs when the oldest unsynced write has its age, and not before', async () => {
    const harness = new LogHarness({ durability: 'batched', settings: { batchMs: 100 } });
    harness.writeRecords(1);
    harness.clock.advance(60);
    harness.writeRecords(1);
    harness.clock.advance(39);
    await settleMicrotasks();
    expect(harness.files[0].syncs).toBe(0);
    harness.clock.advance(1);
    await settleMicrotasks();
    expect(harness.log.durableLsn).toBe(2);
    harness.clock.advance(1000);
    await settleMicrotasks();
    expect(harness.files[0].syncs).toBe(1); // nothing is synced when nothing was written
  });

  test('batched needs no sync for what chunks have made durable meanwhile', async () => {
    const harness = new LogHarness({ durability: 'batched', settings: { batchMs: 100 } });
    harness.writeRecords(1);
    harness.log.recycleTo(1);
    harness.clock.advance(1000);
    await settleMicrotasks();
    expect(harness.files[0].syncs).toBe(0);
    expect(harness.log.durableLsn).toBe(1);
  });

  test('relaxed never syncs by itself', async () => {
    const harness = new LogHarness({ durability: 'relaxed', settings: { batchBlocks: 1, batchMs: 1, asyncIntervalMs: 1 } });
    harness.writeRecords(10);
    harness.clock.advance(1e6);
    await settleMicrotasks();
    expect(harness.files[0].syncs).toBe(0);
    expect(harness.log.writtenLsn).toBe(10);
  });

  test('async writes and syncs once an interval', async () => {
    const harness = new LogHarness({ durability: 'async', settings: { asyncIntervalMs: 100 } });
    harness.writeRecords(3);
    expect(harness.files[0].calls).toEqual([]);
    harness.clock.advance(100);
    await settleMicrotasks();
    expect(harness.files[0].calls).toEqual(['write now', 'sync']);
    expect(harness.log.durableLsn).toBe(3);
  });
});

describe('a full disk', () => {
  test('stalls the log: who waits is told, nothing new is taken, and the same records go to the same place when there is space', async () => {
    const harness = new LogHarness();
    const [file] = harness.files;
    harness.writeRecords(1);
    file.writeError = systemError('ENOSPC');
    const waits = [harness.written(harness.append(1)), harness.durable(2)];
    harness.log.submit();
    expect(waits.map((wait) => wait.code)).toEqual(['no-space', 'no-space']);
    expect(harness.log.trouble?.code).toBe('no-space');
    expect(harness.log.hasRoom(1)).toBe(false);
    expect(() => harness.append(2)).toThrow(/takes none/);
    harness.clock.advance(10);
    await settleMicrotasks();
    expect(harness.log.trouble?.code).toBe('no-space'); // still full: tried again, and again it waits
    file.writeError = null;
    const { rooms } = harness;
    harness.clock.advance(10);
    await settleMicrotasks();
    expect(harness.log.trouble).toBeNull();
    expect(harness.rooms).toBeGreaterThan(rooms);
    expect(harness.log.writtenLsn).toBe(2);
    harness.writeRecords(1);
    expect(file.bytes.length).toBe(LOG_HEADER_BYTES + 3 * ONE_BLOCK_RECORD_BYTES);
    expect((await recover(harness.files)).replayed.map((record) => record.lsn)).toEqual([1, 2, 3]);
    expect(harness.failures).toEqual([]);
  });

  test('does not keep what was written before from being synced', async () => {
    const harness = new LogHarness();
    harness.writeRecords(1);
    harness.files[0].writeError = systemError('ENOSPC');
    harness.writeRecords(1);
    const flush = harness.durable(1);
    harness.log.submit();
    await settleMicrotasks();
    expect(flush.code).toBe('done');
  });

  test('is noticed by a write in the thread pool just the same', async () => {
    const harness = new LogHarness(BACKGROUND);
    harness.files[0].writeError = systemError('EDQUOT');
    const wait = harness.written(harness.append(0));
    harness.log.submit();
    await settleMicrotasks();
    expect(wait.code).toBe('no-space');
    harness.files[0].writeError = null;
    harness.clock.advance(10);
    await settleMicrotasks();
    expect(harness.log.writtenLsn).toBe(1);
  });
});

describe('a failed sync', () => {
  test.each([
    ['in the thread pool', 0],
    ['within the turn', 1000],
  ])('%s is final: everybody is told, and no later sync is tried as if nothing had happened', async (_, logInlineSyncLatencyMs) => {
    const harness = new LogHarness({ durability: 'strict', settings: { logInlineSyncLatencyMs } });
    for (let i = 0; i < 9; i += 1) {
      harness.append(i);
      const warm = harness.durable(i + 1);
      harness.log.submit();
      await settleMicrotasks();
      expect(warm.code).toBe('done');
    }
    const [file] = harness.files;
    file.syncError = systemError('EIO');
    const wait = harness.durable(harness.append(10));
    harness.log.submit();
    await settleMicrotasks();
    expect(wait.code).toBe('failed');
    expect(harness.failures.map((error) => error.code)).toEqual(['failed']);
    expect(harness.failures[0].message).toContain('syncing the log failed');
    file.syncError = null;
    const { syncs, writes } = file;
    expect(harness.durable(10).code).toBe('failed');
    harness.log.submit();
    harness.log.writeOut();
    harness.clock.advance(1e6);
    await settleMicrotasks();
    expect([file.syncs, file.writes]).toEqual([syncs, writes]);
    expect(harness.log.hasRoom(1)).toBe(false);
    expect(() => harness.append(11)).toThrow(/takes none/);
    expect(harness.log.durableLsn).toBe(9);
  });

  test('that says ENOSPC is final, too', async () => {
    const harness = new LogHarness();
    harness.files[0].syncError = systemError('ENOSPC');
    const wait = harness.durable(harness.append(0));
    harness.log.submit();
    await settleMicrotasks();
    expect(wait.code).toBe('failed');
  });
});

describe('a write that fails for another reason than space', () => {
  test.each([
    ['within the turn', {}],
    ['in the thread pool', BACKGROUND],
  ])('%s ends the log', async (_, options) => {
    const harness = new LogHarness(options);
    harness.files[0].writeError = systemError('EIO');
    const wait = harness.written(harness.append(0));
    harness.log.submit();
    await settleMicrotasks();
    expect(wait.code).toBe('failed');
    expect(harness.failures.length).toBe(1);
    expect(harness.log.trouble?.code).toBe('failed');
  });
});

describe('the ring', () => {
  const fileBytes = LOG_HEADER_BYTES + 4 * ONE_BLOCK_RECORD_BYTES;

  test('is full when its files hold records that are needed, and has room when they are recycled', () => {
    const harness = new LogHarness({ fileBytes });
    harness.writeRecords(12);
    expect(harness.log.hasRoom(1)).toBe(false);
    harness.log.recycleTo(3);
    expect(harness.log.hasRoom(1)).toBe(false); // the first file still holds record 4
    harness.log.recycleTo(4);
    expect(harness.rooms).toBe(1);
    expect(harness.log.hasRoom(1)).toBe(true);
    harness.writeRecords(1);
    expect(harness.files.map((file) => file.bytes.length)).toEqual([fileBytes, fileBytes, fileBytes]);
  });

  test('never grows beyond its files, however much is written', async () => {
    const harness = new LogHarness({ fileBytes });
    for (let i = 0; i < 50; i += 1) {
      harness.writeRecords(1);
      harness.log.recycleTo(harness.log.writtenLsn);
    }
    expect(harness.files.every((file) => file.bytes.length <= fileBytes)).toBe(true);
    expect((await recover(harness.files, { chunkedLsn: 50 })).lastLsn).toBe(50);
  });
});

test('closing fails who still waits, and forgets what was never submitted', async () => {
  const harness = new LogHarness();
  const wait = harness.written(harness.append(0));
  await harness.log.close();
  expect(wait.code).toBe('closed');
  expect(harness.files[0].bytes.length).toBe(0);
  expect(harness.clock.pendingTimers).toBe(0);
});
