/** `basalt check`, `explain` and `repair` over volumes of the real file system. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { CliContext } from '../../src/cli/context.ts';
import { openTools } from '../../src/cli/open-tools.ts';
import { runCli } from '../../src/cli/program.ts';
import { ProgressLine } from '../../src/cli/progress.ts';
import { FakeCli } from '../support/cli-double.ts';
import { type VolumeFiles, digests, fileOf, flipped, sampleFiles, withFile } from '../support/damaged-volumes.ts';
import { Scratch, snapshot } from '../support/engine-harness.ts';

const CHUNK = 'chunks/c0000000001-e000001';

let sample: VolumeFiles;
beforeAll(async () => {
  sample = await sampleFiles();
});

let scratch: Scratch;
let out = '';
let error = '';
beforeEach(() => {
  scratch = new Scratch();
});
afterEach(() => scratch.remove());

function put(files: VolumeFiles): void {
  for (const folder of ['chunks', 'checkpoints', 'log']) mkdirSync(`${scratch.path}/demo/${folder}`, { recursive: true });
  for (const [name, bytes] of files) {
    mkdirSync(dirname(`${scratch.path}/demo/${name}`), { recursive: true });
    writeFileSync(`${scratch.path}/demo/${name}`, bytes);
  }
}

function run(...words: string[]): Promise<number> {
  out = '';
  error = '';
  const terminal = { isInteractive: false, size: () => null, out: (text: string) => void (out += text), error: (text: string) => void (error += text), ask: () => Promise.resolve('') };
  const context: CliContext = { ...new FakeCli().context, terminal, openTools: (options) => Promise.resolve(openTools(options, terminal)) };
  return runCli([...words, '--data', scratch.path], context, '1.2.3');
}

describe('check', () => {
  test('of a clean volume exits 0', async () => {
    put(sample);
    expect(await run('check', 'demo', '--deep')).toBe(0);
    expect(out).toBe('demo is clean (3 chunks, 1 leaves of the block map, 4 records of the log; last LSN 12; every block was read)\n');
  });

  test('of a damaged one exits 1 and says file, byte, loss and what to do', async () => {
    put(withFile(sample, CHUNK, flipped(fileOf(sample, CHUNK), 41)));
    expect(await run('check', 'demo')).toBe(1);
    expect(out).toMatch(/^demo: 1 finding \(/u);
    expect(out).toMatch(/chunks\/c0000000001-e000001: header checksum .*, at byte 88\n {4}lost: 2 blocks of 4096 bytes: blocks 0, 101 \(from byte 0 on\)\n {4}run: basalt repair demo\n/u);
    expect(await run('check', 'demo', '--json')).toBe(1);
    expect(JSON.parse(out)).toMatchObject({ volume: 'demo', isClean: false, findings: [{ file: CHUNK, offsetBytes: 88 }] });
  });

  test('of one that is not there exits 1', async () => {
    expect(await run('check', 'none')).toBe(1);
    expect(error).toContain('there is no volume "none"');
  });
});

describe('explain', () => {
  test('prints state, place, checksums and history', async () => {
    put(sample);
    expect(await run('explain', 'demo', '4K')).toBe(0);
    expect(out).toMatch(/^block {5}1 of volume demo \(bytes 4096 to 8191\)$/mu);
    expect(out).toMatch(/^state {5}persisted: in a chunk$/mu);
    expect(out).toMatch(/^checksum {2}stored ([0-9a-f]{8}), computed \1$/mu);
    expect(out).toContain('history, oldest first:\n  checkpoint 1:');
    expect(await run('explain', 'demo', '0', '--json')).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ blockNumber: 0, state: 'persisted' });
  });

  test('of an offset beyond the end, or one that is none, exits 2', async () => {
    put(sample);
    expect(await run('explain', 'demo', '1G')).toBe(2);
    expect(error).toContain('beyond the end');
    expect(await run('explain', 'demo', 'here')).toBe(2);
    expect(error).toContain('offset: size "here" is not understood');
    expect(await run('explain', 'demo')).toBe(2);
    expect(error).toContain('usage: basalt explain NAME OFFSET');
  });
});

describe('repair', () => {
  test('reports first, and exits 1; with --yes it does it, and the volume is as good as it can be', async () => {
    put(withFile(sample, CHUNK, null));
    const before = digests(snapshot(`${scratch.path}/demo`));
    expect(await run('repair', 'demo')).toBe(1);
    expect(out).toContain('demo: nothing was changed; this is what a repair would do (--yes does it):\n  1. take the block map of checkpoint 1');
    expect(out).toContain('lost: 2 blocks of 4096 bytes: blocks 0, 101');
    expect(digests(snapshot(`${scratch.path}/demo`))).toEqual(before);
    expect(await run('repair', 'demo', '--yes')).toBe(0);
    expect(out).toContain('demo: repaired:\n');
    expect(await run('repair', 'demo', '--yes')).toBe(0);
    expect(out).toBe('demo: there is nothing to repair\n');
    expect(await run('check', 'demo')).toBe(1);
    expect(out).toContain('an earlier repair marked blocks as lost');
  });

  test('of a manifest that cannot be read, and has no copy, exits 1 and changes nothing', async () => {
    put(withFile(withFile(sample, 'manifest', flipped(fileOf(sample, 'manifest'), 40)), 'manifest-copy', null));
    const before = digests(snapshot(`${scratch.path}/demo`));
    expect(await run('repair', 'demo', '--yes')).toBe(1);
    expect(error).toMatch(/manifest: checksum .* at byte 508/u);
    expect(digests(snapshot(`${scratch.path}/demo`))).toEqual(before);
  });

  test('takes no other choice than restore or lost', async () => {
    expect(await run('repair', 'demo', '--uncertain', 'restor')).toBe(2);
    expect(error).toContain('did you mean restore?');
  });
});

describe('the line of progress', () => {
  test('shows after a second on a terminal, at most ten times a second, and goes away', () => {
    let now = 0;
    let shown = '';
    const line = new ProgressLine({ isInteractive: true, size: () => null, out: () => undefined, error: (text) => void (shown += text), ask: () => Promise.resolve('') }, () => now);
    line.update({ task: 'chunks', done: 1, total: 10 });
    expect(shown).toBe('');
    now = 1000;
    line.update({ task: 'chunks', done: 5, total: 10 });
    expect(shown).toBe(`\r[${'#'.repeat(15)}${'.'.repeat(15)}]  50 %  chunks: 5 of 10`);
    shown = '';
    line.update({ task: 'chunks', done: 6, total: 10 });
    expect(shown).toBe('');
    line.end();
    expect(shown).toMatch(/^\r +\r$/u);
  });

  test('is silent where nobody looks', () => {
    let shown = '';
    const line = new ProgressLine({ isInteractive: false, size: () => null, out: () => undefined, error: (text) => void (shown += text), ask: () => Promise.resolve('') }, () => 5000);
    line.update({ task: 'chunks', done: 5, total: 10 });
    line.end();
    expect(shown).toBe('');
  });
});
