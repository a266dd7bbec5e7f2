import { describe, expect, test } from 'vitest';
import type { FileSystem } from '../../src/env/env.ts';
import { chooseLogWay, measureLogWay } from '../../src/wal/measure-log.ts';
import { SimMachine, smallSettings } from '../support/engine-harness.ts';
import { FakeDirectFile, FakeFile, ManualClock, MemoryLogger, systemError } from '../support/fake-world.ts';

const PATH = '/scratch';

/** A disk whose plain write with its sync, and whose direct write, take so long each. */
class Disk {
  readonly clock = new ManualClock();
  readonly logger = new MemoryLogger();
  readonly plain = new FakeFile();
  readonly direct = new FakeDirectFile(this.plain);
  readonly removed: string[] = [];
  opens = 0;
  closes = 0;

  constructor(bufferedMs: number, directMs: number) {
    const { plain, direct } = this;
    const sync = plain.sync.bind(plain);
    plain.sync = () => {
      this.clock.spend(bufferedMs);
      return sync();
    };
    const write = direct.write.bind(direct);
    direct.write = (parts, offsetBytes) => {
      this.clock.spend(directMs);
      return write(parts, offsetBytes);
    };
    for (const file of [plain, direct]) {
      file.close = () => {
        this.closes += 1;
        return Promise.resolve();
      };
    }
  }

  readonly files: Pick<FileSystem, 'open' | 'remove'> = {
    open: (_path, mode) => {
      this.opens += 1;
      return Promise.resolve(mode === 'direct' ? this.direct : this.plain);
    },
    remove: (path) => {
      this.removed.push(path);
      return Promise.resolve();
    },
  };

  measure(): ReturnType<typeof measureLogWay> {
    return measureLogWay({ files: this.files, clock: this.clock, logger: this.logger, path: PATH });
  }

  /** Whatever came of it, nothing is left. */
  expectClean(): void {
    expect([this.opens - this.closes, this.removed]).toEqual([0, [PATH]]);
  }
}

const open = (): Promise<never> => Promise.reject(systemError('EIO'));

describe('a measurement', () => {
  test.each([
    [0.5, 0.125, 'direct'],
    [0.375, 0.25, 'direct'],
    [0.34375, 0.25, 'buffered'],
    [0.125, 0.5, 'buffered'],
    [0, 0, 'buffered'],
  ] as const)('of %d ms for a write and its sync, and %d for a direct write, chooses %s', async (bufferedMs, directMs, expected) => {
    const disk = new Disk(bufferedMs, directMs);
    expect(await disk.measure()).toBe(expected);
    expect([disk.plain.syncs, disk.direct.writes]).toEqual([25, 24]);
    expect(disk.clock.nowMs()).toBeLessThan(20);
    disk.expectClean();
  });

  test('takes the ways in turn, and each has bytes of its own that were written before', async () => {
    const disk = new Disk(0.2, 0.1);
    const sizes: number[] = [];
    const offsets = new Map<FakeFile, Set<number>>([[disk.plain, new Set()], [disk.direct, new Set()]]);
    for (const file of [disk.plain, disk.direct]) {
      const original = file.write.bind(file);
      file.write = (parts, offsetBytes) => {
        if (sizes.length > 0) offsets.get(file)?.add(offsetBytes);
        sizes.push(disk.plain.bytes.length);
        return original(parts, offsetBytes);
      };
    }
    await disk.measure();
    expect([sizes[0], new Set(sizes.slice(1))]).toEqual([0, new Set([256 * 1024])]);
    expect(Math.max(...(offsets.get(disk.plain) ?? []))).toBeLessThan(Math.min(...(offsets.get(disk.direct) ?? [])));
    expect(offsets.get(disk.plain)?.size).toBe(16);
  });

  test('of a slow disk has fewer rounds, and ends in time', async () => {
    const disk = new Disk(12, 6);
    expect(await disk.measure()).toBe('direct');
    expect(disk.clock.nowMs()).toBeLessThan(230);
    expect(disk.direct.writes).toBeLessThan(14);
    disk.expectClean();
  });

  test('of a disk too slow for six rounds is none', async () => {
    const disk = new Disk(60, 1);
    expect(await disk.measure()).toBe('buffered');
    expect(disk.clock.nowMs()).toBeLessThan(300);
    disk.expectClean();
  });

  test.each([
    ['the first write', (disk: Disk) => (disk.plain.writeError = systemError('ENOSPC'))],
    ['a sync', (disk: Disk) => (disk.plain.syncError = systemError('EIO'))],
    ['a direct write', (disk: Disk) => (disk.direct.writeError = systemError('EINVAL'))],
  ])('that fails at %s says buffered, and leaves nothing', async (_, breakIt) => {
    const disk = new Disk(0.3, 0.1);
    breakIt(disk);
    expect(await disk.measure()).toBe('buffered');
    expect(disk.logger.lines.map(({ level, event }) => `${level} ${event}`)).toEqual(['debug log-not-measured']);
    disk.expectClean();
  });

  test('that cannot make its file says buffered, and removes what the failed call may have made (simulated seed 1446)', async () => {
    const disk = new Disk(0.3, 0.1);
    const measure = (files: Pick<FileSystem, 'open' | 'remove'>): ReturnType<typeof measureLogWay> => measureLogWay({ files, clock: disk.clock, logger: disk.logger, path: PATH });
    expect(await measure({ ...disk.files, open })).toBe('buffered');
    expect(disk.removed).toEqual([PATH]);
    expect(await measure({ open, remove: () => Promise.reject(systemError('ENOENT')) })).toBe('buffered');
    await expect(measure({ open, remove: () => Promise.reject(systemError('EIO')) })).rejects.toMatchObject({ code: 'EIO' });
  });

  test('is decided by the median: a few outliers say nothing', () => {
    const usual = Array.from({ length: 10 }, () => 1);
    const outliers = [50, 50, 50];
    expect(chooseLogWay({ bufferedMs: [...outliers, ...usual], directMs: usual })).toBe('buffered');
    expect(chooseLogWay({ bufferedMs: usual.map(() => 2), directMs: [...outliers, ...usual] })).toBe('direct');
    expect(chooseLogWay({ bufferedMs: [9, 9, 9, 9, 9], directMs: [1, 1, 1, 1, 1] })).toBe('buffered');
  });
});

