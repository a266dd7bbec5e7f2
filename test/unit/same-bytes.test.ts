import { expect, test } from 'vitest';
import { hasSameBytes } from '../../src/store/same-bytes.ts';

const OURS = Uint8Array.of(1, 2, 3);

/** Answers with these, one after another. */
function reads(...answers: number[][]): () => Promise<Uint8Array> {
  let next = 0;
  return () => {
    const answer = Uint8Array.from(answers[next] ?? []);
    next += 1;
    return Promise.resolve(answer);
  };
}

test('a bit that flipped on the way is no other object', async () => {
  expect(await hasSameBytes(reads([1, 2, 3]), OURS)).toBe(true);
  expect(await hasSameBytes(reads([1, 2, 7], [1, 2, 3]), OURS)).toBe(true);
  expect(await hasSameBytes(reads([1, 0, 3], [1, 2, 7], [1, 2, 3]), OURS)).toBe(true);
});

test('what is read twice the same is another object', async () => {
  expect(await hasSameBytes(reads([1, 2], [1, 2]), OURS)).toBe(false);
  expect(await hasSameBytes(reads([9, 9, 9], [1, 2], [1, 2]), OURS)).toBe(false);
});

test('what is never read twice the same is not known', async () => {
  expect(await hasSameBytes(reads([4], [5], [6], [7]), OURS)).toBeNull();
});
