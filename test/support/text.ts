import { expect } from 'vitest';

/** Stands in an expected object for any text with `part` in it. Vitest's own matchers are of type `any`. */
export function text(part: string | RegExp): unknown {
  return typeof part === 'string' ? expect.stringContaining(part) : expect.stringMatching(part);
}
