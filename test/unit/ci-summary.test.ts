import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../support/source-tree.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'basalt-summary-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

type Status = 'passed' | 'failed' | 'skipped';

/** The summary of a report with these files, each a list of its tests' statuses. */
function summarize(success: boolean, files: readonly { readonly status: Status; readonly tests: readonly Status[] }[]): { lines: string[]; status: number | null } {
  const report = {
    success,
    testResults: files.map(({ status, tests }) => ({ status, assertionResults: tests.map((result, index) => ({ status: result, fullName: `test ${index}` })) })),
  };
  const path = join(folder, 'report.json');
  writeFileSync(path, JSON.stringify(report));
  return run(path);
}

function run(path: string): { lines: string[]; status: number | null } {
  const { stdout, status } = spawnSync(process.execPath, [join(PROJECT_ROOT, '.ci/summary.mjs'), path], { encoding: 'utf8' });
  return { lines: stdout.trimEnd().split('\n'), status };
}

test('counts tests, names the skipped ones, and ends with one line', () => {
  expect(summarize(true, [{ status: 'passed', tests: ['passed', 'skipped', 'passed'] }])).toEqual({
    lines: ['skipped: test 1', '2 passed, 0 failed'],
    status: 0,
  });
});

test('a failed test, and a file that could not be loaded, are failures', () => {
  const files = [
    { status: 'failed', tests: ['passed', 'failed'] },
    { status: 'failed', tests: [] },
  ] as const;
  expect(summarize(false, files)).toEqual({ lines: ['1 passed, 2 failed'], status: 1 });
});

test('a run that failed without a failed test is a failure', () => {
  expect(summarize(false, [{ status: 'passed', tests: ['passed'] }])).toEqual({ lines: ['1 passed, 1 failed'], status: 1 });
});

test('no report is a failure', () => {
  const { lines, status } = run(join(folder, 'none.json'));
  expect(lines.at(-1)).toBe('0 passed, 1 failed');
  expect(status).toBe(1);
});
