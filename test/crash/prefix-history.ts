/**
 * All states that a volume may be in after a crash: those after some prefix of its requests (I2). One connection sends them, so
 * their order is the volume's. A request of several blocks may be several records: of the first one that is missing some
 * blocks may be there, each of them whole.
 */
import { createHash } from 'node:crypto';
import { applyMutation, effectOf, type Mutation } from './volume-image.ts';

interface Version {
  /** Number of the request that wrote it, from 1; 0: a new volume. */
  readonly request: number;
  readonly digest: string;
  readonly ofSeveralBlocks: boolean;
}

/** Requests `from` up to and with `to`: the volume may be in the state after any of them. */
interface Range {
  readonly from: number;
  readonly to: number;
}

export class PrefixHistory {
  readonly sizeBytes: number;
  readonly #blockBytes: number;
  readonly #bytes: Uint8Array;
  readonly #versions: Version[][];
  #requests = 0;

  constructor({ sizeBytes, blockBytes }: { readonly sizeBytes: number; readonly blockBytes: number }) {
    this.sizeBytes = sizeBytes;
    this.#blockBytes = blockBytes;
    this.#bytes = new Uint8Array(sizeBytes);
    const digest = digestOf(this.#bytes.subarray(0, blockBytes));
    this.#versions = Array.from({ length: sizeBytes / blockBytes }, () => [{ request: 0, digest, ofSeveralBlocks: false }]);
  }

  /**
   * Notes the next request. Returns the prefix that must be there when it is. One that changes nothing (a trim of what is empty) has no
   * place in the order of its own: what it promises is there with the last request that changed its blocks.
   */
  add(mutation: Mutation): number {
    const { offsetBytes, lengthBytes } = effectOf(mutation, this.#blockBytes);
    if (lengthBytes === 0) return 0;
    applyMutation(this.#bytes.subarray(offsetBytes, offsetBytes + lengthBytes), offsetBytes, mutation);
    const first = Math.floor(offsetBytes / this.#blockBytes);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / this.#blockBytes);
    const touched = this.#versions.slice(first, last + 1);
    const digests = touched.map((_, index) => digestOf(this.#bytes.subarray((first + index) * this.#blockBytes, (first + index + 1) * this.#blockBytes)));
    if (touched.every((versions, index) => versions.at(-1)?.digest === digests[index])) return Math.max(...touched.map((versions) => versions.at(-1)?.request ?? 0));
    this.#requests += 1;
    for (const [index, versions] of touched.entries()) versions.push({ request: this.#requests, digest: digests[index], ofSeveralBlocks: last > first });
    return this.#requests;
  }

  /** Null if `image` is the volume after a prefix of the requests that has at least the first `atLeast`; else what is wrong with it. */
  problemOf(image: Uint8Array, atLeast: number): string | null {
    const allowedBlocks = new Int32Array(this.#requests + 2); // differences: how many blocks allow each prefix
    for (const [block, versions] of this.#versions.entries()) {
      const digest = digestOf(image.subarray(block * this.#blockBytes, (block + 1) * this.#blockBytes));
      const ranges = this.#rangesOf(versions, digest);
      if (ranges.length === 0) return `block ${block} holds what no request wrote whole`;
      if (!ranges.some(({ to }) => to >= atLeast)) return `block ${block} is as after request ${ranges.at(-1)?.to}, but request ${atLeast} and all before it must be there`;
      for (const { from, to } of ranges) {
        allowedBlocks[from] += 1;
        allowedBlocks[to + 1] -= 1;
      }
    }
    let blocks = 0;
    for (let prefix = 0; prefix <= this.#requests; prefix += 1) {
      blocks += allowedBlocks[prefix];
      if (prefix >= atLeast && blocks === this.#versions.length) return null;
    }
    return `the blocks are of different prefixes of the requests (at least ${atLeast} of them must be there)`;
  }

  /** The prefixes after which a block holds `digest`; disjoint, rising. */
  #rangesOf(versions: readonly Version[], digest: string): Range[] {
    const ranges: Range[] = [];
    for (const [index, version] of versions.entries()) {
      if (version.digest !== digest) continue;
      const from = version.ofSeveralBlocks ? version.request - 1 : version.request;
      const to = index + 1 < versions.length ? versions[index + 1].request - 1 : this.#requests;
      const before = ranges.at(-1);
      if (before !== undefined && before.to >= from - 1) ranges[ranges.length - 1] = { from: before.from, to };
      else ranges.push({ from, to });
    }
    return ranges;
  }
}

function digestOf(block: Uint8Array): string {
  return createHash('sha1').update(block).digest('base64');
}
