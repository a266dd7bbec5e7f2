/** One client: its socket, its session, and what is logged about them. */
import type net from 'node:net';
import { KIB } from '../base/units.ts';
import type { Logger, LogLevel } from '../env/env.ts';
import type { SessionEvent, SessionHost, SessionResources } from '../session/host.ts';
import type { ReplyBatch } from '../session/reply-queue.ts';
import { Session } from '../session/session.ts';
import { openTransport, type ReceivePath, type Transport } from './transport.ts';

/** A client in the middle of a request gets on if it sends this much between two looks, or ends the request. */
const PROGRESS_BYTES = 64 * KIB;
/** A client that holds memory which others wait for is dropped this much sooner. */
const CONTENDED_SHARE = 8;
/** Failed requests that are logged of one connection, before only every so-many-th is. */
const LOGGED_FAILURES = 10;
const LOGGED_FAILURE_INTERVAL = 1000;
/** How long the event loop stays awake for a client that takes its replies. */
const AWAKE_MS = 0.3;
/** When TCP asks a silent peer whether it is still there. */
const KEEP_ALIVE_MS = 60_000;

export interface ConnectionOptions {
  readonly id: number;
  readonly accepted: net.Socket;
  readonly listener: string;
  readonly resources: SessionResources;
  readonly receivePath: ReceivePath;
  readonly logger: Logger;
  /** The socket is closed and the session has given everything back. */
  readonly onEnded: (connection: Connection) => void;
}

