import { describe, expect, test } from 'vitest';
import { GIB, MIB } from '../../src/base/units.ts';
import { adviseSettings, type Measured } from '../../src/cli/choose-profile.ts';
import type { DeviceFacts } from '../../src/cli/device-facts.ts';
import { loadSettings } from '../../src/config/load-settings.ts';
import type { Timing } from '../../src/volume/measure-disk.ts';
import { FakeCli } from '../support/cli-double.ts';

const timing = (bestMs: number, medianMs = bestMs): Timing => ({ bestMs, medianMs, worstMs: medianMs * 3, rounds: 20 });

interface Kind {
  readonly syncMs: number;
  readonly mibPerSecond: number;
  readonly usualSyncMs?: number;
  readonly facts?: Partial<DeviceFacts> | null;
  readonly memoryBytes?: number;
  readonly processors?: number;
  readonly kernel?: string;
  readonly shifted?: number;
}

const FACTS: DeviceFacts = { fileSystem: 'ext4', mountPoint: '/', isReadOnly: false, disk: 'vda', isCard: false, sectorBytes: 512, eraseBlockBytes: null, partitionOffsetBytes: 0 };

function machineOf({ syncMs, mibPerSecond, usualSyncMs = syncMs, facts = {}, memoryBytes = 16 * GIB, processors = 8, kernel = '6.1.0', shifted = 1 }: Kind): Measured {
  const bytesPerSecond = mibPerSecond * MIB;
  return {
    measurement: {
      sync: timing(syncMs, usualSyncMs),
      write: timing((4 * MIB * 1000) / bytesPerSecond),
      bestBytesPerSecond: bytesPerSecond,
      medianBytesPerSecond: bytesPerSecond,
      alignment: { aligned: timing(1), shifted: timing(shifted) },
      writtenBytes: 64 * MIB,
      elapsedMs: 4000,
    },
    facts: facts === null ? null : { ...FACTS, ...facts },
    machine: { memoryBytes, processors, kernel },
  };
}

const CARD: Kind = { syncMs: 5, mibPerSecond: 19 };
const cardOf = (eraseBlockBytes: number): Measured => machineOf({ ...CARD, facts: { isCard: true, eraseBlockBytes } });
const SSD: Kind = { syncMs: 0.2, mibPerSecond: 900 };

describe('the profile is', () => {
  test.each<[string, Kind, string | null]>([
    ['jetson-sd on a card, by its speed', CARD, 'jetson-sd'],
    ['jetson-sd on a quicker card, whose syncs tell it', { syncMs: 5, mibPerSecond: 60 }, 'jetson-sd'],
    ['jetson-sd on a card, by its name, however fast', { ...SSD, facts: { disk: 'mmcblk0', isCard: true } }, 'jetson-sd'],
    ['jetson-sd on a disk that writes slowly and syncs at once', { syncMs: 0.5, mibPerSecond: 20 }, 'jetson-sd'],
    ['jetson-sd on a slow card in WSL as well', { ...CARD, kernel: '5.15-microsoft-standard-WSL2' }, 'jetson-sd'],
    ['nvme on a fast disk', SSD, 'nvme'],
    ['nvme on a fast disk that is in use', { ...SSD, usualSyncMs: 40 }, 'nvme'],
    ['none on a fast disk of a machine with little memory', { ...SSD, memoryBytes: 4 * GIB }, null],
    ['none on a hard disk: slow syncs, and fast writes', { syncMs: 12, mibPerSecond: 160 }, null],
    ['none on a disk in between', { syncMs: 2, mibPerSecond: 300 }, null],
    ['wsl in WSL', { ...SSD, kernel: '5.15.153.1-microsoft-standard-WSL2' }, 'wsl'],
    ['nvme where nothing is known of the disk but its speed', { ...SSD, facts: null }, 'nvme'],
  ])('%s', (_, kind, expected) => {
    const { profile, reasons } = adviseSettings(machineOf(kind));
    expect(profile).toBe(expected);
    expect(reasons.join(' ')).toMatch(/\d/);
  });
});

