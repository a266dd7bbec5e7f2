/**
 * Opening a volume (DESIGN 6): lock, manifest, checkpoint, the chunks behind it, the log behind those. It may be interrupted
 * at any point and begun again: what it writes (an epoch, chunks made of the log's records) is what a running volume writes.
 * Nothing is written before all of it was found sound (`replay-log.ts`): a volume that is not opened is as it was.
 */
import { type Arena, DEFAULT_SLAB_BYTES } from '../base/arena.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { EngineSettings } from '../base/settings-types.ts';
import type { Env, File, FileLock } from '../env/env.ts';
import type { Manifest } from '../format/manifest.ts';
import { DirectoryStore } from '../store/directory-store.ts';
import type { LogRecovery } from '../wal/log-recovery.ts';
import { LogRing } from '../wal/log-ring.ts';
import { MarkWriter } from '../wal/mark-writer.ts';
import { LogWriter } from '../wal/log-writer.ts';
import { type AttachedRemote, type RemoteAccess, attachRemote } from './attach-remote.ts';
import { type CheckpointState, Checkpointer } from './checkpointer.ts';
import { Compactor } from './compactor.ts';
import { Flusher } from './flusher.ts';
import { type StoredVolume, loadStored, logOptions } from './load-stored.ts';
import { LogWriting } from './log-way.ts';
import { replayLog } from './replay-log.ts';
import { remotePath } from './remote-config.ts';
import { shipFrom } from './ship-from.ts';
import { openSyncedMark } from './synced-mark-file.ts';
import type { VolumeCore } from './volume-core.ts';
import { OBJECT_FOLDERS, holdsVolume, keepReserve, lockVolume, logPath, manifestPath, parentPath, readManifest, refuseWhileRepairing, withAdvice, writeManifest } from './volume-files.ts';
import type { OnProgress, VolumeObserver } from './volume-info.ts';
import { Volume } from './volume.ts';
import { WritePath } from './write-path.ts';

export interface OpenVolumeOptions {
  readonly env: Env;
  /** The volume's directory. */
  readonly directory: string;
  readonly settings: EngineSettings;
  /** Name for messages; the directory's last part if it is not given. */
  readonly name?: string;
  /** Block memory to share with other volumes; one of its own if it is not given. */
  readonly arena?: Arena;
  readonly observer?: VolumeObserver;
  /** Told how far a long opening is. */
  readonly onProgress?: OnProgress;
  /** For volumes that have a bucket. */
  readonly remotes?: RemoteAccess;
}

/**
 * Opens a volume for reading and writing. Errors: `not-found`, `in-use`, `corrupt` (naming file, byte and what was expected;
 * nothing is deleted), `unsupported`, `no-space`, `io-error`.
 */
export async function openVolume(options: OpenVolumeOptions): Promise<Volume> {
  const { env, directory } = options;
  const name = options.name ?? directory.slice(directory.lastIndexOf('/') + 1);
  const lock = await takeLock(env, directory, name);
  const opening = new Opening(options, name, lock);
  try {
    return await opening.run();
  } catch (error) {
    await opening.undo();
    throw withAdvice(toVolumeError(error, `opening volume ${name}`), name, await env.files.exists(remotePath(directory)).catch(() => false));
  }
}

/** Takes a volume's lock. Errors: `not-found`, `in-use`, `io-error`. */
export async function takeLock(env: Env, directory: string, name: string): Promise<FileLock> {
  try {
    if (!(await holdsVolume(env.files, directory))) throw new VolumeError('not-found', `there is no volume at ${directory}: ${manifestPath(directory)} is missing`);
    const lock = await lockVolume(env, directory);
    if (lock === null) throw new VolumeError('in-use', `volume ${name} is open in another process; stop that one first`);
    return lock;
  } catch (error) {
    // A directory without permissions, say: that is its owner's mistake, and ends no server.
    throw toVolumeError(error, `locking volume ${name}`);
  }
}

class Opening {
  readonly #options: OpenVolumeOptions;
  readonly #env: Env;
  readonly #name: string;
  readonly #lock: FileLock;
  readonly #store: DirectoryStore;
  readonly #logFiles: File[] = [];
  #remote: AttachedRemote | null = null;
  #markFile: File | null = null;
  #logWriting: LogWriting | null = null;
  #core: VolumeCore | null = null;
  #flusher: Flusher | null = null;
  #checkpointer: Checkpointer | null = null;

