/** The S3 store behind a proxy that breaks things, in front of a real server: right data or a clear error, in bounded time. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { S3Proxy, type Fault } from '../support/s3-proxy.ts';
import { collect, describeContract, expectFailure, failureOf, pattern } from '../support/remote-contract.ts';
import { QUICK_RETRIES } from '../support/s3-settings.ts';
import type { RemoteStore } from '../../src/store/remote-store.ts';
import { TestPki } from '../support/test-pki.ts';
import { S3Fixture } from './s3-fixture.ts';
import { START_TIMEOUT_MS, serverObstacle } from './s3-server.ts';

const obstacle = await serverObstacle('ceph20');
/** No call here may take longer: the deadline of a call, and what a busy machine adds. */
const BOUND_MS = QUICK_RETRIES.callTimeoutMs + 5000;
const SIZE = 300_000;
const BODY = pattern(SIZE, 42);

async function bounded<T>(call: () => Promise<T>): Promise<T> {
  const startMs = Date.now();
  try {
    return await call();
  } finally {
    expect(Date.now() - startMs).toBeLessThan(BOUND_MS);
  }
}

describe.skipIf(obstacle !== null)(`S3 behind a proxy${obstacle === null ? '' : ` (${obstacle})`}`, () => {
  let fixture: S3Fixture;
  let proxy: S3Proxy;
  let store: RemoteStore;
  /** Gives a try up early: for servers that never answer. */
  let hasty: RemoteStore;
  beforeAll(async () => {
    fixture = await S3Fixture.start('ceph20');
    proxy = await S3Proxy.start(fixture.server.port);
    store = await fixture.open({ endpoint: proxy.endpoint, prefix: 'p' });
    hasty = await fixture.open({ endpoint: proxy.endpoint, prefix: 'p', retries: { ...QUICK_RETRIES, attempts: 6, attemptTimeoutMs: 1500 } });
    await store.put('object', [BODY]);
  }, START_TIMEOUT_MS);
  afterEach(() => proxy.reset());
  afterAll(async () => {
    await proxy?.stop();
    await fixture?.dispose();
  });

  const storeFor = (fault: Fault): RemoteStore => (fault.kind === 'hang' || (fault.kind === 'lose-answer' && fault.silently) ? hasty : store);

  describeContract('as any store', { open: () => fixture.open({ endpoint: proxy.endpoint, prefix: 'contract' }), conditional: 'full', manyObjects: 20 });

  const PASSING: readonly (readonly [string, Fault])[] = [
    ['a delay', { kind: 'delay', delayMs: 300 }],
    ['a hang', { kind: 'hang' }],
    ['slow down', { kind: 'answer', status: 503, code: 'SlowDown' }],
    ['an internal error', { kind: 'answer', status: 500, code: 'InternalError' }],
    ['a bad gateway without words', { kind: 'web-page', status: 502 }],
    ['a request cut at its head', { kind: 'cut-request', bytes: 0 }],
    ['an answer that is lost', { kind: 'lose-answer', silently: false }],
    ['an answer that never comes', { kind: 'lose-answer', silently: true }],
  ];
  const READ_ONLY: readonly (readonly [string, Fault])[] = [
    ['an answer cut in its middle', { kind: 'cut-answer', bytes: 100_000 }],
    ['an answer cut before its first byte', { kind: 'cut-answer', bytes: 0 }],
    ['an answer that is shorter and says so', { kind: 'resize-answer', bytes: -1 }],
    ['an answer that is longer and says so', { kind: 'resize-answer', bytes: 1 }],
    ['no bytes at all', { kind: 'resize-answer', bytes: -SIZE }],
  ];

  describe('once, a range is right in spite of', () => {
    const faults: readonly (readonly [string, Fault])[] = [
      ...PASSING,
      ...READ_ONLY,
      ['another range', { kind: 'change-answer', headers: { 'content-range': `bytes 0-199999/${SIZE}` } }],
      ['no Content-Range', { kind: 'change-answer', headers: { 'content-range': null } }],
      ['a range that is ignored', { kind: 'change-answer', status: 200, headers: { 'content-range': null } }],
      ['a Content-Range that is none', { kind: 'change-answer', headers: { 'content-range': 'bytes */*' } }],
    ];
    test.each(faults)('%s', async (_, fault) => {
      proxy.inject({ method: 'GET', times: 1, fault });
      const target = new Uint8Array(200_000);
      await bounded(() => storeFor(fault).getRange('object', target, 50_000));
      expect(Buffer.compare(target, BODY.subarray(50_000, 250_000))).toBe(0);
      expect(proxy.seen.length).toBeGreaterThanOrEqual(fault.kind === 'delay' ? 1 : 2);
    });
  });

  describe('once, a whole object is right in spite of', () => {
    test.each([...PASSING, ...READ_ONLY].filter(([, fault]) => fault.kind !== 'resize-answer'))('%s', async (_, fault) => {
      proxy.inject({ method: 'GET', times: 1, fault });
      expect(Buffer.compare(await bounded(() => storeFor(fault).getWhole('object', SIZE)), BODY)).toBe(0);
    });
  });

  describe('always, a read fails in time, with words, after', () => {
    test.each([
      ['hanging', { kind: 'hang' }, 'transient', /no answer/u],
      ['slow down', { kind: 'answer', status: 503, code: 'SlowDown' }, 'throttled', /SlowDown/u],
      ['cut answers', { kind: 'cut-answer', bytes: 999 }, 'transient', /connection broke/u],
      ['wrong ranges', { kind: 'change-answer', headers: { 'content-range': 'bytes 5-9/300000' } }, 'transient', /Content-Range "bytes 5-9\/300000"/u],
      ['wrong lengths', { kind: 'resize-answer', bytes: -7 }, 'transient', /not what was asked for/u],
      ['whole objects for ranges', { kind: 'change-answer', status: 200, headers: { 'content-range': null } }, 'transient', /status 200 for a range/u],
      ['a denial', { kind: 'answer', status: 403, code: 'AccessDenied' }, 'denied', /403 AccessDenied/u],
      ['a web server', { kind: 'web-page', status: 404 }, 'permanent', /does not answer as an S3 store/u],
      ['a bucket that went away', { kind: 'answer', status: 404, code: 'NoSuchBucket' }, 'permanent', /no such bucket/u],
    ] as const)('%s', async (_, fault, failure, words) => {
      proxy.inject({ fault });
      await bounded(() => expectFailure(storeFor(fault).getRange('object', new Uint8Array(1000), 0), failure, words));
    });
  });

  describe('once, a put and a create happen in spite of', () => {
    const faults: readonly (readonly [string, Fault])[] = [
      ...PASSING,
      ['a request cut in its middle', { kind: 'cut-request', bytes: 100_000 }],
      ['a bit that flips on the way', { kind: 'flip-request', at: 1234 }],
      ['an answer without its ETag', { kind: 'change-answer', headers: { etag: null } }],
    ];
    test.each(faults)('%s', async (name, fault) => {
      const key = `put/${name.replaceAll(' ', '-')}`.toLowerCase();
      const body = pattern(200_000, name.length);
      proxy.inject({ method: 'PUT', times: 1, fault });
      // Without an ETag nobody knows what has answered: that is told at once, and nothing is done twice.
      if (fault.kind === 'change-answer') return bounded(() => expectFailure(store.put(key, [body]), 'permanent', /no ETag/u));
      await bounded(() => storeFor(fault).put(key, [body]));
      expect(Buffer.compare(await store.getWhole(key, body.length), body)).toBe(0);

      proxy.reset();
      proxy.inject({ method: 'PUT', times: 1, fault });
      expect(await bounded(() => storeFor(fault).putIfAbsent(`${key}.new`, [body]))).toBe('created');
      expect(Buffer.compare(await store.getWhole(`${key}.new`, body.length), body)).toBe(0);
      expect(await store.putIfAbsent(`${key}.new`, [pattern(10, 1)])).toBe('exists');
    });
  });

  test('a create whose answer is lost, behind another one: exists', async () => {
    await store.put('taken', [pattern(100, 1)]);
    proxy.inject({ method: 'PUT', times: 1, fault: { kind: 'lose-answer', silently: false } });
    expect(await store.putIfAbsent('taken', [pattern(100, 2)])).toBe('exists');
    // Longer than ours, and not to be read whole for that.
    await store.put('taken', [pattern(100_000, 1)]);
    proxy.inject({ method: 'PUT', times: 1, fault: { kind: 'lose-answer', silently: false } });
    expect(await store.putIfAbsent('taken', [pattern(100, 2)])).toBe('exists');
  });

  test('a create that is told 409 looks whose object it is, and tries again while there is none', async () => {
    proxy.inject({ method: 'PUT', times: 2, fault: { kind: 'answer', status: 409, code: 'ConditionalRequestConflict' } });
    expect(await store.putIfAbsent('conflict', [pattern(100, 3)])).toBe('created');
    proxy.inject({ method: 'PUT', times: 1, fault: { kind: 'answer', status: 409, code: 'ConditionalRequestConflict' } });
    expect(await store.putIfAbsent('conflict', [pattern(100, 4)])).toBe('exists');
  });

  test('a listing and a removal go on behind faults', async () => {
    const names = Array.from({ length: 10 }, (_, index) => `some/${index}`);
    for (const name of names) await store.put(name, [pattern(10, 5)]);
    proxy.inject({ method: 'GET', times: 1, fault: { kind: 'cut-answer', bytes: 50 } });
    expect((await collect(store, 'some/')).map(({ key }) => key)).toEqual(names);
    proxy.inject({ method: 'POST', times: 1, fault: { kind: 'lose-answer', silently: false } });
    await store.remove(names);
    expect(await collect(store, 'some/')).toEqual([]);
  });

  test('a store that removes one object at a time is given that', async () => {
    const other = await fixture.open({ endpoint: proxy.endpoint, prefix: 'single' });
    const names = Array.from({ length: 10 }, (_, index) => `some/${index}`);
    for (const name of names) await other.put(name, [pattern(10, 5)]);
    proxy.inject({ method: 'POST', fault: { kind: 'answer', status: 400, code: 'MissingContentMD5' } });
    await other.remove(names);
    expect(await collect(other, '')).toEqual([]);
    expect(other.counters.deletes).toBeGreaterThanOrEqual(11);
  });

  test('a bit that flips in an answer is found by the checksums of the SDK in whole objects, and by nobody in ranges', async () => {
    const summed = await fixture.open({ endpoint: proxy.endpoint, prefix: 'flips', checksums: 'crc32' });
    await summed.put('a', [BODY]);
    proxy.inject({ method: 'GET', times: 1, fault: { kind: 'flip-answer', at: 100 } });
    expect(Buffer.compare(await summed.getWhole('a', SIZE), BODY)).toBe(0);
    expect(summed.counters.retries).toBeGreaterThanOrEqual(1);
    proxy.inject({ method: 'GET', times: 1, fault: { kind: 'flip-answer', at: 100 } });
    const target = new Uint8Array(1000);
    await summed.getRange('a', target, 0);
    expect(target[100]).toBe((BODY[100] ?? 0) ^ 1); // what the store's user must check by itself
  });

  test('a call that is given up writes nothing into its target afterwards', async () => {
    proxy.inject({ method: 'GET', fault: { kind: 'delay', delayMs: 400 } });
    const target = new Uint8Array(200_000);
    await expectFailure(store.getRange('object', target, 0, { timeoutMs: 300 }), 'transient', /no answer/u);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(target.every((byte) => byte === 0)).toBe(true);
  });

  test('a slow endpoint does not keep calls beyond its sockets from failing in time', async () => {
    const narrow = await fixture.open({ endpoint: proxy.endpoint, prefix: 'p', socketsMax: 2, retries: { ...QUICK_RETRIES, attempts: 8, attemptTimeoutMs: 2000 } });
    proxy.inject({ fault: { kind: 'hang' } });
    const failures = await bounded(() => Promise.all(Array.from({ length: 20 }, () => failureOf(narrow.getWhole('object', SIZE, { timeoutMs: 700 })))));
    expect(new Set(failures.map(({ code }) => code))).toEqual(new Set(['unavailable']));
    proxy.reset();
    expect((await narrow.getWhole('object', SIZE)).length).toBe(SIZE); // no socket was lost
  });

  test('calls one after another go over one connection, whatever their size; calls at a time over no more than there may be', async () => {
    const narrow = await fixture.open({ endpoint: proxy.endpoint, prefix: 'p', socketsMax: 3 });
    const before = proxy.connections;
    for (let i = 0; i < 3; i += 1) {
      await narrow.put('large', [pattern(3_000_000, i)]);
      expect(await narrow.head('large')).toBe(3_000_000);
      await narrow.getWhole('large', 3_000_000);
      await narrow.getRange('large', new Uint8Array(4096), 5000);
      expect(await narrow.head('none')).toBe(null);
    }
    expect(proxy.connections - before).toBe(1);
    await Promise.all(Array.from({ length: 12 }, (_, index) => narrow.put(`large-${index}`, [pattern(3_000_000, index)])));
    expect(proxy.connections - before).toBe(3);
  });

  test('idle, no request is made', async () => {
    await store.head('object');
    proxy.reset();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(proxy.seen).toEqual([]);
  });

  describe('TLS', () => {
    let pki: TestPki;
    let secure: S3Proxy;
    beforeAll(async () => {
      pki = await TestPki.create();
      secure = await S3Proxy.start(fixture.server.port, { cert: pki.server.certificate, key: pki.server.key });
    });
    afterAll(async () => {
      await secure?.stop();
      await pki?.dispose();
    });

    test('works with the CA file of the endpoint', async () => {
      const tls = await fixture.open({ endpoint: secure.endpoint, prefix: 'p', caFile: join(pki.directory, 'ca-cert.pem') });
      expect(Buffer.compare(await tls.getWhole('object', SIZE), BODY)).toBe(0);
      await tls.put('secure', [pattern(3_000_000, 1)]);
      expect(await tls.head('secure')).toBe(3_000_000);
    });

    test('is refused without it, or with another one, and says so at once', async () => {
      const unknown = await fixture.open({ endpoint: secure.endpoint });
      await expectFailure(unknown.head('object'), 'denied', /not issued by an authority that is trusted.*CA file/u);
      const other = join(pki.directory, 'other-ca.pem');
      const stranger = await TestPki.create();
      await writeFile(other, stranger.authority.certificate);
      await stranger.dispose();
      await expectFailure((await fixture.open({ endpoint: secure.endpoint, caFile: other })).head('object'), 'denied', /CA file/u);
    });

    test('where the endpoint does not speak it is named', async () => {
      const plain = await fixture.open({ endpoint: proxy.endpoint.replace('http:', 'https:') });
      await expectFailure(plain.head('object'), 'permanent', /does not speak TLS.*http or https/u);
    });
  });
});
