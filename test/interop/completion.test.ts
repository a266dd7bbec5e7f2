import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect } from 'vitest';
import type { Shell } from '../../src/cli/completion/words.ts';
import { FakeCli } from '../support/cli-double.ts';
import { interopTest, runProgram } from './tools.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'basalt-completion-'));
  for (const name of ['alpha', 'beta']) {
    await mkdir(join(directory, 'volumes', name), { recursive: true });
    await writeFile(join(directory, 'volumes', name, 'manifest'), '');
  }
  await mkdir(join(directory, 'volumes/no-volume'));
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    const cli = new FakeCli();
    expect(await cli.run('completion', shell)).toBe(0);
    await writeFile(scriptPath(shell), cli.out);
  }
});
afterEach(() => rm(directory, { recursive: true }));

const scriptPath = (shell: Shell): string => join(directory, `completion.${shell}`);

/** Runs a text of the shell; its lines. */
async function linesOf(shell: Shell, ...words: string[]): Promise<string[]> {
  const { status, out, error } = await runProgram(shell, words);
  expect([status, error]).toEqual([0, '']);
  return out.split('\n').filter((line) => line !== '');
}

const quoted = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(' ');

/** What each shell offers for the last of `words`: without descriptions. */
const COMPLETE: Readonly<Record<Shell, (words: readonly string[]) => Promise<string[]>>> = {
  bash: (words) => linesOf('bash', '--norc', '-c', `compopt() { printf '%s\\n' FILES; }; complete() { :; }; source ${scriptPath('bash')}; cd ${directory}; COMP_WORDS=(${quoted(words)}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _basalt; printf '%s\\n' "\${COMPREPLY[@]}"`),
  // The two functions of zsh that it calls are replaced: they want a line editor. What they would be given is filtered as they would.
  zsh: async (words) => {
    const all = await linesOf('zsh', '-f', '-c', `compdef() { :; }; _files() { print FILES; }; _describe() { print -rl -- "\${(@P)2}"; }; source ${scriptPath('zsh')}; cd ${directory}; words=(${quoted(words)}); CURRENT=$#words; _basalt`);
    return all.map((line) => line.replace(/(?<!\\):.*$/, '')).filter((word) => word === 'FILES' || word.startsWith(words.at(-1) ?? ''));
  },
  fish: async (words) => {
    const all = await linesOf('fish', '--no-config', '-c', `source ${scriptPath('fish')}; cd ${directory}; complete -C '${words.join(' ')}'`);
    return all.map((line) => line.replace(/\t.*$/, ''));
  },
};

const SETTING = '--engine.arena-bytes';

describe.each(['bash', 'zsh', 'fish'] as const)('%s', (shell) => {
  const complete = COMPLETE[shell];

  interopTest([shell], 'completes verbs', async () => {
    expect(await complete(['basalt', 'sho'])).toEqual(['show']);
    expect(await complete(['basalt', '--json', 'dra'])).toEqual(['drain']);
    expect((await complete(['basalt', ''])).length).toBeGreaterThanOrEqual(18);
  });

  interopTest([shell], 'completes names of volumes, of the folder that is named', async () => {
    expect((await complete(['basalt', 'show', ''])).toSorted()).toEqual(['alpha', 'beta']);
    expect(await complete(['basalt', 'explain', '--data', join(directory, 'volumes'), 'be'])).toEqual(['beta']);
    expect(await complete(['basalt', 'show', '--data', '/nowhere', ''])).toEqual([]);
    // A second argument is none.
    expect(await complete(['basalt', 'show', 'alpha', 'be'])).toEqual([]);
  });

  interopTest([shell], 'completes flags of the verb, their values, and modes', async () => {
    expect(await complete(['basalt', 'create', '--dur'])).toEqual(['--durability']);
    expect(await complete(['basalt', 'list', '--dur'])).toEqual([]);
    expect(await complete(['basalt', 'create', '--durability', 'st'])).toEqual(['strict']);
    expect(await complete(['basalt', 'durability', 'alpha', 're'])).toEqual(['relaxed']);
    expect(await complete(['basalt', 'completion', 'z'])).toEqual(['zsh']);
  });

  interopTest([shell], 'completes settings once a group of them is named, for verbs that take them', async () => {
    expect(await complete(['basalt', 'serve', '--engine.arena'])).toEqual([SETTING]);
    expect(await complete(['basalt', 'list', '--engine.arena'])).toEqual([]);
    expect(await complete(['basalt', 'serve', '--engine'])).not.toContain(SETTING);
    expect(await complete(['basalt', 'doctor', SETTING, '64M', '--dat'])).toEqual(['--data']);
  });
});
