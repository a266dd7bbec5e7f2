/** Changing the durability mode: in the manifest first, then for the writes to come, and what came before is made durable. */
import { deferred } from '../base/async.ts';
import type { Durability } from '../base/durability.ts';
import { VolumeError, systemCode, toVolumeError } from '../base/errors.ts';
import { CHUNK_FOLDER } from '../chunk/chunk-reader.ts';
import type { Env, File } from '../env/env.ts';
import type { Manifest } from '../format/manifest.ts';
import { DirectoryStore } from '../store/directory-store.ts';
import { recoverLog, rereadLog } from '../wal/log-recovery.ts';
import type { Waiter } from '../wal/waiters.ts';
import type { Flusher } from './flusher.ts';
import { type LoadOptions, loadStored, logOptions } from './load-stored.ts';
import { letGo } from './probe-volume.ts';
import type { VolumeCore } from './volume-core.ts';
import { logPath, readManifest, refuseWhileRepairing, withAdvice, writeManifest } from './volume-files.ts';

/** What waits for its turn between commits and checkpoints. */
export interface Turn {
  readonly core: VolumeCore;
  readonly flusher: Pick<Flusher, 'serial'>;
  /** Throws if the volume can take no change (any more). */
  readonly check: () => void;
}

export interface LiveChange extends Turn {
  readonly durability: Durability;
  /** The mode holds from now on; `waiter` is told when all that was accepted before is durable. */
  readonly apply: (waiter: Waiter) => void;
}

/**
 * Changes the mode of an open volume. On return the manifest says it durably, it holds for all later writes, and what was accepted
 * before it is durable. Errors: what `check` throws; `no-space`: nothing was changed, unless the message says so; `io-error`,
 * `failed`: the volume takes no more writes.
 */
export async function changeDurability(change: LiveChange): Promise<void> {
  const { core, durability } = change;
  const settled = deferred<void>();
  settled.promise.catch(() => undefined); // looked at below, some turns after it may be rejected
  await inTurn(change, async () => {
    if (core.manifest.durability !== durability) await replaceManifest(core, { ...core.manifest, durability });
    change.apply({ settle: (error) => (error === null ? settled.resolve() : settled.reject(error)) });
  });
  try {
    await settled.promise;
  } catch (cause) {
    const error = toVolumeError(cause, `changing the durability of volume ${core.name}`);
    const message = `volume ${core.name} is ${durability} from now on, but what was written before is not durable yet: ${error.message}`;
    throw new VolumeError(error.code, message, { cause });
  }
}

/** Runs `task` when no commit and no checkpoint is under way. While one waits for disk space that would be long: then `no-space`. */
export async function inTurn({ core, flusher, check }: Turn, task: () => Promise<void>): Promise<void> {
  check();
  const begun = deferred<void>();
  const progress = { begun: false, givenUp: false };
  const outcome = flusher.serial.run(async () => {
    if (progress.givenUp) return;
    progress.begun = true;
    begun.resolve();
    check();
    await task();
  });
  while (!progress.begun) {
    if (core.storeStall !== null) {
      progress.givenUp = true;
      throw core.storeStall;
    }
    await Promise.race([begun.promise, core.progress.wait()]);
  }
  await outcome;
}

/** Writes the manifest of an open volume, in its turn. Errors: `no-space`; with any other the volume takes no more writes. */
export async function replaceManifest(core: VolumeCore, next: Manifest): Promise<void> {
  try {
    await core.replaceManifest(next);
  } catch (cause) {
    const error = toVolumeError(cause, `writing the manifest of volume ${core.name}`);
    // As for a checkpoint: a manifest that may or may not be on the disk is a failing disk (I4); a full one only says no.
    if (error.code !== 'no-space') core.fail(error);
    throw error;
  }
}

/**
 * Changes the mode of a volume that nobody has open; the caller holds its lock. What a killed process left in its log is written once more
 * and synced first: the new mode may promise more than the old one did, and after a failed sync the page cache proves nothing
 * (`log-rewrite.ts`). Errors: `corrupt` (nothing was changed), `no-space`, `io-error`, `failed`.
 */
export async function changeDurabilityOffline(options: LoadOptions, durability: Durability): Promise<void> {
  const { env, directory, name } = options;
  await refuseWhileRepairing(env.files, directory, name);
  const manifest = await readManifest(env.files, directory);
  await makeLogDurable(options, manifest);
  if (manifest.durability !== durability) await writeManifest(env, directory, { ...manifest, durability });
}

async function makeLogDurable(options: LoadOptions, manifest: Manifest): Promise<void> {
  const { env, directory, name } = options;
  const files: File[] = [];
  let core: VolumeCore | null = null;
  const made = (loaded: VolumeCore): void => {
    core = loaded;
  };
  try {
    for (let index = 0; index < manifest.logFileCount; index += 1) files.push(await openLogFile(env, logPath(directory, index)));
    const loaded = await loadStored(options, new DirectoryStore(env.files, directory, 0), manifest, made);
    const log = { ...(await logOptions(loaded.core, files)), apply: () => undefined };
    await rereadLog(log, await recoverLog(log));
    // Records that stand in chunks were not replayed: their chunks must have durable names.
    await env.files.syncDirectory(`${directory}/${CHUNK_FOLDER}`);
    for (const file of files) await file.sync();
  } catch (error) {
    throw withAdvice(toVolumeError(error, `making what volume ${name} holds durable`), name);
  } finally {
    await letGo(core);
    await Promise.allSettled(files.map((file) => file.close())); // what was written is synced, or its error is on its way
  }
}

async function openLogFile(env: Env, path: string): Promise<File> {
  try {
    return await env.files.open(path, 'write');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') throw new VolumeError('corrupt', `log file ${path} is missing; nothing was changed`, { cause: error });
    throw toVolumeError(error, `opening ${path}`);
  }
}
