/**
 * FLUSH and FUA of a volume whose flushes are for the bucket (`remote.flush_target`): what was written before is made into chunks, and answered when these are in the
 * bucket, in an unbroken chain behind a root, and nobody had claimed the volume then. Those who ask while that is under way share the next one.
 */
import { assert } from '../base/assert.ts';
import { toVolumeError } from '../base/errors.ts';
import type { Completion } from './block-device.ts';
import type { Flusher } from './flusher.ts';
import type { VolumeCore } from './volume-core.ts';

export interface RemoteFlushOptions {
  readonly volume: string;
  /** Makes chunks of all that was accepted before the call. */
  readonly makeChunks: () => Promise<void>;
  /** Resolves when the bucket has all chunks there are. */
  readonly ship: () => Promise<void>;
}

export class RemoteFlush {
  readonly #options: RemoteFlushOptions;
  #waiting: Completion[] = [];
  #isRunning = false;

  static of(core: VolumeCore, flusher: Flusher): RemoteFlush {
    return new RemoteFlush({
      volume: core.name,
      makeChunks: () => flusher.drain(),
      ship: () => {
        assert(core.shipper !== null, 'a volume with a bucket is open and ships nothing');
        return core.shipper.chunksShipped(core.lastChunk);
      },
    });
  }

  constructor(options: RemoteFlushOptions) {
    this.#options = options;
  }

  /** Settles `completion` when all that was accepted before this call is in the bucket. Errors: those of both steps. */
  add(completion: Completion): void {
    this.#waiting.push(completion);
    if (this.#isRunning) return;
    this.#isRunning = true;
    // Behind the end of the turn, so that all of it is one.
    queueMicrotask(() => void this.#run());
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const served = this.#waiting;
      this.#waiting = [];
      const error = await this.#flush().then(
        () => null,
        (cause: unknown) => toVolumeError(cause, `flushing volume ${this.#options.volume} to its bucket`),
      );
      for (const completion of served) completion.settle(error);
    }
    this.#isRunning = false;
  }

  async #flush(): Promise<void> {
    await this.#options.makeChunks();
    await this.#options.ship();
  }
}
