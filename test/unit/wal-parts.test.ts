/** The small parts of the log: who waits, what is unsynced, where bytes go, what may be done within the turn. */
import { describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { GENERATIONS_PER_EPOCH, LOG_HEADER_BYTES } from '../../src/format/log-record.ts';
import { LatencyPolicy } from '../../src/wal/latency-policy.ts';
import { LogBatch } from '../../src/wal/log-batch.ts';
import { LogRing } from '../../src/wal/log-ring.ts';
import { Unsynced } from '../../src/wal/unsynced.ts';
import { WaitQueue } from '../../src/wal/waiters.ts';

describe('waiters', () => {
  test('are settled in order, up to the LSN that was reached', () => {
    const queue = new WaitQueue();
    const order: number[] = [];
    for (const lsn of [3, 5, 5, 9]) queue.push(lsn, { settle: () => order.push(lsn) });
    expect(queue.firstLsn).toBe(3);
    queue.settleTo(2);
    expect(order).toEqual([]);
    queue.settleTo(5);
    expect(order).toEqual([3, 5, 5]);
    expect(queue.firstLsn).toBe(9);
    queue.settleTo(100);
    expect([queue.isEmpty, queue.firstLsn]).toEqual([true, Number.POSITIVE_INFINITY]);
  });

  test('may wait again while they are settled, also for what is reached already', () => {
    const queue = new WaitQueue();
    let settled = 0;
    const again = { settle: () => (settled += 1) };
    queue.push(1, {
      settle: () => {
        queue.push(1, again);
        queue.push(7, again);
      },
    });
    queue.settleTo(1);
    expect(settled).toBe(1);
    expect(queue.firstLsn).toBe(7);
  });

  test('all fail at once, and those that come while they do stay', () => {
    const queue = new WaitQueue();
    const errors: unknown[] = [];
    const late = { settle: (error: VolumeError | null) => errors.push(error) };
    queue.push(1, {
      settle: (error) => {
        errors.push(error);
        queue.push(2, late);
      },
    });
    queue.failAll(new VolumeError('failed', 'over'));
    expect(errors.length).toBe(1);
    expect(queue.firstLsn).toBe(2);
  });

  test('are many without being moved for each one', () => {
    const queue = new WaitQueue();
    let settled = 0;
    for (let lsn = 1; lsn <= 20_000; lsn += 1) queue.push(lsn, { settle: () => (settled += 1) });
    for (let lsn = 1; lsn <= 20_000; lsn += 1) {
      queue.settleTo(lsn);
      expect(settled === lsn).toBe(true);
    }
  });
});

describe('what is unsynced', () => {
  test('is counted write by write, and its age is that of the oldest', () => {
    const unsynced = new Unsynced();
    expect(unsynced.oldestMs).toBe(Number.POSITIVE_INFINITY);
    unsynced.add(4, 10, 100);
    unsynced.add(6, 1, 150);
    unsynced.durableTo(5);
    expect([unsynced.blockCount, unsynced.oldestMs]).toEqual([1, 150]);
    unsynced.durableTo(6);
    expect([unsynced.blockCount, unsynced.oldestMs]).toEqual([0, Number.POSITIVE_INFINITY]);
  });

  test('counts a write that is durable in part until it is whole', () => {
    const unsynced = new Unsynced();
    unsynced.add(10, 8, 1);
    unsynced.durableTo(9);
    expect(unsynced.blockCount).toBe(8);
  });
});

function gathered(batch: LogBatch): { fileIndex: number; offsetBytes: number; bytes: number[] }[] {
  batch.finish();
  return batch.segments.map(({ fileIndex, offsetBytes, parts }) => ({ fileIndex, offsetBytes, bytes: [...Buffer.concat(parts)] }));
}

function put(batch: LogBatch, ...values: number[]): void {
  const { bytes, start } = batch.reserve(values.length);
  bytes.set(values, start);
}

describe('a batch', () => {
  test('keeps own and borrowed bytes in their order, file by file', () => {
    const batch = new LogBatch();
    batch.beginSegment(0, 100);
    put(batch, 1, 2);
    put(batch, 3);
    batch.appendBorrowed(Uint8Array.of(4, 5));
    put(batch, 6);
    batch.beginSegment(1, 0);
    put(batch, 7);
    expect(gathered(batch)).toEqual([
      { fileIndex: 0, offsetBytes: 100, bytes: [1, 2, 3, 4, 5, 6] },
      { fileIndex: 1, offsetBytes: 0, bytes: [7] },
    ]);
    expect(batch.bytes).toBe(7);
  });

  test('grows beyond its first piece of memory without moving what is there', () => {
    const batch = new LogBatch();
    batch.beginSegment(0, 0);
    const chunk = 100_000;
    for (let i = 0; i < 7; i += 1) {
      const { bytes, start } = batch.reserve(chunk);
      bytes.fill(i, start, start + chunk);
    }
    batch.finish();
    const all = Buffer.concat(batch.segments[0].parts);
    expect(all.length).toBe(7 * chunk);
    for (let i = 0; i < 7; i += 1) expect(all.subarray(i * chunk, (i + 1) * chunk).every((byte) => byte === i)).toBe(true);
  });

  test('is empty again after a reset', () => {
    const batch = new LogBatch();
    batch.beginSegment(0, 0);
    put(batch, 1);
    batch.finish();
    batch.reset();
    expect([batch.isEmpty, batch.bytes, batch.blockCount, batch.lastLsn]).toEqual([true, 0, 0, 0]);
    batch.beginSegment(2, 8);
    put(batch, 9);
    expect(gathered(batch)).toEqual([{ fileIndex: 2, offsetBytes: 8, bytes: [9] }]);
  });

  test('takes no bytes whose place is unknown', () => {
    expect(() => new LogBatch().appendBorrowed(Uint8Array.of(1))).toThrow(/before their place/);
  });
});

describe('the ring of log files', () => {
  const options = { fileCount: 3, fileBytes: LOG_HEADER_BYTES + 1000, epoch: 5, lives: [], chunkedLsn: 0 };

  test('gives files in turn, and each life a generation of its own', () => {
    const ring = new LogRing(options);
    const lives = [1, 2, 3].map((lsn) => {
      const life = ring.begin(lsn);
      ring.advance(100, lsn);
      return life;
    });
    expect(lives.map((life) => life.fileIndex)).toEqual([0, 1, 2]);
    expect(lives.map((life) => life.generation)).toEqual([0, 1, 2].map((count) => 5 * GENERATIONS_PER_EPOCH + count));
    expect(ring.freeFiles()).toBe(0);
    expect(() => ring.begin(4)).toThrow(/all hold records that are needed/);
  });

  test('frees a file only when all its records are in chunks, and never the current one', () => {
    const ring = new LogRing(options);
    ring.begin(1);
    ring.advance(100, 1);
    ring.advance(100, 2);
    ring.begin(3);
    ring.advance(100, 3);
    expect(ring.recycleTo(1)).toBe(false);
    expect(ring.recycleTo(2)).toBe(true);
    expect(ring.recycleTo(3)).toBe(false);
    expect(ring.freeFiles()).toBe(2);
  });

  test('goes on behind the lives that recovery found, and keeps them until they are not needed', () => {
    const ring = new LogRing({ ...options, lives: [{ fileIndex: 1, generation: 3, firstLsn: 5, previousGeneration: 0, lastLsn: 9 }], chunkedLsn: 4 });
    const next = ring.begin(10);
    expect(next).toMatchObject({ fileIndex: 2, previousGeneration: 3 });
    ring.advance(1000, 10);
    expect(ring.begin(11)).toMatchObject({ fileIndex: 0, previousGeneration: next.generation });
    expect(ring.freeFiles()).toBe(0);
    expect(ring.recycleTo(9)).toBe(true);
  });

  test('takes no record that does not fit, or comes out of order', () => {
    const ring = new LogRing(options);
    ring.begin(1);
    expect(ring.remaining).toBe(1000);
    expect(() => ring.advance(1001, 1)).toThrow(/does not fit/);
    expect(() => ring.advance(10, 2)).toThrow(/out of order/);
  });
});

describe('work within the turn', () => {
  test('is stopped by a slow write for a time that follows what it took', () => {
    const policy = new LatencyPolicy({ writeMs: 2, syncMs: 0 });
    policy.wrote(100, 2);
    expect(policy.mayWriteNow(100)).toBe(true);
    policy.wrote(100, 5);
    expect([policy.mayWriteNow(199), policy.mayWriteNow(200)]).toEqual([false, true]);
    policy.wrote(1000, 60_000);
    expect([policy.mayWriteNow(60_999), policy.mayWriteNow(61_000)]).toEqual([false, true]);
  });

  test('syncs only after many fast ones, and one very slow sync ends it for long', () => {
    const policy = new LatencyPolicy({ writeMs: 1, syncMs: 1 });
    const fast = (count: number): void => {
      for (let i = 0; i < count; i += 1) policy.synced(0.5, false);
    };
    fast(7);
    expect(policy.maySyncNow()).toBe(false);
    fast(1);
    expect(policy.maySyncNow()).toBe(true);
    policy.synced(2, true); // an outlier costs little
    expect(policy.maySyncNow()).toBe(false);
    fast(2);
    expect(policy.maySyncNow()).toBe(true);
    policy.synced(100, true);
    fast(255);
    expect(policy.maySyncNow()).toBe(false);
    fast(1);
    expect(policy.maySyncNow()).toBe(true);
  });

  test('never syncs where the limit is 0', () => {
    const policy = new LatencyPolicy({ writeMs: 1, syncMs: 0 });
    for (let i = 0; i < 1000; i += 1) policy.synced(0, false);
    expect(policy.maySyncNow()).toBe(false);
  });
});
