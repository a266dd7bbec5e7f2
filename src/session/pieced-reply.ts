/** A structured reply to a READ in several chunks: data and holes in the order of the volume. */
import { assert } from '../base/assert.ts';
import type { ExtentList } from '../base/extent-list.ts';
import type { ChunkEncoder } from '../protocol/structured.ts';
import type { ReadLoan } from '../volume/block-device.ts';
import { GATHERED_READ_BYTES_MAX, LENT_READ_BYTES_MIN } from './read-sizes.ts';
import type { Requests } from './requests.ts';

interface ReadRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** What stands where; if it ends early, its last extent is taken for data up to the end of the range. */
  readonly extents: ExtentList;
}

/** What a reply is sent from. */
interface Sending {
  readonly identity: Uint8Array;
  readonly identityAt: number;
  /** A buffer of the pool, the queue's from now on, and where in it the bytes of the range begin. Holes in it are not looked at. */
  readonly buffer: Uint8Array;
  readonly bufferStart: number;
  /** For each extent the loan that its bytes are taken from instead, if there is one. */
  readonly loans: readonly (ReadLoan | null)[];
}

export class PiecedReply {
  readonly #requests: Requests;
  readonly #range: ReadRange;
  readonly #chunks: ChunkEncoder;

  constructor(requests: Requests, range: ReadRange) {
    assert(requests.chunks !== null, 'simple replies are of one piece');
    this.#requests = requests;
    this.#range = range;
    this.#chunks = requests.chunks;
  }

  #isHole(index: number): boolean {
    const { extents, lengthBytes } = this.#range;
    const isCut = index === extents.count - 1 && extents.totalBytes < lengthBytes;
    return extents.isZeroAt(index) && !isCut;
  }

  #lengthOf(index: number, start: number): number {
    const { extents, lengthBytes } = this.#range;
    return index === extents.count - 1 ? lengthBytes - start : extents.lengthAt(index);
  }

  /** Takes all data that is in memory, on loan or into `target` from `targetStart` on; null, with nothing taken, if some is not. */
  take(target: Uint8Array, targetStart: number): (ReadLoan | null)[] | null {
    const loans: (ReadLoan | null)[] = [];
    let complete = false;
    try {
      complete = this.#takeAll(target, targetStart, loans);
    } finally {
      if (!complete) for (const loan of loans) loan?.release();
    }
    return complete ? loans : null;
  }

  #takeAll(target: Uint8Array, targetStart: number, loans: (ReadLoan | null)[]): boolean {
    const { offsetBytes, extents } = this.#range;
    const { device } = this.#requests;
    let start = 0;
    for (let index = 0; index < extents.count; index += 1) {
      const length = this.#lengthOf(index, start);
      const isHole = this.#isHole(index);
      const loan = !isHole && length >= LENT_READ_BYTES_MIN ? device.lend(offsetBytes + start, length) : null;
      loans.push(loan);
      if (!isHole && loan === null && !device.readNow(offsetBytes + start, length, target, targetStart + start)) return false;
      start += length;
    }
    return true;
  }

  send({ identity, identityAt, buffer, bufferStart, loans }: Sending): void {
    const { offsetBytes, extents } = this.#range;
    const { replies, pool } = this.#requests;
    const chunks = this.#chunks;
    let sliced = false;
    let start = 0;
    for (let index = 0; index < extents.count; index += 1) {
      const length = this.#lengthOf(index, start);
      const done = index === extents.count - 1;
      const loan = loans.at(index) ?? null;
      const isHole = this.#isHole(index);
      const gathers = !isHole && loan === null && length <= GATHERED_READ_BYTES_MAX;
      const headBytes = isHole ? chunks.holeBytes : chunks.dataPrefixBytes;
      const chunkBytes = headBytes + (gathers ? length : 0);
      const at = replies.room(chunkBytes);
      if (isHole) chunks.hole(replies.gather, at, offsetBytes + start, length, done, identity, identityAt);
      else chunks.dataPrefix(replies.gather, at, offsetBytes + start, length, done, identity, identityAt);
      const bytes = buffer.subarray(bufferStart + start, bufferStart + start + length);
      if (gathers) replies.gather.set(bytes, at + headBytes);
      replies.commit(chunkBytes);
      if (loan !== null) replies.lent(loan, length);
      else if (!isHole && !gathers) {
        replies.slice(bytes);
        sliced = true;
      }
      start += length;
    }
    if (sliced) replies.adopt(buffer);
    else pool.give(buffer);
  }
}
