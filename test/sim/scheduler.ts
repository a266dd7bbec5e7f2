/**
 * Virtual time: events ordered by (time, order of scheduling). One event runs at a time, and all microtasks that it set
 * off end before the next one begins, so a run has exactly one history.
 */

/** A world that stops making progress, or never ends. */
export class StuckError extends Error {
  override readonly name = 'StuckError';
}

export interface ScheduledEvent {
  readonly timeMs: number;
  readonly sequence: number;
  /** Null once it ran or was cancelled. */
  action: (() => void) | null;
}

/** Events run in one turn of the real event loop. More than one, because each turn costs a system call. */
const EVENTS_PER_TURN = 32;

export interface SchedulerLimits {
  readonly maxEvents: number;
  readonly maxTimeMs: number;
}

const DEFAULT_LIMITS: SchedulerLimits = { maxEvents: 1_000_000, maxTimeMs: 24 * 3600 * 1000 };

export class Scheduler {
  readonly #heap: ScheduledEvent[] = [];
  readonly #limits: SchedulerLimits;
  readonly #onTime: (timeMs: number) => void;
  #nowMs = 0;
  #sequence = 0;
  #eventsRun = 0;

  /** `onTime` is told whenever the time moves. */
  constructor(onTime: (timeMs: number) => void = () => undefined, limits: SchedulerLimits = DEFAULT_LIMITS) {
    this.#onTime = onTime;
    this.#limits = limits;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  get eventsRun(): number {
    return this.#eventsRun;
  }

  /** Runs `action` once, `delayMs` from now. */
  after(delayMs: number, action: () => void): ScheduledEvent {
    this.#sequence += 1;
    const event: ScheduledEvent = { timeMs: this.#nowMs + Math.max(0, delayMs), sequence: this.#sequence, action };
    this.#push(event);
    return event;
  }

  /** Lets time pass within an event: what a call of the operating system costs that blocks its caller. */
  spend(durationMs: number): void {
    this.#setNow(this.#nowMs + durationMs);
  }

  /**
   * Starts `task` and runs events until it settles. Rejects with its failure, with what an event threw, or with
   * StuckError when there is nothing left to run or a limit is reached.
   */
  drive<T>(task: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      let ended = false;
      const fail = (error: unknown): void => {
        ended = true;
        reject(error instanceof Error ? error : new Error(String(error)));
      };
      const step = (): void => {
        if (ended) return;
        try {
          this.#runNext();
        } catch (error) {
          fail(error);
        }
      };
      const turn = (): void => {
        if (ended) return;
        for (let i = 0; i < EVENTS_PER_TURN; i += 1) setImmediate(step); // node ends all microtasks between two immediates
        setImmediate(turn);
      };
      const finish = async (): Promise<void> => {
        const value = await task();
        ended = true;
        resolve(value);
      };
      finish().catch(fail);
      setImmediate(turn);
    });
  }

  #runNext(): void {
    const event = this.#pop();
    if (event === undefined) throw new StuckError(`nothing is left to run at ${this.#nowMs.toFixed(3)} ms: somebody waits for ever`);
    if (event.action === null) return;
    if (event.timeMs > this.#nowMs) this.#setNow(event.timeMs);
    this.#eventsRun += 1;
    if (this.#eventsRun > this.#limits.maxEvents) throw new StuckError(`no end after ${this.#eventsRun - 1} events`);
    if (this.#nowMs > this.#limits.maxTimeMs) throw new StuckError(`no end after ${this.#limits.maxTimeMs} simulated ms`);
    const action = event.action;
    event.action = null;
    action();
  }

  #setNow(timeMs: number): void {
    this.#nowMs = timeMs;
    this.#onTime(timeMs);
  }

  #push(event: ScheduledEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): ScheduledEvent | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return last;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child += 1;
      if (!isBefore(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(left: ScheduledEvent, right: ScheduledEvent): boolean {
  return left.timeMs < right.timeMs || (left.timeMs === right.timeMs && left.sequence < right.sequence);
}
