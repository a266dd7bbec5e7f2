/** What is made of a store's answers to ranges: which of them are taken, which are failures at once, and which the SDK is asked to make sense of. */
import { createHash, createHmac } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { S3Settings } from '../../src/base/settings-types.ts';
import { RemoteError } from '../../src/store/remote-errors.ts';
import type { RemoteTransport } from '../../src/store/remote-store.ts';
import { openS3Transport } from '../../src/store/s3-store.ts';
import { RawStore, type RawStoreOptions, answerOf, until } from '../support/raw-store.ts';
import { CredentialsFolder, nodeEnv, s3Settings } from '../support/s3-settings.ts';
import { TestPki } from '../support/test-pki.ts';

const BODY = Buffer.from('the bytes of a range');
const RANGE = `Content-Range: bytes 100-${99 + BODY.length}/1000`;
const SOUND = answerOf(BODY, { headers: [RANGE] });
const NEVER = new AbortController().signal;
const PATTERN = 0xa5;

let credentials: CredentialsFolder;
let pki: TestPki;
let credentialsFile: string;
beforeAll(async () => {
  credentials = await CredentialsFolder.create();
  pki = await TestPki.create();
});
afterAll(async () => {
  await credentials.dispose();
  await pki.dispose();
});

let server: RawStore;
let store: RemoteTransport;
const others: RemoteTransport[] = [];

beforeEach(async () => {
  credentialsFile = await credentials.write('key', 'access', 'secret');
  server = await RawStore.listen((socket) => socket.write(SOUND));
  store = await open();
});
afterEach(async () => {
  store.close();
  for (const other of others.splice(0)) other.close();
  await until(() => server.open.size === 0);
  await server.close();
});

const open = (settings: Partial<S3Settings> = {}): Promise<RemoteTransport> => openS3Transport(nodeEnv(), s3Settings({ endpoint: `http://127.0.0.1:${server.port}`, bucket: 'bucket', prefix: 'host/', credentialsFile, ...settings }));

/** Another server, and a store that asks it. */
async function replaceServer(options: RawStoreOptions, endpointOf: (port: number) => string, settings: Partial<S3Settings> = {}): Promise<void> {
  store.close();
  await server.close();
  server = await RawStore.listen((socket) => socket.write(SOUND), options);
  store = await open({ endpoint: endpointOf(server.port), ...settings });
}

async function read(from: RemoteTransport = store): Promise<Buffer> {
  const target = Buffer.alloc(BODY.length, PATTERN);
  await from.getRange('chunks/1', target, 100, NEVER);
  return target;
}

/** What the read failed with: class, code and word. */
async function failureOf(reading: Promise<unknown>): Promise<string> {
  try {
    await reading;
    return 'none';
  } catch (caught) {
    if (!(caught instanceof RemoteError)) throw caught;
    const { failure, code, word } = caught;
    return `${failure} ${code} ${word}`;
  }
}

const headerOf = (request: string, name: string): string => new RegExp(`^${name}: (.*)$`, 'imu').exec(request)?.[1] ?? '';
/** Who sent each request. */
const askers = (): readonly string[] => server.requests.map((request) => (headerOf(request, 'user-agent') === 'basalt' ? 'us' : 'SDK'));

