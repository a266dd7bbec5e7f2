/** Files of a repair: the marker that one is under way, and what is kept aside. */
import { VolumeError } from '../base/errors.ts';
import type { File, FileSystem } from '../env/env.ts';
import { writeNewFile } from '../store/new-file.ts';
import { LOG_FOLDER, REPAIR_NAME, logPath, repairPath } from './volume-files.ts';

const KEPT_FOLDER = 'kept-aside';
/** Far more than the longest list of files is. */
const MAX_MARKER_BYTES = 256 * 1024 * 1024;

/** What a repair that is interrupted needs to know when it goes on. */
export interface RepairMarker {
  /** Objects of this epoch and later ones were written by the repair. */
  readonly epoch: number;
  /** Where files are kept, as a path within the volume's directory. */
  readonly folder: string;
  /** Files to keep there once the manifest names the new checkpoint. */
  readonly keep: readonly string[];
}

function isMarker(value: unknown): value is RepairMarker {
  if (typeof value !== 'object' || value === null || !('epoch' in value) || !('folder' in value) || !('keep' in value)) return false;
  const { epoch, folder, keep } = value;
  if (!Number.isSafeInteger(epoch) || typeof folder !== 'string' || !Array.isArray(keep)) return false;
  // Paths from a file are never followed out of the volume's directory.
  return /^kept-aside\/\d+$/u.test(folder) && keep.every((path) => typeof path === 'string' && /^(?:chunks|checkpoints|log)\/[a-z0-9][a-z0-9.-]*$/u.test(path));
}

/** The marker, or null if no repair is under way. Error: `corrupt`. */
export async function readMarker(files: FileSystem, directory: string): Promise<RepairMarker | null> {
  const path = repairPath(directory);
  if (!(await files.exists(path))) return null;
  const file = await files.open(path, 'read');
  try {
    const bytes = new Uint8Array(Math.min(await file.sizeBytes(), MAX_MARKER_BYTES));
    await file.read(bytes, 0);
    const marker = parse(Buffer.from(bytes).toString('utf8'));
    if (isMarker(marker)) return marker;
  } finally {
    await file.close();
  }
  throw new VolumeError('corrupt', `${path} cannot be read: a repair was interrupted, and where is not known. Move it away and run the repair again; nothing was changed`);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/** Writes a file, whole or not at all; its name is durable when the directory is synced. */
async function writeFile(files: FileSystem, directory: string, name: string, bytes: Uint8Array): Promise<void> {
  const staged = `${directory}/.new-${name}`;
  if (await files.exists(staged)) await files.remove(staged);
  await writeNewFile(files, staged, bytes);
  await files.rename(staged, `${directory}/${name}`);
}

/** Durable on return. */
export async function writeMarker(files: FileSystem, directory: string, marker: RepairMarker): Promise<void> {
  await writeFile(files, directory, REPAIR_NAME, Buffer.from(`${JSON.stringify(marker)}\n`));
  await files.syncDirectory(directory);
}

export async function removeMarker(files: FileSystem, directory: string): Promise<void> {
  await files.remove(repairPath(directory));
  await files.syncDirectory(directory);
}

async function ensureDirectory(files: FileSystem, path: string): Promise<void> {
  if (!(await files.exists(path))) await files.makeDirectory(path);
}

/** The first folder of `kept-aside` that is not taken. */
export async function nextFolder(files: FileSystem, directory: string): Promise<string> {
  for (let number = 1; ; number += 1) {
    const folder = `${KEPT_FOLDER}/${number}`;
    if (!(await files.exists(`${directory}/${folder}`))) return folder;
  }
}

/** Keeps the manifest's bytes as they were, and the report, in the folder of the repair. */
export async function writeKept(files: FileSystem, directory: string, folder: string, manifest: Uint8Array, report: unknown): Promise<void> {
  await ensureDirectory(files, `${directory}/${KEPT_FOLDER}`);
  const path = `${directory}/${folder}`;
  await ensureDirectory(files, path);
  // Of a repair that is run again the first manifest is the one that was there.
  if (!(await files.exists(`${path}/manifest`))) await writeFile(files, path, 'manifest', manifest);
  await writeFile(files, path, 'report.json', Buffer.from(`${JSON.stringify(report, null, 2)}\n`));
  await files.syncDirectory(path);
  await files.syncDirectory(`${directory}/${KEPT_FOLDER}`);
}

/** Moves the marker's files into its folder; those that are there already stay there. Durable on return. */
export async function keepAside(files: FileSystem, directory: string, { folder, keep }: RepairMarker): Promise<void> {
  const root = `${directory}/${folder}`;
  const folders = new Set(keep.map((path) => path.slice(0, path.indexOf('/'))));
  for (const inner of folders) await ensureDirectory(files, `${root}/${inner}`);
  // Before anything goes there: a file whose old name is gone must not stand in a directory that a power cut takes.
  await files.syncDirectory(root);
  for (const path of keep) {
    const target = `${root}/${path}`;
    const source = `${directory}/${path}`;
    if (!(await files.exists(source))) continue;
    if (!(await files.exists(target))) await files.rename(source, target);
    // A log file that is in its place again is the new one, which nobody has written to yet. Anything else a power cut has left
    // under both names: it took the removal of the old one back.
    else if ((await sizeOf(files, source)) > 0) await files.remove(source);
  }
  for (const inner of folders) {
    await files.syncDirectory(`${root}/${inner}`);
    await files.syncDirectory(`${directory}/${inner}`);
  }
}

async function sizeOf(files: FileSystem, path: string): Promise<number> {
  const file = await files.open(path, 'read');
  try {
    return await file.sizeBytes();
  } finally {
    await file.close();
  }
}

export async function createMissingLogFiles(files: FileSystem, directory: string, count: number): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    const path = logPath(directory, index);
    if (await files.exists(path)) continue;
    const file: File = await files.open(path, 'create');
    await file.close();
  }
  await files.syncDirectory(`${directory}/${LOG_FOLDER}`);
}