export class Connection implements SessionHost {
  readonly session: Session;
  readonly #options: ConnectionOptions;
  readonly #transport: Transport;
  readonly #peer: string;
  readonly #unsent: ReplyBatch[] = [];
  readonly #onSent = (): void => {
    if (this.#awakeSinceMs > 0) this.#awakeSinceMs = performance.now();
    const batch = this.#unsent.shift();
    if (batch !== undefined) this.session.sent(batch);
  };
  /** When the kernel last took a batch, or was given one that it did not take at once; 0: nobody stays awake for it. */
  #awakeSinceMs = 0;
  readonly #look = (): void => {
    if (this.#unsent.length > 0 && performance.now() - this.#awakeSinceMs < AWAKE_MS) setImmediate(this.#look);
    else this.#awakeSinceMs = 0;
  };
  readonly #runDeferred = (): void => this.session.deferred();
  #handshakeTimer: NodeJS.Timeout | null = null;
  #lingerTimer: NodeJS.Timeout | null = null;
  #reason = 'client left';
  #exportName = '';
  #inputEnded = false;
  #closed = false;
  #released = false;
  #failureCount = 0;
  #progressBytes = 0;
  #progressRequests = 0;
  #stalledMs = 0;
  #takenBytes = 0;
  #untakenMs = 0;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    const { accepted, resources } = options;
    this.#peer = accepted.remoteAddress === undefined ? 'unix' : `${accepted.remoteAddress} ${accepted.remotePort}`;
    this.session = new Session(resources, this);
    this.#transport = openTransport(accepted, this.session, options.receivePath);
    const { socket } = this.#transport;
    socket.on('end', () => this.#onInputEnded());
    socket.on('error', (error) => this.#onError(error));
    socket.on('close', () => this.#onClosed());
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#startHandshakeTimer();
    this.#log('info', 'client-connected', { receivePath: this.#transport.path });
    this.session.start();
  }

  /** Cuts the connection off. */
  drop(reason: string): void {
    if (this.#closed) return;
    this.#reason = reason;
    this.#transport.socket.destroy();
  }

  /** Looks whether the client still gets on; called every `intervalMs`. */
  checkProgress(intervalMs: number): void {
    this.#checkReplies(intervalMs);
    const { receivedBytes, counters, awaitsRest, usesPayloadMemory } = this.session;
    const gotOn = counters.requestCount !== this.#progressRequests || receivedBytes - this.#progressBytes >= PROGRESS_BYTES;
    if (!awaitsRest || gotOn) {
      this.#progressBytes = receivedBytes;
      this.#progressRequests = counters.requestCount;
      this.#stalledMs = 0;
      return;
    }
    this.#stalledMs += intervalMs;
    const { settings, budget } = this.#options.resources;
    const contended = usesPayloadMemory && budget.contended;
    const limitMs = contended ? settings.payloadTimeoutMs / CONTENDED_SHARE : settings.payloadTimeoutMs;
    if (this.#stalledMs >= limitMs) this.drop('stopped in the middle of a request');
  }

  /** Replies that a client does not take are its own affair, until others wait for the memory. */
  #checkReplies(intervalMs: number): void {
    const { settings, replyBudget } = this.#options.resources;
    const { sentBytes } = this.session;
    if (this.#unsent.length === 0 || sentBytes !== this.#takenBytes || !replyBudget.contended) {
      this.#takenBytes = sentBytes;
      this.#untakenMs = 0;
      return;
    }
    this.#untakenMs += intervalMs;
    if (this.#untakenMs >= settings.payloadTimeoutMs) this.drop('did not take its replies');
  }

  send(batch: ReplyBatch): void {
    const { socket } = this.#transport;
    const { parts } = batch;
    this.#unsent.push(batch);
    const last = parts.length - 1;
    if (last > 0) socket.cork();
    for (let index = 0; index < last; index += 1) socket.write(viewOf(parts[index]));
    socket.write(viewOf(parts[last]), this.#onSent);
    if (last > 0) socket.uncork();
    if (socket.writableLength > 0) this.#stayAwake();
  }

  /**
   * A socket's buffer holds one or two large replies. Sleeping until the client has taken one costs more than what it takes the client:
   * for a moment the event loop goes round without sleep (128 KiB reads in flight: 16,000 a second became 20,500, medians of five).
   */
  #stayAwake(): void {
    const isAwake = this.#awakeSinceMs > 0;
    this.#awakeSinceMs = performance.now();
    if (!isAwake) setImmediate(this.#look);
  }

  defer(): void {
    process.nextTick(this.#runDeferred);
  }

  resumeReading(): void {
    if (!this.#inputEnded && !this.#closed) this.#transport.resumeReading();
  }

  /** Whether all was said and sent, and only the client's own end is missing. */
  get onlyLingers(): boolean {
    return this.#lingerTimer !== null && this.#unsent.length === 0;
  }

  finish(broken: boolean): void {
    const { socket } = this.#transport;
    if (this.#closed) return;
    // A client that neither takes the last bytes nor closes its side does not keep the connection for ever.
    this.#lingerTimer = setTimeout(() => socket.destroy(), this.#options.resources.settings.payloadTimeoutMs).unref();
    if (broken) {
      socket.destroySoon();
    } else {
      socket.end();
      this.resumeReading(); // until the client's end: closing over unread bytes would reset the connection under the last replies
    }
  }

  released(): void {
    this.#released = true;
    this.#endWhenDone();
  }

  report(event: SessionEvent): void {
    switch (event.kind) {
      case 'negotiated':
        this.#clearHandshakeTimer();
        this.#exportName = event.exportName;
        this.#log('info', 'client-negotiated', { export: event.exportName, sizeBytes: event.sizeBytes, readOnly: event.readOnly });
        break;
      case 'opening':
        // A long recovery is the server's time, not the client's.
        this.#clearHandshakeTimer();
        break;
      case 'opened':
        this.#startHandshakeTimer();
        break;
      case 'export-refused':
        this.#log('warn', 'client-refused', { export: event.exportName, code: event.error.code, message: event.error.message });
        break;
      case 'protocol-error':
        this.#reason = 'protocol error';
        this.#log('warn', 'client-protocol-error', { message: event.message });
        break;
      case 'request-failed':
        this.#reportFailure(event);
        break;
    }
  }

  /** A failing disk under a fast client must not fill the log: the first failures are told, then a sample. */
  #reportFailure(event: SessionEvent & { readonly kind: 'request-failed' }): void {
    this.#failureCount += 1;
    if (this.#failureCount > LOGGED_FAILURES && this.#failureCount % LOGGED_FAILURE_INTERVAL !== 0) return;
    const { command, offsetBytes, lengthBytes, error } = event;
    const fields = { export: this.#exportName, command, offsetBytes, lengthBytes, failureCount: this.#failureCount };
    this.#log('error', 'request-failed', { ...fields, code: error.code, message: error.message, ...error.context });
  }

  #log(level: LogLevel, event: string, fields: Record<string, unknown> = {}): void {
    const { id, listener, logger } = this.#options;
    logger.log(level, event, { connection: id, listener, peer: this.#peer, ...fields });
  }

  /** Many clients close without waiting for the end of what they said goodbye to: that is no error. */
  #onError(error: Error): void {
    if (this.#lingerTimer === null) this.#reason = error.message;
  }

  #onInputEnded(): void {
    this.#inputEnded = true;
    this.session.inputEnded();
  }

  #onClosed(): void {
    this.#closed = true;
    this.#clearHandshakeTimer();
    if (this.#lingerTimer !== null) clearTimeout(this.#lingerTimer);
    for (const batch of this.#unsent.splice(0)) this.session.sent(batch);
    this.#log('info', 'client-disconnected', { reason: this.#reason, export: this.#exportName, ...countersOf(this.session) });
    this.session.disconnected();
    this.#endWhenDone();
  }

  #startHandshakeTimer(): void {
    if (this.#closed) return;
    this.#handshakeTimer = setTimeout(() => this.drop('handshake timeout'), this.#options.resources.settings.handshakeTimeoutMs).unref();
  }

  #clearHandshakeTimer(): void {
    if (this.#handshakeTimer !== null) clearTimeout(this.#handshakeTimer);
    this.#handshakeTimer = null;
  }

  #endWhenDone(): void {
    if (this.#closed && this.#released) this.#options.onEnded(this);
  }
}

function countersOf({ counters }: Session): { requestCount: number; readBytes: number; writtenBytes: number } {
  return { requestCount: counters.requestCount, readBytes: counters.readBytes, writtenBytes: counters.writtenBytes };
}

/** The bytes to send, without copying them: `write` would make a Buffer of anything else. */
function viewOf(part: Uint8Array): Buffer {
  return Buffer.from(part.buffer, part.byteOffset, part.length);
}
