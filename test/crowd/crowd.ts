/**
 * Clients that only take up room, by the thousand, in a process of their own: main tells it whom to send (`CrowdOrder`), and it says how many
 * of them are where they shall be (`CrowdState`). Each is a bare socket: thousands of whole clients would measure themselves.
 */
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { clientFlagsBytes, infoRequestBytes, optionBytes, requestBytes } from '../support/nbd-bytes.ts';

/**
 * - `idle`: opens the export and asks for nothing.
 * - `handshake`: stops within an option's header; a new one comes when the server drops it.
 * - `write`: stops within the payload of a WRITE.
 * - `deaf`: asks for more and more, large and small, and reads nothing.
 */
export const KINDS = ['idle', 'handshake', 'write', 'deaf'] as const;
export type Kind = (typeof KINDS)[number];

export interface CrowdOrder {
  readonly socketPath: string;
  readonly exportName: string;
  readonly kind: Kind;
  readonly count: number;
}

export interface CrowdState {
  readonly kind: Kind;
  /** Connected, and in the state that they stay in. */
  readonly there: number;
  /** Dropped by the server. */
  readonly dropped: number;
  readonly refused: number;
}

const KIB = 1024;
/** Greeting, NBD_INFO_EXPORT and ACK: the answers to GO. */
const OPENED_BYTES = 18 + 32 + 20;
const CONNECTING_MAX = 64;
const COOKIE = Buffer.alloc(8, 7);
/** Who was dropped returns after half of that, or up to one and a half. */
const RETURN_MS = 1000;
const DEAF_READS = 64;

/** Blocks until the socket takes no more: what the server does not read stays here. */
function askForEver(socket: net.Socket): void {
  const large = Buffer.concat(Array.from({ length: DEAF_READS }, (_, index) => requestBytes({ command: 0, cookie: COOKIE, offset: index * 128 * KIB, length: 128 * KIB })));
  const small = requestBytes({ command: 0, cookie: COOKIE, offset: 0, length: 1 });
  const more = (): void => {
    while (socket.writable && socket.write(large)); // until it is full
  };
  // One at a time first, as a client would that waits a little for each: a turn of the server for each.
  let count = 0;
  const timer = setInterval(() => {
    count += 1;
    if (socket.writable && count < 200) {
      socket.write(small);
      return;
    }
    clearInterval(timer);
    more();
    socket.on('drain', more);
  }, 5);
}

class Crowd {
  readonly #order: CrowdOrder;
  readonly #sockets = new Set<net.Socket>();
  #there = 0;
  #dropped = 0;
  #refused = 0;
  #leaving = false;

  constructor(order: CrowdOrder) {
    this.#order = order;
  }

  get state(): CrowdState {
    return { kind: this.#order.kind, there: this.#there, dropped: this.#dropped, refused: this.#refused };
  }

  async come(): Promise<void> {
    for (let left = this.#order.count; left > 0; left -= CONNECTING_MAX) {
      await Promise.all(Array.from({ length: Math.min(left, CONNECTING_MAX) }, () => this.#enter()));
    }
  }

  leave(): void {
    this.#leaving = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** One client; resolves when it is where it stays, or is turned away. */
  #enter(): Promise<void> {
    const { socketPath, exportName, kind } = this.#order;
    return new Promise((resolve) => {
      const socket = net.connect({ path: socketPath });
      this.#sockets.add(socket);
      let isThere = false;
      const arrive = (): void => {
        if (isThere) return;
        isThere = true;
        this.#there += 1;
        resolve();
      };
      socket.on('error', () => undefined); // told by `close`
      socket.on('close', () => {
        this.#sockets.delete(socket);
        if (isThere) this.#there -= 1;
        resolve();
        if (this.#leaving) return;
        if (isThere) this.#dropped += 1;
        else this.#refused += 1;
        if (kind === 'handshake') void this.#comeBack();
      });
      const option = optionBytes(7, infoRequestBytes(exportName));
      socket.write(Buffer.concat([clientFlagsBytes(3), kind === 'handshake' ? option.subarray(0, 10) : option]));
      this.#behave(socket, arrive);
    });
  }

  #behave(socket: net.Socket, arrive: () => void): void {
    const { kind } = this.#order;
    if (kind === 'deaf') {
      socket.once('connect', arrive);
      askForEver(socket);
      return;
    }
    let received = 0;
    socket.on('data', (chunk) => {
      received += chunk.length;
      if (kind === 'handshake') arrive();
      else if (received >= OPENED_BYTES) {
        if (kind === 'write') socket.write(requestBytes({ command: 1, cookie: COOKIE, offset: 0, length: 128 * KIB, payload: Buffer.alloc(20 * KIB, 1) }));
        socket.removeAllListeners('data').resume();
        arrive();
      }
    });
  }

  async #comeBack(): Promise<void> {
    await delay(RETURN_MS * (0.5 + Math.random()));
    if (!this.#leaving) await this.#enter();
  }
}

function isOrder(message: unknown): message is CrowdOrder {
  return typeof message === 'object' && message !== null && 'kind' in message && 'count' in message;
}

/** Serves the orders of the process that has forked this one. */
export function serveOrders(): void {
  const crowds: Crowd[] = [];
  process.on('message', (message) => {
    if (isOrder(message)) {
      const crowd = new Crowd(message);
      crowds.push(crowd);
      void crowd.come().then(() => process.send?.(crowd.state));
      return;
    }
    if (message === 'state') process.send?.(crowds.map((crowd) => crowd.state));
    else for (const crowd of crowds) crowd.leave();
  });
  process.on('disconnect', () => process.exit());
}
