/** A script of thirty lines that goes by `--json` and exit statuses alone has all it needs. */
import { mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../support/source-tree.ts';
import { interopTest, runProgram } from './tools.ts';

const SCRIPT = join(PROJECT_ROOT, 'test/interop/volume-life.sh');
/** It starts some twenty processes: far above what that takes on an idle machine. */
const SCRIPT_TIMEOUT_MS = 110_000;
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'basalt-life-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe('the script of the life of a volume', () => {
  interopTest(['nbdcopy'], 'makes, serves, fills, compares, labels, renames and deletes a volume', async () => {
    const programs = join(directory, 'programs');
    const work = join(directory, 'work');
    await mkdir(programs);
    await mkdir(work);
    await symlink(join(PROJECT_ROOT, 'dist/cli/basalt.cjs'), join(programs, 'basalt'));
    const { status, out, error } = await runProgram('sh', ['-xc', `PATH="${programs}:${dirname(process.execPath)}:$PATH"; cd "${work}"; . "${SCRIPT}"`], '', SCRIPT_TIMEOUT_MS);
    expect(status, `${out}${error}`).toBe(0);
    expect(error).toContain('cmp image copy');
  });

  test('has at most 30 lines, and room for its reader', async () => {
    const lines = (await readFile(SCRIPT, 'utf8')).trimEnd().split('\n');
    expect(lines.length).toBeLessThanOrEqual(30);
    expect(Math.max(...lines.slice(2).map((line) => line.length))).toBeLessThanOrEqual(160);
  });
});
