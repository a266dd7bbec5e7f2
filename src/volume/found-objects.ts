/** Objects of a volume that may be damaged: a folder that is missing has none. */
import { VolumeError } from '../base/errors.ts';
import type { FileSystem } from '../env/env.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { Findings } from './inspect-findings.ts';
import { LOG_FOLDER, OBJECT_FOLDERS } from './volume-files.ts';

const FOLDERS = [...OBJECT_FOLDERS, LOG_FOLDER];

/** Names in a folder of the store, in order. */
export async function listFound(store: ObjectStore, folder: string): Promise<readonly string[]> {
  try {
    return await store.list(folder);
  } catch (error) {
    if (error instanceof VolumeError && error.code === 'corrupt') return [];
    throw error;
  }
}

/** Adds a finding for each of the volume's folders that is missing. */
export async function reportFolders(files: FileSystem, directory: string, findings: Findings): Promise<void> {
  for (const folder of FOLDERS) if (!(await files.exists(`${directory}/${folder}`))) findings.broken(folder, null, 'the folder is missing, with all that was in it');
}

/** Makes those that are missing; durable on return. */
export async function makeFolders(files: FileSystem, directory: string): Promise<void> {
  let isWhole = true;
  for (const folder of FOLDERS) {
    if (await files.exists(`${directory}/${folder}`)) continue;
    await files.makeDirectory(`${directory}/${folder}`);
    isWhole = false;
  }
  if (!isWhole) await files.syncDirectory(directory);
}
