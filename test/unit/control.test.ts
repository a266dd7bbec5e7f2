import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { deferred } from '../../src/base/async.ts';
import { VolumeError } from '../../src/base/errors.ts';
import type { ControlSettings } from '../../src/config/settings.ts';
import { ControlClient } from '../../src/control/control-client.ts';
import type { ControlServer } from '../../src/control/control-server.ts';
import { ROUTES } from '../../src/control/routes.ts';
import { ControlSocket } from '../../src/control/socket-file.ts';
import { NodeFileSystem } from '../../src/env/node-files.ts';
import type { Progress } from '../../src/volume/volume-info.ts';
import { type Answer, NamedVolumes, SCRUBBED, STATUS, askOver, exchangeRaw, parse, someTraffic, startControl, until } from '../support/control-harness.ts';
import { MemoryLogger } from '../support/fake-world.ts';
import { at, violations } from '../support/json-schema.ts';
import { text } from '../support/text.ts';

const traffic = someTraffic();
const files = new NodeFileSystem();
let directory: string;
let volumes: NamedVolumes;
let logger: MemoryLogger;
let server: ControlServer | null = null;

async function start(settings: Partial<ControlSettings> = {}): Promise<ControlServer> {
  server = await startControl({ directory, volumes, logger, traffic, settings });
  return server;
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'basalt-control-'));
  volumes = new NamedVolumes();
  logger = new MemoryLogger();
  for (const name of ['a', 'open', 'größe & Co']) await volumes.create(name, { sizeBytes: 1024 * 1024, blockSizeBytes: 4096, durability: 'batched' });
});

afterEach(async () => {
  await server?.stop();
  server = null;
  rmSync(directory, { recursive: true, force: true });
});

const socketPath = (): string => join(directory, 'control.sock');
const raw = (bytes: string | readonly string[]): Promise<string> => exchangeRaw(socketPath(), bytes);
const ask = (method: string, path: string, body: string | null = null): Promise<Answer> => askOver(socketPath(), method, path, body);

const keysOf = (value: unknown): string[] => (typeof value === 'object' && value !== null ? Object.keys(value) : []);

const PUT_A = '/v1/volumes/a/durability';

describe('the API', () => {
  const document: unknown = JSON.parse(readFileSync(new URL('../../src/control/openapi.json', import.meta.url), 'utf8'));

  test('is the one that openapi.json describes: the same paths and methods', () => {
    const paths = keysOf(at(document, ['paths']));
    const described = paths.flatMap((path) => keysOf(at(document, ['paths', path])).filter((key) => key !== 'parameters').map((method) => `${method.toUpperCase()} ${path}`));
    expect(described.toSorted()).toEqual(ROUTES.map(({ method, path }) => `${method} ${path}`).toSorted());
  });

  test.each([
    ['GET', '/v1/server', '/v1/server', null],
    ['GET', '/v1/volumes', '/v1/volumes', null],
    ['GET', '/v1/stats', '/v1/stats', null],
    ['GET', '/v1/volumes/open/stats', '/v1/volumes/{name}/stats', null],
    ['GET', '/v1/volumes/a/stats', '/v1/volumes/{name}/stats', null],
    ['GET', '/v1/volumes/a', '/v1/volumes/{name}', null],
    ['GET', '/v1/volumes/open', '/v1/volumes/{name}', null],
    ['GET', '/v1/volumes/a/durability', '/v1/volumes/{name}/durability', null],
    ['PUT', '/v1/volumes/a/durability', '/v1/volumes/{name}/durability', '{"durability":"strict"}'],
    ['GET', '/v1/volumes/a/compression', '/v1/volumes/{name}/compression', null],
    ['PUT', '/v1/volumes/a/compression', '/v1/volumes/{name}/compression', '{"compression":"lz4"}'],
  ])('answers %s %s as it says', async (method, path, route, body) => {
    await start();
    const answer = await ask(method, path, body);
    expect(answer.status).toBe(200);
    expect(answer.head).toMatch(/content-type: application\/json/i);
    const schema = at(document, ['paths', route, method.toLowerCase(), 'responses', '200', 'content', 'application/json', 'schema']);
    expect(violations(document, schema, answer.body)).toEqual([]);
  });

  test('answers errors as it says', async () => {
    await start();
    const schema = at(document, ['components', 'schemas', 'Error']);
    for (const path of ['/', '/v1/volumes/none', '/v1/volumes/%ff']) expect(violations(document, schema, (await ask('GET', path)).body), path).toEqual([]);
  });

  test('shows what is open with its data at risk, and what is not without', async () => {
    await start();
    expect((await ask('GET', '/v1/volumes/open')).body).toMatchObject({ name: 'open', live: STATUS });
    expect((await ask('GET', '/v1/volumes/a')).body).toMatchObject({ name: 'a', live: null });
    expect((await ask('GET', `/v1/volumes/${encodeURIComponent('größe & Co')}`)).body).toMatchObject({ name: 'größe & Co' });
  });

  test('changes the mode', async () => {
    await start();
    expect(await ask('PUT', PUT_A, '{"durability":"strict"}')).toMatchObject({ status: 200, body: { name: 'a', durability: 'strict' } });
    expect(await ask('PUT', PUT_A, '{"durability":"async","acceptDataLoss":true}')).toMatchObject({ status: 200 });
    expect(volumes.changes).toEqual([['a', 'strict'], ['a', 'async']]);
  });
});

