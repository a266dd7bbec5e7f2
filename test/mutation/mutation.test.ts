import { beforeAll, describe, expect, test } from 'vitest';
import { compileSimulator, findMutant } from './find-mutant.ts';
import { MUTANTS, type Mutant } from './mutants.ts';
import { REMOTE_MUTANTS } from './remote-mutants.ts';

/** `make mutants` looks for each in worlds of all kinds; here only in those that are most likely to show it. */
const SEEDS = 500;

describe('simulated worlds find an engine in which', () => {
  beforeAll(compileSimulator);

  test.each([...MUTANTS, ...REMOTE_MUTANTS])('$name ($invariant)', (mutant) => {
    const { failure } = findMutant(mutant, { seeds: SEEDS, jobs: 2, isFocused: true });
    expect(failure).toMatch(/^(?:remote )?seed \d+ fails at/);
  });

  const harmless: Mutant = { name: 'a comment is new', invariant: 'none', taste: 'usual', edits: [{ file: 'wal/log-ring.js', find: 'export class LogRing {', replace: 'export class LogRing { // new' }] };

  test('nothing but a comment is new: not one of them', () => {
    expect(findMutant(harmless, { seeds: 6, jobs: 2, isFocused: true })).toEqual({ failure: null, seed: 0 });
  });

  test('the text to be changed is not there: refused', () => {
    const edits = [{ file: 'wal/log-ring.js', find: 'no such text', replace: '' }];
    expect(() => findMutant({ ...harmless, edits }, { seeds: 1, jobs: 1, isFocused: true })).toThrow(/stands 0 times in wal\/log-ring\.js/);
  });
});
