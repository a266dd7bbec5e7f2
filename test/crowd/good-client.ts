/** A client that does its work: 4 KiB writes at random places, each read back now and then, and all of it at the end. */
import { NbdClient } from '../support/nbd-client.ts';

const BLOCK_BYTES = 4096;
const LANES = 16;
/** One write in so many is read back at once. */
const READ_SHARE = 8;

export interface Rate {
  readonly writes: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly worstMs: number;
}

/** What a block holds after its `version`-th write; 0: nothing yet. */
function stamp(block: number, version: number): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES, version === 0 ? 0 : 1 + ((block + version) % 255));
  if (version > 0) {
    bytes.writeUInt32BE(block, 0);
    bytes.writeUInt32BE(version, BLOCK_BYTES - 4);
  }
  return bytes;
}

export class GoodClient {
  readonly #client: NbdClient;
  readonly #versions: Uint32Array;

  private constructor(client: NbdClient, blockCount: number) {
    this.#client = client;
    this.#versions = new Uint32Array(blockCount);
  }

  static async open(socketPath: string, exportName: string, sizeBytes: number): Promise<GoodClient> {
    return new GoodClient(await NbdClient.open({ path: socketPath }, exportName), sizeBytes / BLOCK_BYTES);
  }

  /** Works for a while; rejects if a block reads otherwise than it was written. */
  async work(seconds: number): Promise<Rate> {
    const startMs = performance.now();
    const endMs = startMs + seconds * 1000;
    const times: number[] = [];
    await Promise.all(Array.from({ length: LANES }, (_, lane) => this.#lane(lane, endMs, times)));
    const tookMs = performance.now() - startMs;
    times.sort((a, b) => a - b);
    const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))];
    return { writes: times.length, perSecond: (times.length * 1000) / tookMs, p50Ms: at(0.5), p99Ms: at(0.99), worstMs: at(1) };
  }

  /** Reads everything. */
  async verify(): Promise<void> {
    for (let block = 0; block < this.#versions.length; block += 1) await this.#check(block);
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  async #lane(lane: number, endMs: number, times: number[]): Promise<void> {
    const own = this.#versions.length / LANES;
    for (let count = 0; performance.now() < endMs; count += 1) {
      const block = lane + LANES * Math.floor(Math.random() * own);
      const version = this.#versions[block] + 1;
      const startMs = performance.now();
      await this.#client.write(block * BLOCK_BYTES, stamp(block, version));
      times.push(performance.now() - startMs);
      this.#versions[block] = version;
      if (count % READ_SHARE === 0) await this.#check(block);
    }
  }

  async #check(block: number): Promise<void> {
    const found = await this.#client.read(block * BLOCK_BYTES, BLOCK_BYTES);
    if (!found.equals(stamp(block, this.#versions[block]))) throw new Error(`block ${block} does not hold its version ${this.#versions[block]}`);
  }
}
