import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SimDisk, SystemError } from '../sim/disk.ts';
import { SECTOR_BYTES, type PowerCutFate } from '../sim/file-node.ts';
import { POWER_CUT_MODES, drawPowerCut } from '../sim/power-cut.ts';
import { SeededRandom } from '../sim/random.ts';

const KEEP_NOTHING: PowerCutFate = { keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false };
const KEEP_EVERYTHING: PowerCutFate = { keepsSector: () => true, tornBytes: () => 0, keepsLength: () => true, keepsName: () => true };

function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

function contentOf(disk: SimDisk, path: string): number[] {
  const node = disk.findFile(path);
  const bytes = new Uint8Array(node.sizeBytes);
  node.read(bytes, 0);
  return [...bytes];
}

/** A disk with a durable, empty file `/f`. */
function diskWithFile(): SimDisk {
  const disk = new SimDisk();
  disk.createFile('/f');
  syncNames(disk, '/');
  return disk;
}

function syncNames(disk: SimDisk, path: string): void {
  disk.makeNamesDurable(disk.findDirectory(path), disk.sequence);
}

describe('a file of the simulated disk', () => {
  test('shows what was written at once and loses it in a power cut before a sync', () => {
    const disk = diskWithFile();
    disk.write(disk.findFile('/f'), filled(3, 7), 1);
    expect(contentOf(disk, '/f')).toEqual([0, 7, 7, 7]);
    disk.cutPower(KEEP_NOTHING);
    expect(contentOf(disk, '/f')).toEqual([]);
  });

  test('keeps in a power cut what was written before the sync began, and only that', () => {
    const disk = diskWithFile();
    const file = disk.findFile('/f');
    disk.write(file, filled(4, 1), 0);
    const syncStart = disk.sequence;
    disk.write(file, filled(2, 2), 1);
    file.makeDurable(syncStart);
    disk.cutPower(KEEP_NOTHING);
    expect(contentOf(disk, '/f')).toEqual([1, 1, 1, 1]);
  });

  test('keeps an unsynced write that the cut lets reach the medium', () => {
    const disk = diskWithFile();
    disk.write(disk.findFile('/f'), filled(4, 1), 0);
    disk.cutPower(KEEP_EVERYTHING);
    expect(contentOf(disk, '/f')).toEqual([1, 1, 1, 1]);
  });

  test('decides for each sector of a write on its own', () => {
    const disk = diskWithFile();
    disk.write(disk.findFile('/f'), filled(3 * SECTOR_BYTES, 9), 0);
    disk.cutPower({ ...KEEP_EVERYTHING, keepsSector: (_sequence, _file, sector) => sector !== 1 });
    const content = contentOf(disk, '/f');
    expect([content[0], content[SECTOR_BYTES], content[2 * SECTOR_BYTES]]).toEqual([9, 0, 9]);
  });

  test('a sector that holds a younger write holds the older ones to it, too', () => {
    const disk = diskWithFile();
    const file = disk.findFile('/f');
    disk.write(file, filled(10, 1), 0);
    const first = disk.sequence;
    disk.write(file, filled(10, 2), 10);
    disk.cutPower({ ...KEEP_EVERYTHING, keepsSector: (sequence) => sequence !== first });
    expect(contentOf(disk, '/f')).toEqual([...filled(10, 1), ...filled(10, 2)]);
  });

  test('tears the first version that did not reach the medium whole', () => {
    const disk = diskWithFile();
    const file = disk.findFile('/f');
    disk.write(file, filled(8, 1), 0);
    disk.write(file, filled(8, 2), 0);
    disk.write(file, filled(8, 3), 0);
    const last = disk.sequence;
    disk.cutPower({ ...KEEP_EVERYTHING, keepsSector: (sequence) => sequence <= last - 2, tornBytes: () => 5 });
    expect(contentOf(disk, '/f')).toEqual([2, 2, 2, 2, 2, 1, 1, 1]);
  });

  test('reads as zeroes where its length was kept and its bytes were lost', () => {
    const disk = diskWithFile();
    disk.write(disk.findFile('/f'), filled(4, 1), 0);
    disk.cutPower({ ...KEEP_NOTHING, keepsLength: () => true });
    expect(contentOf(disk, '/f')).toEqual([0, 0, 0, 0]);
  });

  test('has no bytes beyond a length that was lost', () => {
    const disk = diskWithFile();
    const file = disk.findFile('/f');
    disk.write(file, filled(2, 1), 0);
    file.makeDurable(disk.sequence);
    disk.write(file, filled(4, 2), 0);
    disk.cutPower({ ...KEEP_EVERYTHING, keepsLength: () => false });
    expect(contentOf(disk, '/f')).toEqual([2, 2]);
    disk.write(file, filled(1, 5), 3);
    expect(contentOf(disk, '/f')).toEqual([2, 2, 0, 5]);
  });

  test('takes what there is room for and then fails with ENOSPC; overwriting needs no room', () => {
    const disk = diskWithFile();
    const file = disk.findFile('/f');
    disk.capacityBytes = 5;
    expect(() => disk.write(file, filled(8, 1), 0)).toThrow(SystemError);
    expect(contentOf(disk, '/f')).toEqual([1, 1, 1, 1, 1]);
    disk.write(file, filled(5, 2), 0);
    expect(contentOf(disk, '/f')).toEqual([2, 2, 2, 2, 2]);
  });
});