describe('the advice', () => {
  test('takes the erase block from the card, if it is one', () => {
    expect(adviseSettings(cardOf(16 * MIB)).changes).toEqual([expect.objectContaining({ key: 'engine.erase_block_bytes', value: '"16M"' })]);
    expect(adviseSettings(cardOf(3 * MIB)).changes).toEqual([]);
    expect(adviseSettings(cardOf(512)).changes).toEqual([]);
  });

  test('has no more threads than processors', () => {
    expect(adviseSettings(machineOf({ ...SSD, processors: 2 })).changes).toEqual([expect.objectContaining({ key: 'process.worker_threads', value: '2' })]);
  });

  test.each<[string, Kind, string]>([
    ['a partition beside the erase blocks', { ...CARD, facts: { eraseBlockBytes: 4 * MIB, partitionOffsetBytes: MIB } }, 'no multiple of the 4 MiB'],
    ['memory', { ...SSD, facts: { fileSystem: 'tmpfs' } }, 'gone with the next restart'],
    ['a network', { ...SSD, facts: { fileSystem: 'nfs4' } }, 'not a disk of this machine'],
    ['a disk in use', { ...SSD, usualSyncMs: 9 }, 'the disk is in use'],
    ['large pages', { ...SSD, shifted: 2 }, 'take 2.0 times as long'],
  ])('warns of %s', (_, kind, warning) => {
    expect(adviseSettings(machineOf(kind)).warnings).toEqual([expect.stringContaining(warning)]);
  });

  test('of a good disk has no warnings', () => {
    expect(adviseSettings(machineOf(SSD)).warnings).toEqual([]);
  });
});

describe('basalt tune', () => {
  const tune = async (kind: Kind, ...words: string[]): Promise<FakeCli> => {
    const cli = new FakeCli();
    cli.measured = machineOf(kind);
    expect(await cli.run('tune', '/mnt/card', ...words), cli.error).toBe(0);
    return cli;
  };

  test('says what it measured, what it proposes, why, and what to do next', async () => {
    const cli = await tune(CARD);
    expect(cli.asked).toEqual(['/mnt/card']);
    expect(cli.out).toContain('/mnt/card, ext4 on vda: 64 MiB written in 4.0 s');
    expect(cli.out).toContain('5.00 ms at best');
    expect(cli.out).toContain('profile jetson-sd\n  because the disk is as slow as a card');
    expect(cli.out).toContain('--write basalt.toml');
    expect((await tune({ syncMs: 2, mibPerSecond: 300 })).out).toContain('no profile: the defaults fit');
  });

  test('has all of it as JSON', async () => {
    const cli = await tune(SSD, '--json');
    expect(JSON.parse(cli.out)).toMatchObject({ profile: 'nvme', directory: '/mnt/card', written: null, measurement: { sync: { bestMs: 0.2 } }, facts: { disk: 'vda' } });
  });

  test.each<[string, Kind, number, number]>([
    ['a card with larger erase blocks', { ...CARD, facts: { isCard: true, eraseBlockBytes: 16 * MIB } }, 16 * MIB, 2],
    ['an SSD and three processors', { ...SSD, processors: 3 }, 4 * MIB, 3],
    ['neither', { syncMs: 2, mibPerSecond: 300 }, 4 * MIB, 2],
  ])('writes settings that are accepted and hold the changes, for %s', async (_, kind, eraseBlockBytes, workerThreads) => {
    const cli = await tune(kind, '--write', 'a.toml');
    const text = cli.files.get('a.toml') ?? '';
    expect(text).toMatch(/^# Proposed by basalt tune on \d{4}-\d\d-\d\d:\n# - /);
    const { settings } = loadSettings({ toml: { name: 'a.toml', text } });
    expect([settings.engine.eraseBlockBytes, settings.process.workerThreads]).toEqual([eraseBlockBytes, workerThreads]);
    expect(cli.out).toContain('basalt serve --data /mnt/card --config a.toml');
  });

  test('does not write over a file', async () => {
    const cli = new FakeCli();
    cli.measured = machineOf(CARD);
    cli.files.set('a.toml', 'mine');
    expect(await cli.run('tune', '/mnt/card', '--write', 'a.toml')).toBe(1);
    expect([cli.error, cli.files.get('a.toml')]).toEqual([expect.stringContaining('a.toml is there already'), 'mine']);
  });

  test('without a directory says what is missing', async () => {
    const cli = new FakeCli();
    expect(await cli.run('tune')).toBe(2);
    expect(cli.error).toContain('usage: basalt tune DIRECTORY');
  });
});
