/**
 * One NBD connection as a state machine without a socket.
 *
 * A turn begins when bytes have arrived (`received`) or when something that the session waited for has ended (`deferred`). All
 * requests that are there are carried out, the device gets one `submit`, and what is answered by then leaves in one `send`.
 *
 *   handshake -> transmission -> leaving -> over
 *
 * `leaving`: no more input is looked at; what is under way is finished and answered. Reached by DISC, ABORT, the end of the client's
 * stream, and shutdown. `over`: the socket is the host's to close. STARTTLS leads there as well: behind it a session of its own begins.
 */
import { assert } from '../base/assert.ts';
import { encodeGreeting } from '../protocol/negotiation.ts';
import type { BlockDevice } from '../volume/block-device.ts';
import { Handshake } from './handshake.ts';
import { BLOCKED, BROKEN, LEAVING, SECURING, type SessionClient, type SessionHost, type SessionResources, TRUSTED_CLIENT } from './host.ts';
import { InputWindow } from './input-window.ts';
import { type ReplyBatch, ReplyQueue } from './reply-queue.ts';
import type { Terms } from './terms.ts';
import { RequestMeter } from './traffic.ts';
import { Transmission } from './transmission.ts';

export interface SessionCounters {
  readonly requestCount: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
}

/** What waited to begin for less than this is carried out, though the client has left: too short for a client to have sent it again elsewhere. */
const WAITED_MS = 20;
const NO_COUNTERS: SessionCounters = { requestCount: 0, readBytes: 0, writtenBytes: 0 };

export class Session {
  readonly #resources: SessionResources;
  readonly #host: SessionHost;
  readonly #replies: ReplyQueue;
  readonly #window: InputWindow;
  readonly #handshake: Handshake;
  #transmission: Transmission | null = null;
  #meter: RequestMeter | null = null;

  #inTurn = false;
  #wokenInTurn = false;
  #deferDue = false;
  /** Reading has stopped: the host waits for `resumeReading`. */
  #stopped = false;
  #targetGivenStopped = false;
  #targetBytes = 0;
  /** Since when input may wait that nobody has looked at: reading stopped then, and the socket was not found empty since. */
  #waitsSinceMs: number | null = null;
  /** What the last parse came to: bytes that the next message takes, or BLOCKED. */
  #outcome = 0;
  #inputEnded = false;
  #leaving = false;
  #broken = false;
  #securing = false;
  #over = false;
  #released = false;
  #shuttingDown = false;
  #receivedBytes = 0;

