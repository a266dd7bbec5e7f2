import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, describe } from 'vitest';
import { SHELLS, verbDescriptions } from '../../src/cli/completion/words.ts';
import { commandWords, listVerbs, VERBS } from '../../src/cli/verb-table.ts';
import { FakeCli } from '../support/cli-double.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';

const readme = readFileSync(join(PROJECT_ROOT, 'README.md'), 'utf8');

async function printed(...words: string[]): Promise<string> {
  const cli = new FakeCli();
  expect(await cli.run(...words), cli.error).toBe(0);
  return cli.out;
}

/** `NAME` is `<name>` there, `[NAME]` stays in its brackets, what is labelled are `[labels..]`, and one of several is `<what>`. */
function argumentInHelp(word: string): string {
  const lower = word.toLowerCase();
  if (lower.includes('|')) return '<what>';
  if (!lower.startsWith('[')) return `<${lower}>`;
  return lower === '[key=value...]' ? '[labels..]' : lower;
}

describe.each(VERBS)('$name', ({ name, arguments: words, flags }) => {
  test('has a help that names its arguments, all of its flags, and an example', async () => {
    const help = await printed(name, '--help');
    const usage = ['basalt', name, ...(words === '' ? [] : words.split(' ').map(argumentInHelp))].join(' ');
    expect(help.split('\n')[0]).toBe(usage);
    for (const flag of Object.keys(flags)) expect(help).toMatch(new RegExp(`--${flag}\\b`));
    expect(help).toMatch(new RegExp(`Examples:[^]*basalt ${name}`));
    expect(Object.keys(flags)).toContain('json');
  });

  test('stands in the README', () => {
    expect(readme).toMatch(new RegExp(`basalt ${name}\\b`));
  });

  test.each(SHELLS)('is completed by %s, with all of its flags', async (shell) => {
    const script = await printed('completion', shell);
    for (const flag of Object.keys(flags)) {
      const line = {
        bash: new RegExp(`^ {6}${name}\\) words='[^']*--${flag}[ ']`, 'm'),
        zsh: new RegExp(`^ {6}${name}\\) list=\\(.*'--${flag}:.*\\); _describe flag`, 'm'),
        fish: new RegExp(`^complete -c basalt -n '__basalt_verb ${name}' -l ${flag}( |$)`, 'm'),
      }[shell];
      expect(script).toMatch(line);
    }
  });
});

test('the help lists the verbs of the table, in its order, and no others', async () => {
  const help = await printed('--help');
  expect([...help.matchAll(/^ {2}basalt ([a-z-]+)/gm)].map(([, name]) => name).filter((name) => name !== 'VERB')).toEqual(expect.arrayContaining(VERBS.map(({ name }) => name)));
  const commands = help.slice(help.indexOf('Commands:'), help.indexOf('Options:'));
  expect([...commands.matchAll(/^ {2}basalt ([a-z-]+)/gm)].map(([, name]) => name)).toEqual(VERBS.map(({ name }) => name));
});

test('a missing verb is answered with all of them', async () => {
  const cli = new FakeCli();
  expect(await cli.run()).toBe(2);
  expect(cli.error).toBe(`basalt: a verb is missing: ${listVerbs()} (basalt --help says more)\n`);
});

test('each verb has the description of its help', async () => {
  const words = commandWords(await printed('--help'));
  for (const { name, description } of words.verbs) expect(description, name).not.toBe('');
  expect(verbDescriptions('Commands:\n  basalt a-b <x> [y]  does something\n  basalt c  something else\nOptions:\n  --data  where')).toEqual(new Map([['a-b', 'does something'], ['c', 'something else']]));
});

test('a shell that is none is refused with the nearest one', async () => {
  const cli = new FakeCli();
  expect(await cli.run('completion', 'fihs')).toBe(2);
  expect(cli.error).toContain('shell "fihs" is none of bash, zsh, fish; did you mean fish?');
  expect(await cli.run('completion')).toBe(2);
  expect(cli.error).toContain('usage: basalt completion SHELL');
});

test('with --json the script is a value', async () => {
  expect(JSON.parse(await printed('completion', 'bash', '--json'))).toEqual({ shell: 'bash', script: await printed('completion', 'bash') });
});
