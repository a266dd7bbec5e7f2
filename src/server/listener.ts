/** Where the server listens: addresses, their spelling, and the sockets that a dead server left behind. */
import { chmod, chown, lstat, unlink } from 'node:fs/promises';
import net from 'node:net';
import { systemCode, VolumeError } from '../base/errors.ts';
import type { ServerSettings } from '../base/settings-types.ts';
import { resolveOwner } from './owner.ts';

/**
 * `port` 0 takes any free one. A `path` is a unix socket's; one that begins with NUL is a name of Linux's own (an abstract socket),
 * without a file. An `fd` is a socket that listens already.
 */
export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'fd'; readonly fd: number };

export type ListenSettings = Pick<ServerSettings, 'socketMode' | 'socketOwner' | 'tls'>;

/** A listener that is ready. `name` is the address as people write it, with the port it really has. */
export interface ListenerInfo {
  readonly name: string;
  readonly address: ListenAddress;
  /** What a client is given, without the export's name: `nbd://127.0.0.1:10809/` or `nbd+unix:///?socket=/run/b.sock`. */
  readonly uri: string;
}

/** The address of `HOST:PORT`, `[IPV6]:PORT`; throws `invalid-argument`. */
export function parseTcpAddress(text: string): ListenAddress {
  if (text.startsWith('vsock:')) throw new VolumeError('unsupported', `${text}: Node has no vsock sockets; put a relay in front, such as: socat VSOCK-LISTEN:10809,fork UNIX-CONNECT:/run/basalt.sock`);
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65535 || (match?.[1] !== undefined && !net.isIPv6(host))) {
    throw new VolumeError('invalid-argument', `address "${text}" is not understood: write HOST:PORT, as in 127.0.0.1:10809 or [::1]:10809`);
  }
  return { kind: 'tcp', host, port };
}

/** The address of a unix socket from `PATH` or `@NAME` (an abstract socket). Throws `invalid-argument`. */
export function parseSocketPath(text: string): ListenAddress {
  const path = text.startsWith('@') ? `\0${text.slice(1)}` : text;
  if (path === '' || path === '\0' || path.includes('\0', 1)) throw new VolumeError('invalid-argument', `unix socket "${text}" is not understood: write its path, or @NAME for an abstract one`);
  return { kind: 'unix', path };
}

const isAbstract = (path: string): boolean => path.startsWith('\0');

/** A path as people write it. */
const spell = (path: string): string => (isAbstract(path) ? `@${path.slice(1)}` : path);

/** What a listening socket is bound to. Node says nothing of a unix socket that came without its path. */
function boundAddress(server: net.Server, address: ListenAddress): Exclude<ListenAddress, { kind: 'fd' }> | null {
  const bound = server.address();
  if (typeof bound === 'string') return { kind: 'unix', path: bound };
  if (address.kind === 'unix') return address;
  if (bound === null) return null;
  return { kind: 'tcp', host: address.kind === 'tcp' ? address.host : bound.address, port: bound.port };
}

function describe(server: net.Server, address: ListenAddress, tls: ListenSettings['tls']): ListenerInfo {
  const bound = boundAddress(server, address);
  const scheme = tls === 'forced' ? 'nbds' : 'nbd';
  if (bound === null || (bound.kind === 'unix' && bound.path === '')) return { name: nameOf(address), address, uri: '' };
  if (bound.kind === 'unix') {
    return { name: spell(bound.path), address: bound, uri: `${scheme}+unix:///?socket=${encodeURIComponent(bound.path).replaceAll('%2F', '/')}` };
  }
  const host = net.isIPv6(bound.host) ? `[${bound.host}]` : bound.host;
  return { name: `${host}:${bound.port}`, address: bound, uri: `${scheme}://${host}:${bound.port}/` };
}

function nameOf(address: ListenAddress): string {
  if (address.kind === 'fd') return `descriptor ${address.fd}`;
  return address.kind === 'unix' ? spell(address.path) : `${address.host}:${address.port}`;
}

/** The file of a unix socket is made for its owner alone (nobody slips in before it has its mode), whatever the process's umask. */
const PRIVATE_UMASK = 0o177;

function listenOnce(server: net.Server, address: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const ready = (): void => {
      server.off('error', reject);
      resolve();
    };
    if (address.kind === 'fd') {
      server.listen({ fd: address.fd }, ready);
    } else if (address.kind === 'tcp') {
      server.listen({ host: address.host, port: address.port }, ready);
    } else {
      const umask = process.umask(PRIVATE_UMASK);
      server.listen({ path: address.path }, ready); // binds before it returns
      process.umask(umask);
    }
  });
}

async function setAccess(path: string, { socketMode, socketOwner }: ListenSettings): Promise<void> {
  if (isAbstract(path)) return; // it has neither: whoever knows its name may connect
  const owner = await resolveOwner(socketOwner);
  // The owner first: a mode for a group is not for the group it has now.
  if (owner !== null) await chown(path, owner.uid, owner.gid);
  await chmod(path, Number.parseInt(socketMode, 8));
}

/** Whether a unix socket's file is there without anybody behind it. Anything else in its place is somebody's, and stays. */
async function isStaleSocket(path: string): Promise<boolean> {
  const stats = await lstat(path).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return null;
    throw error;
  });
  if (stats === null || !stats.isSocket()) return false;
  return new Promise((resolve) => {
    const probe = net.connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error) => resolve(systemCode(error) === 'ECONNREFUSED'));
  });
}

/**
 * Makes `server` listen. A unix socket that nobody answers on (its server was killed) is replaced. Rejects with `in-use` if the
 * address is taken, `io-error` otherwise.
 */
export async function listen(server: net.Server, address: ListenAddress, settings: ListenSettings): Promise<ListenerInfo> {
  try {
    try {
      await listenOnce(server, address);
    } catch (error) {
      if (address.kind !== 'unix' || isAbstract(address.path) || systemCode(error) !== 'EADDRINUSE' || !(await isStaleSocket(address.path))) throw error;
      await unlink(address.path);
      await listenOnce(server, address);
    }
    if (address.kind === 'unix') await setAccess(address.path, settings);
  } catch (error) {
    if (server.listening) server.close();
    throw listenError(address, error);
  }
  return describe(server, address, settings.tls);
}

function listenError(address: ListenAddress, error: unknown): VolumeError {
  if (error instanceof VolumeError) return error;
  const name = nameOf(address);
  const code = systemCode(error);
  if (code === 'EADDRINUSE') return new VolumeError('in-use', `cannot listen on ${name}: it is in use by another program`, { cause: error });
  const text = error instanceof Error ? error.message : String(error);
  return new VolumeError('io-error', `cannot listen on ${name}: ${text}`, { cause: error });
}
