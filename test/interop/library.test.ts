import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createVolume, DURABILITY_MODES, openVolume, VolumeError } from '../../src/index.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';

const MIB = 1024 * 1024;
let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'basalt-library-'));
  path = join(folder, 'volume');
});
afterEach(() => rm(folder, { recursive: true }));

/** The code of the error that a call ends with. */
async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof VolumeError) return error.code;
    throw error;
  }
  return 'no error';
}

describe('the library', () => {
  test.each(DURABILITY_MODES)('keeps what was written in mode %s over a close', async (durability) => {
    await createVolume(path, { size: '64M', durability });
    const data = randomBytes(3 * MIB + 77);
    const volume = await openVolume(path);
    expect(volume).toMatchObject({ name: 'volume', sizeBytes: 64 * MIB, blockSizeBytes: 4096, durability });
    await volume.write(12_345, data);
    await volume.zero(20_000, 5000, { provisioned: true });
    await volume.trim(40_960, 8192, { fua: true });
    await volume.flush();
    await volume.close();
    const expected = Buffer.concat([Buffer.alloc(12_345), data, Buffer.alloc(1000)]);
    expected.fill(0, 20_000, 25_000);
    expected.fill(0, 40_960, 49_152);
    const again = await openVolume(path);
    expect(expected.equals(await again.read(0, expected.length))).toBe(true);
    const target = new Uint8Array(10);
    await again.readInto(12_345, target);
    expect(Buffer.from(target)).toEqual(data.subarray(0, 10));
    await again.close();
  });

  test('counts what it does', async () => {
    await createVolume(path, { size: 16 * MIB, blockSizeBytes: 16_384 });
    const volume = await openVolume(path, { settings: { flushIntervalMs: 20 } });
    await volume.write(0, randomBytes(16_384), { fua: true });
    expect(volume.stats()).toMatchObject({ writtenBytes: 16_384 });
    expect(volume.stats().logSyncs).toBeGreaterThan(0);
    await volume.close();
  });

  test('takes empty requests, and refuses those beyond the volume', async () => {
    await createVolume(path, { size: MIB });
    const volume = await openVolume(path);
    await volume.write(MIB, new Uint8Array(0));
    expect(await volume.read(MIB, 0)).toHaveLength(0);
    expect(await codeOf(volume.read(MIB - 1, 2))).toBe('out-of-range');
    expect(await codeOf(volume.write(-1, new Uint8Array(1)))).toBe('out-of-range');
    expect(await codeOf(volume.zero(0.5, 1))).toBe('out-of-range');
    expect(await codeOf(volume.trim(0, 2 ** 53))).toBe('out-of-range');
    await volume.close();
    expect(await codeOf(volume.read(0, 1))).toBe('closed');
    expect(await codeOf(volume.write(0, new Uint8Array(1)))).toBe('closed');
  });

  test('says what is wrong before anything is made', async () => {
    expect(await codeOf(createVolume(path, { size: '1X' }))).toBe('invalid-argument');
    expect(await codeOf(createVolume(path, { size: 4097 }))).toBe('invalid-argument');
    expect(await codeOf(createVolume(path, { size: MIB, settings: { dirtyBytes: 1024 * MIB } }))).toBe('invalid-argument');
    expect(await codeOf(createVolume(join(folder, 'none', 'volume'), { size: MIB }))).toBe('not-found');
    expect(await codeOf(openVolume(path))).toBe('not-found');
    await createVolume(path, { size: MIB });
    expect(await codeOf(createVolume(path, { size: MIB }))).toBe('already-exists');
  });

  test('opens a volume once at a time', async () => {
    await createVolume(path, { size: MIB });
    const volume = await openVolume(path);
    expect(await codeOf(openVolume(path))).toBe('in-use');
    await volume.close();
    await (await openVolume(path)).close();
  });

  test('is what the package exports, and lets the process end', async () => {
    const script = `
      import { createVolume, openVolume } from 'basalt';
      await createVolume(process.argv[1], { size: '1G' });
      const volume = await openVolume(process.argv[1]);
      await volume.write(4096, new TextEncoder().encode('hello'));
      await volume.flush();
      console.log(new TextDecoder().decode(await volume.read(4096, 5)));
      await volume.close();
    `;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script, path], { cwd: PROJECT_ROOT, timeout: 20_000 });
    expect(stdout).toBe('hello\n');
  });
});
