/** The built `basalt`, run as its users run it. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Durability } from '../../src/base/durability.ts';
import { createVolume } from '../../src/index.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';

const ENTRY = join(PROJECT_ROOT, 'dist/cli/basalt.cjs');
/** Far above what it takes on an idle machine, as all limits of tests are. */
const READY_TIMEOUT_MS = 100_000;

export interface Finished {
  readonly status: number | string;
  readonly out: string;
  readonly error: string;
}

/** A running child with its output. */
export class BasaltProcess {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly finished: Promise<Finished>;
  out = '';
  error = '';
  #changed: (() => void) | null = null;

  constructor(words: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    if (!existsSync(ENTRY)) throw new Error(`${ENTRY} is not there: run \`make build\` first`);
    this.#child = spawn(process.execPath, [ENTRY, ...words], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...environment } });
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.out += text;
      this.#changed?.();
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.error += text;
      this.#changed?.();
    });
    this.finished = new Promise((resolve, reject) => {
      this.#child.on('error', reject);
      this.#child.on('close', (code, signal) => {
        resolve({ status: code ?? signal ?? 'unknown', out: this.out, error: this.error });
        this.#changed?.();
      });
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('the process has not started');
    return this.#child.pid;
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Resolves when `condition` holds for what was printed; rejects when the process ends or the time is over first. */
  waitFor(what: string, condition: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (error: Error | null): void => {
        clearTimeout(timer);
        this.#changed = null;
        if (error === null) resolve();
        else reject(error);
      };
      const fail = (why: string): void => settle(new Error(`${what}: ${why}; it printed: ${this.out}${this.error}`));
      const timer = setTimeout(() => fail(`not within ${READY_TIMEOUT_MS} ms`), READY_TIMEOUT_MS);
      this.#changed = () => {
        if (condition()) settle(null);
        else if (this.ended) fail('the process ended');
      };
      this.#changed();
    });
  }

  /** Closes our end of its standard output, as `| head` does. */
  stopReading(): void {
    this.#child.stdout.destroy();
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }
}

/** Runs one `basalt` command to its end. */
export function basalt(...words: string[]): Promise<Finished> {
  return new BasaltProcess(words).finished;
}

/** Runs one that must succeed; returns what it printed. */
export async function basaltOk(...words: string[]): Promise<string> {
  const { status, out, error } = await basalt(...words);
  if (status !== 0) throw new Error(`basalt ${words.join(' ')} ended with ${status}: ${error}`);
  return out;
}

/** A temporary directory of volumes and the server of it: on TCP (any free port) and on a unix socket. */
export class RealServer {
  readonly directory: string;
  readonly socketPath: string;
  #process: BasaltProcess | null = null;
  port = 0;

  private constructor(directory: string) {
    this.directory = directory;
    this.socketPath = join(directory, 'server.sock');
  }

  static async create(): Promise<RealServer> {
    return new RealServer(await mkdtemp(join(tmpdir(), 'basalt-interop-')));
  }

  get dataDirectory(): string {
    return join(this.directory, 'data');
  }

  get process(): BasaltProcess {
    if (this.#process === null) throw new Error('the server is not started');
    return this.#process;
  }

  /** In this process, which is quicker than starting one; tests of the command line start `basalt create` themselves. */
  async createVolume(name: string, size: string, durability: Durability = 'batched'): Promise<void> {
    await mkdir(this.dataDirectory, { recursive: true });
    await createVolume(join(this.dataDirectory, name), { size, durability });
  }

  /** Starts the server; resolves when all its listeners are ready. */
  async start(...flags: string[]): Promise<void> {
    const words = ['serve', '--data', this.dataDirectory, '--listen', '127.0.0.1:0', '--socket', this.socketPath, ...flags];
    this.#process = new BasaltProcess(words);
    const listeners = words.filter((word) => word === '--listen' || word === '--socket').length;
    await this.#process.waitFor(`${listeners} listeners`, () => this.process.out.split('\n').length > listeners);
    const port = /nbds?:\/\/127\.0\.0\.1:(\d+)/.exec(this.process.out)?.[1];
    if (port === undefined) throw new Error(`no port in: ${this.process.out}`);
    this.port = Number(port);
  }

  tcp(volume: string): string {
    return `nbd://127.0.0.1:${this.port}/${volume}`;
  }

  unix(volume: string): string {
    return `nbd+unix:///${volume}?socket=${this.socketPath}`;
  }

  /** SIGTERM, and the exit status. */
  async stop(): Promise<Finished> {
    this.process.signal('SIGTERM');
    return this.process.finished;
  }

  /** Ends the server, if it runs, and removes everything. */
  async dispose(): Promise<void> {
    if (this.#process !== null && !this.#process.ended) {
      this.#process.signal('SIGKILL');
      await this.#process.finished;
    }
    await rm(this.directory, { recursive: true, force: true });
  }
}
