/** Breaks a copy of the compiled simulator, and runs worlds in it until one of them fails. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Mutant } from './mutants.ts';

const ROOT = process.cwd();
/** Compiled apart from `make sim`, whose files may be in use. */
const BASE = join(ROOT, 'build/mutants/base');

/** Compiles the simulator and the engine; to be called once before mutants are looked for. */
export function compileSimulator(): void {
  rmSync(join(ROOT, 'build/mutants'), { recursive: true, force: true });
  execFileSync(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', 'test/sim/tsconfig.json', '--outDir', BASE, '--sourceMap', 'false'], { cwd: ROOT, stdio: 'inherit' });
  writeFileSync(join(BASE, 'package.json'), '{ "type": "module" }\n');
  symlinkSync(join(ROOT, 'node_modules'), join(BASE, 'node_modules'));
}

export interface SearchOptions {
  readonly seeds: number;
  readonly jobs: number;
  /** Only worlds of the mutant's taste, and from the seed on that it names. */
  readonly isFocused: boolean;
}

export interface Search {
  /** What the world that failed said; null: all were fine, the mutant survived. */
  readonly failure: string | null;
  /** Of the world that failed. */
  readonly seed: number;
}

/** Throws where an edit does not apply: the engine has changed, and the mutant must follow. */
export function applyMutant(mutant: Mutant): string {
  const copy = join(ROOT, 'build/mutants', mutant.name.replaceAll(/\W+/g, '-'));
  rmSync(copy, { recursive: true, force: true });
  cpSync(BASE, copy, { recursive: true, verbatimSymlinks: true });
  for (const { file, find, replace } of mutant.edits) {
    const path = join(copy, 'src', file);
    const parts = readFileSync(path, 'utf8').split(find);
    if (parts.length !== 2) throw new Error(`mutant "${mutant.name}": ${JSON.stringify(find)} stands ${parts.length - 1} times in ${file}, not once`);
    writeFileSync(path, parts.join(replace));
  }
  return copy;
}

/** The program of the worlds in which a mutant is looked for, and its flags. */
function worldsOf({ taste }: Mutant, copy: string, jobs: number, isFocused: boolean): string[] {
  if (taste === 'remote') return [join(copy, 'test/sim/remote-main.js')];
  return [join(copy, 'test/sim/main.js'), '--jobs', String(jobs), ...(isFocused ? ['--taste', taste] : [])];
}

export function findMutant(mutant: Mutant, { seeds, jobs, isFocused }: SearchOptions): Search {
  const copy = applyMutant(mutant);
  const run = spawnSync(process.execPath, [...worldsOf(mutant, copy, jobs, isFocused), '--seeds', String(seeds), '--first', String(isFocused ? (mutant.first ?? 1) : 1)], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  rmSync(copy, { recursive: true, force: true });
  const found = /^(?:remote )?seed (\d+)\b.*$/m.exec(run.stdout);
  if (run.status === 0) return { failure: null, seed: 0 };
  if (found === null) throw new Error(`mutant "${mutant.name}": the simulator ended with ${run.status ?? run.signal}:\n${run.stdout}\n${run.stderr}`);
  const lines = run.stdout.slice(found.index).split('\n');
  return { failure: lines.slice(0, 3).join('\n'), seed: Number(found[1]) };
}
