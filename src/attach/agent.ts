/**
 * The agent that stays with an attached device: it gives the kernel new connections when old ones die, tells of pauses, and brings the
 * device to the size that the export has.
 *
 * A request that was on a dead connection is sent again by the kernel, once its time is up (`--timeout`), on a new one. The server may still
 * have the old copy unread, if it was slow and not dead; it must not take it behind a newer write to the same place. So new connections
 * are held back until the server has nothing more to read of the dead ones. For TCP that can be told; for unix sockets it cannot.
 */
import { systemCode, VolumeError } from '../base/errors.ts';
import { deferred } from '../base/async.ts';
import type { Clock, LogFields, LogLevel } from '../env/env.ts';
import { NBD_FLAG_CAN_MULTI_CONN, NBD_FLAG_READ_ONLY } from '../protocol/constants.ts';
import { formatNbdUri, type NbdTarget } from '../protocol/uri.ts';
import { dialAll } from './attacher.ts';
import type { Dialler } from './dial.ts';
import type { NbdKernel } from './kernel.ts';

const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 1000;
/** How often it looks whether the device is still attached. */
const LOOK_MS = 1000;
const DRAIN_LOOK_MS = 20;
/** A server that has not read, or closed, a dead connection by then is not waited for: it may be another machine by now. */
const DRAIN_MS_MAX = 30_000;

export interface AgentOptions {
  readonly index: number;
  readonly target: NbdTarget;
  readonly backend: string | null;
  readonly connections: number;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly deadTimeoutSeconds: number;
  /** How often the server is asked for the size of the export. */
  readonly sizeCheckMs: number;
}

export interface AgentParts {
  readonly kernel: NbdKernel;
  readonly dialler: Dialler;
  readonly clock: Clock;
  /** What has become of a connection that the kernel has; null: nobody can tell. */
  readonly stateOf: (descriptor: number) => 'open' | 'closing' | 'closed' | null;
  readonly isAttached: () => Promise<boolean>;
  readonly log: (level: LogLevel, event: string, fields: LogFields) => void;
}

/** `stopped`: it was asked to. `detached`: somebody has detached the device. */
export type AgentEnd = 'stopped' | 'detached';

export class Agent {
  readonly #options: AgentOptions;
  readonly #parts: AgentParts;
  #sizeBytes: number;
  /** Copies of the descriptors that the kernel has, to see what becomes of them. */
  #watched: number[];
  #deadSinceMs: number | null = null;
  #isStopped = false;
  #failure: { readonly error: unknown } | null = null;
  #wake = deferred<void>();
  #sizeCheckedMs: number;
  #pauses = 0;
  #longestPauseMs = 0;

  /** `descriptors`: those of the connections that the kernel was given, if they are known; they are the agent's from now on. */
  constructor(options: AgentOptions, parts: AgentParts, descriptors: readonly number[]) {
    this.#options = options;
    this.#parts = parts;
    this.#sizeBytes = options.sizeBytes;
    this.#watched = [...descriptors];
    this.#sizeCheckedMs = parts.clock.nowMs();
  }

  /** Ends `run` soon. */
  stop(): void {
    this.#isStopped = true;
    this.#wake.resolve();
  }

