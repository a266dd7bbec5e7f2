/** Memory of shipping, and what a store ships from it. */
import { describe, expect, test } from 'vitest';
import { KIB } from '../../src/base/units.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { ShipCopies } from '../../src/store/ship-copies.ts';
import { TieredStore } from '../../src/store/tiered-store.ts';
import { SimMachine } from '../support/engine-harness.ts';

const BUFFER = 8 * KIB;

function copies(count: number): ShipCopies {
  return new ShipCopies({ memoryBytes: (count + 1) * BUFFER - 1, objectBytes: BUFFER, readersMax: 1 });
}

function reads(machine: SimMachine): number {
  return machine.calls.filter(({ kind }) => kind === 'read').length;
}

describe('copies', () => {
  const bytes = Uint8Array.from([1, 2, 3, 4, 5]);

  test('are of the parts, back to back', () => {
    const two = copies(1);
    const copy = two.begin(5);
    copy?.append([bytes.subarray(0, 2), bytes.subarray(2, 3)]);
    copy?.append([bytes.subarray(3)]);
    if (copy !== null) two.keep('chunks/a', copy);
    expect(two.lease('chunks/a')?.bytes).toEqual(bytes);
    expect(two.lease('chunks/b')).toBe(null);
  });

  test('are as many as fit, and none of what is longer', () => {
    const two = copies(2);
    expect(two.begin(BUFFER + 1)).toBe(null);
    const [first, second] = [two.begin(1), two.begin(BUFFER)];
    expect([first === null, second === null, two.begin(1)]).toEqual([false, false, null]);
    if (first !== null) two.abandon(first);
    expect(two.begin(1)?.memory).toBe(first?.memory);
  });

  test('that are dropped while they are shipped keep their memory until that is over', () => {
    const one = copies(1);
    const copy = one.begin(5);
    copy?.append([bytes]);
    if (copy !== null) one.keep('chunks/a', copy);
    const lease = one.lease('chunks/a');
    one.drop('chunks/a');
    expect(one.begin(1)).toBe(null);
    expect(lease?.bytes).toEqual(bytes);
    lease?.release(true);
    expect(one.begin(1)?.memory).toBe(copy?.memory);
  });

  test('that somebody may still look at are not written over, but make room for others', () => {
    const one = copies(1);
    const copy = one.begin(5);
    if (copy !== null) one.keep('chunks/a', copy);
    const lease = one.lease('chunks/a');
    one.drop('chunks/a');
    lease?.release(false);
    const next = one.begin(1);
    expect(next).not.toBe(null);
    expect(next?.memory).not.toBe(copy?.memory);
  });

  test('that were not shipped stay for the next try', () => {
    const one = copies(1);
    const copy = one.begin(5);
    copy?.append([bytes]);
    if (copy !== null) one.keep('chunks/a', copy);
    one.lease('chunks/a')?.release(false);
    expect(one.lease('chunks/a')?.bytes).toEqual(bytes);
    expect(one.begin(1)).toBe(null);
  });

  test('memory for reading is used again, and is never short', () => {
    const none = copies(0);
    const first = none.leaseForReading(100);
    const second = none.leaseForReading(100);
    expect([first.bytes.length, second.bytes.length, none.leaseForReading(2 * BUFFER).bytes.length]).toEqual([100, 100, 2 * BUFFER]);
    second.release(true);
    first.release(true);
    expect(none.leaseForReading(7).bytes.buffer).toBe(first.bytes.buffer);
    const lost = none.leaseForReading(7);
    expect(lost.bytes.buffer).not.toBe(first.bytes.buffer);
  });
});

describe('a store', () => {
  const KEY = 'chunks/a';
  const content = Uint8Array.from({ length: 5000 }, (_, index) => index % 251);

  /** With a chunk in it that waits to be shipped; `problems` are found in what is to be shipped, one after another. */
  async function withChunk(problems: (string | null)[], task: (store: TieredStore, machine: SimMachine) => Promise<void>): Promise<void> {
    const machine = new SimMachine();
    const { files, clock } = machine.env;
    await machine.run(async () => {
      for (const folder of ['/v', '/v/chunks']) await files.makeDirectory(folder);
      const store = new TieredStore({
        local: new DirectoryStore(files, '/v', 0),
        files,
        clock,
        directory: '/v',
        remote: { getRange: () => Promise.reject(new Error('nothing is read from the bucket')) },
        shippedFolder: 'chunks/',
        cacheBytes: 1e9,
        cacheTtlMs: 0,
        fetchBytes: 4 * KIB,
        readAheadBytes: 0,
        shipMemoryBytes: BUFFER,
        shipConcurrency: 1,
        bufferBytes: BUFFER,
        problemOf: () => Promise.resolve(problems.shift() ?? null),
        onRotten: () => undefined,
      });
      const staged = await store.stage(KEY, content.length);
      expect(staged.isCopied).toBe(true);
      await staged.append([content]);
      await staged.seal();
      await store.publish([staged]);
      await task(store, machine);
    });
  }

  test('ships from memory what it has just written, and gives the memory to the next one', async () => {
    await withChunk([], async (store, machine) => {
      const lease = await store.leaseSound(KEY);
      expect([lease?.bytes, reads(machine)]).toEqual([content, 0]);
      expect((await store.stage('chunks/b', 10)).isCopied).toBe(false);
      await store.shipped(KEY, content.length);
      lease?.release(true);
      expect((await store.stage('chunks/c', 10)).isCopied).toBe(true);
    });
  });

  test('ships what is on the disk where memory is not what it was', async () => {
    await withChunk(['a bit flipped', null], async (store, machine) => {
      const lease = await store.leaseSound(KEY);
      expect([lease?.bytes, reads(machine)]).toEqual([content, 1]);
      lease?.release(true);
      expect((await store.stage('chunks/b', 10)).isCopied).toBe(true);
    });
  });

  test('ships nothing where neither is', async () => {
    await withChunk(['a bit flipped', 'so it did there'], async (store) => {
      await expect(store.leaseSound(KEY)).rejects.toMatchObject({ code: 'corrupt', context: { rotten: true } });
    });
  });

  test('has no copy of what was removed', async () => {
    await withChunk([], async (store) => {
      await store.remove(KEY, content.length);
      expect(await store.leaseSound(KEY)).toBe(null);
      expect((await store.stage('chunks/b', 10)).isCopied).toBe(true);
    });
  });

  test('has no copy of what was given up', async () => {
    await withChunk([], async (store) => {
      await store.remove(KEY, content.length);
      const staged = await store.stage('chunks/b', 10);
      await staged.append([content.subarray(0, 10)]);
      await staged.abandon();
      expect((await store.stage('chunks/c', 10)).isCopied).toBe(true);
    });
  });
});
