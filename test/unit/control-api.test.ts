import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { ControlClient } from '../../src/control/control-client.ts';
import type { ControlServer } from '../../src/control/control-server.ts';
import { EventFeed, tellingLogger } from '../../src/control/events.ts';
import { ControlToken } from '../../src/control/token.ts';
import { createJsonLogger } from '../../src/env/node-env.ts';
import type { TrafficTable } from '../../src/session/traffic.ts';
import { type Answer, type ControlWorld, NamedVolumes, askOver, exchangeRaw, parse, someTraffic, startControl, until } from '../support/control-harness.ts';
import { MemoryLogger } from '../support/fake-world.ts';
import { at, violations } from '../support/json-schema.ts';
import { text } from '../support/text.ts';

const TOKEN = 'correct-horse-battery-staple';
const document: unknown = JSON.parse(readFileSync(new URL('../../src/control/openapi.json', import.meta.url), 'utf8'));

let directory: string;
let volumes: NamedVolumes;
let traffic: TrafficTable;
let logger: MemoryLogger;
let server: ControlServer | null = null;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'basalt-control-'));
  volumes = new NamedVolumes();
  traffic = someTraffic();
  logger = new MemoryLogger();
  for (const name of ['a', 'open']) await volumes.create(name, { sizeBytes: 1024 * 1024, blockSizeBytes: 4096, durability: 'batched' });
});

afterEach(async () => {
  await server?.stop();
  server = null;
  rmSync(directory, { recursive: true, force: true });
});

async function start(world: Partial<ControlWorld> = {}): Promise<ControlServer> {
  server = await startControl({ directory, volumes, logger, traffic, ...world });
  return server;
}

const socketPath = (): string => join(directory, 'control.sock');
const ask = (method: string, path: string, body: unknown = null): Promise<Answer> => askOver(socketPath(), method, path, body === null || typeof body === 'string' ? body : JSON.stringify(body));

function expectAsDescribed(route: string, method: string, { status, body }: Answer): void {
  const schema = at(document, ['paths', route, method, 'responses', String(status), 'content', 'application/json', 'schema']);
  expect(violations(document, schema, body)).toEqual([]);
}

