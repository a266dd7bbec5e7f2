import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, readFileSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import { NodeFileSystem } from '../../src/env/node-files.ts';
import { Scratch } from '../support/engine-harness.ts';
import { hasMappings } from '../support/mappings.ts';

const files = new NodeFileSystem();
let scratch: Scratch;
let path: string;
beforeEach(() => {
  scratch = new Scratch();
  path = `${scratch.path}/f`;
});
afterEach(() => scratch.remove());

function truncate(lengthBytes: number): void {
  const descriptor = openSync(path, 'r+');
  ftruncateSync(descriptor, lengthBytes);
  closeSync(descriptor);
}

describe.runIf(hasMappings())('a mapping', () => {
  test('is the file: copies and plain writes meet in it, whatever memory they come from', async () => {
    writeFileSync(path, Buffer.alloc(64 * KIB, 1));
    const file = await files.open(path, 'write');
    const mapping = await files.map(path, 64 * KIB);
    // As the arena's memory is.
    const slab = new Uint8Array(new SharedArrayBuffer(8 * KIB, { maxByteLength: 8 * KIB })).subarray(7, 4107).fill(2);
    mapping.copyNow([slab, new Uint8Array(0), Buffer.from('on the heap'), Uint8Array.of(4)], 4000);
    file.writeNow([Buffer.from('plain')], 8105);
    mapping.copyNow([Uint8Array.of(5)], 64 * KIB - 1);
    const expected = Buffer.alloc(64 * KIB, 1);
    expected.fill(2, 4000, 8100);
    expected.write('on the heap', 8100);
    expected[8111] = 4;
    expected.write('plain', 8105);
    expected[64 * KIB - 1] = 5;
    expect(readFileSync(path).equals(expected)).toBe(true);
    const target = Buffer.alloc(64 * KIB);
    await file.read(target, 0);
    expect(target.equals(expected)).toBe(true);
    await file.sync();
    await mapping.close();
    await file.close();
  });

  test('grows with its file, and answers EFAULT behind its end, where a touch would end the process', async () => {
    writeFileSync(path, Buffer.alloc(8 * KIB, 1));
    const mapping = await files.map(path, MIB);
    const file = await files.open(path, 'write');
    const copy = (offsetBytes: number, lengthBytes: number): void => mapping.copyNow([Buffer.alloc(lengthBytes, 3)], offsetBytes);
    for (const [offsetBytes, lengthBytes] of [[8 * KIB, 1], [4 * KIB, 5 * KIB], [MIB - 1, 1]]) {
      expect(() => copy(offsetBytes, lengthBytes), `${lengthBytes} at ${offsetBytes}`).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    }
    expect(await file.sizeBytes()).toBe(8 * KIB);
    await file.write([Buffer.alloc(MIB - 8 * KIB)], 8 * KIB);
    copy(8 * KIB, MIB - 8 * KIB);
    expect(readFileSync(path).subarray(8 * KIB).every((byte) => byte === 3)).toBe(true);
    truncate(4 * KIB);
    expect(() => copy(4 * KIB, 1)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    copy(0, 4 * KIB);
    await mapping.close();
    await file.close();
  });

  test('takes no copy beyond itself, and none when it is closed', async () => {
    writeFileSync(path, Buffer.alloc(16 * KIB));
    const mapping = await files.map(path, 8 * KIB);
    for (const offsetBytes of [8 * KIB, -1, 0.5]) expect(() => mapping.copyNow([Uint8Array.of(1)], offsetBytes), `at ${offsetBytes}`).toThrow(/beyond its mapping/);
    expect(() => mapping.copyNow([new Uint8Array(KIB), new Uint8Array(KIB)], 7 * KIB)).toThrow(/beyond its mapping/);
    await mapping.close();
    await mapping.close();
    expect(() => mapping.copyNow([Uint8Array.of(1)], 0)).toThrow(/a mapping that is gone/);
    expect(readFileSync(path).every((byte) => byte === 0)).toBe(true);
  });

  test('fails with the code of the kernel where there is nothing to map', async () => {
    await expect(files.map(path, 4 * KIB)).rejects.toMatchObject({ code: 'ENOENT' });
    writeFileSync(path, '');
    await expect(files.map(path, 0)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(files.map('/proc/self/mem', 4 * KIB)).rejects.toMatchObject({ code: 'ENODEV' });
  });

  test('leaves no descriptor and no memory behind', async () => {
    writeFileSync(path, Buffer.alloc(4 * KIB));
    const held = (): string[] => [readlinks(), readFileSync('/proc/self/maps', 'utf8')].flatMap((text) => text.split('\n').filter((line) => line.endsWith(path)));
    const mapping = await files.map(path, 4 * KIB);
    expect(held().length).toBe(1);
    await mapping.close();
    expect(held()).toEqual([]);
  });

  test('has kept what was copied when its process is killed', () => {
    writeFileSync(path, Buffer.alloc(16 * KIB, 1));
    const script = `const koffi = require('koffi'), fs = require('fs');
      const calls = koffi.load(null);
      const fd = fs.openSync(process.argv[1], 'r+');
      const address = calls.func('mmap', 'intptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'long'])(0, 16384, 3, 1, fd, 0);
      calls.func('memcpy', 'uintptr_t', ['uintptr_t', 'const void *', 'size_t'])(address + 5000, Buffer.from('killed'), 6);
      process.kill(process.pid, 'SIGKILL');`;
    const { signal } = spawnSync(process.execPath, ['-e', script, path], { cwd: fileURLToPath(new URL('../..', import.meta.url)) });
    expect([signal, readFileSync(path).toString('latin1', 5000, 5006)]).toEqual(['SIGKILL', 'killed']);
  });
});

/** What the open descriptors of this process are, a line each. */
function readlinks(): string {
  return readdirSync('/proc/self/fd').flatMap((name) => {
    try {
      return [readlinkSync(`/proc/self/fd/${name}`)];
    } catch {
      return []; // the one that read the directory
    }
  }).join('\n');
}
