/**
 * What keeps writers of a volume from running away from its bucket: as what is not shipped comes near its limit (`remote.max_unshipped_bytes`) each write waits, longer and
 * longer; at the limit writers wait until something was shipped. Nothing fails.
 */
import type { Env, Timer } from '../env/env.ts';

/** Up to this part of the limit nobody waits. */
const FREE_PART = 3 / 4;
/** At the limit the pause between two writes is 2 to this power, in milliseconds. */
const DOUBLINGS = 8;

export type WriterState = 'free' | 'slowed' | 'paused';

export interface PressureOptions {
  readonly env: Pick<Env, 'clock' | 'logger'>;
  readonly volume: string;
  /** 0: no limit. */
  readonly maxBytes: number;
  readonly unshippedBytes: () => number;
  /** Writers that were not admitted may try again. */
  readonly wake: () => void;
}

export class WritePressure {
  readonly #options: PressureOptions;
  #state: WriterState = 'free';
  #dueMs = 0;
  #timer: Timer | null = null;

  constructor(options: PressureOptions) {
    this.#options = options;
  }

  /** How writers fare, as of the last one. */
  get state(): WriterState {
    return this.#state;
  }

  /** Whether a write may go on now; else `wake` is called when it is time, or something was shipped. */
  admits(): boolean {
    const { env, maxBytes, unshippedBytes } = this.#options;
    if (maxBytes === 0) return true;
    const part = unshippedBytes() / maxBytes;
    this.#setState(part < FREE_PART ? 'free' : part < 1 ? 'slowed' : 'paused');
    if (this.#state !== 'slowed') return this.#state === 'free';
    const nowMs = env.clock.nowMs();
    if (nowMs < this.#dueMs) {
      this.#arm(this.#dueMs - nowMs);
      return false;
    }
    this.#dueMs = nowMs + 2 ** (((part - FREE_PART) / (1 - FREE_PART)) * DOUBLINGS);
    return true;
  }

  /** Something was shipped, or is not needed any more: writers look again. */
  eased(): void {
    if (this.#state === 'free') return;
    const part = this.#options.unshippedBytes() / this.#options.maxBytes;
    if (part < FREE_PART) this.#setState('free');
    this.#options.wake();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #arm(delayMs: number): void {
    this.#timer ??= this.#options.env.clock.setTimer(delayMs, () => {
      this.#timer = null;
      this.#options.wake();
    });
  }

  #setState(state: WriterState): void {
    if (state === this.#state) return;
    const { env, volume, maxBytes, unshippedBytes } = this.#options;
    const event = { free: 'writes-go-on', slowed: 'writes-slowed', paused: 'writes-paused' } as const;
    env.logger.log(state === 'free' ? 'info' : 'warn', event[state], { volume, unshippedBytes: unshippedBytes(), maxBytes });
    this.#state = state;
  }
}
