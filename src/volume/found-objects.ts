/** Objects of a volume that may be damaged: a folder that is missing has none. */
import { VolumeError } from '../base/errors.ts';
import { CHUNK_FOLDER, parseChunkName } from '../chunk/chunk-reader.ts';
import type { FileSystem } from '../env/env.ts';
import type { ObjectSource } from '../store/object-store.ts';
import type { Findings } from './inspect-findings.ts';
import { CHECKPOINT_FOLDER, LOG_FOLDER, OBJECT_FOLDERS, parseCheckpointName } from './volume-files.ts';

const FOLDERS = [...OBJECT_FOLDERS, LOG_FOLDER];

/** Names in a folder of the store, in order. */
export async function listFound(store: Pick<ObjectSource, 'list'>, folder: string): Promise<readonly string[]> {
  try {
    return await store.list(folder);
  } catch (error) {
    if (error instanceof VolumeError && error.code === 'corrupt') return [];
    throw error;
  }
}

export interface NewerObject {
  readonly epoch: number;
  /** How it is known that the manifest is older than it. */
  readonly problem: string;
}

/** The object of the newest epoch, if the manifest does not know of that: it is an old one, then. */
export async function findNewerObject(store: Pick<ObjectSource, 'list'>, lastEpoch: number): Promise<NewerObject | null> {
  let newest = { key: '', epoch: lastEpoch };
  for (const folder of OBJECT_FOLDERS) {
    for (const name of await listFound(store, folder)) {
      const epoch = parseObjectName(folder, name)?.epoch ?? 0;
      if (epoch > newest.epoch) newest = { key: `${folder}/${name}`, epoch };
    }
  }
  return newest.key === '' ? null : { epoch: newest.epoch, problem: olderManifest(lastEpoch, newest.key, newest.epoch) };
}

function parseObjectName(folder: string, name: string): { readonly epoch: number } | null {
  if (folder === CHUNK_FOLDER) return parseChunkName(name);
  return folder === CHECKPOINT_FOLDER ? parseCheckpointName(name) : null;
}

export function olderManifest(lastEpoch: number, key: string, epoch: number): string {
  return `the manifest is older than ${key}: it knows of epochs up to ${lastEpoch}, that is of epoch ${epoch}`;
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
