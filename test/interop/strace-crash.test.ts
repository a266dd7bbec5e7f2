/** A small run of `make strace-crash`, and that it finds a server which forgets its syncs. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect } from 'vitest';
import { DURABILITY_MODES, type Durability } from '../../src/base/durability.ts';
import type { IgnoredSyncs } from '../crash/crash-states.ts';
import { TracedRun } from '../crash/strace-crash.ts';
import { interopTest } from './tools.ts';

/** Where the states are built: their own syncs have nothing to survive. */
const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

let directory: string;
let states: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'basalt-strace-'));
  states = await mkdtemp(join(MEMORY, 'basalt-state-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
  await rm(states, { recursive: true });
});

function record(mode: Durability): Promise<TracedRun> {
  return TracedRun.record({ directory, entry: resolve('dist/cli/basalt.cjs'), mode, seed: Date.now() % 2 ** 31, requests: 150 });
}

/** What is wrong with `count` crash states, a line for each. */
async function problemsOf(run: TracedRun, count: number, ignored: IgnoredSyncs): Promise<string[]> {
  const problems: string[] = [];
  const workDirectory = join(states, 'state');
  for await (const { point, crash, problem } of run.check({ count, seed: Date.now() % 2 ** 31, workDirectory, ignored })) {
    if (problem === null) continue;
    problems.push(`behind step ${point}, crash "${crash}": ${problem}`);
    await rm(workDirectory, { recursive: true });
  }
  return problems;
}

describe('the traced server', () => {
  for (const mode of DURABILITY_MODES) {
    interopTest(['strace'], `in mode ${mode} leaves only what is recovered, wherever it or the machine crashes`, async () => {
      expect(await problemsOf(await record(mode), 40, 'none')).toEqual([]);
    });
  }

  interopTest(['strace'], 'would be found out if it did not sync its directories, or its files', async () => {
    const run = await record('batched');
    expect(await problemsOf(run, 30, 'directories')).not.toEqual([]);
    expect(await problemsOf(run, 30, 'files')).not.toEqual([]);
  });
});
