/**
 * Runs the real server under strace, and recovers its volume, with the real engine, from what a crash at any of its file operations
 * would have left: after a crash of the process all acknowledged requests must be there, after one of the machine all flushed
 * ones, and the whole volume must be as after some prefix of the requests (I1, I2).
 */
import { mkdir, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Arena } from '../../src/base/arena.ts';
import type { Durability } from '../../src/base/durability.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { MIB } from '../../src/base/units.ts';
import { workerEntry } from '../../src/chunk/worker-entry.ts';
import { buildSettings } from '../../src/config/settings.ts';
import { createNodeEnv } from '../../src/env/node-env.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { SeededRandom } from '../sim/random.ts';
import { CRASHES, type Crash, CrashStates, type IgnoredSyncs, differences, materialize } from './crash-states.ts';
import { TRACED_CALLS, type FileChange, type TracedLife, readTrace } from './file-trace.ts';
import { createVolumeByCommand, type ServerCommand, ServerProcess } from './server-process.ts';
import { settleLife } from './settle-life.ts';
import { TracedLoad } from './traced-load.ts';

export interface TracedRunOptions {
  /** On a real disk; must exist, and is left behind. */
  readonly directory: string;
  /** The compiled command line, `dist/cli/basalt.cjs`. */
  readonly entry: string;
  readonly mode: Durability;
  readonly seed: number;
  /** In each of the two lives of the server. */
  readonly requests: number;
}

/** What must be there after a crash at a place of the trace. */
interface Obligation {
  readonly at: number;
  readonly prefix: number;
  readonly process: boolean;
  readonly machine: boolean;
}

export interface CheckOptions {
  readonly count: number;
  readonly seed: number;
  readonly workDirectory: string;
  readonly ignored?: IgnoredSyncs;
}

export interface CrashStateResult {
  readonly point: number;
  readonly crash: Crash;
  /** Null: the volume was recovered as it must be. */
  readonly problem: string | null;
}

const VOLUME = 'traced';
const VOLUME_BYTES = 2 * MIB;
const DEPTH = 6;
/**
 * The seed chooses how a strict log is written: even ones a write and a sync, odd ones O_DIRECT and O_DSYNC. Never mmap: a copy into a mapping
 * is no system call, so the trace would lack it. (`checkTrace` would say so.) The simulator has mapped logs, and the real server is killed with one.
 */
const TRACEABLE_LOG_IO = ['buffered', 'direct'] as const;
/** Small limits: the load goes round the log, makes chunks and checkpoints, and removes old ones. */
const SETTINGS: readonly string[] = [
  'engine.arena_bytes=64M',
  'engine.dirty_bytes=16M',
  'engine.flush_bytes=4M',
  'engine.flush_interval_ms=100',
  'engine.log_file_bytes=16M',
  'engine.log_file_count=3',
  'engine.batch_ms=50',
  'engine.async_interval_ms=50',
  'engine.checkpoint_chunks=2',
  'engine.checkpoint_interval_ms=300',
];
const RECOVERY_SETTINGS = { ...buildSettings().engine, arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB, flushBytes: 4 * MIB };

/** A traced run, ready to be crashed. */
export class TracedRun {
  readonly changes: readonly FileChange[];
  readonly mode: Durability;
  readonly #load: TracedLoad;
  readonly #obligations: readonly Obligation[];
  readonly #createdAt: number;

  private constructor(options: TracedRunOptions, load: TracedLoad, lives: readonly TracedLife[]) {
    this.mode = options.mode;
    this.#load = load;
    this.changes = lives.flatMap((life) => life.changes);
    this.#createdAt = lives[0].end.at;
    this.#obligations = obligationsOf(load, lives);
  }

