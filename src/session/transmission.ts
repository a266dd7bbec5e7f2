/**
 * The transmission phase of one connection: parses requests, hands them to the device and answers them.
 *
 * Requests are taken in order, as far as the limits allow, and answered as they end. Nothing here waits: what cannot go on
 * makes `parse` return BLOCKED with the request still unconsumed, and `wake` asks for another turn, which parses it again.
 */
import { assert } from '../base/assert.ts';
import { VolumeError } from '../base/errors.ts';
import type { ServerSettings } from '../base/settings-types.ts';
import {
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_ESHUTDOWN,
} from '../protocol/constants.ts';
import {
  encodeSimpleReply,
  isRequest,
  REQUEST_BYTES,
  REQUEST_COOKIE_AT,
  requestCommand,
  requestFlags,
  requestLength,
  requestOffset,
  SIMPLE_REPLY_BYTES,
} from '../protocol/transmission.ts';
import { COOKIE_BYTES, copyCookie } from '../protocol/wire.ts';
import type { Admission, BlockDevice } from '../volume/block-device.ts';
import { bufferClassBytes, type BufferPool } from './buffer-pool.ts';
import { type Bounds, refusalOf, SKIPPED_PAYLOAD_BYTES_MAX } from './commands.ts';
import { nbdErrorOf } from './errno.ts';
import { BLOCKED, BROKEN, LEAVING, type SessionEvent } from './host.ts';
import type { InputWindow, PayloadLease } from './input-window.ts';
import type { PayloadBudget, Reservation } from './payload-budget.ts';
import type { ReplyBudget } from './reply-budget.ts';
import type { ReplyQueue } from './reply-queue.ts';
import { Request, type RequestOwner } from './request.ts';

/** Reads from this size on are lent by the device: below it a copy costs less than a part of its own. */
const LENT_READ_BYTES_MIN = 32 * 1024;

/** Data of a read that had to wait is copied beside other replies up to this size; above it, it is a part of its own. */
const GATHERED_READ_BYTES_MAX = 32 * 1024;

const CONSUMED = 0;

export interface TransmissionOptions {
  readonly device: BlockDevice;
  /** For this client, whatever the device can do. */
  readonly readOnly: boolean;
  readonly settings: ServerSettings;
  readonly replies: ReplyQueue;
  readonly pool: BufferPool;
  readonly budget: PayloadBudget;
  readonly replyBudget: ReplyBudget;
  /** Asks for a turn: replies are ready, or `parse` may get on. */
  readonly wake: () => void;
  readonly report: (event: SessionEvent) => void;
}

function volumeError(error: unknown): VolumeError {
  if (error instanceof VolumeError) return error;
  throw error; // a mistake of our own: it ends the process
}

export class Transmission implements RequestOwner {
  readonly device: BlockDevice;
  readonly #bounds: Bounds;
  readonly #settings: ServerSettings;
  readonly #replies: ReplyQueue;
  readonly #pool: BufferPool;
  readonly #budget: PayloadBudget;
  readonly #replyBudget: ReplyBudget;
  readonly #wake: () => void;
  readonly #report: (event: SessionEvent) => void;
  readonly #idleRequests: Request[] = [];

  #inFlight = 0;
  #submitDue = false;
  /** The device has no room, and `whenAdmitting` has not settled. */
  #deviceFull = false;
  /** Why `whenAdmitting` failed: the answer to the request that waited. */
  #admissionError: VolumeError | null = null;
  /** Memory for the payload of a request that has to wait for the disk. */
  #reservation: Reservation | null = null;
  #skipBytes = 0;
  #skipError = 0;
  readonly #skipCookie = new Uint8Array(COOKIE_BYTES);
  #shuttingDown = false;
  #gone = false;

  requestCount = 0;
  readBytes = 0;
  writtenBytes = 0;

