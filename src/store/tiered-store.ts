/**
 * The objects of a volume with a bucket: new ones in the directory first, all of them shipped to the bucket in time, and those that were shipped
 * only as long as there is room for them here. What is not shipped never goes for want of room.
 *
 * What the bucket has is known from a listing when the volume is opened, and from what was shipped since. It is no part of any promise: who ships
 * says what counts (`volume/shipper.ts`).
 */
import { assert } from '../base/assert.ts';
import { checksum, formatChecksum } from '../base/checksum.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { Clock, FileSystem } from '../env/env.ts';
import { AheadObjects } from './ahead-objects.ts';
import { CopyCache } from './copy-cache.ts';
import type { DirectoryStore } from './directory-store.ts';
import { FAR_PREFIX, FarFile, type FarOptions, FetchDemand, ReadAhead } from './far-objects.ts';
import { LocalCopy } from './local-copy.ts';
import { replaceFromBucket } from './replace-copy.ts';
import type { ObjectStore, StagedObject, StoredObject } from './object-store.ts';
import type { RemoteStore } from './remote-store.ts';
import { type Lease, ShipCopies } from './ship-copies.ts';
import { TieredStagedObject } from './tiered-staged.ts';

export interface TierOptions {
  readonly clock: Pick<Clock, 'nowMs' | 'setTimer'>;
  readonly local: DirectoryStore;
  readonly files: FileSystem;
  /** The volume's directory. */
  readonly directory: string;
  readonly remote: Pick<RemoteStore, 'getRange'>;
  /** What keys of objects begin with that are shipped for their own sake. */
  readonly shippedFolder: string;
  /** Objects that are in the bucket as well, and parts of those that are only there, may take so much here. */
  readonly cacheBytes: number;
  /** Those that were not read for so long go; 0: for want of room alone. */
  readonly cacheTtlMs: number;
  readonly fetchBytes: number;
  /** Memory for what is fetched ahead. */
  readonly readAheadBytes: number;
  /** Memory for copies of what waits to be shipped. */
  readonly shipMemoryBytes: number;
  readonly shipConcurrency: number;
  /** Longer objects are neither fetched ahead as a whole nor copied. */
  readonly bufferBytes: number;
  /** What is wrong with the bytes of an object that is shipped for its own sake; null: it is what was written. */
  readonly problemOf: (key: string, bytes: Uint8Array) => Promise<string | null>;
  /** An object was rotten here; `isHealed`: it was made anew from the bucket's copy, else that one is read. */
  readonly onRotten: (key: string, isHealed: boolean) => void;
}

/** On a full disk so much of what the bucket has goes at a time. */
const ROOM_BYTES = 64 * 1024 * 1024;
/** Most of one request; a larger range is fetched by several, side by side. */
const REQUEST_BYTES = 1024 * 1024;

/** Most that is read ahead within an object. */
const OBJECT_AHEAD_BYTES = 4 * 1024 * 1024;

export class TieredStore implements ObjectStore {
  readonly #options: TierOptions;
  readonly #local: DirectoryStore;
  readonly #farOptions: FarOptions;
  /** Sizes of the objects that the bucket has and the volume uses. */
  readonly #shipped = new Map<string, number>();
  /** Those that are here and not in the bucket, in no order. */
  readonly #unshipped = new Map<string, number>();
  /** Checksums of objects that were written since the store was opened, and that are not checked by themselves. */
  readonly #checksums = new Map<string, number>();
  readonly #healing = new Map<string, Promise<boolean>>();
  readonly #cache: CopyCache;
  readonly #far = new Map<string, FarFile>();
  readonly #ahead: AheadObjects;
  readonly #copies: ShipCopies;
  /** Objects that must be shipped though they are not used any more, and those of them that were removed. */
  #pinned: ReadonlySet<string> = new Set();
  readonly #leaving = new Map<string, number>();
  /** Objects of the bucket that were removed here. */
  readonly #doomed = new Set<string>();
  #unshippedBytes = 0;
  /** The last search for room on a full disk found some: whoever met that tries again. */
  #hasMadeRoom = false;
  #makingRoom: Promise<void> | null = null;
  /** Told of an object that is shipped for its own sake, and was removed before that. */
  onDropped: (key: string) => void = () => undefined;
  /** What is wrong with the bytes of an object that is shipped for its own sake; null: it is what was written. */
  problemOf: TierOptions['problemOf'];
  /** Told when something was published. */
  onPublished: () => void = () => undefined;
  /** Whether an object that is in the bucket, too, may go from here. */
  mayEvict: (key: string) => boolean = () => false;
  /** One is about to go: whoever has it open should let go of it. */
  onEvict: (key: string) => void = () => undefined;
  /** The disk is full, and nothing may go. */
  onNoRoom: () => void = () => undefined;
  /** Something here is damaged, and it is not known what: of what the bucket has nothing is read here before it was made anew. */
  isDistrusted = false;

