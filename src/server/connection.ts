/** One client: its socket, its session (a new one once TLS stands), and what is logged about them. */
import type net from 'node:net';
import { KIB } from '../base/units.ts';
import type { Logger, LogLevel } from '../env/env.ts';
import type { SessionEvent, SessionHost, SessionResources } from '../session/host.ts';
import type { ReplyBatch } from '../session/reply-queue.ts';
import { Session } from '../session/session.ts';
import { addressOf, type ExportAccess } from './access.ts';
import type { ServerCounts } from './counts.ts';
import { PeerLook, type PeerPoll } from './peer-look.ts';
import type { TlsCredentials } from './tls-credentials.ts';
import { beginTls, type SecuredSocket, type TlsGate, type TlsTicket } from './tls-handshake.ts';
import { openSecured, openTransport, type ReceivePath, type Transport } from './transport.ts';

/** A client in the middle of a request gets on if it sends this much between two looks, or ends the request. */
const PROGRESS_BYTES = 64 * KIB;
/** A client that holds memory which others wait for is dropped this much sooner. */
const CONTENDED_SHARE = 8;
/** Failed requests that are logged of one connection, before only every so-many-th is. */
const LOGGED_FAILURES = 10;
const LOGGED_FAILURE_INTERVAL = 1000;
/** How long the event loop stays awake for a client that takes its replies. */
const AWAKE_MS = 0.3;
const LEFT = 'client left';
/** When TCP asks a silent peer whether it is still there. */
const KEEP_ALIVE_MS = 60_000;

export interface ConnectionOptions {
  readonly id: number;
  readonly accepted: net.Socket;
  readonly listener: string;
  readonly resources: SessionResources;
  readonly receivePath: ReceivePath;
  readonly logger: Logger;
  readonly access: ExportAccess;
  readonly tls: ConnectionTls | null;
  readonly counts: ServerCounts;
  readonly peerPoll: PeerPoll;
  /** The client has an export, and is no longer one of those that negotiate. */
  readonly onNegotiated: (connection: Connection) => void;
  /** The socket is closed and the session has given everything back. */
  readonly onEnded: (connection: Connection) => void;
}

/** What TLS is made with; null on a server without. */
export interface ConnectionTls {
  readonly credentials: TlsCredentials;
  readonly gate: TlsGate;
}