  constructor(options: TransmissionOptions) {
    this.device = options.device;
    this.#bounds = options.readOnly ? { sizeBytes: options.device.sizeBytes, readOnly: true } : options.device;
    this.#settings = options.settings;
    this.#replies = options.replies;
    this.#pool = options.pool;
    this.#budget = options.budget;
    this.#replyBudget = options.replyBudget;
    this.#wake = options.wake;
    this.#report = options.report;
  }

  /** Requests that are not answered yet. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Whether a payload is being skipped. */
  get skipping(): boolean {
    return this.#skipBytes > 0;
  }

  /** From now on every request is answered ESHUTDOWN. */
  shutdown(): void {
    this.#shuttingDown = true;
  }

  /** The socket is gone: nothing is answered any more; requests under way still end. */
  disconnected(): void {
    this.#gone = true;
    this.#dropReservation();
    this.#replyBudget.leave(this.#wake);
  }

  /** Consumes requests; returns how many bytes the next one takes, or BLOCKED, LEAVING or BROKEN. */
  parse(window: InputWindow): number {
    for (;;) {
      if (this.#skipBytes > 0 && !this.#skip(window)) return 1;
      const have = window.end - window.start;
      if (have < REQUEST_BYTES) return REQUEST_BYTES;
      if (this.#mustWait()) return BLOCKED;
      if (!isRequest(window.bytes, window.start)) return this.#broken('a request does not start with its magic number');
      const command = requestCommand(window.bytes, window.start);
      const outcome = command === NBD_CMD_WRITE ? this.#write(window, have) : this.#withoutPayload(window, command);
      if (outcome !== CONSUMED) return outcome;
      this.requestCount += 1;
    }
  }

  /** Ends the turn for the device. */
  submit(): void {
    if (!this.#submitDue) return;
    this.#submitDue = false;
    this.device.submit();
  }

  requestEnded(request: Request, error: VolumeError | null): void {
    this.#inFlight -= 1;
    this.#idleRequests.push(request);
    if (!this.#gone) this.#replies.simple(error === null ? 0 : this.#errorOf(request, error), request.cookie, 0);
    this.#wake();
  }

  #mustWait(): boolean {
    return (
      this.#inFlight >= this.#settings.maxRequestsInFlight ||
      this.#replies.queuedBytes >= this.#settings.maxReplyBytes ||
      this.#deviceFull ||
      (this.#reservation !== null && !this.#reservation.granted)
    );
  }

  #broken(message: string): number {
    this.#report({ kind: 'protocol-error', message });
    return BROKEN;
  }

  #admitted(error: VolumeError | null): void {
    this.#deviceFull = false;
    this.#admissionError = error;
    this.#wake();
  }

  #errorOf(request: Request, error: VolumeError): number {
    const { command, offsetBytes, lengthBytes } = request;
    this.#report({ kind: 'request-failed', command, offsetBytes, lengthBytes, error });
    return nbdErrorOf(error.code);
  }

  #refusal(command: number, flags: number, offsetBytes: number, lengthBytes: number): number {
    if (this.#shuttingDown) return NBD_ESHUTDOWN;
    return refusalOf(this.#bounds, command, flags, offsetBytes, lengthBytes, this.#settings.maxRequestBytes);
  }

  #begin(window: InputWindow, command: number, offsetBytes: number, lengthBytes: number): Request {
    const request = this.#idleRequests.pop() ?? new Request(this);
    request.begin(window.bytes, window.start + REQUEST_COOKIE_AT, command, offsetBytes, lengthBytes);
    this.#inFlight += 1;
    return request;
  }

  /** Ends a request without the answer of `requestEnded`. */
  #putBack(request: Request): void {
    request.end();
    this.#inFlight -= 1;
    this.#idleRequests.push(request);
  }

  #write(window: InputWindow, have: number): number {
    const { bytes, start } = window;
    const flags = requestFlags(bytes, start);
    const offsetBytes = requestOffset(bytes, start);
    const lengthBytes = requestLength(bytes, start);
    const refusal = this.#refusal(NBD_CMD_WRITE, flags, offsetBytes, lengthBytes);
    if (refusal !== 0) return this.#refuseWrite(window, lengthBytes, refusal);
    if (have < REQUEST_BYTES + lengthBytes) return REQUEST_BYTES + lengthBytes;

