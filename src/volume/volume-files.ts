/** Names of a volume's files, and the manifest's reading and replacing. */
import { VolumeError, systemCode, toVolumeError } from '../base/errors.ts';
import { CHUNK_FOLDER } from '../chunk/chunk-reader.ts';
import type { Env, File, FileLock, FileSystem } from '../env/env.ts';
import { MANIFEST_BYTES, type Manifest, decodeManifest, encodeManifest } from '../format/manifest.ts';
import { writeNewFile } from '../store/new-file.ts';
import { nameProblem } from './volume-name.ts';

export const CHECKPOINT_FOLDER = 'checkpoints';
export const LOG_FOLDER = 'log';
export const OBJECT_FOLDERS = [CHUNK_FOLDER, CHECKPOINT_FOLDER] as const;
const MANIFEST_NAME = 'manifest';
const MANIFEST_COPY_NAME = 'manifest-copy';
const NEW_MANIFEST_NAME = '.manifest-new';
/** Gives way to a manifest on a full disk, so that a volume can be opened there: its trims are what makes room. */
const RESERVE_NAME = '.reserve';
const RESERVE_BYTES = 64 * 1024;
/** Somebody who only looks whether a volume is open holds its lock for a moment. */
const LOCK_ATTEMPTS = 4;
const LOCK_PAUSE_MS = 50;

export function manifestPath(directory: string): string {
  return `${directory}/${MANIFEST_NAME}`;
}

export function manifestCopyPath(directory: string): string {
  return `${directory}/${MANIFEST_COPY_NAME}`;
}

/** Path of the file that stands in the place of the manifest where a volume follows one that another host writes (`following.ts`). */
export function followingPath(directory: string): string {
  return `${directory}/following`;
}

/** Path of the file that says that what is likely to be needed of the bucket is to be fetched (`prefetch.ts`). */
export function prefetchPath(directory: string): string {
  return `${directory}/prefetch`;
}

/** Whether a volume is there, though it may be for `repair` to make it whole. */
export async function holdsVolume(files: FileSystem, directory: string): Promise<boolean> {
  return (await files.exists(manifestPath(directory))) || (await files.exists(manifestCopyPath(directory))) || files.exists(followingPath(directory));
}

/** The directory that a volume's directory stands in. */
export function parentPath(directory: string): string {
  const slash = directory.lastIndexOf('/');
  return slash < 0 ? '.' : directory.slice(0, slash) || '/';
}

/** Name of the file that stands there from the first change that a repair makes to its last. */
export const REPAIR_NAME = 'repairing';

export function repairPath(directory: string): string {
  return `${directory}/${REPAIR_NAME}`;
}

/** What to tell of a volume in whose repair something came between. */
export function interruptedRepair(name: string): string {
  return `a repair of volume ${name} was interrupted; finish it: basalt repair ${name} --yes`;
}

/** In the middle of a repair the files of a volume do not fit together. */
export async function refuseWhileRepairing(files: FileSystem, directory: string, name: string): Promise<void> {
  if (await files.exists(repairPath(directory))) throw new VolumeError('corrupt', interruptedRepair(name));
}

/** What helps where a volume that has a bucket is damaged here: a repair knows of one place only. */
export function takeoverAdvice(name: string): string {
  return `basalt check ${name} --remote up to which LSN its bucket has it; basalt takeover ${name} goes on from there, and keeps what is here beside it`;
}

/** What is damaged, and what to do about it; other errors as they are. */
export function withAdvice(error: VolumeError, name: string, hasBucket = false): VolumeError {
  if (error.code !== 'corrupt' || error.message.includes('basalt ')) return error;
  const message = `${error.message}; basalt check ${name} says all that is wrong, ${hasBucket ? `and ${takeoverAdvice(name)}` : `basalt repair ${name} what can be saved`}`;
  return new VolumeError('corrupt', message, { cause: error, context: error.context });
}

/** Why a volume takes no more writes, and what to check and do. Opening it anew within the process would trust a page cache that a failed sync may have parted from the disk (I4). */
export function withRestartAdvice(error: VolumeError, name: string): VolumeError {
  if (error.code === 'fenced') return error;
  const first =
    error.code === 'corrupt'
      ? `Stop the server, see what basalt check ${name} says and do that, then start the server again`
      : 'First find out why the disk failed (dmesg; its cable, card or health; whether its file system became read-only) and mend that. Then stop the server, which exits with 1 now, and start it again';
  const message = `${error.message}. Volume ${name} takes no more writes until the server is restarted; it can still be read. ${first}: what was flushed is recovered from the log`;
  return new VolumeError(error.code, message, { cause: error.cause, context: error.context });
}

