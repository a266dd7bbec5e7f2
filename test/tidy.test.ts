import { describe, expect, test } from 'vitest';
import { PROJECT_ROOT, readTree } from './support/source-tree.ts';

const MAX_LINES = 500;

interface Rule {
  readonly pattern: RegExp;
  readonly problem: string;
}

/** Spelled so that this file does not break its own rules. */
const RULES: readonly Rule[] = [
  { pattern: /\b(?:TO[D]O|FIX[M]E|XX[X]|HA[C]K)\b/, problem: 'unfinished work' },
  { pattern: /\b(?:test|it|describe)\.on[l]y\b/, problem: 'a focused test' },
  { pattern: /@ts-(?:ign[o]re|noch[e]ck|exp[e]ct-error)/, problem: 'a silenced compiler' },
  { pattern: /\t/, problem: 'a tab' },
  { pattern: /[ \t]$/, problem: 'a space at the end of a line' },
  { pattern: /\/(?:hom[e]|roo[t]|User[s])\//, problem: "a path of somebody's machine" },
];

/** All that is untidy in a text, with line numbers. */
function untidy(text: string): string[] {
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  const problems = lines.flatMap((line, index) =>
    RULES.filter(({ pattern }) => pattern.test(line)).map(({ problem }) => `${index + 1}: ${problem}`),
  );
  if (lines.length > MAX_LINES) problems.push(`${lines.length} lines, more than ${MAX_LINES}`);
  if (!text.endsWith('\n')) problems.push('no newline at the end');
  return problems;
}

const files = ['src', 'test', 'bench'].flatMap((folder) =>
  readTree(folder, /\.(?:ts|mjs|sh)$/).map(({ path, text }) => ({ path: `${folder}/${path}`, text })),
);

describe('the project is tidy', () => {
  test('and it is this project that was read', () => {
    expect(PROJECT_ROOT).not.toBe('');
    expect(files.length).toBeGreaterThan(20);
  });

  test.each(files)('$path', ({ text }) => {
    expect(untidy(text)).toEqual([]);
  });

  test.each(files)('$path has a kebab-case name', ({ path }) => {
    expect(path.split('/').at(-1)).toMatch(/^[a-z0-9]+(?:-[a-z0-9]+)*(?:\.(?:test|worker|d))?\.(?:ts|mjs|sh)$/);
  });
});

describe('the tidy check finds', () => {
  test.each([
    ['unfinished work', ['// TO', 'DO later\n'].join(''), ['1: unfinished work']],
    ['a focused test', ['\ntest.on', "ly('x', run);\n"].join(''), ['2: a focused test']],
    ['a silenced compiler', ['// @ts-ign', 'ore\n'].join(''), ['1: a silenced compiler']],
    ['a tab and a trailing space', 'a\tb\nc \n', ['1: a tab', '2: a space at the end of a line']],
    ['a long file', 'x\n'.repeat(501), ['501 lines, more than 500']],
    ['a missing last newline', 'x', ['no newline at the end']],
  ])('%s', (_, text, expected) => {
    expect(untidy(text)).toEqual(expected);
  });
});
