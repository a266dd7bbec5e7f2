/** The FileSystem of env.ts on Node's `fs`, with plain descriptors: file handles cost about twice as much a call. */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { promisify } from 'node:util';
import { VolumeError, systemCode } from '../base/errors.ts';
import type { File, FileLock, FileSystem, Mapping, OpenMode } from './env.ts';
import { mapFile } from './node-mapping.ts';

const closeFile = promisify(fs.close);
const openFile = promisify(fs.open);
const statFile = promisify(fs.fstat);
const syncAll = promisify(fs.fsync);

const OPEN_FLAGS: Readonly<Record<OpenMode, number>> = {
  create: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_EXCL,
  write: fs.constants.O_RDWR,
  read: fs.constants.O_RDONLY,
  direct: fs.constants.O_RDWR | fs.constants.O_DIRECT | fs.constants.O_DSYNC,
  uncached: fs.constants.O_RDWR | fs.constants.O_DIRECT,
};

/** What is left of `parts` after their first `written` bytes. */
function partsAfter(parts: readonly Uint8Array[], written: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  let skip = written;
  for (const part of parts) {
    if (skip >= part.length) skip -= part.length;
    else {
      rest.push(skip === 0 ? part : part.subarray(skip));
      skip = 0;
    }
  }
  return rest;
}

function totalBytes(parts: readonly Uint8Array[]): number {
  let total = 0;
  for (const part of parts) total += part.length;
  return total;
}

/** A kernel takes at most 1024 parts in one call (IOV_MAX). */
const MAX_PARTS = 1024;

function noProgress(path: string): Error {
  return Object.assign(new Error(`write to ${path} made no progress`), { code: 'EIO' });
}

class NodeFile implements File {
  readonly #descriptor: number;
  readonly #path: string;

  constructor(descriptor: number, path: string) {
    this.#descriptor = descriptor;
    this.#path = path;
  }

  async write(parts: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    let rest: readonly Uint8Array[] = parts;
    let at = offsetBytes;
    let left = totalBytes(parts);
    while (left > 0) {
      const written = await this.#writeSome(rest.length > MAX_PARTS ? rest.slice(0, MAX_PARTS) : rest, at);
      if (written === 0) throw noProgress(this.#path);
      left -= written;
      at += written;
      if (left > 0) rest = partsAfter(rest, written);
    }
  }

  #writeSome(parts: readonly Uint8Array[], at: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const done = (error: Error | null, written: number): void => (error === null ? resolve(written) : reject(error));
      if (parts.length === 1) fs.write(this.#descriptor, parts[0], 0, parts[0].length, at, done);
      else fs.writev(this.#descriptor, parts, at, done);
    });
  }

  writeNow(parts: readonly Uint8Array[], offsetBytes: number): void {
    let rest: readonly Uint8Array[] = parts;
    let at = offsetBytes;
    let left = totalBytes(parts);
    while (left > 0) {
      const some = rest.length > MAX_PARTS ? rest.slice(0, MAX_PARTS) : rest;
      const written = some.length === 1 ? fs.writeSync(this.#descriptor, some[0], 0, some[0].length, at) : fs.writevSync(this.#descriptor, some, at);
      if (written === 0) throw noProgress(this.#path);
      left -= written;
      at += written;
      if (left > 0) rest = partsAfter(rest, written);
    }
  }

  async read(target: Uint8Array, offsetBytes: number): Promise<number> {
    let got = 0;
    while (got < target.length) {
      const count = await this.#readSome(target, got, offsetBytes + got);
      if (count === 0) break;
      got += count;
    }
    return got;
  }

  #readSome(target: Uint8Array, start: number, at: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.read(this.#descriptor, target, start, target.length - start, at, (error, count) => (error === null ? resolve(count) : reject(error)));
    });
  }

  sync(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.fdatasync(this.#descriptor, (error) => (error === null || error === undefined ? resolve() : reject(error)));
    });
  }

  syncNow(): void {
    fs.fdatasyncSync(this.#descriptor);
  }

  async sizeBytes(): Promise<number> {
    return (await statFile(this.#descriptor)).size;
  }

  close(): Promise<void> {
    return closeFile(this.#descriptor);
  }
}

export class NodeFileSystem implements FileSystem {
  async open(path: string, mode: OpenMode): Promise<File> {
    return new NodeFile(await openFile(path, OPEN_FLAGS[mode], 0o600), path);
  }

  map(path: string, lengthBytes: number): Promise<Mapping> {
    return new Promise((resolve) => resolve(mapFile(path, lengthBytes)));
  }

  async list(path: string): Promise<string[]> {
    return (await fs.promises.readdir(path)).toSorted();
  }

  async makeDirectory(path: string): Promise<void> {
    await fs.promises.mkdir(path, { mode: 0o700 });
  }

  async rename(source: string, target: string): Promise<void> {
    await fs.promises.rename(source, target);
  }

  async remove(path: string): Promise<void> {
    await fs.promises.unlink(path);
  }

  async removeTree(path: string): Promise<void> {
    await fs.promises.rm(path, { recursive: true });
  }

  async syncDirectory(path: string): Promise<void> {
    const descriptor = await openFile(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
    try {
      await syncAll(descriptor);
    } finally {
      await closeFile(descriptor);
    }
  }

  async exists(path: string): Promise<boolean> {
    try {
      await fs.promises.access(path);
      return true;
    } catch (error) {
      const code = systemCode(error);
      if (code === 'ENOENT' || code === 'ENOTDIR') return false;
      throw error;
    }
  }

  async usedBytes(path: string): Promise<number> {
    let total = 0;
    for (const entry of await fs.promises.readdir(path, { withFileTypes: true })) {
      const child = `${path}/${entry.name}`;
      if (entry.isDirectory()) total += await this.usedBytes(child);
      else total += await allocatedBytes(child);
    }
    return total;
  }

  /**
   * flock(2) by way of the `flock` program on a descriptor of ours: the lock belongs to the open file, so it stays when
   * the program ends and goes with this process, however it ends. Node has no call for it, and a native addon would be
   * a second kind of lock that does not exclude this one.
   */
  async lock(path: string): Promise<FileLock | null> {
    const descriptor = await openFile(path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
    const status = await flockStatus(descriptor).catch(async (error: unknown) => {
      await closeFile(descriptor);
      throw error;
    });
    if (status === 0) return { release: () => closeFile(descriptor) };
    await closeFile(descriptor);
    if (status === LOCK_HELD_STATUS) return null;
    throw new VolumeError('io-error', `locking ${path} failed: flock ended with status ${status}; does the file system support locks?`);
  }
}

/** Bytes allocated for a file; 0 if it was removed meanwhile. */
async function allocatedBytes(path: string): Promise<number> {
  try {
    return (await fs.promises.stat(path)).blocks * 512;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return 0;
    throw error;
  }
}

const LOCK_HELD_STATUS = 99;

function flockStatus(descriptor: number): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const child = spawn('flock', ['-n', '-x', '-E', String(LOCK_HELD_STATUS), '3'], { stdio: ['ignore', 'ignore', 'ignore', descriptor] });
    child.once('error', (error) =>
      reject(new VolumeError('unsupported', 'the program `flock` (package util-linux) is needed to lock a volume, and is missing', { cause: error })),
    );
    child.once('exit', (status) => resolve(status));
  });
}

