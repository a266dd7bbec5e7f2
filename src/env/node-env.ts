/** The real world behind env.ts: Node's clock, files, random source, a piscina thread pool and a JSON-lines logger. */
import { randomFillSync } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import type { Clock, Env, LogFields, Logger, LogLevel, Random, Timer, Workers } from './env.ts';
import { NodeFileSystem } from './node-files.ts';
import { NodeMemory } from './node-memory.ts';

export class NodeClock implements Clock {
  nowMs(): number {
    return performance.now();
  }

  wallMs(): number {
    return Date.now();
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, delayMs));
  }

  yield(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }
}

class NodeRandom implements Random {
  fill(target: Uint8Array): void {
    randomFillSync(target);
  }
}

/** Threads that load `entry`: a module that exports one function a task. The pool starts with its first task. */
export class PoolWorkers implements Workers {
  readonly #entry: URL;
  readonly #threads: number;
  #pool: Piscina | null = null;

  constructor(entry: URL, threads: number) {
    this.#entry = entry;
    this.#threads = threads;
  }

  async run(task: string, job: unknown): Promise<unknown> {
    this.#pool ??= new Piscina({
      filename: fileURLToPath(this.#entry),
      minThreads: 1,
      maxThreads: this.#threads,
      // An idle thread leaves after a while, so that a server at rest is small.
      idleTimeout: 30_000,
      resourceLimits: { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8 },
    });
    const result: unknown = await this.#pool.run(job, { name: task });
    return result;
  }

  async close(): Promise<void> {
    await this.#pool?.close();
    this.#pool = null;
  }
}

const LEVELS: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

/** A logger that writes one JSON object a line, from `level` up. */
export function createJsonLogger(level: LogLevel, write: (line: string) => void): Logger {
  return {
    log(eventLevel: LogLevel, event: string, fields?: LogFields): void {
      if (LEVELS[eventLevel] < LEVELS[level]) return;
      const entry: Record<string, unknown> = { time: new Date().toISOString(), level: eventLevel, event };
      for (const [key, value] of Object.entries(fields ?? {})) entry[key] = value instanceof Error ? describeError(value) : value;
      write(`${JSON.stringify(entry)}\n`);
    },
  };
}

function describeError(error: Error): Record<string, unknown> {
  const described: Record<string, unknown> = { message: error.message };
  if ('code' in error) described.code = error.code;
  if (error.cause instanceof Error) described.cause = describeError(error.cause);
  return described;
}

/** An Env on this machine. `workerEntry` is the module of the chunk worker (built, in `dist`). */
export function createNodeEnv(options: { readonly logger: Logger; readonly workerEntry: URL; readonly workerThreads: number }): Env {
  return {
    clock: new NodeClock(),
    files: new NodeFileSystem(),
    random: new NodeRandom(),
    workers: new PoolWorkers(options.workerEntry, options.workerThreads),
    memory: new NodeMemory(),
    logger: options.logger,
  };
}