const errorBody = (code: string, message: string | RegExp): unknown => ({ error: { code, message: typeof message === 'string' ? message : text(message), context: {} } });

describe('what is wrong with a request is said', () => {
  test.each([
    ['GET', '/', null, 404, 'no-such-route', /^there is no \/; there are \/v1\/server, \/v1\/stats, \/v1\/events, \/metrics, \/v1\/volumes, /],
    ['GET', '/v2/volumes', null, 404, 'no-such-route', /there is no \/v2\/volumes/],
    ['GET', '/v1/volumes/', null, 404, 'no-such-route', /there is no/],
    ['GET', '/v1/volumes/a/b', null, 404, 'no-such-route', /there is no/],
    ['GET', '/v1/volumes//durability', null, 404, 'no-such-route', /there is no/],
    ['PUT', '/v1/volumes/a', '{}', 405, 'wrong-method', '/v1/volumes/a takes GET, DELETE, not PUT'],
    ['POST', PUT_A, '{}', 405, 'wrong-method', `${PUT_A} takes GET, PUT, not POST`],
    ['GET', '/v1/volumes?x=1', null, 400, 'bad-request', /takes no query/],
    ['GET', '/v1/volumes/%ff', null, 400, 'bad-request', /%ff in the path is not percent-encoded UTF-8/],
    ['GET', '/v1/volumes/%2e%2e%2fa', null, 404, 'not-found', /no volume/],
    ['GET', '/v1/volumes', '{}', 400, 'bad-request', 'a GET has no body'],
    ['GET', '/v1/volumes/none', null, 404, 'not-found', 'no volume none'],
    ['PUT', PUT_A, '', 400, 'bad-json', /the body is empty/],
    ['PUT', PUT_A, '{"durability":', 400, 'bad-json', /the body is not JSON: /],
    ['PUT', PUT_A, '[]', 400, 'invalid-argument', 'the body must be a JSON object with durability, acceptDataLoss'],
    ['PUT', PUT_A, '"strict"', 400, 'invalid-argument', /must be a JSON object/],
    ['PUT', PUT_A, '{}', 400, 'invalid-argument', '"durability" must be one of strict, batched, relaxed, async'],
    ['PUT', PUT_A, '{"durability":"stric"}', 400, 'invalid-argument', /did you mean strict\?/],
    ['PUT', PUT_A, '{"durability":7}', 400, 'invalid-argument', /must be one of/],
    ['PUT', PUT_A, '{"durabilty":"strict"}', 400, 'invalid-argument', 'no field "durabilty"; did you mean durability?'],
    ['PUT', PUT_A, '{"durability":"strict","__proto__":{}}', 400, 'invalid-argument', /no field "__proto__"/],
    ['PUT', PUT_A, '{"durability":"async"}', 400, 'invalid-argument', /"acceptDataLoss": true says that this is wanted/],
    ['PUT', PUT_A, '{"durability":"async","acceptDataLoss":"yes"}', 400, 'invalid-argument', '"acceptDataLoss" must be true or false'],
    ['PUT', '/v1/volumes/none/durability', '{"durability":"strict"}', 404, 'not-found', 'no volume none'],
  ] as const)('%s %s %s', async (method, path, body, status, code, message) => {
    await start();
    const answer = await ask(method, path, body);
    expect(answer).toMatchObject({ status, body: errorBody(code, message) });
    expect(volumes.changes).toEqual([]);
    expect(logger.events()).toEqual([]);
  });

  test('which methods a path takes stands in the header, too', async () => {
    await start();
    expect((await ask('DELETE', PUT_A)).head).toMatch(/allow: GET, PUT/i);
  });

  test.each([
    ['not-found', 404],
    ['in-use', 409],
    ['no-space', 507],
    ['corrupt', 500],
    ['closed', 503],
  ] as const)('an error of the engine keeps its code: %s', async (code, status) => {
    await start();
    volumes.trouble = new VolumeError(code, 'so it is', { context: { volume: 'a' } });
    expect(await ask('GET', '/v1/volumes/a')).toMatchObject({ status, body: { error: { code, message: 'so it is', context: { volume: 'a' } } } });
    expect(logger.events()).toEqual(status >= 500 ? ['control-request-failed'] : []);
  });

  test('a body that is too long is refused before it is read, and while it arrives', async () => {
    await start({ maxBodyBytes: 1024 });
    const head = `PUT ${PUT_A} HTTP/1.1\r\nHost: basalt\r\n`;
    const refused = { status: 413, body: errorBody('too-long', 'the body is longer than 1024 bytes (control.max_body_bytes)') };
    expect(parse(await raw(`${head}Content-Length: 1025\r\n\r\n`))).toMatchObject(refused);
    const chunk = `400\r\n${'x'.repeat(1024)}\r\n`;
    expect(parse(await raw([`${head}Transfer-Encoding: chunked\r\n\r\n`, chunk, chunk, chunk]))).toMatchObject(refused);
    expect(await ask('PUT', PUT_A, JSON.stringify({ durability: 'strict' }).padEnd(1024))).toMatchObject({ status: 200 });
  });

  test('bytes that are no HTTP, a header that is too long, a request that does not come to its end', async () => {
    await start({ timeoutMs: 200 });
    expect(parse(await raw('NBDMAGIC and so on\r\n\r\n'))).toMatchObject({ status: 400, body: errorBody('bad-request', /this is no HTTP\/1\.1 request/) });
    expect(parse(await raw(`GET /v1/server HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(20_000)}\r\n\r\n`))).toMatchObject({ status: 431, body: errorBody('too-long', /longer than 16384 bytes/) });
    expect(parse(await raw(`PUT ${PUT_A} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{`))).toMatchObject({ status: 408, body: errorBody('too-slow', /did not arrive in time/) });
    expect(await ask('GET', '/v1/server')).toMatchObject({ status: 200 });
    expect(volumes.changes).toEqual([]);
  });

  test('a body that is not UTF-8', async () => {
    await start();
    const socket = net.connect({ path: socketPath() });
    const answer = new Promise<string>((resolve) => socket.once('data', (part) => resolve(part.toString())));
    socket.write(`PUT ${PUT_A} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n`);
    socket.write(Buffer.from([0x22, 0xff]));
    expect(parse(await answer)).toMatchObject({ status: 400, body: errorBody('bad-json', 'the body is not UTF-8') });
    socket.destroy();
  });
});

