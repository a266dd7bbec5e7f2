/**
 * The volumes of one data directory: `DIRECTORY/NAME` each. Opens one when it is first asked for, shares it between all who
 * ask, closes it when nobody has used it for a while. All of them share one arena.
 */
import { Arena, type ArenaUse } from '../base/arena.ts';
import { type VolumeCompression, chunkCompressionOf } from '../base/compression.ts';
import type { Durability } from '../base/durability.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { ChunkCompression, EngineSettings } from '../base/settings-types.ts';
import type { LimitChanges, VolumeLimits } from '../base/volume-limits.ts';
import type { Env, Timer } from '../env/env.ts';
import { changeClosed } from './change-closed.ts';
import { changeCompressionOffline } from './change-compression.ts';
import { changeDurabilityOffline } from './change-durability.ts';
import { describeFiles, listInfos, summarizeAll } from './describe-volume.ts';
import { type Followed, type OpenedVolume, followVolume, openServed, refreshFollowed, writable } from './follow-volume.ts';
import { readFollowing } from './following.ts';
import type { RemoteAccess } from './attach-remote.ts';
import type { BlockDevice, DeviceDirectory, DeviceSummary } from './block-device.ts';
import { createVolume } from './create-volume.ts';
import { IdleMemory } from './idle-memory.ts';
import type { LoadOptions } from './load-stored.ts';
import { removeVolume, renameVolume } from './move-volume.ts';
import { probeVolume } from './probe-volume.ts';
import type { CreateOptions, FollowStatus, ListedVolume, OnProgress, OpeningWatch, Probe, ScrubReport, VolumeInfo, VolumeStatus } from './volume-info.ts';
import { ReadOnlyVolume } from './read-only-volume.ts';
import { type NewRemote, checkNewBucket, withWriter } from './remote-volumes.ts';
import { refuseLoss } from './resize.ts';
import { type RestoreOptions, type Restored, restoreVolume } from './restore-volume.ts';
import { type TakenOver, finishTakeovers, takeVolumeOver } from './take-over.ts';
import { checkVolumeName } from './volume-name.ts';
import { type Labels, PropertyStore } from './volume-properties.ts';
import { holdsVolume, interruptedRepair, lockPath, repairPath, volumeNames } from './volume-files.ts';
import { Volume } from './volume.ts';

/** How a volume is taken from its bucket. */
export type TakingOptions = Pick<RestoreOptions, 'isForced' | 'prefetches' | 'onProgress'>;

export interface VolumeSetOptions {
  readonly env: Env;
  readonly directory: string;
  readonly settings: EngineSettings;
  /** Asked for each volume that is about to be opened: who wants to know how far that is. */
  readonly watchOpening?: (name: string) => OpeningWatch;
  /** For volumes that have a bucket. */
  readonly remotes?: RemoteAccess;
}

interface OpenEntry {
  readonly opening: Promise<OpenedVolume>;
  users: number;
  /** Set when it is open. */
  volume: OpenedVolume | null;
  idleTimer: Timer | null;
}

export class VolumeSet implements DeviceDirectory {
  readonly #env: Env;
  readonly #directory: string;
  readonly #settings: EngineSettings;
  readonly #arena: Arena;
  readonly #watchOpening: (name: string) => OpeningWatch;
  readonly #remotes: RemoteAccess | null;
  readonly #properties: PropertyStore;
  readonly #open = new Map<string, OpenEntry>();
  /** Closings under way, and what needs a closed volume for a moment: the next opening of the name waits for its own. */
  readonly #busy = new Map<string, Promise<void>>();
  /** Why volumes could not be opened for writing when that was tried last. */
  readonly #damage = new Map<string, string>();
  /** Volumes that a scrub goes through. */
  readonly #scrubbed = new Set<string>();
  #tidying: Promise<void> | null = null;
  #closed = false;

