/** How many objects may be put in an hour (`remote.max_puts_per_hour`): an allowance that grows with time, and of which a minute's can be saved up. */
import type { Clock } from '../env/env.ts';

const HOUR_MS = 3_600_000;
const SAVED_PART = 1 / 60;

export class PutBudget {
  readonly #clock: Pick<Clock, 'nowMs'>;
  readonly #perHour: number;
  readonly #most: number;
  #left: number;
  #atMs: number;

  /** `perHour` 0: as many as there are. */
  constructor(clock: Pick<Clock, 'nowMs'>, perHour: number) {
    this.#clock = clock;
    this.#perHour = perHour;
    this.#most = Math.max(1, perHour * SAVED_PART);
    this.#left = this.#most;
    this.#atMs = clock.nowMs();
  }

  /** After what time the next put is within the budget. */
  get waitMs(): number {
    if (this.#perHour === 0) return 0;
    this.#grow();
    return this.#left >= 1 ? 0 : ((1 - this.#left) * HOUR_MS) / this.#perHour;
  }

  /** A put is made, whether it was its time or not. */
  take(): void {
    if (this.#perHour === 0) return;
    this.#grow();
    this.#left -= 1;
  }

  #grow(): void {
    const nowMs = this.#clock.nowMs();
    this.#left = Math.min(this.#most, this.#left + ((nowMs - this.#atMs) * this.#perHour) / HOUR_MS);
    this.#atMs = nowMs;
  }
}
