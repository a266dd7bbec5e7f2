/** Connections to an NBD server for the kernel to use, made by Node and taken away from it. */
import { closeSync } from 'node:fs';
import net from 'node:net';
import { systemCode, toVolumeError, VolumeError } from '../base/errors.ts';
import { ClientHandshake, type ExportTerms, GOODBYE } from '../protocol/client-handshake.ts';
import { formatNbdUri, type NbdAddress, type NbdTarget } from '../protocol/uri.ts';

/** A server that says nothing for this long is given up. */
const SILENCE_MS = 10_000;
/** When TCP asks a silent peer whether it is still there. */
const KEEP_ALIVE_MS = 60_000;
/** The server is not there, or not yet. */
const ABSENT: ReadonlySet<string | undefined> = new Set(['ECONNREFUSED', 'ENOENT', 'ECONNRESET', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'EPIPE', 'EAI_AGAIN', 'ENOTFOUND']);

/** A connection on which the server waits for requests. */
export interface Dialled {
  /** Of this process alone, and for nothing but to be given away: nobody here reads, writes or watches it. Whoever gets it closes it. */
  readonly descriptor: number;
  readonly terms: ExportTerms;
}

/** How connections are made; tests have their own. */
export interface Dialler {
  /** Errors: `unavailable`, and those of `ClientHandshake.receive`. */
  dial(target: NbdTarget): Promise<Dialled>;
  /** What the server says of an export, without using it. */
  look(target: NbdTarget): Promise<ExportTerms>;
  close(descriptor: number): void;
}

/** The descriptor of a socket that Node has open: it has no other name in Node's API. */
function descriptorOf(socket: net.Socket): number {
  const handle: unknown = '_handle' in socket ? socket._handle : null;
  if (typeof handle === 'object' && handle !== null && 'fd' in handle && typeof handle.fd === 'number' && handle.fd >= 0) return handle.fd;
  throw new VolumeError('unsupported', `this version of Node (${process.version}) does not tell the descriptor of a socket; use nbd-client`);
}

function connect(address: NbdAddress): net.Socket {
  if ('path' in address) return net.connect({ path: address.path });
  return net.connect({ host: address.host, port: address.port, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS });
}

/** Runs the handshake; `take` gets the socket in the turn in which the server has said its last word, before anything more is read. */
function negotiate<T>(target: NbdTarget, purpose: 'go' | 'info', take: (socket: net.Socket, terms: ExportTerms) => T): Promise<T> {
  return new Promise((resolve, reject) => {
    const handshake = new ClientHandshake({ exportName: target.exportName, purpose });
    const socket = connect(target.address);
    const fail = (error: unknown): void => {
      socket.destroy();
      reject(dialError(error, target));
    };
    socket.setTimeout(SILENCE_MS, () => fail(new VolumeError('unavailable', `${formatNbdUri(target)} has not answered within ${SILENCE_MS / 1000} s`)));
    socket.on('error', fail);
    socket.on('close', () => fail(new VolumeError('unavailable', `${formatNbdUri(target)} has closed the connection in the middle of the handshake`)));
    socket.on('data', (bytes: Buffer) => {
      if (handshake.terms !== null) return; // the answer to a goodbye
      try {
        const reply = handshake.receive(bytes);
        if (reply !== null) socket.write(reply);
        if (handshake.terms !== null) resolve(take(socket, handshake.terms));
      } catch (error) {
        fail(error);
      }
    });
  });
}

function dialError(error: unknown, target: NbdTarget): VolumeError {
  if (!ABSENT.has(systemCode(error))) return toVolumeError(error, `connecting to ${formatNbdUri(target)}`);
  return new VolumeError('unavailable', `no server answers at ${formatNbdUri(target)} (${systemCode(error)}); is basalt serve running, and does it listen there?`, { cause: error });
}

function refuseTls({ tls }: NbdTarget): void {
  if (tls) throw new VolumeError('unsupported', `the kernel's NBD client does not speak TLS: use nbd:// or nbd+unix:// to a listener without it`, { context: { tls: true } });
}

/** `duplicate` copies a descriptor. */
export function createDialler(duplicate: (descriptor: number) => number): Dialler {
  return {
    async dial(target) {
      refuseTls(target);
      return negotiate(target, 'go', (socket, terms) => {
        // The copy is another name of the same connection: Node closes its own, which ends nothing, and knows no other.
        const descriptor = duplicate(descriptorOf(socket));
        socket.destroy();
        return { descriptor, terms };
      });
    },
    async look(target) {
      refuseTls(target);
      return negotiate(target, 'info', (socket, terms) => {
        socket.end(GOODBYE);
        socket.resume();
        return terms;
      });
    },
    close: closeSync,
  };
}
