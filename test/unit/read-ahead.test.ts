/** Which chunks are fetched before they are read. */
import { expect, test } from 'vitest';
import { Leaf, LEAF_BLOCKS, LOOKUP } from '../../src/index/block-map.ts';
import { ReadAhead } from '../../src/volume/read-ahead.ts';

const BLOCK = 4096;
const LEAF_BYTES = LEAF_BLOCKS * BLOCK;
const MIB = 1024 * 1024;

/** Block for block in one of eight chunks, other ones in each leaf. */
function scattered(blockNumber: number): number {
  return (blockNumber % 8) + 1 + 8 * Math.floor(blockNumber / LEAF_BLOCKS);
}

/** A volume of which `chunkAt` says where blocks are; 0: nowhere. */
class Volume {
  readonly fetched: number[] = [];
  readonly loaded: number[] = [];
  /** So many chunks find memory. */
  room = Number.POSITIVE_INFINITY;
  readonly missing = new Set<number>();
  readonly ahead: ReadAhead;

  constructor(chunkAt: (blockNumber: number) => number, limitBytes = 16 * MIB, blockCount = LEAF_BLOCKS) {
    const map = {
      foundChunk: 0,
      leaf: (index: number) => new Leaf(index, this.missing.has(index) ? { number: 1, epoch: 1, offset: 0, length: 1, checksum: 0 } : null),
      load: (index: number) => {
        this.loaded.push(index);
        this.missing.delete(index);
        return Promise.resolve();
      },
      lookup: (blockNumber: number) => {
        map.foundChunk = chunkAt(blockNumber);
        return map.foundChunk === 0 ? LOOKUP.EMPTY : LOOKUP.STORED;
      },
    };
    const fetchAhead = (chunk: number): boolean => {
      if (this.fetched.includes(chunk)) return true;
      if (this.room === 0) return false;
      this.room -= 1;
      this.fetched.push(chunk);
      return true;
    };
    this.ahead = new ReadAhead({ map, blockSizeBytes: BLOCK, limitBytes, fetchAhead, blockCountOf: () => blockCount, nowMs: () => this.nowMs });
  }

  nowMs = 0;

  read(from: number, count: number): boolean[] {
    return Array.from({ length: count }, (_, index) => this.ahead.next((from + index) * MIB, MIB));
  }
}

const leafOf = (blockNumber: number): number => Math.floor(blockNumber / LEAF_BLOCKS) + 1;

test('the first read fetches nothing, those that go on twice what was read, up to the limit', () => {
  const volume = new Volume(leafOf);
  volume.read(0, 1);
  expect(volume.fetched).toEqual([]);
  volume.read(1, 1);
  expect(volume.fetched).toEqual([1, 2]); // 2 MiB, and 4 ahead
  volume.read(2, 2);
  expect(volume.fetched).toEqual([1, 2, 3]);
  volume.read(4, 12);
  expect(volume.fetched).toEqual([1, 2, 3, 4, 5, 6, 7, 8]); // 16 MiB ahead of 16
});

test('reads here and there fetch nothing', () => {
  const volume = new Volume(leafOf);
  for (let at = 0; at < 100; at += 1) volume.ahead.next(((at * 37) % 100) * LEAF_BYTES, MIB);
  expect(volume.fetched).toEqual([]);
});

test('reads again and again within one MiB fetch nothing more than it leads to', () => {
  const volume = new Volume(leafOf);
  for (let at = 0; at < 1000; at += 1) volume.ahead.next(((at * 37) % 256) * BLOCK, BLOCK);
  expect(volume.fetched).toEqual([1]);
});

test('a chunk of which little is on the way is not fetched, a small one of which much is, is', () => {
  const large = new Volume(scattered);
  large.read(0, 8);
  expect(large.fetched).toEqual([]);
  const small = new Volume(scattered, 16 * MIB, LEAF_BLOCKS / 4);
  small.read(4, 2);
  expect(small.fetched).toEqual([17, 18, 19, 20, 21, 22, 23, 24]); // of the second leaf half is read already
});

test('what found no memory is fetched when it does, and what was read meanwhile is not', () => {
  const volume = new Volume(leafOf);
  volume.room = 1;
  volume.read(0, 6);
  expect(volume.fetched).toEqual([1]);
  volume.room = 2;
  volume.read(6, 3);
  expect(volume.fetched).toEqual([1, 2, 3]); // 8 to 9 MiB are read: of the second leaf the end was still to come
  volume.room = 10;
  volume.read(9, 1);
  expect(volume.fetched).toEqual([1, 2, 3, 4, 5, 6, 7]);
});

test('a leaf that is not in memory is asked for, and looked at by the next read', () => {
  const volume = new Volume(leafOf);
  volume.missing.add(1);
  volume.read(0, 2);
  expect([volume.fetched, volume.loaded]).toEqual([[1], [1]]);
  volume.read(2, 1);
  expect(volume.fetched).toEqual([1, 2, 3]);
});

test('two clients far from each other are both in sequence', () => {
  const volume = new Volume(leafOf, 4 * MIB);
  for (let at = 0; at < 2; at += 1) {
    volume.read(at, 1);
    volume.read(4000 + at, 1);
  }
  expect(volume.fetched).toEqual([1, 2, 1001, 1002]);
});

test('a sequence of 16 MiB is one of data that pass through', () => {
  const volume = new Volume(() => 0);
  expect(volume.read(0, 17).filter(Boolean)).toHaveLength(2);
  expect(volume.read(1000, 1)).toEqual([false]);
});
