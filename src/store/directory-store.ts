/**
 * An ObjectStore in a directory of a local file system. An object is written to `.stage-NAME`, synced, renamed to its name;
 * then the directory is synced. The staging file is created exclusively, so two writers of one key cannot both
 * pass the check that the key is free. Files of removed objects are written again (`spare-files.ts`), unless a reader has
 * them open: what was opened stays readable.
 */
import { assert } from '../base/assert.ts';
import { VolumeError, isRefusal, systemCode, toVolumeError } from '../base/errors.ts';
import type { File, FileSystem } from '../env/env.ts';
import type { ObjectStore, StagedObject, StoredObject } from './object-store.ts';
import { SPARE_PREFIX, SpareFiles } from './spare-files.ts';

const STAGE_PREFIX = '.stage-';

function splitKey(key: string): { folder: string; name: string } {
  const slash = key.indexOf('/');
  return { folder: key.slice(0, slash), name: key.slice(slash + 1) };
}

interface Staging {
  readonly files: FileSystem;
  readonly file: File;
  readonly directory: string;
  readonly name: string;
  /** Bytes of the file that are another object's: all of them must be overwritten. */
  readonly oldBytes: number;
  /** The disk is full. */
  readonly onFull: () => Promise<void>;
  readonly uncached: UncachedWrites;
}

/** Whether the file system takes writes past the page cache; one that refused one is not asked again. */
interface UncachedWrites {
  isRefused: boolean;
}

export class DirectoryStagedObject implements StagedObject {
  readonly #staging: Staging;
  readonly #files: FileSystem;
  readonly #file: File;
  readonly directory: string;
  readonly #name: string;
  #length = 0;
  #open = true;
  #renamed = false;

  constructor(staging: Staging) {
    this.#staging = staging;
    this.#files = staging.files;
    this.#file = staging.file;
    this.directory = staging.directory;
    this.#name = staging.name;
  }

