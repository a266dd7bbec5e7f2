/** A host: a data directory, the real server in it, and the command line for it. */
import { execFile } from 'node:child_process';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ControlClient } from '../../../src/control/control-client.ts';
import type { VolumeDetails } from '../../../src/control/routes.ts';
import { NbdClient } from '../../support/nbd-client.ts';
import { within } from '../../crash/running-time.ts';
import { type ExitReason, type ServerCommand, ServerProcess } from '../../crash/server-process.ts';

export interface HostOptions {
  /** Of this host alone; made if it is missing. */
  readonly directory: string;
  /** The compiled command line, `dist/cli/basalt.cjs`. */
  readonly entry: string;
  readonly endpoint: string;
  readonly credentialsFile: string;
  readonly settings: readonly string[];
}

/** What the command line said when it failed. */
export class CommandError extends Error {
  readonly code: string;

  constructor(args: readonly string[], code: string, message: string) {
    super(`basalt ${args.join(' ')}: ${message}`);
    this.name = 'CommandError';
    this.code = code;
  }
}

export const VOLUME = 'volume';
/** A command, or the end of a server, that takes longer hangs, however busy the machine is. */
const HANG_TIMEOUT_MS = 180_000;

export class BucketHost {
  readonly #options: HostOptions;
  readonly #command: ServerCommand;
  #server: ServerProcess | null = null;
  /** Nobody has asked the server to end. */
  #isWanted = false;

  constructor(options: HostOptions) {
    this.#options = options;
    const { directory, entry, settings } = options;
    this.#command = { entry, dataDirectory: join(directory, 'data'), socketPath: join(directory, 'nbd.sock'), settings };
  }

  get dataDirectory(): string {
    return this.#command.dataDirectory;
  }

  get uri(): string {
    return `nbd+unix:///${VOLUME}?socket=${this.#command.socketPath}`;
  }

  /** The end of what the server printed and logged. */
  get output(): string {
    return this.#server?.output ?? '';
  }

  get isServing(): boolean {
    return this.#isWanted && this.#server?.ended === false;
  }

  /** Runs a verb that works in the data directory; what it prints as JSON. Rejects with a `CommandError`. */
  async command(verb: string, ...args: readonly string[]): Promise<unknown> {
    const { entry, settings } = this.#options;
    const all = [verb, ...args, '--data', this.dataDirectory, '--json'];
    if (['create', 'open-remote', 'takeover', 'follow'].includes(verb)) all.push(...settings.flatMap((setting) => ['--set', setting]));
    await mkdir(this.dataDirectory, { recursive: true });
    try {
      const { stdout } = await promisify(execFile)(process.execPath, [entry, ...all], { timeout: HANG_TIMEOUT_MS });
      return JSON.parse(stdout);
    } catch (error) {
      throw commandError(all, error);
    }
  }

  async create(url: string, sizeBytes: number, ...flags: readonly string[]): Promise<void> {
    await this.command('create', VOLUME, String(sizeBytes), '--remote', url, ...this.#bucketFlags, ...flags);
  }

  async openRemote(url: string, ...flags: readonly string[]): Promise<void> {
    await this.command('open-remote', url, VOLUME, ...this.#bucketFlags, ...flags);
  }

  async follow(url: string, ...flags: readonly string[]): Promise<void> {
    await this.command('follow', url, VOLUME, ...this.#bucketFlags, ...flags);
  }

  get #bucketFlags(): readonly string[] {
    return ['--endpoint', this.#options.endpoint, '--credentials', this.#options.credentialsFile];
  }

  /** Takes the volume back. What was here of it goes. */
  async takeOver(...flags: readonly string[]): Promise<void> {
    await this.command('takeover', VOLUME, ...flags);
    for (const name of await readdir(this.dataDirectory)) if (name.startsWith(`${VOLUME}.before-`)) await rm(join(this.dataDirectory, name), { recursive: true });
  }

  /** Waits until the bucket has all of the volume; by the server's control socket, as `basalt drain` does. */
  async drain(): Promise<void> {
    await this.#control.drain(VOLUME, () => undefined);
  }

  /** What the server says of the volume, as `basalt show` prints it. */
  show(): Promise<VolumeDetails> {
    return this.#control.volume(VOLUME);
  }

  get #control(): ControlClient {
    return new ControlClient(this.dataDirectory);
  }

  /** Starts the server; resolves when it listens. */
  async serve(): Promise<void> {
    const server = ServerProcess.spawn(this.#command, ['--drain']);
    this.#server = server;
    this.#isWanted = true;
    await server.ready(this.#command.socketPath);
  }

  connect(): Promise<NbdClient> {
    return within(HANG_TIMEOUT_MS, 'the opening of the volume', NbdClient.open({ path: this.#command.socketPath }, VOLUME));
  }

  /** kill -9. */
  async kill(): Promise<void> {
    this.#isWanted = false;
    if (this.#server?.ended === false) await this.#server.kill();
  }

  /** SIGTERM, and how the server ended. */
  async stop(): Promise<ExitReason> {
    const server = this.#server;
    if (server === null) throw new Error('no server runs here');
    this.#isWanted = false;
    server.terminate();
    return within(HANG_TIMEOUT_MS, 'the end of the server after SIGTERM', server.exit);
  }

  /** Throws if the server has ended by itself. */
  assertAlive(): void {
    if (!this.isServing) throw new Error('the server ended by itself');
  }

  /** The host's disk is gone. */
  async loseDisk(): Promise<void> {
    await this.kill();
    await rm(this.dataDirectory, { recursive: true, force: true });
  }
}

function commandError(args: readonly string[], error: unknown): Error {
  const text = error instanceof Error && 'stderr' in error ? String(error.stderr) : '';
  for (const line of text.split('\n')) {
    if (!line.startsWith('{"error"')) continue;
    const parsed: unknown = JSON.parse(line);
    const { code, message } = errorOf(parsed);
    return new CommandError(args, code, message);
  }
  return new Error(`basalt ${args.join(' ')} failed: ${text === '' ? String(error) : text}`, { cause: error });
}

function errorOf(value: unknown): { readonly code: string; readonly message: string } {
  const inner = typeof value === 'object' && value !== null && 'error' in value ? value.error : null;
  if (typeof inner !== 'object' || inner === null || !('code' in inner) || !('message' in inner)) return { code: 'unknown', message: JSON.stringify(value) };
  return { code: String(inner.code), message: String(inner.message) };
}
