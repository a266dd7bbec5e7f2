import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { editDistance, nearest } from '../../src/config/nearest.ts';

describe('edit distance', () => {
  test('counts inserts, deletes, replacements and swaps of neighbours', () => {
    expect(editDistance('serve', 'serve')).toBe(0);
    expect(editDistance('srve', 'serve')).toBe(1);
    expect(editDistance('serves', 'serve')).toBe(1);
    expect(editDistance('sorve', 'serve')).toBe(1);
    expect(editDistance('sevre', 'serve')).toBe(1);
    expect(editDistance('', 'list')).toBe(4);
    expect(editDistance('kitten', 'sitting')).toBe(3);
  });

  test('is symmetric, zero only for equal texts, and at most the longer length', () => {
    const text = fc.string({ maxLength: 12 });
    fc.assert(
      fc.property(text, text, (first, second) => {
        const distance = editDistance(first, second);
        expect(distance).toBe(editDistance(second, first));
        expect(distance === 0).toBe(first === second);
        expect(distance).toBeLessThanOrEqual(Math.max(first.length, second.length));
      }),
    );
  });
});

describe('nearest', () => {
  test('gives the candidate with the fewest edits, whatever the case', () => {
    expect(nearest('DELET', ['create', 'delete', 'list'])).toBe('delete');
    expect(nearest('shwo', ['serve', 'show'])).toBe('show');
  });

  test('gives nothing where there are no candidates', () => {
    expect(nearest('x', [])).toBeUndefined();
  });
});
