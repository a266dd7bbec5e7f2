import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GIB, TIB } from '../../src/base/units.ts';
import { describeLife, type DiskUse, estimateLife, readDiskUse } from '../../src/cli/disk-life.ts';
import { FakeCli } from '../support/cli-double.ts';

const CARD: DiskUse = { disk: 'mmcblk0', isCard: true, writtenBytes: 20 * GIB, days: 10, usedPercentMax: null };

describe('what Linux counted', () => {
  let root: string;
  beforeEach(async () => {
    root = await realpath(await mkdtemp(join(tmpdir(), 'basalt-life-')));
  });
  afterEach(() => rm(root, { recursive: true }));

  async function put(path: string, text: string): Promise<void> {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), `${text}\n`);
  }

  const read = (): Promise<DiskUse | null> => readDiskUse(root, { proc: join(root, 'proc'), sys: join(root, 'sys') });

  beforeEach(async () => {
    await put('proc/self/mountinfo', '22 1 179:0 / / rw - ext4 /dev/mmcblk0 rw');
    await put('proc/uptime', '864000.50 1700000.00');
    await put('sys/class/block/mmcblk0/stat', ' 1 2 3 4 5 6 41943040 8 9 10 11 12 13 14 15 16 17');
    await mkdir(join(root, 'sys/dev/block'), { recursive: true });
    await symlink(join(root, 'sys/class/block/mmcblk0'), join(root, 'sys/dev/block/179:0'));
  });

  test('is bytes since the start, of the whole disk', async () => {
    const use = await read();
    expect(use?.days).toBeCloseTo(10, 3);
    expect({ ...use, days: 10 }).toEqual(CARD);
  });

  test.each([
    ['0x01 0x03', 30],
    ['0x0b 0x01', 110],
    ['0x00 0x00', null],
    ['no numbers', null],
  ])('is, of eMMC, its own estimate, too: %s', async (text, percent) => {
    await put('sys/class/block/mmcblk0/device/life_time', text);
    expect((await read())?.usedPercentMax).toBe(percent);
  });

  test('is nothing where the system does not say', async () => {
    await rm(join(root, 'sys/class/block/mmcblk0/stat'));
    expect(await read()).toBeNull();
    await rm(join(root, 'proc/self'), { recursive: true });
    expect(await read()).toBeNull();
  });
});

describe('the estimate', () => {
  test('is the promised endurance by what is written a day', () => {
    const life = estimateLife(CARD, 30 * TIB);
    expect([life.bytesPerDay, life.years]).toEqual([2 * GIB, expect.closeTo((30 * 1024) / 2 / 365.25, 6)]);
    expect(describeLife(life)).toEqual([
      ['disk', 'mmcblk0: 20 GiB written by all of this machine since it started 10.0 days ago, 2 GiB a day'],
      ['disk life', "at that rate the 30 TiB of process.disk_endurance_bytes last 42.1 years, of which the disk's age is past"],
    ]);
  });

  test('is none soon after the start, nor of a disk of which nobody said what it takes', () => {
    expect(estimateLife({ ...CARD, days: 0.1 }, TIB)).toMatchObject({ bytesPerDay: null, years: null });
    expect(estimateLife(CARD, 0).years).toBeNull();
    expect(estimateLife({ ...CARD, writtenBytes: 0 }, TIB).years).toBeNull();
    expect(describeLife(estimateLife(CARD, 0)).at(-1)?.[1]).toContain('set process.disk_endurance_bytes');
    expect(describeLife(estimateLife({ ...CARD, isCard: false }, 0))).toEqual([]);
  });

  test('is beside what eMMC says of itself', () => {
    expect(describeLife(estimateLife({ ...CARD, usedPercentMax: 20 }, 0))[1]).toEqual(['disk life', 'its own estimate: 10 to 20 % used']);
    expect(describeLife(estimateLife({ ...CARD, usedPercentMax: 110 }, 0))[1]).toEqual(['disk life', 'its own estimate: all used, and more']);
  });
});

test('show tells it, with the endurance of the settings', async () => {
  const cli = new FakeCli();
  cli.disk = CARD;
  await cli.run('create', 'a', '512M');
  expect(await cli.run('show', 'a', '--set', 'process.disk_endurance_bytes=30T')).toBe(0);
  expect(cli.out).toContain('disk life   at that rate the 30 TiB');
  expect(await cli.run('show', 'a', '--json')).toBe(0);
  expect(JSON.parse(cli.out)).toMatchObject({ name: 'a', disk: { disk: 'mmcblk0', years: null } });
});
