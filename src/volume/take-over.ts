/**
 * Taking a volume back that another host has: a new directory is made of the bucket, beside the old one; then the old one is moved aside and the new one takes its name. Between the
 * two renames, or before them, the process may die. What it leaves, `.taking-over-NAME`, has claimed the volume, so it is finished by whoever looks at the
 * directory next; one that is not whole was not a volume yet, and goes.
 */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { EngineSettings } from '../base/settings-types.ts';
import type { Env, FileLock } from '../env/env.ts';
import type { RemoteAccess } from './attach-remote.ts';
import { isDamage } from './inspect-findings.ts';
import { readRemoteConfig } from './remote-config.ts';
import { type Restored, restoreVolume } from './restore-volume.ts';
import { readFollowing } from './following.ts';
import { followsOther, holdsVolume, lockVolume, readManifest } from './volume-files.ts';
import type { OnProgress } from './volume-info.ts';

const STAGED_PREFIX = '.taking-over-';

export interface TakeOverOptions {
  readonly env: Env;
  /** Of the volumes. */
  readonly parent: string;
  readonly name: string;
  readonly settings: EngineSettings;
  readonly access: RemoteAccess;
  readonly isForced: boolean;
  readonly prefetches?: boolean;
  readonly onProgress: OnProgress;
}

export type TakenOver = Restored & { readonly keptAs: string };

/** Errors: as `restoreVolume`; `in-use`, `already-exists` (an earlier takeover kept something under that name), `unsupported` (the volume has no bucket). */
export async function takeVolumeOver(options: TakeOverOptions): Promise<TakenOver> {
  const { env, parent, name, settings, access, isForced, prefetches = false, onProgress } = options;
  const directory = `${parent}/${name}`;
  const config = await readRemoteConfig(env.files, directory);
  if (config === null && (await readFollowing(env.files, directory)) !== null) throw followsOther(name);
  if (config === null) throw new VolumeError('unsupported', `volume ${name} has no bucket: nobody else can have it`);
  return whileLocked(env, directory, `volume ${name}`, async () => {
    const keptAs = await freeName(env, parent, name);
    const staged = `${parent}/${STAGED_PREFIX}${name}`;
    const restored = await restoreVolume({ env, directory: staged, settings, access, config, isForced, prefetches, onProgress });
    await whileLocked(env, staged, `the takeover of volume ${name}`, () => exchange(env, { parent, name, keptAs }));
    return { ...restored, keptAs };
  });
}

async function exchange({ files }: Pick<Env, 'files'>, { parent, name, keptAs }: { readonly parent: string; readonly name: string; readonly keptAs: string }): Promise<void> {
  await files.rename(`${parent}/${name}`, `${parent}/${keptAs}`);
  await files.rename(`${parent}/${STAGED_PREFIX}${name}`, `${parent}/${name}`);
  await files.syncDirectory(parent);
}

/** Where what is here of the volume goes. Errors: `already-exists`. */
async function freeName({ files }: Pick<Env, 'files'>, parent: string, name: string): Promise<string> {
  const epoch = await epochHere(files, `${parent}/${name}`);
  const keptAs = `${name}.before-${epoch === null ? 'takeover' : `e${epoch}`}`;
  if (!(await files.exists(`${parent}/${keptAs}`))) return keptAs;
  throw new VolumeError('already-exists', `${parent}/${keptAs} exists already; it is what an earlier takeover has kept. Move it away and try again`);
}

/** Null: its manifest is damaged. That is what a takeover may be for. */
async function epochHere(files: Env['files'], directory: string): Promise<number | null> {
  try {
    return (await readManifest(files, directory)).epoch;
  } catch (error) {
    if (isDamage(toVolumeError(error, 'reading the manifest'))) return null;
    throw error;
  }
}

async function whileLocked<T>(env: Env, directory: string, what: string, task: () => Promise<T>): Promise<T> {
  const lock = await lockVolume(env, directory);
  if (lock === null) throw new VolumeError('in-use', `${what} is open in another process; stop that first`);
  try {
    return await task();
  } finally {
    await lock.release();
  }
}

/**
 * Finishes takeovers whose process died. One that cannot be finished now, because somebody has the volume open or the disk fails, stays as it is; the log says why. Errors: none
 * but those of listing the directory.
 */
export async function finishTakeovers(env: Env, parent: string): Promise<void> {
  for (const entry of await env.files.list(parent)) {
    if (!entry.startsWith(STAGED_PREFIX)) continue;
    const name = entry.slice(STAGED_PREFIX.length);
    try {
      const keptAs = await finish(env, parent, name);
      if (keptAs !== null) env.logger.log('warn', 'takeover-finished', { volume: name, keptAs });
    } catch (error) {
      env.logger.log('warn', 'takeover-not-finished', { volume: name, error: toVolumeError(error, `finishing the takeover of volume ${name}`) });
    }
  }
}

/** Null: its process is at work. */
async function finish(env: Env, parent: string, name: string): Promise<string | null> {
  const { files } = env;
  const staged = `${parent}/${STAGED_PREFIX}${name}`;
  const lock: FileLock | null = await files.lock(`${staged}/lock`);
  if (lock === null) return null;
  try {
    if (!(await files.exists(`${parent}/${name}`))) {
      await files.rename(staged, `${parent}/${name}`);
      await files.syncDirectory(parent);
      return '';
    }
    // Between its making and the first rename its process holds the old one's lock alone.
    const old = await files.lock(`${parent}/${name}/lock`);
    if (old === null) return null;
    try {
      if (!(await holdsVolume(files, staged))) {
        await files.removeTree(staged);
        return null;
      }
      const keptAs = await freeName(env, parent, name);
      await exchange(env, { parent, name, keptAs });
      return keptAs;
    } finally {
      await old.release();
    }
  } finally {
    await lock.release();
  }
}
