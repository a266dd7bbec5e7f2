/** The Env of one simulated process: virtual clock, simulated files, seeded chance, tasks that run late in the same thread. */
import type { Clock, Env, FileSystem, LogFields, Logger, LogLevel, Memory, Random, Timer, Workers } from '../../src/env/env.ts';
import type { SimDisk } from './disk.ts';
import type { FaultPolicy } from './faults.ts';
import { SimFileSystem, type SimLocks } from './file-system.ts';
import { SimMemory } from './memory.ts';
import type { SimProcess } from './process.ts';
import type { SeededRandom } from './random.ts';
import { drawCallMs, type IoProfile } from './timing.ts';

const WALL_START_MS = Date.UTC(2030, 0, 1);

export class SimClock implements Clock {
  readonly #process: SimProcess;
  /** Differs from process to process, and jumps within one, to before 1970, too: nothing may depend on it. */
  #wallOffsetMs: number;
  readonly #wallRandom: SeededRandom;

  constructor(process: SimProcess) {
    this.#process = process;
    this.#wallOffsetMs = WALL_START_MS + process.random.between(-1e9, 1e9);
    this.#wallRandom = process.random.derive('wall clock');
  }

  nowMs(): number {
    return this.#process.scheduler.nowMs;
  }

  wallMs(): number {
    if (this.#wallRandom.chance(0.1)) this.#wallOffsetMs = WALL_START_MS + this.#wallRandom.between(-1e13, 1e12);
    return Math.floor(this.#wallOffsetMs + this.#process.scheduler.nowMs);
  }

  /** Timers are never early and at times late. */
  setTimer(delayMs: number, callback: () => void): Timer {
    const { random, trace, name } = this.#process;
    const lateMs = random.chance(0.3) ? random.unit() * 2 : 0;
    return this.#process.after(delayMs + lateMs, () => {
      trace.event('timer', name, delayMs);
      callback();
    });
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.setTimer(delayMs, resolve);
    });
  }

  yield(): Promise<void> {
    return this.#process.sleep(this.#process.random.unit() * 0.05);
  }
}

/** A named pure function of a worker thread. */
export type WorkerTask = (job: unknown) => unknown;

export class SimWorkers implements Workers {
  readonly #process: SimProcess;
  readonly #profile: IoProfile;
  readonly #tasks: ReadonlyMap<string, WorkerTask>;
  #closed = false;

  constructor(process: SimProcess, profile: IoProfile, tasks: ReadonlyMap<string, WorkerTask>) {
    this.#process = process;
    this.#profile = profile;
    this.#tasks = tasks;
  }

  run(task: string, job: unknown): Promise<unknown> {
    const run = this.#tasks.get(task);
    if (run === undefined) return Promise.reject(new Error(`no worker task is called ${task}`));
    if (this.#closed) return Promise.reject(new Error('the workers are closed'));
    return new Promise((resolve, reject) => {
      const copy: unknown = structuredClone(job); // what cannot be sent to a thread fails here; shared memory stays shared
      this.#process.trace.event('worker starts', task);
      this.#process.after(drawCallMs(this.#process.random, this.#profile, 'call'), () => {
        this.#process.trace.event('worker ends', task);
        Promise.resolve(copy).then(run).then(resolve, reject);
      });
    });
  }

  async close(): Promise<void> {
    await Promise.resolve();
    this.#closed = true;
  }
}

export interface LogLine {
  readonly timeMs: number;
  readonly level: LogLevel;
  readonly event: string;
  readonly fields: LogFields;
}

/** Keeps every line; a line is part of the history, too. */
export class SimLogger implements Logger {
  readonly lines: LogLine[] = [];
  readonly #process: SimProcess;

  constructor(process: SimProcess) {
    this.#process = process;
  }

  log(level: LogLevel, event: string, fields: LogFields = {}): void {
    if (!this.#process.alive) return;
    this.lines.push({ timeMs: this.#process.scheduler.nowMs, level, event, fields });
    this.#process.trace.event(`log ${level}`, `${event} ${describe(fields)}`);
  }
}

function describe(fields: LogFields): string {
  return JSON.stringify(fields, (_key, value: unknown) => (value instanceof Error ? `${value.name}: ${value.message}` : value));
}

export interface SimEnvOptions {
  readonly process: SimProcess;
  readonly disk: SimDisk;
  readonly locks: SimLocks;
  readonly profile: IoProfile;
  readonly faults: FaultPolicy;
  readonly tasks: ReadonlyMap<string, WorkerTask>;
}

export class SimEnv implements Env {
  readonly clock: Clock;
  readonly files: FileSystem;
  readonly random: Random;
  readonly workers: Workers;
  readonly memory: Memory;
  readonly logger: Logger;
  readonly process: SimProcess;
  readonly simFiles: SimFileSystem;
  readonly simLogger: SimLogger;

  constructor(options: SimEnvOptions) {
    const { process, profile, tasks } = options;
    this.process = process;
    this.clock = new SimClock(process);
    this.simFiles = new SimFileSystem(options);
    this.files = this.simFiles;
    this.random = process.random.derive('env random');
    this.workers = new SimWorkers(process, profile, tasks);
    this.memory = new SimMemory(process);
    this.simLogger = new SimLogger(process);
    this.logger = this.simLogger;
  }
}
