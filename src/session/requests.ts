/** The requests of one transmission that are under way, and the answers to requests: what its parts share. */
import { VolumeError } from '../base/errors.ts';
import type { ServerSettings } from '../base/settings-types.ts';
import { NBD_CMD_FLUSH } from '../protocol/constants.ts';
import { ChunkEncoder } from '../protocol/structured.ts';
import { REQUEST_COOKIE_AT } from '../protocol/transmission.ts';
import type { BlockDevice } from '../volume/block-device.ts';
import type { BufferPool } from './buffer-pool.ts';
import { nbdErrorOf } from './errno.ts';
import type { SessionEvent } from './host.ts';
import type { InputWindow } from './input-window.ts';
import type { ReplyBudget } from './reply-budget.ts';
import type { ReplyQueue } from './reply-queue.ts';
import { Request, type RequestOwner } from './request.ts';
import type { Terms } from './terms.ts';
import type { RequestMeter } from './traffic.ts';

export interface RequestsOptions {
  readonly device: BlockDevice;
  readonly terms: Terms;
  readonly settings: ServerSettings;
  readonly replies: ReplyQueue;
  readonly pool: BufferPool;
  readonly replyBudget: ReplyBudget;
  readonly meter: RequestMeter;
  /** Asks for a turn: replies are ready, or `parse` may get on. */
  readonly wake: () => void;
  readonly report: (event: SessionEvent) => void;
}

/** The error that the device ended a request with. */
export function volumeError(error: unknown): VolumeError {
  if (error instanceof VolumeError) return error;
  throw error; // a mistake of our own: it ends the process
}

export class Requests implements RequestOwner {
  readonly device: BlockDevice;
  readonly terms: Terms;
  readonly settings: ServerSettings;
  readonly replies: ReplyQueue;
  readonly pool: BufferPool;
  readonly wake: () => void;
  readonly meter: RequestMeter;
  /** Null for simple replies. */
  readonly chunks: ChunkEncoder | null;
  readonly #replyBudget: ReplyBudget;
  readonly #report: (event: SessionEvent) => void;
  readonly #idle: Request[] = [];
  #inFlight = 0;
  #gone = false;

  constructor(options: RequestsOptions) {
    this.device = options.device;
    this.terms = options.terms;
    this.settings = options.settings;
    this.replies = options.replies;
    this.pool = options.pool;
    this.wake = options.wake;
    this.meter = options.meter;
    this.chunks = options.terms.style === 'simple' ? null : new ChunkEncoder(options.terms.style === 'extended');
    this.#replyBudget = options.replyBudget;
    this.#report = options.report;
  }

  /** Requests that are not answered yet. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Nobody is there to be answered any more. */
  get gone(): boolean {
    return this.#gone;
  }

  disconnected(): void {
    this.#gone = true;
    this.#replyBudget.leave(this.wake);
  }

  /** Whether a reply of that size may be queued now; if not, `wake` is called when it is worth another try. */
  admitsReply(byteCount: number): boolean {
    const { queuedBytes } = this.replies;
    if (queuedBytes > 0 && queuedBytes + byteCount > this.settings.maxReplyBytes) return false;
    return this.#replyBudget.admits(queuedBytes, byteCount, this.wake);
  }

  begin(window: InputWindow, command: number, offsetBytes: number, lengthBytes: number): Request {
    const request = this.#idle.pop() ?? new Request(this);
    request.begin(window.bytes, window.start + REQUEST_COOKIE_AT, command, offsetBytes, lengthBytes, this.meter.arrivedMs);
    this.#inFlight += 1;
    this.meter.stats.begun();
    return request;
  }

  /** Forgets a request that was not begun after all. */
  putBack(request: Request): void {
    request.end();
    this.#ended(request);
  }

  /** Ends a request that is answered without `requestEnded`. */
  answered(request: Request): void {
    this.putBack(request);
    this.meter.answered(request.command, request.begunMs, request.lengthBytes);
  }

  #ended(request: Request): void {
    this.#inFlight -= 1;
    this.meter.stats.inFlight -= 1;
    this.#idle.push(request);
  }

  requestEnded(request: Request, error: VolumeError | null): void {
    this.#ended(request);
    if (!this.#gone) {
      if (error === null) this.#succeed(request);
      else this.fail(request, error, request.identity, 0);
    }
    this.wake();
  }

  /** Answers a request that has ended well and has no data. Only a READ must have a structured reply; a simple one is shorter. */
  #succeed({ command, begunMs, lengthBytes, identity }: Request): void {
    const { replies, chunks } = this;
    this.meter.answered(command, begunMs, lengthBytes);
    if (chunks === null || this.terms.style === 'structured') {
      replies.simple(0, identity, 0);
      return;
    }
    const at = replies.room(chunks.headerBytes);
    chunks.none(replies.gather, at, identity, 0);
    replies.commit(chunks.headerBytes);
  }

  /** Answers a request that the device has failed. */
  fail({ command, offsetBytes, lengthBytes }: Pick<Request, 'command' | 'offsetBytes' | 'lengthBytes'>, error: VolumeError, identity: Uint8Array, identityAt: number): void {
    this.meter.failed(command);
    this.#report({ kind: 'request-failed', command, offsetBytes, lengthBytes, error });
    const { blockNumber } = error.context;
    const place = typeof blockNumber === 'number' ? blockNumber * this.device.blockSizeBytes : null;
    // A block may begin before the request does; what lies elsewhere altogether is no place that the client asked about, and a FLUSH asks about none.
    const within = command !== NBD_CMD_FLUSH && place !== null && place < offsetBytes + lengthBytes && place + this.device.blockSizeBytes > offsetBytes;
    this.#error(nbdErrorOf(error.code), error.message, within ? Math.max(place, offsetBytes) : null, identity, identityAt);
  }

  /** Answers a request that is refused; `explain` says why, where replies have texts. */
  refuse(error: number, explain: () => string, identity: Uint8Array, identityAt: number): void {
    this.meter.stats.refused += 1;
    if (this.chunks === null) this.replies.simple(error, identity, identityAt);
    else this.#error(error, explain(), null, identity, identityAt);
  }

  #error(error: number, text: string, offsetBytes: number | null, identity: Uint8Array, identityAt: number): void {
    if (this.chunks === null) this.replies.simple(error, identity, identityAt);
    else this.replies.message(this.chunks.error({ error, text, offsetBytes }, identity, identityAt));
  }
}
