import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { at, violations } from '../support/json-schema.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { basalt, basaltOk, RealServer } from './real-server.ts';

let server: RealServer;
let client: NbdClient | null = null;

beforeEach(async () => {
  server = await RealServer.create();
  await server.createVolume('demo', '16M');
});
afterEach(async () => {
  client?.socket.destroy();
  client = null;
  await server.dispose();
});

const socketPath = (): string => join(server.dataDirectory, 'control.sock');
const data = (): readonly string[] => ['--data', server.dataDirectory];

async function connect(): Promise<NbdClient> {
  client = await NbdClient.open({ path: server.socketPath }, 'demo');
  return client;
}

async function show(): Promise<unknown> {
  const value: unknown = JSON.parse(await basaltOk('show', 'demo', '--json', ...data()));
  return value;
}

function get(path: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath: socketPath(), path, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => void (text += part));
      response.on('end', () => resolve(JSON.parse(text)));
    });
    call.on('error', reject);
    call.end();
  });
}

describe('a running server', () => {
  test('changes the mode of a volume with a client at work, and says what is at risk', async () => {
    await server.start('--set', 'engine.async_interval_ms=1h', '--set', 'engine.flush_interval_ms=1h');
    const nbd = await connect();
    expect(await basaltOk('durability', 'demo', 'async', '--accept-data-loss', ...data())).toContain('demo is async from now on');
    await nbd.write(0, Buffer.alloc(8192, 7));
    expect(await show()).toMatchObject({ durability: 'async', open: true, live: { atRisk: { unsynced: { bytes: 8192 }, unchunked: { bytes: 8192 } } } });
    expect(JSON.parse(await basaltOk('durability', 'demo', 'strict', '--json', ...data()))).toEqual({ name: 'demo', durability: 'strict', live: true });
    expect(await show()).toMatchObject({ durability: 'strict', live: { atRisk: { unsynced: { bytes: 0, ageMs: 0 } }, failure: null } });
    await nbd.write(8192, Buffer.alloc(4096, 8));
    // What async answered and strict answered is there after a kill.
    server.process.signal('SIGKILL');
    await server.process.finished;
    await server.start();
    expect(await (await connect()).read(0, 12_288)).toEqual(Buffer.concat([Buffer.alloc(8192, 7), Buffer.alloc(4096, 8)]));
    expect(await show()).toMatchObject({ durability: 'strict' });
  });

  test('is found and told of by its socket, for its owner only, which goes when it stops', async () => {
    await server.start();
    expect(statSync(socketPath()).mode & 0o777).toBe(0o600);
    expect(await get('/v1/server')).toMatchObject({ apiVersion: 1, directory: server.dataDirectory, listeners: [`nbd://127.0.0.1:${server.port}/`, `nbd+unix:///?socket=${server.socketPath}`] });
    expect((await server.stop()).status).toBe(0);
    expect(existsSync(socketPath())).toBe(false);
    expect(await show()).toMatchObject({ name: 'demo', live: null });
    expect(await basaltOk('durability', 'demo', 'relaxed', ...data())).toContain('relaxed');
    expect(await show()).toMatchObject({ durability: 'relaxed' });
  });

  test('keeps another one out of its directory, and a killed one does not', async () => {
    await server.start();
    const pid = at(await get('/v1/server'), ['pid']);
    const second = await basalt('serve', ...data(), '--listen', '127.0.0.1:0');
    expect(second).toMatchObject({ status: 1, out: '' });
    expect(second.error).toContain(`is served by process ${String(pid)} already; use that server, or stop it first`);
    expect(await get('/v1/server')).toMatchObject({ pid });
    server.process.signal('SIGKILL');
    await server.process.finished;
    expect(existsSync(socketPath())).toBe(true);
    expect(await show()).toMatchObject({ live: null });
    await server.start();
    expect(at(await get('/v1/server'), ['pid'])).not.toBe(pid);
  });

  test('answers as openapi.json says', async () => {
    await server.start();
    await (await connect()).write(0, Buffer.alloc(4096, 1));
    const document: unknown = JSON.parse(readFileSync(new URL('../../src/control/openapi.json', import.meta.url), 'utf8'));
    for (const [path, route] of [['/v1/server', '/v1/server'], ['/v1/volumes', '/v1/volumes'], ['/v1/volumes/demo', '/v1/volumes/{name}'], ['/v1/volumes/demo/durability', '/v1/volumes/{name}/durability']]) {
      const schema = at(document, ['paths', route, 'get', 'responses', '200', 'content', 'application/json', 'schema']);
      expect(violations(document, schema, await get(path)), path).toEqual([]);
    }
  });

  test('serves without a control socket where something else is in its place', async () => {
    writeFileSync(socketPath(), 'mine');
    await server.start();
    await (await connect()).write(0, Buffer.alloc(4096, 1));
    expect((await server.stop()).error).toContain('"event":"no-control-socket"');
    expect(readFileSync(socketPath(), 'utf8')).toBe('mine');
  });
});

test('a volume cannot have the name of the control socket', async () => {
  const { status, error } = await basalt('create', 'control.sock', '1M', ...data());
  expect([status, error]).toEqual([2, 'basalt: volume name "control.sock" is that of the control socket\n']);
});
