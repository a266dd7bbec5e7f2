import { describe, expect, test } from 'vitest';
import { DURABILITY_MODES, type Durability } from '../../src/base/durability.ts';
import { settleMicrotasks, systemError } from '../support/fake-world.ts';
import { Ended, LogHarness } from '../support/log-harness.ts';

function change(harness: LogHarness, durability: Durability): Ended {
  const ended = new Ended();
  harness.log.setDurability(durability, ended);
  return ended;
}

function flush(harness: LogHarness): Ended {
  const ended = new Ended();
  harness.log.flush(ended);
  harness.log.submit();
  return ended;
}

const PAIRS = DURABILITY_MODES.flatMap((from) => DURABILITY_MODES.filter((to) => to !== from).map((to) => [from, to] as const));

describe('a change of the durability mode', () => {
  test.each(PAIRS)('from %s to %s is done when everything before it is durable', async (from, to) => {
    const harness = new LogHarness({ durability: from });
    const [file] = harness.files;
    file.hold = true;
    harness.writeRecords(2);
    harness.append(7); // of a turn that has not ended
    const changed = change(harness, to);
    expect(changed.code).toBe('waiting');
    for (let i = 0; i < 4 && changed.code === 'waiting'; i += 1) await file.release();
    expect(changed.code).toBe('done');
    expect([harness.log.writtenLsn, harness.log.durableLsn]).toEqual([3, 3]);
  });

  test('does not wait for a writer, nor he for it, when there is nothing to sync', () => {
    expect(change(new LogHarness({ durability: 'strict' }), 'async').code).toBe('done');
  });

  test('to async leaves nobody waiting who wrote in another mode', () => {
    const harness = new LogHarness({ durability: 'relaxed', settings: { logInlineBytes: 64 * 1024 } });
    change(harness, 'async');
    const wait = harness.written(harness.append(0)); // accepted as relaxed in the turn of the change
    harness.log.submit();
    expect(wait.code).toBe('done');
  });

  test('from async: a flush at once covers what was answered from memory, though its write is still under way', async () => {
    const harness = new LogHarness({ durability: 'async', settings: { logInlineBytes: 5000 } });
    const [file] = harness.files;
    file.hold = true;
    harness.append(0, 8);
    harness.log.submit(); // larger than what may wait: its write is under way
    harness.append(1);
    harness.log.submit(); // held back, and answered
    change(harness, 'relaxed');
    const flushed = flush(harness);
    await file.release();
    expect([flushed.code, harness.log.writtenLsn]).toEqual(['waiting', 2]);
    while (file.held.length > 0) await file.release();
    expect([flushed.code, harness.log.durableLsn]).toEqual(['done', 2]);
  });

  test('to batched counts from now on, not from the end of an interval of async', async () => {
    const harness = new LogHarness({ durability: 'async', settings: { asyncIntervalMs: 60_000, batchMs: 20 } });
    harness.writeRecords(1);
    change(harness, 'batched');
    await settleMicrotasks();
    harness.writeRecords(1);
    harness.clock.advance(20);
    await settleMicrotasks();
    expect(harness.log.durableLsn).toBe(2);
  });

  test('to async takes its interval from now on', async () => {
    const harness = new LogHarness({ durability: 'batched', settings: { asyncIntervalMs: 50, batchMs: 60_000 } });
    harness.writeRecords(1);
    change(harness, 'async');
    await settleMicrotasks();
    harness.writeRecords(1);
    expect(harness.log.writtenLsn).toBe(1);
    harness.clock.advance(50);
    await settleMicrotasks();
    expect([harness.log.writtenLsn, harness.log.durableLsn]).toEqual([2, 2]);
  });

  test('to relaxed leaves no timer behind', () => {
    const harness = new LogHarness({ durability: 'batched' });
    harness.writeRecords(1);
    expect(harness.clock.pendingTimers).toBe(1);
    change(harness, 'relaxed');
    expect(harness.clock.pendingTimers).toBe(0);
  });

  test('whose sync fails says so, and the log is done', async () => {
    const harness = new LogHarness({ durability: 'relaxed' });
    harness.writeRecords(1);
    harness.files[0].syncError = systemError('EIO');
    const changed = change(harness, 'strict');
    await settleMicrotasks();
    expect([changed.code, harness.failures[0]?.code]).toEqual(['failed', 'failed']);
  });

  test('on a full disk says so, and what was answered before is written when there is space', async () => {
    const harness = new LogHarness({ durability: 'async' });
    harness.writeRecords(1);
    harness.files[0].writeError = systemError('ENOSPC');
    const changed = change(harness, 'strict');
    expect(changed.code).toBe('no-space');
    harness.files[0].writeError = null;
    harness.clock.advance(10);
    await settleMicrotasks();
    expect(flush(harness).code).toBe('waiting');
    await settleMicrotasks();
    expect(harness.log.durableLsn).toBe(1);
  });
});

describe('what is unsynced', () => {
  test('is counted from the moment it is accepted, wherever it is, until it is durable', async () => {
    const harness = new LogHarness({ settings: { logInlineBytes: 0 } });
    const [file] = harness.files;
    file.hold = true;
    expect(harness.log.unsynced).toEqual({ blockCount: 0, sinceMs: Number.POSITIVE_INFINITY });
    harness.clock.advance(100);
    harness.append(0, 3);
    expect(harness.log.unsynced).toEqual({ blockCount: 3, sinceMs: 100 });
    harness.log.submit(); // its write is under way
    harness.clock.advance(10);
    harness.append(4);
    harness.clock.advance(5);
    harness.log.appendZero(0, 1000, false); // however long, one block
    expect(harness.log.unsynced).toEqual({ blockCount: 5, sinceMs: 100 });
    await file.release(); // written; the rest follows by itself
    expect(harness.log.unsynced).toEqual({ blockCount: 5, sinceMs: 100 });
    const flushed = flush(harness);
    await settleMicrotasks();
    const sync = file.held.findIndex((call) => call.kind === 'sync');
    file.held.splice(sync, 1)[0].end.resolve();
    await settleMicrotasks();
    expect(flushed.code).toBe('done');
    expect(harness.log.unsynced).toEqual({ blockCount: 2, sinceMs: 110 });
    await file.release();
    expect(harness.log.writtenLsn).toBe(3);
    harness.log.recycleTo(3); // in chunks
    expect(harness.log.unsynced).toEqual({ blockCount: 0, sinceMs: Number.POSITIVE_INFINITY });
  });
});
