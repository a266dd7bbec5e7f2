/** `basalt resize` of a volume that has a bucket, over a real S3 server: larger, smaller and larger again, and made of the bucket behind each. */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { BucketHost, VOLUME } from './campaign/bucket-host.ts';
import { BUCKET, S3Fixture } from './s3-fixture.ts';
import { START_TIMEOUT_MS, serverObstacle } from './s3-server.ts';

const obstacle = await serverObstacle('ceph20');
const ENTRY = resolve('dist/cli/basalt.cjs');
const URL = `s3://${BUCKET}/resized`;

function basalt(host: BucketHost, ...words: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [ENTRY, ...words, '--data', host.dataDirectory], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

const some = (count: number, byte: number): number[] => Array<number>(count).fill(byte);

describe.skipIf(obstacle !== null)(`resize${obstacle === null ? '' : ` (${obstacle})`}`, () => {
  let fixture: S3Fixture;
  let directory: string;
  let host: BucketHost;
  let hosts = 0;

  function newHost(): BucketHost {
    hosts += 1;
    return new BucketHost({ directory: join(directory, `host-${hosts}`), entry: ENTRY, endpoint: fixture.server.endpoint, credentialsFile: fixture.credentialsFile, settings: [] });
  }

  beforeAll(async () => {
    fixture = await S3Fixture.start('ceph20');
    directory = await mkdtemp(join(tmpdir(), 'basalt-resize-'));
    host = newHost();
    await host.create(URL, 16 * MIB);
    await host.serve();
  }, START_TIMEOUT_MS);

  afterAll(async () => {
    await host?.kill();
    await fixture?.dispose();
    await rm(directory, { recursive: true, force: true });
  });

  async function fill(from: number, to: number, byte: number): Promise<void> {
    const client = await host.connect();
    for (let at = from; at < to; at += 1) await client.write(at * MIB, Buffer.alloc(MIB, byte));
    await client.flush();
    await client.close();
  }

  /** Kills the server, and makes the volume of the bucket on another host: a byte for each MiB that it has. */
  async function lose(): Promise<readonly number[]> {
    await host.drain();
    await host.kill();
    host = newHost();
    await host.openRemote(URL, '--force');
    await host.serve();
    const client = await host.connect();
    const size = Number(client.export?.sizeBytes ?? 0n) / MIB;
    const bytes: number[] = [];
    for (let at = 0; at < size; at += 1) {
      const found = await client.read(at * MIB, MIB);
      expect(found.every((byte) => byte === found[0]), `MiB ${at}`).toBe(true);
      bytes.push(found[0] ?? -1);
    }
    await client.close();
    return bytes;
  }

  test('what is larger has its size and its data on the next host', async () => {
    await fill(0, 16, 1);
    expect(basalt(host, 'resize', VOLUME, '24M')).toMatchObject({ status: 0, stderr: '' });
    await fill(20, 24, 2);
    expect(await lose()).toEqual([...some(16, 1), ...some(4, 0), ...some(4, 2)]);
    expect(basalt(host, 'check', VOLUME, '--remote', '--deep').stdout).toMatch(/is clean/u);
  });

  test('what is smaller asks first, and does not come back when it is larger again', async () => {
    const refused = basalt(host, 'resize', VOLUME, '8M');
    expect(refused.status).toBe(2);
    expect(refused.stderr).toMatch(/cuts off .* add --yes/u);
    expect(basalt(host, 'resize', VOLUME, '8M', '--yes').status).toBe(0);
    expect(await lose()).toEqual(some(8, 1));
    expect(basalt(host, 'resize', VOLUME, '12M').status).toBe(0);
    expect(await lose()).toEqual([...some(8, 1), ...some(4, 0)]);
    expect(basalt(host, 'repair', VOLUME, '--yes')).toMatchObject({ status: 1 });
  });
});
