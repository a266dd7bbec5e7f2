/**
 * A load on one connection whose order is the volume's: every request is carried out in the turn in which it arrives. So writes of a
 * part of a block go only to blocks that this life of the server has in memory. The cookies are the requests' numbers,
 * which the trace shows again in the replies.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Durability } from '../../src/base/durability.ts';
import { NBD_CMD_FLAG_FUA, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from '../../src/protocol/constants.ts';
import type { SeededRandom } from '../sim/random.ts';
import { NbdClient, NbdRequestError } from '../support/nbd-client.ts';
import { PrefixHistory } from './prefix-history.ts';
import { SECTOR_BYTES, fillStamp } from './stamp.ts';
import type { Mutation } from './volume-image.ts';

export const BLOCK_BYTES = 4096;

/** What an answer to a request obliges the volume to: the first `prefix` changes must be there after a crash of the ... */
export interface Promised {
  readonly prefix: number;
  readonly process: boolean;
  readonly machine: boolean;
}

export class TracedLoad {
  readonly history: PrefixHistory;
  /** By request number. */
  readonly promises = new Map<number, Promised>();
  readonly #mode: Durability;
  readonly #random: SeededRandom;
  #requests = 0;
  #acknowledged = 0;
  #inMemory = new Set<number>();

  constructor({ mode, random, sizeBytes }: { readonly mode: Durability; readonly random: SeededRandom; readonly sizeBytes: number }) {
    this.#mode = mode;
    this.#random = random;
    this.history = new PrefixHistory({ sizeBytes, blockBytes: BLOCK_BYTES });
  }

  /** Sends `requests` requests, at most `depth` at a time, to a server that was started anew. Resolves when all are answered. */
  async run({ socketPath, name, requests, depth }: { readonly socketPath: string; readonly name: string; readonly requests: number; readonly depth: number }): Promise<void> {
    this.#inMemory = new Set();
    const client = await NbdClient.open({ path: socketPath }, name);
    const last = this.#requests + requests;
    const lane = async (): Promise<void> => {
      while (this.#requests < last) {
        if (this.#random.chance(0.12)) await this.#flush(client);
        else await this.#change(client);
        if (this.#random.chance(0.05)) await delay(this.#random.below(60)); // time for chunks and checkpoints
      }
    };
    await Promise.all(Array.from({ length: depth }, lane));
    await client.cut();
  }

  async #flush(client: NbdClient): Promise<void> {
    const isKept = this.#mode !== 'async';
    const cookie = this.#number({ prefix: this.#acknowledged, process: isKept, machine: isKept });
    await must(client.request({ command: NBD_CMD_FLUSH, cookie }));
  }

  async #change(client: NbdClient): Promise<void> {
    const mutation = this.#choose();
    const fua = this.#random.chance(0.1);
    const prefix = this.history.add(mutation);
    const isKept = this.#mode !== 'async';
    const cookie = this.#number({ prefix, process: isKept, machine: isKept && (fua || this.#mode === 'strict') });
    const { offsetBytes: offset, lengthBytes: length, kind } = mutation;
    const flags = fua ? NBD_CMD_FLAG_FUA : 0;
    if (kind === 'trim') await must(client.request({ command: NBD_CMD_TRIM, flags, offset, length, cookie }));
    else if (kind === 'zero') await must(client.request({ command: NBD_CMD_WRITE_ZEROES, flags, offset, length, cookie }));
    else {
      const payload = new Uint8Array(length);
      fillStamp(payload, offset, mutation);
      await must(client.request({ command: NBD_CMD_WRITE, flags, offset, payload, cookie }));
    }
    this.#acknowledged = Math.max(this.#acknowledged, prefix);
  }

  #number(promised: Promised): Uint8Array {
    this.#requests += 1;
    this.promises.set(this.#requests, promised);
    const cookie = Buffer.alloc(8);
    cookie.writeBigUInt64BE(BigInt(this.#requests));
    return cookie;
  }

  #choose(): Mutation {
    const random = this.#random;
    const identity = { request: this.#requests + 1, connection: 1 };
    if (this.#inMemory.size > 0 && random.chance(0.25)) {
      const start = random.below(BLOCK_BYTES / SECTOR_BYTES);
      const sectors = random.between(1, BLOCK_BYTES / SECTOR_BYTES - start);
      return { ...identity, kind: 'stamp', offsetBytes: random.pick([...this.#inMemory]) * BLOCK_BYTES + start * SECTOR_BYTES, lengthBytes: sectors * SECTOR_BYTES };
    }
    const blocks = this.history.sizeBytes / BLOCK_BYTES;
    const count = Math.min(blocks, random.pick([1, 1, 1, 2, 4, 8, 32]));
    const first = random.below(blocks - count + 1);
    const kind = random.weighted(new Map<Mutation['kind'], number>([['stamp', 8], ['zero', 1], ['trim', 1]]));
    // A zeroed block is in memory too, but only until its chunk is made: then it is one to be looked up.
    for (let block = first; block < first + count; block += 1) {
      if (kind === 'stamp') this.#inMemory.add(block);
      else this.#inMemory.delete(block);
    }
    return { ...identity, kind, offsetBytes: first * BLOCK_BYTES, lengthBytes: count * BLOCK_BYTES };
  }
}

async function must(reply: Promise<{ readonly error: number }>): Promise<void> {
  const { error } = await reply;
  if (error !== 0) throw new NbdRequestError('a request of the traced load', error);
}
