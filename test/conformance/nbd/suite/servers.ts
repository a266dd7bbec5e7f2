/** The servers that the suite is run against without a URI: basalt in each of its ways, and two of other projects that check the suite. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createVolume } from '../../../../src/index.ts';
import { NbdClient } from '../../../support/nbd-client.ts';
import { TestPki } from '../../../support/test-pki.ts';
import type { KnownServer } from './deviations.ts';
import { type Target, targetOf } from './target.ts';

const ENTRY = join(process.cwd(), 'dist', 'cli', 'basalt.cjs');
const SIZE_BYTES = 64 * 1024 * 1024;
const HANDSHAKE_LIMIT_MS = 6000;
const START_LIMIT_MS = 30_000;

/** `tls`: it is forced; `selective`: whoever asks for it has it. */
export const BASALT_WAYS = ['tcp', 'unix', 'tls', 'selective', 'stdio'] as const;
export type BasaltWay = (typeof BASALT_WAYS)[number];

export interface RunningServer {
  readonly target: Target;
  stop(): Promise<void>;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

/** A folder with the volumes `disk`, `other`, `locked` (read-only) and perhaps `secret` (in TLS only), and settings for them. */
async function makeVolumes(way: BasaltWay): Promise<string> {
  if (!existsSync(ENTRY)) throw new Error(`${ENTRY} is not there: run \`make build\` first`);
  const folder = await mkdtemp(join(tmpdir(), 'basalt-conformance-'));
  await mkdir(join(folder, 'data'));
  for (const name of ['disk', 'other', 'locked', ...(way === 'selective' ? ['secret'] : [])]) await createVolume(join(folder, 'data', name), { size: SIZE_BYTES, durability: 'batched' });
  await writeFile(
    join(folder, 'basalt.toml'),
    `[server]\nhandshake_timeout_ms = ${HANDSHAKE_LIMIT_MS}\ntls_handshake_timeout_ms = ${HANDSHAKE_LIMIT_MS}\ndefault_export = "disk"\n\n[process]\nstop_grace_ms = 0\n\n[exports.locked]\nread_only = true\n\n[exports.secret]\ntls = "${way === 'selective' ? 'required' : 'optional'}"\n`,
  );
  return folder;
}

const serveWords = (folder: string, ...words: readonly string[]): string[] => [ENTRY, 'serve', '--data', join(folder, 'data'), '--config', join(folder, 'basalt.toml'), ...words];

const CHANGES = { otherExport: 'other', handshakeLimitMs: HANDSHAKE_LIMIT_MS };

async function basaltTarget(uri: (name: string) => string, way: BasaltWay): Promise<Target> {
  return targetOf(uri('disk'), { ...CHANGES, tlsOnlyExport: way === 'selective' ? 'secret' : null, readOnly: await targetOf(uri('locked')) });
}

const tlsQuery = (pki: TestPki | null): string => (pki === null ? '' : `tls-hostname=localhost&tls-certificates=${pki.directory}`);

/** What a child prints until it says that it listens. */
function listening(child: ChildProcess, pattern: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let out = '';
    let isUp = false;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (out += isUp ? '' : text));
    const timer = setTimeout(() => reject(new Error(`the server does not listen; it printed: ${out}`)), START_LIMIT_MS);
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      out += text;
      const found = pattern.exec(out)?.[1];
      if (found === undefined) return;
      clearTimeout(timer);
      isUp = true;
      resolve(found);
    });
    child.once('close', (code) => {
      clearTimeout(timer);
      reject(new Error(`the server ended with ${code}; it printed: ${out}`));
    });
  });
}

