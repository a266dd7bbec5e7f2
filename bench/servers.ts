/** Starts the servers that are compared, each on a unix socket of its own, and stops them again. */
import { spawn, type ChildProcess } from 'node:child_process';
import { open, mkdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { unreachable } from '../src/base/assert.ts';
import type { Durability } from '../src/base/durability.ts';
import { execute } from './fio.ts';
import type { ServerName } from './jobs.ts';

export interface ServerOptions {
  readonly name: ServerName;
  /** A directory for this server alone: its data and its socket. */
  readonly directory: string;
  readonly sizeBytes: number;
  /** basalt only. */
  readonly mode: Durability;
  /** basalt only: its compiled command line, options for node, and `--set` options for `create` and `serve`. */
  readonly basaltEntry: string;
  readonly nodeOptions?: readonly string[];
  readonly serveOptions?: readonly string[];
  /** Certificates of `basalt pki`: the server speaks TLS and nothing else. nbdkit and basalt only. */
  readonly pkiDirectory?: string;
  /** basalt only: false if the directory has its volume already. */
  readonly isNew?: boolean;
  /** basalt only: more flags of `create`. */
  readonly createFlags?: readonly string[];
}

/** Any other server on a unix socket. */
export interface ServerCommand<Name extends string> {
  readonly name: Name;
  readonly command: string;
  readonly args: readonly string[];
  readonly socketPath: string;
  readonly uri: string;
}

export const EXPORT_NAME = 'bench';
const READY_TIMEOUT_MS = 15_000;
const STOP_TIMEOUT_MS = 60_000;

/** A running server. Exactly one `stop` ends it. */
export class RunningServer<Name extends string = ServerName> {
  readonly name: Name;
  readonly pid: number;
  readonly uri: string;
  readonly #child: ChildProcess;
  readonly #exit: Promise<string>;
  #complaint = '';
  #ended = false;

  private constructor(name: Name, child: ChildProcess, pid: number, uri: string) {
    this.name = name;
    this.pid = pid;
    this.uri = uri;
    this.#child = child;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#complaint = (this.#complaint + text).slice(-4000)));
    this.#exit = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#ended = true;
        resolve(signal ?? `exit code ${code}`);
      });
    });
  }

  /** Resolves when the server greets on its socket. Rejects, with what it said, when it ends or stays silent. */
  static async start(options: ServerOptions): Promise<RunningServer> {
    await mkdir(options.directory, { recursive: true });
    const socketPath = join(options.directory, 'nbd.sock');
    const [command, args] = await commandOf(options, socketPath);
    return RunningServer.startCommand({ name: options.name, command, args, socketPath, uri: uriOf(options, socketPath) });
  }

  /** As `start`, of a command that is known. */
  static async startCommand<Name extends string>({ name, command, args, socketPath, uri }: ServerCommand<Name>): Promise<RunningServer<Name>> {
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    await new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject));
    if (child.pid === undefined) throw new Error(`${command} has no process id`);
    const server = new RunningServer(name, child, child.pid, uri);
    try {
      await server.#ready(socketPath);
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  async #ready(socketPath: string): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!(await greets(socketPath))) {
      if (this.#ended) throw new Error(`${this.name} ended at its start (${await this.#exit}): ${this.#complaint}`);
      if (performance.now() > deadline) throw new Error(`${this.name} does not greet on ${socketPath}: ${this.#complaint}`);
      await delay(20);
    }
  }

  /** Keeps a server that is not measured from using the processor; it goes on with `resume`. */
  pause(): void {
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
  }

  async stop(): Promise<void> {
    this.resume();
    this.#child.kill('SIGTERM');
    const timeout = new AbortController();
    const late = delay(STOP_TIMEOUT_MS, 'late', { signal: timeout.signal, ref: false }).catch(() => 'in time');
    if ((await Promise.race([this.#exit, late])) === 'late') {
      process.stderr.write(`${this.name} (pid ${this.pid}) ignores SIGTERM: killed\n`);
      this.#child.kill('SIGKILL');
      await this.#exit;
    }
    timeout.abort();
  }
}

function uriOf({ pkiDirectory }: ServerOptions, socketPath: string): string {
  if (pkiDirectory === undefined) return `nbd+unix:///${EXPORT_NAME}?socket=${socketPath}`;
  return `nbds+unix:///${EXPORT_NAME}?socket=${socketPath}&tls-verify-peer=false`;
}

async function commandOf(options: ServerOptions, socketPath: string): Promise<[string, string[]]> {
  const tls = options.pkiDirectory === undefined ? [] : ['--tls=require', `--tls-certificates=${options.pkiDirectory}`];
  const nbdkit = ['--foreground', '--exit-with-parent', '--unix', socketPath, ...tls];
  switch (options.name) {
    case 'basalt':
      return basaltCommand(options, socketPath);
    case 'memory':
      return ['nbdkit', [...nbdkit, 'memory', String(options.sizeBytes)]];
    case 'file':
      return ['nbdkit', [...nbdkit, 'file', await sparseFile(options)]];
    case 'qemu':
      return ['qemu-nbd', ['--persistent', '--shared=8', '--format=raw', `--export-name=${EXPORT_NAME}`, `--socket=${socketPath}`, await sparseFile(options)]];
    default:
      return unreachable(options.name);
  }
}

async function basaltCommand(options: ServerOptions, socketPath: string): Promise<[string, string[]]> {
  const data = join(options.directory, 'data');
  await mkdir(data, { recursive: true });
  // A new volume's log takes its size from the settings.
  const consent = options.mode === 'async' ? ['--accept-data-loss'] : [];
  const create = ['create', EXPORT_NAME, String(options.sizeBytes), '--durability', options.mode, ...consent, '--data', data, ...(options.createFlags ?? []), ...(options.serveOptions ?? [])];
  if (options.isNew !== false) await execute(process.execPath, [options.basaltEntry, ...create]);
  const tls = options.pkiDirectory === undefined ? [] : ['--set', 'server.tls=forced', '--set', `server.tls_certificates=${options.pkiDirectory}`];
  const serve = ['serve', '--data', data, '--socket', socketPath, '--log-level', 'warn', ...tls, ...(options.serveOptions ?? [])];
  return [process.execPath, [...(options.nodeOptions ?? []), options.basaltEntry, ...serve]];
}

async function sparseFile(options: ServerOptions): Promise<string> {
  const path = join(options.directory, 'disk.raw');
  const file = await open(path, 'w');
  await file.truncate(options.sizeBytes);
  await file.close();
  return path;
}

/** Whether an NBD greeting arrives on the socket: a listening socket alone may belong to a server that still starts. */
function greets(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    const settle = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(1000, () => settle(false));
    socket.once('data', (bytes) => settle(bytes.toString('latin1').startsWith('NBDMAGIC')));
    socket.once('error', () => settle(false));
    socket.once('end', () => settle(false));
  });
}