describe('many requests', () => {
  test('that look at volumes are answered one at a time, and no more than the limit at once', async () => {
    await start({ maxConnections: 4 });
    const gate = deferred<void>();
    volumes.gate = gate.promise;
    const request = 'GET /v1/volumes/a HTTP/1.1\r\nHost: x\r\n\r\n';
    const last = 'GET /v1/volumes/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
    const answers = raw([request.repeat(9) + last]); // ten in one connection
    await until(() => volumes.looking > 0);
    gate.resolve();
    const codes = [...(await answers).matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status));
    expect(codes).toEqual([200, 200, 200, 200, 503, 503, 503, 503, 503, 503]);
    expect(volumes.mostLooking).toBe(1);
  });

  const OPEN_ENDED = 'GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n';

  test.each(['GET /v1/server HTTP/1.1\r\nHost: x\r\n\r\n', OPEN_ENDED, 'POST /v1/volumes/a/scrub HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}'])('of one connection are over when it is, those that wait for their turn as well: %j', async (request) => {
    const running = await start({ maxConnections: 4 });
    volumes.scrubGate = new Promise(() => undefined);
    const socket = net.connect({ path: socketPath() });
    socket.write(OPEN_ENDED + request.repeat(3));
    await once(socket, 'data');
    await until(() => volumes.scrubs.length >= (request.includes('scrub') ? 3 : 0));
    socket.destroy();
    await until(() => volumes.scrubsEnded === volumes.scrubs.length);
    await new Promise((resolve) => setTimeout(resolve, 20));
    for (let round = 0; round < 5; round += 1) expect((await ask('GET', '/v1/server')).status).toBe(200);
    server = null;
    await running.stop();
  });

  test('in work are answered before the end, and then nobody can connect', async () => {
    const running = await start();
    const gate = deferred<void>();
    volumes.gate = gate.promise;
    const answer = ask('GET', '/v1/volumes/a');
    await until(() => volumes.looking > 0);
    const stopped = running.stop();
    server = null;
    await until(() => !existsSync(socketPath()));
    gate.resolve();
    expect((await answer).status).toBe(200);
    await stopped;
    expect(existsSync(socketPath())).toBe(false);
    expect(await ControlClient.find(directory)).toBeNull();
  });
});

