/**
 * An SD card of its own making: nbdkit with slow-card.c under nbdfuse, a loop device and ext4. Needs root, nbdkit with its cc plugin, nbdkit's
 * header, gcc and nbdfuse.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { access, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { execute } from './fio.ts';

const STEP_TIMEOUT_MS = 60_000;

export interface CardOptions {
  readonly sizeBytes: number;
  /** Bytes a second that it writes. */
  readonly rateBytes: number | string;
  /** Microseconds that a flush takes. */
  readonly flushUs: number | string;
}

/** What a card has been given so far. */
export interface CardCounts {
  readonly bytes: number;
  readonly flushes: number;
}

/** A mounted card; `remove` takes it apart, whatever of it is there. */
export class Card {
  readonly mountPath: string;
  readonly #directory: string;
  readonly #options: CardOptions;
  readonly #children: ChildProcess[] = [];
  #loop: string | null = null;
  #mounted = false;

  constructor(directory: string, options: CardOptions) {
    this.#directory = directory;
    this.#options = options;
    this.mountPath = join(directory, 'card');
  }

  async insert(): Promise<void> {
    const { sizeBytes, rateBytes, flushUs } = this.#options;
    const socket = join(this.#directory, 'card.sock');
    const fuse = join(this.#directory, 'fuse');
    await mkdir(fuse);
    await mkdir(this.mountPath);
    const card = ['cc', resolve('bench/slow-card.c'), `image=${join(this.#directory, 'card.img')}`, `fast=${this.#fastPath}`, `size=${sizeBytes}`, `rate=${rateBytes}`, `flush-us=${flushUs}`];
    await this.#run('nbdkit', ['--foreground', '--exit-with-parent', '--unix', socket, ...card], socket);
    await this.#run('nbdfuse', [fuse, '--unix', socket], join(fuse, 'nbd'));
    this.#loop = (await execute('losetup', ['--find', '--show', '--direct-io=on', join(fuse, 'nbd')])).trim();
    // The journal and the tables are made now, not behind the measurement's back.
    await execute('mkfs.ext4', ['-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0', this.#loop]);
    await execute('mount', [this.#loop, this.mountPath]);
    this.#mounted = true;
  }

  /** Starts a program that stays; resolves when `sign` is there. */
  async #run(program: string, args: readonly string[], sign: string): Promise<void> {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let complaint = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint = (complaint + text).slice(-2000)));
    child.on('error', (error) => (complaint += error.message));
    this.#children.push(child);
    const deadline = performance.now() + STEP_TIMEOUT_MS;
    while (!(await isThere(sign))) {
      if (child.exitCode !== null || performance.now() > deadline) throw new Error(`${program} did not start: ${complaint}`);
      await delay(50);
    }
  }

  get #fastPath(): string {
    return join(this.#directory, 'card-is-fast');
  }

  /** Runs `prepare` while the card takes no time. */
  async whileFast(prepare: () => Promise<void>): Promise<void> {
    await writeFile(this.#fastPath, '');
    await prepare();
    await rm(this.#fastPath);
  }

  /** By Linux's count of the loop device: fields 7 (sectors written) and 16 (flushes) of its `stat`. */
  async counts(): Promise<CardCounts> {
    const fields = (await readFile(`/sys/block/${basename(this.#loop ?? '')}/stat`, 'utf8')).trim().split(/\s+/);
    return { bytes: Number(fields[6]) * 512, flushes: Number(fields[15]) };
  }

  /** The kernel lets go of a loop device's file some time after it was detached. */
  async #unmountFuse(): Promise<void> {
    const deadline = performance.now() + STEP_TIMEOUT_MS;
    for (;;) {
      try {
        await execute('umount', [join(this.#directory, 'fuse')]);
        return;
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await delay(100);
      }
    }
  }

  async remove(): Promise<void> {
    if (this.#mounted) await execute('umount', [this.mountPath]);
    if (this.#loop !== null) await execute('losetup', ['--detach', this.#loop]);
    if (this.#children.length > 1) await this.#unmountFuse();
    for (const child of this.#children) child.kill('SIGTERM');
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false; // not yet
  }
}