/** What helps where something is rotten here that should be shipped. */
export function withScrubAdvice(error: VolumeError, volume: string): VolumeError {
  const message = `${error.message}, and what came after it waits. basalt scrub ${volume} writes anew what memory still has of it; what is overwritten or trimmed is not needed any more`;
  return new VolumeError(error.code, message, { cause: error, context: error.context });
}

export function lockPath(directory: string): string {
  return `${directory}/lock`;
}

export function logPath(directory: string, index: number): string {
  return `${directory}/${logKey(index)}`;
}

/** Path of a log file within the volume's directory. */
export function logKey(index: number): string {
  return `${LOG_FOLDER}/${String(index).padStart(2, '0')}.log`;
}

/** Path of the manifest within the volume's directory. */
export function manifestKey(): string {
  return MANIFEST_NAME;
}

/** Path of its copy. */
export function manifestCopyKey(): string {
  return MANIFEST_COPY_NAME;
}

export function checkpointName(epoch: number, number: number): string {
  return `k${String(number).padStart(10, '0')}-e${String(epoch).padStart(6, '0')}`;
}

/** Number and epoch of a checkpoint's name, or null if it is not one. */
export function parseCheckpointName(name: string): { readonly number: number; readonly epoch: number } | null {
  const match = /^k(\d{10,})-e(\d{6,})$/.exec(name);
  return match === null ? null : { number: Number(match[1]), epoch: Number(match[2]) };
}

export function checkpointKey(epoch: number, number: number): string {
  return `${CHECKPOINT_FOLDER}/${checkpointName(epoch, number)}`;
}

/** Takes the lock of a volume that is there; null if another process has it. */
export async function lockVolume({ files, clock }: Pick<Env, 'files' | 'clock'>, directory: string): Promise<FileLock | null> {
  for (let attempt = 1; ; attempt += 1) {
    const lock = await files.lock(lockPath(directory));
    if (lock !== null || attempt === LOCK_ATTEMPTS) return lock;
    await clock.sleep(LOCK_PAUSE_MS);
  }
}

/** Reads and checks the manifest. Errors: `not-found`, `corrupt`, `unsupported`, `io-error`. */
export async function readManifest(files: FileSystem, directory: string): Promise<Manifest> {
  const path = manifestPath(directory);
  try {
    return await readManifestFile(files, path);
  } catch (error) {
    if (!isMissing(error)) throw toVolumeError(error, `reading ${path}`);
    const isCopied = await files.exists(manifestCopyPath(directory)).catch(() => false);
    if (isCopied) throw new VolumeError('corrupt', `${path} is missing, its copy is there`, { cause: error });
    if (await files.exists(followingPath(directory)).catch(() => false)) throw followsOther(directory.slice(directory.lastIndexOf('/') + 1));
    throw new VolumeError('not-found', `${directory} holds no volume: ${path} is missing`, { cause: error });
  }
}

/**
 * The copy of the manifest, for who repairs a volume whose manifest cannot be read. It may be some versions older than the manifest was, as it
 * is not synced. Errors: as `readManifest`.
 */
export function readManifestCopy(files: FileSystem, directory: string): Promise<Manifest> {
  const path = manifestCopyPath(directory);
  return readManifestFile(files, path).catch((error: unknown) => {
    throw isMissing(error) ? new VolumeError('not-found', `${path} is missing`, { cause: error }) : toVolumeError(error, `reading ${path}`);
  });
}

/** What is to be done with a volume that follows another one is done on its owner's host. */
export function followsOther(name: string): VolumeError {
  return new VolumeError('unsupported', `volume ${name} is written by another host, and only followed here: do this on that host. To have the volume here: basalt delete ${name}, then basalt open-remote`);
}

function isMissing(error: unknown): boolean {
  const code = systemCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}

/** Errors: `corrupt`, `unsupported`, `io-error`; where there is no such file the system's own. */
async function readManifestFile(files: FileSystem, path: string): Promise<Manifest> {
  let file: File;
  try {
    file = await files.open(path, 'read');
  } catch (error) {
    throw isMissing(error) ? error : toVolumeError(error, `opening ${path}`);
  }
  try {
    // One byte more than there may be, so that a longer file shows.
    const bytes = new Uint8Array(MANIFEST_BYTES + 1);
    const got = await file.read(bytes, 0);
    return decodeManifest(bytes.subarray(0, got), path);
  } catch (error) {
    throw toVolumeError(error, `reading ${path}`);
  } finally {
    await file.close();
  }
}

