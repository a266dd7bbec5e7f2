import { describe, expect, test } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import type { File, FileSystem, OpenMode } from '../../src/env/env.ts';
import { MEASURED_BYTES_MAX, measureDisk, type DiskMeasurement } from '../../src/volume/measure-disk.ts';
import type { Progress } from '../../src/volume/volume-info.ts';
import { ManualClock, systemError } from '../support/fake-world.ts';

interface Speeds {
  readonly bytesPerMs: number;
  readonly syncMs: number;
  /** Of a direct write, when it begins at a multiple of 64 KiB, and elsewhere. */
  readonly alignedMs?: number;
  readonly shiftedMs?: number;
  /** Every so many syncs another one takes a second: somebody else's work. */
  readonly disturbedEach?: number;
}

/** A disk that takes its time by the clock of the test. */
class TimedDisk {
  readonly clock = new ManualClock();
  readonly names = new Set<string>();
  /** Names that were there at each write. */
  namesAtWrites = 0;
  readonly open: OpenMode[] = [];
  closes = 0;
  endBytes = 0;
  failing: { readonly call: 'open' | 'direct' | 'write' | 'sync' | 'directWrite'; readonly code: string } | null = null;
  #syncs = 0;
  readonly #speeds: Speeds;

  constructor(speeds: Speeds) {
    this.#speeds = speeds;
  }

  #check(call: string): void {
    if (this.failing?.call === call) throw systemError(this.failing.code);
  }

  readonly files: Pick<FileSystem, 'open' | 'remove'> = {
    open: (path, mode) => {
      if (mode === 'create' && this.failing?.call === 'open') return Promise.reject(systemError(this.failing.code));
      if (mode === 'direct' && this.failing?.call === 'direct') return Promise.reject(systemError(this.failing.code));
      this.names.add(path);
      this.open.push(mode);
      return Promise.resolve(this.#file(mode));
    },
    remove: (path) => {
      this.names.delete(path);
      return Promise.resolve();
    },
  };

  #file(mode: OpenMode): File {
    const { bytesPerMs, syncMs, alignedMs = 1, shiftedMs = 1, disturbedEach = 0 } = this.#speeds;
    return {
      write: async (parts, offsetBytes) => {
        await Promise.resolve();
        this.#check(mode === 'direct' ? 'directWrite' : 'write');
        this.namesAtWrites = Math.max(this.namesAtWrites, this.names.size);
        const bytes = parts.reduce((total, part) => total + part.length, 0);
        this.endBytes = Math.max(this.endBytes, offsetBytes + bytes);
        if (mode === 'direct') this.clock.spend(offsetBytes % (64 * KIB) === 0 ? alignedMs : shiftedMs);
        else this.clock.spend(bytes / bytesPerMs);
      },
      sync: async () => {
        await Promise.resolve();
        this.#check('sync');
        this.#syncs += 1;
        this.clock.spend(disturbedEach > 0 && this.#syncs % disturbedEach === 0 ? 1000 : syncMs);
      },
      close: () => {
        this.closes += 1;
        return Promise.resolve();
      },
      writeNow: unused,
      read: unused,
      syncNow: unused,
      sizeBytes: unused,
    };
  }

  readonly progress: Progress[] = [];

  measure(): Promise<DiskMeasurement> {
    const random = { fill: (target: Uint8Array): void => void target.fill(7) };
    const env = { files: { ...unusedFiles, ...this.files }, clock: this.clock, random };
    return measureDisk({ env, directory: '/volumes', onProgress: (progress) => this.progress.push(progress) });
  }

  expectClean(): void {
    expect([...this.names], 'names left').toEqual([]);
    expect(this.closes, 'files left open').toBe(this.open.length);
  }
}

const unusedFiles: Omit<FileSystem, 'open' | 'remove'> = { map: refuse, list: refuse, makeDirectory: refuse, rename: refuse, removeTree: refuse, syncDirectory: refuse, exists: refuse, usedBytes: refuse, lock: refuse };

function unused(): never {
  throw new Error('not asked for');
}

