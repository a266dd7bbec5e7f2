import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type SystemFolders, readDeviceFacts } from '../../src/cli/device-facts.ts';

let root: string;
let folders: SystemFolders;

beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'basalt-facts-')));
  folders = { proc: join(root, 'proc'), sys: join(root, 'sys') };
  await mkdir(join(root, 'with space/volumes'), { recursive: true });
});
afterEach(() => rm(root, { recursive: true }));

async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), `${text}\n`);
}

const mounts = (...lines: string[]): Promise<void> => put('proc/self/mountinfo', lines.join('\n'));

/** A card of one partition, as Linux shows it. */
async function insertCard(startSectors: number): Promise<void> {
  const disk = 'sys/devices/platform/mmc0/block/mmcblk0';
  await put(`${disk}/queue/physical_block_size`, '512');
  await put(`${disk}/device/preferred_erase_size`, '4194304');
  await put(`${disk}/mmcblk0p1/partition`, '1');
  await put(`${disk}/mmcblk0p1/start`, String(startSectors));
  await mkdir(join(root, 'sys/dev/block'), { recursive: true });
  await symlink(join(root, disk, 'mmcblk0p1'), join(root, 'sys/dev/block/179:1'));
}

describe('what is known of the disk below a directory', () => {
  test('is that of the partition and of its card', async () => {
    await insertCard(8192);
    await mounts('22 1 254:0 / / rw,relatime - ext4 /dev/root rw', `30 22 179:1 / ${root.replaceAll(' ', '\\040')}/with\\040space rw,noatime - ext4 /dev/mmcblk0p1 rw`);
    expect(await readDeviceFacts(join(root, 'with space/volumes'), folders)).toEqual({
      fileSystem: 'ext4',
      mountPoint: join(root, 'with space'),
      isReadOnly: false,
      disk: 'mmcblk0',
      isCard: true,
      sectorBytes: 512,
      eraseBlockBytes: 4_194_304,
      partitionOffsetBytes: 4_194_304,
    });
  });

  test('is that of the mount that hides an earlier one, and not of a folder whose name only begins alike', async () => {
    await mounts('22 1 0:1 / / rw - ext4 /dev/a rw', `23 22 0:2 / ${root}/with rw - xfs /dev/b rw`, `24 22 0:3 / ${root} rw - btrfs /dev/c rw`, `25 22 0:4 / ${root} rw - tmpfs tmpfs ro,size=1k`);
    expect(await readDeviceFacts(join(root, 'with space'), folders)).toMatchObject({ fileSystem: 'tmpfs', isReadOnly: true, disk: null, isCard: false, partitionOffsetBytes: 0 });
  });

  test('is nothing where the system does not say, or says something else', async () => {
    expect(await readDeviceFacts(root, folders)).toBeNull();
    await put('proc/self/mountinfo', 'no such line\n- -\n\n1 2 3');
    expect(await readDeviceFacts(root, folders)).toBeNull();
  });

  test('of a directory that is not there is an error', async () => {
    await mounts('22 1 0:1 / / rw - ext4 /dev/a rw');
    await expect(readDeviceFacts(join(root, 'none'), folders)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
