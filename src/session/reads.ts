/**
 * Answering READ. A simple reply has one header and all data; a structured one may be of several chunks, so that what is not stored is told
 * as a hole: no memory is touched for it and no zeroes are sent.
 */
import { EXTENT, ExtentList } from '../base/extent-list.ts';
import type { VolumeError } from '../base/errors.ts';
import { NBD_CMD_FLAG_DF, NBD_CMD_READ } from '../protocol/constants.ts';
import type { ChunkEncoder } from '../protocol/structured.ts';
import { encodeSimpleReply, REQUEST_COOKIE_AT, SIMPLE_REPLY_BYTES } from '../protocol/transmission.ts';
import type { InputWindow } from './input-window.ts';
import { PiecedReply } from './pieced-reply.ts';
import { GATHERED_READ_BYTES_MAX, LENT_READ_BYTES_MIN } from './read-sizes.ts';
import type { Request } from './request.ts';
import { type Requests, volumeError } from './requests.ts';

/** Pieces of one reply; what lies behind so many of them is data, whatever it is. */
const PIECES_MAX = 64;

export class Reads {
  readonly #requests: Requests;
  /** What stands before the data of a reply of one piece. */
  readonly #prefixBytes: number;
  /** What stands where in the range that is being read; of use within the turn. */
  readonly #extents = new ExtentList('content', PIECES_MAX);
  readBytes = 0;

  constructor(requests: Requests) {
    this.#requests = requests;
    this.#prefixBytes = requests.chunks === null ? SIMPLE_REPLY_BYTES : requests.chunks.dataPrefixBytes;
  }

  /** Answers the READ at the front of the window, now or later; false if its reply has no room. It stays in the window. */
  read(window: InputWindow, flags: number, offsetBytes: number, lengthBytes: number): boolean {
    const requests = this.#requests;
    if (!requests.admitsReply(this.#prefixBytes + lengthBytes)) return false;
    try {
      if (requests.chunks === null) this.#readPiece(window, offsetBytes, lengthBytes, false);
      else this.#readChunks(window, requests.chunks, { offsetBytes, lengthBytes, whole: (flags & NBD_CMD_FLAG_DF) !== 0 });
    } catch (error) {
      requests.fail({ command: NBD_CMD_READ, offsetBytes, lengthBytes }, volumeError(error), window.bytes, window.start + REQUEST_COOKIE_AT);
      return true;
    }
    this.readBytes += lengthBytes;
    return true;
  }

  /** A READ was answered within the turn that took it. */
  #answered(lengthBytes: number): void {
    const { meter } = this.#requests;
    meter.answered(NBD_CMD_READ, meter.arrivedMs, lengthBytes);
  }

  #readChunks(window: InputWindow, chunks: ChunkEncoder, { offsetBytes, lengthBytes, whole }: { readonly offsetBytes: number; readonly lengthBytes: number; readonly whole: boolean }): void {
    const { device, replies } = this.#requests;
    const extents = this.#extents;
    extents.begin('content', PIECES_MAX);
    const known = device.extentsNow(offsetBytes, lengthBytes, extents);
    if (known && extents.count === 1 && extents.isZeroAt(0)) {
      const at = replies.room(chunks.holeBytes);
      chunks.hole(replies.gather, at, offsetBytes, lengthBytes, true, window.bytes, window.start + REQUEST_COOKIE_AT);
      replies.commit(chunks.holeBytes);
      this.#answered(lengthBytes);
    } else if (known && extents.count > 1 && !whole) {
      this.#readPieces(window, offsetBytes, lengthBytes);
    } else {
      this.#readPiece(window, offsetBytes, lengthBytes, !whole);
    }
  }

  #pieces(offsetBytes: number, lengthBytes: number, extents: ExtentList): PiecedReply {
    return new PiecedReply(this.#requests, { offsetBytes, lengthBytes, extents });
  }

