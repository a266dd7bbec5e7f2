import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NodeFileSystem } from '../../src/env/node-files.ts';
import { Scratch } from '../support/engine-harness.ts';

const files = new NodeFileSystem();
let scratch: Scratch;
beforeEach(() => {
  scratch = new Scratch();
});
afterEach(() => scratch.remove());

describe('a file', () => {
  test.each(['write', 'writeNow'] as const)('takes more parts than one call of the kernel does, in order, by %s', async (how) => {
    const file = await files.open(`${scratch.path}/f`, 'create');
    const parts = Array.from({ length: 3000 }, (_, index) => Uint8Array.of(index % 251, index % 7));
    await file[how](parts, 5);
    const target = Buffer.alloc(6010);
    expect(await file.read(target, 0)).toBe(6005);
    expect(target.subarray(5, 6005).equals(Buffer.concat(parts))).toBe(true);
    expect(await file.sizeBytes()).toBe(6005);
    await file.close();
  });

  test('reads up to its end and says how much that was', async () => {
    const file = await files.open(`${scratch.path}/f`, 'create');
    await file.write([Uint8Array.of(1, 2, 3)], 0);
    const target = new Uint8Array(8);
    expect(await file.read(target, 1)).toBe(2);
    expect([...target]).toEqual([2, 3, 0, 0, 0, 0, 0, 0]);
    expect(await file.read(target, 3)).toBe(0);
    await file.sync();
    file.syncNow();
    await file.close();
  });

  test('is made once only, and written only where it was opened for that', async () => {
    const path = `${scratch.path}/f`;
    await (await files.open(path, 'create')).close();
    await expect(files.open(path, 'create')).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(files.open(`${scratch.path}/g`, 'write')).rejects.toMatchObject({ code: 'ENOENT' });
    const reading = await files.open(path, 'read');
    expect(() => reading.writeNow([Uint8Array.of(1)], 0)).toThrow(/EBADF/);
    await expect(reading.write([Uint8Array.of(1)], 0)).rejects.toMatchObject({ code: 'EBADF' });
    await reading.close();
  });
});

describe('a lock', () => {
  test('is held by one, and free when it was released', async () => {
    const path = `${scratch.path}/lock`;
    const first = await files.lock(path);
    expect(first).not.toBeNull();
    expect(await files.lock(path)).toBeNull();
    await first?.release();
    const second = await files.lock(path);
    expect(second).not.toBeNull();
    await second?.release();
  });
});

test('a directory is listed in order, measured, renamed and removed', async () => {
  const path = `${scratch.path}/d`;
  await files.makeDirectory(path);
  for (const name of ['b', 'a']) {
    const file = await files.open(`${path}/${name}`, 'create');
    await file.write([new Uint8Array(8192).fill(1)], 0);
    await file.sync();
    await file.close();
  }
  await files.syncDirectory(path);
  expect(await files.list(path)).toEqual(['a', 'b']);
  expect(await files.usedBytes(scratch.path)).toBeGreaterThanOrEqual(16384);
  await files.rename(`${path}/a`, `${path}/b`);
  expect(await files.list(path)).toEqual(['b']);
  expect([await files.exists(`${path}/b`), await files.exists(`${path}/b/c`), await files.exists(`${path}/z`)]).toEqual([true, false, false]);
  await files.removeTree(path);
  await expect(files.list(path)).rejects.toMatchObject({ code: 'ENOENT' });
});
