/**
 * What became of the calls in which a traced process died. The trace does not say: such a call has no result, but the kernel may have
 * carried it out, a write also in part. The files say it, as long as no other process has changed them. Left open, a later life
 * would meet files that nobody created, and a crash of the later life could still carry out calls of a process that is long dead.
 */
import { access, open } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { systemCode } from '../../src/base/errors.ts';
import type { FileChange, TracedLife } from './file-trace.ts';

/**
 * The life with an end for each of its changes. To be called when the process is gone and before the next one starts. `root`: the
 * directory that the trace was read with.
 *
 * Nobody can tell a call that was carried out from one that would have changed nothing (a creation of what was there, a write of
 * the bytes that were there), so that counts as carried out: the files are the same either way.
 */
export async function settleLife(life: TracedLife, root: string): Promise<TracedLife> {
  const cutOff = life.changes.filter(({ ended }) => ended === Infinity);
  const returned = life.changes.filter(({ ended }) => ended !== Infinity).toSorted((left, right) => left.ended - right.ended);
  const settled = new Map<FileChange, FileChange | null>();
  // Names before writes: a file is found by the name that it has after all of them.
  for (const change of cutOff) if (change.kind !== 'write') settled.set(change, await settleName(change, root, returned));
  const named = [...returned, ...[...settled.values()].filter((change) => change !== null)];
  for (const change of cutOff) if (change.kind === 'write') settled.set(change, await settleWrite(change, root, named));
  const changes = life.changes.map((change) => {
    const left = settled.get(change);
    return left === undefined ? change : { ...change, ended: life.end.at, settled: left };
  });
  return { ...life, changes };
}

type WriteChange = Extract<FileChange, { kind: 'write' }>;
type NameChange = Exclude<FileChange, WriteChange>;

async function settleName(change: NameChange, root: string, earlier: readonly FileChange[]): Promise<FileChange | null> {
  if (change.kind === 'sync') return null; // without an answer it promises nothing
  const path = nameAtEnd(change.path, change.began, earlier);
  if (path === null) return null;
  const isThere = await exists(join(root, path));
  switch (change.kind) {
    case 'create':
    case 'make-directory':
      return isThere ? { ...change, path } : null;
    case 'remove':
      return isThere ? null : { ...change, path };
    case 'rename': {
      const target = nameAtEnd(change.target, change.began, earlier);
      return target !== null && !isThere && (await exists(join(root, target))) ? { ...change, path, target } : null;
    }
  }
}

/** The kernel writes from the beginning: what it wrote is as long as the bytes of the file are those of the call. */
async function settleWrite(change: WriteChange, root: string, earlier: readonly FileChange[]): Promise<FileChange | null> {
  const path = pathAtEnd(change.path, change.began, earlier);
  if (path === null) return null; // nobody will read that file
  const found = await bytesOf(join(root, path), change.offsetBytes, change.bytes.length);
  const different = found.findIndex((byte, index) => byte !== change.bytes[index]);
  const writtenBytes = different < 0 ? found.length : different;
  return writtenBytes === 0 ? null : { ...change, path, bytes: change.bytes.subarray(0, writtenBytes) };
}

/** Where the file or directory that stood at `path` when a call began is at the end of the life; null: it has no name any more. */
function pathAtEnd(path: string, began: number, changes: readonly FileChange[]): string | null {
  let at = path;
  for (const change of changes) {
    if (change.ended < began) continue;
    if (change.kind === 'remove' && change.path === at) return null;
    if (change.kind !== 'rename') continue;
    if (isWithin(at, change.path)) at = change.target + at.slice(change.path.length);
    else if (isWithin(at, change.target)) return null;
  }
  return at;
}

/** The same of a name, whatever it stands for: only its directory can be renamed. */
function nameAtEnd(path: string, began: number, changes: readonly FileChange[]): string | null {
  const directory = pathAtEnd(posix.dirname(path), began, changes);
  return directory === null ? null : posix.join(directory, posix.basename(path));
}

function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/** Fewer than asked for at the end of the file. */
async function bytesOf(path: string, offsetBytes: number, lengthBytes: number): Promise<Buffer> {
  const handle = await open(path);
  try {
    const bytes = Buffer.alloc(lengthBytes);
    let got = 0;
    while (got < lengthBytes) {
      const { bytesRead } = await handle.read(bytes, got, lengthBytes - got, offsetBytes + got);
      if (bytesRead === 0) break;
      got += bytesRead;
    }
    return bytes.subarray(0, got);
  } finally {
    await handle.close();
  }
}
