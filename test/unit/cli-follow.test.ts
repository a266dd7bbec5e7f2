import { beforeEach, describe, expect, test } from 'vitest';
import type { NewRemote } from '../../src/volume/remote-volumes.ts';
import type { FollowStatus } from '../../src/volume/volume-info.ts';
import { describeVolume } from '../../src/cli/verbs/show.ts';
import { drawScreen } from '../../src/cli/top-screen.ts';
import { STATUS } from '../support/control-harness.ts';
import { FakeCli, NOT_ASKED } from '../support/cli-double.ts';

const FOLLOWING: FollowStatus = { url: 's3://b/v', owner: 'alpha', epoch: 3, checkpoint: 12, chunk: 310, lsn: 4711, writtenMs: 1, ageMs: 12_340, lookAgeMs: 2500, isPinned: false, moves: 4, cachedBytes: 1024 * 1024, trouble: null };
const FOLLOWED = { url: 's3://b/v', owner: 'alpha', epoch: 3, checkpoint: 12, chunk: 310, lsn: 4711, isPinned: false, sizeBytes: 2 ** 30 };

const stats = (following: FollowStatus): Parameters<typeof drawScreen>[0] => ({
  atMs: 1000,
  connections: 0,
  memory: { arenaBytes: 1, dirtyBytes: 0, cachedBytes: 0, lentBytes: 0, bufferBytes: 0, idleBufferBytes: 0, replyBytes: 0, replyBytesMax: 1, payloadBytes: 0, payloadBytesMax: 1 },
  process: { residentBytes: 1, userCpuMs: 0, systemCpuMs: 0 },
  volumes: [{ name: 'copy', requests: null, limits: null, live: { ...STATUS, readOnly: 'it is followed', following } }],
});
const draw = (following: FollowStatus): string => drawScreen(stats(following), { ...stats(following), atMs: 0 }, { columns: 200, rows: 40 }).join('\n');

let cli: FakeCli;
beforeEach(() => {
  cli = new FakeCli();
});

describe('basalt follow', () => {
  const asked: [string, NewRemote, boolean][] = [];
  beforeEach(() => {
    asked.length = 0;
    cli.volumes.follow = (name, remote, { isPinned }) => {
      asked.push([name, remote, isPinned]);
      return Promise.resolve({ ...FOLLOWED, isPinned });
    };
  });

  test('makes a volume that is read from a bucket, and says how it is served and mounted', async () => {
    expect(await cli.run('follow', 's3://b/v', 'copy', '--endpoint', 'http://127.0.0.1:1')).toBe(0);
    expect(asked).toEqual([['copy', { url: 's3://b/v', endpoint: 'http://127.0.0.1:1', region: 'us-east-1', credentialsFile: '', caFile: '', singleWriter: false }, false]]);
    expect(cli.out).toMatch(/^copy follows s3:\/\/b\/v, 1 GiB, which host alpha writes: now up to LSN 4711\n/u);
    expect(cli.out).toMatch(/mount: +with ro, and noload/u);
  });

  test('pins it if it is asked to, and says so in JSON', async () => {
    expect(await cli.run('follow', 's3://b/v', 'copy', '--pin', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ name: 'copy', ...FOLLOWED, isPinned: true });
  });

  test.each([
    [['follow', 's3://b/v'], /usage: basalt follow URL NAME/u],
    [['follow', '/b/v', 'copy'], /no s3:\/\/BUCKET\/PREFIX/u],
    [['follow', 's3://b/v', 'copy', '--single-writer'], /single-writer/u],
    [['refresh'], /usage: basalt refresh NAME/u],
  ])('%s is wrong usage', async (words, problem) => {
    expect(await cli.run(...words)).toBe(2);
    expect(cli.error).toMatch(problem);
    expect(asked).toEqual([]);
  });
});

describe('basalt refresh', () => {
  test('goes through the server where one runs, and through the volumes where none does', async () => {
    cli.volumes.refresh = () => Promise.resolve(FOLLOWING);
    expect(await cli.run('refresh', 'copy')).toBe(0);
    expect(cli.out).toBe('copy is up to LSN 4711 (epoch 3, checkpoint 12, chunk 310), put 12.3 s ago\n');
    cli.out = '';
    cli.server = { ...NOT_ASKED, refresh: () => Promise.resolve({ ...FOLLOWING, lsn: 4712 }) };
    expect(await cli.run('refresh', 'copy', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ name: 'copy', following: { ...FOLLOWING, lsn: 4712 } });
  });
});

describe('a volume that is followed', () => {
  test('is shown with its state, how old that is, and what keeps it from moving on', async () => {
    const info = { ...(await cli.volumes.create('copy', { sizeBytes: 2 ** 30, blockSizeBytes: 4096, durability: 'batched' })), follows: 's3://b/v' };
    const requests = { puts: 0, gets: 7, lists: 9, deletes: 0, sentBytes: 0, receivedBytes: 2048, retries: 0, throttled: 0 };
    const live = { ...STATUS, readOnly: 'it is followed', following: FOLLOWING, bucketRequests: requests };
    const shown = describeVolume({ ...info, live, space: null }, null);
    expect(shown).toMatch(/follows +s3:\/\/b\/v\n/u);
    expect(shown).toMatch(/owner +alpha\n/u);
    expect(shown).toMatch(/state +up to LSN 4711 \(epoch 3, checkpoint 12, chunk 310\), put 12\.3 s ago; 4 moves since it was opened; 2\.5 s ago it was the newest there was\n/u);
    expect(shown).toMatch(/requests +7 gets \(2 KiB\), 9 lists/u);
    expect(shown).not.toMatch(/log writes|not synced|wear/u);
    const inTrouble = { ...FOLLOWING, isPinned: true, trouble: 'no answer' };
    expect(describeVolume({ ...info, live: { ...live, following: inTrouble }, space: null }, null)).toMatch(/pinned to that[\s\S]*not following +no answer/u);
    expect(describeVolume({ ...info, live: null, space: null }, null)).toMatch(/follows +s3:\/\/b\/v[\s\S]*open now +no/u);
  });

  test('is listed as such, and no trouble in the live view', async () => {
    const info = await cli.volumes.create('copy', { sizeBytes: 2 ** 30, blockSizeBytes: 4096, durability: 'batched' });
    cli.volumes.infos.set('copy', { ...info, follows: 's3://b/v' });
    expect(await cli.run('list')).toBe(0);
    expect(cli.out).toMatch(/copy +1 GiB +followed/u);
    expect(draw(FOLLOWING)).not.toMatch(/it is followed/u);
    expect(draw({ ...FOLLOWING, trouble: 'no answer' })).toMatch(/copy: no answer/u);
  });
});
