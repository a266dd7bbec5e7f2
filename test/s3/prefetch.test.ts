/** `basalt open-remote --prefetch` over a real S3 server: what it has fetched is there when the store is gone. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { HOT_BYTES_MAX, HOT_KEY, decodeHotList } from '../../src/format/remote-records.ts';
import { BucketHost, VOLUME } from './campaign/bucket-host.ts';
import { BUCKET, S3Fixture } from './s3-fixture.ts';
import { START_TIMEOUT_MS, serverObstacle } from './s3-server.ts';

const obstacle = await serverObstacle('ceph20');
const ENTRY = resolve('dist/cli/basalt.cjs');
const URL = `s3://${BUCKET}/warm`;
const SIZE_MIB = 32;

describe.skipIf(obstacle !== null)(`open-remote --prefetch${obstacle === null ? '' : ` (${obstacle})`}`, () => {
  let fixture: S3Fixture;
  let directory: string;
  let first: BucketHost;
  let second: BucketHost;

  beforeAll(async () => {
    fixture = await S3Fixture.start('ceph20');
    directory = await mkdtemp(join(tmpdir(), 'basalt-prefetch-'));
    const common = { entry: ENTRY, endpoint: fixture.server.endpoint, credentialsFile: fixture.credentialsFile, settings: ['remote.attempts=1', 'remote.call_timeout_ms=2000'] };
    first = new BucketHost({ ...common, directory: join(directory, 'first') });
    second = new BucketHost({ ...common, directory: join(directory, 'second') });
    await first.create(URL, SIZE_MIB * MIB);
    await first.serve();
    const client = await first.connect();
    for (let at = 0; at < SIZE_MIB; at += 1) await client.write(at * MIB, Buffer.alloc(MIB, at + 1));
    await client.close();
    await first.drain();
    expect(await first.stop()).toBe(0);
  }, START_TIMEOUT_MS);

  afterAll(async () => {
    await first?.kill();
    await second?.kill();
    await fixture?.dispose();
    await rm(directory, { recursive: true, force: true });
  });

  test('fetches all there is room for, and then needs no store', async () => {
    const store = await fixture.open({ prefix: 'warm' });
    expect(decodeHotList(await store.getWhole(HOT_KEY, HOT_BYTES_MAX), HOT_KEY).chunks.length).toBeGreaterThanOrEqual(SIZE_MIB / 4);
    await second.openRemote(URL, '--prefetch');
    await second.serve();
    const client = await second.connect();
    while (((await second.show()).live?.shipping?.prefetch ?? null) !== null) {
      await new Promise((done) => {
        setTimeout(done, 20);
      });
    }
    const { live } = await second.show();
    expect(live?.shipping?.cachedBytes).toBeGreaterThanOrEqual(SIZE_MIB * MIB);
    expect(await readdir(join(second.dataDirectory, VOLUME))).not.toContain('prefetch');
    await fixture.server.dispose();
    for (let at = 0; at < SIZE_MIB; at += 1) expect((await client.read(at * MIB, MIB)).equals(Buffer.alloc(MIB, at + 1)), `MiB ${at}`).toBe(true);
    await client.close();
    await second.kill();
  });
});