export class Connection implements SessionHost {
  /** Of its address; null for a unix socket. */
  readonly address: Uint8Array | null;
  readonly #options: ConnectionOptions;
  readonly #peer: string;
  #session: Session;
  #transport: Transport;
  readonly #peerLook: PeerLook;
  /** The client's flags while TLS begins. */
  #securingFlags: number | null = null;
  #tlsTicket: TlsTicket | null = null;
  #tlsTimer: NodeJS.Timeout | null = null;
  readonly #unsent: ReplyBatch[] = [];
  readonly #onSent = (): void => {
    if (this.#awakeSinceMs > 0) this.#awakeSinceMs = performance.now();
    const batch = this.#unsent.shift();
    if (batch !== undefined) this.#session.sent(batch);
    if (this.#securingFlags !== null) this.#queueForTls();
  };
  /** When the kernel last took a batch, or was given one that it did not take at once; 0: nobody stays awake for it. */
  #awakeSinceMs = 0;
  readonly #look = (): void => {
    if (this.#unsent.length > 0 && performance.now() - this.#awakeSinceMs < AWAKE_MS) setImmediate(this.#look);
    else this.#awakeSinceMs = 0;
  };
  readonly #runDeferred = (): void => this.#session.deferred();
  readonly #listeners = {
    end: (): void => this.#onInputEnded(),
    error: (error: Error): void => this.#onError(error),
    close: (): void => this.#onClosed(),
  };
  #handshakeTimer: NodeJS.Timeout | null = null;
  #lingerTimer: NodeJS.Timeout | null = null;
  #reason = LEFT;
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
  #idleMs = 0;
  #idleRequests = 0;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    const { accepted, resources } = options;
    this.#peer = accepted.remoteAddress === undefined ? 'unix' : `${accepted.remoteAddress} ${accepted.remotePort}`;
    this.address = addressOf(accepted.remoteAddress);
    this.#session = new Session(resources, this, options.access.clientOf({ address: this.address, secured: null }));
    this.#transport = openTransport(accepted, this.#session, options.receivePath);
    const { socket } = this.#transport;
    this.#peerLook = new PeerLook(socket, options.peerPoll);
    this.#listenTo(socket);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#startHandshakeTimer();
    this.#log('info', 'client-connected', { receivePath: this.#transport.path });
    this.#session.start();
  }

  get session(): Session {
    return this.#session;
  }

  /** Whether the client could have got on and has not: it may be dropped for another one. */
  get onlyNegotiates(): boolean {
    return !this.#session.inTransmission && !this.#session.looksForVolume;
  }

  #listenTo(socket: net.Socket): void {
    for (const [event, listener] of Object.entries(this.#listeners)) socket.on(event, listener);
  }

  /** Cuts the connection off. */
  drop(reason: string): void {
    if (this.#closed || this.#transport.socket.destroyed) return;
    this.#reason = reason;
    this.#transport.socket.destroy();
  }

  /** Looks whether the client still gets on; called every `intervalMs`. */
  checkProgress(intervalMs: number): void {
    this.#checkReplies(intervalMs);
    this.#checkIdleness(intervalMs);
    const { receivedBytes, counters, awaitsRest, usesPayloadMemory } = this.#session;
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

  #checkIdleness(intervalMs: number): void {
    const { idleTimeoutMs } = this.#options.resources.settings;
    const { counters, asksForNothing } = this.#session;
    if (idleTimeoutMs === 0 || !asksForNothing || this.#unsent.length > 0 || counters.requestCount !== this.#idleRequests) {
      this.#idleRequests = counters.requestCount;
      this.#idleMs = 0;
      return;
    }
    this.#idleMs += intervalMs;
    if (this.#idleMs < idleTimeoutMs) return;
    this.#options.counts.idle += 1;
    this.drop('asked for nothing');
  }

  /** Replies that a client does not take are its own affair, until others wait for the memory. */
  #checkReplies(intervalMs: number): void {
    const { settings, replyBudget } = this.#options.resources;
    const { sentBytes } = this.#session;
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

  get emptiesSocket(): boolean {
    return this.#transport.path === 'onread';
  }

  hasLeft(): boolean {
    return this.#closed || this.#peerLook.hasLeft();
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

  startTls(clientFlags: number): void {
    this.#securingFlags = clientFlags;
    if (!this.#transport.stopReading()) {
      this.#log('warn', 'client-protocol-error', { message: 'data behind NBD_OPT_STARTTLS, before TLS has begun' });
      this.drop('protocol error');
    }
  }

  /** Once the client has been told to begin. */
  #queueForTls(): void {
    const { tls, resources } = this.#options;
    if (this.#closed || tls === null || this.#tlsTicket !== null || this.#unsent.length > 0) return;
    const { socket } = this.#transport;
    this.#tlsTicket = tls.gate.enter(() => {
      this.#tlsTimer = tlsTimer(resources.settings.tlsHandshakeTimeoutMs, tls.gate, () => this.#onTlsTimeout());
      beginTls(socket, tls.credentials.current, {
        secured: (secured) => this.#onSecured(secured),
        failed: (message) => {
          this.#options.counts.tlsFailed += 1;
          this.#log('warn', 'tls-failed', { message });
          this.drop('TLS handshake failed');
        },
      });
    });
  }

  #onTlsTimeout(): void {
    this.drop('TLS handshake timeout');
    this.#tlsTicket?.leave(); // at once: of those that stall, no more are dropped than others need the places of
  }

  /** A new session over the secured socket: of the old one nothing is left but the client's flags. */
  #onSecured({ socket, names, protocol, cipher }: SecuredSocket): void {
    const { access, resources, counts } = this.#options;
    const clientFlags = this.#securingFlags;
    if (this.#closed || clientFlags === null) return;
    this.#endTls();
    counts.secured += 1;
    const raw = this.#transport.socket;
    for (const [event, listener] of Object.entries(this.#listeners)) raw.off(event, listener);
    raw.on('error', () => undefined); // told again by the secured one
    this.#session = new Session(resources, this, access.clientOf({ address: this.address, secured: { clientFlags, names } }));
    this.#transport = openSecured(socket, this.#session);
    this.#listenTo(socket);
    this.#progressBytes = 0;
    this.#log('info', 'client-secured', { protocol, cipher, names });
  }

  #endTls(): void {
    this.#securingFlags = null;
    this.#tlsTicket?.leave();
    this.#tlsTicket = null;
    if (this.#tlsTimer !== null) clearInterval(this.#tlsTimer);
    this.#tlsTimer = null;
  }

  released(): void {
    // The one before TLS is followed by another.
    if (this.#securingFlags !== null) return;
    this.#released = true;
    this.#endWhenDone();
  }

  report(event: SessionEvent): void {
    switch (event.kind) {
      case 'negotiated':
        this.#clearHandshakeTimer();
        this.#options.onNegotiated(this);
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
        this.#options.counts.refused += 1;
        this.#log('warn', 'client-refused', { export: event.exportName, code: event.error.code, message: event.error.message, ...event.error.context });
        break;
      case 'protocol-error':
        this.#reason = 'protocol error';
        this.#log('warn', 'client-protocol-error', { message: event.message });
        break;
      case 'left-waiting':
        this.#log('warn', 'client-left-waiting', { export: this.#exportName, message: 'it has left while requests waited to begin; they are dropped, as it may have sent them again elsewhere' });
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
    this.#session.inputEnded();
  }

  #onClosed(): void {
    this.#closed = true;
    this.#clearHandshakeTimer();
    if (this.#securingFlags !== null) {
      this.#released = true; // its session is over already
      if (this.#reason === LEFT) this.#reason = 'TLS handshake failed';
    }
    this.#endTls();
    if (this.#lingerTimer !== null) clearTimeout(this.#lingerTimer);
    this.#log('info', 'client-disconnected', { reason: this.#reason, export: this.#exportName, ...countersOf(this.#session) });
    this.#session.disconnected(); // before it is told of what was not sent: it would send more
    for (const batch of this.#unsent.splice(0)) this.#session.sent(batch);
    this.#endWhenDone();
  }

  #startHandshakeTimer(): void {
    if (this.#closed) return;
    this.#handshakeTimer = setTimeout(() => this.#onHandshakeTimeout(), this.#options.resources.settings.handshakeTimeoutMs).unref();
  }

  #onHandshakeTimeout(): void {
    this.#options.counts.handshakeTimeouts += 1;
    this.drop('handshake timeout');
  }

  #clearHandshakeTimer(): void {
    if (this.#handshakeTimer !== null) clearTimeout(this.#handshakeTimer);
    this.#handshakeTimer = null;
  }

  #endWhenDone(): void {
    if (this.#closed && this.#released) this.#options.onEnded(this);
  }
}

/** Ends a handshake that takes too long: an eighth of the time is enough for that while others wait for its place. */
function tlsTimer(timeoutMs: number, gate: TlsGate, onTimeout: () => void): NodeJS.Timeout {
  let ticks = 0;
  return setInterval(() => {
    ticks += 1;
    if (ticks >= CONTENDED_SHARE || gate.contended) onTimeout();
  }, timeoutMs / CONTENDED_SHARE).unref();
}

function countersOf({ counters }: Session): { requestCount: number; readBytes: number; writtenBytes: number } {
  return { requestCount: counters.requestCount, readBytes: counters.readBytes, writtenBytes: counters.writtenBytes };
}

/** The bytes to send, without copying them: `write` would make a Buffer of anything else. */
function viewOf(part: Uint8Array): Buffer {
  return Buffer.from(part.buffer, part.byteOffset, part.length);
}
