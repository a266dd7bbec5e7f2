import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../support/source-tree.ts';

/** The engine's parts that an optional package could stand behind: checksums, the log, its mapping, chunks, recovery, whole volumes. */
const ESSENTIAL = ['checksum', 'wal-parts', 'log-writer', 'log-recovery', 'mapped-log', 'node-mapping', 'chunk-reader', 'checkpoint', 'volume', 'cli'];
/** Preloaded: the packages are not to be found, as after `npm install --omit=optional`. */
const HIDE = `const Module = require('node:module');
const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, ...more) {
  if (/^(koffi|@node-rs\\/crc32)(\\/|$)/.test(request)) throw Object.assign(new Error(request + ' is hidden'), { code: 'MODULE_NOT_FOUND' });
  return resolve.call(this, request, ...more);
};
`;

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'basalt-without-'));
  await writeFile(join(directory, 'hide.cjs'), HIDE);
});
afterEach(() => rm(directory, { recursive: true }));

/** Runs Node without the optional packages. */
function run(...words: string[]): Promise<{ readonly status: number | null; readonly out: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, words, { cwd: PROJECT_ROOT, env: { ...process.env, NODE_OPTIONS: `--require=${join(directory, 'hide.cjs')}`, VITEST: '' }, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (out += text));
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, out }));
  });
}

function countIn(report: unknown, name: string): number {
  const found = typeof report === 'object' && report !== null ? new Map<string, unknown>(Object.entries(report)).get(name) : undefined;
  if (typeof found !== 'number') throw new Error(`the report has no ${name}`);
  return found;
}

test('the packages are hidden', async () => {
  const { status, out } = await run('--input-type=module', '--eval', `import { createRequire } from 'node:module'; const need = createRequire('${PROJECT_ROOT}src/'); for (const name of ['koffi', '@node-rs/crc32']) { try { need(name); console.log('found'); } catch (error) { console.log(error.code); } }`);
  expect([status, out]).toEqual([0, 'MODULE_NOT_FOUND\nMODULE_NOT_FOUND\n']);
});

test('the essential part of the unit suite passes without the optional packages', { timeout: 600_000 }, async () => {
  const report = join(directory, 'report.json');
  const files = ESSENTIAL.map((name) => `test/unit/${name}.test.ts`);
  const { status, out } = await run(join(PROJECT_ROOT, 'node_modules/vitest/vitest.mjs'), 'run', '--reporter=json', `--outputFile=${report}`, ...files);
  expect(status, out).toBe(0);
  const found: unknown = JSON.parse(await readFile(report, 'utf8'));
  // Tests of mappings are skipped: so it is without koffi that the others passed.
  expect(found).toMatchObject({ success: true, numFailedTests: 0 });
  expect([countIn(found, 'numTotalTestSuites') >= files.length, countIn(found, 'numPassedTests') > 150, countIn(found, 'numPendingTests') > 0]).toEqual([true, true, true]);
});