const errorOf = (status: string, code: string, headers: readonly string[] = []): Buffer =>
  answerOf(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>words of the store</Message></Error>`, { status, headers: ['Content-Type: application/xml', ...headers] });

const chunked = (status: string, body: string, headers: readonly string[] = []): string =>
  [`HTTP/1.1 ${status}`, 'Transfer-Encoding: chunked', ...headers, '', body.length.toString(16), body, '0', '', ''].join('\r\n');

describe('an answer', () => {
  test('of a store fills the target, is counted, and was asked for by us', async () => {
    expect(await read()).toEqual(BODY);
    expect(await read()).toEqual(BODY);
    expect([askers(), server.connectionCount]).toEqual([['us', 'us'], 1]);
    expect(store.counters).toMatchObject({ gets: 2, receivedBytes: 2 * BODY.length, throttled: 0 });
    const [request = ''] = server.requests;
    expect(request).toMatch(/^GET \/bucket\/host\/chunks\/1 HTTP\/1\.1\r\n/u);
    expect(headerOf(request, 'range')).toBe(`bytes=100-${99 + BODY.length}`);
    expect(headerOf(request, 'host')).toBe(`127.0.0.1:${server.port}`);
  });

  // The store's answer to us and to the SDK; who has asked; what comes of it.
  test.each<[string, Buffer | string, readonly string[], string]>([
    ['200 with all of the object', answerOf(Buffer.alloc(1000), { status: '200 OK' }), ['us', 'SDK'], 'transient corrupt wrong answer'],
    ['200 with more than a complaint', answerOf(Buffer.alloc(100_000), { status: '200 OK' }), ['us', 'SDK'], 'transient corrupt wrong answer'],
    ['206 with chunks', chunked('206 Partial Content', BODY.toString(), [RANGE]), ['us', 'SDK'], 'none'],
    ['206 without a Content-Range', answerOf(BODY), ['us'], 'transient corrupt wrong answer'],
    ['206 with two of them', answerOf(BODY, { headers: [RANGE, RANGE] }), ['us'], 'transient corrupt wrong answer'],
    ['206 of another place', answerOf(BODY, { headers: [`Content-Range: bytes 0-${BODY.length - 1}/1000`] }), ['us'], 'transient corrupt wrong answer'],
    ['206 of a longer range', answerOf(BODY, { headers: ['Content-Range: bytes 100-200/1000'] }), ['us'], 'transient corrupt wrong answer'],
    ['206 of another unit', answerOf(BODY, { headers: ['Content-Range: blocks 100-119/1000'] }), ['us'], 'transient corrupt wrong answer'],
    ['206 with fewer bytes than its range', answerOf(BODY.subarray(1), { headers: [RANGE] }), ['us'], 'transient corrupt wrong answer'],
    ['206 with more bytes than its range', answerOf(Buffer.alloc(BODY.length + 1), { headers: [RANGE] }), ['us'], 'transient corrupt wrong answer'],
    ['206 of an object that is too short', answerOf(BODY.subarray(0, 10), { headers: ['Content-Range: bytes 100-109/110'] }), ['us'], 'damaged corrupt too short'],
    ['301', errorOf('301 Moved Permanently', 'PermanentRedirect'), ['us', 'SDK'], 'permanent invalid-argument PermanentRedirect'],
    ['307 without words', answerOf('', { status: '307 Temporary Redirect', headers: ['Location: http://127.0.0.1:9/'] }), ['us', 'SDK'], 'permanent invalid-argument Unknown'],
    ['304, which has a length and no body', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n', ['us', 'SDK'], 'lost-condition already-exists Unknown'],
    ['400', errorOf('400 Bad Request', 'MalformedThing'), ['us', 'SDK'], 'permanent io-error MalformedThing'],
    ['403', errorOf('403 Forbidden', 'AccessDenied'), ['us', 'SDK'], 'denied denied AccessDenied'],
    ['403 without words', answerOf('', { status: '403 Forbidden' }), ['us', 'SDK'], 'denied denied Unknown'],
    ['404', errorOf('404 Not Found', 'NoSuchKey'), ['us', 'SDK'], 'not-found not-found NoSuchKey'],
    ['404 of the bucket', errorOf('404 Not Found', 'NoSuchBucket'), ['us', 'SDK'], 'permanent not-found NoSuchBucket'],
    ['404 of a web server', answerOf('<html>not here</html>', { status: '404 Not Found' }), ['us', 'SDK'], 'permanent invalid-argument NotFound'],
    ['408', answerOf('', { status: '408 Request Timeout' }), ['us', 'SDK'], 'transient unavailable Unknown'],
    ['416', errorOf('416 Range Not Satisfiable', 'InvalidRange'), ['us', 'SDK'], 'damaged corrupt too short'],
    ['429', errorOf('429 Too Many Requests', 'TooManyRequests'), ['us'], 'throttled unavailable TooManyRequests'],
    ['429 without words', answerOf('slower', { status: '429 Too Many Requests' }), ['us'], 'throttled unavailable 429'],
    ['500', errorOf('500 Internal Server Error', 'InternalError'), ['us'], 'transient unavailable InternalError'],
    ['500 without words', answerOf('', { status: '500 Internal Server Error' }), ['us'], 'transient unavailable 500'],
    ['500 with a whole page', answerOf(Buffer.alloc(100_000, 'x'), { status: '500 Internal Server Error' }), ['us'], 'transient unavailable 500'],
    ['501', errorOf('501 Not Implemented', 'NotImplemented'), ['us'], 'permanent unsupported NotImplemented'],
    ['503', errorOf('503 Service Unavailable', 'SlowDown'), ['us'], 'throttled unavailable SlowDown'],
    ['503 without words', answerOf('<html>busy</html>', { status: '503 Service Unavailable' }), ['us'], 'throttled unavailable 503'],
    ['503 in chunks', chunked('503 Service Unavailable', 'busy'), ['us'], 'throttled unavailable 503'],
    ['507', answerOf('', { status: '507 Insufficient Storage' }), ['us'], 'full no-space 507'],
    ['HTTP/1.0', `HTTP/1.0 206 Partial Content\r\nContent-Length: ${BODY.length}\r\n${RANGE}\r\n\r\n${BODY.toString()}`, ['us', 'SDK'], 'none'],
    ['100 Continue before it', Buffer.concat([Buffer.from('HTTP/1.1 100 Continue\r\n\r\n'), SOUND]), ['us', 'SDK'], 'none'],
    ['another protocol', 'SSH-2.0-OpenSSH_9.2p1\r\n', ['us'], 'permanent invalid-argument HPE_INVALID_CONSTANT'],
    ['a head that does not end', `HTTP/1.1 206 OK\r\nx: ${'y'.repeat(17_000)}`, ['us'], 'transient unavailable HPE_HEADER_OVERFLOW'],
    ['more than its length', Buffer.concat([SOUND, SOUND]), ['us'], 'transient unavailable HPE_CLOSED_CONNECTION'],
  ])('of %s', async (_what, answer, asked, outcome) => {
    server.answer = (socket) => socket.write(answer);
    const target = Buffer.alloc(BODY.length, PATTERN);
    expect(await failureOf(store.getRange('chunks/1', target, 100, NEVER))).toBe(outcome);
    expect(askers()).toEqual(asked);
    expect(store.counters).toMatchObject({ gets: asked.length, throttled: outcome.startsWith('throttled') ? 1 : 0 });
    expect(store.counters.receivedBytes).toBeLessThanOrEqual(16 * 1024); // what is no complaint is not read to its end
    const isFilled = target.equals(BODY);
    expect([isFilled, isFilled || target.every((byte) => byte === PATTERN)]).toEqual([outcome === 'none', true]);
    // And it goes on.
    server.answer = (socket) => socket.write(SOUND);
    expect(await read()).toEqual(BODY);
  });

  test('that is a failure is told in the words of the store', async () => {
    server.answer = (socket) => socket.write(errorOf('503 Service Unavailable', 'SlowDown'));
    await expect(read()).rejects.toThrow(/reading s3:\/\/bucket\/host\/chunks\/1 at http:.*: 503 SlowDown, "words of the store": the store asks for fewer requests/u);
  });

  test('that breaks off is counted as far as it came', async () => {
    server.answer = (socket) => socket.end(SOUND.subarray(0, -5));
    expect(await failureOf(read())).toBe('transient unavailable ECONNRESET');
    expect(store.counters).toMatchObject({ gets: 1, receivedBytes: BODY.length - 5 });
  });
});

describe('who asks', () => {
  test('signs as AWS wants it, with a session token, too', async () => {
    await read();
    const tokenFile = join(credentials.path, 'token');
    await writeFile(tokenFile, '[default]\naws_access_key_id = access\naws_secret_access_key = secret\naws_session_token = a/token+of=a session\n', { mode: 0o600 });
    const temporary = await open({ credentialsFile: tokenFile, region: 'eu-central-1' });
    others.push(temporary);
    await read(temporary);
    const [plain = '', withToken = ''] = server.requests;
    expect(askers()).toEqual(['us', 'us']);
    expect(headerOf(withToken, 'x-amz-security-token')).toBe('a/token+of=a session');
    expect(headerOf(withToken, 'authorization')).toContain('x-amz-security-token');
    expect(headerOf(plain, 'authorization')).toContain('SignedHeaders=host;range;');
    for (const request of [plain, withToken]) expect(headerOf(request, 'authorization').replace(/^.*Signature=/u, '')).toBe(signatureOf(request, 'secret'));
  });

  test('reads new credentials when the old ones are refused', async () => {
    server.answer = (socket, request) => socket.write(headerOf(request, 'authorization').includes('Credential=renewed/') ? SOUND : errorOf('403 Forbidden', 'ExpiredToken'));
    expect(await failureOf(read())).toBe('denied denied ExpiredToken');
    await credentials.write('key', 'renewed', 'secret');
    expect(await read()).toEqual(BODY);
    expect(askers()).toEqual(['us', 'SDK', 'us']);
  });

  test('with a clock that is off leaves it to the SDK, which goes by the store\'s', async () => {
    const storeMs = Date.now() + 3 * 3_600_000;
    const isSkewed = (request: string): boolean => {
      const sent = headerOf(request, 'x-amz-date').replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/u, '$1-$2-$3T$4:$5:$6Z');
      return Math.abs(Date.parse(sent) - storeMs) > 900_000;
    };
    const date = `Date: ${new Date(storeMs).toUTCString()}`;
    server.answer = (socket, request) => socket.write(isSkewed(request) ? errorOf('403 Forbidden', 'RequestTimeTooSkewed', [date]) : answerOf(BODY, { headers: [RANGE, date] }));
    expect(await read()).toEqual(BODY);
    expect(await read()).toEqual(BODY);
    expect(askers()).toEqual(['us', 'SDK', 'SDK', 'SDK']);
  });

  test('over TLS trusts the authority of the settings', async () => {
    await replaceServer({ identity: { cert: pki.server.certificate, key: pki.server.key } }, (port) => `https://127.0.0.1:${port}`, { caFile: join(pki.directory, 'ca-cert.pem') });
    expect(await read()).toEqual(BODY);
    expect(askers()).toEqual(['us']);
    const stranger = await open({ endpoint: `https://127.0.0.1:${server.port}` });
    others.push(stranger);
    expect(await failureOf(read(stranger))).toMatch(/^denied denied (?:SELF_SIGNED|UNABLE_TO)/u);
    expect(server.requests).toHaveLength(1);
  });

  test('finds an address of IPv6', async () => {
    await replaceServer({ host: '::1' }, (port) => `http://[::1]:${port}`);
    expect(await read()).toEqual(BODY);
    expect([askers(), headerOf(server.requests[0] ?? '', 'host')]).toEqual([['us'], `[::1]:${server.port}`]);
  });

  test('of HTTPS where HTTP is spoken, or the other way round, is told to check that', async () => {
    const wrong = await open({ endpoint: `https://127.0.0.1:${server.port}`, connectTimeoutMs: 200 });
    others.push(wrong);
    server.answer = (socket) => socket.end();
    expect(await failureOf(read(wrong))).toMatch(/^transient unavailable /u); // our server waits for the end of a head
    await replaceServer({ identity: { cert: pki.server.certificate, key: pki.server.key } }, (port) => `http://127.0.0.1:${port}`);
    expect(await failureOf(read())).toMatch(/^(?:permanent invalid-argument HPE_INVALID_CONSTANT|transient unavailable ECONNRESET)$/u);
  });

  test.each<[string, Partial<S3Settings>]>([
    ['few connections', { socketsMax: 3 }],
    ['checksums', { checksums: 'crc32' }],
  ])('with %s in the settings is the SDK', async (_what, settings) => {
    const other = await open(settings);
    others.push(other);
    expect(await read(other)).toEqual(BODY);
    expect(askers()).toEqual(['SDK']);
  });
});