describe('a name on the simulated disk', () => {
  test('is lost in a power cut before its directory is synced, though the file was', () => {
    const disk = new SimDisk();
    const file = disk.createFile('/f');
    disk.write(file, filled(4, 1), 0);
    file.makeDurable(disk.sequence);
    disk.cutPower(KEEP_NOTHING);
    expect(disk.find('/f')).toBeUndefined();
  });

  test('stays with its durable content when its directory is synced', () => {
    const disk = diskWithFile();
    const file = disk.findFile('/f');
    disk.write(file, filled(2, 1), 0);
    file.makeDurable(disk.sequence);
    disk.cutPower(KEEP_NOTHING);
    expect(contentOf(disk, '/f')).toEqual([1, 1]);
  });

  test('a lost rename leaves both names as they were', () => {
    const disk = diskWithFile();
    const replacement = disk.createFile('/g');
    disk.write(replacement, filled(1, 2), 0);
    replacement.makeDurable(disk.sequence);
    syncNames(disk, '/');
    disk.rename('/g', '/f');
    expect(contentOf(disk, '/f')).toEqual([2]);
    disk.cutPower(KEEP_NOTHING);
    expect(contentOf(disk, '/f')).toEqual([]);
    expect(contentOf(disk, '/g')).toEqual([2]);
  });

  test('a kept rename moves the file though the creation of its first name was lost', () => {
    const disk = new SimDisk();
    disk.createFile('/g');
    const creation = disk.sequence;
    disk.rename('/g', '/f');
    disk.cutPower({ ...KEEP_EVERYTHING, keepsName: (sequence) => sequence !== creation });
    expect(disk.find('/g')).toBeUndefined();
    expect(disk.find('/f')?.kind).toBe('file');
  });

  test('a removed file comes back when its removal is lost', () => {
    const disk = diskWithFile();
    disk.remove('/f');
    expect(disk.find('/f')).toBeUndefined();
    disk.cutPower(KEEP_NOTHING);
    expect(disk.find('/f')?.kind).toBe('file');
  });

  test('a sync of a directory covers only changes made before it began', () => {
    const disk = new SimDisk();
    disk.createFile('/old');
    const start = disk.sequence;
    disk.createFile('/new');
    disk.makeNamesDurable(disk.findDirectory('/'), start);
    disk.cutPower(KEEP_NOTHING);
    expect([disk.find('/old')?.kind, disk.find('/new')]).toEqual(['file', undefined]);
  });

  test('a lost directory takes all below it along', () => {
    const disk = new SimDisk();
    disk.makeDirectory('/d');
    disk.createFile('/d/f');
    syncNames(disk, '/d');
    disk.cutPower(KEEP_NOTHING);
    expect(disk.find('/d')).toBeUndefined();
  });

  test('a removed tree is gone, and comes back whole when nothing of it was synced', () => {
    const disk = new SimDisk();
    disk.makeDirectory('/d');
    disk.makeDirectory('/d/e');
    disk.createFile('/d/e/f');
    for (const path of ['/', '/d', '/d/e']) syncNames(disk, path);
    disk.removeTree('/d');
    expect(disk.find('/d')).toBeUndefined();
    disk.cutPower(KEEP_NOTHING);
    expect(disk.find('/d/e/f')?.kind).toBe('file');
  });

  test.each([
    ['EEXIST', (disk: SimDisk) => disk.createFile('/f')],
    ['ENOENT', (disk: SimDisk) => disk.findFile('/missing')],
    ['ENOENT', (disk: SimDisk) => disk.createFile('/missing/f')],
    ['ENOENT', (disk: SimDisk) => disk.remove('/missing')],
    ['ENOENT', (disk: SimDisk) => disk.rename('/missing', '/f')],
    ['ENOTDIR', (disk: SimDisk) => disk.findDirectory('/f')],
    ['EISDIR', (disk: SimDisk) => disk.findFile('/')],
    ['EINVAL', (disk: SimDisk) => disk.findFile('f')],
  ])('a call that cannot be done fails with %s', (code, call) => {
    expect(() => call(diskWithFile())).toThrow(expect.objectContaining({ code }));
  });
});

describe('a power cut of any mode', () => {
  test('keeps every synced byte, and each other byte is of some version that was written there', () => {
    const write = fc.record({ offset: fc.nat(2000), length: fc.integer({ min: 1, max: 1500 }), sync: fc.boolean() });
    fc.assert(
      fc.property(fc.array(write, { minLength: 1, maxLength: 12 }), fc.constantFrom(...POWER_CUT_MODES), fc.nat(), (writes, mode, seed) => {
        const disk = diskWithFile();
        const file = disk.findFile('/f');
        const durable: number[] = [];
        const possible = new Map<number, Set<number>>();
        for (const [index, { offset, length, sync }] of writes.entries()) {
          disk.write(file, filled(length, index + 1), offset);
          for (let at = offset; at < offset + length; at += 1) {
            const versions = possible.get(at) ?? new Set([0]);
            possible.set(at, versions.add(index + 1));
          }
          if (!sync) continue;
          file.makeDurable(disk.sequence);
          durable.length = 0;
          durable.push(...contentOf(disk, '/f'));
          for (const at of possible.keys()) possible.set(at, new Set([durable[at] ?? 0]));
        }
        disk.cutPower(drawPowerCut(new SeededRandom(seed), disk.unsyncedSequences(), mode));
        const content = contentOf(disk, '/f');
        expect(content.length).toBeGreaterThanOrEqual(durable.length);
        const impossible = [...content.entries()].filter(([at, byte]) => !(possible.get(at) ?? new Set([0])).has(byte));
        expect(impossible).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });
});
