/** The states of a block (DESIGN 2) and the only changes between them that there are. */
import { AssertionFailure } from '../base/assert.ts';

export type BlockState = 'empty' | 'hot' | 'pending' | 'persisted' | 'cached';

/** A write makes any block hot, a trim or zeroes make any block empty; the rest is the way down and the cache. */
const TRANSITIONS: Readonly<Record<BlockState, readonly BlockState[]>> = {
  empty: ['hot', 'empty'],
  hot: ['hot', 'empty', 'pending'],
  pending: ['hot', 'empty', 'cached', 'persisted'],
  persisted: ['hot', 'empty', 'cached'],
  cached: ['hot', 'empty', 'persisted'],
};

export function isTransition(source: BlockState, target: BlockState): boolean {
  return TRANSITIONS[source].includes(target);
}

/** Asserts that a block may go from `source` to `target`. */
export function assertTransition(source: BlockState, target: BlockState, blockNumber: number): void {
  if (!isTransition(source, target)) throw new AssertionFailure(`block ${blockNumber} cannot go from ${source} to ${target}`);
}