describe('a call that is ended', () => {
  test('leaves the target as it was, and is not asked for by the SDK', async () => {
    server.answer = (socket) => socket.write(SOUND.subarray(0, -5));
    const ending = new AbortController();
    const target = Buffer.alloc(BODY.length, PATTERN);
    const reading = failureOf(store.getRange('chunks/1', target, 100, ending.signal));
    await until(() => store.counters.receivedBytes === BODY.length - 5);
    ending.abort(new Error('ended'));
    target.fill(PATTERN);
    expect(await reading).toMatch(/^transient unavailable/u);
    await until(() => server.open.size === 0);
    expect([target.every((byte) => byte === PATTERN), askers()]).toEqual([true, ['us']]);
  });

  test('by close() is not asked for again', async () => {
    server.answer = () => undefined;
    const reading = failureOf(read());
    await until(() => server.requests.length === 1);
    store.close();
    expect(await reading).toMatch(/^transient unavailable/u);
    expect(askers()).toEqual(['us']);
  });
});

const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();

/** AWS Signature Version 4, by its description: of a GET without a query. */
function signatureOf(request: string, secret: string): string {
  const [, day = '', region = '', service = '', names = ''] = /Credential=[^/]+\/(\d+)\/([^/]+)\/([^/]+)\/aws4_request, ?SignedHeaders=([^,]+),/u.exec(headerOf(request, 'authorization')) ?? [];
  const path = request.split(' ')[1] ?? '';
  const headers = names.split(';').map((name) => `${name}:${headerOf(request, name)}\n`);
  const canonical = ['GET', path, '', headers.join(''), names, headerOf(request, 'x-amz-content-sha256')].join('\n');
  const scope = `${day}/${region}/${service}/aws4_request`;
  const toSign = ['AWS4-HMAC-SHA256', headerOf(request, 'x-amz-date'), scope, createHash('sha256').update(canonical).digest('hex')].join('\n');
  const key = [region, service, 'aws4_request'].reduce(hmac, hmac(`AWS4${secret}`, day));
  return createHmac('sha256', key).update(toSign).digest('hex');
}
