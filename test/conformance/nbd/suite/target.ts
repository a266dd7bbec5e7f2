/** A server to check: how it is reached, and what is known of it that cannot be asked. */
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import { join } from 'node:path';
import type tls from 'node:tls';
import { NBD_DEFAULT_PORT } from '../../../../src/protocol/constants.ts';

export interface Target {
  readonly uri: string;
  readonly exportName: string;
  readonly connect: () => Promise<net.Socket>;
  /** Null: no TLS is begun. */
  readonly tls: tls.ConnectionOptions | null;
  /** Another export of the same server. */
  readonly otherExport: string | null;
  /** One that the server serves in TLS only, while others are served without. */
  readonly tlsOnlyExport: string | null;
  /** Where a read-only export is. */
  readonly readOnly: Target | null;
  /** Starts the server again if it has ended. */
  readonly revive: () => Promise<void>;
  /** Whether there can be a second connection. */
  readonly severalConnections: boolean;
  /** The server drops who negotiates longer than that. */
  readonly handshakeLimitMs: number | null;
}

export type TargetChanges = Partial<Pick<Target, 'connect' | 'revive' | 'otherExport' | 'tlsOnlyExport' | 'readOnly' | 'severalConnections' | 'handshakeLimitMs'>>;

const SCHEMES = new Map([
  ['nbd:', { unix: false, secured: false }],
  ['nbds:', { unix: false, secured: true }],
  ['nbd+unix:', { unix: true, secured: false }],
  ['nbds+unix:', { unix: true, secured: true }],
]);

/** `uri` as doc/uri.md of the protocol has it, with `tls-certificates=DIRECTORY`, `tls-psk-file=FILE` and `tls-verify-peer=false` as libnbd has them. */
export async function targetOf(uri: string, changes: TargetChanges = {}): Promise<Target> {
  const url = new URL(uri);
  const scheme = SCHEMES.get(url.protocol);
  if (scheme === undefined) throw new Error(`${uri}: the scheme is none of nbd, nbds, nbd+unix and nbds+unix`);
  const socketPath = url.searchParams.get('socket');
  if (scheme.unix && socketPath === null) throw new Error(`${uri}: the query names no socket`);
  const address =
    scheme.unix && socketPath !== null ? { path: socketPath } : { host: url.hostname.replaceAll(/[[\]]/g, ''), port: Number(url.port === '' ? NBD_DEFAULT_PORT : url.port) };
  return {
    uri,
    exportName: decodeURIComponent(url.pathname.replace(/^\//, '')),
    connect: () => connected(address),
    tls: scheme.secured ? await tlsOptions(url) : null,
    otherExport: null,
    tlsOnlyExport: null,
    readOnly: null,
    revive: () => Promise.resolve(),
    severalConnections: true,
    handshakeLimitMs: null,
    ...changes,
  };
}

async function tlsOptions(url: URL): Promise<tls.ConnectionOptions> {
  const query = url.searchParams;
  const keys = query.get('tls-psk-file');
  if (keys !== null) return pskOptions(await readFile(keys, 'utf8'), decodeURIComponent(url.username));
  const directory = query.get('tls-certificates');
  const file = async (name: string): Promise<string | undefined> => (directory === null ? undefined : readFile(join(directory, name), 'utf8').catch(() => undefined));
  const [ca, cert, key] = await Promise.all([file('ca-cert.pem'), file('client-cert.pem'), file('client-key.pem')]);
  const servername = query.get('tls-hostname') ?? (net.isIP(url.hostname) === 0 ? url.hostname : '');
  return { ca, cert, key, ...(servername === '' ? {} : { servername }), rejectUnauthorized: query.get('tls-verify-peer') !== 'false' };
}

function pskOptions(keys: string, user: string): tls.ConnectionOptions {
  const line = keys.split('\n').find((each) => each.startsWith(`${user}:`));
  if (line === undefined) throw new Error(`the file of keys has none of the user "${user}"`);
  const psk = Buffer.from(line.slice(user.length + 1).trim(), 'hex');
  return { ciphers: 'PSK', pskCallback: () => ({ identity: user, psk }), checkServerIdentity: () => undefined };
}

function connected(address: { readonly path: string } | { readonly host: string; readonly port: number }): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ ...address, noDelay: true });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}
