/**
 * Fetching what a volume that was made of its bucket is likely to need, before somebody asks for it: chunks that its last writer used last, then the newest ones, as far as
 * `remote.cache_bytes` goes. It runs behind those who read, and is done once: the file `prefetch` in the volume's directory says that it is wanted, and goes when it is over.
 */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import { WaitList, forEachLimited } from '../base/async.ts';
import { chunkKey } from '../chunk/chunk-reader.ts';
import type { Env } from '../env/env.ts';
import type { RemoteReader } from '../store/remote-store.ts';
import type { TieredStore } from '../store/tiered-store.ts';
import { readHotList } from './hot-list.ts';
import type { VolumeCore } from './volume-core.ts';
import { prefetchPath } from './volume-files.ts';
import type { PrefetchStatus } from './volume-info.ts';

export interface PrefetchOptions {
  readonly core: Pick<VolumeCore, 'env' | 'name' | 'directory' | 'catalogue' | 'manifest'>;
  readonly remote: Pick<RemoteReader, 'getWhole'>;
  readonly store: TieredStore;
  /** Of all that is here and in the bucket. */
  readonly cacheBytes: number;
  /** Chunks at a time. */
  readonly concurrency: number;
  /** Pause before it goes on when the bucket cannot be reached. */
  readonly retryMs: number;
}

interface Wanted {
  readonly key: string;
  readonly sizeBytes: number;
}

export class Prefetch {
  readonly #options: PrefetchOptions;
  #fetchedBytes = 0;
  #totalBytes = 0;
  #isStopped = false;
  readonly #woken = new WaitList();
  readonly #running: Promise<void>;

  private constructor(options: PrefetchOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** Starts it if it is wanted. Errors: `io-error`. */
  static async begin(options: PrefetchOptions): Promise<Prefetch | null> {
    const { env, directory } = options.core;
    return (await env.files.exists(prefetchPath(directory))) ? new Prefetch(options) : null;
  }

  /** Null: it is over. */
  status(): PrefetchStatus | null {
    return this.#isStopped ? null : { fetchedBytes: this.#fetchedBytes, totalBytes: this.#totalBytes };
  }

  /** Begins nothing new. Resolves when nothing is under way; the bucket must not be closed before, or what is under way fails. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#woken.wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { env, name, directory } = this.#options.core;
    while (!this.#isStopped) {
      try {
        await this.#fetchAll();
        if (this.#isStopped) return;
        await env.files.remove(prefetchPath(directory));
        env.logger.log('info', 'prefetched', { volume: name, bytes: this.#fetchedBytes });
        this.#isStopped = true;
      } catch (cause) {
        const error = toVolumeError(cause, `prefetching volume ${name}`);
        if (this.#isStopped) return;
        env.logger.log('debug', 'prefetch-waits', { volume: name, error });
        await this.#pause();
      }
    }
  }

  /** Ends early when it is stopped. */
  async #pause(): Promise<void> {
    const { core, retryMs } = this.#options;
    const timer = core.env.clock.setTimer(retryMs, () => this.#woken.wake());
    await this.#woken.wait();
    timer.cancel();
  }

  async #fetchAll(): Promise<void> {
    const wanted = await this.#choose();
    this.#fetchedBytes = 0;
    this.#totalBytes = wanted.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    await forEachLimited(wanted, this.#options.concurrency, ({ key }) => this.#fetch(key));
    // Those used last go last.
    for (const { key } of wanted.toReversed()) this.#options.store.use(key);
  }

  async #fetch(key: string): Promise<void> {
    if (this.#isStopped) return;
    const { store, core } = this.#options;
    try {
      const isKept = await store.fetchWhole(key, (bytes) => {
        this.#fetchedBytes += bytes;
      });
      if (!isKept) core.env.logger.log('debug', 'not-prefetched', { volume: core.name, file: key });
    } catch (error) {
      // It was removed meanwhile; whoever needs one that is damaged is told of it.
      const isGone = error instanceof VolumeError && (error.code === 'not-found' || error.code === 'corrupt');
      if (!isGone) throw error;
    }
  }

  /** What is away, the likeliest first, as much of it as there is room for. */
  async #choose(): Promise<readonly Wanted[]> {
    const { core, remote, store, cacheBytes } = this.#options;
    const { catalogue, manifest } = core;
    const newest = [...catalogue.pages()].flatMap((page) => page.entries().map(({ place }) => page.index * page.epochs.length + place)).toSorted((a, b) => b - a);
    const wanted: Wanted[] = [];
    let roomBytes = cacheBytes - store.cachedBytes;
    for (const chunk of new Set([...(await readHotList(remote, manifest.volumeId)), ...newest])) {
      const facts = catalogue.get(chunk);
      if (facts === undefined || facts.liveBlocks === 0) continue;
      const key = chunkKey(facts.epoch, chunk);
      const sizeBytes = await store.bytesAway(key);
      if (sizeBytes === null) continue;
      roomBytes -= sizeBytes;
      if (roomBytes < 0) break;
      wanted.push({ key, sizeBytes });
    }
    return wanted;
  }
}

/** Says that it is wanted for a volume whose directory is being made. */
export async function wantPrefetch({ files }: Pick<Env, 'files'>, directory: string): Promise<void> {
  await (await files.open(prefetchPath(directory), 'create')).close();
}