async function startListener(way: Exclude<BasaltWay, 'stdio'>): Promise<RunningServer> {
  const folder = await makeVolumes(way);
  const pki = way === 'tls' || way === 'selective' ? await TestPki.create() : null;
  const socket = join(folder, 'nbd.sock');
  const words = [
    ...(way === 'unix' ? ['--socket', socket] : ['--listen', '127.0.0.1:0']),
    ...(pki === null ? [] : ['--server.tls', way === 'tls' ? 'forced' : 'selective', '--server.tls-certificates', pki.directory]),
  ];
  const child = spawn(process.execPath, serveWords(folder, ...words), { stdio: ['ignore', 'pipe', 'pipe'] });
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended(child);
    await pki?.dispose();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const port = await listening(child, way === 'unix' ? /listening on (\S+)/ : /127\.0\.0\.1:(\d+)/);
    const secured = (name: string): string => `nbds://127.0.0.1:${port}/${name}?${tlsQuery(pki)}`;
    const uris: Record<typeof way, (name: string) => string> = {
      tcp: (name) => `nbd://127.0.0.1:${port}/${name}`,
      unix: (name) => `nbd+unix:///${name}?socket=${socket}`,
      tls: secured,
      selective: secured,
    };
    return { target: await basaltTarget(uris[way], way), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Each connection is a process of its own, and one at a time may have the volumes. */
async function startStdio(): Promise<RunningServer> {
  const folder = await makeVolumes('stdio');
  const path = join(folder, 'pair.sock');
  let last: ChildProcess | null = null;
  const accepting = net.createServer({ pauseOnConnect: true }, (socket) => {
    last = spawn(process.execPath, serveWords(folder, '--stdio'), { stdio: [socket, 'ignore', 'ignore'] });
    socket.destroy(); // ours; the child has its own
  });
  accepting.listen(path);
  await once(accepting, 'listening');
  const free = async (): Promise<void> => {
    if (last !== null) await ended(last);
  };
  const target = async (name: string): Promise<Target> => {
    const { connect, ...rest } = await targetOf(`nbd+unix:///${name}?socket=${path}`, { ...CHANGES, severalConnections: false });
    return { ...rest, connect: () => free().then(connect) };
  };
  const stop = async (): Promise<void> => {
    accepting.close();
    last?.kill('SIGKILL');
    await free();
    await rm(folder, { recursive: true, force: true });
  };
  return { target: { ...(await target('disk')), readOnly: await target('locked') }, stop };
}

export function startBasalt(way: BasaltWay): Promise<RunningServer> {
  return way === 'stdio' ? startStdio() : startListener(way);
}

/** Somebody else's program, on a unix socket. */
async function startOther(folder: string, name: string, words: (socket: string) => readonly string[]): Promise<{ socket: string; child: ChildProcess }> {
  const socket = join(folder, `${name}.sock`);
  const [program, ...rest] = words(socket);
  const child = spawn(program, rest, { stdio: 'ignore' });
  const began = performance.now();
  const target = await targetOf(`nbd+unix:///?socket=${socket}`);
  while (!(await isServing(target))) {
    if (child.exitCode !== null || performance.now() - began > START_LIMIT_MS) throw new Error(`${words(socket).join(' ')} does not start`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return { socket, child };
}

/** Not by its exit, of which we hear later than of its sockets; nor by a connection alone, which one that is about to end may still take. */
async function isServing({ connect }: Pick<Target, 'connect'>): Promise<boolean> {
  try {
    const client = NbdClient.over(await connect());
    await client.greet();
    client.socket.destroy();
    return true;
  } catch {
    return false;
  }
}

/** The program of a server; another version of it, perhaps: CONFORMANCE_NBDKIT, CONFORMANCE_QEMU_NBD. */
function programOf(server: KnownServer): string {
  return process.env[`CONFORMANCE_${server.replace('-', '_').toUpperCase()}`] ?? server;
}

/** The words that start a server of others. */
const WORDS: Readonly<Record<KnownServer, (options: { readonly socket: string; readonly readOnly: boolean; readonly image: string; readonly pki: TestPki | null }) => readonly string[]>> = {
  nbdkit: ({ socket, readOnly, pki }) => [
    ...[programOf('nbdkit'), '--foreground', '--unix', socket],
    ...(readOnly ? ['--readonly'] : []),
    ...(pki === null ? [] : ['--tls=require', `--tls-certificates=${pki.directory}`]),
    ...['memory', String(SIZE_BYTES)],
  ],
  'qemu-nbd': ({ socket, readOnly, image, pki }) => [
    ...[programOf('qemu-nbd'), '--persistent', '--shared=0', '--format=raw', '--export-name=disk', `--socket=${socket}`],
    ...(readOnly ? ['--read-only'] : []),
    ...(pki === null ? [] : ['--object', `tls-creds-x509,id=tls,endpoint=server,dir=${pki.directory}`, '--tls-creds=tls']),
    image,
  ],
};

/** `secured`: it forces TLS. */
export async function startKnown(server: KnownServer, secured = false): Promise<RunningServer> {
  const folder = await mkdtemp(join(tmpdir(), 'basalt-conformance-'));
  const pki = secured ? await TestPki.create() : null;
  const image = join(folder, 'image');
  await writeFile(image, '');
  await truncate(image, SIZE_BYTES);
  const children = new Map<string, ChildProcess>();
  const start = async (name: string): Promise<string> => {
    const { socket, child } = await startOther(folder, name, (path) => WORDS[server]({ socket: path, readOnly: name === 'read-only', image, pki }));
    children.set(name, child);
    return `${secured ? 'nbds+unix' : 'nbd+unix'}:///disk?socket=${socket}&${tlsQuery(pki)}`;
  };
  const stop = async (): Promise<void> => {
    for (const child of children.values()) child.kill('SIGKILL');
    await Promise.all([...children.values()].map(ended));
    await pki?.dispose();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const [uri, readOnlyUri] = [await start('writable'), await start('read-only')];
    const target = await targetOf(uri, { otherExport: server === 'nbdkit' ? 'other' : null, readOnly: await targetOf(readOnlyUri) });
    const revive = async (): Promise<void> => {
      if (await isServing(target)) return;
      const child = children.get('writable');
      child?.kill('SIGKILL');
      if (child !== undefined) await ended(child);
      await rm(join(folder, 'writable.sock'), { force: true });
      await start('writable');
    };
    return { target: { ...target, revive }, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
