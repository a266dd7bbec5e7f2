/** Whether bytes are noise, or compressed already: then compressing them is not worth a try. */

const SAMPLES = 16;
const SAMPLE_BYTES = 32;
/** Of 512 bytes of noise 221 are different on the average, and hardly ever fewer than 212; with a tenth of something else 214. */
const DISTINCT_IN_NOISE = 212;
/** Makes places that are in step with nothing: samples at even distances may all meet the same part of a pattern. */
const SCATTER = 0x9e3779b1;

/** Samples say whether compressing is worth a try: noise, or what is compressed already, has nearly every value of a byte in 512 of them. */
export class NoiseTest {
  /** The look at which each value was seen last. */
  readonly #seenAt = new Float64Array(256);
  #look = 0;

  isNoise(payload: Uint8Array): boolean {
    const places = payload.length - SAMPLE_BYTES;
    if (places <= 0) return false;
    this.#look += 1;
    let distinct = 0;
    for (let sample = 1; sample <= SAMPLES; sample += 1) {
      const start = (Math.imul(sample, SCATTER) >>> 0) % places;
      for (let at = start; at < start + SAMPLE_BYTES; at += 1) {
        if (this.#seenAt[payload[at]] === this.#look) continue;
        this.#seenAt[payload[at]] = this.#look;
        distinct += 1;
      }
    }
    return distinct >= DISTINCT_IN_NOISE;
  }
}
