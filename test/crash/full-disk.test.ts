import { mkdtemp, rm, statfs, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemCode } from '../../src/base/errors.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { NodeFileSystem } from '../../src/env/node-files.ts';
import { hasMappings } from '../support/mappings.ts';
import { FullDisk } from './full-disk.ts';
import { mountSmallDisk, type SmallDisk, type SmallDiskKind } from './small-disk.ts';

const ENOSPC = 28;
/**
 * The disk; what of it is left to the volume at first (the rest is ballast, removed later to make room); and the volume, which is larger
 * than the disk.
 */
const SIZES = {
  /** The log has its full length (32 MiB) long before the disk is full: a chunk finds no room. */
  chunk: { diskBytes: 112 * MIB, roomBytes: 72 * MIB, volumeBytes: 144 * MIB },
  /** The log itself cannot grow. */
  log: { diskBytes: 48 * MIB, roomBytes: 16 * MIB, volumeBytes: 64 * MIB },
} as const;
type Casualty = keyof typeof SIZES;

const CASES: readonly (readonly [SmallDiskKind, Casualty])[] = [
  ['tmpfs', 'chunk'],
  ['tmpfs', 'log'],
  ['ext4', 'chunk'],
  ['ext4', 'log'],
];

let directory: string;
let disk: SmallDisk | null = null;
let volume: FullDisk | null = null;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'basalt-full-'));
});

afterEach(async () => {
  await volume?.kill();
  volume = null;
  await disk?.unmount();
  disk = null;
  await rm(directory, { recursive: true });
});

function volumeOn(path: string, casualty: Casualty): FullDisk {
  volume = new FullDisk({ path, socketPath: join(directory, 'nbd.sock'), entry: resolve('dist/cli/basalt.cjs'), sizeBytes: SIZES[casualty].volumeBytes, mode: 'batched' });
  return volume;
}

test.for(CASES)('a %s too full for a %s: ENOSPC to the client, what is acknowledged stays, writes go on when there is room', { timeout: 120_000 }, async ([kind, casualty], { skip }) => {
  const mounted = await mountSmallDisk(kind, directory, SIZES[casualty].diskBytes);
  if (typeof mounted === 'string') return skip(mounted);
  disk = mounted;
  const full = volumeOn(mounted.path, casualty);
  await full.create(SIZES[casualty].roomBytes);
  let client = await full.serve();

  const refused = await full.fill(client);
  expect(refused.errno).toBe(ENOSPC);
  expect(refused.offsetBytes > 32 * MIB).toBe(casualty === 'chunk');
  expect(await full.problems(client)).toEqual([]);

  await full.makeRoom();
  await full.writeOn(client, refused.offsetBytes, 17);
  await client.flush();
  expect(await full.problems(client)).toEqual([]);

  await client.close();
  expect(await full.stop()).toBe(0);
  client = await full.serve();
  expect(await full.problems(client)).toEqual([]);
  await client.close();
});

test.for(CASES)('killed while its %s is too full for a %s, a volume comes back whole when there is room', { timeout: 120_000 }, async ([kind, casualty], { skip }) => {
  const mounted = await mountSmallDisk(kind, directory, SIZES[casualty].diskBytes);
  if (typeof mounted === 'string') return skip(mounted);
  disk = mounted;
  const full = volumeOn(mounted.path, casualty);
  await full.create(SIZES[casualty].roomBytes);
  let client = await full.serve();
  expect((await full.fill(client)).errno).toBe(ENOSPC);
  await full.kill();
  await client.cut();

  await full.makeRoom();
  client = await full.serve();
  expect(await full.problems(client)).toEqual([]);
  await full.writeOn(client, 0, 1);
  await client.close();
  expect(await full.stop()).toBe(0);
});

test.for(['tmpfs', 'ext4'] as const)('a copy over a hole, through a mapping of a file on a full %s, is an error and not the end of the process', async (kind, { skip }) => {
  if (!hasMappings()) return skip('koffi is not installed');
  const mounted = await mountSmallDisk(kind, directory, 32 * MIB);
  if (typeof mounted === 'string') return skip(mounted);
  disk = mounted;
  const path = join(mounted.path, 'sparse');
  await writeFile(path, Buffer.alloc(64 * KIB, 1));
  await truncate(path, 16 * MIB);
  const { bavail, bsize } = await statfs(mounted.path);
  await writeFile(join(mounted.path, 'ballast'), Buffer.alloc(bavail * bsize - MIB));
  const mapping = await new NodeFileSystem().map(path, 16 * MIB);
  const part = Buffer.alloc(64 * KIB, 2);
  mapping.copyNow([part], 0);
  const refusals: (string | undefined)[] = [];
  for (let offsetBytes = 64 * KIB; offsetBytes < 16 * MIB; offsetBytes += part.length) {
    try {
      mapping.copyNow([part], offsetBytes);
    } catch (error) {
      refusals.push(systemCode(error));
    }
  }
  expect(refusals.length).toBeGreaterThan(200);
  expect(new Set(refusals)).toEqual(new Set(['EFAULT']));
  await mapping.close();
});
