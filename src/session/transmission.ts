/**
 * The transmission phase of one connection: parses requests, hands them to the device and answers them.
 *
 * Requests are taken in order, as far as the limits allow, and answered as they end. Nothing here waits: what cannot go on
 * makes `parse` return BLOCKED with the request still unconsumed, and `wake` asks for another turn, which parses it again.
 */
import { assert } from '../base/assert.ts';
import type { VolumeError } from '../base/errors.ts';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ESHUTDOWN,
} from '../protocol/constants.ts';
import { decodeStatusPayload } from '../protocol/meta-context.ts';
import {
  EXTENDED_REQUEST_BYTES,
  extendedRequestLength,
  IDENTITY_BYTES,
  isExtendedRequest,
  isRequest,
  REQUEST_BYTES,
  REQUEST_COOKIE_AT,
  requestCommand,
  requestFlags,
  requestLength,
  requestOffset,
} from '../protocol/transmission.ts';
import type { Admission, BlockDevice } from '../volume/block-device.ts';
import { BlockStatus } from './block-status.ts';
import { bufferClassBytes } from './buffer-pool.ts';
import { type Bounds, explainRefusal, refusalOf, SKIPPED_PAYLOAD_BYTES_MAX } from './commands.ts';
import { BLOCKED, BROKEN, LEAVING, type SessionEvent } from './host.ts';
import type { InputWindow, PayloadLease } from './input-window.ts';
import type { MetaContext } from './meta-contexts.ts';
import type { PayloadBudget, Reservation } from './payload-budget.ts';
import { Reads } from './reads.ts';
import { copyIdentity, type Request } from './request.ts';
import { Requests, type RequestsOptions, volumeError } from './requests.ts';
import type { VolumeThrottle } from './throttle.ts';
import type { RequestMeter } from './traffic.ts';
import type { ReplyStyle } from './terms.ts';

const CONSUMED = 0;

export interface TransmissionOptions extends RequestsOptions {
  /** For this client, whatever the device can do. */
  readonly readOnly: boolean;
  readonly budget: PayloadBudget;
  readonly throttle: VolumeThrottle;
}

/** A device whose size may change, for a client that may not. */
function readOnlyBounds(device: BlockDevice): Bounds {
  return {
    readOnly: true,
    get sizeBytes() {
      return device.sizeBytes;
    },
  };
}

export class Transmission {
  readonly device: BlockDevice;
  readonly #bounds: Bounds;
  readonly #requests: Requests;
  readonly #reads: Reads;
  readonly #status: BlockStatus;
  readonly #budget: PayloadBudget;
  readonly #throttle: VolumeThrottle;
  readonly #wake: () => void;
  readonly #report: (event: SessionEvent) => void;
  readonly #isExtended: boolean;
  readonly #headerBytes: number;

  /** How far the request at the front of the window is with the limits of the volume. */
  #limitState: 'new' | 'waits' | 'passed' = 'new';
  #submitDue = false;
  /** The device has no room, and `whenAdmitting` has not settled. */
  #deviceFull = false;
  /** Why `whenAdmitting` failed: the answer to the request that waited. */
  #admissionError: VolumeError | null = null;
  /** Memory for the payload of a request that has to wait for the disk. */
  #reservation: Reservation | null = null;
  #skipBytes = 0;
  #skipError = 0;
  #skipText = '';
  readonly #skipIdentity = new Uint8Array(IDENTITY_BYTES);
  #shuttingDown = false;

  requestCount = 0;
  writtenBytes = 0;

  constructor(options: TransmissionOptions) {
    this.device = options.device;
    this.#bounds = options.readOnly ? readOnlyBounds(options.device) : options.device;
    this.#requests = new Requests(options);
    this.#reads = new Reads(this.#requests);
    this.#status = new BlockStatus(this.#requests);
    this.#isExtended = options.terms.style === 'extended';
    this.#headerBytes = this.#isExtended ? EXTENDED_REQUEST_BYTES : REQUEST_BYTES;
    this.#budget = options.budget;
    this.#throttle = options.throttle;
    this.#wake = options.wake;
    this.#report = options.report;
  }

