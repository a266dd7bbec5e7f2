/** Where the server listens: addresses, their spelling, and the sockets that a dead server left behind. */
import { lstat, unlink } from 'node:fs/promises';
import net from 'node:net';
import { systemCode, VolumeError } from '../base/errors.ts';

/** `port` 0 takes any free one. A `path` is a unix socket's. */
export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** A listener that is ready. `name` is the address as people write it, with the port it really has. */
export interface ListenerInfo {
  readonly name: string;
  readonly address: ListenAddress;
  /** What a client is given, without the export's name: `nbd://127.0.0.1:10809/` or `nbd+unix:///?socket=/run/b.sock`. */
  readonly uri: string;
}

/** The address of `HOST:PORT`, `[IPV6]:PORT`; throws `invalid-argument`. */
export function parseTcpAddress(text: string): ListenAddress {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65535 || (match?.[1] !== undefined && !net.isIPv6(host))) {
    throw new VolumeError('invalid-argument', `address "${text}" is not understood: write HOST:PORT, as in 127.0.0.1:10809 or [::1]:10809`);
  }
  return { kind: 'tcp', host, port };
}

function describe(server: net.Server, address: ListenAddress): ListenerInfo {
  if (address.kind === 'unix') {
    return { name: address.path, address, uri: `nbd+unix:///?socket=${encodeURIComponent(address.path).replaceAll('%2F', '/')}` };
  }
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : address.port;
  const host = net.isIPv6(address.host) ? `[${address.host}]` : address.host;
  return { name: `${host}:${port}`, address: { ...address, port }, uri: `nbd://${host}:${port}/` };
}

function listenOnce(server: net.Server, address: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
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
export async function listen(server: net.Server, address: ListenAddress): Promise<ListenerInfo> {
  try {
    try {
      await listenOnce(server, address);
    } catch (error) {
      if (address.kind !== 'unix' || systemCode(error) !== 'EADDRINUSE' || !(await isStaleSocket(address.path))) throw error;
      await unlink(address.path);
      await listenOnce(server, address);
    }
  } catch (error) {
    throw listenError(address, error);
  }
  return describe(server, address);
}

function listenError(address: ListenAddress, error: unknown): VolumeError {
  const name = address.kind === 'unix' ? address.path : `${address.host}:${address.port}`;
  const code = systemCode(error);
  if (code === 'EADDRINUSE') return new VolumeError('in-use', `cannot listen on ${name}: it is in use by another program`, { cause: error });
  const text = error instanceof Error ? error.message : String(error);
  return new VolumeError('io-error', `cannot listen on ${name}: ${text}`, { cause: error });
}
