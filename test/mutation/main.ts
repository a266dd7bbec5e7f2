/** `make mutants`: looks for each mutant in worlds of all kinds, and says which seed found it. */
import { availableParallelism } from 'node:os';
import { compileSimulator, findMutant } from './find-mutant.ts';
import { MUTANTS } from './mutants.ts';

const SEEDS = 500;

compileSimulator();
for (const mutant of MUTANTS) {
  const startMs = performance.now();
  const { failure, seed } = findMutant(mutant, { seeds: SEEDS, jobs: availableParallelism(), isFocused: false });
  const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
  if (failure === null) process.exitCode = 1;
  const outcome = failure === null ? `SURVIVED ${SEEDS} worlds` : `found by seed ${seed}`;
  console.log(`${mutant.name} (${mutant.invariant}): ${outcome}, ${seconds} s${failure === null ? '' : `\n    ${failure.split('\n')[1]}`}`);
}
