/**
 * Somebody who reads a volume with a bucket in sequence, again and again, while it is written, shipped, evicted, compacted and taken over. Rules:
 *
 * - each block that is read is as the last change has made it that was answered before the read began, or as one that was under way then, or began before the read ended;
 * - no read fails on the host that has the volume, but for trouble that goes by itself.
 */
import { KIB } from '../../src/base/units.ts';
import { SimulationFailure } from './model.ts';
import type { SeededRandom } from './random.ts';
import { BLOCKS, BLOCK_BYTES, idsOf, isPassing, stateOf } from './remote-history.ts';
import type { Host } from './remote-host.ts';

export interface StreamOptions {
  readonly host: Host;
  readonly random: SeededRandom;
  /** Whether reads may fail: somebody else has the volume, or is about to. */
  readonly mayFail: () => boolean;
}

export class Stream {
  readonly #options: StreamOptions;
  #isOver = false;
  readonly #ended: Promise<void>;
  failure: Error | null = null;
  reads = 0;

  constructor(options: StreamOptions) {
    this.#options = options;
    this.#ended = this.#run().catch((error: unknown) => {
      this.failure = error instanceof Error ? error : new SimulationFailure('a stream failed', { cause: error });
    });
  }

  /** Resolves when it reads no more; to be waited for only where the process lives. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { host, random } = this.#options;
    const { process } = host; // of one that has died nothing is heard any more
    while (!this.#isOver && process === host.process) {
      const pieceBlocks = (random.pick([4, 16, 64, 256]) * KIB) / BLOCK_BYTES;
      const isSlow = random.chance(0.3);
      for (let block = random.pick([0, 0, random.below(BLOCKS)]); block < BLOCKS && !this.#isOver && process === host.process; block += pieceBlocks) {
        if (!(await this.#read(block, Math.min(pieceBlocks, BLOCKS - block)))) return;
        if (isSlow) await process?.sleep(random.unit() * 50);
      }
      await process?.sleep(random.unit() * random.pick([5, 200, 2000]));
    }
  }

  /** False: it cannot be read here any more. */
  async #read(first: number, count: number): Promise<boolean> {
    const { host, mayFail } = this.#options;
    const { process, volume } = host;
    if (process?.alive !== true || volume === null) return false;
    const known = host.answered;
    const before = stateOf(host.history.slice(0, known));
    const target = Buffer.alloc(count * BLOCK_BYTES);
    try {
      await volume.read(first * BLOCK_BYTES, target);
    } catch (error) {
      if (mayFail()) return false;
      if (isPassing(error)) return true;
      throw error;
    }
    if (process !== host.process || !process.alive) return false; // its history may be another one by now
    this.reads += 1;
    const since = host.history.slice(known);
    for (const [index, id] of idsOf(target, first, `a stream on ${host.name}`).entries()) {
      const block = first + index;
      const isRight = id === before[block] || since.some((change) => change.id === id && block >= change.first && block < change.first + change.count);
      if (!isRight) throw new SimulationFailure(`a stream on ${host.name}: block ${block} is of change ${id}, not ${before[block]}`);
    }
    return true;
  }
}