    const fua = (flags & NBD_CMD_FLAG_FUA) !== 0;
    const request = this.#begin(window, NBD_CMD_WRITE, offsetBytes, lengthBytes);
    const admission = this.#writeNow(request, bytes, start + REQUEST_BYTES, fua);
    if (admission === 'full') return this.#waitForDevice(request);
    if (admission === 'partial' && !this.#writeLater(window, request, fua)) return BLOCKED;
    if (admission === 'accepted') window.start += REQUEST_BYTES + lengthBytes;
    if (this.#reservation !== null) this.#dropReservation();
    this.writtenBytes += lengthBytes;
    return CONSUMED;
  }

  #writeNow(request: Request, source: Uint8Array, sourceStart: number, fua: boolean): Admission {
    if (this.#admissionError !== null) return this.#failAdmission(request, this.#admissionError);
    this.#submitDue = true;
    try {
      return this.device.writeNow(request.offsetBytes, request.lengthBytes, source, sourceStart, fua, request);
    } catch (error) {
      request.settle(volumeError(error));
      return 'accepted';
    }
  }

  /** A write that must read first: its payload leaves the window. False: there is no memory for it now. */
  #writeLater(window: InputWindow, request: Request, fua: boolean): boolean {
    const { bytes, start } = window;
    const totalBytes = REQUEST_BYTES + request.lengthBytes;
    let lease = window.detachPayload(totalBytes);
    let payloadStart = start + REQUEST_BYTES;
    if (lease === null) {
      lease = this.#copyPayload(bytes, payloadStart, request.lengthBytes);
      if (lease === null) {
        this.#putBack(request);
        return false;
      }
      payloadStart = 0;
      window.start += totalBytes;
    }
    this.#writeFrom(lease, payloadStart, request, fua);
    return true;
  }

