/** The hint in the bucket that says which chunks of a volume were used last. It costs one small put now and then, and nothing depends on it. */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import { chunkNumberIn } from '../chunk/chunk-reader.ts';
import type { Env } from '../env/env.ts';
import { HOT_BYTES_MAX, HOT_CHUNKS_MAX, HOT_KEY, decodeHotList, encodeHotList } from '../format/remote-records.ts';
import type { RemoteReader, RemoteStore } from '../store/remote-store.ts';
import type { TieredStore } from '../store/tiered-store.ts';

/** A hint is worth no long wait: shipping goes on behind it, and so does who closes a volume. */
const PUT_MS_MAX = 5000;

export interface HotNotesOptions {
  readonly env: Pick<Env, 'clock' | 'logger'>;
  readonly volume: string;
  readonly volumeId: Uint8Array;
  readonly store: Pick<TieredStore, 'newestCopies'>;
  readonly remote: Pick<RemoteStore, 'put'>;
  /** 0: nothing is noted. */
  readonly intervalMs: number;
}

export class HotNotes {
  readonly #options: HotNotesOptions;
  #notedMs = Number.NEGATIVE_INFINITY;
  #noted = '';

  constructor(options: HotNotesOptions) {
    this.#options = options;
  }

  get isDue(): boolean {
    const { env, intervalMs } = this.#options;
    return intervalMs > 0 && env.clock.nowMs() - this.#notedMs >= intervalMs;
  }

  /** Puts what is used now, if that is not what was put last. Trouble is logged, and keeps nobody from anything. */
  async put(): Promise<void> {
    const { env, volume, volumeId, store, remote, intervalMs } = this.#options;
    if (intervalMs === 0) return;
    const chunks = store.newestCopies().flatMap((key) => chunkNumberIn(key) ?? []).slice(0, HOT_CHUNKS_MAX);
    this.#notedMs = env.clock.nowMs();
    const noted = chunks.join();
    if (noted === this.#noted) return;
    try {
      await remote.put(HOT_KEY, [encodeHotList({ volumeId, timeMs: Math.max(0, Math.floor(env.clock.wallMs())), chunks })], { timeoutMs: PUT_MS_MAX });
      this.#noted = noted;
    } catch (error) {
      env.logger.log('debug', 'hot-list-not-put', { volume, error: toVolumeError(error, 'noting which chunks are used') });
    }
  }
}

/** Numbers of the chunks that the volume's last writer used last; none if it did not say. Errors: those of the bucket. */
export async function readHotList(remote: Pick<RemoteReader, 'getWhole'>, volumeId: Uint8Array): Promise<readonly number[]> {
  try {
    const list = decodeHotList(await remote.getWhole(HOT_KEY, HOT_BYTES_MAX), HOT_KEY);
    return Buffer.compare(list.volumeId, volumeId) === 0 ? list.chunks : [];
  } catch (error) {
    // A hint that is none: it is done without.
    if (error instanceof VolumeError && (error.code === 'not-found' || error.code === 'corrupt' || error.code === 'unsupported')) return [];
    throw error;
  }
}