  /** Creates a volume, loads it, kills the server (mode async: stops it), starts it anew, loads the volume again and stops the server. */
  static async record(options: TracedRunOptions): Promise<TracedRun> {
    const { directory, entry, mode, seed, requests } = options;
    const dataDirectory = join(directory, 'data');
    await mkdir(dataDirectory);
    const load = new TracedLoad({ mode, random: new SeededRandom(seed), sizeBytes: VOLUME_BYTES });
    const socketPath = join(directory, 'nbd.sock');
    const lives: TracedLife[] = [];
    const logIo = TRACEABLE_LOG_IO[seed % TRACEABLE_LOG_IO.length];
    const chunkCompress = Math.floor(seed / TRACEABLE_LOG_IO.length) % 2 === 0 ? 'lz4' : 'off';
    const trace = async (name: string, run: (command: ServerCommand) => Promise<void>): Promise<void> => {
      const file = join(directory, `${name}.strace`);
      await run({ entry, dataDirectory, socketPath, settings: [...SETTINGS, `engine.log_io=${logIo}`, `engine.chunk_compress=${chunkCompress}`], wrapper: straceCommand(file) });
      await whole(file);
      lives.push(await settleLife(await readTrace(file, dataDirectory, lives.at(-1)?.end.at ?? 0), dataDirectory));
      await checkFiles(lives, dataDirectory);
      await rm(file);
    };
    const serve = (kill: boolean) => async (command: ServerCommand): Promise<void> => {
      const server = ServerProcess.spawn(command);
      try {
        await server.ready(socketPath);
        await load.run({ socketPath, name: VOLUME, requests, depth: DEPTH });
        if (kill) return;
        server.terminate();
        const how = await server.exit;
        if (how !== 0) throw new Error(`the traced server ended with ${how} after SIGTERM: ${server.output}`);
      } finally {
        await server.kill();
      }
    };
    await trace('create', (command) => createVolumeByCommand(command, { name: VOLUME, mode, sizeBytes: VOLUME_BYTES }));
    await trace('first', serve(mode !== 'async')); // what async has not written yet is no prefix that is known
    await trace('second', serve(false));
    const run = new TracedRun(options, load, lives);
    run.#checkReplies(lives);
    return run;
  }

  /** The trace must have everything: all replies, and (`checkFiles`) every byte of the files. */
  #checkReplies(lives: readonly TracedLife[]): void {
    const replies = lives.reduce((sum, life) => sum + life.replies.length, 0);
    if (replies !== this.#load.promises.size) throw new Error(`the trace has ${replies} replies, the client had ${this.#load.promises.size}`);
  }

  /** Recovers from `count` crash states, spread over the whole trace; `workDirectory` is emptied after each that is well. */
  async *check({ count, seed, workDirectory, ignored = 'none' }: CheckOptions): AsyncGenerator<CrashStateResult> {
    const recoverer = new Recoverer();
    try {
      yield* this.#check(recoverer, { count, seed, workDirectory, ignored });
    } finally {
      await recoverer.close();
    }
  }

  async *#check(recoverer: Recoverer, { count, seed, workDirectory, ignored }: Required<CheckOptions>): AsyncGenerator<CrashStateResult> {
    const states = new CrashStates(this.changes, ignored);
    for (let index = 0; index < count; index += 1) {
      const random = new SeededRandom(seed).derive(`${this.mode} ${index}`);
      const point = Math.floor(((index + random.unit()) * states.points) / count);
      const crash = CRASHES[index % CRASHES.length];
      const disk = states.after(point, crash, random);
      await mkdir(workDirectory, { recursive: true });
      await materialize(disk, '/', workDirectory);
      const problem = await this.#recover(recoverer, workDirectory, states.placeOf(point), crash, random.chance(0.1));
      if (problem === null) await rm(workDirectory, { recursive: true });
      yield { point, crash, problem };
    }
  }

  async #recover(recoverer: Recoverer, directory: string, place: number, crash: Crash, twice: boolean): Promise<string | null> {
    const owed = this.#obligations.filter(({ at, process, machine }) => at <= place && (crash === 'process' ? process : machine));
    const atLeast = Math.max(0, ...owed.map(({ prefix }) => prefix));
    const path = join(directory, VOLUME);
    let image: Uint8Array;
    try {
      image = await recoverer.readVolume(path);
    } catch (error) {
      if (!(error instanceof VolumeError)) throw error;
      if (error.code === 'not-found' && place < this.#createdAt) return null;
      return `the volume cannot be opened: ${error.code}: ${error.message}`;
    }
    const problem = this.#load.history.problemOf(image, atLeast);
    if (problem !== null || !twice) return problem;
    return Buffer.compare(image, await recoverer.readVolume(path)) === 0 ? null : 'the volume is another one when it is opened a second time';
  }
}

