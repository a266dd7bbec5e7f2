import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CrashStates, differences } from './crash-states.ts';
import { type FileChange, type TracedLife, readTrace } from './file-trace.ts';
import { settleLife } from './settle-life.ts';

let directory: string;
/** The files of the traced process. */
let root: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'basalt-settle-'));
  root = join(directory, 'data');
  await mkdir(root);
});
afterEach(() => rm(directory, { recursive: true }));

const CUT_OFF = ' <unfinished ...>';
const KILLED = '1 +++ killed by SIGKILL +++';

/** Of thread `thread`; `end`: what comes behind the arguments. */
function create(path: string, end = ') = 5', thread = 1): string {
  return `${thread} openat(AT_FDCWD<${root}>, "${root}${path}", O_RDWR|O_CREAT|O_EXCL, 0600${end}`;
}

function makeDirectory(path: string, end = ') = 0', thread = 1): string {
  return `${thread} mkdir("${root}${path}", 0700${end}`;
}

function rename(path: string, target: string, end = ') = 0', thread = 1): string {
  return `${thread} rename("${root}${path}", "${root}${target}"${end}`;
}

function remove(path: string, end = ') = 0', thread = 1): string {
  return `${thread} unlink("${root}${path}"${end}`;
}

function write(path: string, text: string, offsetBytes: number, end = `) = ${text.length}`, thread = 1): string {
  return `${thread} pwrite64(5<${root}${path}>, "${text}", ${text.length}, ${offsetBytes}${end}`;
}

async function read(firstLine: number, lines: readonly string[]): Promise<TracedLife> {
  const file = join(directory, 'trace');
  await writeFile(file, `${lines.join('\n')}\n`);
  return settleLife(await readTrace(file, root, firstLine), root);
}

/** What became of the calls that were cut off, in the order of their beginnings. */
async function settledOf(...lines: readonly string[]): Promise<(FileChange | null)[]> {
  const { changes, end } = await read(0, [...lines, KILLED]);
  expect(changes.every(({ ended, settled }) => (settled === undefined ? ended < end.at : ended === end.at))).toBe(true);
  return changes.flatMap(({ settled }) => (settled === undefined ? [] : [settled]));
}

function put(path: string, text = ''): Promise<void> {
  return writeFile(join(root, path), text);
}

describe('of the calls in which a process died', () => {
  test('a creation was carried out if the file is there', async () => {
    await put('/made');
    expect(await settledOf(create('/made', CUT_OFF), create('/missing', CUT_OFF, 2))).toMatchObject([{ kind: 'create', path: '/made' }, null]);
  });

  test('a directory was made if it is there', async () => {
    await mkdir(join(root, 'made'));
    expect(await settledOf(makeDirectory('/made', CUT_OFF), makeDirectory('/missing', CUT_OFF, 2))).toMatchObject([{ kind: 'make-directory', path: '/made' }, null]);
  });

  test('a removal was carried out if the file is gone', async () => {
    await put('/left');
    expect(await settledOf(create('/gone'), create('/left'), remove('/gone', CUT_OFF), remove('/left', CUT_OFF, 2))).toMatchObject([{ kind: 'remove', path: '/gone' }, null]);
  });

  test('a rename was carried out if the target is there and the source is gone', async () => {
    await put('/renamed');
    await put('/source');
    await put('/older');
    const lines = [create('/a'), create('/source'), create('/older'), rename('/a', '/renamed', CUT_OFF), rename('/source', '/older', CUT_OFF, 2), rename('/nothing', '/nowhere', CUT_OFF, 3)];
    expect(await settledOf(...lines)).toMatchObject([{ kind: 'rename', path: '/a', target: '/renamed' }, null, null]);
  });

  test('a write was carried out as far as the file has its bytes', async () => {
    await put('/a', 'ABCDEFGHabXX\0\0\0\0ab');
    const settled = await settledOf(create('/a'), write('/a', 'EFGH', 4, CUT_OFF), write('/a', 'abcd', 8, CUT_OFF, 2), write('/a', 'ijkl', 12, CUT_OFF, 3), write('/a', 'abcd', 16, CUT_OFF, 4), write('/a', 'mnop', 40, CUT_OFF, 5));
    expect(settled).toMatchObject([{ bytes: Buffer.from('EFGH'), offsetBytes: 4 }, { bytes: Buffer.from('ab'), offsetBytes: 8 }, null, { bytes: Buffer.from('ab'), offsetBytes: 16 }, null]);
  });

  test('a sync is without effect', async () => {
    await put('/a');
    expect(await settledOf(create('/a'), `2 fdatasync(5<${root}/a>${CUT_OFF}`, `3 fsync(6<${root}>) = ?`)).toEqual([null, null]);
  });

  test('a write is looked for under the name that its file has at the end', async () => {
    await mkdir(join(root, 'there'));
    await put('/there/b', 'abcd');
    await put('/a', 'WXYZ'); // another file, which got the name later
    const lines = [makeDirectory('/here'), create('/here/a'), write('/here/a', 'abcd', 0, CUT_OFF, 2), rename('/here/a', '/here/b'), rename('/here', '/there'), create('/a')];
    expect(await settledOf(...lines)).toMatchObject([{ kind: 'write', path: '/there/b', bytes: Buffer.from('abcd') }]);
  });

  test('a rename before a write says nothing of it, one that was cut off moves its file', async () => {
    await put('/b', 'old');
    await put('/c', 'abcd');
    expect(await settledOf(create('/a'), rename('/a', '/b'), create('/a'), write('/a', 'abcd', 0, CUT_OFF, 2), rename('/a', '/c', CUT_OFF, 3))).toMatchObject([
      { kind: 'write', path: '/c', bytes: Buffer.from('abcd') },
      { kind: 'rename', target: '/c' },
    ]);
  });

  test('a write to a file that was removed, or replaced, is without effect', async () => {
    await put('/b', 'abcd');
    expect(await settledOf(create('/a'), write('/a', 'abcd', 0, CUT_OFF, 2), remove('/a'))).toEqual([null]);
    expect(await settledOf(create('/a'), create('/b'), write('/b', 'abcd', 0, CUT_OFF, 2), rename('/a', '/b'))).toEqual([null]);
  });

  test('a creation in a directory that was renamed is looked for there', async () => {
    await mkdir(join(root, 'there'));
    await put('/there/a');
    expect(await settledOf(makeDirectory('/here'), create('/here/a', CUT_OFF, 2), rename('/here', '/there'))).toMatchObject([{ kind: 'create', path: '/there/a' }]);
  });
});

test('calls that returned are left as they are', async () => {
  const { changes } = await read(10, [create('/a'), `1 fsync(5<${root}/a>) = 0`, KILLED]);
  expect(changes).toEqual([
    { kind: 'create', path: '/a', began: 11, ended: 11 },
    { kind: 'sync', path: '/a', began: 12, ended: 12 },
  ]);
});

test('a process that removes what one before it created when it was killed leaves what the model says', async () => {
  await put('/.stage');
  await put('/a', 'abcX');
  const first = await read(0, [create('/a'), write('/a', 'abXX', 0), create('/.stage', CUT_OFF, 2), rename('/a', '/b', CUT_OFF, 3), write('/a', 'cdef', 2, CUT_OFF, 4), KILLED]);
  await rm(join(root, '.stage'));
  const second = await read(first.end.at, [remove('/.stage'), '1 +++ exited with 0 +++']);
  const disk = new CrashStates([...first.changes, ...second.changes], 'none').atTheEnd();
  expect(await differences(disk, '/', root)).toEqual([]);
});