  constructor(options: VolumeSetOptions) {
    this.#env = options.env;
    this.#directory = options.directory;
    this.#settings = options.settings;
    this.#watchOpening = options.watchOpening ?? (() => ({ onProgress: () => undefined, end: () => undefined }));
    this.#remotes = options.remotes ?? null;
    this.#properties = new PropertyStore(options.env);
    this.#arena = new Arena({ arenaBytes: options.settings.arenaBytes, dirtyBytes: options.settings.dirtyBytes });
    IdleMemory.watch({ env: options.env, arena: this.#arena });
  }

  #pathOf(name: string): string {
    checkVolumeName(name);
    return `${this.#directory}/${name}`;
  }

  /** Makes a volume, in `remote` if it is given. Errors: as `createVolume`, `checkNewBucket`, and `invalid-argument` for the name. */
  async create(name: string, options: CreateOptions, remote?: NewRemote): Promise<VolumeInfo> {
    const directory = this.#pathOf(name);
    const config = remote === undefined ? null : withWriter(remote, this.#env);
    if (config !== null) await checkNewBucket(this.#env, this.#remoteAccess, config);
    const { log, ...create } = options;
    await createVolume({ env: this.#env, directory, settings: { ...this.#settings, ...log }, create, ...(config === null ? {} : { remote: config }) });
    this.#env.logger.log('info', 'volume-created', { volume: name, ...create });
    return this.describe(name);
  }

  get #remoteAccess(): RemoteAccess {
    if (this.#remotes === null) throw new VolumeError('unsupported', 'this program opens no buckets');
    return this.#remotes;
  }

  /** Makes a volume of what its bucket has. Errors: as `restoreVolume`, and `invalid-argument` for the name. */
  openRemote(name: string, config: NewRemote, options: TakingOptions): Promise<Restored> {
    const directory = this.#pathOf(name);
    return restoreVolume({ env: this.#env, directory, settings: this.#settings, access: this.#remoteAccess, config, ...options });
  }

  /** Makes a volume that is read here while another host writes it. Errors: as `followVolume`, and `invalid-argument` for the name. */
  follow(name: string, config: NewRemote, options: { readonly isPinned: boolean; readonly onProgress: OnProgress }): Promise<Followed> {
    return followVolume({ env: this.#env, directory: this.#pathOf(name), access: this.#remoteAccess, config, ...options });
  }

  /** Moves a volume that is followed on to the newest state there is. Errors: as `acquire`, `FollowedVolume.refresh`; `unsupported`: it is this host's own. */
  async refresh(name: string): Promise<FollowStatus> {
    await this.#existing(name);
    return this.#using(name, refreshFollowed);
  }

  /**
   * Takes a volume back that another host has: what is here of it is moved aside, to `keptAs`, and the volume made of its bucket. Errors: as `openRemote`; `in-use`, `unsupported`
   * (it has no bucket), `not-found`.
   */
  async takeOver(name: string, options: TakingOptions): Promise<TakenOver> {
    const done = await this.#whileClosed(name, async () => {
      await this.#existing(name);
      return takeVolumeOver({ env: this.#env, parent: this.#directory, name, settings: this.#settings, access: this.#remoteAccess, ...options });
    });
    if (done === null) throw new VolumeError('in-use', `volume ${name} is open; stop the server that has it, and try again`);
    return done;
  }

  /** Before the directory is looked at for the first time: what a process that died in the middle of a takeover has left is finished. */
  #tidyUp(): Promise<void> {
    this.#tidying ??= finishTakeovers(this.#env, this.#directory).catch((error: unknown) => {
      // Whoever asks for a volume is told what is wrong with the directory.
      this.#env.logger.log('debug', 'directory-not-looked-at', { directory: this.#directory, error: toVolumeError(error, `listing ${this.#directory}`) });
    });
    return this.#tidying;
  }

  /** Makes all that was written to a volume durable in its bucket; opens it for that if it is closed. Errors: as `acquire`, `unsupported`, `fenced`. */
  async drain(name: string, { isLast = false } = {}): Promise<VolumeStatus> {
    return this.#using(name, async (opened) => {
      const volume = writable(opened);
      await volume.drain({ isLast });
      return volume.status();
    });
  }

  /** Errors: as `acquire`, and those of `task`. */
  async #using<T>(name: string, task: (volume: OpenedVolume) => Promise<T>): Promise<T> {
    const volume = await this.acquireVolume(name);
    try {
      return await task(volume);
    } finally {
      this.release(volume);
    }
  }

  /** Drains all volumes that are open and have a bucket, before they are closed. Rejects, when all of them are through, with what kept the first one from it. */
  async drainAll(): Promise<void> {
    const names = [...this.#open.keys()].filter((name) => (this.statusOf(name)?.shipping ?? null) !== null);
    const outcomes = await Promise.allSettled(names.map((name) => this.drain(name, { isLast: true })));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  /** What is known of a volume without opening it. Errors: `not-found`, `corrupt`, `io-error`. */
  async describe(name: string): Promise<VolumeInfo> {
    checkVolumeName(name);
    await this.#tidyUp();
    return this.#describe(name).catch((error: unknown) => {
      throw toVolumeError(error, `looking at volume ${name}`);
    });
  }

  async #describe(name: string): Promise<VolumeInfo> {
    const directory = await this.#existing(name);
    const files = await describeFiles(this.#env, directory, name, this.#settings);
    const damage = files.follows === null ? await this.#damageOf(name, directory) : null;
    return {
      ...files,
      ...(await this.#properties.ifSound(directory)),
      open: await this.#isOpen(name, directory),
      damage,
      damageLookedFor: damage !== null || (this.#open.get(name)?.volume ?? null) !== null,
    };
  }

  async #damageOf(name: string, directory: string): Promise<string | null> {
    const known = this.#open.get(name)?.volume?.status().readOnly ?? this.#damage.get(name) ?? null;
    if (known !== null || !(await this.#env.files.exists(repairPath(directory)))) return known;
    return interruptedRepair(name);
  }

  /**
   * Looks whether a volume that is not open could be opened for writing, as far as its opening would, all but the blocks in its chunks; and what
   * these take. Null: somebody has it open. Changes nothing. Errors: `not-found`, `io-error`.
   */
  async probe(name: string): Promise<Probe | null> {
    const directory = await this.#existing(name);
    if ((await readFollowing(this.#env.files, directory)) !== null) return { damage: null, space: null };
    return this.#whileClosed(name, () => probeVolume({ env: this.#env, directory, name, settings: this.#settings, arena: this.#arena }));
  }

  /** The directory of a volume that is there. */
  async #existing(name: string): Promise<string> {
    const directory = this.#pathOf(name);
    await this.#tidyUp();
    if (!(await holdsVolume(this.#env.files, directory))) throw await this.#notFound(name);
    return directory;
  }

  async #notFound(name: string): Promise<VolumeError> {
    const names = await this.#names();
    const known = names.length === 0 ? 'there are none' : `there are: ${names.slice(0, 10).join(', ')}${names.length > 10 ? ', ...' : ''}`;
    return new VolumeError('not-found', `there is no volume ${JSON.stringify(name)} in ${this.#directory}; ${known}`);
  }

  async #isOpen(name: string, directory: string): Promise<boolean> {
    const lockedByOther = await this.#whileClosed(name, async () => {
      const lock = await this.#env.files.lock(lockPath(directory));
      await lock?.release();
      return lock === null;
    });
    return lockedByOther ?? true;
  }

  /**
   * Runs `task` while nobody in this process has the volume open; whoever opens it waits meanwhile, so that a lock taken for a
   * moment turns no client away. Null, without running it, if it is open.
   */
  async #whileClosed<T>(name: string, task: () => Promise<T>): Promise<T | null> {
    while (this.#busy.has(name)) await this.#busy.get(name);
    if (this.#open.has(name)) return null;
    const outcome = task();
    this.#setBusy(name, outcome);
    return outcome;
  }

  /** Whoever opens the name next only waits: how `task` ends is its caller's business. */
  #setBusy(name: string, task: Promise<unknown>): void {
    const end = (): void => void this.#busy.delete(name);
    this.#busy.set(name, task.then(end, end));
  }

  async #names(): Promise<string[]> {
    await this.#tidyUp();
    return volumeNames(this.#env.files, this.#directory);
  }

  /** Every volume, sorted by name; one that is damaged keeps nobody from seeing the others. */
  async describeAll(): Promise<ListedVolume[]> {
    return listInfos(await this.#names(), (name) => this.describe(name));
  }

  /** What is known of a volume only while it is open here; null if it is not. */
  statusOf(name: string): VolumeStatus | null {
    return this.#open.get(name)?.volume?.status() ?? null;
  }

  /** Names of the volumes that are open here, sorted. */
  openNames(): string[] {
    return [...this.#open].flatMap(([name, { volume }]) => (volume === null ? [] : [name])).toSorted();
  }

  /** Block memory of all volumes: its size, and what of it is in use. Bytes. */
  memory(): ArenaUse {
    return this.#arena.use();
  }

  /**
   * Changes the durability mode of a volume, open here or nowhere. On return the manifest says it durably, and what was written
   * before is durable. Errors: `not-found`, `in-use` (another process has it open), `corrupt`, `failed`, `no-space`, `io-error`.
   */
  async setDurability(name: string, durability: Durability): Promise<void> {
    await this.#change(name, 'durability', {
      closed: (options) => changeDurabilityOffline(options, durability),
      open: (volume) => volume.setDurability(durability),
    });
  }

  /** Changes whether new chunks of a volume are compressed, in the same way; returns what becomes of them now. Errors: as for `setDurability`. */
  async setCompression(name: string, compression: VolumeCompression): Promise<ChunkCompression> {
    await this.#change(name, 'compression', {
      closed: (options) => changeCompressionOffline(options, compression),
      open: (volume) => volume.setCompression(compression),
    });
    return chunkCompressionOf(compression, this.#settings.chunkCompress);
  }

  async #change(name: string, what: string, by: { readonly closed: (options: LoadOptions) => Promise<void>; readonly open: (volume: OpenedVolume) => Promise<void> }): Promise<void> {
    const changing = this.#whileClosed(name, async () => {
      const directory = await this.#existing(name);
      return changeClosed({ env: this.#env, directory, name, settings: this.#settings, arena: this.#arena }, by.closed);
    });
    const isDone = await changing.catch((error: unknown) => {
      throw toVolumeError(error, `changing the ${what} of volume ${name}`);
    });
    if (isDone === true) return;
    await this.#using(name, by.open);
  }

  /**
   * Reads all chunks of a volume once, at `bytesPerSecond` (null: as the settings say); one that is closed is opened. Errors: as
   * `acquire`; `in-use` while another scrub of it runs; `closed` when it was ended early.
   */
  async scrub(name: string, options: { readonly bytesPerSecond: number | null; readonly onProgress: OnProgress; readonly signal: AbortSignal }): Promise<ScrubReport> {
    if (this.#scrubbed.has(name)) throw new VolumeError('in-use', `volume ${name} is being scrubbed already; one scrub at a time is enough`);
    this.#scrubbed.add(name);
    try {
      await this.#existing(name);
      return await this.#using(name, (volume) => volume.scrub({ ...options, bytesPerSecond: options.bytesPerSecond ?? this.#settings.scrubBytesPerSecond }));
    } finally {
      this.#scrubbed.delete(name);
    }
  }

  /** Deletes a volume and all its data. Errors: `not-found`, `in-use`, `io-error`. */
  async remove(name: string): Promise<void> {
    await this.#moveUnused(name, 'deleting', () => removeVolume(this.#env, this.#directory, name));
    this.#env.logger.log('info', 'volume-deleted', { volume: name });
  }

  /** Gives a volume that no client uses another name. Errors: `not-found`, `in-use`, `already-exists`, `invalid-argument`, `io-error`. */
  async rename(name: string, target: string): Promise<void> {
    checkVolumeName(target);
    if (this.#open.has(target) || this.#busy.has(target)) throw new VolumeError('already-exists', `there is a volume ${JSON.stringify(target)} already; choose another name`);
    await this.#moveUnused(name, 'renaming', () => renameVolume(this.#env, this.#directory, { source: name, target }));
    this.#env.logger.log('info', 'volume-renamed', { volume: target, renamedFrom: name });
  }

  /** Runs `move`, which says false if another process has the volume open, while nobody here has; one that is open and has no users is closed for that. */
  async #moveUnused(name: string, doing: string, move: () => Promise<boolean>): Promise<void> {
    const entry = this.#open.get(name);
    if (entry !== undefined && entry.users === 0 && entry.volume !== null && entry.volume.failure === null) {
      entry.idleTimer?.cancel();
      await this.#closeEntry(name, entry);
    }
    const isDone = await this.#whileClosed(name, () => this.#existing(name).then(move)).catch((error: unknown) => {
      throw toVolumeError(error, `${doing} volume ${name}`);
    });
    if (isDone !== true) throw new VolumeError('in-use', `volume ${name} is open; disconnect its clients, or stop the server that has it, and try again`);
    this.#damage.delete(name);
  }

  /**
   * Gives a volume another size, whether clients use it or not. A smaller one needs `mayShrink`: what it cuts off is gone. Errors: as `acquire` and
   * `resizeVolume`; `invalid-argument` without that consent: its message says what would be lost, its context has `needsConsent`.
   */
  async resize(name: string, sizeBytes: number, { mayShrink }: { readonly mayShrink: boolean }): Promise<void> {
    await this.#existing(name);
    await this.#using(name, async (opened) => {
      const volume = writable(opened);
      if (!mayShrink) await refuseLoss(volume, sizeBytes, (this.#open.get(name)?.users ?? 1) - 1);
      await volume.resize(sizeBytes);
    });
  }

  /** Labels of a volume, open or not. Errors: `not-found`, `corrupt`, `unsupported`, `io-error`. */
  async labelsOf(name: string): Promise<Labels> {
    return (await this.#properties.of(await this.#existing(name))).labels;
  }

  /** Limits for the clients of a volume, open or not. Errors: as `labelsOf`. */
  async limitsOf(name: string): Promise<VolumeLimits> {
    return (await this.#properties.of(await this.#existing(name))).limits;
  }

  /** Changes some limits; returns all of them. Errors: as `setLabels`. */
  async setLimits(name: string, changes: LimitChanges): Promise<VolumeLimits> {
    return this.#properties.changeLimits(await this.#existing(name), changes);
  }

  limitsInForce(name: string): VolumeLimits {
    return this.#properties.limitsInForce(`${this.#directory}/${name}`);
  }

  /** Sets labels, and takes those away that are null; returns all of them. Errors: `not-found`, `invalid-argument`, `no-space`, `io-error`. */
  async setLabels(name: string, changes: Readonly<Record<string, string | null>>): Promise<Labels> {
    return this.#properties.changeLabels(await this.#existing(name), changes);
  }

  async list(): Promise<DeviceSummary[]> {
    return summarizeAll(this.#env, this.#directory, await this.#names());
  }

  async acquire(name: string): Promise<BlockDevice> {
    return this.acquireVolume(name);
  }

  /** `acquire`, for who needs more than a BlockDevice. */
  async acquireVolume(name: string): Promise<OpenedVolume> {
    const directory = this.#pathOf(name);
    await this.#tidyUp();
    await this.#closeIfSpaceMayBeBack(name);
    while (this.#busy.has(name)) await this.#busy.get(name);
    if (this.#closed) throw new VolumeError('closed', 'the server is shutting down');
    const entry = this.#open.get(name) ?? this.#startOpening(name, directory);
    entry.users += 1;
    entry.idleTimer?.cancel();
    entry.idleTimer = null;
    return entry.opening;
  }

  /** A volume that nobody uses, and that a full disk kept from being opened for writing, gets another chance. */
  async #closeIfSpaceMayBeBack(name: string): Promise<void> {
    const entry = this.#open.get(name);
    if (entry === undefined || entry.users > 0 || !(entry.volume instanceof ReadOnlyVolume) || entry.volume.reason.code !== 'no-space') return;
    entry.idleTimer?.cancel();
    await this.#closeEntry(name, entry);
  }

  #startOpening(name: string, directory: string): OpenEntry {
    const watch = this.#watchOpening(name);
    const opening = this.#properties.loadLimits(directory).then(() => openServed({ env: this.#env, directory, settings: this.#settings, name, arena: this.#arena, onProgress: watch.onProgress, ...(this.#remotes === null ? {} : { remotes: this.#remotes }) })).finally(() => watch.end());
    const entry: OpenEntry = { opening, users: 0, volume: null, idleTimer: null };
    this.#open.set(name, entry);
    opening.then(
      (volume) => {
        entry.volume = volume;
        this.#damage.delete(name);
      },
      (error: unknown) => {
        this.#open.delete(name);
        if (error instanceof VolumeError && error.code === 'corrupt') this.#damage.set(name, error.message);
        this.#env.logger.log('warn', 'volume-not-opened', { volume: name, error });
      },
    );
    return entry;
  }

  release(device: BlockDevice): void {
    const { name } = device;
    const entry = this.#open.get(name);
    if (entry === undefined) return;
    entry.users -= 1;
    if (entry.users > 0 || this.#closed) return;
    this.#closeWhenIdle(name, entry);
  }

  #closeWhenIdle(name: string, entry: OpenEntry): void {
    entry.idleTimer = this.#env.clock.setTimer(this.#settings.idleCloseMs, () => {
      this.#closeIdle(name, entry).catch((error: unknown) => this.#env.logger.log('error', 'close-failed', { volume: name, error }));
    });
  }

  async #closeIdle(name: string, entry: OpenEntry): Promise<void> {
    const { volume } = entry;
    // A failed volume stays open, for reading, until the process ends: opened anew it would take what the page cache has for
    // what is on the disk, and a failed sync may have parted the two (I4).
    const mayClose = (): boolean => entry.users === 0 && (entry.volume?.failure ?? null) === null && this.#open.get(name) === entry;
    if (!mayClose()) return;
    // A closed volume ships no more.
    if (volume instanceof Volume && volume.status().shipping !== null) {
      const isDrained = await volume.drain().then(
        () => true,
        (error: unknown) => {
          this.#env.logger.log('warn', 'not-drained', { volume: name, error: toVolumeError(error, `draining volume ${name}`) });
          return false;
        },
      );
      if (!mayClose() || this.#closed) return;
      if (!isDrained) return this.#closeWhenIdle(name, entry);
    }
    await this.#closeEntry(name, entry);
  }

  #closeEntry(name: string, entry: OpenEntry): Promise<void> {
    this.#open.delete(name);
    const closing = entry.opening.then((volume) => volume.close());
    this.#setBusy(name, closing);
    return closing;
  }

  /** Flushes and closes all open volumes. Rejects with the first failure, after all were tried. */
  async close(): Promise<void> {
    this.#closed = true;
    const failures: unknown[] = [];
    for (const [name, entry] of this.#open) {
      entry.idleTimer?.cancel();
      await this.#closeEntry(name, entry).catch((error: unknown) => failures.push(error));
    }
    await Promise.all(this.#busy.values());
    if (failures.length > 0) throw failures[0];
  }
}
