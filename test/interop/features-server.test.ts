/** README's table "What of NBD is spoken", row by row, of the built server: limits, TLS, ways in; and that the table has these rows. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import net from 'node:net';
import { join } from 'node:path';
import type tls from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_EINVAL,
  NBD_ESHUTDOWN,
  NBD_FLAG_SEND_DF,
  NBD_OPT_GO,
  NBD_OPT_LIST,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STARTTLS,
  NBD_REP_ERR_SHUTDOWN,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNKNOWN,
} from '../../src/protocol/constants.ts';
import { infoRequestBytes, optionBytes, requestBytes } from '../support/nbd-bytes.ts';
import { NbdClient, NbdDisconnected } from '../support/nbd-client.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';
import { TestPki } from '../support/test-pki.ts';
import { FEATURE_ROWS, row, rowWith } from './feature-rows.ts';
import { basaltOk, RealServer } from './real-server.ts';
import { runOk } from './tools.ts';

const ENTRY = join(PROJECT_ROOT, 'dist/cli/basalt.cjs');
const KEY = Buffer.alloc(32, 0x5a);
const OPTIONS_MAX = 32;
let server: RealServer;
let pki: TestPki;
let strangers: TestPki;

beforeAll(async () => {
  [pki, strangers] = await Promise.all([TestPki.create(), TestPki.create()]);
  await writeFile(join(pki.directory, 'keys.psk'), `alice:${KEY.toString('hex')}\n`);
});
afterAll(async () => {
  await pki.dispose();
  await strangers.dispose();
});

const clients: NbdClient[] = [];
afterEach(async () => {
  for (const { socket } of clients.splice(0)) socket.destroy();
  await server.dispose();
});

async function start(flags: readonly string[] = [], volumes: readonly string[] = ['demo']): Promise<void> {
  server = await RealServer.create();
  for (const name of volumes) await server.createVolume(name, '16M');
  await server.start(...flags);
}

async function greeted(): Promise<NbdClient> {
  const client = await NbdClient.connect({ host: '127.0.0.1', port: server.port });
  clients.push(client);
  await client.greet();
  return client;
}

async function secured(options: tls.ConnectionOptions): Promise<NbdClient> {
  const client = await greeted();
  await client.startTls(options);
  return client;
}

const trust = (): tls.ConnectionOptions => ({ ca: pki.authority.certificate, servername: 'localhost' });
const showing = (who: TestPki): tls.ConnectionOptions => ({ ...trust(), cert: who.client.certificate, key: who.client.key });
const knowing = (psk: Buffer): tls.ConnectionOptions => ({ ciphers: 'PSK', pskCallback: () => ({ identity: 'alice', psk }), checkServerIdentity: () => undefined });
const certificates = (): string[] => ['--server.tls-certificates', pki.directory];

/** In TLS 1.3 a client is done before the server has judged it: the refusal comes with the first answer. */
async function reads(options: tls.ConnectionOptions): Promise<number> {
  const client = await secured(options);
  await client.go('demo');
  return (await client.read(0, 512)).length;
}

describe('limits', () => {
  row('limits of handshakes: options / time', 'one option too many ends the connection', async () => {
    await start(['--server.max-options', String(OPTIONS_MAX)]);
    const client = await greeted();
    for (let option = 0; option < OPTIONS_MAX; option += 1) await client.list();
    await expect(client.list()).rejects.toBeInstanceOf(NbdDisconnected);
    await (await greeted()).go('demo');
  });

  row('limits of handshakes: options / time', 'one that stalls is dropped, and one that is over is not', async () => {
    await start(['--server.handshake-timeout-ms', '2000']);
    const [silent, halfway, done] = [await NbdClient.connect({ host: '127.0.0.1', port: server.port }), await greeted(), await greeted()];
    await silent.take(18);
    halfway.send(optionBytes(NBD_OPT_GO, infoRequestBytes('demo')).subarray(0, 20));
    await done.go('demo');
    await silent.expectEnd();
    await halfway.expectEnd();
    expect(await done.read(0, 512)).toHaveLength(512);
  });
});