  /** Stays until it is stopped or the device is detached. Rejects where the kernel cannot be heard any more. */
  async run(): Promise<AgentEnd> {
    const { kernel, clock } = this.#parts;
    const unsubscribe = await kernel.watch((index) => this.#onDead(index), (error) => this.#onFailed(error));
    try {
      // What died before anybody listened is found here: connections that are not needed are let go.
      if (this.#watched.length === 0 || this.#hasDead()) this.#onDead(this.#options.index);
      for (;;) {
        if (this.#failure !== null) throw this.#failure.error;
        if (this.#isStopped) return 'stopped';
        if (!(await this.#parts.isAttached())) return 'detached';
        if (this.#deadSinceMs === null) await this.#checkSize();
        else if (!(await this.#reconnect())) continue;
        if (this.#deadSinceMs === null) await this.#pause(clock, LOOK_MS);
      }
    } finally {
      unsubscribe();
      for (const descriptor of this.#watched) this.#parts.dialler.close(descriptor);
      this.#watched = [];
    }
  }

  get report(): { readonly pauses: number; readonly longestPauseMs: number } {
    return { pauses: this.#pauses, longestPauseMs: Math.round(this.#longestPauseMs) };
  }

  #onDead(index: number | null): void {
    if (index !== null && index !== this.#options.index) return;
    this.#deadSinceMs ??= this.#parts.clock.nowMs();
    this.#wake.resolve();
  }

  #onFailed(error: unknown): void {
    this.#failure = { error };
    this.#wake.resolve();
  }

  #hasDead(): boolean {
    return this.#watched.some((descriptor) => this.#parts.stateOf(descriptor) !== 'open');
  }

  async #pause(clock: Clock, delayMs: number): Promise<void> {
    const wake = this.#wake;
    const timer = deferred<void>();
    const pending = clock.setTimer(delayMs, () => timer.resolve());
    await Promise.race([wake.promise, timer.promise]);
    pending.cancel();
    this.#wake = deferred<void>();
  }

  /** False: it has to be tried again, or is not needed any more. */
  async #reconnect(): Promise<boolean> {
    const { clock, log } = this.#parts;
    const { target, deadTimeoutSeconds } = this.#options;
    const sinceMs = this.#deadSinceMs ?? clock.nowMs();
    let delayMs = RETRY_MS_MIN;
    let told = '';
    let isOverdue = false;
    while (!this.#isStopped && this.#failure === null && (await this.#parts.isAttached())) {
      this.#deadSinceMs = null; // what dies from here on is told anew
      const reason = await this.#replaceDead();
      if (reason === null) {
        this.#resumed(clock.nowMs() - sinceMs);
        return true;
      }
      this.#deadSinceMs = sinceMs;
      if (reason !== told) log('warn', 'connection-lost', { uri: formatNbdUri(target), reason });
      told = reason;
      if (!isOverdue && clock.nowMs() - sinceMs >= deadTimeoutSeconds * 1000) {
        isOverdue = true;
        log('error', 'requests-fail', { reason: `the server has been away for ${deadTimeoutSeconds} s: the kernel fails requests from now on, until it is back` });
      }
      await this.#pause(clock, delayMs);
      delayMs = Math.min(RETRY_MS_MAX, 2 * delayMs);
    }
    return false;
  }

  #resumed(pauseMs: number): void {
    this.#pauses += 1;
    this.#longestPauseMs = Math.max(this.#longestPauseMs, pauseMs);
    this.#parts.log('info', 'reconnected', { uri: formatNbdUri(this.#options.target), pauseMs: Math.round(pauseMs), longestPauseMs: Math.round(this.#longestPauseMs) });
  }

  /** Null: done; else why not. */
  async #replaceDead(): Promise<string | null> {
    const { kernel, dialler } = this.#parts;
    const { index, target, backend, connections } = this.#options;
    try {
      await this.#drain();
      // As many as are dead, where that is known: the kernel would take no more, and not say how many it took.
      const alive = this.#watched.filter((descriptor) => this.#parts.stateOf(descriptor) === 'open');
      const { descriptors, terms } = await dialAll(dialler, target, Math.max(1, connections - alive.length));
      try {
        this.#checkMode(terms.flags);
        await kernel.reconfigure({ index, backend, descriptors, sizeBytes: terms.sizeBytes });
      } catch (error) {
        for (const descriptor of descriptors) dialler.close(descriptor);
        throw error;
      }
      for (const descriptor of this.#watched) if (!alive.includes(descriptor)) dialler.close(descriptor);
      this.#watched = [...alive, ...descriptors];
      this.#sizeIs(terms.sizeBytes);
      return null;
    } catch (error) {
      return reasonOf(error);
    }
  }

  /** Waits until the server has nothing more to read of connections that are shut down. */
  async #drain(): Promise<void> {
    const { clock, stateOf, log } = this.#parts;
    const endMs = clock.nowMs() + DRAIN_MS_MAX;
    let isTold = false;
    while (!this.#isStopped && this.#watched.some((descriptor) => stateOf(descriptor) === 'closing')) {
      if (clock.nowMs() >= endMs) {
        log('warn', 'old-connection-left', { reason: `the server has not ended a dead connection within ${DRAIN_MS_MAX / 1000} s, and is not waited for any longer` });
        return;
      }
      if (!isTold && clock.nowMs() >= endMs - DRAIN_MS_MAX + RETRY_MS_MAX) {
        isTold = true;
        log('info', 'waiting-for-server', { reason: 'it has not read all that was sent on a dead connection' });
      }
      await clock.sleep(DRAIN_LOOK_MS);
    }
  }

  #checkMode(flags: number): void {
    const { readOnly, connections } = this.#options;
    if (connections > 1 && (flags & NBD_FLAG_CAN_MULTI_CONN) === 0) throw new VolumeError('unsupported', 'the server does not allow several connections to one export any more, and the device has several; attach it anew with --connections 1');
    if ((flags & NBD_FLAG_READ_ONLY) !== 0 && !readOnly) throw new VolumeError('read-only', 'the server gives the export for reading only now; basalt show says why. The device waits for it to be writable');
  }

  async #checkSize(): Promise<void> {
    const { clock, dialler, kernel, log } = this.#parts;
    const { sizeCheckMs, target, index, backend } = this.#options;
    if (clock.nowMs() - this.#sizeCheckedMs < sizeCheckMs) return;
    this.#sizeCheckedMs = clock.nowMs();
    try {
      const { sizeBytes } = await dialler.look(target);
      if (sizeBytes === this.#sizeBytes) return;
      await kernel.reconfigure({ index, backend, sizeBytes });
      this.#sizeIs(sizeBytes);
    } catch (error) {
      log('debug', 'size-not-known', { reason: reasonOf(error) }); // a server that is gone is told of by its connections
    }
  }

  #sizeIs(sizeBytes: number): void {
    if (sizeBytes === this.#sizeBytes) return;
    this.#parts.log(sizeBytes > this.#sizeBytes ? 'info' : 'warn', 'resized', { fromBytes: this.#sizeBytes, toBytes: sizeBytes });
    this.#sizeBytes = sizeBytes;
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof VolumeError || systemCode(error) !== undefined) return error instanceof Error ? error.message : String(error);
  throw error; // a mistake of ours
}
