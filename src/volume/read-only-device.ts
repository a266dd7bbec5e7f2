/** What all volumes have in common that are open for reading alone: they take nothing, and nothing of them is at risk. */
import type { VolumeError } from '../base/errors.ts';
import type { VolumeCore } from './volume-core.ts';
import type { VolumeStats, VolumeStatus } from './volume-info.ts';

const NOTHING_AT_RISK = { unsynced: { bytes: 0, ageMs: 0 }, unchunked: { bytes: 0, ageMs: 0 } } as const;
const NOTHING_LOGGED = { logBytes: 0, logWrites: 0, logSyncs: 0, logFiles: 0, logFreeFiles: 0 } as const;

export function readingStats({ counters, catalogue, blockSizeBytes, memory }: VolumeCore): VolumeStats {
  return { ...counters, ...NOTHING_LOGGED, liveBytes: catalogue.liveBlocks * blockSizeBytes, liveStoredBytes: catalogue.liveStoredBytes, storedChunkBytes: catalogue.objectBytes, spareBytes: 0, ...memory };
}

export function readingStatus(stats: VolumeStats, reason: VolumeError): VolumeStatus {
  const wear = { deviceBytes: 0, userBytes: 0, factor: null };
  return { atRisk: NOTHING_AT_RISK, wear, stats, failure: null, logWay: null, logCompressing: null, shipping: null, bucketRequests: null, readOnly: reason.message, following: null };
}

/** The half of a `BlockDevice` that changes something. */
export abstract class ReadOnlyDevice {
  readonly readOnly = true;

  /** What a request that changes something is answered. */
  protected abstract refusal(): VolumeError;

  writeNow(): never {
    throw this.refusal();
  }

  zeroNow(): never {
    throw this.refusal();
  }

  trimNow(): never {
    throw this.refusal();
  }

  write(): Promise<never> {
    return Promise.reject(this.refusal());
  }

  zero(): Promise<never> {
    return Promise.reject(this.refusal());
  }

  trim(): Promise<never> {
    return Promise.reject(this.refusal());
  }

  setDurability(): Promise<never> {
    return Promise.reject(this.refusal());
  }

  setCompression(): Promise<never> {
    return Promise.reject(this.refusal());
  }

  whenAdmitting(): Promise<never> {
    return Promise.reject(this.refusal());
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  submit(): void {
    // There is nothing to hand over.
  }
}
