/**
 * Whether a log write or sync may be done within the turn. It is faster there (no trip to the thread pool) but holds up
 * every connection while it lasts; a card whose dirty pages are throttled blocks a plain write for seconds. So: only
 * while recent ones were fast, and one slow one ends it for a while.
 */
/** A slow write keeps the next ones out of the turn for so many times what it took: a hiccup costs little, a stalled card much. */
const PENALTY_FACTOR = 20;
const PENALTY_MAX_MS = 60_000;
/** Syncs in a row that must be fast before one is done within the turn. */
const FAST_SYNCS_NEEDED = 8;
/** After a slow one within the turn, so many more. */
const FAST_SYNCS_AFTER_SLOW = 256;

export interface LatencyLimits {
  readonly writeMs: number;
  /** 0: never within the turn. */
  readonly syncMs: number;
}

export class LatencyPolicy {
  readonly #limits: LatencyLimits;
  #slowUntilMs = 0;
  #fastSyncs = 0;

  constructor(limits: LatencyLimits) {
    this.#limits = limits;
  }

  mayWriteNow(nowMs: number): boolean {
    return nowMs >= this.#slowUntilMs;
  }

  wrote(nowMs: number, elapsedMs: number): void {
    if (elapsedMs > this.#limits.writeMs) this.#slowUntilMs = nowMs + Math.min(PENALTY_MAX_MS, elapsedMs * PENALTY_FACTOR);
  }

  maySyncNow(): boolean {
    return this.#limits.syncMs > 0 && this.#fastSyncs >= FAST_SYNCS_NEEDED;
  }

  synced(elapsedMs: number, withinTurn: boolean): void {
    if (elapsedMs <= this.#limits.syncMs) this.#fastSyncs = Math.min(this.#fastSyncs + 1, FAST_SYNCS_NEEDED);
    // One outlier of a sync is normal on a shared disk; several times the limit is a slow disk.
    else if (withinTurn && elapsedMs > this.#limits.syncMs * 8) this.#fastSyncs = FAST_SYNCS_NEEDED - FAST_SYNCS_AFTER_SLOW;
    else this.#fastSyncs = Math.min(this.#fastSyncs, FAST_SYNCS_NEEDED) - 2;
  }
}