  constructor(resources: SessionResources, host: SessionHost, client: SessionClient = TRUSTED_CLIENT) {
    this.#resources = resources;
    this.#host = host;
    const wake = (): void => this.#wake();
    this.#replies = new ReplyQueue(resources.pool, resources.replyBudget, (batch) => this.#host.send(batch));
    this.#window = new InputWindow(resources, wake);
    this.#handshake = new Handshake({
      resources,
      client,
      replies: this.#replies,
      negotiated: (device, readOnly, terms) => this.#negotiated(device, readOnly, terms),
      refused: () => this.#leave(true),
      wake,
      report: (event) => host.report(event),
    });
  }

  /** Greets the client; one that TLS has begun with was greeted before. */
  start(): void {
    this.#replies.message(encodeGreeting());
    this.#replies.flush();
  }

  /** Whether the host shall read the socket. Once the session is over it reads on, and what it reads is dropped, unless it is TLS's. */
  get wantsInput(): boolean {
    return !this.#securing && (!this.#stopped || this.#over);
  }

  /** Whether the client is in the middle of a message and it is its turn to send. */
  get awaitsRest(): boolean {
    if (this.#stopped || this.#over) return false;
    return this.#window.end > this.#window.start || this.#transmission?.skipping === true;
  }

  /** Whether this connection's payload takes, or waits for, memory that others may be waiting for. */
  get usesPayloadMemory(): boolean {
    return this.#window.usesBudget;
  }

  /** Bytes that the kernel has taken so far. */
  get sentBytes(): number {
    return this.#replies.sentBytes;
  }

  /** Bytes that have arrived so far. */
  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  get inTransmission(): boolean {
    return this.#transmission !== null;
  }

  /** Whether a volume is being listed or opened for the client: the time is the server's. */
  get looksForVolume(): boolean {
    return this.#handshake.busy;
  }

  /** Whether the client has an export and is asking for nothing. */
  get asksForNothing(): boolean {
    return this.#transmission !== null && !this.#over && this.#isIdle(this.#transmission);
  }

  get counters(): SessionCounters {
    return this.#transmission ?? NO_COUNTERS;
  }

  /**
   * Where the next bytes shall land: the host asks before each read, or right after `received` for the read that comes next. The
   * place stays valid while reading is stopped.
   */
  readTarget(): Uint8Array {
    this.#targetGivenStopped = this.#stopped;
    const target = this.#window.readTarget(this.#stopped);
    this.#targetBytes = target.length;
    return target;
  }

  /** `byteCount` bytes have landed in the last `readTarget`. */
  received(byteCount: number): void {
    this.#receivedBytes += byteCount;
    if (this.#over) return;
    this.#window.received(byteCount, this.#targetGivenStopped);
    this.#stopped = false;
    const isEmptied = this.#host.emptiesSocket && byteCount < this.#targetBytes;
    this.#turn(true);
    if (isEmptied && !this.#stopped) this.#waitsSinceMs = null;
  }

  /** The client has closed its direction: what it asked for is finished and answered. */
  inputEnded(): void {
    this.#inputEnded = true;
    this.#turn(false);
  }

  /** The turn that `SessionHost.defer` promised. */
  deferred(): void {
    this.#deferDue = false;
    const wasStopped = this.#stopped;
    this.#turn(wasStopped);
    if (wasStopped && !this.#stopped && !this.#over) this.#host.resumeReading();
  }

  /** The kernel has taken a batch, or the socket has died. */
  sent(batch: ReplyBatch): void {
    this.#replies.sent(batch);
    if (!this.#over) this.#replies.flush();
    if (this.#stopped) this.#wake();
  }

  /** The socket is gone, for whatever reason, and reads no more. */
  disconnected(): void {
    this.#over = true;
    this.#abandon();
    this.#releaseWhenIdle();
  }

  /**
   * Refuses whatever comes from now on. The session ends when what is under way has ended; one that has nothing under way ends
   * by `leaveIfIdle`, which gives requests that are on their way the time to be refused.
   *
   * A client of simple replies is told nothing: it is the kernel's (others ask for structured ones), for which every error is a failed disk, while
   * requests without an answer are sent again on the next connection. It gets no answer but to what is under way.
   */
  shutdown(): void {
    this.#shuttingDown = true;
    this.#handshake.shutdown();
    this.#transmission?.shutdown();
    if (this.#transmission?.style !== 'simple') return;
    this.#transmission.endInput();
    this.#leaving = true;
    this.#turn(false);
  }

  leaveIfIdle(): void {
    if (this.#transmission === null || !this.#isIdle(this.#transmission)) return;
    this.#leaving = true;
    this.#turn(false);
  }

  #wake(): void {
    if (this.#inTurn) {
      this.#wokenInTurn = true;
    } else if (!this.#deferDue) {
      this.#deferDue = true;
      this.#host.defer();
    }
  }

  #turn(takesInput: boolean): void {
    assert(!this.#inTurn, 'turns do not nest');
    if (this.#over) {
      this.#releaseWhenIdle();
      return;
    }
    this.#inTurn = true;
    // What waits here arrived before it was blocked, as nothing is read meanwhile.
    if (takesInput && this.#outcome !== BLOCKED) this.#meter?.arrived();
    for (let again = true; again; ) {
      this.#wokenInTurn = false;
      if (takesInput && !this.#leaving) this.#parse();
      this.#transmission?.submit();
      this.#replies.flush();
      // What blocked the parser may have ended in `submit` already.
      again = takesInput && this.#wokenInTurn && this.#outcome === BLOCKED && !this.#leaving;
    }
    this.#meter?.turnEnded();
    if (takesInput) this.#keepInput();
    this.#inTurn = false;
    this.#leaveWhenDone();
  }

  #parse(): void {
    if (this.#meter !== null && this.#waitsSinceMs !== null && this.#isLeftWaiting(this.#meter, this.#waitsSinceMs)) {
      this.#host.report({ kind: 'left-waiting' });
      this.#transmission?.endInput();
      this.#leaving = true;
      return;
    }
    if (this.#transmission === null) this.#outcome = this.#handshake.parse(this.#window);
    if (this.#transmission !== null) this.#outcome = this.#transmission.parse(this.#window);
    if (this.#outcome === SECURING) this.#securing = true;
    if (this.#outcome === LEAVING || this.#outcome === SECURING) this.#leaving = true;
    if (this.#outcome === BROKEN) this.#leave(true);
  }

  /**
   * A client that does not get its answers (the kernel's, after `--timeout`) leaves, sends what it asked for again on another connection, and newer writes behind it. What it sent here and
   * was not begun must not be carried out behind those. So it is looked for right before anything is begun that may have waited, and stays true: what it sends elsewhere comes later.
   */
  #isLeftWaiting(meter: RequestMeter, sinceMs: number): boolean {
    const nowMs = this.#outcome === BLOCKED ? this.#resources.traffic.nowMs() : meter.arrivedMs; // just now, if nothing blocked
    if (nowMs - sinceMs < WAITED_MS) return false;
    return this.#inputEnded || this.#host.hasLeft();
  }

  #keepInput(): void {
    const window = this.#window;
    if (this.#leaving) {
      window.release();
      this.#stopped = true;
      return;
    }
    const blocked = this.#outcome === BLOCKED;
    const room = window.keep(blocked ? window.end - window.start : this.#outcome);
    this.#stopped = blocked || !room;
    if (this.#stopped && this.#meter !== null) this.#waitsSinceMs ??= this.#resources.traffic.nowMs();
  }

  #negotiated(device: BlockDevice, readOnly: boolean, terms: Terms): void {
    const { settings, directory, pool, budget, replyBudget, traffic, throttles } = this.#resources;
    const meter = new RequestMeter(traffic.of(device.name), traffic.nowMs);
    meter.stats.clients += 1;
    meter.arrived();
    this.#meter = meter;
    this.#transmission = new Transmission({
      device,
      readOnly,
      terms,
      settings,
      replies: this.#replies,
      pool,
      budget,
      replyBudget,
      meter,
      throttle: throttles.of(device.name, directory.limitsInForce(device.name)),
      wake: () => this.#wake(),
      report: (event) => this.#host.report(event),
    });
  }

  #leave(broken: boolean): void {
    this.#leaving = true;
    this.#broken = broken;
  }

  #isIdle(transmission: Transmission): boolean {
    return transmission.inFlight === 0 && !this.#stopped && !this.awaitsRest;
  }

  #leaveWhenDone(): void {
    const transmission = this.#transmission;
    if (this.#inputEnded && !(this.#stopped && this.#outcome === BLOCKED)) this.#leaving = true;
    if (this.#shuttingDown && transmission !== null && this.#isIdle(transmission)) this.#leaving = true;
    if (!this.#leaving) return;
    const underWay = this.#handshake.busy || (transmission !== null && transmission.inFlight > 0);
    if (underWay && !this.#broken) return;
    this.#replies.flushAll();
    this.#over = true;
    if (this.#broken) this.#abandon();
    if (this.#securing) this.#host.startTls(this.#handshake.clientFlags);
    else this.#host.finish(this.#broken);
    this.#releaseWhenIdle();
  }

  /** Nobody is there to be answered any more. */
  #abandon(): void {
    this.#handshake.disconnected();
    this.#transmission?.disconnected();
  }

  #releaseWhenIdle(): void {
    const transmission = this.#transmission;
    if (this.#released || this.#handshake.busy || (transmission !== null && transmission.inFlight > 0)) return;
    this.#released = true;
    this.#window.release();
    this.#replies.drop();
    if (transmission !== null) {
      transmission.meter.stats.clients -= 1;
      this.#resources.directory.release(transmission.device);
    }
    this.#host.released();
  }
}