/** The machine that recovers, with one set of threads and one memory for all crash states. */
class Recoverer {
  readonly #env = createNodeEnv({ logger: { log: () => undefined }, workerEntry: workerEntry(), workerThreads: 2 });
  readonly #arena = new Arena({ arenaBytes: RECOVERY_SETTINGS.arenaBytes, dirtyBytes: RECOVERY_SETTINGS.dirtyBytes });

  /** Opens, reads all and closes: also what closing does must do no harm. */
  async readVolume(directory: string): Promise<Uint8Array> {
    let volume: Volume | null = null;
    try {
      volume = await openVolume({ env: this.#env, directory, settings: RECOVERY_SETTINGS, arena: this.#arena });
      const content = new Uint8Array(volume.sizeBytes);
      await volume.read(0, content);
      return content;
    } finally {
      await volume?.close();
    }
  }

  async close(): Promise<void> {
    await this.#env.workers.close();
  }
}

function obligationsOf(load: TracedLoad, lives: readonly TracedLife[]): Obligation[] {
  const obligations: Obligation[] = [];
  let answered = 0;
  for (const { replies, end } of lives) {
    for (const { request, at } of replies) {
      const promised = load.promises.get(request);
      if (promised === undefined) throw new Error(`a reply to request ${request}, which was not sent`);
      obligations.push({ ...promised, at });
      answered = Math.max(answered, promised.prefix);
    }
    // A volume that was closed has all that was answered, in every mode.
    if (end.how === 'exited with 0') obligations.push({ at: end.at, prefix: answered, process: true, machine: true });
  }
  return obligations;
}

/** After each life: what the model has wrong of a killed one must not first be seen in the next one, or hidden by it. */
async function checkFiles(lives: readonly TracedLife[], dataDirectory: string): Promise<void> {
  const disk = new CrashStates(lives.flatMap(({ changes }) => changes), 'none').atTheEnd();
  const found = await differences(disk, '/', dataDirectory);
  if (found.length > 0) throw new Error(`the files after life ${lives.length} are not what the trace says: ${found.join('; ')}`);
}

/** strace beside the server, not above it: a signal to the child is one to the server. */
function straceCommand(file: string): string[] {
  return ['strace', '-D', '-f', '--seccomp-bpf', '-q', '-xx', '-y', '-s', String(64 * MIB), '-E', 'UV_USE_IO_URING=0', '-e', `trace=${TRACED_CALLS}`, '-o', file];
}

const TRACE_TIMEOUT_MS = 30_000;

/** Waits until strace has written the last line: the end of the process. */
async function whole(file: string): Promise<void> {
  const deadline = performance.now() + TRACE_TIMEOUT_MS;
  let mainThread = Number.NaN;
  for (;;) {
    if (Number.isNaN(mainThread)) mainThread = Number.parseInt(await part(file, 0), 10); // the first line is its
    const lines = (await part(file, Math.max(0, (await stat(file)).size - 16_384))).split('\n');
    if (lines.some((line) => line.includes(' +++ ') && Number.parseInt(line, 10) === mainThread)) return;
    if (performance.now() > deadline) throw new Error(`${file} has no end after ${TRACE_TIMEOUT_MS} ms`);
    await delay(20);
  }
}

async function part(file: string, start: number): Promise<string> {
  const handle = await open(file);
  try {
    const bytes = Buffer.alloc(16_384);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, start);
    return bytes.subarray(0, bytesRead).toString('latin1');
  } finally {
    await handle.close();
  }
}
