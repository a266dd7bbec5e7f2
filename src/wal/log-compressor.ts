/**
 * Whether a record's payload is compressed. It costs the turn 2 to 6 us for each KiB and saves the log half of what is written to it, or
 * more: on a card of 20 MB/s 50 us for each KiB saved, on a fast disk nothing. So `auto` does it while the disk proves to be slow.
 */
import { lz4Compress } from '../base/lz4.ts';
import type { LogCompression } from '../base/settings-types.ts';
import { MAX_COMPRESSED_BYTES } from '../format/log-record.ts';

/** A compressed payload must save this part of its bytes: reading it back costs time, too. */
const SAVING = 0.1;
/** A sync is slow if it takes this long, and if the bytes it brought to the disk do not explain it. */
const SLOW_SYNC_MS = 4;
const FAST_BYTES_PER_MS = 50_000;
/** So many more slow syncs than fast ones begin compression: a busy machine has some. It ends when the fast ones have caught up. */
const SLOW_SYNCS_NEEDED = 8;
const SLOW_SYNCS_MAX = 16;

export class LogCompressor {
  readonly #mode: LogCompression;
  readonly #noise = new NoiseTest();
  #slowSyncs = 0;
  #isActive: boolean;

  constructor(mode: LogCompression) {
    this.#mode = mode;
    this.#isActive = mode === 'lz4';
  }

  /** Whether there may be compressed records. */
  get isUsed(): boolean {
    return this.#mode !== 'off';
  }

  /** A sync of the log took so long, for so many bytes. */
  synced(elapsedMs: number, bytes: number): void {
    if (this.#mode !== 'auto') return;
    const isSlow = elapsedMs >= SLOW_SYNC_MS && bytes < elapsedMs * FAST_BYTES_PER_MS;
    this.#slowSyncs = isSlow ? Math.min(SLOW_SYNCS_MAX, this.#slowSyncs + 1) : Math.max(0, this.#slowSyncs - 1);
    if (this.#slowSyncs >= SLOW_SYNCS_NEEDED) this.#isActive = true;
    else if (this.#slowSyncs === 0) this.#isActive = false;
  }

  /** The payload as one LZ4 block; null if it is to be stored as it is. */
  compress(payload: Uint8Array): Uint8Array | null {
    if (!this.#isActive || payload.length > MAX_COMPRESSED_BYTES || this.#noise.isNoise(payload)) return null;
    const stored = lz4Compress(payload);
    return stored.length <= payload.length * (1 - SAVING) ? stored : null;
  }
}

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
