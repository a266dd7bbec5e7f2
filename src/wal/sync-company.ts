/**
 * Whether a sync waits a moment for company. On a card, where a sync takes 5 ms whatever it covers, the requests in flight fall apart
 * into two groups: one is being synced while the other one, which came too late for it, waits for its end. Who was just answered asks
 * again at once; a sync that waits for that serves both groups together, and half as many syncs are needed.
 *
 * So after a slow sync the next one waits until as many wait for it as were waiting before, but no longer than a part of a sync. Where
 * that was in vain (the clients think, or have left) it is not done again for some syncs.
 */
/** Syncs shorter than this are not worth a wait. */
const SLOW_SYNC_MS = 2;
/** Part of the last sync's time that the next one may wait. */
const WAIT_PART = 0.25;
/** Syncs without a wait after one in vain; twice as many after each further one in a row. */
const PENALTY_SYNCS = 4;
const PENALTY_SYNCS_MAX = 256;

export class SyncCompany {
  /** How many are to be waited for; 0: nobody. */
  #expected = 0;
  #untilMs = 0;
  #penalty = PENALTY_SYNCS;
  #pause = 0;

  /** A sync has ended: it took so long, served so many, and left so many waiting for the next one. */
  synced(nowMs: number, elapsedMs: number, served: number, left: number): void {
    this.#expected = 0;
    if (elapsedMs < SLOW_SYNC_MS || served === 0) return;
    if (this.#pause > 0) {
      this.#pause -= 1;
      return;
    }
    this.#expected = served + left;
    this.#untilMs = nowMs + elapsedMs * WAIT_PART;
  }

  /** For how many milliseconds the next sync, for which so many wait now, waits for more of them; 0: it begins. */
  waitMs(nowMs: number, waiting: number): number {
    if (this.#expected === 0) return 0;
    if (waiting < this.#expected && nowMs < this.#untilMs) return this.#untilMs - nowMs;
    if (waiting >= this.#expected) {
      this.#penalty = PENALTY_SYNCS;
    } else if (waiting < this.#expected * 0.75) {
      this.#pause = this.#penalty;
      this.#penalty = Math.min(PENALTY_SYNCS_MAX, this.#penalty * 2);
    }
    this.#expected = 0;
    return 0;
  }
}
