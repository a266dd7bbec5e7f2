/** Making a new volume: whole or not at all. */
import { VolumeError, systemCode, toVolumeError } from '../base/errors.ts';
import type { EngineSettings } from '../base/settings-types.ts';
import { MIB, formatSize, isPowerOfTwo } from '../base/units.ts';
import { checkLimits, hasLimits, NO_LIMITS } from '../base/volume-limits.ts';
import type { Env } from '../env/env.ts';
import { MAX_BLOCK_BYTES, MIN_BLOCK_BYTES, MIN_LOG_FILES, type Manifest, NO_CHECKPOINT, NO_CUT, VOLUME_ID_BYTES, encodeManifest } from '../format/manifest.ts';
import { hexOf } from '../format/bytes.ts';
import { measureLogWay } from '../wal/measure-log.ts';
import { createSyncedMark } from './synced-mark-file.ts';
import { LOG_FOLDER, OBJECT_FOLDERS, logPath, manifestPath, parentPath } from './volume-files.ts';
import { type RemoteConfig, createRemoteConfig } from './remote-config.ts';
import { wantPrefetch } from './prefetch.ts';
import type { CreateOptions } from './volume-info.ts';
import { NO_PROPERTIES, writeProperties } from './volume-properties.ts';

export interface CreateVolumeOptions {
  readonly env: Env;
  /** The volume's directory; must not exist, its parent must. */
  readonly directory: string;
  readonly settings: EngineSettings;
  readonly create: CreateOptions;
  /** Where its bucket is; none if it is not given. Whoever makes the volume has looked that nothing is there. */
  readonly remote?: RemoteConfig;
}

/** A log file of a small volume is small, but holds at least some large writes. */
const SMALLEST_LOG_FILE_BYTES = 4 * MIB;
/** There only while a volume is made. */
const MEASURED_FILE = '.measured';

function checkOptions({ sizeBytes, blockSizeBytes }: CreateOptions): void {
  if (!isPowerOfTwo(blockSizeBytes) || blockSizeBytes < MIN_BLOCK_BYTES || blockSizeBytes > MAX_BLOCK_BYTES) {
    throw new VolumeError('invalid-argument', `block size ${blockSizeBytes} is not a power of two from ${MIN_BLOCK_BYTES} to ${MAX_BLOCK_BYTES}`);
  }
  checkSize(sizeBytes, blockSizeBytes);
}

/** Throws `invalid-argument` unless a volume can have this size. */
export function checkSize(sizeBytes: number, blockSizeBytes: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
    throw new VolumeError('invalid-argument', `size ${sizeBytes} is not a positive whole number of bytes below 2^53`);
  }
  const remainder = sizeBytes % blockSizeBytes;
  if (remainder !== 0) {
    const lower = sizeBytes - remainder;
    const upper = lower + blockSizeBytes;
    throw new VolumeError('invalid-argument', `size ${sizeBytes} is not a multiple of the block size ${blockSizeBytes}; the nearest are ${lower} and ${upper} (${formatSize(upper)})`);
  }
}

/**
 * Makes a volume in `directory`; durable on return. It is built aside and renamed, so that nothing half-made is ever seen.
 * Errors: `invalid-argument`, `already-exists`, `not-found` (no parent directory), `no-space`, `io-error`.
 */
export async function createVolume(options: CreateVolumeOptions): Promise<void> {
  checkOptions(options.create);
  const { limits = NO_LIMITS } = options.create;
  checkLimits(limits);
  const { logFileCount } = options.settings;
  if (logFileCount < MIN_LOG_FILES) throw new VolumeError('invalid-argument', `${logFileCount} log files; a volume needs at least ${MIN_LOG_FILES}`);
  await makeVolume(options, async (staged) => {
    if (hasLimits(limits)) await writeProperties(options.env, staged, { ...NO_PROPERTIES, limits });
    await fill(options, staged, await newManifest(options, staged));
  });
}

/** The same for one that a bucket has: its log is empty, and what it consists of is fetched when it is needed. */
export async function makeFromManifest(options: Omit<CreateVolumeOptions, 'create'>, manifest: Manifest, { prefetches }: { readonly prefetches: boolean }): Promise<void> {
  await makeVolume(options, async (staged) => {
    if (prefetches) await wantPrefetch(options.env, staged);
    await fill(options, staged, manifest);
  });
}