  constructor(options: OpenVolumeOptions, name: string, lock: FileLock) {
    this.#options = options;
    this.#env = options.env;
    this.#name = name;
    this.#lock = lock;
    this.#store = new DirectoryStore(options.env.files, options.directory, options.settings.spareBytes);
  }

  async run(): Promise<Volume> {
    const { directory } = this.#options;
    const startMs = this.#env.clock.nowMs();
    const found = await readManifest(this.#env.files, directory);
    await refuseWhileRepairing(this.#env.files, directory, this.#name);
    this.#remote = await attachRemote({ env: this.#env, directory, name: this.#name, access: this.#options.remotes ?? null, local: this.#store, manifest: found, slabBytes: this.#options.arena?.slabBytes ?? DEFAULT_SLAB_BYTES });
    const store = this.#remote?.store ?? this.#store;
    const manifest = { ...found, epoch: this.#remote?.ownership.epoch ?? found.epoch + 1 };
    const made = (core: VolumeCore): void => {
      this.#core = core;
    };
    const load = (): Promise<StoredVolume> => loadStored({ ...this.#options, name: this.#name }, store, manifest, made, found.epoch);
    const { core, state, chunks, oldCheckpoints } = await load().catch((error: unknown) => this.#loadAgain(error, load));
    const { writes, flusher, checkpointer, compactor } = this.#makeParts(core, state, chunks.largestChunk + 1);
    await this.#openLog(manifest);
    const recovery = await replayLog({ core, onProgress: this.#options.onProgress ?? (() => undefined), writes, flusher, log: { ...(await logOptions(core, this.#logFiles)), lastEpoch: found.epoch }, found: () => this.#takeEpoch(manifest) });
    // From now on all of it counts as durable.
    if (recovery.records > 0) for (const file of this.#logFiles) await file.sync();
    await this.#cutLog(core, flusher, recovery.lastLsn);
    // Not before the log was read without damage: an unfinished set may be all that is left of a damaged one.
    for (const key of [...oldCheckpoints, ...chunks.unused]) await store.remove(key);
    await this.#keepReserve();
    const logWriting = await LogWriting.open({ ...this.#options, name: this.#name, manifest, plainFiles: this.#logFiles });
    this.#logWriting = logWriting;
    const mark = await this.#openMark(manifest);
    const log = this.#makeLog(core, flusher, recovery, logWriting, mark);
    core.log = log;
    if (this.#remote !== null) await shipFrom(core, this.#remote, { flusher, checkpointer });
    flusher.poke();
    checkpointer.start();
    compactor.start();
    this.#env.logger.log('info', 'volume-opened', {
      volume: this.#name,
      sizeBytes: manifest.sizeBytes,
      durability: manifest.durability,
      epoch: manifest.epoch,
      lsn: recovery.lastLsn,
      replayedRecords: recovery.records,
      logEnd: recovery.end,
      elapsedMs: Math.round(this.#env.clock.nowMs() - startMs),
    });
    const closeFiles = async (): Promise<void> => {
      await mark?.close();
      await this.#closeLogFiles();
    };
    return new Volume({ core, writes, flusher, checkpointer, compactor, log, logWriting, lock: this.#lock, closeFiles, remote: this.#remote, recoveredLsn: recovery.lastLsn });
  }

  /** What is rotten here of a volume with a bucket may be sound there. */
  async #loadAgain(error: unknown, load: () => Promise<StoredVolume>): Promise<StoredVolume> {
    const tiers = this.#remote?.store;
    if (tiers === undefined || !(error instanceof VolumeError) || error.code !== 'corrupt') throw error;
    this.#env.logger.log('warn', 'opened-from-bucket', { volume: this.#name, error });
    await this.#core?.reader.close();
    this.#core = null;
    tiers.isDistrusted = true;
    const loaded = await load();
    tiers.isDistrusted = false;
    return loaded;
  }

  /** The first change of any file; the new epoch is durable before anything is written under it. */
  async #takeEpoch(manifest: Manifest): Promise<void> {
    await this.#store.prepare(OBJECT_FOLDERS);
    // The process that made the volume may have died between the rename to this name and its sync.
    await this.#env.files.syncDirectory(parentPath(this.#options.directory));
    await writeManifest(this.#env, this.#options.directory, manifest);
  }

  /** Without it the next opening may be for reading alone, should the disk be full then: no reason not to open now. */
  async #keepReserve(): Promise<void> {
    const hasReserve = await keepReserve(this.#env.files, this.#options.directory).catch((error: unknown) => {
      this.#env.logger.log('warn', 'no-reserve', { volume: this.#name, error: toVolumeError(error, 'laying the reserve by') });
      return true;
    });
    if (!hasReserve) this.#env.logger.log('warn', 'no-reserve', { volume: this.#name });
  }

  /** After a failure: lets go of everything. What was written stays: the next opening goes on from there. */
  async undo(): Promise<void> {
    this.#checkpointer?.stop();
    await this.#flusher?.stop();
    if (this.#core !== null) {
      this.#core.closed = true;
      await this.#core.reader.close();
      this.#core.releaseMemory();
    }
    await this.#closeLogFiles().catch((error: unknown) => this.#env.logger.log('warn', 'close-incomplete', { volume: this.#name, error }));
    await this.#core?.shipper?.stop();
    const isPrefetching = this.#core?.prefetch?.stop();
    this.#remote?.remote.close();
    await isPrefetching;
    await this.#remote?.store.close();
    await this.#lock.release();
  }

  /** Closes all, also behind one that fails. */
  async #closeLogFiles(): Promise<void> {
    const files = [...this.#logFiles, this.#markFile, this.#logWriting].filter((file) => file !== null);
    const results = await Promise.allSettled(files.map((file) => file.close()));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  #makeParts(core: VolumeCore, state: CheckpointState, nextChunk: number): { writes: WritePath; flusher: Flusher; checkpointer: Checkpointer; compactor: Compactor } {
    const checkpointer: Checkpointer = new Checkpointer(core, state, (task) => {
      flusher.serial.run(task).catch((error: unknown) => core.fail(toVolumeError(error, 'writing a checkpoint')));
    });
    const writes: WritePath = new WritePath(core, core.chunkedLsn);
    const flusher: Flusher = new Flusher(core, writes, nextChunk, {
      committed: (chunkCount, chunkBytes) => {
        compactor.flushed(chunkBytes);
        return checkpointer.chunksCommitted(chunkCount);
      },
    });
    const compactor = new Compactor(core, flusher, (chunkCount) => checkpointer.chunksCommitted(chunkCount));
    this.#flusher = flusher;
    this.#checkpointer = checkpointer;
    return { writes, flusher, checkpointer, compactor };
  }

  async #openLog(manifest: Manifest): Promise<void> {
    for (let index = 0; index < manifest.logFileCount; index += 1) {
      const path = logPath(this.#options.directory, index);
      if (!(await this.#env.files.exists(path))) throw new VolumeError('corrupt', `log file ${path} is missing; nothing was deleted`);
      this.#logFiles.push(await this.#env.files.open(path, 'write'));
    }
  }

  async #openMark({ volumeId, epoch }: Manifest): Promise<MarkWriter | null> {
    const { clock, logger } = this.#env;
    const file = await openSyncedMark(this.#env, this.#options.directory, this.#name);
    if (file === null) return null;
    this.#markFile = file;
    return new MarkWriter({ clock, file, volumeId, epoch, failed: (error) => logger.log('warn', 'no-synced-mark', { volume: this.#name, error: toVolumeError(error, 'writing the mark of what is synced') }) });
  }

  /** From here on, records of earlier epochs behind `lsn` are dead, whatever becomes of the ones that take their places. */
  async #cutLog(core: VolumeCore, flusher: Flusher, lsn: number): Promise<void> {
    await flusher.serial.run(() => core.replaceManifest({ ...core.manifest, cut: { epoch: core.manifest.epoch, lsn } }));
  }

  #makeLog(core: VolumeCore, flusher: Flusher, recovery: LogRecovery, { files, direct }: LogWriting, mark: MarkWriter | null): LogWriter {
    const { manifest, settings } = core;
    const ring = new LogRing({
      fileCount: manifest.logFileCount,
      fileBytes: manifest.logFileBytes,
      epoch: manifest.epoch,
      lives: recovery.lives,
      chunkedLsn: core.chunkedLsn,
    });
    return new LogWriter({
      clock: this.#env.clock,
      files,
      direct,
      ring,
      volumeId: manifest.volumeId,
      blockSizeBytes: manifest.blockSizeBytes,
      epoch: manifest.epoch,
      lastLsn: recovery.lastLsn,
      durability: manifest.durability,
      settings,
      events: {
        written: () => flusher.poke(),
        durable: (lsn) => mark?.durable(lsn),
        room: () => core.room.wake(),
        waitsForSpace: (error) => core.waitsForBucket(error),
        stalled: () => void Promise.all([core.releaseSpace(), this.#remote?.store.makeRoom()]),
        failed: (error) => core.fail(error),
      },
    });
  }
}
