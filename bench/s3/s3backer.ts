/**
 * s3backer, Debian's: a file on FUSE, whose blocks are objects. `nbdkit file` serves that file, so that the same client measures it as measures basalt. Its fsync promises nothing by
 * itself: with `isSynced` (`--blockCacheSync`) each write waits for its object, without it writes are in its memory for a while.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { S3Server } from '../../test/s3/s3-server.ts';
import { execute } from '../fio.ts';
import { RunningServer } from '../servers.ts';
import { BUCKET } from './context.ts';

export interface MountOptions {
  readonly s3: S3Server;
  readonly directory: string;
  readonly prefix: string;
  readonly sizeBytes: number;
  readonly isSynced: boolean;
}

const BLOCK = '128k';
const READY_TIMEOUT_MS = 60_000;

export class S3backer {
  readonly #mount: string;
  readonly #child: ChildProcess;
  readonly #exit: Promise<unknown>;
  #server: RunningServer<string> | null = null;
  #complaint = '';

  private constructor(mount: string, child: ChildProcess) {
    this.#mount = mount;
    this.#child = child;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#complaint = (this.#complaint + text).slice(-2000)));
    this.#exit = new Promise((resolve) => child.once('exit', resolve).once('error', resolve));
  }

  /** After an error nothing of it is left. */
  static async start({ s3, directory, prefix, sizeBytes, isSynced }: MountOptions): Promise<S3backer> {
    const mount = join(directory, 'mount');
    await mkdir(mount, { recursive: true });
    const keys = [`--accessId=${s3.accessKeyId}`, `--accessKey=${s3.secretAccessKey}`, `--baseURL=${s3.endpoint}/`, `--prefix=${prefix}/`];
    const args = ['-f', '--quiet', ...keys, `--blockSize=${BLOCK}`, `--size=${sizeBytes}`, ...(isSynced ? ['--blockCacheSync', '--blockCacheWriteDelay=0'] : []), '--filename=disk', BUCKET, mount];
    const mounted = new S3backer(mount, spawn('s3backer', args, { stdio: ['ignore', 'ignore', 'pipe'] }));
    try {
      await mounted.#ready();
      const socketPath = join(directory, 'nbd.sock');
      await rm(socketPath, { force: true }); // nbdkit leaves its socket behind, and does not listen where one is
      mounted.#server = await RunningServer.startCommand({
        name: isSynced ? 's3backer, synced' : 's3backer',
        command: 'nbdkit',
        args: ['--foreground', '--exit-with-parent', '--unix', socketPath, 'file', join(mount, 'disk')],
        socketPath,
        uri: `nbd+unix:///?socket=${socketPath}`,
      });
    } catch (error) {
      await mounted.end();
      throw error;
    }
    return mounted;
  }

  async #ready(): Promise<void> {
    const endMs = performance.now() + READY_TIMEOUT_MS;
    while (!existsSync(join(this.#mount, 'disk'))) {
      if (this.#child.pid === undefined) throw new Error('s3backer is missing (package s3backer); --peers none does without');
      if (!this.#isRunning || performance.now() > endMs) throw new Error(`s3backer does not start: ${this.#complaint}`);
      await delay(50);
    }
  }

  get #isRunning(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get uri(): string {
    if (this.#server === null) throw new Error('s3backer is not served');
    return this.#server.uri;
  }

  pause(): void {
    this.#server?.pause();
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
    this.#server?.resume();
  }

  /** Unmounts it: all that it has in memory is in the bucket then. */
  async stop(): Promise<void> {
    this.resume();
    await this.#server?.stop();
    await execute('fusermount', ['-u', this.#mount]);
    await this.#exit;
  }

  /** After an error: whatever it has in memory. Nothing to do if it has ended. */
  async end(): Promise<void> {
    if (!this.#isRunning) return;
    this.resume();
    await this.#server?.stop();
    try {
      await execute('fusermount', ['-u', '-z', this.#mount]);
    } finally {
      this.#child.kill('SIGKILL');
      await this.#exit;
    }
  }
}