/** The JSON of the lines of an answer. */
function linesOf(answer: string): unknown[] {
  const lines = answer.slice(answer.indexOf('\r\n\r\n')).split('\r\n');
  return lines.filter((line) => line.startsWith('{')).map((line): unknown => JSON.parse(line));
}

describe('a scrub', () => {
  const PATH = '/v1/volumes/a/scrub';
  const post = (body: string): Promise<string> => raw(`POST ${PATH} HTTP/1.1\r\nHost: basalt\r\nConnection: close\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);

  test('is answered with lines: how far it is, then the report, as openapi.json says', async () => {
    await start();
    const answer = await post('{"bytesPerSecond":1048576}');
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\ncontent-type: application\/x-ndjson\r\n/u);
    expect(linesOf(answer)).toEqual([{ progress: { task: 'scrub', done: 1, total: 2 } }, { report: SCRUBBED }]);
    const document: unknown = JSON.parse(readFileSync(new URL('../../src/control/openapi.json', import.meta.url), 'utf8'));
    const schema = at(document, ['paths', '/v1/volumes/{name}/scrub', 'post', 'responses', '200', 'content', 'application/x-ndjson', 'schema']);
    for (const line of linesOf(answer)) expect(violations(document, schema, line)).toEqual([]);
    expect(volumes.scrubs).toEqual([['a', 1_048_576]]);
  });

  test('that fails says so in its last line', async () => {
    await start();
    volumes.trouble = new VolumeError('io-error', 'the disk is gone');
    expect(linesOf(await post('{}'))).toEqual([{ progress: { task: 'scrub', done: 1, total: 2 } }, { error: { code: 'io-error', message: 'the disk is gone', context: {} } }]);
    expect(logger.events()).toEqual(['control-request-failed']);
    await expect(new ControlClient(directory).scrub('a', null, () => undefined)).rejects.toMatchObject({ code: 'io-error', message: 'the disk is gone' });
  });

  test('ends when its client goes away, and when the server stops', async () => {
    const running = await start();
    volumes.scrubGate = new Promise(() => undefined);
    const socket = net.connect({ path: socketPath() });
    socket.write(`POST ${PATH} HTTP/1.1\r\nHost: basalt\r\nContent-Length: 2\r\n\r\n{}`);
    await once(socket, 'data');
    socket.destroy();
    await until(() => volumes.scrubsEnded === 1);
    const answer = post('{}');
    await until(() => volumes.scrubs.length === 2);
    server = null;
    await running.stop();
    expect(linesOf(await answer)).toMatchObject([{ progress: {} }, { error: { code: 'closed' } }]);
    expect(volumes.scrubsEnded).toBe(2);
    expect(logger.events()).toEqual([]);
  });

  test('is what the client asks for, and its lines are what the client gets', async () => {
    await start();
    const told: Progress[] = [];
    expect(await new ControlClient(directory).scrub('a', null, (progress) => void told.push(progress))).toEqual(SCRUBBED);
    expect(told).toEqual([{ task: 'scrub', done: 1, total: 2 }]);
    await expect(new ControlClient(directory).scrub('none', null, () => undefined)).rejects.toMatchObject({ code: 'not-found', message: 'no volume none' });
  });

  test.each(['{"bytesPerSecond":1}', '{"bytesPerSecond":"fast"}', '{"bytesPerSecond":65536.5}', '{"rate":1}'])('with the body %s is refused before it begins', async (body) => {
    await start();
    expect(parse(await post(body))).toMatchObject({ status: 400, body: { error: { code: 'invalid-argument' } } });
    expect(volumes.scrubs).toEqual([]);
  });
});

describe('the socket', () => {
  test('is its owner\'s alone, and nothing is left beside it', async () => {
    await start();
    expect(statSync(socketPath()).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory).toSorted()).toEqual(['.control.lock', 'control.sock']);
  });

  test('of a running server is not taken: the error names the process', async () => {
    await start();
    await expect(ControlSocket.claim(files, directory)).rejects.toMatchObject({ code: 'in-use', message: text(new RegExp(`is served by process ${process.pid} already`)) });
    expect((await ask('GET', '/v1/server')).body).toMatchObject({ pid: process.pid });
  });

  test('of a dead server is replaced, and what else it left is removed', async () => {
    await start();
    const dead = net.createServer();
    const staged = join(directory, '.control-dead');
    mkdirSync(staged);
    await new Promise<void>((resolve) => dead.listen({ path: join(staged, 's') }, resolve));
    await server?.stop();
    // A socket without a server, as a killed one leaves it.
    renameSync(join(staged, 's'), socketPath());
    await new Promise((resolve) => dead.close(resolve));
    expect(existsSync(socketPath())).toBe(true);
    expect(await ControlClient.find(directory)).toBeNull();
    await start();
    expect(readdirSync(directory).toSorted()).toEqual(['.control.lock', 'control.sock']);
    expect(await ControlClient.find(directory)).not.toBeNull();
  });

  test('does not replace a file that somebody put in its place', async () => {
    writeFileSync(socketPath(), 'mine');
    await expect(start()).rejects.toMatchObject({ code: 'already-exists' });
    expect(readFileSync(socketPath(), 'utf8')).toBe('mine');
    // The directory is free again.
    rmSync(socketPath());
    await start();
  });

  test('works in a directory with a long name', async () => {
    const long = join(directory, 'd'.repeat(100), 'e'.repeat(100));
    mkdirSync(long, { recursive: true });
    const outer = directory;
    directory = long;
    await start();
    const client = await ControlClient.find(long);
    expect(await client?.volume('a')).toMatchObject({ name: 'a' });
    await server?.stop();
    server = null;
    expect(readdirSync(long)).toEqual(['.control.lock']);
    directory = outer;
  });
});

describe('the client', () => {
  test('asks for what the verbs need, and gives errors their code', async () => {
    await start();
    const client = await ControlClient.find(directory);
    expect(await client?.volume('open')).toMatchObject({ name: 'open', live: STATUS });
    volumes.unreadable.push({ name: 'z', damage: 'its manifest is damaged' });
    expect(await client?.volumes()).toMatchObject([{ name: 'a', live: null }, { name: 'größe & Co' }, { name: 'open', live: STATUS }, { name: 'z', damage: 'its manifest is damaged' }]);
    await client?.setDurability('größe & Co', 'async');
    expect(await client?.setCompression('größe & Co', 'lz4')).toBe('lz4');
    expect(volumes.changes).toEqual([['größe & Co', 'async'], ['größe & Co', 'lz4']]);
    await expect(client?.setCompression('none', 'lz4')).rejects.toMatchObject({ code: 'not-found' });
    await expect(client?.volume('none')).rejects.toMatchObject({ code: 'not-found', message: 'no volume none' });
  });

  test('finds nobody where nobody is', async () => {
    expect(await ControlClient.find(directory)).toBeNull();
    expect(await ControlClient.find(join(directory, 'none'))).toBeNull();
  });

  test.each([
    ['an answer that is no JSON', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno', /its answer is not JSON/, 'io-error'],
    ['an error it does not know', 'HTTP/1.1 418 No\r\nContent-Length: 40\r\n\r\n{"error":{"code":"tea","message":"tea"}}', /refuses: tea/, 'unsupported'],
    ['an answer that is something else', 'HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}', /speaks another version: an answer with status 500/, 'unsupported'],
  ])('tells of %s', async (_, answer, message, code) => {
    const other = net.createServer((socket) => void socket.once('data', () => socket.end(answer)));
    await new Promise<void>((resolve) => other.listen({ path: socketPath() }, resolve));
    chmodSync(socketPath(), 0o600);
    await expect(ControlClient.find(directory)).rejects.toMatchObject({ code, message: text(message) });
    await new Promise((resolve) => other.close(resolve));
  });

  test('refuses a volume that another version describes otherwise', async () => {
    await start();
    const client = new ControlClient(directory);
    const info = await volumes.describe('a');
    volumes.infos.set('a', { ...info, epoch: Number.NaN }); // in JSON: null
    await expect(client.volume('a')).rejects.toMatchObject({ code: 'unsupported', message: text(/what it says of a volume is not understood/) });
  });
});