  /** One piece of data. `mayHaveHoles`: they are looked for if the read has to wait. */
  #readPiece(window: InputWindow, offsetBytes: number, lengthBytes: number, mayHaveHoles: boolean): void {
    const lent = lengthBytes >= LENT_READ_BYTES_MIN && this.#readLent(window, offsetBytes, lengthBytes);
    if (!lent) this.#readCopied(window, offsetBytes, lengthBytes, mayHaveHoles);
  }

  #encodePrefix(target: Uint8Array, at: number, offsetBytes: number, lengthBytes: number, identity: Uint8Array, identityAt: number): void {
    const { chunks } = this.#requests;
    if (chunks === null) encodeSimpleReply(target, at, 0, identity, identityAt);
    else chunks.dataPrefix(target, at, offsetBytes, lengthBytes, true, identity, identityAt);
  }

  /** Answers with bytes that stay where they are; false where that is not possible. */
  #readLent(window: InputWindow, offsetBytes: number, lengthBytes: number): boolean {
    const { device, replies } = this.#requests;
    const loan = device.lend(offsetBytes, lengthBytes);
    if (loan === null) return false;
    const at = replies.room(this.#prefixBytes);
    this.#encodePrefix(replies.gather, at, offsetBytes, lengthBytes, window.bytes, window.start + REQUEST_COOKIE_AT);
    replies.commit(this.#prefixBytes);
    replies.lent(loan, lengthBytes);
    this.#answered(lengthBytes);
    return true;
  }

  /** Answers with a copy, at once if the device has everything in memory. */
  #readCopied(window: InputWindow, offsetBytes: number, lengthBytes: number, mayHaveHoles: boolean): void {
    const { device, pool, replies } = this.#requests;
    const replyBytes = this.#prefixBytes + lengthBytes;
    const room = replies.room(replyBytes);
    const gathered = room >= 0;
    const buffer = gathered ? replies.gather : pool.take(replyBytes);
    const at = gathered ? room : 0;
    let found = false;
    try {
      found = device.readNow(offsetBytes, lengthBytes, buffer, at + this.#prefixBytes);
    } catch (error) {
      if (!gathered) pool.give(buffer);
      throw error;
    }
    if (!found) {
      const request = this.#requests.begin(window, NBD_CMD_READ, offsetBytes, lengthBytes);
      this.#readLater(request, gathered ? pool.take(replyBytes) : buffer, mayHaveHoles);
      return;
    }
    this.#encodePrefix(buffer, at, offsetBytes, lengthBytes, window.bytes, window.start + REQUEST_COOKIE_AT);
    if (gathered) replies.commit(replyBytes);
    else replies.part(buffer, replyBytes);
    this.#answered(lengthBytes);
  }

  /** Data and holes: at once if all of the data is in memory, for a reader sees the volume as it was at one moment. */
  #readPieces(window: InputWindow, offsetBytes: number, lengthBytes: number): void {
    const { pool } = this.#requests;
    const buffer = pool.take(this.#prefixBytes + lengthBytes);
    const pieces = this.#pieces(offsetBytes, lengthBytes, this.#extents);
    let loans: ReturnType<PiecedReply['take']>;
    try {
      loans = pieces.take(buffer, this.#prefixBytes);
    } catch (error) {
      pool.give(buffer);
      throw error;
    }
    if (loans === null) {
      this.#readLater(this.#requests.begin(window, NBD_CMD_READ, offsetBytes, lengthBytes), buffer, true);
      return;
    }
    pieces.send({ identity: window.bytes, identityAt: window.start + REQUEST_COOKIE_AT, buffer, bufferStart: this.#prefixBytes, loans });
    this.#answered(lengthBytes);
  }

  /** `buffer` takes the whole reply. Its size counts as queued from now on, so that slow reads cannot pile up memory. */
  #readLater(request: Request, buffer: Uint8Array, mayHaveHoles: boolean): void {
    const replyBytes = this.#prefixBytes + request.lengthBytes;
    const extents = mayHaveHoles ? new ExtentList('content', PIECES_MAX) : null;
    this.#requests.replies.promise(replyBytes, buffer.length);
    const target = buffer.subarray(this.#prefixBytes, replyBytes);
    const { device } = this.#requests;
    (extents === null ? device.read(request.offsetBytes, target) : device.read(request.offsetBytes, target, extents)).then(
      () => this.#readEnded(request, buffer, extents, null),
      (error: unknown) => this.#readEnded(request, buffer, extents, volumeError(error)),
    );
  }

  #readEnded(request: Request, buffer: Uint8Array, extents: ExtentList | null, error: VolumeError | null): void {
    const { replies, pool, gone } = this.#requests;
    const { offsetBytes, lengthBytes, identity } = request;
    const replyBytes = this.#prefixBytes + lengthBytes;
    replies.promise(-replyBytes, -buffer.length);
    if (gone || error !== null) {
      pool.give(buffer);
      request.settle(error);
      return;
    }
    this.#requests.answered(request);
    const isWhole = extents === null || extents.count === 0 || (extents.count === 1 && extents.kindAt(0) === EXTENT.DATA);
    if (!isWhole) {
      this.#pieces(offsetBytes, lengthBytes, extents).send({ identity, identityAt: 0, buffer, bufferStart: this.#prefixBytes, loans: [] });
      this.#requests.wake();
      return;
    }
    this.#encodePrefix(buffer, 0, offsetBytes, lengthBytes, identity, 0);
    if (lengthBytes <= GATHERED_READ_BYTES_MAX) {
      const at = replies.room(replyBytes);
      replies.gather.set(buffer.subarray(0, replyBytes), at);
      replies.commit(replyBytes);
      pool.give(buffer);
    } else {
      replies.part(buffer, replyBytes);
    }
    this.#requests.wake();
  }
}
