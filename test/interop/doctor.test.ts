import { chmod, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findingsOf } from '../support/findings.ts';
import { basalt, BasaltProcess } from './real-server.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'basalt-doctor-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

function statesOf(out: string): Readonly<Record<string, string>> {
  return Object.fromEntries(findingsOf(out).findings.map(({ check, state }) => [check, state]));
}

test('the machine that runs the tests can serve, and the folder is as it was', async () => {
  const { status, out, error } = await basalt('doctor', '--data', directory, '--json');
  expect([status, error], out).toEqual([0, '']);
  expect(statesOf(out)).toMatchObject({ node: 'ok', system: 'ok', flock: 'ok', settings: 'ok', 'data folder': 'ok' });
  expect(await readdir(directory)).toEqual([]);
});

test('a machine without flock, a file in the place of the folder, and a folder for all are found', async () => {
  await mkdir(join(directory, 'open'));
  await chmod(join(directory, 'open'), 0o777);
  const { status, out } = await new BasaltProcess(['doctor', '--data', join(directory, 'open'), '--json'], { PATH: '/nowhere' }).finished;
  expect([status, statesOf(out)]).toEqual([1, expect.objectContaining({ flock: 'failure', 'data folder': 'warning' })]);
  const file = await basalt('doctor', '--data', '/proc/self/limits', '--json');
  expect([file.status, statesOf(file.out)]).toEqual([1, expect.objectContaining({ 'data folder': 'failure' })]);
});
