/** What people get wrong about a bucket, against a real server: told at once, by name, with what to do; and nothing is written. */
import { createServer } from 'node:http';
import { writeFile } from 'node:fs/promises';
import { DeleteBucketCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { collect, expectFailure, failureOf, pattern } from '../support/remote-contract.ts';
import { QUICK_RETRIES } from '../support/s3-settings.ts';
import { S3Proxy } from '../support/s3-proxy.ts';
import { BUCKET, S3Fixture } from './s3-fixture.ts';
import { START_TIMEOUT_MS, serverObstacle } from './s3-server.ts';

const obstacle = await serverObstacle('ceph20');
const BIG = pattern(4 * 1024 * 1024, 1);

describe.skipIf(obstacle !== null)(`bad input to S3${obstacle === null ? '' : ` (${obstacle})`}`, () => {
  let fixture: S3Fixture;
  beforeAll(async () => {
    fixture = await S3Fixture.start('ceph20');
  }, START_TIMEOUT_MS);
  afterAll(() => fixture?.dispose());

  test('an access key that the store does not know', async () => {
    const credentialsFile = await fixture.credentials.write('unknown', 'nobody', 'secret');
    const store = await fixture.open({ credentialsFile });
    for (const body of [pattern(10, 1), BIG]) await expectFailure(store.put('a', [body]), 'denied', /403 InvalidAccessKeyId.*check the credentials/u);
    await expectFailure(store.head('a'), 'denied', /s3:\/\/volumes\/a at http:\/\/127\.0\.0\.1.*InvalidAccessKeyId/u);
    await expectFailure(collect(store, ''), 'denied', /InvalidAccessKeyId/u);
    await expectFailure(store.remove(['a', 'b']), 'denied', /InvalidAccessKeyId/u);
    expect(store.counters.retries).toBe(0);
  });

  test('a secret key that is not its access key\'s', async () => {
    const credentialsFile = await fixture.credentials.write('secret', fixture.server.accessKeyId, 'wrong');
    const store = await fixture.open({ credentialsFile });
    await expectFailure(store.put('a', [BIG]), 'denied', /SignatureDoesNotMatch.*secret key/u);
    expect(await (await fixture.open()).head('a')).toBe(null);
  });

  test('credentials that are renewed in their file are used at the next try, without a restart', async () => {
    const path = await fixture.credentials.write('renewed', 'nobody', 'secret');
    const store = await fixture.open({ credentialsFile: path, prefix: 'renewed' });
    await expectFailure(store.put('a', [pattern(10, 1)]), 'denied', /InvalidAccessKeyId/u);
    await fixture.credentials.write('renewed', fixture.server.accessKeyId, fixture.server.secretAccessKey);
    await store.put('a', [pattern(10, 1)]);
    expect(await store.head('a')).toBe(10);
  });

  test('a credentials file that breaks under us', async () => {
    const path = await fixture.credentials.write('becomes', 'nobody', 'secret');
    const store = await fixture.open({ credentialsFile: path });
    await writeFile(path, '[default]\naws_access_key_id = a\n');
    await expectFailure(store.head('a'), 'denied', /aws_secret_access_key is missing/u);
  });

  test('a bucket that is not there: not an object that is not there', async () => {
    const store = await fixture.open({ bucket: 'no-such-bucket' });
    const calls = [() => store.head('a'), () => store.getWhole('a', 10), () => store.put('a', [BIG]), () => store.putIfAbsent('a', [pattern(1, 1)]), () => collect(store, ''), () => store.remove(['a', 'b'])];
    for (const call of calls) await expectFailure(call(), 'permanent', /no-such-bucket.*no such bucket at this endpoint/u);
    expect((await failureOf(store.head('a'))).code).toBe('not-found');
  });

  test('a bucket of somebody else', async () => {
    const credentialsFile = await fixture.credentials.write('guest', fixture.server.guest.accessKeyId, fixture.server.guest.secretAccessKey);
    const store = await fixture.open({ credentialsFile });
    for (const call of [() => store.put('theirs', [pattern(10, 1)]), () => store.getWhole('a', 10), () => collect(store, '')]) {
      await expectFailure(call(), 'denied', /403 AccessDenied.*somebody else/u);
    }
  });

  test('a bucket that is full', async () => {
    const { accessKeyId, secretAccessKey } = fixture.server.guest;
    const client = fixture.server.client(accessKeyId, secretAccessKey);
    await fixture.server.createBucket('small', client);
    const store = await fixture.open({ bucket: 'small', credentialsFile: await fixture.credentials.write('full', accessKeyId, secretAccessKey) });
    await store.put('first', [pattern(500_000, 1)]);
    const error = await failureOf(store.put('second', [pattern(900_000, 2)]));
    expect({ failure: error.failure, code: error.code, word: error.word }).toEqual({ failure: 'full', code: 'no-space', word: 'QuotaExceeded' });
    expect(await store.head('second')).toBe(null);
    await store.put('third', [pattern(1000, 3)]); // what fits still goes in
  });

  test('a bucket that is deleted under us', async () => {
    await fixture.server.createBucket('passing');
    const store = await fixture.open({ bucket: 'passing' });
    expect(await store.head('a')).toBe(null);
    await fixture.server.client().send(new DeleteBucketCommand({ Bucket: 'passing' }));
    await expectFailure(store.put('a', [pattern(10, 1)]), 'permanent', /s3:\/\/passing\/a.*no such bucket/u);
  });

  test('an endpoint where nobody listens, that has no name, or is no store', async () => {
    await expectFailure((await fixture.open({ endpoint: 'http://127.0.0.1:9' })).head('a'), 'transient', /ECONNREFUSED.*check the endpoint and its port.*given up after 4 tries/u);
    const retries = { ...QUICK_RETRIES, attempts: 1 };
    await expectFailure((await fixture.open({ endpoint: 'http://store.invalid', retries })).head('a'), 'transient', /name of the endpoint cannot be resolved/u);
    const web = createServer((_, answer) => answer.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><p>hello & welcome'));
    await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', () => resolve()));
    const address = web.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const store = await fixture.open({ endpoint: `http://127.0.0.1:${port}`, retries });
    await expectFailure(store.put('a', [pattern(10, 1)]), 'permanent', /not answer as an S3 store/u);
    await expectFailure(store.getRange('a', new Uint8Array(10), 0), 'transient', /status 200 for a range/u);
    expect(['permanent', 'transient']).toContain((await failureOf(collect(store, ''))).failure);
    web.closeAllConnections();
    web.close();
  });

  test('a clock that is wrong by an hour is set by the store\'s, within the call', async () => {
    const store = await fixture.open({ prefix: 'clock' });
    for (const hours of [1, -1, 0]) {
      vi.setSystemTime(Date.now() + hours * 3_600_000);
      try {
        expect(await store.putIfAbsent(`hours/${hours + 1}`, [pattern(10, 1)])).toBe('created');
        expect(await store.head(`hours/${hours + 1}`)).toBe(10);
      } finally {
        vi.useRealTimers();
      }
    }
    expect(store.counters.retries).toBe(0);
  });

  test('a clock, a region or a token that is wrong is named', async () => {
    const proxy = await S3Proxy.start(fixture.server.port);
    const store = await fixture.open({ endpoint: proxy.endpoint });
    for (const [status, code, failure, words] of [
      [403, 'RequestTimeTooSkewed', 'denied', /set the clock/u],
      [400, 'ExpiredToken', 'denied', /renew/u],
      [400, 'AuthorizationHeaderMalformed', 'permanent', /region/u],
      [301, 'PermanentRedirect', 'permanent', /region/u],
    ] as const) {
      proxy.reset();
      proxy.inject({ fault: { kind: 'answer', status, code } });
      await expectFailure(store.put('a', [pattern(10, 1)]), failure, words);
    }
    await proxy.stop();
  });

  test('what stands in the bucket beside us is seen, and is not ours', async () => {
    const whole = await fixture.open();
    await whole.put('others/key', [pattern(3, 1)]);
    const store = await fixture.open({ prefix: 'other' });
    expect(await collect(store, '')).toEqual([]);
    expect(await store.head('key')).toBe(null);
    expect((await collect(whole, 'others/')).map(({ key }) => key)).toEqual(['others/key']);
    expect(BUCKET).toBe(whole.place.bucket);
  });
});