describe('the API', () => {
  test('makes, labels, renames and deletes volumes, and answers as openapi.json says', async () => {
    await start();
    const made = await ask('POST', '/v1/volumes', { name: 'new', sizeBytes: 65_536, blockSizeBytes: 8192, durability: 'strict' });
    expect(made).toMatchObject({ status: 201, body: { name: 'new', sizeBytes: 65_536, blockSizeBytes: 8192, durability: 'strict', live: null } });
    expectAsDescribed('/v1/volumes', 'post', made);
    expect(await ask('POST', '/v1/volumes', { name: 'usual', sizeBytes: 65_536 })).toMatchObject({ status: 201, body: { blockSizeBytes: 4096, durability: 'batched', compression: 'default' } });
    const labelled = await ask('PATCH', '/v1/volumes/new/labels', { labels: { owner: 'alice', tier: 'scratch' } });
    expect(labelled).toMatchObject({ status: 200, body: { name: 'new', labels: { owner: 'alice', tier: 'scratch' } } });
    expectAsDescribed('/v1/volumes/{name}/labels', 'patch', labelled);
    expect(await ask('PATCH', '/v1/volumes/new/labels', { labels: { tier: null } })).toMatchObject({ status: 200, body: { labels: { owner: 'alice' } } });
    const renamed = await ask('PUT', '/v1/volumes/new/name', { name: 'other' });
    expect(renamed).toMatchObject({ status: 200, body: { name: 'other', renamedFrom: 'new' } });
    expectAsDescribed('/v1/volumes/{name}/name', 'put', renamed);
    const labels = await ask('GET', '/v1/volumes/other/labels');
    expect(labels.body).toEqual({ name: 'other', labels: { owner: 'alice' } });
    expectAsDescribed('/v1/volumes/{name}/labels', 'get', labels);
    expectAsDescribed('/v1/volumes/{name}', 'get', await ask('GET', '/v1/volumes/other'));
    const resized = await ask('PUT', '/v1/volumes/other/size', { sizeBytes: 131_072 });
    expect(resized).toMatchObject({ status: 200, body: { name: 'other', sizeBytes: 131_072 } });
    expectAsDescribed('/v1/volumes/{name}/size', 'put', resized);
    expect(await ask('PUT', '/v1/volumes/other/size', { sizeBytes: 8192 })).toMatchObject({ status: 400, body: { error: { code: 'invalid-argument', context: { needsConsent: true } } } });
    expect(await ask('PUT', '/v1/volumes/other/size', { sizeBytes: 8192, acceptDataLoss: true })).toMatchObject({ status: 200, body: { sizeBytes: 8192 } });
    const limited = await ask('PATCH', '/v1/volumes/other/limits', { limits: { operationsPerSecond: 100, burstOperations: 400 } });
    expect(limited).toMatchObject({ status: 200, body: { name: 'other', limits: { operationsPerSecond: 100, burstOperations: 400, bytesPerSecond: null, burstBytes: null } } });
    expectAsDescribed('/v1/volumes/{name}/limits', 'patch', limited);
    expectAsDescribed('/v1/volumes/{name}/limits', 'get', await ask('GET', '/v1/volumes/other/limits'));
    const deleted = await ask('DELETE', '/v1/volumes/other');
    expect(deleted).toMatchObject({ status: 200, body: { deleted: 'other' } });
    expectAsDescribed('/v1/volumes/{name}', 'delete', deleted);
    expect([...volumes.infos.keys()]).toEqual(['a', 'open', 'usual']);
  });

  test('makes volumes with and without compression, and says what a change does to new chunks', async () => {
    await start();
    for (const [compression, chunkCompress] of [['lz4', 'lz4'], ['none', 'off'], ['default', 'off']] as const) {
      const name = `of-${compression}`;
      expect(await ask('POST', '/v1/volumes', { name, sizeBytes: 65_536, compression })).toMatchObject({ status: 201, body: { compression, chunkCompress, space: null } });
      const changed = await ask('PUT', '/v1/volumes/a/compression', { compression });
      expect(changed).toMatchObject({ status: 200, body: { name: 'a', compression, chunkCompress } });
      expect(volumes.infos.get('a')).toMatchObject({ compression, chunkCompress });
    }
  });

  test('forgets the statistics of what is gone', async () => {
    await start();
    await ask('DELETE', '/v1/volumes/open');
    expect(traffic.find('open')).toBeNull();
  });

  test.each([
    ['POST', '/v1/volumes', {}, 400, 'invalid-argument', '"name" must be a text'],
    ['POST', '/v1/volumes', { name: 'x' }, 400, 'invalid-argument', '"sizeBytes" must be a whole number of bytes'],
    ['POST', '/v1/volumes', { name: 'x', sizeBytes: '1G' }, 400, 'invalid-argument', '"sizeBytes" must be a whole number of bytes'],
    ['POST', '/v1/volumes', { name: 'x', sizeBytes: 1.5 }, 400, 'invalid-argument', '"sizeBytes" must be a whole number of bytes'],
    ['POST', '/v1/volumes', { name: 'x', sizeBytes: 4096, size: 1 }, 400, 'invalid-argument', /no field "size"; did you mean [a-zA-Z]+\?/],
    ['POST', '/v1/volumes', { name: 'x', sizeBytes: 4096, durability: 'stric' }, 400, 'invalid-argument', /did you mean strict\?/],
    ['POST', '/v1/volumes', { name: 'x', sizeBytes: 4096, durability: 'async' }, 400, 'invalid-argument', /"acceptDataLoss": true says that this is wanted/],
    ['POST', '/v1/volumes', { name: 'x', sizeBytes: 4096, compression: 'lz5' }, 400, 'invalid-argument', '"compression" must be one of default, none, lz4; did you mean lz4?'],
    ['POST', '/v1/volumes', { name: 'x', sizeBytes: 4096, compression: null }, 400, 'invalid-argument', '"compression" must be one of default, none, lz4'],
    ['PUT', '/v1/volumes/a/compression', {}, 400, 'invalid-argument', '"compression" must be one of default, none, lz4'],
    ['PUT', '/v1/volumes/a/compression', { compression: 'lz5' }, 400, 'invalid-argument', '"compression" must be one of default, none, lz4; did you mean lz4?'],
    ['PUT', '/v1/volumes/a/compression', { compression: true }, 400, 'invalid-argument', '"compression" must be one of default, none, lz4'],
    ['PUT', '/v1/volumes/a/compression', { compress: 'lz4' }, 400, 'invalid-argument', 'no field "compress"; did you mean compression?'],
    ['PUT', '/v1/volumes/a/compression', [], 400, 'invalid-argument', 'the body must be a JSON object with compression'],
    ['PUT', '/v1/volumes/none/compression', { compression: 'lz4' }, 404, 'not-found', 'no volume none'],
    ['POST', '/v1/volumes', { name: 'a', sizeBytes: 4096 }, 409, 'already-exists', 'volume a exists'],
    ['POST', '/v1/volumes', '{', 400, 'bad-json', /not JSON/],
    ['POST', '/v1/volumes', [], 400, 'invalid-argument', /must be a JSON object/],
    ['DELETE', '/v1/volumes/none', null, 404, 'not-found', 'no volume none'],
    ['DELETE', '/v1/volumes/a', '{}', 400, 'bad-request', 'a DELETE has no body'],
    ['PUT', '/v1/volumes/a/name', { name: 7 }, 400, 'invalid-argument', '"name" must be a text'],
    ['PUT', '/v1/volumes/a/name', { nam: 'b' }, 400, 'invalid-argument', 'no field "nam"; did you mean name?'],
    ['PUT', '/v1/volumes/a/name', { name: 'open' }, 409, 'already-exists', 'volume open exists'],
    ['PUT', '/v1/volumes/none/name', { name: 'b' }, 404, 'not-found', 'no volume none'],
    ['PUT', '/v1/volumes/a/size', {}, 400, 'invalid-argument', '"sizeBytes" must be a whole number of bytes'],
    ['PUT', '/v1/volumes/a/size', { sizeBytes: 4096 }, 400, 'invalid-argument', /smaller cuts off/],
    ['PUT', '/v1/volumes/a/size', { sizeBytes: 4096, acceptDataLoss: 1 }, 400, 'invalid-argument', '"acceptDataLoss" must be true or false'],
    ['PUT', '/v1/volumes/none/size', { sizeBytes: 4096 }, 404, 'not-found', 'no volume none'],
    ['PATCH', '/v1/volumes/a/labels', { labels: 'x' }, 400, 'invalid-argument', /"labels" must be an object of texts/],
    ['PATCH', '/v1/volumes/a/labels', { labels: ['x'] }, 400, 'invalid-argument', /"labels" must be an object of texts/],
    ['PATCH', '/v1/volumes/a/labels', { labels: { x: 1 } }, 400, 'invalid-argument', 'label "x" must be a text, or null to take it away'],
    ['PATCH', '/v1/volumes/a/labels', { labels: { 'no good': 'x' } }, 400, 'invalid-argument', /label "no good": a key is of 1 to 63 letters/],
    ['PATCH', '/v1/volumes/a/labels', { labels: { gone: null } }, 400, 'invalid-argument', 'there is no label "gone"; there are: none'],
    ['PATCH', '/v1/volumes/a', {}, 405, 'wrong-method', '/v1/volumes/a takes GET, DELETE, not PATCH'],
    ['PATCH', '/v1/volumes/a/limits', { limits: [] }, 400, 'invalid-argument', /^"limits" must be a JSON object with operationsPerSecond/],
    ['PATCH', '/v1/volumes/a/limits', { limits: { iops: 5 } }, 400, 'invalid-argument', /no field "iops"; did you mean/],
    ['PATCH', '/v1/volumes/a/limits', { limits: { operationsPerSecond: '5' } }, 400, 'invalid-argument', 'limit "operationsPerSecond" must be a number, or null to take it away'],
    ['PATCH', '/v1/volumes/a/limits', { limits: { operationsPerSecond: 0 } }, 400, 'invalid-argument', 'operationsPerSecond 0: give a whole number from 1 to 1000000000'],
    ['PATCH', '/v1/volumes/a/limits', { limits: { burstBytes: 8192 } }, 400, 'invalid-argument', /a burst of bytes goes with a limit/],
    ['PATCH', '/v1/volumes/none/limits', { limits: {} }, 404, 'not-found', 'no volume none'],
    ['POST', '/v1/volumes', { name: 'x', sizeBytes: 4096, limits: { bytesPerSecond: 1 } }, 400, 'invalid-argument', /bytesPerSecond 1: give a whole number from 4096/],
    ['GET', '/v1/volumes/none/stats', null, 404, 'not-found', 'no volume none'],
  ] as const)('refuses %s %s %j', async (method, path, body, status, code, message) => {
    await start();
    const before = JSON.stringify([...volumes.infos]);
    const answer = await ask(method, path, body);
    expect(answer).toMatchObject({ status, body: { error: { code, message: typeof message === 'string' ? message : text(message) } } });
    expect(violations(document, at(document, ['components', 'schemas', 'Error']), answer.body)).toEqual([]);
    expect(JSON.stringify([...volumes.infos])).toBe(before);
  });
});

