import { describe, expect, test } from 'vitest';
import type { SimDisk } from '../sim/disk.ts';
import { SeededRandom } from '../sim/random.ts';
import { CrashStates } from './crash-states.ts';
import type { FileChange } from './file-trace.ts';

/** The place of the first life's end. */
const DEATH = 10;

const A = { kind: 'create', path: '/a', began: 1, ended: 1 } as const;
const FIRST_BYTES = { kind: 'write', path: '/a', offsetBytes: 0, bytes: Buffer.from('abcd'), synced: false, began: 2, ended: 2 } as const;
/** In the second life. */
const LATER = { kind: 'create', path: '/later', began: 11, ended: 12 } as const;

/** Calls in which the first process died. */
const CUT_OFF = { began: 3, ended: DEATH } as const;
const CREATION = { ...CUT_OFF, kind: 'create', path: '/b' } as const;
const DIRECTORY = { ...CUT_OFF, kind: 'make-directory', path: '/b' } as const;
const RENAME = { ...CUT_OFF, kind: 'rename', path: '/a', target: '/b' } as const;
const REMOVAL = { ...CUT_OFF, kind: 'remove', path: '/a' } as const;
const WRITE = { ...CUT_OFF, kind: 'write', path: '/a', offsetBytes: 0, bytes: Buffer.alloc(512, 'W'), synced: true } as const;

/** A disk in one line: names of files with their bytes, names of directories. */
function describeDisk(disk: SimDisk): string {
  return [...disk.findDirectory('/').entries].map(([name, node]) => (node.kind === 'file' ? `${name}=${disk.findFile(`/${name}`).sizeBytes}` : `${name}/`)).sort().join(' ');
}

/** All that a crash of the process at some point before, or behind, the first life's end leaves. */
function leftBy(changes: readonly FileChange[], when: 'before' | 'behind'): string[] {
  const states = new CrashStates(changes, 'none');
  const found = new Set<string>();
  for (let point = 0; point < states.points; point += 1) {
    const place = states.placeOf(point);
    if (when === 'behind' ? place < DEATH : place > DEATH || place < CUT_OFF.began) continue;
    for (let seed = 0; seed < 100; seed += 1) found.add(describeDisk(states.after(point, 'process', new SeededRandom(seed))));
  }
  return [...found].sort();
}

/** A state of the first life's end, and how the second life leaves it. */
function withLater(state: string): string[] {
  return [state, `${state} later=0`.trim()].sort();
}

describe('a call in which the process died', () => {
  test.each([
    { name: 'a creation', change: CREATION, before: 'a=4', after: 'a=4 b=0' },
    { name: 'a directory', change: DIRECTORY, before: 'a=4', after: 'a=4 b/' },
    { name: 'a rename', change: RENAME, before: 'a=4', after: 'b=4' },
    { name: 'a removal', change: REMOVAL, before: 'a=4', after: '' },
    { name: 'a write', change: WRITE, before: 'a=4', after: 'a=512' },
  ])('may have been carried out until its life ends, and then was or was not: $name', ({ change, before, after }) => {
    const unsettled = [before, after].sort();
    const happened = [A, FIRST_BYTES, { ...change, settled: change }, LATER];
    expect(leftBy(happened, 'before')).toEqual(unsettled);
    expect(leftBy(happened, 'behind')).toEqual(withLater(after));
    const forgotten = [A, FIRST_BYTES, { ...change, settled: null }, LATER];
    expect(leftBy(forgotten, 'before')).toEqual(unsettled);
    expect(leftBy(forgotten, 'behind')).toEqual(withLater(before));
  });

  test('was carried out in part, if it is a write of which the file has a part', () => {
    const write = { ...WRITE, bytes: Buffer.alloc(1536, 'W') };
    const changes = [A, FIRST_BYTES, { ...write, settled: { ...write, bytes: write.bytes.subarray(0, 700) } }, LATER];
    expect(leftBy(changes, 'before')).toEqual(['a=1024', 'a=1536', 'a=4', 'a=512']);
    expect(leftBy(changes, 'behind')).toEqual(withLater('a=700'));
  });

  test('is not durable, even if it is a write with O_DSYNC', () => {
    const states = new CrashStates([A, { kind: 'sync', path: '/', began: 2, ended: 2 }, { ...WRITE, settled: WRITE }], 'none');
    expect(describeDisk(states.after(states.points - 1, 'nothing-kept', new SeededRandom(1)))).toBe('a=0');
    expect(describeDisk(states.atTheEnd())).toBe('a=512');
  });

  test('is met by the next life as it was left: it can be removed, and a removed file can be made again', () => {
    const removed = { kind: 'remove', path: '/b', began: 11, ended: 11 } as const;
    expect(describeDisk(new CrashStates([A, { ...CREATION, settled: CREATION }, removed], 'none').atTheEnd())).toBe('a=0');
    const again = { ...A, began: 11, ended: 11 };
    expect(describeDisk(new CrashStates([A, { ...REMOVAL, settled: REMOVAL }, again], 'none').atTheEnd())).toBe('a=0');
  });

  test('may be one that failed for what was there', () => {
    const made = { kind: 'make-directory', path: '/b', began: 2, ended: 2 } as const;
    for (const settled of [DIRECTORY, null]) expect(leftBy([made, { ...DIRECTORY, settled }], 'before')).toEqual(['b/']);
    expect(describeDisk(new CrashStates([made, { ...DIRECTORY, settled: DIRECTORY }], 'none').atTheEnd())).toBe('b/');
    expect(describeDisk(new CrashStates([{ ...REMOVAL, settled: REMOVAL }], 'none').atTheEnd())).toBe('');
    expect(describeDisk(new CrashStates([{ ...RENAME, settled: RENAME }], 'none').atTheEnd())).toBe('');
  });

  test('is refused while nobody has looked what became of it', () => {
    expect(() => new CrashStates([A, { ...REMOVAL, ended: Infinity }], 'none')).toThrow('its life is not settled');
  });
});

test('a call that returned may not be one that must have failed', () => {
  const made = { kind: 'make-directory', path: '/b', began: 2, ended: 2 } as const;
  expect(() => new CrashStates([made, { ...made, began: 3, ended: 3 }], 'none').atTheEnd()).toThrow('EEXIST');
  expect(() => new CrashStates([{ ...REMOVAL, ended: 4 }], 'none').atTheEnd()).toThrow('ENOENT');
});