  #copyPayload(source: Uint8Array, sourceStart: number, lengthBytes: number): PayloadLease | null {
    this.#reservation ??= this.#budget.reserve(bufferClassBytes(lengthBytes), this.#wake);
    const reservation = this.#reservation;
    if (!reservation.granted) return null;
    this.#reservation = null;
    const buffer = this.#pool.take(lengthBytes);
    buffer.set(source.subarray(sourceStart, sourceStart + lengthBytes));
    return { buffer, reservation };
  }

  #writeFrom(lease: PayloadLease, payloadStart: number, request: Request, fua: boolean): void {
    const payload = lease.buffer.subarray(payloadStart, payloadStart + request.lengthBytes);
    const end = (error: VolumeError | null): void => {
      this.#pool.give(lease.buffer);
      lease.reservation.release();
      request.settle(error);
    };
    this.device.write(request.offsetBytes, payload, fua).then(
      () => end(null),
      (error: unknown) => end(volumeError(error)),
    );
  }

  /** Answers once the payload is out of the way: the client sends it in any case. */
  #refuseWrite(window: InputWindow, lengthBytes: number, error: number): number {
    if (lengthBytes > SKIPPED_PAYLOAD_BYTES_MAX) return this.#broken(`a write of ${lengthBytes} bytes is beyond every limit`);
    if (this.#reservation !== null) this.#dropReservation();
    copyCookie(window.bytes, window.start + REQUEST_COOKIE_AT, this.#skipCookie, 0);
    this.#skipError = error;
    this.#skipBytes = lengthBytes;
    window.start += REQUEST_BYTES;
    if (lengthBytes === 0) this.#replies.simple(error, this.#skipCookie, 0);
    return CONSUMED;
  }

  /** Drops what is there of a refused payload; true when it is gone and answered. */
  #skip(window: InputWindow): boolean {
    const dropped = Math.min(this.#skipBytes, window.end - window.start);
    window.start += dropped;
    this.#skipBytes -= dropped;
    if (this.#skipBytes > 0) return false;
    this.#replies.simple(this.#skipError, this.#skipCookie, 0);
    return true;
  }

  #dropReservation(): void {
    this.#reservation?.release();
    this.#reservation = null;
  }

  #withoutPayload(window: InputWindow, command: number): number {
    if (command === NBD_CMD_DISC) return LEAVING;
    const { bytes, start } = window;
    const flags = requestFlags(bytes, start);
    const offsetBytes = requestOffset(bytes, start);
    const lengthBytes = requestLength(bytes, start);
    const refusal = this.#refusal(command, flags, offsetBytes, lengthBytes);
    const outcome =
      refusal !== 0
        ? this.#answer(window, refusal)
        : command === NBD_CMD_READ
          ? this.#read(window, offsetBytes, lengthBytes)
          : this.#change(this.#begin(window, command, offsetBytes, lengthBytes), flags);
    if (outcome === CONSUMED) window.start += REQUEST_BYTES;
    return outcome;
  }

  #answer(window: InputWindow, error: number): number {
    this.#replies.simple(error, window.bytes, window.start + REQUEST_COOKIE_AT);
    return CONSUMED;
  }

  /** FLUSH, TRIM, WRITE_ZEROES, CACHE. */
  #change(request: Request, flags: number): number {
    const { command, offsetBytes, lengthBytes } = request;
    if (command === NBD_CMD_CACHE) return this.#settleLater(request, this.device.cache(offsetBytes, lengthBytes));
    if (this.#admissionError !== null && command !== NBD_CMD_FLUSH) {
      this.#failAdmission(request, this.#admissionError);
      return CONSUMED;
    }
    const fua = (flags & NBD_CMD_FLAG_FUA) !== 0;
    const provisioned = (flags & NBD_CMD_FLAG_NO_HOLE) !== 0;
    const admission = this.#changeNow(request, fua, provisioned);
    if (admission === 'full') return this.#waitForDevice(request);
    if (admission === 'accepted') return CONSUMED;
    // Zeroes that cut through a block read its rest first. That is as quick as FAST_ZERO wants it: never slower than a write.
    assert(command === NBD_CMD_WRITE_ZEROES, 'only writes and zeroes are partial');
    return this.#settleLater(request, this.device.zero(offsetBytes, lengthBytes, { provisioned, fua }));
  }

  #changeNow(request: Request, fua: boolean, provisioned: boolean): Admission {
    const { offsetBytes, lengthBytes } = request;
    this.#submitDue = true;
    try {
      switch (request.command) {
        case NBD_CMD_FLUSH:
          this.device.flushNow(request);
          return 'accepted';
        case NBD_CMD_TRIM:
          return this.device.trimNow(offsetBytes, lengthBytes, fua, request);
        default:
          assert(request.command === NBD_CMD_WRITE_ZEROES, 'every command that is not refused is carried out');
          return this.device.zeroNow(offsetBytes, lengthBytes, { provisioned, fua }, request);
      }
    } catch (error) {
      request.settle(volumeError(error));
      return 'accepted';
    }
  }

  #settleLater(request: Request, ended: Promise<void>): number {
    ended.then(
      () => request.settle(null),
      (error: unknown) => request.settle(volumeError(error)),
    );
    return CONSUMED;
  }

  #waitForDevice(request: Request): number {
    this.#putBack(request);
    this.#deviceFull = true;
    // At once, not behind `submit`: that may be what makes room, and nobody would hear of it.
    this.device.whenAdmitting().then(
      () => this.#admitted(null),
      (error: unknown) => this.#admitted(volumeError(error)),
    );
    return BLOCKED;
  }

  #failAdmission(request: Request, error: VolumeError): Admission {
    this.#admissionError = null;
    request.settle(error);
    return 'accepted';
  }

  #read(window: InputWindow, offsetBytes: number, lengthBytes: number): number {
    const replies = this.#replies;
    const replyBytes = SIMPLE_REPLY_BYTES + lengthBytes;
    if (replies.queuedBytes > 0 && replies.queuedBytes + replyBytes > this.#settings.maxReplyBytes) return BLOCKED;
    if (!this.#replyBudget.admits(replies.queuedBytes, replyBytes, this.#wake)) return BLOCKED;
    try {
      const lent = lengthBytes >= LENT_READ_BYTES_MIN && this.#readLent(window, offsetBytes, lengthBytes);
      if (!lent) this.#readCopied(window, offsetBytes, lengthBytes);
    } catch (error) {
      return this.#failRead(window, offsetBytes, lengthBytes, volumeError(error));
    }
    this.readBytes += lengthBytes;
    return CONSUMED;
  }

  /** Answers with bytes that stay where they are; false where that is not possible. */
  #readLent(window: InputWindow, offsetBytes: number, lengthBytes: number): boolean {
    const loan = this.device.lend(offsetBytes, lengthBytes);
    if (loan === null) return false;
    this.#replies.lent(loan, lengthBytes, window.bytes, window.start + REQUEST_COOKIE_AT);
    return true;
  }

  /** Answers with a copy, at once if the device has everything in memory. */
  #readCopied(window: InputWindow, offsetBytes: number, lengthBytes: number): void {
    const replies = this.#replies;
    const replyBytes = SIMPLE_REPLY_BYTES + lengthBytes;
    const room = replies.room(replyBytes);
    const gathered = room >= 0;
    const buffer = gathered ? replies.gather : this.#pool.take(replyBytes);
    const at = gathered ? room : 0;
    let found = false;
    try {
      found = this.device.readNow(offsetBytes, lengthBytes, buffer, at + SIMPLE_REPLY_BYTES);
    } catch (error) {
      if (!gathered) this.#pool.give(buffer);
      throw error;
    }
    if (!found) {
      const request = this.#begin(window, NBD_CMD_READ, offsetBytes, lengthBytes);
      this.#readLater(request, gathered ? this.#pool.take(replyBytes) : buffer);
      return;
    }
    encodeSimpleReply(buffer, at, 0, window.bytes, window.start + REQUEST_COOKIE_AT);
    if (gathered) replies.commit(replyBytes);
    else replies.part(buffer, replyBytes);
  }

  #failRead(window: InputWindow, offsetBytes: number, lengthBytes: number, error: VolumeError): number {
    this.#report({ kind: 'request-failed', command: NBD_CMD_READ, offsetBytes, lengthBytes, error });
    return this.#answer(window, nbdErrorOf(error.code));
  }

  /** `buffer` takes the whole reply. Its size counts as queued from now on, so that slow reads cannot pile up memory. */
  #readLater(request: Request, buffer: Uint8Array): void {
    const replyBytes = SIMPLE_REPLY_BYTES + request.lengthBytes;
    this.#replies.promise(replyBytes);
    this.device.read(request.offsetBytes, buffer.subarray(SIMPLE_REPLY_BYTES, replyBytes)).then(
      () => this.#readEnded(request, buffer, null),
      (error: unknown) => this.#readEnded(request, buffer, volumeError(error)),
    );
  }

  #readEnded(request: Request, buffer: Uint8Array, error: VolumeError | null): void {
    const replies = this.#replies;
    const replyBytes = SIMPLE_REPLY_BYTES + request.lengthBytes;
    replies.promise(-replyBytes);
    if (this.#gone || error !== null) {
      this.#pool.give(buffer);
      request.settle(error);
      return;
    }
    this.#putBack(request);
    encodeSimpleReply(buffer, 0, 0, request.cookie, 0);
    if (request.lengthBytes <= GATHERED_READ_BYTES_MAX) {
      const at = replies.room(replyBytes);
      replies.gather.set(buffer.subarray(0, replyBytes), at);
      replies.commit(replyBytes);
      this.#pool.give(buffer);
    } else {
      replies.part(buffer, replyBytes);
    }
    this.#wake();
  }
}
