/** What Linux says of the disk below a directory: `/proc/self/mountinfo`, and `/sys/class/block`. */
import { readFile, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { systemCode } from '../base/errors.ts';

export interface DeviceFacts {
  /** Such as `ext4`. */
  readonly fileSystem: string;
  readonly mountPoint: string;
  readonly isReadOnly: boolean;
  /** Of the whole disk, such as `mmcblk0`; null where the file system has none that is known here (a network, memory, an overlay). */
  readonly disk: string | null;
  /** An SD card or eMMC. */
  readonly isCard: boolean;
  /** What the disk writes at once, at least. */
  readonly sectorBytes: number | null;
  /** What a card erases at once. */
  readonly eraseBlockBytes: number | null;
  /** Where the partition begins on the disk; 0 for a whole disk. */
  readonly partitionOffsetBytes: number;
}

/** File systems whose files are not on a disk of this machine. */
export const FAR_FILE_SYSTEMS: ReadonlySet<string> = new Set(['nfs', 'nfs4', 'cifs', 'smb3', '9p', 'fuse.sshfs', 'ceph', 'virtiofs']);
/** What is there is gone with the next restart of the machine. */
export const MEMORY_FILE_SYSTEMS: ReadonlySet<string> = new Set(['tmpfs', 'ramfs']);

/** Where to look; tests have their own. */
export interface SystemFolders {
  readonly proc: string;
  readonly sys: string;
}

export const LINUX: SystemFolders = { proc: '/proc', sys: '/sys' };
const SECTOR_BYTES = 512;

interface Mount {
  readonly device: string;
  readonly mountPoint: string;
  readonly isReadOnly: boolean;
  readonly fileSystem: string;
  readonly source: string;
}

/** Of proc_pid_mountinfo(5): `36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/root rw`; spaces are `\040`. */
function parseMount(line: string): Mount[] {
  const [left = '', right = ''] = line.split(' - ');
  const [, , device, , mountPoint, options] = left.split(' ');
  const [fileSystem, source, superOptions] = right.split(' ');
  if (device === undefined || mountPoint === undefined || options === undefined || fileSystem === undefined || source === undefined) return [];
  const isReadOnly = [options, superOptions ?? ''].some((words) => words.split(',').includes('ro'));
  return [{ device, mountPoint: plain(mountPoint), isReadOnly, fileSystem, source: plain(source) }];
}

function plain(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCodePoint(Number.parseInt(digits, 8)));
}

/** The text of a file of the kernel; null if there is none. */
async function readIfThere(path: string): Promise<string | null> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES', 'EINVAL', 'EIO'].includes(systemCode(error) ?? '')) return null;
    throw error;
  }
}

async function readNumber(path: string): Promise<number | null> {
  const text = await readIfThere(path);
  return text !== null && /^\d+$/.test(text) ? Number(text) : null;
}

async function realPathIfThere(path: string): Promise<string | null> {
  try {
    return await realpath(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw error;
  }
}

async function mountOf(directory: string, { proc }: SystemFolders): Promise<Mount | null> {
  const text = await readIfThere(join(proc, 'self/mountinfo'));
  const path = await realpath(directory);
  let found: Mount | null = null;
  for (const mount of (text ?? '').split('\n').flatMap(parseMount)) {
    const { mountPoint } = mount;
    const isAbove = path === mountPoint || path.startsWith(mountPoint.endsWith('/') ? mountPoint : `${mountPoint}/`);
    // The last one of several at one point hides the others.
    if (isAbove && mountPoint.length >= (found?.mountPoint.length ?? 0)) found = mount;
  }
  return found;
}

/** The folder of the disk or partition in `/sys`: by its number, or else by the name of its file (btrfs has numbers of its own). */
async function blockFolder({ device, source }: Mount, { sys }: SystemFolders): Promise<string | null> {
  const byNumber = await realPathIfThere(join(sys, 'dev/block', device));
  if (byNumber !== null) return byNumber;
  const file = source.startsWith('/dev/') ? await realPathIfThere(source) : null;
  return file === null ? null : realPathIfThere(join(sys, 'class/block', basename(file)));
}

/** Null where the system does not say (it is no Linux, or hides it). Errors: system codes, if the directory cannot be looked at. */
export async function readDeviceFacts(directory: string, folders: SystemFolders = LINUX): Promise<DeviceFacts | null> {
  const mount = await mountOf(directory, folders);
  if (mount === null) return null;
  const { fileSystem, mountPoint, isReadOnly } = mount;
  const part = await blockFolder(mount, folders);
  if (part === null) return { fileSystem, mountPoint, isReadOnly, disk: null, isCard: false, sectorBytes: null, eraseBlockBytes: null, partitionOffsetBytes: 0 };
  const isPartition = (await readIfThere(join(part, 'partition'))) !== null;
  const disk = isPartition ? dirname(part) : part;
  return {
    fileSystem,
    mountPoint,
    isReadOnly,
    disk: basename(disk),
    isCard: basename(disk).startsWith('mmcblk'),
    sectorBytes: await readNumber(join(disk, 'queue/physical_block_size')),
    eraseBlockBytes: await readNumber(join(disk, 'device/preferred_erase_size')),
    partitionOffsetBytes: isPartition ? ((await readNumber(join(part, 'start'))) ?? 0) * SECTOR_BYTES : 0,
  };
}
