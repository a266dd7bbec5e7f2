/** `make mutants`: looks for each mutant (or those whose names have the text of ARGS) in worlds of all kinds, and says which seed found it. */
import { availableParallelism } from 'node:os';
import { compileSimulator, findMutant } from './find-mutant.ts';
import { MUTANTS } from './mutants.ts';
import { REMOTE_MUTANTS } from './remote-mutants.ts';

const SEEDS = 500;

const wanted = [...MUTANTS, ...REMOTE_MUTANTS].filter(({ name }) => name.includes(process.argv.slice(2).join(' ')));
if (wanted.length === 0) throw new Error(`no mutant has ${process.argv.slice(2).join(' ')} in its name`);

compileSimulator();
for (const mutant of wanted) {
  const startMs = performance.now();
  const { failure, seed } = findMutant(mutant, { seeds: SEEDS, jobs: availableParallelism(), isFocused: false });
  const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
  if (failure === null) process.exitCode = 1;
  const outcome = failure === null ? `SURVIVED ${SEEDS} worlds` : `found by seed ${seed}`;
  console.log(`${mutant.name} (${mutant.invariant}): ${outcome}, ${seconds} s${failure === null ? '' : `\n    ${failure.split('\n')[1]}`}`);
}