function refuse(): Promise<never> {
  return Promise.reject(new Error('not asked for'));
}

const CARD: Speeds = { bytesPerMs: 20_000, syncMs: 5 };
const FAST: Speeds = { bytesPerMs: 1_000_000, syncMs: 0.1, alignedMs: 0.2, shiftedMs: 0.4 };

describe('a measurement of a disk', () => {
  test('tells the speed of pieces with their syncs, and of syncs', async () => {
    const disk = new TimedDisk(CARD);
    const { sync, write, bestBytesPerSecond, alignment } = await disk.measure();
    expect(sync.medianMs).toBeCloseTo(5 + 8192 / 20_000, 6);
    expect(write.medianMs).toBeCloseTo(5 + (4 * MIB) / 20_000, 6);
    expect(bestBytesPerSecond).toBeCloseTo((4 * MIB * 1000) / (5 + (4 * MIB) / 20_000), -1);
    expect([alignment?.aligned.medianMs, alignment?.shifted.medianMs]).toEqual([1, 1]);
    disk.expectClean();
  });

  test('has no name in the directory from the first write on, takes no more space than it says, and opens two files', async () => {
    const disk = new TimedDisk(FAST);
    const { writtenBytes } = await disk.measure();
    expect([disk.namesAtWrites, disk.open]).toEqual([0, ['create', 'direct']]);
    expect(disk.endBytes).toBe(MEASURED_BYTES_MAX);
    expect(writtenBytes).toBeLessThan(6 * MEASURED_BYTES_MAX);
    disk.expectClean();
  });

  test('ends in time on a slow disk, and has few rounds on a very slow one', async () => {
    const slow = new TimedDisk(CARD);
    const { elapsedMs } = await slow.measure();
    expect(elapsedMs).toBeLessThan(9000);
    const worst = new TimedDisk({ bytesPerMs: 4 * KIB, syncMs: 200, alignedMs: 100, shiftedMs: 100 });
    const { write, sync } = await worst.measure();
    expect([write.rounds, sync.rounds]).toEqual([4, 12]);
    expect(worst.clock.nowMs()).toBeLessThan(15_000);
  });

  test('believes the best rounds where somebody else uses the disk, and tells the others, too', async () => {
    const disk = new TimedDisk({ ...FAST, disturbedEach: 2 });
    const { sync } = await disk.measure();
    expect(sync.bestMs).toBeLessThan(0.2);
    expect(sync.worstMs).toBeGreaterThan(1000);
  });

  test('sees that shifted writes take longer', async () => {
    const { alignment } = await new TimedDisk(FAST).measure();
    expect([alignment?.aligned.medianMs, alignment?.shifted.medianMs]).toEqual([expect.closeTo(0.2, 6), expect.closeTo(0.4, 6)]);
  });

  test.each(['direct', 'directWrite'] as const)('says nothing of alignment where writes past the page cache are refused (%s)', async (call) => {
    const disk = new TimedDisk(FAST);
    disk.failing = { call, code: 'EINVAL' };
    expect((await disk.measure()).alignment).toBeNull();
    disk.expectClean();
  });

  test.each([
    ['open', 'EACCES', 'io-error'],
    ['direct', 'EMFILE', 'io-error'],
    ['write', 'ENOSPC', 'no-space'],
    ['sync', 'EIO', 'io-error'],
    ['directWrite', 'EIO', 'io-error'],
  ] as const)('that fails at %s with %s leaves nothing behind, and says %s', async (call, code, expected) => {
    const disk = new TimedDisk(FAST);
    disk.failing = { call, code };
    await expect(disk.measure()).rejects.toMatchObject({ code: expected });
    disk.expectClean();
  });

  test('tells how far it is, never beyond the end', async () => {
    const disk = new TimedDisk(CARD);
    await disk.measure();
    expect(new Set(disk.progress.map(({ task }) => task)).size).toBe(3);
    for (const { done, total } of disk.progress) expect(done).toBeLessThanOrEqual(total);
    expect(disk.progress.at(-1)).toMatchObject({ done: 48, total: 48 });
  });
});
