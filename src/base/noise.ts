/** Whether bytes are noise, or compressed already: then compressing them is not worth a try. */

const SAMPLE_BYTES = 32;

interface Look {
  readonly samples: number;
  /** So many different values are noise. */
  readonly distinct: number;
}

/** Of 512 bytes of noise 221 are different on the average, and hardly ever fewer than 212; with a tenth of something else 214. */
const FULL_LOOK: Look = { samples: 16, distinct: 212 };
/** Of 128 bytes 101, and seldom fewer than 92; of text some 40, of machine code 60. */
const SHORT_LOOK: Look = { samples: 4, distinct: 92 };
/** The same of noise into which something else is strewn; 8 blocks of which half are text have 67 to 87, and 177 to 203 of 512. */
const NEARLY_DISTINCT = { short: 86, full: 190 } as const;
/** Makes places that are in step with nothing: samples at even distances may all meet the same part of a pattern. */
const SCATTER = 0x9e3779b1;

/** `nearly`: noise with something else in it, which may or may not be worth compressing. */
export type NoiseGrade = 'noise' | 'nearly' | 'other';

/** Samples say whether compressing is worth a try: noise, or what is compressed already, has nearly every value of a byte in 512 of them. */
export class NoiseTest {
  /** 1 for each value that was seen. */
  readonly #seen = new Uint8Array(256);

  isNoise(payload: Uint8Array): boolean {
    const places = payload.length - SAMPLE_BYTES;
    if (places <= 0) return false;
    this.#seen.fill(0);
    let distinct = 0;
    for (let sample = 1; sample <= FULL_LOOK.samples; sample += 1) distinct += this.#unseen(payload, (Math.imul(sample, SCATTER) >>> 0) % places);
    return distinct >= FULL_LOOK.distinct;
  }

  /**
   * The same of `count` blocks of `blockBytes`, where they are: they need not stand side by side. A quarter of the samples is enough if they say what
   * is likely (`expected`): that they are noise, or nearly, as what stands before them was.
   */
  gradeOf(count: number, blockBytes: number, block: (index: number) => Uint8Array, expected: NoiseGrade): NoiseGrade {
    const short = this.#distinct(count, blockBytes, block, SHORT_LOOK.samples);
    if (expected === 'noise' && short >= SHORT_LOOK.distinct) return 'noise';
    if (expected === 'nearly' && short >= NEARLY_DISTINCT.short) return 'nearly';
    const full = this.#distinct(count, blockBytes, block, FULL_LOOK.samples);
    if (full >= FULL_LOOK.distinct) return 'noise';
    return short >= NEARLY_DISTINCT.short || full >= NEARLY_DISTINCT.full ? 'nearly' : 'other';
  }

  #distinct(count: number, blockBytes: number, block: (index: number) => Uint8Array, samples: number): number {
    this.#seen.fill(0);
    let found = 0;
    for (let sample = 1; sample <= samples; sample += 1) {
      const place = (Math.imul(sample, SCATTER) >>> 0) % (count * blockBytes);
      found += this.#unseen(block(Math.floor(place / blockBytes)), place % (blockBytes - SAMPLE_BYTES));
    }
    return found;
  }

  /** How many values of a sample were not seen before. Without a branch, which would be taken at random. */
  #unseen(bytes: Uint8Array, start: number): number {
    const seen = this.#seen;
    let unseen = 0;
    for (let at = start; at < start + SAMPLE_BYTES; at += 1) {
      const value = bytes[at];
      unseen += 1 - seen[value];
      seen[value] = 1;
    }
    return unseen;
  }
}
