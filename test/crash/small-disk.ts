/** A file system of a few megabytes, to fill up. Needs root. */
import { execFile } from 'node:child_process';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export type SmallDiskKind = 'tmpfs' | 'ext4';

export interface SmallDisk {
  readonly path: string;
  unmount(): Promise<void>;
}

/** Mounts a new file system below `directory`; or says why that cannot be done here. */
export async function mountSmallDisk(kind: SmallDiskKind, directory: string, sizeBytes: number): Promise<SmallDisk | string> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'mounting a small file system takes root on Linux';
  const path = join(directory, kind);
  await mkdir(path);
  try {
    if (kind === 'tmpfs') await run('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'tmpfs', path]);
    else await mountLoop(join(directory, 'disk.img'), path, sizeBytes);
  } catch (error) {
    // A container without the right to mount, or without loop devices.
    return `cannot mount a ${kind}: ${error instanceof Error ? error.message.trim() : String(error)}`;
  }
  return {
    path,
    unmount: async () => {
      await run('umount', [path]);
    },
  };
}

async function mountLoop(image: string, path: string, sizeBytes: number): Promise<void> {
  await writeFile(image, '');
  await truncate(image, sizeBytes);
  // No blocks reserved for root, who runs this test: the disk shall be full for it too.
  await run('mkfs.ext4', ['-q', '-F', '-m', '0', image]);
  await run('mount', ['-o', 'loop', image, path]);
}
