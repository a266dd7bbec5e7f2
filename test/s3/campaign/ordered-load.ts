/**
 * A load of stamped blocks on one connection, whose order is the volume's: so every state that the volume may be found in is that after a prefix of its requests.
 * It remembers which prefix was promised: by answers (a server that is killed keeps those), by drains (a bucket keeps those).
 */
import { type NbdClient, NbdRequestError } from '../../support/nbd-client.ts';
import { isDisconnection } from '../../crash/disconnection.ts';
import { PrefixHistory } from '../../crash/prefix-history.ts';
import type { SeededRandom } from '../../crash/random.ts';
import { fillStamp } from '../../crash/stamp.ts';
import type { Mutation } from '../../crash/volume-image.ts';

export const BLOCK_BYTES = 4096;

export interface LoadShape {
  readonly sizeBytes: number;
  /** Requests in flight. */
  readonly depth: number;
  readonly random: SeededRandom;
}

/** How a run of the load ended: it was told to, its connection broke, or a request was answered with an error. */
export type LoadEnd = 'stopped' | 'disconnected' | NbdRequestError;

export class OrderedLoad {
  readonly history: PrefixHistory;
  readonly #shape: LoadShape;
  #sent = 0;
  #acknowledged = 0;
  #flushed = 0;
  #drained = 0;
  #isStopping = false;
  /** Of all runs. */
  readonly counts = { changes: 0, bytes: 0, reads: 0, flushes: 0 };

  constructor(shape: LoadShape) {
    this.#shape = shape;
    this.history = new PrefixHistory({ sizeBytes: shape.sizeBytes, blockBytes: BLOCK_BYTES });
  }

  /** What a killed server must have when it comes back: all that was answered. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** What a lost machine's disk must have when it comes back. */
  get flushed(): number {
    return this.#flushed;
  }

  /** What the bucket must have. */
  get drained(): number {
    return this.#drained;
  }

  /** Notes what a drain promises that begins now; to be called with what this returned when it is done. */
  beginDrain(): number {
    return this.#acknowledged;
  }

  endDrain(prefix: number): void {
    this.#drained = Math.max(this.#drained, prefix);
  }

  /** Loads an export until `stop`, the end of its connection, or an error. Rejects when a read returns what was not written. */
  async run(client: NbdClient, onAnswer: () => void): Promise<LoadEnd> {
    this.#isStopping = false;
    let end: LoadEnd | null = null;
    const lane = async (): Promise<void> => {
      while (end === null && !this.#isStopping) {
        try {
          await this.#step(client);
          onAnswer();
        } catch (error) {
          if (error instanceof NbdRequestError) end ??= error;
          else if (isDisconnection(error)) end ??= 'disconnected';
          else throw error;
        }
      }
    };
    await Promise.all(Array.from({ length: this.#shape.depth }, lane));
    return end ?? 'stopped';
  }

  stop(): void {
    this.#isStopping = true;
  }

  /** Reads all of the volume. It is that after at least `atLeast` and at most `atMost` of the requests, or this rejects; returns how many (the least that is possible). */
  async check(client: NbdClient, what: string, { atLeast, atMost }: { readonly atLeast: number; readonly atMost: number }): Promise<{ readonly prefix: number; readonly image: Uint8Array }> {
    const image = await readWhole(client, this.#shape.sizeBytes);
    const found = this.history.find(image, { atLeast, atMost });
    if ('problem' in found) throw new Error(`${what}: ${found.problem}; ${this.history.requests} requests were sent, ${this.#acknowledged} answered, ${this.#flushed} flushed, ${this.#drained} drained`);
    return { prefix: found.prefix, image };
  }

  /** The volume is what was found, and will never be older again than `keep` requests. */
  settle({ prefix, image }: { readonly prefix: number; readonly image: Uint8Array }, keep: number): void {
    this.history.cutTo(prefix, image);
    this.history.forgetBefore(keep);
    this.#acknowledged = this.history.requests;
    this.#flushed = Math.min(this.#flushed, this.#acknowledged);
    this.#drained = Math.max(this.#drained, keep);
  }

  /** For long loads of which only the last answer counts: what the volume was before is not kept any more. */
  forgetAnswered(): void {
    this.history.forgetBefore(this.#acknowledged);
  }

  async #step(client: NbdClient): Promise<void> {
    const { random } = this.#shape;
    const choice = random.next();
    if (choice < 0.1) await this.#read(client);
    else if (choice < 0.16) await this.#flush(client);
    else await this.#change(client);
  }

  async #read(client: NbdClient): Promise<void> {
    const { offsetBytes, lengthBytes } = this.#chooseRange();
    const atLeast = this.#acknowledged;
    const bytes = await client.read(offsetBytes, lengthBytes);
    const problem = this.history.problemOfBlocks(offsetBytes, bytes, atLeast);
    if (problem !== null) throw new Error(problem);
    this.counts.reads += 1;
  }

  async #flush(client: NbdClient): Promise<void> {
    const prefix = this.#acknowledged;
    await client.flush();
    this.#flushed = Math.max(this.#flushed, prefix);
    this.counts.flushes += 1;
  }

  async #change(client: NbdClient): Promise<void> {
    const { random } = this.#shape;
    const choice = random.next();
    const kind = choice < 0.85 ? 'stamp' : choice < 0.93 ? 'zero' : 'trim';
    this.#sent += 1;
    const mutation: Mutation = { request: this.#sent, connection: 1, kind, ...this.#chooseRange() };
    const prefix = this.history.add(mutation);
    const fua = random.chance(0.1);
    await send(client, mutation, fua);
    // Requests are carried out in order, so all before it are done, too.
    this.#acknowledged = Math.max(this.#acknowledged, prefix);
    if (fua) this.#flushed = Math.max(this.#flushed, prefix);
    this.counts.changes += 1;
    this.counts.bytes += mutation.lengthBytes;
  }

  /** Whole blocks: a part of one that must be read first would be carried out later than what follows it. Half of them fall into a small area, which is overwritten all the time. */
  #chooseRange(): { readonly offsetBytes: number; readonly lengthBytes: number } {
    const { random, sizeBytes } = this.#shape;
    const blocks = (random.chance(0.5) ? Math.min(sizeBytes, 256 * 1024) : sizeBytes) / BLOCK_BYTES;
    const count = Math.min(blocks, random.pick([1, 1, 1, 2, 4, 8, 32]));
    return { offsetBytes: random.below(blocks - count + 1) * BLOCK_BYTES, lengthBytes: count * BLOCK_BYTES };
  }
}

function send(client: NbdClient, mutation: Mutation, fua: boolean): Promise<void> {
  const { offsetBytes, lengthBytes } = mutation;
  if (mutation.kind === 'trim') return client.trim(offsetBytes, lengthBytes, fua);
  if (mutation.kind === 'zero') return client.zero(offsetBytes, lengthBytes, { fua, provisioned: false });
  const data = new Uint8Array(lengthBytes);
  fillStamp(data, offsetBytes, mutation);
  return client.write(offsetBytes, data, fua);
}

const READ_BYTES = 1024 * 1024;

async function readWhole(client: NbdClient, sizeBytes: number): Promise<Uint8Array> {
  const image = new Uint8Array(sizeBytes);
  for (let offset = 0; offset < sizeBytes; offset += READ_BYTES) image.set(await client.read(offset, Math.min(READ_BYTES, sizeBytes - offset)), offset);
  return image;
}
