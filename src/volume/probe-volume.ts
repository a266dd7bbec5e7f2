/** Whether a volume that nobody has open could be opened for writing: what its opening reads is read, and nothing is changed. */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { File } from '../env/env.ts';
import type { Manifest } from '../format/manifest.ts';
import { DirectoryStore } from '../store/directory-store.ts';
import { recoverLog, type ReplayedRecord } from '../wal/log-recovery.ts';
import { type LoadOptions, loadStored, logOptions } from './load-stored.ts';
import { readRemoteConfig } from './remote-config.ts';
import type { VolumeCore } from './volume-core.ts';
import { type Probe, chunkSpaceOf } from './volume-info.ts';
import { interruptedRepair, lockVolume, logPath, readManifest, repairPath, withAdvice } from './volume-files.ts';

/** Loads a volume that is not damaged and hands over the log's records behind its chunks. The core is the caller's, also after an error. */
export async function loadForReading(options: LoadOptions, manifest: Manifest, made: (core: VolumeCore) => void, apply: (core: VolumeCore, replayed: ReplayedRecord) => Promise<void>): Promise<VolumeCore> {
  const { env, directory } = options;
  const { core } = await loadStored(options, new DirectoryStore(env.files, directory, 0), manifest, made);
  const files: File[] = [];
  try {
    for (let index = 0; index < manifest.logFileCount; index += 1) {
      const path = logPath(directory, index);
      if (!(await env.files.exists(path))) throw new VolumeError('corrupt', `log file ${path} is missing; nothing was changed`);
      files.push(await env.files.open(path, 'read'));
    }
    await recoverLog({ ...(await logOptions(core, files)), apply: (replayed) => apply(core, replayed) });
  } finally {
    // Descriptors that were only read from have nothing to lose when their close fails.
    await Promise.allSettled(files.map((file) => file.close()));
  }
  return core;
}

/** What keeps a volume from being opened for writing, and what to do about it; null: nothing, or another process has it open. Errors: `io-error`. */
export async function damageOf(options: LoadOptions): Promise<string | null> {
  return (await probeVolume(options)).damage;
}

/** Looks into a volume; nothing is told of one that another process has open. Errors: `io-error`. */
export async function probeVolume(options: LoadOptions): Promise<Probe> {
  const { env, directory, name } = options;
  let core: VolumeCore | null = null;
  const lock = await lockVolume(env, directory);
  if (lock === null) return { damage: null, space: null };
  try {
    if (await env.files.exists(repairPath(directory))) return { damage: interruptedRepair(name), space: null };
    // What is here of one that has a bucket is a part of it.
    if ((await readRemoteConfig(env.files, directory)) !== null) return { damage: null, space: null };
    const manifest = await readManifest(env.files, directory);
    const { catalogue, blockSizeBytes } = await loadForReading(
      options,
      manifest,
      (made) => {
        core = made;
      },
      () => Promise.resolve(),
    );
    return { damage: null, space: chunkSpaceOf({ liveBytes: catalogue.liveBlocks * blockSizeBytes, liveStoredBytes: catalogue.liveStoredBytes, storedChunkBytes: catalogue.objectBytes }) };
  } catch (cause) {
    const error = toVolumeError(cause, `looking at volume ${name}`);
    if (error.code !== 'corrupt') throw error;
    return { damage: withAdvice(error, name).message, space: null };
  } finally {
    await letGo(core);
    await lock.release();
  }
}

/** Gives back what a core that was only loaded has taken. */
export async function letGo(core: VolumeCore | null): Promise<void> {
  if (core === null) return;
  core.closed = true;
  await core.reader.close();
  core.releaseMemory();
}
