/**
 * One simulated process: everything that it set off (timers, calls of the file system, tasks of workers) ends with it.
 * After its death none of its calls returns and none has an effect, so the code of a dead engine may finish its turn unharmed.
 */
import { deferred, type Deferred } from '../../src/base/async.ts';
import type { Timer } from '../../src/env/env.ts';
import type { SeededRandom } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

/** A call of the kernel that has begun and not ended. */
export interface InFlightCall {
  /** The process died: leave as much of the call done as chance wants. */
  abandon(random: SeededRandom): void;
}

export interface ProcessOptions {
  readonly name: string;
  readonly scheduler: Scheduler;
  readonly trace: Trace;
  readonly random: SeededRandom;
}

export class SimProcess {
  readonly name: string;
  readonly scheduler: Scheduler;
  readonly trace: Trace;
  readonly random: SeededRandom;
  readonly #inFlight = new Set<InFlightCall>();
  readonly #deathListeners: (() => void)[] = [];
  readonly #death: Deferred<void> = deferred<void>();
  #alive = true;

  constructor(options: ProcessOptions) {
    this.name = options.name;
    this.scheduler = options.scheduler;
    this.trace = options.trace;
    this.random = options.random;
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** Resolves when the process is dead. */
  get death(): Promise<void> {
    return this.#death.promise;
  }

  /** Calls `listener` within the turn in which the process dies, after its calls in flight were cut off. */
  onDeath(listener: () => void): void {
    this.#deathListeners.push(listener);
  }

  /** kill -9. Calls in flight end somewhere in their middle. */
  die(): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.trace.event('process dies', this.name, this.#inFlight.size);
    for (const call of this.#inFlight) call.abandon(this.random);
    this.#inFlight.clear();
    for (const listener of this.#deathListeners) listener();
    this.#death.resolve();
  }

  /** Runs `action` once after `delayMs`, unless the process is dead by then. */
  after(delayMs: number, action: () => void): Timer {
    const event = this.scheduler.after(delayMs, () => {
      if (this.#alive) action();
    });
    return {
      cancel: () => {
        event.action = null;
      },
    };
  }

  /** Resolves after `delayMs`; never, if the process dies before. */
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(delayMs, resolve);
    });
  }

  begin(call: InFlightCall): void {
    this.#inFlight.add(call);
  }

  end(call: InFlightCall): void {
    this.#inFlight.delete(call);
  }
}
