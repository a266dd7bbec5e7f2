/**
 * Time during which this process ran. A machine may stand still for minutes (a stopped container, a suspended laptop, SIGSTOP), and with it
 * the server: that is no hang, and nobody writes a log meanwhile.
 */
import { deferred } from '../../src/base/async.ts';

const TICK_MS = 10;
/** A tick that came later than this found the process standing still. */
const TICK_MS_MAX = 5 * TICK_MS;

export class RunningClock {
  readonly #timer: NodeJS.Timeout;
  #ms = 0;
  #lastMs = performance.now();

  /** `onTick` is called every few milliseconds. */
  constructor(onTick?: () => void) {
    this.#timer = setInterval(() => {
      this.#tick();
      onTick?.();
    }, TICK_MS);
  }

  nowMs(): number {
    return this.#ms;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const nowMs = performance.now();
    this.#ms += Math.min(nowMs - this.#lastMs, TICK_MS_MAX);
    this.#lastMs = nowMs;
  }
}

/** Rejects when `promise` has not settled after `timeoutMs` of running. */
export async function within<T>(timeoutMs: number, what: string, promise: Promise<T>): Promise<T> {
  const tooLate = deferred<never>();
  const clock: RunningClock = new RunningClock(() => {
    if (clock.nowMs() > timeoutMs) tooLate.reject(new Error(`${what} did not come within ${timeoutMs} ms`));
  });
  try {
    return await Promise.race([promise, tooLate.promise]);
  } finally {
    clock.stop();
  }
}
