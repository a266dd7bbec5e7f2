/** The real server as a child process that can be killed at any moment. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Durability } from '../../src/base/durability.ts';
import { loadSettings } from '../../src/config/load-settings.ts';
import { createVolume as createInProcess } from '../../src/index.ts';
import { within } from './running-time.ts';

export interface ServerCommand {
  /** The compiled command line, `dist/cli/basalt.cjs`. */
  readonly entry: string;
  readonly dataDirectory: string;
  readonly socketPath: string;
  /** `key=value` settings of the server. */
  readonly settings: readonly string[];
  /** A command that the server is run by, such as strace; it must become the server's process (`strace -D`). */
  readonly wrapper?: readonly string[];
}

function commandLine({ wrapper = [], entry }: ServerCommand, args: readonly string[]): [string, string[]] {
  const [program, ...words] = [...wrapper, process.execPath, entry, ...args];
  return [program, words];
}

interface NewVolume {
  readonly name: string;
  readonly mode: Durability;
  readonly sizeBytes: number;
}

/** Creates a volume in this process, which is quicker than starting one. */
export async function createVolume({ dataDirectory, settings }: ServerCommand, { name, mode, sizeBytes }: NewVolume): Promise<void> {
  const flags = settings.map((setting) => {
    const [key, value = ''] = setting.split('=');
    return { flag: '--set', key, value };
  });
  await createInProcess(join(dataDirectory, name), { size: sizeBytes, durability: mode, settings: loadSettings({ flags }).settings.engine });
}

/** Creates a volume with the command line. Rejects with what it says. */
export async function createVolumeByCommand(command: ServerCommand, { name, mode, sizeBytes }: NewVolume): Promise<void> {
  const settings = command.settings.flatMap((setting) => ['--set', setting]);
  const consent = mode === 'async' ? ['--accept-data-loss'] : [];
  const args = ['create', name, String(sizeBytes), '--durability', mode, ...consent, '--data', command.dataDirectory, ...settings];
  await promisify(execFile)(...commandLine(command, args));
}

/** A server that is not ready after so long hangs, however busy the machine is. */
const READY_TIMEOUT_MS = 60_000;
const OUTPUT_KEPT = 20_000;

/** How a process ended: its exit code, or the signal's name. */
export type ExitReason = number | string;

export class ServerProcess {
  readonly #child: ChildProcess;
  /** Resolves when the process is gone. */
  readonly exit: Promise<ExitReason>;
  #ended = false;
  #output = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.exit = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#ended = true;
        resolve(signal ?? code ?? 'unknown');
      });
    });
  }

  /** Starts the server and returns at once; `ready` waits for its listener. */
  static spawn(command: ServerCommand, flags: readonly string[] = []): ServerProcess {
    if (!existsSync(command.entry)) throw new Error(`${command.entry} is not there: run \`make build\` first`);
    const settings = command.settings.flatMap((setting) => ['--set', setting]);
    const args = ['serve', '--data', command.dataDirectory, '--socket', command.socketPath, '--log-level', 'info', ...flags, ...settings];
    const child = spawn(...commandLine(command, args), { stdio: ['ignore', 'pipe', 'pipe'] });
    const server = new ServerProcess(child);
    const keep = (text: string): void => {
      server.#output = (server.#output + text).slice(-OUTPUT_KEPT);
    };
    child.stdout.setEncoding('utf8').on('data', keep);
    child.stderr.setEncoding('utf8').on('data', keep);
    return server;
  }

  /** The end of what the server printed and logged. */
  get output(): string {
    return this.#output;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Resolves when the server has said on which socket it listens. Rejects when it ends first. */
  async ready(socketPath: string): Promise<void> {
    const said = new Promise<void>((resolve, reject) => {
      const look = (): void => {
        if (this.#output.includes(socketPath)) resolve();
      };
      this.#child.stdout?.on('data', look);
      void this.exit.then((how) => reject(new Error(`the server ended with ${how} before it was ready; it said: ${this.#output}`)));
      look();
    });
    await within(READY_TIMEOUT_MS, 'the line that the server is ready', said);
  }

  /** kill -9, and waits until the process is gone. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exit;
  }

  /** Asks the server to stop in order; does not wait. */
  terminate(): void {
    this.#child.kill('SIGTERM');
  }
}
