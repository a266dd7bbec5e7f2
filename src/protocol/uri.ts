/** NBD URIs (doc/uri.md of the NBD project), as far as a client without TLS needs them. */
import { VolumeError } from '../base/errors.ts';
import { NBD_DEFAULT_PORT } from './constants.ts';

/** Where a server listens. A `path` that begins with NUL is an abstract socket. */
export type NbdAddress = { readonly host: string; readonly port: number } | { readonly path: string };

export interface NbdTarget {
  readonly address: NbdAddress;
  readonly exportName: string;
  /** Whether the URI asks for TLS. */
  readonly tls: boolean;
}

const SHAPE = /^(nbds?)(\+unix|\+tcp)?:\/\/(?:[^@/?]*@)?(\[[^\]/?]+\]|[^:/?[\]]*)(?::(\d{1,5}))?(?:\/([^?]*))?(?:\?(.*))?$/;
const HINT = 'write nbd://HOST:PORT/NAME or nbd+unix:///NAME?socket=PATH';

function refuse(text: string, why: string): VolumeError {
  return new VolumeError('invalid-argument', `"${text}" ${why}: ${HINT}`);
}

function decodePart(text: string, part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw refuse(text, 'has a % that no two hexadecimal digits of UTF-8 follow'); // the only thing that it throws for
  }
}

/** The value of `socket=` in a query. */
function socketOf(text: string, query: string): string | null {
  for (const assignment of query.split(/[&;]/)) {
    const [name, value = ''] = assignment.split('=', 2);
    if (name === 'socket') return decodePart(text, value);
  }
  return null;
}

/** Throws `invalid-argument`. */
export function parseNbdUri(text: string): NbdTarget {
  const match = SHAPE.exec(text);
  if (match === null) throw refuse(text, 'is no NBD URI');
  const [, scheme, way = '', host = '', port = '', name = '', query = ''] = match;
  const exportName = decodePart(text, name);
  const path = socketOf(text, query);
  const tls = scheme === 'nbds';
  if ((way === '+unix') !== (path !== null)) throw refuse(text, path === null ? 'names no socket' : 'has a socket and is not nbd+unix');
  if (path !== null) {
    if (path === '' || host !== '') throw refuse(text, path === '' ? 'names no socket' : 'has a host, and a socket');
    return { address: { path }, exportName, tls };
  }
  if (host === '') throw refuse(text, 'names no host');
  const number = port === '' ? NBD_DEFAULT_PORT : Number(port);
  if (number === 0 || number > 65535) throw refuse(text, `has the port ${port}`);
  return { address: { host: host.startsWith('[') ? host.slice(1, -1) : host, port: number }, exportName, tls };
}

/** The URI of an export without TLS, spelled in one way only. */
export function formatNbdUri({ address, exportName }: Pick<NbdTarget, 'address' | 'exportName'>): string {
  const name = encodeURIComponent(exportName).replaceAll('%2F', '/');
  if ('path' in address) return `nbd+unix:///${name}?socket=${encodeURIComponent(address.path).replaceAll('%2F', '/')}`;
  return `nbd://${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}/${name}`;
}
