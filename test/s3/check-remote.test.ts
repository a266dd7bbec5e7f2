/** `basalt check --remote` as it is typed, of a volume on a real S3 server. */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import type { RemoteStore } from '../../src/store/remote-store.ts';
import { text } from '../support/text.ts';
import { BucketHost, VOLUME } from './campaign/bucket-host.ts';
import { BUCKET, S3Fixture } from './s3-fixture.ts';
import { START_TIMEOUT_MS, serverObstacle } from './s3-server.ts';

const obstacle = await serverObstacle('ceph20');
const ENTRY = resolve('dist/cli/basalt.cjs');
const URL = `s3://${BUCKET}/checked`;

describe.skipIf(obstacle !== null)(`check --remote${obstacle === null ? '' : ` (${obstacle})`}`, () => {
  let fixture: S3Fixture;
  let store: RemoteStore;
  let host: BucketHost;
  let directory: string;

  beforeAll(async () => {
    fixture = await S3Fixture.start('ceph20');
    store = await fixture.open({ prefix: 'checked' });
    directory = await mkdtemp(join(tmpdir(), 'basalt-check-remote-'));
    host = new BucketHost({ directory, entry: ENTRY, endpoint: fixture.server.endpoint, credentialsFile: fixture.credentialsFile, settings: [] });
    await host.create(URL, 64 * MIB);
    await host.serve();
    const client = await host.connect();
    for (let at = 0; at < 24; at += 1) await client.write(at * MIB, Buffer.alloc(MIB, at + 1));
    await client.close();
    await host.drain();
  }, START_TIMEOUT_MS);

  afterAll(async () => {
    await host?.kill();
    await fixture?.dispose();
    await rm(directory, { recursive: true, force: true });
  });

  function check(...flags: readonly string[]) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [ENTRY, 'check', VOLUME, '--remote', ...flags, '--data', host.dataDirectory], { encoding: 'utf8' });
    return { status, stdout, stderr };
  }

  const bytesOf = (key: string): Promise<Uint8Array> => store.getWhole(key, 64 * MIB);

  async function keysIn(folder: string): Promise<string[]> {
    const keys: string[] = [];
    for await (const page of store.list(`${folder}/`)) keys.push(...page.map(({ key }) => key));
    return keys.toSorted();
  }

  test('while it is served all is there and sound, by ranges and byte by byte', () => {
    expect(check()).toMatchObject({ status: 0, stderr: '', stdout: text(`${VOLUME} in ${URL} is clean (`) });
    const { status, stdout } = check('--deep', '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ volume: VOLUME, deep: true, isClean: true, findings: [], bucket: { url: URL, epoch: 1, isReleased: false } });
  });

  test('a chunk that was deleted, cut, changed or swapped behind our back is named, and the status is 1', async () => {
    expect(await host.stop()).toBe(0);
    const [key = '', other = ''] = await keysIn('chunks');
    const [sound, second] = [await bytesOf(key), await bytesOf(other)];
    const damages: readonly (readonly [RegExp, readonly string[], () => Promise<void>])[] = [
      [/is missing/u, [], () => store.remove([key])],
      [/footer|checksum|ends at|bytes long/u, [], () => store.put(key, [sound.subarray(0, sound.length - 1000)])],
      [/checksum/u, ['--deep'], () => store.put(key, [sound.map((byte, at) => (at === 5000 ? byte ^ 1 : byte))])],
      [/chunk|number/u, [], () => store.put(key, [second])],
    ];
    for (const [problem, flags, damage] of damages) {
      await damage();
      const { status, stdout } = check(...flags);
      expect(status, stdout).toBe(1);
      expect(stdout).toMatch(new RegExp(`${URL}: 1 finding`, 'u'));
      expect(stdout).toMatch(new RegExp(`  ${key}: .*${problem.source}`, 'u'));
      expect(stdout).toMatch(/this host has it/u);
    }
    await store.put(key, [sound]);
    expect(check('--deep').status).toBe(0);
  });

  test('what a bucket lacks and this host has is shipped again, as the check says', async () => {
    const [key = ''] = await keysIn('chunks');
    const sound = await bytesOf(key);
    await store.remove([key]);
    expect(check().stdout).toMatch(/serve the volume here, and drain it/u);
    await host.serve();
    await (await host.connect()).close();
    await host.drain();
    expect(Buffer.compare(await bytesOf(key), sound)).toBe(0);
    expect(check('--deep').status).toBe(0);
  });

  test('a store that is not there is an error, with what to do, and no finding', async () => {
    await host.stop();
    await fixture.server.dispose();
    const { status, stderr } = check('--json');
    expect(status).toBe(1);
    expect(stderr).toMatch(/"code":"unavailable".*check the endpoint/u);
  });
});
