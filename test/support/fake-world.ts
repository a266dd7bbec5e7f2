/** Hand-driven stand-ins for parts of the Env: a clock that moves when it is told to, a file whose calls end when they are told to. */
import { type Deferred, deferred } from '../../src/base/async.ts';
import type { Clock, File, LogFields, Logger, LogLevel, Mapping, Timer, Workers } from '../../src/env/env.ts';
import { realEngine } from '../sim/real-engine.ts';

export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: made by the test`), { code });
}

interface PendingTimer {
  readonly dueMs: number;
  readonly callback: () => void;
}

export class ManualClock implements Clock {
  #nowMs = 0;
  #timers: PendingTimer[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return 1_790_000_000_000 + this.#nowMs;
  }

  get pendingTimers(): number {
    return this.#timers.length;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const timer = { dueMs: this.#nowMs + delayMs, callback };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.setTimer(delayMs, resolve);
    });
  }

  yield(): Promise<void> {
    return Promise.resolve();
  }

  /** Lets time pass without running timers: what a slow call costs. */
  spend(durationMs: number): void {
    this.#nowMs += durationMs;
  }

  /** Lets time pass; timers that are due run in their order. */
  advance(durationMs: number): void {
    const endMs = this.#nowMs + durationMs;
    for (;;) {
      const due = this.#timers.filter((timer) => timer.dueMs <= endMs).toSorted((a, b) => a.dueMs - b.dueMs)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.#nowMs = Math.max(this.#nowMs, due.dueMs);
      due.callback();
    }
    this.#nowMs = endMs;
  }
}

/** Lets every microtask that is queued now, and those they queue, run. */
export async function settleMicrotasks(): Promise<void> {
  for (let i = 0; i < 50; i += 1) await Promise.resolve();
}

export interface HeldCall {
  readonly kind: 'write' | 'sync';
  readonly end: Deferred<void>;
}

/** A file in memory. While `hold` is set, its promised writes and syncs end only when the test lets them. */
export class FakeFile implements File {
  readonly calls: string[] = [];
  readonly held: HeldCall[] = [];
  hold = false;
  /** Thrown by the next calls of the kind, until it is null again. */
  writeError: Error | null = null;
  syncError: Error | null = null;
  /** Run within each in-turn call: to let time pass. */
  during: () => void = () => undefined;
  #bytes = Buffer.alloc(0);
  #synced = Buffer.alloc(0);

  get bytes(): Buffer {
    return this.#bytes;
  }

  /** Content as of the last sync that ended. */
  get synced(): Buffer {
    return this.#synced;
  }

  get writes(): number {
    return this.calls.filter((call) => call.startsWith('write')).length;
  }

  get syncs(): number {
    return this.calls.filter((call) => call.startsWith('sync')).length;
  }

  replace(bytes: Uint8Array): void {
    this.#bytes = Buffer.from(bytes);
  }

  /** What a write does to the page cache, without being a call. */
  put(parts: readonly Uint8Array[], offsetBytes: number): void {
    const bytes = Buffer.concat(parts);
    const length = Math.max(this.#bytes.length, offsetBytes + bytes.length);
    const grown = Buffer.alloc(length);
    this.#bytes.copy(grown);
    bytes.copy(grown, offsetBytes);
    this.#bytes = grown;
  }

  async #whenLet(kind: HeldCall['kind']): Promise<void> {
    if (!this.hold) return;
    const end = deferred<void>();
    this.held.push({ kind, end });
    await end.promise;
  }

  /** What a direct write does: to the medium, not only to the page cache. */
  putDurably(parts: readonly Uint8Array[], offsetBytes: number): void {
    this.put(parts, offsetBytes);
    this.#synced = Buffer.from(this.#bytes);
  }

  async write(parts: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    this.calls.push('write');
    await this.#whenLet('write');
    if (this.writeError !== null) throw this.writeError;
    this.put(parts, offsetBytes);
  }

  writeNow(parts: readonly Uint8Array[], offsetBytes: number): void {
    this.calls.push('write now');
    this.during();
    if (this.writeError !== null) throw this.writeError;
    this.put(parts, offsetBytes);
  }

  async read(target: Uint8Array, offsetBytes: number): Promise<number> {
    const length = Math.max(0, Math.min(target.length, this.#bytes.length - offsetBytes));
    target.set(this.#bytes.subarray(offsetBytes, offsetBytes + length));
    return Promise.resolve(length);
  }

  async sync(): Promise<void> {
    this.calls.push('sync');
    const covered = Buffer.from(this.#bytes);
    await this.#whenLet('sync');
    if (this.syncError !== null) throw this.syncError;
    this.#synced = covered;
  }

  syncNow(): void {
    this.calls.push('sync now');
    this.during();
    if (this.syncError !== null) throw this.syncError;
    this.#synced = Buffer.from(this.#bytes);
  }

  sizeBytes(): Promise<number> {
    return Promise.resolve(this.#bytes.length);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Lets the oldest held call end. */
  async release(): Promise<HeldCall['kind'] | null> {
    const call = this.held.shift();
    call?.end.resolve();
    await settleMicrotasks();
    return call?.kind ?? null;
  }
}

/** A mapping of a fake file. Behind the file's end it fails as the simulator's does, in no way that may be survived. */
export class FakeMapping implements Mapping {
  readonly #plain: FakeFile;
  copies = 0;
  isOpen = true;
  /** Thrown by the next copies, until it is null again. */
  error: Error | null = null;

  constructor(plain: FakeFile) {
    this.#plain = plain;
  }

  copyNow(parts: readonly Uint8Array[], offsetBytes: number): void {
    this.copies += 1;
    if (!this.isOpen || offsetBytes + Buffer.concat(parts).length > this.#plain.bytes.length) throw new Error('the process ends here');
    if (this.error !== null) throw this.error;
    this.#plain.put(parts, offsetBytes);
  }

  close(): Promise<void> {
    this.isOpen = false;
    return Promise.resolve();
  }
}

/** The direct descriptor of a fake file: its writes are durable when they end, and EINVAL if they are no whole pages. */
export class FakeDirectFile extends FakeFile {
  readonly #plain: FakeFile;
  /** Length of each write that ended. */
  readonly lengths: number[] = [];

  constructor(plain: FakeFile) {
    super();
    this.#plain = plain;
  }

  override async write(parts: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    this.#check(parts, offsetBytes);
    await super.write(parts, offsetBytes);
    this.#plain.putDurably(parts, offsetBytes);
  }

  override writeNow(parts: readonly Uint8Array[], offsetBytes: number): void {
    this.#check(parts, offsetBytes);
    super.writeNow(parts, offsetBytes);
    this.#plain.putDurably(parts, offsetBytes);
  }

  #check(parts: readonly Uint8Array[], offsetBytes: number): void {
    const [{ length, byteOffset }] = parts;
    if (parts.length !== 1 || [length, byteOffset, offsetBytes].some((number) => number % 4096 !== 0)) throw systemError('EINVAL');
    this.lengths.push(length);
  }
}

/** The tasks of the worker threads, in this one. A job is cloned first, as it is on its way to a thread. */
export const inlineWorkers: Workers = {
  async run(task: string, job: unknown): Promise<unknown> {
    const run = realEngine.tasks.get(task);
    if (run === undefined) throw new Error(`no worker task is called ${task}`);
    const copy: unknown = structuredClone(job);
    return Promise.resolve(run(copy));
  },
  close: () => Promise.resolve(),
};

export class MemoryLogger implements Logger {
  readonly lines: { readonly level: LogLevel; readonly event: string; readonly fields: LogFields }[] = [];

  log(level: LogLevel, event: string, fields: LogFields = {}): void {
    this.lines.push({ level, event, fields });
  }

  events(): string[] {
    return this.lines.map((line) => line.event);
  }
}
