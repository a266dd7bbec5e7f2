/**
 * Whether a record's payload is compressed. It costs the turn 2 to 6 us for each KiB and saves the log half of what is written to it, or
 * more: on a card of 20 MB/s 50 us for each KiB saved, on a fast disk nothing. So `auto` does it while the disk proves to be slow.
 */
import { lz4Compress } from '../base/lz4.ts';
import { NoiseTest } from '../base/noise.ts';
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

  /** Whether payloads are compressed now. */
  get isActive(): boolean {
    return this.#isActive;
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