describe('TLS', () => {
  row('TLS: X.509 / PSK / peers verified', 'certificates alone, which clients check', async () => {
    await start(['--server.tls', 'forced', ...certificates()]);
    expect(await reads(trust())).toBe(512);
    await expect(reads({ ...trust(), ca: strangers.authority.certificate })).rejects.toBeInstanceOf(Error);
  });

  row('TLS: X.509 / PSK / peers verified', 'the right key, and no other', async () => {
    await start(['--server.tls', 'forced', '--server.tls-psk-file', join(pki.directory, 'keys.psk')]);
    expect(await reads(knowing(KEY))).toBe(512);
    await expect(reads(knowing(Buffer.alloc(32, 1)))).rejects.toBeInstanceOf(Error);
  });

  row('TLS: X.509 / PSK / peers verified', 'a certificate of the authority, and no other', async () => {
    await start(['--server.tls', 'forced', '--server.tls-verify-peer', 'true', ...certificates()]);
    expect(await reads(showing(pki))).toBe(512);
    await expect(reads(showing(strangers))).rejects.toBeInstanceOf(Error);
    await expect(reads(trust())).rejects.toBeInstanceOf(Error);
  });

  row('TLS: forced / selective, by export', 'forced: nothing but STARTTLS and ABORT before it', async () => {
    await start(['--server.tls', 'forced', ...certificates()]);
    const client = await greeted();
    for (const option of [NBD_OPT_LIST, 77]) expect((await client.refusedOption(option)).type).toBe(NBD_REP_ERR_TLS_REQD);
    expect((await client.refusedOption(NBD_OPT_GO, infoRequestBytes('demo'))).type).toBe(NBD_REP_ERR_TLS_REQD);
    await client.abort();
  });

  row('TLS: forced / selective, by export', 'selective: an export of TLS is nothing before it', async () => {
    server = await RealServer.create();
    for (const name of ['open', 'secret']) await server.createVolume(name, '1M');
    const config = join(server.directory, 'basalt.toml');
    await writeFile(config, '[exports.secret]\ntls = "required"\n');
    await server.start('--config', config, '--server.tls', 'selective', ...certificates());
    const client = await greeted();
    expect((await client.list()).map(({ name }) => name)).toEqual(['open']);
    for (const name of ['secret', 'none']) expect((await client.refusedOption(NBD_OPT_GO, infoRequestBytes(name))).type).toBe(NBD_REP_ERR_TLS_REQD);
    await client.go('open');
    const inside = await secured(trust());
    expect((await inside.refusedOption(NBD_OPT_GO, infoRequestBytes('none'))).type).toBe(NBD_REP_ERR_UNKNOWN);
    await inside.go('secret');
  });

  row('STARTTLS: bytes behind it / state before it / TLS 1.1', 'bytes behind it end the connection', async () => {
    await start(['--server.tls', 'selective', ...certificates()]);
    const client = await greeted();
    client.send(Buffer.concat([optionBytes(NBD_OPT_STARTTLS), optionBytes(NBD_OPT_LIST)]));
    await client.expectEnd();
  });

  row('STARTTLS: bytes behind it / state before it / TLS 1.1', 'what was agreed before it is void', async () => {
    await start(['--server.tls', 'selective', ...certificates()]);
    const client = await greeted();
    await client.agree('structured');
    await client.contexts(NBD_OPT_SET_META_CONTEXT, 'demo', ['base:allocation']);
    await client.startTls(trust());
    client.reader.style = 'simple';
    expect((await client.go('demo')).transmissionFlags & NBD_FLAG_SEND_DF).toBe(0);
    expect((await client.request({ command: NBD_CMD_BLOCK_STATUS, offset: 0, length: 4096 })).error).toBe(NBD_EINVAL);
    expect(await client.read(0, 512)).toHaveLength(512);
  });

  row('STARTTLS: bytes behind it / state before it / TLS 1.1', 'TLS 1.1 is refused, 1.2 and 1.3 are not', async () => {
    await start(['--server.tls', 'forced', ...certificates()]);
    const old = { ...trust(), minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    for (const maxVersion of ['TLSv1', 'TLSv1.1'] as const) await expect(reads({ ...old, maxVersion })).rejects.toMatchObject({ code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION' });
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) expect(await reads({ ...trust(), minVersion: version, maxVersion: version })).toBe(512);
  });
});

describe('ways in', () => {
  row('unix sockets / stdio / LISTEN_FDS / vsock', 'a unix socket', async () => {
    await start();
    const client = await NbdClient.open({ path: server.socketPath }, 'demo');
    await client.write(0, Buffer.alloc(4096, 1));
    await client.close();
  });

  row('unix sockets / stdio / LISTEN_FDS / vsock', 'standard input', async () => {
    server = await RealServer.create();
    await server.createVolume('demo', '1M');
    const { client, exit } = await connectedChild(['serve', '--stdio', '--data', server.dataDirectory]);
    expect(await client.read(0, 512)).toHaveLength(512);
    await client.close();
    expect(await exit).toEqual([0, null]);
  });

  rowWith(['nbdsh'], 'unix sockets / stdio / LISTEN_FDS / vsock', 'a socket that a client has opened for it', async () => {
    server = await RealServer.create();
    await server.createVolume('demo', '1M');
    const command = [process.execPath, ENTRY, 'serve', '--data', server.dataDirectory].map((word) => JSON.stringify(word)).join(', ');
    await runOk('nbdsh', '-c', `h.connect_systemd_socket_activation([${command}])`, '-c', 'assert h.get_size() == 2 ** 20 and len(h.pread(512, 0)) == 512');
  });
});

/** A server whose standard input is the other end of a client that has opened `demo`. */
async function connectedChild(words: readonly string[]): Promise<{ client: NbdClient; exit: Promise<unknown[]> }> {
  const listener = net.createServer({ pauseOnConnect: true });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  if (address === null || typeof address === 'string') throw new Error('no address');
  const exit = new Promise<unknown[]>((resolve, reject) => {
    listener.once('connection', (socket: net.Socket) => {
      const child = spawn(process.execPath, [ENTRY, ...words], { stdio: [socket, 'ignore', 'ignore'] });
      socket.destroy();
      listener.close();
      once(child, 'exit').then(resolve, reject);
    });
  });
  const client = await NbdClient.open({ host: '127.0.0.1', port: address.port }, 'demo');
  return { client, exit };
}

describe('a server', () => {
  row('ESHUTDOWN on stop', 'what comes after it is refused so, and what came before is done', async () => {
    await start();
    const [busy, kernel, negotiating] = [await greeted(), await NbdClient.open({ path: server.socketPath }, 'demo'), await greeted()];
    await busy.agree('structured');
    await busy.go('demo');
    busy.send(requestBytes({ command: NBD_CMD_WRITE, cookie: Buffer.alloc(8, 1), offset: 0, length: 8192 }));
    busy.send(Buffer.alloc(4096, 5));
    await (await greeted()).list(); // by now the half of a write has been read
    server.process.signal('SIGTERM');
    await server.process.waitFor('the stop to begin', () => server.process.error.includes('"stopping"'));
    expect((await negotiating.refusedOption(NBD_OPT_LIST)).type).toBe(NBD_REP_ERR_SHUTDOWN);
    const read = requestBytes({ command: NBD_CMD_READ, cookie: Buffer.alloc(8, 2), length: 512 });
    busy.reader.request(Buffer.alloc(8, 1), { command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(8192) });
    busy.send(Buffer.concat([Buffer.alloc(4096, 5), read]));
    const refused = await busy.request({ command: NBD_CMD_READ, cookie: Buffer.alloc(8, 2), offset: 0, length: 512 });
    expect(refused.error).toBe(NBD_ESHUTDOWN);
    await kernel.expectEnd(); // simple replies: it is told nothing, and comes back
    expect(await server.process.finished).toMatchObject({ status: 0 });
  });

  row('many exports, made while it runs', 'each is its own', async () => {
    const names = Array.from({ length: 8 }, (_, index) => `v${index}`);
    await start([], names);
    await basaltOk('create', 'late', '1M', '--data', server.dataDirectory);
    const all = [...names, 'late'].toSorted();
    expect((await (await greeted()).list()).map(({ name }) => name)).toEqual(all);
    const opened = await Promise.all(all.map((name) => NbdClient.open({ path: server.socketPath }, name)));
    await Promise.all(opened.map((client, index) => client.write(0, Buffer.alloc(4096, index + 1))));
    const found = await Promise.all(opened.map((client) => client.read(0, 4096)));
    expect(found.every((bytes, index) => bytes.equals(Buffer.alloc(4096, index + 1)))).toBe(true);
    await Promise.all(opened.map((client) => client.close()));
  });
});

const text = (path: string): string => readFileSync(join(PROJECT_ROOT, path), 'utf8');

test('the table in the README has these rows, and each row has its tests', () => {
  const [, section] = text('README.md').split('## What of NBD is spoken\n');
  const cells = section.split('\n## ')[0].split('\n').filter((line) => line.startsWith('| ')).map((line) => line.split(' | ')[0].slice(2));
  expect(cells.slice(cells.indexOf('feature') + 1, cells.indexOf('bit'))).toEqual([...FEATURE_ROWS]);
  const tests = text('test/interop/features.test.ts') + text('test/interop/features-server.test.ts');
  for (const name of FEATURE_ROWS) expect(tests).toContain(`'${name}', '`);
});
