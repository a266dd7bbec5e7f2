/** The S3 store on real servers. S3_KIND chooses one (ceph20); `make interop-s3` runs all. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { probeConditionalWrites } from '../../src/store/probe-conditional.ts';
import { collect, describeContract, expectFailure, pattern } from '../support/remote-contract.ts';
import { S3Fixture } from './s3-fixture.ts';
import { START_TIMEOUT_MS, serverObstacle, type ServerKind } from './s3-server.ts';

const KINDS: readonly ServerKind[] = ['ceph20', 'ceph18', 'swift'];
const kind = KINDS.find((known) => known === process.env.S3_KIND) ?? 'ceph20';
const hasConditions = kind !== 'swift';
const obstacle = await serverObstacle(kind);

describe.skipIf(obstacle !== null)(`S3 on ${kind}${obstacle === null ? '' : ` (${obstacle})`}`, () => {
  let fixture: S3Fixture;
  beforeAll(async () => {
    fixture = await S3Fixture.start(kind);
  }, START_TIMEOUT_MS);
  afterAll(() => fixture?.dispose());

  describeContract('as any store', { open: () => fixture.open({ prefix: 'hosts/one' }), conditional: hasConditions ? 'full' : 'refused', manyObjects: 1203 });
  describeContract('without a prefix', { open: () => fixture.open(), conditional: hasConditions ? 'full' : 'refused', manyObjects: 20 });

  test.skipIf(kind === 'ceph18')('checksums of the SDK change nothing where the server has them', async () => {
    const store = await fixture.open({ prefix: 'sums', checksums: 'crc32' });
    await store.put('a', [pattern(100_000, 1)]);
    expect(Buffer.compare(await store.getWhole('a', 100_000), pattern(100_000, 1))).toBe(0);
  });

  test('a wrong key is denied, however large the body, and nothing is written', async () => {
    const { accessKeyId } = fixture.server;
    const denied = await fixture.open({ prefix: 'denied', credentialsFile: await fixture.credentials.write('wrong', accessKeyId, 'wrong') });
    for (const size of [10, 4 * 1024 * 1024]) await expectFailure(denied.put('a', [pattern(size, 1)]), 'denied', /denied\/a.*(?:SignatureDoesNotMatch|AccessDenied)/u);
    expect(await (await fixture.open({ prefix: 'denied' })).head('a')).toBe(null);
  });

  test('the race finds what the server does with conditions, and leaves nothing behind', async () => {
    const store = await fixture.open({ prefix: 'probe' });
    const found = await probeConditionalWrites(store, fixture.env, 'probe-');
    const { support, reason } = { reason: null, ...found };
    expect({ support, reason }).toEqual(hasConditions ? { support: 'full', reason: null } : { support: 'none', reason: 'refused' });
    expect(await collect(store, '')).toEqual([]);
  });

  test('what was put before a kill -9 of the server is there after it, and calls that meet it are tried again', { timeout: START_TIMEOUT_MS }, async () => {
    const store = await fixture.open({ prefix: 'killed', retries: { attempts: 1000, delayMs: 50, throttledDelayMs: 50, delayMsMax: 200, attemptTimeoutMs: 10_000, callTimeoutMs: 300_000 } });
    for (let i = 0; i < 10; i += 1) await store.put(`before/${i}`, [pattern(50_000, i)]);
    await fixture.server.kill();
    const during = Promise.all(Array.from({ length: 10 }, (_, i) => store.put(`during/${i}`, [pattern(50_000, 100 + i)])));
    await fixture.server.run();
    await during;
    for (let i = 0; i < 10; i += 1) {
      expect(Buffer.compare(await store.getWhole(`before/${i}`, 50_000), pattern(50_000, i))).toBe(0);
      expect(Buffer.compare(await store.getWhole(`during/${i}`, 50_000), pattern(50_000, 100 + i))).toBe(0);
    }
    expect(store.counters.retries).toBeGreaterThan(0);
  });

  test('after a clean stop of the server, too, on connections that are gone', { timeout: START_TIMEOUT_MS }, async () => {
    const store = await fixture.open({ prefix: 'stopped' });
    await Promise.all(Array.from({ length: 8 }, (_, i) => store.put(`o/${i}`, [pattern(50_000, i)])));
    await fixture.server.stop();
    await expectFailure(store.head('o/0'), 'transient', /ECONNREFUSED|ECONNRESET/u);
    await fixture.server.run();
    for (let i = 0; i < 8; i += 1) expect(Buffer.compare(await store.getWhole(`o/${i}`, 50_000), pattern(50_000, i))).toBe(0);
  });
});