  get #stagePath(): string {
    return `${this.directory}/${STAGE_PREFIX}${this.#name}`;
  }

  append(parts: readonly Uint8Array[]): Promise<void> {
    return this.#append(parts, () => this.#file.write(parts, this.#length));
  }

  /**
   * O_DIRECT through a descriptor of its own. The rest of the file goes through the page cache, before and after and never at the same
   * time: the kernel drops the pages that such a write covers, and says EIO of the file if one of them is being written.
   */
  appendUncached(parts: readonly Uint8Array[]): Promise<void> {
    return this.#append(parts, async () => {
      if (!(await this.#writeUncached(parts))) await this.#file.write(parts, this.#length);
    });
  }

  async #append(parts: readonly Uint8Array[], write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      if (systemCode(error) === 'ENOSPC') await this.#staging.onFull();
      throw error;
    }
    for (const part of parts) this.#length += part.length;
  }

  /** False where there are no such writes. */
  async #writeUncached(parts: readonly Uint8Array[]): Promise<boolean> {
    const { uncached } = this.#staging;
    if (uncached.isRefused) return false;
    try {
      const file = await this.#files.open(this.#stagePath, 'uncached');
      try {
        await file.write(parts, this.#length);
      } finally {
        await file.close();
      }
    } catch (error) {
      if (!isRefusal(error)) throw error;
      uncached.isRefused = true;
      return false;
    }
    return true;
  }

  async seal(): Promise<void> {
    assert(this.#length >= this.#staging.oldBytes, `${this.#name} is shorter than the file it was written over`);
    await this.#file.sync();
    this.#open = false;
    await this.#file.close();
  }

  /** Gives the object its name; the directory is not synced yet. */
  async rename(): Promise<void> {
    if (this.#renamed) return;
    const target = `${this.directory}/${this.#name}`;
    if (await this.#files.exists(target)) throw new VolumeError('already-exists', `object ${target} exists already; objects are never overwritten`);
    await this.#files.rename(this.#stagePath, target);
    this.#renamed = true;
  }

  async abandon(): Promise<void> {
    if (this.#open) {
      this.#open = false;
      await this.#file.close();
    }
    if (!this.#renamed) await this.#files.remove(this.#stagePath);
  }
}

class DirectoryStoredObject implements StoredObject {
  readonly sizeBytes: number;
  readonly #file: File;
  readonly #key: string;
  readonly #onClose: () => void;

  constructor(file: File, key: string, sizeBytes: number, onClose: () => void) {
    this.#file = file;
    this.#key = key;
    this.#onClose = onClose;
    this.sizeBytes = sizeBytes;
  }

  async read(target: Uint8Array, offsetBytes: number): Promise<void> {
    const got = await this.#file.read(target, offsetBytes);
    if (got !== target.length) {
      throw new VolumeError('corrupt', `${this.#key}: ends at byte ${offsetBytes + got}, expected at least ${offsetBytes + target.length}`);
    }
  }

  /** A descriptor that was only read from has nothing to lose when its close fails. */
  async close(): Promise<void> {
    await this.#file.close().catch(() => undefined);
    this.#onClose();
  }
}

export class DirectoryStore implements ObjectStore {
  readonly #files: FileSystem;
  readonly #directory: string;
  readonly #spares: SpareFiles;
  /** How many readers have an object open, or are about to. */
  readonly #readers = new Map<string, number>();
  /** Objects whose file is on its way to the spares: nobody may open it any more. */
  readonly #leaving = new Set<string>();
  readonly #uncached: UncachedWrites = { isRefused: false };

  /** Keeps files of removed objects of up to `spareBytes` together. */
  constructor(files: FileSystem, directory: string, spareBytes: number) {
    this.#files = files;
    this.#directory = directory;
    this.#spares = new SpareFiles(files, spareBytes);
  }

  /** Removes what a writer that died left staged, and makes all that is published durable. To be called under the volume's lock. */
  async prepare(folders: readonly string[]): Promise<void> {
    for (const folder of folders) {
      const path = `${this.#directory}/${folder}`;
      for (const name of await this.#files.list(path)) {
        if (name.startsWith(STAGE_PREFIX) || name.startsWith(SPARE_PREFIX)) await this.#files.remove(`${path}/${name}`);
      }
      await this.#files.syncDirectory(path);
    }
  }

  async stage(key: string, sizeBytes?: number): Promise<DirectoryStagedObject> {
    const { folder, name } = splitKey(key);
    const directory = `${this.#directory}/${folder}`;
    const path = `${directory}/${STAGE_PREFIX}${name}`;
    const onFull = (): Promise<void> => this.releaseSpace();
    const old = sizeBytes === undefined ? null : await this.#openSpare(directory, path, sizeBytes);
    const file = old?.file ?? (await this.#files.open(path, 'create'));
    return new DirectoryStagedObject({ files: this.#files, file, directory, name, oldBytes: old?.oldBytes ?? 0, onFull, uncached: this.#uncached });
  }

  /** A spare file that an object of `sizeBytes` overwrites whole, under its new name; null if there is none. */
  async #openSpare(directory: string, path: string, sizeBytes: number): Promise<{ readonly file: File; readonly oldBytes: number } | null> {
    const spare = this.#spares.take(directory, sizeBytes);
    if (spare === null || (await this.#files.exists(path))) return null;
    await this.#files.rename(spare.path, path);
    const file = await this.#files.open(path, 'write');
    const oldBytes = await file.sizeBytes().catch(async (error: unknown) => {
      await file.close().catch(() => undefined); // the first error is the one to report
      throw error;
    });
    if (oldBytes <= sizeBytes) return { file, oldBytes };
    // Somebody else made it longer: what is behind the object's end would be taken for a part of it.
    await file.close();
    await this.#files.remove(path);
    return null;
  }

  get spareBytes(): number {
    return this.#spares.bytes;
  }

  async releaseSpace(keepBytes = 0): Promise<void> {
    await this.#spares.drop(keepBytes);
  }

  async publish(objects: readonly StagedObject[]): Promise<void> {
    const staged = objects.map((object) => {
      assert(object instanceof DirectoryStagedObject, 'an object of another store is published');
      return object;
    });
    for (const object of staged) await object.rename();
    const directories = new Set(staged.map((object) => object.directory));
    for (const directory of directories) await this.#syncDirectory(directory);
  }

  async settle(): Promise<void> {
    for (const directory of this.#spares.unsettled) await this.#syncDirectory(directory);
  }

  async #syncDirectory(directory: string): Promise<void> {
    const synced = this.#spares.syncing(directory);
    await this.#files.syncDirectory(directory).catch((error: unknown) => {
      // Not `no-space`, whatever the system says: a failed sync is never tried again.
      throw new VolumeError('failed', `syncing ${directory} failed (${error instanceof Error ? error.message : String(error)})`, { cause: error });
    });
    synced();
  }

  async open(key: string): Promise<StoredObject> {
    if (this.#leaving.has(key)) throw new VolumeError('not-found', `object ${key} was removed`, { context: { key } });
    const release = this.hold(key);
    try {
      return await this.#open(key);
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Somebody else has the object's file open, until what is returned is called: it is not written again meanwhile. */
  hold(key: string): () => void {
    this.#readers.set(key, (this.#readers.get(key) ?? 0) + 1);
    return () => this.#readerLeft(key);
  }

  async #open(key: string): Promise<StoredObject> {
    let file: File;
    try {
      file = await this.#files.open(`${this.#directory}/${key}`, 'read');
    } catch (error) {
      if (systemCode(error) === 'ENOENT') throw new VolumeError('not-found', `object ${key} is missing`, { cause: error, context: { key } });
      throw toVolumeError(error, `opening object ${key}`);
    }
    try {
      return new DirectoryStoredObject(file, key, await file.sizeBytes(), () => this.#readerLeft(key));
    } catch (error) {
      await file.close().catch(() => undefined); // the first error is the one to report
      throw toVolumeError(error, `opening object ${key}`);
    }
  }

  #readerLeft(key: string): void {
    const left = (this.#readers.get(key) ?? 0) - 1;
    if (left > 0) this.#readers.set(key, left);
    else this.#readers.delete(key);
  }

  async list(folder: string): Promise<string[]> {
    const path = `${this.#directory}/${folder}`;
    const names = await this.#files.list(path).catch((error: unknown) => {
      throw systemCode(error) === 'ENOENT' ? new VolumeError('corrupt', `folder ${path} is missing; nothing was changed`, { cause: error }) : error;
    });
    return names.filter((name) => !name.startsWith('.'));
  }

  async remove(key: string, sizeBytes = 0): Promise<void> {
    try {
      if (!this.#readers.has(key) && this.#spares.hasRoomFor(sizeBytes)) await this.#spare(key, sizeBytes);
      else await this.#files.remove(`${this.#directory}/${key}`);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw toVolumeError(error, `removing object ${key}`);
    }
  }

  async #spare(key: string, sizeBytes: number): Promise<void> {
    this.#leaving.add(key);
    try {
      await this.#spares.keep(`${this.#directory}/${key}`, `${this.#directory}/${splitKey(key).folder}`, sizeBytes);
    } finally {
      this.#leaving.delete(key);
    }
  }
}
