/**
 * Answering BLOCK_STATUS (NBD document, "NBD_CMD_BLOCK_STATUS"): one chunk for each context, of extents in order, equal neighbours merged.
 * Within the turn if the map is in memory and the range is short; else later.
 */
import { assert } from '../base/assert.ts';
import type { VolumeError } from '../base/errors.ts';
import { ExtentList } from '../base/extent-list.ts';
import { NBD_CMD_BLOCK_STATUS } from '../protocol/constants.ts';
import type { ChunkEncoder } from '../protocol/structured.ts';
import { REQUEST_COOKIE_AT } from '../protocol/transmission.ts';
import type { InputWindow } from './input-window.ts';
import type { MetaContext } from './meta-contexts.ts';
import { type Requests, volumeError } from './requests.ts';
import type { Request } from './request.ts';

/** The document's limit for one chunk. */
const EXTENTS_MAX = 1 << 20;

export interface StatusQuestion {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** One extent of each context is wanted. */
  readonly one: boolean;
  readonly contexts: readonly MetaContext[];
}

/** What was found for a question, and how it is to be told. */
interface FoundStatus {
  readonly chunks: ChunkEncoder;
  readonly lists: readonly ExtentList[];
  readonly contexts: readonly MetaContext[];
  readonly identity: Uint8Array;
  readonly identityAt: number;
}

export class BlockStatus {
  readonly #requests: Requests;

  constructor(requests: Requests) {
    this.#requests = requests;
  }

  /** Answers the request at the front of the window, now or later; false if its reply has no room. It stays in the window. */
  answer(window: InputWindow, question: StatusQuestion): boolean {
    const requests = this.#requests;
    const { chunks, device, replies } = requests;
    assert(chunks !== null, 'BLOCK_STATUS needs structured replies');
    const { offsetBytes, lengthBytes, contexts } = question;
    const limit = this.#limitOf(chunks, question);
    // The most that it can come to counts until it is known: it is memory that the answer may take.
    const mostBytes = contexts.length * (chunks.statusPrefixBytes + limit * chunks.extentBytes);
    if (!requests.admitsReply(mostBytes)) return false;
    const lists = contexts.map(({ detail }) => new ExtentList(detail, limit));
    try {
      if (lists.every((list) => device.extentsNow(offsetBytes, lengthBytes, list))) {
        this.#send({ chunks, lists, contexts, identity: window.bytes, identityAt: window.start + REQUEST_COOKIE_AT });
        requests.meter.answered(NBD_CMD_BLOCK_STATUS, requests.meter.arrivedMs, lengthBytes);
        return true;
      }
    } catch (error) {
      requests.fail({ command: NBD_CMD_BLOCK_STATUS, offsetBytes, lengthBytes }, volumeError(error), window.bytes, window.start + REQUEST_COOKIE_AT);
      return true;
    }
    const request = requests.begin(window, NBD_CMD_BLOCK_STATUS, offsetBytes, lengthBytes);
    replies.promise(mostBytes, mostBytes);
    this.#find(request, lists).then(
      () => this.#found(request, { chunks, lists, contexts, identity: request.identity, identityAt: 0 }, mostBytes, null),
      (error: unknown) => this.#found(request, { chunks, lists, contexts, identity: request.identity, identityAt: 0 }, mostBytes, volumeError(error)),
    );
    return true;
  }

  async #find({ offsetBytes, lengthBytes }: Request, lists: readonly ExtentList[]): Promise<void> {
    for (const list of lists) {
      list.clear();
      await this.#requests.device.extents(offsetBytes, lengthBytes, list);
    }
  }

  #found(request: Request, status: FoundStatus, promisedBytes: number, error: VolumeError | null): void {
    const requests = this.#requests;
    requests.replies.promise(-promisedBytes, -promisedBytes);
    if (requests.gone || error !== null) {
      request.settle(error);
      return;
    }
    requests.answered(request);
    this.#send(status);
    requests.wake();
  }

  #send({ chunks, lists, contexts, identity, identityAt }: FoundStatus): void {
    const { replies, pool } = this.#requests;
    for (const [index, list] of lists.entries()) {
      const context = contexts[index];
      const chunkBytes = chunks.statusPrefixBytes + list.count * chunks.extentBytes;
      const room = replies.room(chunkBytes);
      const buffer = room < 0 ? pool.take(chunkBytes) : replies.gather;
      let at = Math.max(0, room);
      chunks.statusPrefix(buffer, at, context.id, list.count, index === lists.length - 1, identity, identityAt);
      at += chunks.statusPrefixBytes;
      for (let extent = 0; extent < list.count; extent += 1, at += chunks.extentBytes) {
        chunks.extent(buffer, at, list.lengthAt(extent), context.statusOf(list.kindAt(extent)));
      }
      if (room < 0) replies.part(buffer, chunkBytes);
      else replies.commit(chunkBytes);
    }
  }

  /** How many extents a context may tell: as many as there can be, the document and the limit of replies allow. */
  #limitOf(chunks: ChunkEncoder, { offsetBytes, lengthBytes, one, contexts }: StatusQuestion): number {
    if (one) return 1;
    const { settings, device } = this.#requests;
    const { blockSizeBytes } = device;
    const blocks = Math.ceil((offsetBytes + lengthBytes) / blockSizeBytes) - Math.floor(offsetBytes / blockSizeBytes);
    const room = Math.floor(settings.maxReplyBytes / (contexts.length * chunks.extentBytes));
    return Math.max(1, Math.min(EXTENTS_MAX, blocks, room));
  }
}
