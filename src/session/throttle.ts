/**
 * Limits of what clients ask of a volume: token buckets that all its connections share.
 *
 * A request is admitted when its header has arrived, and waits in the client's socket until then: no memory is held for it. One that is larger than a burst is
 * admitted when the bucket is full, and leaves a debt, so that the rate holds for requests of any size. Connections that wait take turns: one request each.
 */
import { burstOf, hasLimits, NO_LIMITS, type VolumeLimits } from '../base/volume-limits.ts';

/** The part of the Env's clock that this needs. */
export interface ThrottleClock {
  nowMs(): number;
  setTimer(delayMs: number, callback: () => void): { cancel(): void };
}

/** Rounding of the clock's fractions makes nobody wait once more. */
const EPSILON = 1e-6;

export class TokenBucket {
  readonly #perMs: number;
  readonly #capacity: number;
  #tokens: number;
  #atMs: number;

  /** Full at first. */
  constructor({ perSecond, burst, nowMs }: { readonly perSecond: number; readonly burst: number; readonly nowMs: number }) {
    this.#perMs = perSecond / 1000;
    this.#capacity = burst;
    this.#tokens = burst;
    this.#atMs = nowMs;
  }

  /** How long until `count` tokens may be taken; 0: now. */
  delayMs(count: number, nowMs: number): number {
    this.#tokens = Math.min(this.#capacity, this.#tokens + (nowMs - this.#atMs) * this.#perMs);
    this.#atMs = nowMs;
    const missing = Math.min(count, this.#capacity) - this.#tokens;
    return missing <= EPSILON ? 0 : missing / this.#perMs;
  }

  /** Takes them, also those that are not there: then the next ones take longer. */
  take(count: number): void {
    this.#tokens -= count;
  }
}

/** The limits of one volume, for all its connections. */
export class VolumeThrottle {
  readonly #clock: ThrottleClock;
  #limits = NO_LIMITS;
  #operations: TokenBucket | null = null;
  #bytes: TokenBucket | null = null;
  /** Whose turn it is not yet, in order, each with the bytes of its request. */
  readonly #waiting = new Map<() => void, number>();
  /** Whose turn it is. It was woken, and takes its tokens or says that it cannot. */
  #granted: (() => void) | null = null;
  #timer: { cancel(): void } | null = null;
  /** Nothing is limited. */
  isOff = true;

  constructor(clock: ThrottleClock) {
    this.#clock = clock;
  }

  /** New limits are in force at once; those that wait ask again. */
  set(limits: VolumeLimits): void {
    if (limits === this.#limits) return;
    this.#limits = limits;
    const { operationsPerSecond, burstOperations, bytesPerSecond, burstBytes } = limits;
    const nowMs = this.#clock.nowMs();
    this.#operations = operationsPerSecond === null ? null : new TokenBucket({ perSecond: operationsPerSecond, burst: burstOf(operationsPerSecond, burstOperations), nowMs });
    this.#bytes = bytesPerSecond === null ? null : new TokenBucket({ perSecond: bytesPerSecond, burst: burstOf(bytesPerSecond, burstBytes), nowMs });
    this.isOff = !hasLimits(limits);
    this.#stopTimer();
    this.#granted = null;
    const waiting = [...this.#waiting.keys()];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  /** Whether a request that moves `lengthBytes` may begin; it is counted then. If not, `wake` is called when its turn has come: it asks again, or calls `leave`. */
  admits(lengthBytes: number, wake: () => void): boolean {
    if (this.isOff) return true;
    const hasTurn = this.#granted === wake || (this.#granted === null && this.#waiting.size === 0);
    if (!hasTurn || this.#delayMs(lengthBytes) > 0) {
      this.#waiting.set(wake, lengthBytes);
      this.#callNext();
      return false;
    }
    this.#operations?.take(1);
    this.#bytes?.take(lengthBytes);
    if (this.#granted === wake) {
      this.#granted = null;
      this.#callNext();
    }
    return true;
  }

  /** It waits no more, or cannot use its turn now. */
  leave(wake: () => void): void {
    // The timer is for the first one, who may want more than the next.
    if (this.#waiting.delete(wake)) this.#stopTimer();
    if (this.#granted === wake) this.#granted = null;
    this.#callNext();
  }

  #stopTimer(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #delayMs(lengthBytes: number): number {
    const nowMs = this.#clock.nowMs();
    return Math.max(this.#operations?.delayMs(1, nowMs) ?? 0, this.#bytes?.delayMs(lengthBytes, nowMs) ?? 0);
  }

  /** Gives the turn to the first one that waits, now or when there are tokens for it. */
  #callNext(): void {
    if (this.#granted !== null || this.#timer !== null) return;
    const first = this.#waiting.entries().next();
    if (first.done === true) return;
    const [wake, lengthBytes] = first.value;
    const delayMs = this.#delayMs(lengthBytes);
    if (delayMs > 0) {
      this.#timer = this.#clock.setTimer(delayMs, () => {
        this.#timer = null;
        this.#callNext();
      });
      return;
    }
    this.#waiting.delete(wake);
    this.#granted = wake;
    wake();
  }
}

/** The throttles of all volumes that clients of this server have had, by name. */
export class ThrottleTable {
  readonly #clock: ThrottleClock;
  readonly #throttles = new Map<string, VolumeThrottle>();

  constructor(clock: ThrottleClock) {
    this.#clock = clock;
  }

  /** The throttle of a volume of which `limits` are in force. */
  of(volume: string, limits: VolumeLimits): VolumeThrottle {
    const throttle = this.#throttles.get(volume) ?? new VolumeThrottle(this.#clock);
    this.#throttles.set(volume, throttle);
    throttle.set(limits);
    return throttle;
  }

  /** The limits of a volume have changed; one that no client has had gets them when one comes. */
  changed(volume: string, limits: VolumeLimits): void {
    this.#throttles.get(volume)?.set(limits);
  }

  /** There is no volume of that name any more. */
  forget(volume: string): void {
    this.#throttles.delete(volume);
  }
}