/** On a disk whose syncs by themselves take many times as long as direct writes. */
async function createdWith(logIo: 'auto' | 'buffered'): Promise<{ machine: SimMachine; names: string[] }> {
  const machine = new SimMachine(smallSettings({ logIo }));
  machine.fault = ({ kind, path }) => (kind === 'sync' && path.endsWith('.measured') ? { kind: 'slow', delayMs: 1 } : null);
  await machine.run(() => machine.create('/v', { durability: 'strict' }));
  return { machine, names: machine.names('/v') };
}

describe('a new volume', () => {
  test('keeps what was measured, and is written that way with `auto`, but not with other settings', async () => {
    const { machine, names } = await createdWith('auto');
    expect(names).toEqual(['checkpoints', 'chunks', 'log', 'manifest']);
    await machine.run(async () => {
      for (const [logIo, durability, way] of [['auto', 'strict', 'direct'], ['buffered', 'strict', 'buffered'], ['auto', 'batched', 'buffered']] as const) {
        const volume = await machine.open('/v', smallSettings({ logIo }));
        await volume.setDurability(durability);
        expect(volume.status().logWay, `${logIo}, ${durability}`).toBe(way);
        await volume.close();
      }
    });
  });

  test('that was not measured is buffered with `auto`', async () => {
    const { machine } = await createdWith('buffered');
    expect(machine.calls.filter(({ path }) => path.endsWith('.measured'))).toEqual([]);
    await machine.run(async () => {
      const volume = await machine.open('/v', smallSettings({ logIo: 'auto' }));
      expect(volume.status().logWay).toBe('buffered');
      await volume.close();
    });
  });

  test('is not made when the file of the measurement stays', async () => {
    const machine = new SimMachine(smallSettings({ logIo: 'auto' }));
    machine.fault = ({ kind, path }) => (kind === 'remove' && path.endsWith('.measured') ? { kind: 'error', code: 'EIO' } : null);
    await expect(machine.run(() => machine.create('/v'))).rejects.toMatchObject({ code: 'io-error' });
    expect(machine.names('/')).toEqual([]);
  });
});