/**
 * Replaces the manifest; durable on return. After an error the old or the new one stands, whole. Its copy is written behind it. Errors:
 * `no-space`, `io-error`; `failed` when its name could not be synced.
 */
export async function writeManifest({ files, logger }: Pick<Env, 'files' | 'logger'>, directory: string, manifest: Manifest): Promise<void> {
  try {
    await replaceManifest(files, directory, manifest);
  } catch (error) {
    if (!(error instanceof VolumeError) || error.code !== 'no-space' || !(await useReserve(files, directory))) throw error;
    await replaceManifest(files, directory, manifest);
  }
  await copyManifest({ files, logger }, directory, manifest);
}

/** Directories whose copy could not be written, so that it is told of once. */
const toldOf = new WeakMap<FileSystem, Set<string>>();

/**
 * Writes the copy over the last one, and does not sync it: a copy is needed when the manifest rots, long after the kernel has written both.
 * What becomes of it in a power cut costs nothing: the manifest was durable before the copy was touched, and the next opening writes it
 * again. So it costs no sync and no rename, and no error of it keeps anybody from writing.
 */
async function copyManifest({ files, logger }: Pick<Env, 'files' | 'logger'>, directory: string, manifest: Manifest): Promise<void> {
  const path = manifestCopyPath(directory);
  try {
    const file = await files.open(path, (await files.exists(path)) ? 'write' : 'create');
    try {
      await file.write([encodeManifest(manifest)], 0);
    } finally {
      await file.close();
    }
  } catch (error) {
    const told = toldOf.get(files) ?? new Set();
    toldOf.set(files, told);
    if (!told.has(directory)) logger.log('warn', 'no-manifest-copy', { directory, error: toVolumeError(error, `writing ${path}`) });
    told.add(directory);
  }
}

/** False if there is no reserve (any more). Errors: as `writeManifest`. */
async function useReserve(files: FileSystem, directory: string): Promise<boolean> {
  const path = `${directory}/${RESERVE_NAME}`;
  try {
    if (!(await files.exists(path))) return false;
    await files.remove(path);
    // A file system with a journal has the space only when the removal is on the disk.
    await files.syncDirectory(directory);
    return true;
  } catch (error) {
    throw toVolumeError(error, `freeing ${path}`);
  }
}

/** Lays the reserve by, if it is not there whole; false if there is no space for it. Errors: `io-error`. */
export async function keepReserve(files: FileSystem, directory: string): Promise<boolean> {
  const path = `${directory}/${RESERVE_NAME}`;
  try {
    const file = await files.open(path, (await files.exists(path)) ? 'write' : 'create');
    try {
      if ((await file.sizeBytes()) < RESERVE_BYTES) await file.write([new Uint8Array(RESERVE_BYTES)], 0);
    } finally {
      await file.close();
    }
    return true;
  } catch (cause) {
    const error = toVolumeError(cause, `writing ${path}`);
    if (error.code !== 'no-space') throw error;
    // Half of it is of little use.
    if (await files.exists(path)) await files.remove(path);
    return false;
  }
}

async function replaceManifest(files: FileSystem, directory: string, manifest: Manifest): Promise<void> {
  const staged = `${directory}/${NEW_MANIFEST_NAME}`;
  try {
    // What an interrupted attempt left was never the manifest.
    if (await files.exists(staged)) await files.remove(staged);
    await writeNewFile(files, staged, encodeManifest(manifest));
    await files.rename(staged, manifestPath(directory));
    await files.syncDirectory(directory).catch((error: unknown) => {
      // Not `no-space`, whatever the system says: nobody may try this sync again. That of the new file is another thing: the file is thrown away.
      throw new VolumeError('failed', `syncing ${directory} failed (${error instanceof Error ? error.message : String(error)}): which manifest a power cut leaves is not known`, { cause: error });
    });
  } catch (error) {
    throw toVolumeError(error, `writing ${manifestPath(directory)}`);
  }
}

/** Names of the volumes in a directory; one that is not there holds none. Errors: `io-error`. */
export async function volumeNames(files: FileSystem, directory: string): Promise<string[]> {
  let entries: readonly string[];
  try {
    entries = await files.list(directory);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw toVolumeError(error, `listing ${directory}`);
  }
  const names: string[] = [];
  for (const name of entries) {
    if (nameProblem(name) !== null) continue;
    // What cannot be looked at (no permission) may be a volume: whoever opens it is told why.
    const isThere = await holdsVolume(files, `${directory}/${name}`).catch(() => true);
    if (isThere) names.push(name);
  }
  return names;
}
