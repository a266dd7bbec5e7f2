import { beforeEach, describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import type { VolumeDetails } from '../../src/control/routes.ts';
import { type VolumeInfo, type VolumeStatus, chunkSpaceOf } from '../../src/volume/volume-info.ts';
import { FakeCli, NOT_ASKED } from '../support/cli-double.ts';
import { SimMachine } from '../support/engine-harness.ts';

let cli: FakeCli;
beforeEach(async () => {
  cli = new FakeCli();
  await cli.run('create', 'demo', '1G');
  cli.volumes.closed = 0;
});

const modeOf = (name: string): string | undefined => cli.volumes.infos.get(name)?.durability;

async function statusOf(changes: Partial<VolumeStatus>): Promise<VolumeStatus> {
  const machine = new SimMachine();
  const status = await machine.run(async () => {
    await machine.create('/v');
    return (await machine.open('/v')).status();
  });
  return { ...status, ...changes };
}

describe('durability', () => {
  test('changes a volume that nobody serves', async () => {
    expect(await cli.run('durability', 'demo', 'strict', '--data', 'here')).toBe(0);
    expect(cli.asked, 'the first is for the making').toEqual(['./volumes', 'here']);
    expect(modeOf('demo')).toBe('strict');
    expect(cli.out).toBe('demo is strict from now on; everything written before is on disk\n');
    expect(cli.volumes.closed).toBe(1);
    expect(await cli.run('durability', 'demo', 'relaxed', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ name: 'demo', durability: 'relaxed', live: false });
  });

  test('asks the server, if one runs, and opens nothing itself', async () => {
    const changes: string[] = [];
    cli.server = { ...NOT_ASKED, setDurability: (name, mode) => Promise.resolve(void changes.push(`${name} ${mode}`)) };
    cli.opened.length = 0;
    expect(await cli.run('durability', 'demo', 'strict', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ name: 'demo', durability: 'strict', live: true });
    expect(changes).toEqual(['demo strict']);
    expect(cli.opened).toEqual([]);
  });

  test.each([
    [['durability', 'demo', 'async'], 2, /async answers writes and flushes before they are on disk: .* add --accept-data-loss if that is wanted, or choose relaxed/],
    [['create', 'x', '1G', '--durability', 'async'], 2, /add --accept-data-loss/],
    [['durability', 'demo', 'stric'], 2, /durability "stric" is none of strict, batched, relaxed, async; did you mean strict\?/],
    [['durability', 'demo'], 2, /something is missing; usage: basalt durability NAME MODE/],
    [['durability', 'demo', 'strict', 'more'], 2, /unexpected argument "more"; usage: basalt durability NAME MODE/],
    [['durability', 'demo', 'async', '--accept-dataloss'], 2, /no flag --accept-dataloss; did you mean --accept-data-loss\?/],
    [['durability', 'none', 'strict'], 1, /no volume none/],
  ] as const)('%j is refused', async (words, exitCode, message) => {
    expect(await cli.run(...words)).toBe(exitCode);
    expect(cli.error).toMatch(message);
    expect(cli.out).toBe('');
    expect([...cli.volumes.infos.keys()]).toEqual(['demo']);
    expect(modeOf('demo')).toBe('batched');
  });

  test('takes async from who accepts what it means', async () => {
    expect(await cli.run('durability', 'demo', 'async', '--accept-data-loss')).toBe(0);
    expect(modeOf('demo')).toBe('async');
  });

  test('passes the server\'s error on', async () => {
    cli.server = { ...NOT_ASKED, setDurability: () => Promise.reject(new VolumeError('no-space', 'the disk is full')) };
    expect(await cli.run('durability', 'demo', 'strict', '--json')).toBe(1);
    expect(JSON.parse(cli.error)).toMatchObject({ error: { code: 'no-space', message: 'the disk is full' } });
  });
});

/** A server runs and says this of the volume. */
async function served(live: VolumeStatus): Promise<VolumeDetails> {
  const details = { ...(await cli.volumes.describe('demo')), live, space: chunkSpaceOf(live.stats) };
  cli.server = { ...NOT_ASKED, volume: () => Promise.resolve(details), volumes: () => Promise.resolve([details]) };
  return details;
}

/** What `show` says of the way in which the log is written. */
async function logWrites(changes: Partial<VolumeInfo>, live: VolumeStatus | null): Promise<string | undefined> {
  const details = { ...(await cli.volumes.describe('demo')), ...changes, live, space: null };
  cli.server = { ...NOT_ASKED, volume: () => Promise.resolve(details) };
  expect(await cli.run('show', 'demo')).toBe(0);
  return /^log writes +(.*)$/m.exec(cli.out)?.[1];
}

describe('show', () => {
  test('of a volume that is served says what is at risk and what it wears', async () => {
    const live = await statusOf({
      atRisk: { unsynced: { bytes: 5 * 1024 * 1024, ageMs: 420 }, unchunked: { bytes: 0, ageMs: 0 } },
      wear: { deviceBytes: 3 * 1024 * 1024, userBytes: 2 * 1024 * 1024, factor: 1.5 },
    });
    const details = await served(live);
    expect(await cli.run('show', 'demo')).toBe(0);
    expect(cli.out).toMatch(/^not synced +5 MiB, oldest 0\.4 s$/m);
    expect(cli.out).toMatch(/^not in a chunk +nothing$/m);
    expect(cli.out).toMatch(/^wear +1\.50 bytes to the device per byte written \(3 MiB since it was opened\)$/m);
    expect(cli.out).not.toContain('failed');
    expect(await cli.run('show', 'demo', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ ...details, disk: null });
  });

  test('says which way the log is written, and whether that is what was asked for', async () => {
    expect(await logWrites({ logWay: 'mmap' }, null)).toBe('mmap');
    expect(await logWrites({ logWay: 'direct', measuredLogWay: 'direct' }, await statusOf({ logWay: 'direct' }))).toBe('direct; measured as best when the volume was made: direct');
    expect(await logWrites({ logWay: 'mmap' }, await statusOf({ logWay: 'buffered' }))).toBe('buffered; mmap is asked for, and not possible here');
    expect(await logWrites({ logWay: 'mmap' }, await statusOf({ logWay: null, readOnly: 'damaged' }))).toBe('mmap');
  });

  test.each<readonly [Partial<VolumeInfo>, boolean | null, string]>([
    [{ logCompress: 'off', chunkCompress: 'lz4' }, false, 'log: off; new chunks: lz4, as the settings say'],
    [{ logCompress: 'off', compression: 'lz4', chunkCompress: 'lz4' }, false, 'log: off; new chunks: lz4, as the volume says'],
    [{ logCompress: 'off', compression: 'none' }, false, 'log: off; new chunks: none, as the volume says'],
    [{ logCompress: 'auto' }, true, 'log: auto, at work now as the disk is slow; new chunks: off, as the settings say'],
    [{ logCompress: 'auto' }, false, 'log: auto, not at work now; new chunks: off, as the settings say'],
    [{ logCompress: 'auto' }, null, 'log: auto; new chunks: off, as the settings say'],
    [{ logCompress: 'lz4' }, true, 'log: lz4; new chunks: off, as the settings say'],
  ])('says what is compressed: %j, at work %j', async (changes, logCompressing, words) => {
    const details = { ...(await cli.volumes.describe('demo')), ...changes, live: await statusOf({ logCompressing }), space: null };
    cli.server = { ...NOT_ASKED, volume: () => Promise.resolve(details) };
    expect(await cli.run('show', 'demo')).toBe(0);
    expect(/^compressed +(.*)$/m.exec(cli.out)?.[1]).toBe(words);
  });

  test('says why a volume takes no more writes', async () => {
    await served(await statusOf({ failure: 'syncing the log failed (EIO)' }));
    expect(await cli.run('show', 'demo')).toBe(0);
    expect(cli.out).toMatch(/^failed +syncing the log failed \(EIO\)$/m);
    expect(cli.out).toMatch(/^wear +nothing written since it was opened$/m);
  });

  test('of one that nobody serves has nothing to say of that', async () => {
    expect(await cli.run('show', 'demo')).toBe(0);
    expect(cli.out).not.toMatch(/not synced|wear/);
    expect(await cli.run('show', 'demo', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toMatchObject({ name: 'demo', live: null });
  });
});
