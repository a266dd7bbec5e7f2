/**
 * The control socket's file. Whoever holds the lock beside it is the one server of the directory: a socket that is there
 * although the lock is free belongs to a dead one and is replaced. It is made ready in a directory that nobody else can enter and
 * then renamed, so that at no moment anybody but its owner can connect.
 */
import { chmod, lstat, mkdtemp, open, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { constants } from 'node:fs';
import type { Server } from 'node:http';
import { basename, dirname, join } from 'node:path';
import { CONTROL_LOCK_NAME, CONTROL_SOCKET_NAME, CONTROL_STAGE_PREFIX } from '../base/control-socket.ts';
import { VolumeError, systemCode, toVolumeError } from '../base/errors.ts';
import type { FileLock, FileSystem } from '../env/env.ts';

/** Longest path that a unix socket's address holds. */
const MAX_SOCKET_PATH_BYTES = 107;

/** Runs `use` with a path to the same file that is short enough for a socket's address. */
export async function withSocketPath<T>(path: string, use: (path: string) => Promise<T>): Promise<T> {
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES) return use(path);
  const directory = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    return await use(`/proc/self/fd/${directory.fd}/${basename(path)}`);
  } finally {
    await directory.close();
  }
}

export class ControlSocket {
  readonly path: string;
  readonly #directory: string;
  readonly #lock: FileLock;

  private constructor(directory: string, lock: FileLock) {
    this.path = join(directory, CONTROL_SOCKET_NAME);
    this.#directory = directory;
    this.#lock = lock;
  }

  /** Takes the directory for this process. Rejects with `in-use`, naming the process that has it, or `io-error`. */
  static async claim(files: FileSystem, directory: string): Promise<ControlSocket> {
    const path = join(directory, CONTROL_LOCK_NAME);
    let lock: FileLock | null;
    try {
      lock = await files.lock(path);
      if (lock !== null) await writeFile(path, `${process.pid}\n`);
    } catch (error) {
      throw toVolumeError(error, `claiming the directory ${directory}`);
    }
    if (lock !== null) return new ControlSocket(directory, lock);
    const holder = (await readFile(path, 'utf8').catch(() => '')).trim();
    const who = /^\d+$/.test(holder) ? `process ${holder}` : 'another process';
    throw new VolumeError('in-use', `${directory} is served by ${who} already; use that server, or stop it first`, { context: { directory, pid: Number(holder) || null } });
  }

  /** Makes `server` listen at `path`. Rejects with `already-exists` if something else than a socket is there, or `io-error`. */
  async listen(server: Server): Promise<void> {
    const found = await lstat(this.path).catch((error: unknown) => {
      if (systemCode(error) === 'ENOENT') return null;
      throw toVolumeError(error, `looking at ${this.path}`);
    });
    if (found !== null && !found.isSocket()) throw new VolumeError('already-exists', `${this.path} is in the way of the control socket; move it elsewhere`);
    try {
      await this.#removeStages();
      const stage = await mkdtemp(join(this.#directory, CONTROL_STAGE_PREFIX));
      const staged = join(stage, 's');
      await withSocketPath(staged, (short) => listenOn(server, short));
      await chmod(staged, 0o600);
      await rename(staged, this.path);
      await rm(stage, { recursive: true });
    } catch (error) {
      server.close();
      await this.#removeStages().catch(() => undefined); // the first error is the one to report; the next server removes them
      throw toVolumeError(error, `listening on ${this.path}`);
    }
  }

  /** Removes the socket: nobody can connect any more. The directory stays claimed. */
  async remove(): Promise<void> {
    await rm(this.path, { force: true });
  }

  /** Leaves the directory to others. */
  async release(): Promise<void> {
    await this.#lock.release();
  }

  /** What a server left that was killed while it made its socket. */
  async #removeStages(): Promise<void> {
    const left = (await readdir(this.#directory, { withFileTypes: true })).filter((entry) => entry.isDirectory() && entry.name.startsWith(CONTROL_STAGE_PREFIX));
    for (const { name } of left) await rm(join(this.#directory, name), { recursive: true, force: true });
  }
}

function listenOn(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
