/**
 * Whether a client has left, which Node says only once everything is read that was sent before: by poll(2) where that can be called, else by the kernel's table of
 * TCP sockets; of unix sockets nothing else says it.
 */
import { readFileSync } from 'node:fs';
import type net from 'node:net';
import { systemCode } from '../base/errors.ts';

/** In the table: that of a connection which both sides may use. */
const ESTABLISHED = '01';
/** The table is read whole: at most this often for one socket, so that it is known a moment late. */
const TABLE_LOOK_MS = 20;

/** By poll(2), of a descriptor; null where that cannot be called. */
export type PeerPoll = (descriptor: number) => boolean | null;

export const NO_POLL: PeerPoll = () => null;

/** Looks at the peer of one socket. */
export class PeerLook {
  readonly #poll: PeerPoll;
  /** Kept: behind TLS the socket has another one. */
  readonly #handle: unknown;
  /** Asked for at once: of a connection that was reset they cannot be had any more. Undefined of a unix socket. */
  readonly #ports: readonly [number | undefined, number | undefined];
  readonly #tablePath: string;
  #tableMs = Number.NEGATIVE_INFINITY;

  constructor(socket: net.Socket, poll: PeerPoll) {
    this.#poll = poll;
    this.#handle = Reflect.get(socket, '_handle');
    this.#ports = [socket.localPort, socket.remotePort];
    this.#tablePath = socket.remoteFamily === 'IPv6' ? '/proc/self/net/tcp6' : '/proc/self/net/tcp';
  }

  /** Whether the peer has closed its direction, or reset the connection. False where nobody can tell. */
  hasLeft(): boolean {
    const descriptor = descriptorOf(this.#handle);
    return (descriptor === null ? null : this.#poll(descriptor)) ?? this.#hasLeftByTable();
  }

  #hasLeftByTable(): boolean {
    const [localPort, remotePort] = this.#ports;
    const nowMs = performance.now();
    if (localPort === undefined || remotePort === undefined || nowMs - this.#tableMs < TABLE_LOOK_MS) return false;
    this.#tableMs = nowMs;
    const states = tcpStates(this.#tablePath, localPort, remotePort);
    return states !== null && !states.includes(ESTABLISHED);
  }
}

/** Of a socket's `_handle`, the name that Node itself uses. Null: it is closed, or Node has no such name any more. */
function descriptorOf(handle: unknown): number | null {
  const descriptor: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : null;
  return typeof descriptor === 'number' && descriptor >= 0 ? descriptor : null;
}

/** States of the sockets between two ports, as the table writes them; null where there is no table. Those of peers with the same port are among them. */
function tcpStates(path: string, localPort: number, remotePort: number): string[] | null {
  let table: string;
  try {
    table = readFileSync(path, 'latin1');
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return null; // another system, or one that hides it
  }
  return table.split('\n').flatMap((line) => {
    const [, local = '', remote = '', state = ''] = line.trim().split(/\s+/);
    return local.endsWith(hexPort(localPort)) && remote.endsWith(hexPort(remotePort)) ? [state] : [];
  });
}

function hexPort(port: number): string {
  return `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
}
