/** What every RemoteStore must do, as tests: run against a bucket in memory, S3 on real servers, and S3 behind a proxy. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AssertionFailure } from '../../src/base/assert.ts';
import { RemoteError, type RemoteFailure } from '../../src/store/remote-errors.ts';
import type { RemoteObject, RemoteStore } from '../../src/store/remote-store.ts';

export interface ContractOptions {
  readonly open: () => Promise<RemoteStore>;
  /** What the store does with put-if-absent. */
  readonly conditional: 'full' | 'refused';
  /** How many objects the longest listing has: beyond the store's page. */
  readonly manyObjects: number;
  /** Runs a call; the simulated store needs its world to turn meanwhile. */
  readonly run?: (call: () => Promise<void>) => Promise<void>;
}

/** Deterministic bytes that differ from place to place. */
export function pattern(lengthBytes: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  let state = seed * 2_654_435_761 + 1;
  for (let i = 0; i < lengthBytes; i += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

export async function collect(store: RemoteStore, prefix: string, startAfter?: string): Promise<RemoteObject[]> {
  const objects: RemoteObject[] = [];
  for await (const page of store.list(prefix, startAfter)) objects.push(...page);
  return objects;
}

/** The failure that a call rejects with. */
export async function failureOf(call: Promise<unknown>): Promise<RemoteError> {
  const error = await call.then(
    () => new Error('it did not fail'),
    (cause: unknown) => cause,
  );
  if (error instanceof RemoteError) return error;
  throw error;
}

export async function expectFailure(call: Promise<unknown>, failure: RemoteFailure, message: RegExp): Promise<void> {
  const error = await failureOf(call);
  expect(error.failure, error.message).toBe(failure);
  expect(error.message).toMatch(message);
}

/** A thousand objects on a real server that gets little of the processor. */
const CONTRACT_TIMEOUT_MS = 600_000;

type Run = NonNullable<ContractOptions['run']>;

function contractTest(run: Run, name: string, body: () => Promise<void>): void {
  test(name, { timeout: CONTRACT_TIMEOUT_MS }, () => run(body));
}

export function describeContract(title: string, options: ContractOptions): void {
  const { run = (call) => call() } = options;
  const MIB4 = 4 * 1024 * 1024;

  describe(title, () => {
    let store: RemoteStore;

    beforeAll(async () => {
      store = await options.open();
    });
    afterAll(() => store?.close());

    contractTest(run, 'what was put is read back, whole and by ranges', async () => {
      const bytes = pattern(MIB4, 1);
      await store.put('chunks/000001', [bytes]);
      expect(Buffer.compare(await store.getWhole('chunks/000001', MIB4), bytes)).toBe(0);
      for (const [offset, length] of [[0, 1], [0, 4096], [4095, 2], [1_000_001, 65_537], [MIB4 - 1, 1], [0, MIB4]] as const) {
        const target = new Uint8Array(length).fill(0xee);
        await store.getRange('chunks/000001', target, offset);
        expect(Buffer.compare(target, bytes.subarray(offset, offset + length)), `${offset}+${length}`).toBe(0);
      }
    });

    contractTest(run, 'parts are put back to back, from shared memory, too', async () => {
      const shared = new Uint8Array(new SharedArrayBuffer(10_000), 1000, 5000);
      shared.set(pattern(5000, 2));
      const parts = [pattern(10, 3), shared, new Uint8Array(0), pattern(1, 4)];
      await store.put('parts/some', parts);
      expect(Buffer.compare(await store.getWhole('parts/some', 10_000), Buffer.concat(parts))).toBe(0);
      await store.put('parts/shared', [shared]);
      const target = new Uint8Array(new SharedArrayBuffer(6000), 3, 4000);
      await store.getRange('parts/shared', target, 1000);
      expect(Buffer.compare(target, shared.subarray(1000))).toBe(0);
    });

    contractTest(run, 'an empty object has size 0, and no byte', async () => {
      await store.put('empty', [new Uint8Array(0)]);
      expect(await store.head('empty')).toBe(0);
      expect((await store.getWhole('empty', 100)).length).toBe(0);
      await store.getRange('empty', new Uint8Array(0), 0);
      await expectFailure(store.getRange('empty', new Uint8Array(1), 0), 'damaged', /empty.*(?:ends|short)/u);
    });

    contractTest(run, 'a put replaces what was there, whole', async () => {
      await store.put('state', [pattern(1000, 5)]);
      await store.put('state', [pattern(10, 6)]);
      expect(Buffer.compare(await store.getWhole('state', 1000), pattern(10, 6))).toBe(0);
      expect(await store.head('state')).toBe(10);
    });

    contractTest(run, 'an object that is not there is not found, by name', async () => {
      expect(await store.head('nothing/here')).toBe(null);
      await expectFailure(store.getWhole('nothing/here', 10), 'not-found', /nothing\/here/u);
      await expectFailure(store.getRange('nothing/here', new Uint8Array(10), 0), 'not-found', /nothing\/here/u);
    });

    contractTest(run, 'a range behind the end of an object is damage, not zeroes', async () => {
      await store.put('short', [pattern(100, 7)]);
      for (const offset of [100, 99, 0, 1_000_000]) {
        await expectFailure(store.getRange('short', new Uint8Array(101), offset), 'damaged', /short/u);
      }
      await expectFailure(store.getWhole('short', 99), 'damaged', /short/u);
    });

    contractTest(run, 'a listing has every object below the prefix once, behind its start', async () => {
      const names = Array.from({ length: options.manyObjects }, (_, index) => `many/${String(index).padStart(6, '0')}`);
      for (let from = 0; from < names.length; from += 32) await Promise.all(names.slice(from, from + 32).map((name) => store.put(name, [pattern(3, 8)])));
      await store.put('many-others', [pattern(3, 8)]);
      const objects = await collect(store, 'many/');
      expect(objects.map(({ key }) => key).toSorted()).toEqual(names);
      expect(objects.every(({ sizeBytes, modifiedMs }) => sizeBytes === 3 && modifiedMs > 1e12)).toBe(true);
      const half = names[Math.floor(names.length / 2)] ?? '';
      expect((await collect(store, 'many/', half)).map(({ key }) => key).toSorted()).toEqual(names.filter((name) => name > half));
      expect(await collect(store, 'none/')).toEqual([]);
      await store.remove(names);
      expect(await collect(store, 'many/')).toEqual([]);
    });

    contractTest(run, 'removing takes what is there, and what is not is no error', async () => {
      await store.put('gone/a', [pattern(3, 9)]);
      await store.put('gone/b', [pattern(3, 9)]);
      await store.put('gone/c', [pattern(3, 9)]);
      await store.remove(['gone/a']);
      await store.remove(['gone/a']);
      await store.remove(['gone/b', 'gone/never', 'gone/a']);
      await store.remove([]);
      expect(await Promise.all(['gone/a', 'gone/b', 'gone/c'].map((key) => store.head(key)))).toEqual([null, null, 3]);
    });

    contractTest(run, options.conditional === 'full' ? 'a key is created once' : 'a create is refused, and writes nothing', async () => {
      if (options.conditional === 'refused') {
        await expectFailure(store.putIfAbsent('once', [pattern(100, 10)]), 'permanent', /once.*does not do this/u);
        expect(await store.head('once')).toBe(null);
        return;
      }
      expect(await store.putIfAbsent('once', [pattern(100, 10)])).toBe('created');
      expect(await store.putIfAbsent('once', [pattern(100, 11)])).toBe('exists');
      expect(Buffer.compare(await store.getWhole('once', 100), pattern(100, 10))).toBe(0);
      await store.remove(['once']);
      expect(await store.putIfAbsent('once', [pattern(100, 11)])).toBe('created');
    });

    contractTest(run, 'of many creates at the same time one wins, and its bytes stand', async () => {
      if (options.conditional === 'refused') return;
      for (let round = 0; round < 5; round += 1) {
        const bodies = Array.from({ length: 16 }, (_, index) => pattern(64, 100 * round + index));
        const outcomes = await Promise.all(bodies.map((body) => store.putIfAbsent(`race/${round}`, [body])));
        expect(outcomes.filter((outcome) => outcome === 'created')).toHaveLength(1);
        const stored = await store.getWhole(`race/${round}`, 64);
        expect(Buffer.compare(stored, bodies[outcomes.indexOf('created')] ?? new Uint8Array(0))).toBe(0);
      }
    });

    contractTest(run, 'requests and bytes are counted', async () => {
      const before = { ...store.counters };
      await store.put('counted', [pattern(1000, 12)]);
      await store.getRange('counted', new Uint8Array(100), 0);
      await store.getWhole('counted', 1000);
      await store.remove(['counted']);
      const { counters } = store;
      expect({
        puts: counters.puts - before.puts,
        gets: counters.gets - before.gets,
        deletes: counters.deletes - before.deletes,
        sentBytes: counters.sentBytes - before.sentBytes,
        receivedBytes: counters.receivedBytes - before.receivedBytes,
      }).toEqual({ puts: 1, gets: 2, deletes: 1, sentBytes: 1000, receivedBytes: 1100 });
    });

    contractTest(run, 'a call that is ended by its caller is closed, before and while it runs', async () => {
      const ended = AbortSignal.abort();
      await expectFailure(store.put('ended', [pattern(3, 13)], { signal: ended }), 'cancelled', /ended/u);
      const controller = new AbortController();
      const call = failureOf(store.getWhole('chunks/000001', MIB4, { signal: controller.signal }));
      controller.abort();
      expect((await call).code).toBe('closed');
    });

    contractTest(run, 'a key that some store could not hold is a mistake of ours', async () => {
      await Promise.resolve();
      for (const key of ['', '/a', 'a/', 'a//b', 'a/../b', 'A', 'a b', 'ü', 'x'.repeat(201), `${'x'.repeat(150)}/`.repeat(7)]) {
        expect(() => store.put(key, []), key).toThrow(AssertionFailure);
      }
    });
  });
}
