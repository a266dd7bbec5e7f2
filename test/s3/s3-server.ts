/**
 * A real S3 server for tests (`run-server.sh`), on loopback. It ends with the test's process, however that ends. `S3_PORTS=24000-24040` keeps it to
 * some ports.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { openSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { CreateBucketCommand, ListBucketsCommand, S3Client } from '@aws-sdk/client-s3';
import { PROJECT_ROOT } from '../support/source-tree.ts';

export type ServerKind = 'ceph20' | 'ceph18' | 'swift';

const SCRIPT = join(PROJECT_ROOT, 'test/s3/run-server.sh');
/** `run-server.sh` asks for this many ports in a row. */
const PORT_COUNT = 21;
const READY_TIMEOUT_MS = 90_000;
/** The first use of a server downloads and unpacks its packages, 200 MB. */
const UNPACK_TIMEOUT_MS = 900_000;

/**
 * Why this machine cannot run such a server (no network for its packages, no namespaces), or null. With CI=1 that is a failure: CI must not pass
 * by testing nothing.
 */
export async function serverObstacle(kind: ServerKind): Promise<string | null> {
  try {
    await promisify(execFile)(SCRIPT, [kind, '--unpack'], { timeout: UNPACK_TIMEOUT_MS });
    return null;
  } catch (error) {
    const why = error instanceof Error && 'stderr' in error ? `${error.message} ${String(error.stderr)}` : String(error);
    if (process.env.CI === '1' || process.env.BASALT_REQUIRE_INTEROP === '1') throw new Error(`no S3 server ${kind}, and CI asks for it: ${why}`, { cause: error });
    process.stderr.write(`\nSKIPPED: the tests against the S3 server ${kind} do not run here: ${why}\n`);
    return why.trim().split('\n').at(-1) ?? 'no server';
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer().once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** A port with free ones behind it, below those that the system gives out by itself. */
async function pickPort(): Promise<number> {
  const [first = 20_000, last = 31_999] = (process.env.S3_PORTS ?? '').split('-').filter(Boolean).map(Number);
  for (let tries = 0; tries < 200; tries += 1) {
    const port = first + Math.floor(Math.random() * (last - first - PORT_COUNT + 2));
    const free = await Promise.all(Array.from({ length: PORT_COUNT }, (_, index) => isFree(port + index)));
    if (free.every(Boolean)) return port;
  }
  throw new Error(`no ${PORT_COUNT} free ports in a row between ${first} and ${last}`);
}

function delay(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}

export class S3Server {
  readonly kind: ServerKind;
  readonly port: number;
  readonly #directory: string;
  #child: ChildProcess | null = null;

  private constructor(kind: ServerKind, port: number, directory: string) {
    this.kind = kind;
    this.port = port;
    this.#directory = directory;
  }

  /** Starts one with an empty store. */
  static async start(kind: ServerKind): Promise<S3Server> {
    const server = new S3Server(kind, await pickPort(), await mkdtemp(join(tmpdir(), 'basalt-s3-')));
    await server.run();
    return server;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get accessKeyId(): string {
    return this.kind === 'swift' ? 'test:tester' : 'testaccesskey';
  }

  readonly secretAccessKey = 'testsecretkey1234';

  /** Of Ceph: the key of a second user, whose buckets hold a mebibyte. */
  readonly guest = { accessKeyId: 'guestaccesskey', secretAccessKey: 'guestsecretkey1234' };

  /** Starts the server on what it has kept; resolves when it answers. */
  async run(): Promise<void> {
    const log = openSync(join(this.#directory, 'server.log'), 'a');
    const child = spawn(SCRIPT, [this.kind, join(this.#directory, 'data'), String(this.port), '--until-eof'], { detached: true, stdio: ['pipe', log, log] });
    this.#child = child;
    child.stdin?.on('error', () => undefined); // it ended before us
    const client = this.client();
    const endMs = Date.now() + READY_TIMEOUT_MS;
    try {
      for (;;) {
        // Not by making a bucket: after a kill -9 that waits 30 s for the watch of the gateway that is dead.
        const error = await client.send(new ListBucketsCommand({})).then(() => null, (cause: unknown) => cause);
        if (error === null) return;
        if (child.exitCode !== null || Date.now() > endMs) {
          await this.kill();
          throw new Error(`the S3 server ${this.kind} did not start: ${await this.#log()}`, { cause: error });
        }
        await delay(50);
      }
    } finally {
      client.destroy();
    }
  }

  #log(): Promise<string> {
    return readFile(join(this.#directory, 'server.log'), 'utf8');
  }

  client(accessKeyId = this.accessKeyId, secretAccessKey = this.secretAccessKey): S3Client {
    const { endpoint } = this;
    return new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, maxAttempts: 1, credentials: { accessKeyId, secretAccessKey } });
  }

  async createBucket(name: string, client = this.client()): Promise<void> {
    await client.send(new CreateBucketCommand({ Bucket: name }));
    client.destroy();
  }

  /** SIGTERM: the server closes what it keeps. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** kill -9 of all its processes. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === null || child.pid === undefined) return;
    this.#child = null;
    const ended = new Promise<void>((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null) resolve();
      else child.once('exit', () => resolve());
    });
    try {
      process.kill(signal === 'SIGKILL' ? -child.pid : child.pid, signal);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
    }
    await ended;
    for (let tries = 0; tries < 250 && !(await isFree(this.port)); tries += 1) await delay(20);
  }

  /** Ends the server and removes all it kept. */
  async dispose(): Promise<void> {
    await this.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }
}