  get style(): ReplyStyle {
    return this.#requests.terms.style;
  }

  /** Requests that are not answered yet. */
  get inFlight(): number {
    return this.#requests.inFlight;
  }

  get meter(): RequestMeter {
    return this.#requests.meter;
  }

  get readBytes(): number {
    return this.#reads.readBytes;
  }

  /** Whether a payload is being skipped. */
  get skipping(): boolean {
    return this.#skipBytes > 0;
  }

  /** From now on every request is answered ESHUTDOWN. */
  shutdown(): void {
    this.#shuttingDown = true;
    if (this.#limitState !== 'waits') return;
    this.#throttle.leave(this.#wake);
    this.#wake();
  }

  /** Nothing is parsed any more: the place in the line for memory, if one waits there, is for others. Requests under way are answered. */
  endInput(): void {
    this.#dropReservation();
    this.#throttle.leave(this.#wake);
  }

  /** The socket is gone: nothing is answered any more; requests under way still end. */
  disconnected(): void {
    this.endInput();
    this.#requests.disconnected();
  }

  /** Consumes requests; returns how many bytes the next one takes, or BLOCKED, LEAVING or BROKEN. */
  parse(window: InputWindow): number {
    for (;;) {
      if (this.#skipBytes > 0 && !this.#skip(window)) return 1;
      const have = window.end - window.start;
      if (have < this.#headerBytes) return this.#headerBytes;
      if (this.#mustWait()) {
        if (this.#limitState === 'waits') this.#throttle.leave(this.#wake); // others may have its turn
        return BLOCKED;
      }
      if (!this.#isRequest(window)) return this.#broken('a request does not start with its magic number');
      const command = requestCommand(window.bytes, window.start);
      if (!this.#throttle.isOff && !this.#passesLimits(window, command)) return BLOCKED;
      const outcome = command === NBD_CMD_WRITE ? this.#write(window, have) : this.#other(window, have, command);
      if (outcome !== CONSUMED) return outcome;
      this.#limitState = 'new';
      this.requestCount += 1;
    }
  }

  /** Ends the turn for the device. */
  submit(): void {
    if (!this.#submitDue) return;
    this.#submitDue = false;
    this.device.submit();
  }

  #isRequest({ bytes, start }: InputWindow): boolean {
    return this.#isExtended ? isExtendedRequest(bytes, start) : isRequest(bytes, start);
  }

  #length({ bytes, start }: InputWindow): number {
    return this.#isExtended ? extendedRequestLength(bytes, start) : requestLength(bytes, start);
  }

  #mustWait(): boolean {
    const requests = this.#requests;
    return (
      requests.inFlight >= requests.settings.maxRequestsInFlight ||
      requests.replies.queuedBytes >= requests.settings.maxReplyBytes ||
      this.#deviceFull ||
      (this.#reservation !== null && !this.#reservation.granted)
    );
  }

  /** Whether the limits of the volume let the request at the front of the window begin. FLUSH is never held up by them, nor is what ends a connection. */
  #passesLimits(window: InputWindow, command: number): boolean {
    if (this.#limitState === 'passed' || this.#shuttingDown || command === NBD_CMD_FLUSH || command === NBD_CMD_DISC) return true;
    const movesData = command === NBD_CMD_READ || command === NBD_CMD_WRITE || command === NBD_CMD_CACHE;
    // What is longer is refused, or is a hint that may cover the whole volume.
    const movedBytes = movesData ? Math.min(this.#length(window), this.#requests.settings.maxRequestBytes) : 0;
    if (this.#throttle.admits(movedBytes, this.#wake)) {
      this.#limitState = 'passed';
      return true;
    }
    if (this.#limitState === 'new') this.meter.stats.throttled += 1;
    this.#limitState = 'waits';
    return false;
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

  #refusal(command: number, flags: number, offsetBytes: number, lengthBytes: number): number {
    if (this.#shuttingDown) return NBD_ESHUTDOWN;
    const { settings, terms } = this.#requests;
    return refusalOf(this.#bounds, command, flags, offsetBytes, lengthBytes, settings.maxRequestBytes, terms);
  }

  #write(window: InputWindow, have: number): number {
    const { bytes, start } = window;
    const flags = requestFlags(bytes, start);
    const offsetBytes = requestOffset(bytes, start);
    const lengthBytes = this.#length(window);
    const refusal = this.#refusal(NBD_CMD_WRITE, flags, offsetBytes, lengthBytes);
    if (refusal !== 0) return this.#refuseWithPayload(window, lengthBytes, refusal);
    const totalBytes = this.#headerBytes + lengthBytes;
    if (have < totalBytes) return totalBytes;

    const fua = (flags & NBD_CMD_FLAG_FUA) !== 0;
    const request = this.#requests.begin(window, NBD_CMD_WRITE, offsetBytes, lengthBytes);
    const admission = this.#writeNow(request, bytes, start + this.#headerBytes, fua);
    if (admission === 'full') return this.#waitForDevice(request);
    if (admission === 'partial' && !this.#writeLater(window, request, fua)) return BLOCKED;
    if (admission === 'accepted') window.start += totalBytes;
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
    const totalBytes = this.#headerBytes + request.lengthBytes;
    let lease = window.detachPayload(totalBytes);
    let payloadStart = start + this.#headerBytes;
    if (lease === null) {
      lease = this.#copyPayload(bytes, payloadStart, request.lengthBytes);
      if (lease === null) {
        this.#requests.putBack(request);
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
    const buffer = this.#requests.pool.take(lengthBytes);
    buffer.set(source.subarray(sourceStart, sourceStart + lengthBytes));
    return { buffer, reservation };
  }

  #writeFrom(lease: PayloadLease, payloadStart: number, request: Request, fua: boolean): void {
    const payload = lease.buffer.subarray(payloadStart, payloadStart + request.lengthBytes);
    const end = (error: VolumeError | null): void => {
      this.#requests.pool.give(lease.buffer);
      lease.reservation.release();
      request.settle(error);
    };
    this.device.write(request.offsetBytes, payload, fua).then(
      () => end(null),
      (error: unknown) => end(volumeError(error)),
    );
  }

  /** Answers once the payload is out of the way: the client sends it in any case. */
  #refuseWithPayload(window: InputWindow, lengthBytes: number, error: number): number {
    if (lengthBytes > SKIPPED_PAYLOAD_BYTES_MAX) return this.#broken(`a payload of ${lengthBytes} bytes is beyond every limit`);
    if (this.#reservation !== null) this.#dropReservation();
    copyIdentity(window.bytes, window.start + REQUEST_COOKIE_AT, this.#skipIdentity);
    this.#skipError = error;
    this.#skipText = this.#requests.chunks === null ? '' : this.#explain(window, error);
    this.#skipBytes = lengthBytes;
    window.start += this.#headerBytes;
    if (lengthBytes === 0) this.#answerSkipped();
    return CONSUMED;
  }

  /** Drops what is there of a refused payload; true when it is gone and answered. */
  #skip(window: InputWindow): boolean {
    const dropped = Math.min(this.#skipBytes, window.end - window.start);
    window.start += dropped;
    this.#skipBytes -= dropped;
    if (this.#skipBytes > 0) return false;
    this.#answerSkipped();
    return true;
  }

  #answerSkipped(): void {
    this.#requests.refuse(this.#skipError, () => this.#skipText, this.#skipIdentity, 0);
  }

  /** Why the request at the front of the window is refused. */
  #explain(window: InputWindow, error: number): string {
    const { bytes, start } = window;
    return explainRefusal(this.#bounds, error, requestCommand(bytes, start), requestFlags(bytes, start), requestOffset(bytes, start), this.#length(window));
  }

  #dropReservation(): void {
    this.#reservation?.release();
    this.#reservation = null;
  }

  /** Everything but WRITE: without a payload, unless an extended header announces one. */
  #other(window: InputWindow, have: number, command: number): number {
    if (command === NBD_CMD_DISC) return LEAVING;
    const flags = requestFlags(window.bytes, window.start);
    if (this.#isExtended && (flags & NBD_CMD_FLAG_PAYLOAD_LEN) !== 0) return this.#withPayload(window, have, command, flags);
    const offsetBytes = requestOffset(window.bytes, window.start);
    const lengthBytes = this.#length(window);
    const refusal = this.#refusal(command, flags, offsetBytes, lengthBytes);
    const outcome =
      refusal !== 0
        ? this.#refuse(window, refusal)
        : command === NBD_CMD_READ
          ? this.#consumedIf(this.#reads.read(window, flags, offsetBytes, lengthBytes))
          : command === NBD_CMD_BLOCK_STATUS
            ? this.#blockStatus(window, { offsetBytes, lengthBytes, flags, contexts: this.#requests.terms.contexts })
            : this.#change(this.#requests.begin(window, command, offsetBytes, lengthBytes), flags);
    if (outcome === CONSUMED) window.start += this.#headerBytes;
    return outcome;
  }

  #consumedIf(isAnswered: boolean): number {
    return isAnswered ? CONSUMED : BLOCKED;
  }

  #refuse(window: InputWindow, error: number): number {
    this.#requests.refuse(error, () => this.#explain(window, error), window.bytes, window.start + REQUEST_COOKIE_AT);
    return CONSUMED;
  }

  #blockStatus(window: InputWindow, asked: { offsetBytes: number; lengthBytes: number; flags: number; contexts: readonly MetaContext[] }): number {
    const { offsetBytes, lengthBytes, flags, contexts } = asked;
    return this.#consumedIf(this.#status.answer(window, { offsetBytes, lengthBytes, one: (flags & NBD_CMD_FLAG_REQ_ONE) !== 0, contexts }));
  }

  /** A request of an extended header with a payload that is not a WRITE: BLOCK_STATUS may have one, which selects contexts. */
  #withPayload(window: InputWindow, have: number, command: number, flags: number): number {
    const { bytes, start } = window;
    const { terms } = this.#requests;
    const payloadBytes = this.#length(window);
    const payloadBytesMax = 8 + 4 * terms.contexts.length; // a longer one has an id that is unknown, or twice
    if (command !== NBD_CMD_BLOCK_STATUS || payloadBytes > payloadBytesMax) return this.#refuseWithPayload(window, payloadBytes, NBD_EINVAL);
    const totalBytes = this.#headerBytes + payloadBytes;
    if (have < totalBytes) return totalBytes;
    const contexts = this.#payloadContexts(bytes, start + this.#headerBytes, payloadBytes);
    const offsetBytes = requestOffset(bytes, start);
    const refusal = contexts === null ? NBD_EINVAL : this.#refusal(command, flags, offsetBytes, contexts.lengthBytes);
    const outcome = contexts === null || refusal !== 0 ? this.#refuse(window, refusal) : this.#blockStatus(window, { offsetBytes, flags, ...contexts });
    if (outcome === CONSUMED) window.start += totalBytes;
    return outcome;
  }

  /** What a payload of BLOCK_STATUS asks for; null if that is not in order: unknown ids, one twice, none. */
  #payloadContexts(source: Uint8Array, at: number, byteCount: number): { lengthBytes: number; contexts: MetaContext[] } | null {
    const asked = decodeStatusPayload(source, at, byteCount);
    if (asked === null || asked.contextIds.length === 0) return null;
    const contexts = this.#requests.terms.contexts.filter(({ id }) => asked.contextIds.includes(id));
    return contexts.length === asked.contextIds.length ? { lengthBytes: asked.lengthBytes, contexts } : null;
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
    this.#requests.putBack(request);
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
}
