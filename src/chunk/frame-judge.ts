/**
 * Which frames are worth a try at compressing them. Noise is told by samples. Of what is nearly noise they say too little: 32 KiB of it may save a
 * quarter or nothing, and to find that out by compressing them takes 300 to 700 us. So that is tried less and less while it is in vain.
 */
import { type NoiseGrade, NoiseTest } from '../base/noise.ts';

/**
 * So many tries in vain one after the other mean something. Noise that LZ4 saves 7 percent of is tried 26 times in 64 MiB, in place of a thousand times; the files of /usr/share and
 * of /usr/lib, archives and all, take as much as if each of them were tried (0.583 and 0.438 of their size).
 */
const TRIES_IN_VAIN = 16;
/** Most frames that are passed over for one that is tried: 32 MiB, of which a try is 1 % of the time that it takes to store them. */
const PASSED_OVER_MAX = 1024;

/** What came of compressing what is nearly noise. Plain numbers, which go from one chunk of a volume to the next, though other threads may build them. */
export interface VainTries {
  /** Tries in vain since the last one that was not. */
  readonly inVain: number;
  /** How many such frames are still passed over before the next try. */
  readonly left: number;
}

export const NO_VAIN_TRIES: VainTries = { inVain: 0, left: 0 };

/** How many frames are passed over behind a try in vain: twice as many as behind the one before it, so that these are never more than were seen. */
function passedOver(inVain: number): number {
  return inVain < TRIES_IN_VAIN ? 0 : Math.min(PASSED_OVER_MAX, 2 ** (inVain - TRIES_IN_VAIN));
}

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
    const { inVain, left } = this.#tries;
    const wasNoise = this.#grade === 'noise';
    this.#grade = this.#noise.gradeOf(count, blockBytes, block, left > 0 ? 'nearly' : wasNoise ? 'noise' : 'other');
    if (this.#grade === 'nearly' && left > 0) {
      this.#tries = { inVain, left: left - 1 };
      return false;
    }
    return this.#grade !== 'noise';
  }

  tried(hasSaved: boolean): void {
    if (this.#grade !== 'nearly') return;
    const inVain = hasSaved ? 0 : this.#tries.inVain + 1;
    this.#tries = { inVain, left: passedOver(inVain) };
  }
}