/** Makes the directory of a volume, whole or not at all: `fillIn` is given where it is built. Errors: as `createVolume`. */
export async function makeVolume({ env, directory }: Pick<CreateVolumeOptions, 'env' | 'directory'>, fillIn: (staged: string) => Promise<void>): Promise<void> {
  const exists = await env.files.exists(directory).catch((error: unknown) => {
    throw toVolumeError(error, `creating ${directory}`);
  });
  if (exists) throw new VolumeError('already-exists', `${directory} exists already; choose another name or delete it first`);
  const parent = parentPath(directory);
  const token = new Uint8Array(6);
  env.random.fill(token);
  const staged = `${parent}/.creating-${hexOf(token)}`;
  try {
    await env.files.makeDirectory(staged);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') throw new VolumeError('not-found', `directory ${parent} does not exist; make it first`, { cause: error });
    throw toVolumeError(error, `creating ${directory}`);
  }
  try {
    await fillIn(staged);
    await env.files.rename(staged, directory);
    await env.files.syncDirectory(parent);
  } catch (error) {
    await removeStaged(env, staged);
    const code = systemCode(error);
    if (code === 'ENOTEMPTY' || code === 'EEXIST') throw new VolumeError('already-exists', `${directory} exists already; choose another name or delete it first`, { cause: error });
    throw toVolumeError(error, `creating ${directory}`);
  }
}

/** A small volume gets a small ring; whole erase blocks in any case, the last thing to be done: rounding never makes a file smaller than asked for. */
function logFileBytesOf(sizeBytes: number, { logFileBytes, logFileCount, eraseBlockBytes }: EngineSettings): number {
  const wanted = Math.ceil((sizeBytes * 2) / logFileCount / MIB) * MIB;
  const unrounded = Math.min(logFileBytes, Math.max(SMALLEST_LOG_FILE_BYTES, wanted));
  return eraseBlockBytes === 0 ? unrounded : Math.ceil(unrounded / eraseBlockBytes) * eraseBlockBytes;
}

/** After the rename there is nothing under this name any more. Where removing fails the first error is the one to report. */
async function removeStaged({ files, logger }: Env, staged: string): Promise<void> {
  try {
    if (await files.exists(staged)) await files.removeTree(staged);
  } catch (error) {
    logger.log('warn', 'half-made-volume-left', { directory: staged, error });
  }
}

async function newManifest({ env, settings, create }: CreateVolumeOptions, staged: string): Promise<Manifest> {
  // With other settings nobody has asked for it; the volume is `buffered` should it ever be opened with `auto`.
  const path = `${staged}/${MEASURED_FILE}`;
  const measuredLogWay = settings.logIo === 'auto' ? await measureLogWay({ ...env, path }) : null;
  const volumeId = new Uint8Array(VOLUME_ID_BYTES);
  env.random.fill(volumeId);
  return {
    volumeId,
    sizeBytes: create.sizeBytes,
    createdBytes: create.sizeBytes,
    spanBytes: create.sizeBytes,
    blockSizeBytes: create.blockSizeBytes,
    durability: create.durability,
    measuredLogWay,
    compression: create.compression ?? 'default',
    epoch: 0,
    checkpoint: NO_CHECKPOINT,
    cut: NO_CUT,
    logFileCount: settings.logFileCount,
    logFileBytes: logFileBytesOf(create.sizeBytes, settings),
    createdMs: Math.max(0, Math.floor(env.clock.wallMs())),
  };
}

async function fill({ env: { files }, remote }: Omit<CreateVolumeOptions, 'create'>, staged: string, manifest: Manifest): Promise<void> {
  for (const folder of [...OBJECT_FOLDERS, LOG_FOLDER]) await files.makeDirectory(`${staged}/${folder}`);
  // Empty now, grown in their first lap: a new volume is there at once.
  for (let index = 0; index < manifest.logFileCount; index += 1) await (await files.open(logPath(staged, index), 'create')).close();
  await createSyncedMark(files, staged, manifest.volumeId);
  if (remote !== undefined) await createRemoteConfig(files, staged, remote);
  const file = await files.open(manifestPath(staged), 'create');
  try {
    await file.write([encodeManifest(manifest)], 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await files.syncDirectory(`${staged}/${LOG_FOLDER}`);
  await files.syncDirectory(staged);
}
