/** The fuzzer, for a while, with a fixed seed; and that it finds mistakes at all. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { errorOf } from './campaign.ts';
import { runInput } from './run-input.ts';
import { seeds } from './seeds.ts';

const CORPUS = 'test/fuzz/corpus';
const SECONDS = 15;
const corpus = readdirSync(CORPUS).sort();

describe('the corpus', () => {
  test('is what `seeds.ts` makes', () => {
    const made = seeds();
    expect(corpus).toEqual(Object.keys(made).map((name) => `${name}.bin`).sort());
    for (const [name, input] of Object.entries(made)) expect(readFileSync(join(CORPUS, `${name}.bin`)).equals(input), name).toBe(true);
  });

  test.each(corpus)('%s is answered as the document says', async (name) => {
    expect(await errorOf(readFileSync(join(CORPUS, name)))).toBeNull();
  });

  test('reaches every way in which a session ends', async () => {
    const ends = new Set<string>();
    for (const name of corpus) ends.add((await runInput(readFileSync(join(CORPUS, name)))).end);
    expect([...ends].sort()).toEqual(['broken', 'in order', 'no', 'tls']);
  });
});

function run(...args: readonly string[]): { status: number | null; stdout: string } {
  const { status, stdout } = spawnSync(process.execPath, ['build/fuzz/test/fuzz/main.js', ...args], { encoding: 'utf8' });
  return { status, stdout };
}

describe('the fuzzer', () => {
  beforeAll(() => {
    execFileSync('make', ['fuzz-build'], { stdio: 'inherit' });
  });

  test('finds nothing in a while', () => {
    const { status, stdout } = run('--fresh', '--seed', '1', '--seconds', String(SECONDS));
    expect(stdout).not.toContain('crash');
    expect(status).toBe(0);
    const [, inputs, seen, branches] = /: (\d+) inputs.* (\d+) of (\d+) branches/.exec(stdout.trim().split('\n').at(-1) ?? '') ?? [];
    expect(Number(inputs)).toBeGreaterThan(corpus.length);
    expect(Number(seen)).toBeGreaterThan(Number(branches) * 0.85);
  });

  test('replays an input', () => {
    expect(run('--input', `${CORPUS}/simple.bin`).stdout).toContain("end: 'in order'");
  });
});

describe('an input', () => {
  test('may be anything', async () => {
    expect(await errorOf(new Uint8Array(0))).toBeNull();
    expect(await errorOf(new Uint8Array(3).fill(0xff))).toBeNull();
    expect(await errorOf(new Uint8Array(3000).fill(0xf6))).toBeNull();
  });
});
