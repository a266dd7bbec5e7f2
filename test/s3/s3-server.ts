/**
 * A real S3 server for tests (`run-server.sh`), on loopback. It ends with the test's process, however that ends. `S3_PORTS=20000-31999` keeps it
 * to some ports, 16 a server.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { openSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path, { join } from 'node:path';
import { promisify } from 'node:util';
import { CreateBucketCommand, ListBucketsCommand, S3Client } from '@aws-sdk/client-s3';

export type ServerKind = 'ceph20' | 'ceph18' | 'swift';

/** Tests and tools run in the project's directory. */
const SCRIPT = path.resolve('test/s3/run-server.sh');
/** `run-server.sh` asks for this many ports in a row. */
const PORT_COUNT = 16;
/** How long to wait for other test files to give their ports back, where there are few. */
const PORTS_TIMEOUT_MS = 300_000;
const READY_TIMEOUT_MS = 240_000;
/** For hooks and tests that start one: 3 s on an idle machine, minutes where it gets no processor. */
export const START_TIMEOUT_MS = 600_000;
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

/** Ports that are ours while the reservation is held: it ends with this process. */
interface Ports {
  readonly first: number;
  readonly reservation: Server;
}

/** Other test files look for ports at the same time, and a server takes its own one after another: so an abstract socket is the lock on them. */
function reserve(first: number): Promise<Server | null> {
  return new Promise((resolve) => {
    const server = createServer().once('error', () => resolve(null));
    server.listen(`\0basalt-test-s3-${first}`, () => resolve(server));
  });
}

/** Ports in a row, below those that the system gives out by itself. */
async function takePorts(): Promise<Ports> {
  const [low = 20_000, high = 31_999] = (process.env.S3_PORTS ?? '').split('-').filter(Boolean).map(Number);
  const slots = Math.floor((high - low + 1) / PORT_COUNT);
  const endMs = Date.now() + PORTS_TIMEOUT_MS;
  for (let tries = Math.floor(Math.random() * slots); Date.now() < endMs; tries += 1) {
    const first = low + (tries % slots) * PORT_COUNT;
    const reservation = await reserve(first);
    if (reservation !== null) {
      const free = await Promise.all(Array.from({ length: PORT_COUNT }, (_, index) => isFree(first + index)));
      if (free.every(Boolean)) return { first, reservation };
      reservation.close();
    }
    await delay(50);
  }
  throw new Error(`no ${PORT_COUNT} free ports in a row between ${low} and ${high}`);
}

function delay(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}

export class S3Server {
  readonly kind: ServerKind;
  readonly port: number;
  readonly #directory: string;
  readonly #reservation: Server;
  #child: ChildProcess | null = null;

  private constructor(kind: ServerKind, { first, reservation }: Ports, directory: string) {
    this.kind = kind;
    this.port = first;
    this.#reservation = reservation;
    this.#directory = directory;
  }

  /** Starts one with an empty store. */
  static async start(kind: ServerKind): Promise<S3Server> {
    const server = new S3Server(kind, await takePorts(), await mkdtemp(join(tmpdir(), 'basalt-s3-')));
    try {
      await server.run();
    } catch (error) {
      await server.dispose();
      throw error;
    }
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
    this.#reservation.close();
    await rm(this.#directory, { recursive: true, force: true });
  }
}