describe('the client', () => {
  test('asks for changes, and errors keep their code and their context', async () => {
    await start();
    const client = new ControlClient(directory);
    expect(await client.setLabels('a', { owner: 'bob' })).toEqual({ owner: 'bob' });
    await client.rename('a', 'b');
    expect(await client.labelsOf('b')).toEqual({ owner: 'bob' });
    await client.remove('b');
    await expect(client.remove('b')).rejects.toMatchObject({ code: 'not-found' });
    volumes.trouble = new VolumeError('in-use', 'it is', { context: { volume: 'open', users: 2 } });
    await expect(client.describe('open')).rejects.toMatchObject({ code: 'in-use', context: { volume: 'open', users: 2 } });
  });
});

/** What has arrived of a stream that goes on. */
async function follow(): Promise<{ readonly socket: net.Socket; read: () => string }> {
  const socket = net.connect({ path: socketPath() });
  let all = '';
  socket.setEncoding('utf8').on('data', (part: string) => void (all += part));
  socket.write('GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n');
  await until(() => all.includes(': basalt'));
  return { socket, read: () => all };
}

describe('events', () => {
  test('are told as they happen, numbered, until the client goes', async () => {
    const events = new EventFeed();
    const told = tellingLogger(logger, events, (write) => createJsonLogger('info', write));
    await start({ events });
    told.log('info', 'before', {});
    const { socket, read } = await follow();
    expect(read()).toMatch(/^HTTP\/1\.1 200 OK\r\ncontent-type: text\/event-stream\r\n/u);
    told.log('debug', 'detail', {});
    told.log('info', 'volume-opened', { volume: 'a' });
    told.log('error', 'volume-failed', { volume: 'a', error: new Error('no disk') });
    await until(() => read().includes('no disk'));
    const found = [...read().matchAll(/id: (\d+)\nevent: (\S+)\ndata: (.*)\n\n/gu)].map(([, id, event, data]) => [id, event, at(JSON.parse(data), ['volume'])]);
    expect(found).toEqual([['1', 'volume-opened', 'a'], ['2', 'volume-failed', 'a']]);
    expect(logger.events()).toEqual(['before', 'detail', 'volume-opened', 'volume-failed']);
    socket.destroy();
    await until(() => events.listenerCount === 0);
  });

  test('end when the server stops', async () => {
    const events = new EventFeed();
    const running = await start({ events });
    const { socket } = await follow();
    const closed = once(socket, 'close');
    server = null;
    await running.stop();
    await closed;
    expect(events.listenerCount).toBe(0);
  });

  test('are not kept for a client that does not take them', async () => {
    const events = new EventFeed();
    await start({ events });
    const { socket } = await follow();
    socket.pause();
    const line = JSON.stringify({ text: 'x'.repeat(64 * 1024) });
    for (let count = 0; count < 400 && events.listenerCount > 0; count += 1) {
      events.publish('much', line);
      await new Promise((resolve) => void setImmediate(resolve));
    }
    expect(events.listenerCount).toBe(0);
    socket.destroy();
  });
});

