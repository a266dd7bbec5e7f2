/** `basalt follow` as it is typed: a second host reads a volume while the first one writes it, over a real S3 server. */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { NBD_FLAG_CAN_MULTI_CONN, NBD_FLAG_READ_ONLY } from '../../src/protocol/constants.ts';
import type { RemoteStore } from '../../src/store/remote-store.ts';
import { text } from '../support/text.ts';
import { BucketHost, VOLUME } from './campaign/bucket-host.ts';
import { BUCKET, S3Fixture } from './s3-fixture.ts';
import { START_TIMEOUT_MS, serverObstacle } from './s3-server.ts';

const obstacle = await serverObstacle('ceph20');
const ENTRY = resolve('dist/cli/basalt.cjs');
const URL = `s3://${BUCKET}/followed`;
const SIZE_MIB = 48;
/** On a slow machine, too: an owner that closes it puts something, and a follower that does begins anew. */
const STAYS_OPEN = 'engine.idle_close_ms=3600000';

function basalt(host: BucketHost, ...words: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [ENTRY, ...words, '--data', host.dataDirectory], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

describe.skipIf(obstacle !== null)(`follow${obstacle === null ? '' : ` (${obstacle})`}`, () => {
  let fixture: S3Fixture;
  let store: RemoteStore;
  let owner: BucketHost;
  let reader: BucketHost;
  let directory: string;

  /** All of the volume is of one round: so a mixture shows. */
  async function write(round: number): Promise<void> {
    const client = await owner.connect();
    for (let at = 0; at < SIZE_MIB; at += 1) await client.write(at * MIB, Buffer.alloc(MIB, round));
    await client.flush();
    await client.close();
    await owner.drain();
  }

  async function roundsSeen(): Promise<readonly number[]> {
    const client = await reader.connect();
    const seen = new Set<number>();
    for (let at = 0; at < SIZE_MIB; at += 1) for (const byte of new Set(await client.read(at * MIB, MIB))) seen.add(byte);
    await client.close();
    return [...seen];
  }

  async function keys(): Promise<string[]> {
    const found: string[] = [];
    for await (const page of store.list('')) found.push(...page.map(({ key }) => key));
    return found.toSorted();
  }

  beforeAll(async () => {
    fixture = await S3Fixture.start('ceph20');
    store = await fixture.open({ prefix: 'followed' });
    directory = await mkdtemp(join(tmpdir(), 'basalt-follow-'));
    const common = { entry: ENTRY, endpoint: fixture.server.endpoint, credentialsFile: fixture.credentialsFile };
    owner = new BucketHost({ ...common, directory: join(directory, 'owner'), settings: ['engine.checkpoint_chunks=4', STAYS_OPEN] });
    reader = new BucketHost({ ...common, directory: join(directory, 'reader'), settings: [STAYS_OPEN, 'remote.follow_interval_ms=0', 'remote.cache_bytes=1M', 'engine.arena_bytes=32M', 'engine.dirty_bytes=16M', 'engine.flush_bytes=8M'] });
    await owner.create(URL, SIZE_MIB * MIB);
    await owner.serve();
    await write(1);
    await reader.follow(URL);
    await reader.serve();
  }, START_TIMEOUT_MS);

  afterAll(async () => {
    await reader?.kill();
    await owner?.kill();
    await fixture?.dispose();
    await rm(directory, { recursive: true, force: true });
  });

  test('serves it read-only, to several connections, and changes nothing in the bucket', async () => {
    const before = await keys();
    const client = await reader.connect();
    const { transmissionFlags = 0 } = client.export ?? {};
    expect(transmissionFlags & NBD_FLAG_READ_ONLY).not.toBe(0);
    expect(transmissionFlags & NBD_FLAG_CAN_MULTI_CONN).not.toBe(0);
    await client.close();
    expect(await roundsSeen()).toEqual([1]);
    const { live, follows } = await reader.show();
    expect(follows).toBe(URL);
    expect(live?.bucketRequests).toMatchObject({ puts: 0, deletes: 0 });
    expect(live?.following).toMatchObject({ url: URL, epoch: 1, trouble: null, isPinned: false });
    expect(await keys()).toEqual(before);
    expect(basalt(reader, 'show', VOLUME).stdout).toMatch(/state +up to LSN \d+ \(epoch 1, .*\), put \d+\.\d s ago; 0 moves/u);
    expect(basalt(reader, 'list').stdout).toMatch(/volume +48 MiB +followed .* read-only/u);
  });

  test('moves on when it is asked to', async () => {
    await write(2);
    expect(await roundsSeen()).toEqual([1]);
    const { status, stdout } = basalt(reader, 'refresh', VOLUME);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^volume is up to LSN \d+ /u);
    expect(await roundsSeen()).toEqual([2]);
  });

  test('moves on by itself once the owner has removed what it reads', async () => {
    for (let round = 3; round <= 9; round += 1) await write(round);
    // What is in memory is of the state before, until something is asked for that has gone.
    const seen = await roundsSeen();
    expect(seen.at(-1)).toBe(9);
    expect(seen.filter((round) => round !== 2 && round !== 9)).toEqual([]);
    expect(await roundsSeen()).toEqual([9]);
    expect((await reader.show()).live?.following?.moves).toBeGreaterThan(0);
  });

  test('what its owner alone may do is refused, with what to do instead', () => {
    for (const words of [['resize', VOLUME, '1G'], ['durability', VOLUME, 'strict'], ['drain', VOLUME]]) {
      const { status, stderr } = basalt(reader, ...words);
      expect(status, words.join(' ')).toBe(1);
      expect(stderr).toMatch(/written by another host|it is followed/u);
    }
  });

  test('a server that was killed serves it again, also while the owner is gone', async () => {
    expect(await owner.stop()).toBe(0);
    await reader.kill();
    for (const words of [['check', VOLUME], ['check', VOLUME, '--remote'], ['explain', VOLUME, '0'], ['scrub', VOLUME], ['repair', VOLUME]]) {
      expect(basalt(reader, ...words), words.join(' ')).toMatchObject({ status: 1, stderr: text(/written by another host, and only followed here/u) });
    }
    await reader.serve();
    expect(await roundsSeen()).toEqual([9]);
    expect(await reader.stop()).toBe(0);
    const { status, stdout } = basalt(reader, 'refresh', VOLUME, '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ name: VOLUME, following: { url: URL, trouble: null } });
  });

  test('a prefix where nothing is, a name that is taken, and a store that is not there are told apart', () => {
    const flags = ['--endpoint', fixture.server.endpoint, '--credentials', fixture.credentialsFile];
    expect(basalt(reader, 'follow', `s3://${BUCKET}/nothing`, 'other', ...flags)).toMatchObject({ status: 1, stderr: text(/holds no volume that anything was shipped of/u) });
    expect(basalt(reader, 'follow', URL, VOLUME, ...flags)).toMatchObject({ status: 1, stderr: text(/exists already/u) });
    expect(basalt(reader, 'follow', URL, 'other', '--endpoint', 'http://127.0.0.1:9', '--credentials', fixture.credentialsFile, '--set', 'remote.call_timeout_ms=500')).toMatchObject({ status: 1, stderr: text(/check the endpoint/u) });
    expect(basalt(reader, 'list').stdout).not.toMatch(/other/u);
  });
});
