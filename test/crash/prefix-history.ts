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

  /** How many requests there are in the order. */
  get requests(): number {
    return this.#requests;
  }

  /** Null if `image` is the volume after a prefix of the requests that has at least the first `atLeast`; else what is wrong with it. */
  problemOf(image: Uint8Array, atLeast: number): string | null {
    const found = this.find(image, { atLeast, atMost: this.#requests });
    return 'problem' in found ? found.problem : null;
  }

  /** The shortest prefix that `image` can be the volume after; or what is wrong with it. */
  find(image: Uint8Array, { atLeast, atMost }: { readonly atLeast: number; readonly atMost: number }): { readonly prefix: number } | { readonly problem: string } {
    const allowedBlocks = new Int32Array(this.#requests + 2); // differences: how many blocks allow each prefix
    for (const [block, versions] of this.#versions.entries()) {
      const digest = digestOf(image.subarray(block * this.#blockBytes, (block + 1) * this.#blockBytes));
      const ranges = this.#rangesOf(versions, digest);
      if (ranges.length === 0) return { problem: `block ${block} holds what no request wrote whole` };
      if (!ranges.some(({ to }) => to >= atLeast)) return { problem: `block ${block} is as after request ${ranges.at(-1)?.to}, but request ${atLeast} and all before it must be there` };
      if (!ranges.some(({ from }) => from <= atMost)) return { problem: `block ${block} is as after request ${ranges[0]?.from}, but nothing behind request ${atMost} may be there` };
      for (const { from, to } of ranges) {
        allowedBlocks[from] += 1;
        allowedBlocks[to + 1] -= 1;
      }
    }
    let blocks = 0;
    for (let prefix = 0; prefix <= atMost; prefix += 1) {
      blocks += allowedBlocks[prefix];
      if (prefix >= atLeast && blocks === this.#versions.length) return { prefix };
    }
    return { problem: `the blocks are of different prefixes of the requests (at least ${atLeast} and at most ${atMost} of them must be there)` };
  }

  /** What is wrong with blocks that were read in the middle of the requests, each looked at alone: none may be older than after `atLeast` of them. Null: nothing. */
  problemOfBlocks(offsetBytes: number, bytes: Uint8Array, atLeast: number): string | null {
    for (let at = 0; at < bytes.length; at += this.#blockBytes) {
      const block = (offsetBytes + at) / this.#blockBytes;
      const ranges = this.#rangesOf(this.#versions[block], digestOf(bytes.subarray(at, at + this.#blockBytes)));
      if (!ranges.some(({ to }) => to >= atLeast)) return `block ${block} was read as ${ranges.length === 0 ? 'no request wrote it' : `after request ${ranges.at(-1)?.to}`}, when request ${atLeast} had been answered`;
    }
    return null;
  }

  /** The volume is `image` now, which is that after `prefix` of the requests and, at most, some blocks of the next one: what came later never was. */
  cutTo(prefix: number, image: Uint8Array): void {
    this.#requests = prefix;
    for (const [block, versions] of this.#versions.entries()) {
      const kept = versions.filter(({ request }) => request <= prefix);
      const digest = digestOf(image.subarray(block * this.#blockBytes, (block + 1) * this.#blockBytes));
      if (kept.at(-1)?.digest !== digest) {
        this.#requests = prefix + 1;
        kept.push({ request: prefix + 1, digest, ofSeveralBlocks: true });
      }
      this.#versions[block] = kept;
    }
    this.#bytes.set(image);
  }

  /** The volume will never be found as it was before `prefix` of the requests: less to keep. */
  forgetBefore(prefix: number): void {
    for (const [block, versions] of this.#versions.entries()) {
      const last = versions.findLastIndex(({ request }) => request <= prefix);
      if (last > 0) this.#versions[block] = versions.slice(last);
    }
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