async function over(running: ControlServer, head: string): Promise<Answer> {
  const { port } = running;
  if (port === null) throw new Error('it does not listen');
  return parse(await exchangeRaw({ host: '127.0.0.1', port }, `GET /v1/server HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${head}\r\n`));
}

describe('over TCP', () => {
  test('nobody comes in without the token, and the socket needs none', async () => {
    const running = await start({ token: TOKEN });
    for (const head of ['', 'Authorization: Basic YTpi\r\n', 'Authorization: Bearer\r\n']) {
      expect(await over(running, head)).toMatchObject({ status: 401, head: text(/www-authenticate: Bearer/i), body: { error: { code: 'no-token', message: text(/"Authorization: Bearer TOKEN"/) } } });
    }
    for (const wrong of [`${TOKEN}x`, TOKEN.slice(1), TOKEN.toUpperCase()]) {
      expect(await over(running, `Authorization: Bearer ${wrong}\r\n`)).toMatchObject({ status: 401, body: { error: { code: 'wrong-token' } } });
    }
    expect(await over(running, `Authorization: Bearer ${TOKEN}\r\n`)).toMatchObject({ status: 200, body: { apiVersion: 1 } });
    expect(await over(running, `authorization: bearer ${TOKEN}\r\n`)).toMatchObject({ status: 200 });
    expect((await ask('GET', '/v1/server')).status).toBe(200);
  });

  test('who shows no token gets one answer at most, however much he asks', async () => {
    const { port } = await start({ token: TOKEN });
    const answers = await exchangeRaw({ host: '127.0.0.1', port: port ?? 0 }, 'GET /v1/server HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(100));
    expect([...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status).slice(1)).toEqual([]);
    for (let round = 0; round < 20; round += 1) expect((await ask('GET', '/v1/server')).status).toBe(200);
  });

  test('it does not listen unless it is told to', async () => {
    expect((await start()).port).toBeNull();
  });

  test.each([
    ['that others may read', `${TOKEN}\n`, 0o644, /may be read by others \(mode 644\): chmod 600/],
    ['that is short', 'secret\n', 0o600, /must hold one word of at least 22 characters; make one with/],
    ['of several words', 'correct horse battery staple', 0o600, /must hold one word/],
  ])('a token file %s is refused', async (_, content, mode, message) => {
    const path = join(directory, 'token');
    writeFileSync(path, content);
    chmodSync(path, mode);
    await expect(ControlToken.read(path)).rejects.toMatchObject({ code: 'invalid-argument', message: text(message) });
  });

  test('a token file is read, and one that is not there is an error', async () => {
    const path = join(directory, 'token');
    writeFileSync(path, `${TOKEN}\n`, { mode: 0o600 });
    const token = await ControlToken.read(path);
    expect(() => token.check(`Bearer ${TOKEN}`)).not.toThrow();
    expect(() => token.check('Bearer other')).toThrow(/not the token/);
    await expect(ControlToken.read(join(directory, 'none'))).rejects.toMatchObject({ code: 'io-error' });
  });
});
