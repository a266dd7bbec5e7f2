import { expect, test } from 'vitest';
import { PrefixHistory } from './prefix-history.ts';
import { type Mutation, applyMutation } from './volume-image.ts';

const BLOCK = 4096;
const SIZE = 8 * BLOCK;

function request(number: number, kind: Mutation['kind'], firstBlock: number, blocks: number): Mutation {
  return { request: number, connection: 1, kind, offsetBytes: firstBlock * BLOCK, lengthBytes: blocks * BLOCK };
}

/** The volume after some requests. */
function imageOf(...mutations: readonly Mutation[]): Uint8Array {
  const image = new Uint8Array(SIZE);
  for (const mutation of mutations) applyMutation(image.subarray(mutation.offsetBytes, mutation.offsetBytes + mutation.lengthBytes), mutation.offsetBytes, mutation);
  return image;
}

const first = request(1, 'stamp', 0, 1);
const second = request(2, 'stamp', 1, 1);
const third = request(3, 'stamp', 0, 1);

function history(...mutations: readonly Mutation[]): PrefixHistory {
  const all = new PrefixHistory({ sizeBytes: SIZE, blockBytes: BLOCK });
  for (const mutation of mutations) all.add(mutation);
  return all;
}

test('every prefix is well, as long as it has what must be there', () => {
  const all = history(first, second, third);
  expect(all.problemOf(imageOf(), 0)).toBeNull();
  expect(all.problemOf(imageOf(first), 1)).toBeNull();
  expect(all.problemOf(imageOf(first, second, third), 3)).toBeNull();
  expect(all.problemOf(imageOf(first), 2)).toContain('block 1 is as after request 1, but request 2');
});

test('a state with a later request and without an earlier one is found', () => {
  expect(history(first, second, third).problemOf(imageOf(first, third), 0)).toContain('different prefixes');
});

test('a torn block is found', () => {
  const image = imageOf(first);
  image.fill(0, 512, 1024);
  expect(history(first).problemOf(image, 0)).toBe('block 0 holds what no request wrote whole');
});

test('of the first request that is missing some blocks may be there, of the one behind it none', () => {
  const wide = request(2, 'stamp', 2, 3);
  const all = history(first, wide, third);
  const image = imageOf(first, request(2, 'stamp', 3, 1));
  expect(all.problemOf(image, 1)).toBeNull();
  expect(all.problemOf(image, 2)).toContain('block 2 is as after request 1');
  expect(all.problemOf(imageOf(first, request(2, 'stamp', 3, 1), third), 0)).toContain('different prefixes');
});

test('a request that changes nothing promises what made its blocks so', () => {
  const all = new PrefixHistory({ sizeBytes: SIZE, blockBytes: BLOCK });
  expect(all.add(request(1, 'trim', 0, 8))).toBe(0);
  expect(all.add(first)).toBe(1);
  expect(all.add(request(2, 'trim', 0, 1))).toBe(2);
  expect(all.add(second)).toBe(3);
  expect(all.add(request(4, 'zero', 0, 1))).toBe(2);
  expect(all.problemOf(imageOf(first), 2)).toContain('block 0 is as after request 1');
});

test('what is behind the last request that may be there is found', () => {
  const all = history(first, second, third);
  expect(all.find(imageOf(first, second), { atLeast: 0, atMost: 2 })).toEqual({ prefix: 2 });
  expect(all.find(imageOf(first, second), { atLeast: 0, atMost: 1 })).toEqual({ problem: 'block 1 is as after request 2, but nothing behind request 1 may be there' });
});

test('behind a cut the history goes on from what was found, with some blocks of the first request that is missing', () => {
  const wide = request(2, 'stamp', 2, 3);
  const part = request(2, 'stamp', 3, 1);
  const all = history(first, wide, third);
  expect(all.find(imageOf(first, part), { atLeast: 1, atMost: 3 })).toEqual({ prefix: 1 });
  all.cutTo(1, imageOf(first, part));
  expect(all.requests).toBe(2);
  expect(all.problemOf(imageOf(first, part), 2)).toBeNull();
  expect(all.problemOf(imageOf(first, wide), 0)).toContain('holds what no request wrote');
  expect(all.add(second)).toBe(3);
  expect(all.problemOf(imageOf(first, part, second), 3)).toBeNull();
  expect(all.problemOf(imageOf(first), 1)).toBeNull();
});

test('what is forgotten is not allowed any more, what is left is', () => {
  const all = history(first, second, third);
  all.forgetBefore(2);
  expect(all.problemOf(imageOf(first), 0)).toContain('block 1');
  expect(all.problemOf(imageOf(first, second), 2)).toBeNull();
  expect(all.problemOf(imageOf(first, second, third), 3)).toBeNull();
});

test('a block that is read must not be older than the last answer', () => {
  const all = history(first, second, third);
  const image = imageOf(first, second);
  expect(all.problemOfBlocks(0, image, 2)).toBeNull();
  expect(all.problemOfBlocks(0, image, 3)).toContain('block 0 was read as after request 2, when request 3');
  expect(all.problemOfBlocks(BLOCK, imageOf(third).subarray(0, BLOCK), 0)).toContain('block 1 was read as no request wrote it');
});
