/**
 * Which frames are worth a try at compressing them. Noise is told by samples. Of what is nearly noise they say too little: 32 KiB of it may save a
 * quarter or nothing, and to find that out by compressing them takes 300 to 700 us. So that is tried less and less while it is in vain.
 */
import { type NoiseGrade, NoiseTest } from '../base/noise.ts';

/** Most frames that are passed over for one that is tried: 32 MiB, of which a try is 1 % of the time that it takes to store them. */
const PASSED_OVER_MAX = 1024;

/** What came of compressing what is nearly noise. Plain numbers, which go from one chunk of a volume to the next, though other threads may build them. */
export interface VainTries {
  /** How many such frames are passed over behind a try in vain; 0: the last one was not. Doubled by each, so that no more are passed over than were seen. */
  readonly period: number;
  /** How many of them are still to come. */
  readonly left: number;
}

export const NO_VAIN_TRIES: VainTries = { period: 0, left: 0 };

export class FrameJudge {
  readonly #noise = new NoiseTest();
  #tries: VainTries;
  /** Of the frame before. */
  #grade: NoiseGrade = 'other';

  constructor(tries: VainTries = NO_VAIN_TRIES) {
    this.#tries = tries;
  }

  get tries(): VainTries {
    return this.#tries;
  }

  /** Whether to try a frame of `count` blocks. If so `tried` is to be told what came of it, before the next frame. */
  isWorthTrying(count: number, blockBytes: number, block: (index: number) => Uint8Array): boolean {
    const { period, left } = this.#tries;
    this.#grade = this.#noise.gradeOf(count, blockBytes, block, left > 0 ? 'nearly' : this.#grade);
    if (this.#grade === 'nearly' && left > 0) {
      this.#tries = { period, left: left - 1 };
      return false;
    }
    return this.#grade !== 'noise';
  }

  tried(hasSaved: boolean): void {
    if (this.#grade !== 'nearly') return;
    const period = hasSaved ? 0 : Math.min(PASSED_OVER_MAX, Math.max(1, 2 * this.#tries.period));
    this.#tries = { period, left: period };
  }
}