  constructor(options: TierOptions) {
    this.#options = options;
    this.#local = options.local;
    this.problemOf = options.problemOf;
    this.#cache = new CopyCache({ clock: options.clock, limitBytes: options.cacheBytes, ttlMs: options.cacheTtlMs, mayEvict: (key) => this.mayEvict(key), remove: (key, bytes) => this.#evict(key, bytes) });
    this.#farOptions = {
      files: options.files,
      directory: options.directory,
      remote: options.remote,
      pieceBytes: options.fetchBytes,
      requestBytes: Math.max(REQUEST_BYTES, options.fetchBytes),
      readAhead: new ReadAhead(options.fetchBytes, Math.min(options.readAheadBytes, OBJECT_AHEAD_BYTES)),
      onFetched: (key, bytes) => this.#cache.count(key, bytes),
      onRead: (key) => this.#cache.use(key),
      demand: new FetchDemand(),
      onWhole: (key, path) => this.#adopt(key, path),
    };
    const { local, remote, clock, bufferBytes: objectBytes } = options;
    // What is just being removed here would go with it.
    const mayKeep = (key: string): boolean => this.#isAway(key) && !this.#cache.isLeaving(key) && (this.#shipped.get(key) ?? 0) <= options.cacheBytes;
    const onKept = (key: string, bytes: number): void => this.#cache.count(key, bytes);
    this.#ahead = new AheadObjects({ local, remote, clock, memoryBytes: options.readAheadBytes, objectBytes, mayKeep, onKept, onRead: (key) => this.#cache.use(key) });
    this.#copies = new ShipCopies({ memoryBytes: options.shipMemoryBytes, objectBytes, readersMax: options.shipConcurrency });
  }

  /** Bytes here that are in the bucket as well. */
  get cachedBytes(): number {
    return this.#cache.bytes;
  }

  /** Objects that the bucket does not have, and their bytes. */
  get unshipped(): ReadonlyMap<string, number> {
    return this.#unshipped;
  }

  /** Of all objects of the volume that are in the bucket. */
  get shippedBytes(): number {
    let bytes = 0;
    for (const sizeBytes of this.#shipped.values()) bytes += sizeBytes;
    return bytes;
  }

  get unshippedBytes(): number {
    return this.#unshippedBytes;
  }

  isShipped(key: string): boolean {
    return this.#shipped.has(key);
  }

  /**
   * To be called once, under the volume's lock and before anything is opened: `remote` is what the bucket has, by its sizes; of what is not here those
   * count that `mayBeAway`. Removes what an earlier process fetched of objects. Errors: `corrupt`, `io-error`.
   */
  async attach(folders: readonly string[], remote: ReadonlyMap<string, number>, mayBeAway: (key: string) => boolean): Promise<void> {
    const { files, directory } = this.#options;
    const here = new Set<string>();
    for (const folder of folders) {
      for (const name of await files.list(`${directory}/${folder}`)) if (name.startsWith(FAR_PREFIX)) await files.remove(`${directory}/${folder}/${name}`);
      for (const name of await this.#local.list(folder)) here.add(`${folder}/${name}`);
    }
    for (const key of here) await this.#attachLocal(key, remote.get(key));
    for (const [key, sizeBytes] of remote) if (!here.has(key) && mayBeAway(key)) this.#shipped.set(key, sizeBytes);
    this.#cache.evictSoon();
  }

  async #attachLocal(key: string, remoteBytes: number | undefined): Promise<void> {
    if (remoteBytes !== undefined) {
      // The same object: a name is given to one only, and when all of it is there.
      this.#shipped.set(key, remoteBytes);
      if (key.startsWith(this.#options.shippedFolder)) this.#cache.count(key, remoteBytes);
      return;
    }
    const object = await this.#local.open(key);
    this.#added(key, object.sizeBytes);
    await object.close();
  }

  /** What the bucket has more of the volume, for who only reads it there. */
  extend(remote: ReadonlyMap<string, number>): void {
    for (const [key, sizeBytes] of remote) this.#shipped.set(key, sizeBytes);
  }

  /** Lets go of what is in the bucket and not among `remote`. */
  async retain(remote: ReadonlyMap<string, number>): Promise<void> {
    for (const key of [...this.#shipped.keys()]) {
      if (remote.has(key)) continue;
      this.#shipped.delete(key);
      this.#cache.uncount(key);
      this.#ahead.forget(key);
      await this.#removeHere(key, 0);
    }
  }

  async prepare(folders: readonly string[]): Promise<void> {
    await this.#local.prepare(folders);
  }

  async stage(key: string, sizeBytes?: number): Promise<StagedObject> {
    const makeRoom = (): Promise<void> => this.makeRoom();
    const inner = await this.#whileRoom(() => this.#local.stage(key, sizeBytes));
    const hasChecksums = key.startsWith(this.#options.shippedFolder);
    const copy = hasChecksums && sizeBytes !== undefined ? this.#copies.begin(sizeBytes) : null;
    return new TieredStagedObject({ key, inner, makeRoom, hasChecksums, copies: this.#copies, copy });
  }

  /** A full disk: what the bucket has goes from here, so that the next try may find room. */
  async #whileRoom<T>(attempt: () => Promise<T>): Promise<T> {
    try {
      return await attempt();
    } catch (error) {
      if (toVolumeError(error, 'storing').code === 'no-space') await this.makeRoom();
      throw error;
    }
  }

  async publish(objects: readonly StagedObject[]): Promise<void> {
    const staged = objects.map((object) => {
      assert(object instanceof TieredStagedObject, 'an object of another store is published');
      return object;
    });
    await this.#whileRoom(() => this.#local.publish(staged.map(({ inner }) => inner)));
    for (const object of staged) {
      object.published();
      this.#added(object.key, object.byteCount);
      if (!object.key.startsWith(this.#options.shippedFolder)) this.#checksums.set(object.key, object.checksum);
    }
    this.onPublished();
  }

  /** Only chunks are shipped for their own sake; checkpoints go with a root. */
  #added(key: string, sizeBytes: number): void {
    if (!key.startsWith(this.#options.shippedFolder)) return;
    this.#unshipped.set(key, sizeBytes);
    this.#unshippedBytes += sizeBytes;
  }

  /** False: it was not among them. */
  #leavesUnshipped(key: string): boolean {
    this.#copies.drop(key);
    this.#unshippedBytes -= this.#unshipped.get(key) ?? 0;
    return this.#unshipped.delete(key);
  }

  /** The bytes of an object that is here, checked; null: it was removed. Errors: as of `open`; `corrupt`, which says `rotten` in its context. */
  async leaseSound(key: string): Promise<Lease | null> {
    const copy = this.#copies.lease(key);
    if (copy !== null) {
      if ((await this.#problemOf(key, copy)) === null) return copy;
      // Memory is not what it was: what is on the disk may be.
      this.#copies.drop(key);
      copy.release(false);
    }
    const lease = await this.#readHere(key);
    const problem = lease === null ? null : await this.#problemOf(key, lease);
    if (problem === null) return lease;
    lease?.release(true);
    throw new VolumeError('corrupt', `${problem}: it is rotten here, and not shipped`, { context: { key, rotten: true } });
  }

  #problemOf(key: string, { bytes }: Lease): Promise<string | null> {
    const expected = this.#checksums.get(key);
    const found = expected === undefined ? 0 : checksum(bytes);
    if (expected === undefined || found === expected) return this.problemOf(key, bytes);
    return Promise.resolve(`${key}: checksum ${formatChecksum(found)}, expected ${formatChecksum(expected)}`);
  }

  async #readHere(key: string): Promise<Lease | null> {
    let object: StoredObject;
    try {
      object = await this.#local.open(key);
    } catch (error) {
      if (error instanceof VolumeError && error.code === 'not-found') return null;
      throw error;
    }
    const lease = this.#copies.leaseForReading(object.sizeBytes);
    try {
      await object.read(lease.bytes, 0);
      return lease;
    } catch (error) {
      lease.release(true);
      throw error;
    } finally {
      await object.close();
    }
  }

  /** The bucket has an object of so many bytes that is, or was, here. */
  async shipped(key: string, sizeBytes: number): Promise<void> {
    const isCached = this.#leavesUnshipped(key);
    this.#shipped.set(key, sizeBytes);
    if (isCached) this.#cache.count(key, sizeBytes);
    if (this.#leaving.delete(key)) await this.remove(key, sizeBytes);
  }

  /** From now on objects of `keys` stay until they are shipped, removed or not; what was pinned before and is not among them goes as it would have. */
  async pin(keys: ReadonlySet<string>): Promise<void> {
    this.#pinned = keys;
    for (const [key, sizeBytes] of this.#leaving) {
      if (keys.has(key)) continue;
      this.#leaving.delete(key);
      await this.remove(key, sizeBytes);
    }
  }

  /** Objects of the bucket that the volume has removed: for who ships to remove there, when no root there refers to them. */
  takeDoomed(): string[] {
    const keys = [...this.#doomed];
    this.#doomed.clear();
    return keys;
  }

  /** What could not be removed there stays to be removed. */
  returnDoomed(keys: readonly string[]): void {
    for (const key of keys) this.#doomed.add(key);
  }

  /** The bucket has it, and nothing of it is here. */
  #isAway(key: string): boolean {
    return this.#shipped.has(key) && !this.#cache.has(key) && !this.#far.has(key);
  }

  /** Fetches an object as a whole, if nothing of it is here: it will be read soon. False: there is no memory for it now, and it may be asked for again. */
  fetchAhead(key: string): boolean {
    const sizeBytes = this.#isAway(key) ? this.#shipped.get(key) : undefined;
    // While it is being removed here its name is taken.
    return sizeBytes === undefined || this.#cache.isLeaving(key) || this.#ahead.begin(key, sizeBytes);
  }

  async open(key: string): Promise<StoredObject> {
    return this.#ahead.open(key, () => this.#open(key)) ?? (await this.#open(key));
  }

  async #open(key: string): Promise<StoredObject> {
    const far = this.#far.get(key);
    if (far !== undefined) {
      this.#cache.use(key);
      return far.open();
    }
    try {
      const object = await this.#local.open(key);
      this.#cache.use(key);
      const other = {
        sizeBytes: () => this.#shipped.get(key),
        onRead: () => this.#cache.use(key),
        heal: () => this.heal(key),
        openHere: () => this.#local.open(key),
        readThere: (target: Uint8Array, offsetBytes: number) => this.#options.remote.getRange(key, target, offsetBytes),
      };
      return new LocalCopy(object, other, !this.isDistrusted);
    } catch (error) {
      const sizeBytes = this.#shipped.get(key);
      if (!(error instanceof VolumeError) || error.code !== 'not-found' || sizeBytes === undefined) throw error;
      return this.#farFile(key, sizeBytes).open();
    }
  }

  #farFile(key: string, sizeBytes: number): FarFile {
    const far = this.#far.get(key) ?? new FarFile(key, sizeBytes, this.#farOptions);
    this.#far.set(key, far);
    return far;
  }

  /** Keys of what is here and in the bucket, the one that was used last first. */
  newestCopies(): string[] {
    return this.#cache.newest();
  }

  /** Marks one as used now. */
  use(key: string): void {
    this.#cache.use(key);
  }

  /** Bytes of an object that is in the bucket and not here as a whole; null: it is here, or not in the bucket. */
  async bytesAway(key: string): Promise<number | null> {
    const sizeBytes = this.#shipped.get(key);
    if (sizeBytes === undefined) return null;
    return this.#cache.has(key) && !this.#far.has(key) && (await this.#options.files.exists(`${this.#options.directory}/${key}`)) ? null : sizeBytes;
  }

  /** Fetches an object that is in the bucket alone, behind those who read. False: it is not kept here, for want of room say. Errors: those of the bucket. */
  async fetchWhole(key: string, onFetched: (bytes: number) => void): Promise<boolean> {
    const sizeBytes = await this.bytesAway(key);
    return sizeBytes === null || this.#farFile(key, sizeBytes).fetchAll(onFetched);
  }

  /**
   * Makes the copy here of an object anew from the bucket's. False: that is not there, not sound or cannot be checked, or there is no room for it. Errors:
   * those of the bucket.
   */
  heal(key: string): Promise<boolean> {
    const running = this.#healing.get(key) ?? this.#heal(key).finally(() => this.#healing.delete(key));
    this.#healing.set(key, running);
    return running;
  }

  async #heal(key: string): Promise<boolean> {
    const { shippedFolder, onRotten } = this.#options;
    const sizeBytes = this.#shipped.get(key);
    if (sizeBytes === undefined) return false;
    const isHealed = key.startsWith(shippedFolder) && (await replaceFromBucket({ ...this.#options, problemOf: this.problemOf }, key, sizeBytes, () => this.#cache.has(key)));
    onRotten(key, isHealed);
    return isHealed;
  }

  async list(folder: string): Promise<string[]> {
    const names = new Set(await this.#local.list(folder));
    for (const key of this.#leaving.keys()) if (key.startsWith(`${folder}/`)) names.delete(key.slice(folder.length + 1));
    for (const key of this.#shipped.keys()) if (key.startsWith(`${folder}/`)) names.add(key.slice(folder.length + 1));
    return [...names].toSorted();
  }

  async remove(key: string, sizeBytes = 0): Promise<void> {
    if (this.#leavesUnshipped(key)) this.onDropped(key);
    if (this.#pinned.has(key) && !this.#shipped.has(key)) {
      this.#leaving.set(key, sizeBytes);
      return;
    }
    this.#checksums.delete(key);
    if (this.#shipped.delete(key)) this.#doomed.add(key);
    this.#cache.uncount(key);
    this.#ahead.forget(key);
    await this.#removeHere(key, sizeBytes);
  }

  async #evict(key: string, bytes: number): Promise<void> {
    assert(this.#shipped.has(key), `${key} is evicted, and not in the bucket`);
    this.onEvict(key);
    await this.#removeHere(key, bytes); // what is in memory of it is still right
  }

  async #removeHere(key: string, sizeBytes: number): Promise<void> {
    const far = this.#far.get(key);
    this.#far.delete(key);
    await far?.drop();
    await this.#local.remove(key, sizeBytes);
  }

  settle(): Promise<void> {
    return this.#local.settle();
  }

  get spareBytes(): number {
    return this.#local.spareBytes;
  }

  async releaseSpace(keepBytes = 0): Promise<void> {
    await this.#local.releaseSpace(keepBytes);
  }

  /** Lets go of what was fetched and not whole. Nothing may be open any more. */
  async close(): Promise<void> {
    await this.#ahead.close();
    this.#cache.stop();
    await this.#cache.settle();
    for (const far of this.#far.values()) await far.drop();
    this.#far.clear();
  }

  async #adopt(key: string, path: string): Promise<() => void> {
    // It was removed or evicted meanwhile.
    if (!this.#far.has(key)) return () => undefined;
    this.#far.delete(key);
    const release = this.#local.hold(key);
    try {
      await this.#options.files.rename(path, `${this.#options.directory}/${key}`);
      return release;
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Whether something may go from here for want of room: now, when it was shipped, or behind the next checkpoint. */
  get mayMakeRoom(): boolean {
    return this.#unshipped.size > 0 || this.#cache.size > 0 || this.#hasMadeRoom;
  }

  /** The disk is full: lets some of what the bucket has go from here. */
  makeRoom(): Promise<void> {
    this.#makingRoom ??= this.#makeRoom().finally(() => {
      this.#makingRoom = null;
    });
    return this.#makingRoom;
  }

  async #makeRoom(): Promise<void> {
    await this.#cache.settle();
    const before = this.#cache.evictions;
    await this.#cache.shrink(Math.max(0, this.#cache.bytes - ROOM_BYTES));
    this.#hasMadeRoom = this.#cache.evictions > before;
    // Their files may have become spare ones.
    await this.#local.releaseSpace();
    if (!this.#hasMadeRoom) this.onNoRoom();
  }
}
