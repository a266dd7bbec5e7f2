/**
 * `make strace-crash STATES=2000`: recovers from crash states of the real server, taken from a trace of its system calls. Exits with 1, and
 * keeps what was found, when a volume is not what it must be.
 */
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { DURABILITY_MODES, isDurability, type Durability } from '../../src/base/durability.ts';
import type { IgnoredSyncs } from './crash-states.ts';
import { TracedRun } from './strace-crash.ts';

const USAGE = `usage: make strace-crash STATES=2000 ARGS="..."

  --states N        crash states, all modes together (2000)
  --requests N      in each of a server's two lives (400)
  --modes NAMES     comma-separated: ${DURABILITY_MODES.join(', ')} (all)
  --seed N          of the load and the states (random)
  --entry FILE      another build's dist/cli/basalt.cjs: a broken one must be found
  --ignore KIND     directories or files: take their syncs for not made, as a server that forgot them; must be found
  --data DIR        a real disk for the traced volumes (the system's temporary directory)
  --work DIR        where the states are built (/dev/shm)
`;

const { values } = parseArgs({
  options: {
    states: { type: 'string', default: '2000' },
    requests: { type: 'string', default: '400' },
    modes: { type: 'string', default: DURABILITY_MODES.join(',') },
    seed: { type: 'string' },
    entry: { type: 'string', default: 'dist/cli/basalt.cjs' },
    ignore: { type: 'string', default: 'none' },
    data: { type: 'string', default: tmpdir() },
    work: { type: 'string', default: '/dev/shm' },
    help: { type: 'boolean', default: false },
  },
});

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value <= 0) throw new Error(`--${name} ${text}: a whole number above 0`);
  return value;
}

function parseModes(text: string): Durability[] {
  return text.split(',').map((mode) => {
    if (!isDurability(mode)) throw new Error(`--modes ${mode}: one of ${DURABILITY_MODES.join(', ')}`);
    return mode;
  });
}

function parseIgnored(text: string): IgnoredSyncs {
  if (text !== 'none' && text !== 'directories' && text !== 'files') throw new Error(`--ignore ${text}: directories or files`);
  return text;
}

const KEPT_STATES = 3;

async function main(): Promise<void> {
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
  if (!Number.isSafeInteger(seed)) throw new Error(`--seed ${values.seed}: a whole number`);
  const modes = parseModes(values.modes);
  const statesOfEach = Math.ceil(positive('states', values.states) / modes.length);
  process.stdout.write(`crash states of the real server, seed ${seed}\n`);
  let wrong = 0;
  for (const mode of modes) wrong += await runMode(mode, seed, statesOfEach);
  const total = statesOfEach * modes.length;
  if (wrong > 0) throw new Error(`${wrong} of ${total} crash states were not recovered as they must be`);
  process.stdout.write(`${total} crash states, all recovered: nothing that was promised was lost or torn\n`);
}

/** The number of wrong states; the directories of the first few are kept. */
async function runMode(mode: Durability, seed: number, states: number): Promise<number> {
  const directory = await mkdtemp(join(resolve(values.data), 'basalt-strace-'));
  const workDirectory = await mkdtemp(join(resolve(values.work), 'basalt-state-'));
  try {
    const requests = positive('requests', values.requests);
    const run = await TracedRun.record({ directory, entry: resolve(values.entry), mode, seed, requests });
    process.stdout.write(`${mode}: ${2 * requests} requests made ${run.changes.length} file operations; ${states} crash states\n`);
    let wrong = 0;
    let index = 0;
    for await (const { point, crash, problem } of run.check({ count: states, seed, workDirectory: join(workDirectory, 'state'), ignored: parseIgnored(values.ignore) })) {
      index += 1;
      if (problem === null) continue;
      wrong += 1;
      const kept = join(workDirectory, `wrong-${index}`);
      await rename(join(workDirectory, 'state'), kept);
      if (wrong > KEPT_STATES) await rm(kept, { recursive: true });
      else process.stdout.write(`WRONG: ${mode}, state ${index}, behind step ${point}, crash "${crash}": ${problem}; kept in ${kept}\n`);
    }
    if (wrong === 0) await rm(workDirectory, { recursive: true });
    return wrong;
  } finally {
    await rm(directory, { recursive: true });
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`strace-crash: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
