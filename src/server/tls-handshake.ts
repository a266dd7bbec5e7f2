/** The TLS handshake of one connection, and how many there may be at once. */
import type net from 'node:net';
import tls from 'node:tls';
import { namesOf } from './peer-names.ts';
import type { CredentialSet } from './tls-credentials.ts';

/** A connection that TLS stands on. */
export interface SecuredSocket {
  readonly socket: tls.TLSSocket;
  /** What the client has proved to be called: by its certificate, or by knowing a user's key. */
  readonly names: readonly string[];
  readonly protocol: string;
  readonly cipher: string;
}

export interface TlsOutcome {
  readonly secured: (secured: SecuredSocket) => void;
  readonly failed: (message: string) => void;
}

/**
 * Begins TLS on a connected socket that nobody reads from any more. Exactly one of `outcome` is called; after `failed` the socket is
 * destroyed.
 *
 * Each handshake has a `tls.Server` of its own. Only a server judges what the client has shown: a bare TLSSocket with the same
 * options finishes the handshake with whatever certificate there is, and says `authorized: false` of all of them. Of its own, so
 * that its one answer is about this socket, and so that no session is ever resumed: every client proves who it is with the
 * credentials of now. It costs 1 ms and 50 KiB, no more than the handshake itself.
 */
export function beginTls(raw: net.Socket, { options, keys }: CredentialSet, outcome: TlsOutcome): void {
  let pskUser: string | null = null;
  const pskCallback = (_socket: tls.TLSSocket, user: string): Uint8Array | null => {
    const key = keys.get(user);
    if (key === undefined) return null;
    pskUser = user;
    return key;
  };
  const server = tls.createServer({ ...options, ...(keys.size === 0 ? {} : { pskCallback }) });
  server.once('secureConnection', (socket) => {
    socket.allowHalfOpen = true; // as it was: a client that has ended its side still gets its answers
    outcome.secured(describe(socket, pskUser));
  });
  server.once('tlsClientError', (error, socket) => {
    // Node's types promise a text here, which is null unless a certificate was refused.
    const refusal: unknown = socket.authorizationError;
    outcome.failed(typeof refusal === 'string' ? `the client's certificate was refused: ${refusal}` : error.message);
    raw.destroy();
  });
  raw.allowHalfOpen = false; // the end of the stream ends the handshake
  server.emit('connection', raw);
}

function describe(socket: tls.TLSSocket, pskUser: string | null): SecuredSocket {
  const protocol = socket.getProtocol() ?? 'unknown';
  const { name: cipher } = socket.getCipher();
  return { socket, names: provedNames(socket, pskUser, { protocol, cipher }), protocol, cipher };
}

/**
 * The handshake asks for a user's key before it knows whether it will use it: a client can name any user, offer only ciphers that do
 * not go with a key, and be left with a handshake that proves nothing. So the name counts only where the key was used: by the suite in
 * TLS 1.2; in TLS 1.3, where it looks like a resumed session, and nothing else can be one.
 */
function provedNames(socket: tls.TLSSocket, pskUser: string | null, { protocol, cipher }: { readonly protocol: string; readonly cipher: string }): readonly string[] {
  const usedKey = protocol === 'TLSv1.3' ? socket.isSessionReused() : cipher.includes('PSK');
  if (usedKey) return pskUser === null ? [] : [pskUser];
  return socket.authorized ? namesOf(socket.getPeerCertificate()) : [];
}

/** A place among the handshakes under way, or in the queue for one. */
export interface TlsTicket {
  /** Gives the place to the next one; more calls do nothing. */
  leave(): void;
}

/** Lets so many handshakes run at a time, the others in the order in which they came. */
export class TlsGate {
  readonly #limit: number;
  readonly #running = new Set<TlsTicket>();
  readonly #waiting = new Map<TlsTicket, () => void>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  get runningCount(): number {
    return this.#running.size;
  }

  /** Whether somebody waits for a place. */
  get contended(): boolean {
    return this.#waiting.size > 0;
  }

  /** Calls `start` when there is a place: at once, or in the turn in which another one leaves. */
  enter(start: () => void): TlsTicket {
    const ticket: TlsTicket = {
      leave: () => {
        if (this.#waiting.delete(ticket) || !this.#running.delete(ticket)) return;
        this.#startNext();
      },
    };
    if (this.#running.size < this.#limit) {
      this.#running.add(ticket);
      start();
    } else {
      this.#waiting.set(ticket, start);
    }
    return ticket;
  }

  #startNext(): void {
    for (const [ticket, start] of this.#waiting) {
      if (this.#running.size >= this.#limit) return;
      this.#waiting.delete(ticket);
      this.#running.add(ticket);
      start();
    }
  }
}
