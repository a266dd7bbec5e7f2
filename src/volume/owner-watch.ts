/** Makes sure now and then, while there are writes, that nobody has taken the volume over; when there are none it asks nothing. */
import type { Clock, Timer } from '../env/env.ts';

export interface OwnerWatchOptions {
  readonly clock: Pick<Clock, 'nowMs' | 'setTimer'>;
  /** So long after a write that nobody has looked behind, at the latest. */
  readonly intervalMs: number;
  /** Asks, and tells whoever has to know it that the volume is lost. Does not reject: what cannot be asked now is asked again after the next write. */
  readonly check: () => Promise<void>;
}

export class OwnerWatch {
  readonly #options: OwnerWatchOptions;
  #timer: Timer | null = null;
  #lookedMs = Number.NEGATIVE_INFINITY;
  #writes = 0;
  /** How many of them there had been when it was looked last. */
  #seenWrites = 0;
  #isStopped = false;

  constructor(options: OwnerWatchOptions) {
    this.#options = options;
  }

  /** A write was accepted. */
  wrote(): void {
    this.#writes += 1;
    if (this.#timer === null && !this.#isStopped) this.#arm(this.#options.intervalMs);
  }

  /** To be called before the ownership is looked at, by whoever; what is returned, when nobody else was found to have it. */
  looks(): () => void {
    const sinceMs = this.#options.clock.nowMs();
    const writes = this.#writes;
    return () => {
      this.#lookedMs = sinceMs;
      this.#seenWrites = writes;
    };
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
    this.#timer = null;
  }

  #arm(delayMs: number): void {
    this.#timer = this.#options.clock.setTimer(delayMs, () => this.#timeIsUp());
  }

  #timeIsUp(): void {
    const { clock, intervalMs, check } = this.#options;
    this.#timer = null;
    if (this.#isStopped || this.#seenWrites === this.#writes) return;
    // Somebody has looked in between, and there were writes since.
    const leftMs = this.#lookedMs + intervalMs - clock.nowMs();
    if (leftMs > 0) return this.#arm(leftMs);
    void check();
  }
}
