/**
 * An ObjectStore in a directory of a local file system. An object is written to `.stage-NAME`, synced, renamed to its name;
 * then the directory is synced. The staging file is created exclusively, so two writers of one key cannot both
 * pass the check that the key is free.
 */
import { assert } from '../base/assert.ts';
import { VolumeError, systemCode, toVolumeError } from '../base/errors.ts';
import type { File, FileSystem } from '../env/env.ts';
import type { ObjectStore, StagedObject, StoredObject } from './object-store.ts';

const STAGE_PREFIX = '.stage-';

function splitKey(key: string): { folder: string; name: string } {
  const slash = key.indexOf('/');
  return { folder: key.slice(0, slash), name: key.slice(slash + 1) };
}

class DirectoryStagedObject implements StagedObject {
  readonly #files: FileSystem;
  readonly #file: File;
  readonly directory: string;
  readonly #name: string;
  #length = 0;
  #open = true;
  #renamed = false;

  constructor(files: FileSystem, file: File, directory: string, name: string) {
    this.#files = files;
    this.#file = file;
    this.directory = directory;
    this.#name = name;
  }

  get #stagePath(): string {
    return `${this.directory}/${STAGE_PREFIX}${this.#name}`;
  }

  async append(parts: readonly Uint8Array[]): Promise<void> {
    await this.#file.write(parts, this.#length);
    for (const part of parts) this.#length += part.length;
  }

  async seal(): Promise<void> {
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

  constructor(file: File, key: string, sizeBytes: number) {
    this.#file = file;
    this.#key = key;
    this.sizeBytes = sizeBytes;
  }

  async read(target: Uint8Array, offsetBytes: number): Promise<void> {
    const got = await this.#file.read(target, offsetBytes);
    if (got !== target.length) {
      throw new VolumeError('corrupt', `${this.#key}: ends at byte ${offsetBytes + got}, expected at least ${offsetBytes + target.length}`);
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

export class DirectoryStore implements ObjectStore {
  readonly #files: FileSystem;
  readonly #directory: string;

  constructor(files: FileSystem, directory: string) {
    this.#files = files;
    this.#directory = directory;
  }

  /** Removes what a writer that died left staged, and makes all that is published durable. To be called under the volume's lock. */
  async prepare(folders: readonly string[]): Promise<void> {
    for (const folder of folders) {
      const path = `${this.#directory}/${folder}`;
      for (const name of await this.#files.list(path)) {
        if (name.startsWith(STAGE_PREFIX)) await this.#files.remove(`${path}/${name}`);
      }
      await this.#files.syncDirectory(path);
    }
  }

  async stage(key: string): Promise<StagedObject> {
    const { folder, name } = splitKey(key);
    const directory = `${this.#directory}/${folder}`;
    const path = `${directory}/${STAGE_PREFIX}${name}`;
    const file = await this.#files.open(path, 'create');
    return new DirectoryStagedObject(this.#files, file, directory, name);
  }

  async publish(objects: readonly StagedObject[]): Promise<void> {
    const staged = objects.map((object) => {
      assert(object instanceof DirectoryStagedObject, 'an object of another store is published');
      return object;
    });
    for (const object of staged) await object.rename();
    const directories = new Set(staged.map((object) => object.directory));
    for (const directory of directories) {
      await this.#files.syncDirectory(directory).catch((error: unknown) => {
        // Not `no-space`, whatever the system says: a failed sync is never tried again.
        throw new VolumeError('failed', `syncing ${directory} failed (${error instanceof Error ? error.message : String(error)})`, { cause: error });
      });
    }
  }

  async open(key: string): Promise<StoredObject> {
    let file: File;
    try {
      file = await this.#files.open(`${this.#directory}/${key}`, 'read');
    } catch (error) {
      if (systemCode(error) === 'ENOENT') throw new VolumeError('not-found', `object ${key} is missing`, { cause: error, context: { key } });
      throw toVolumeError(error, `opening object ${key}`);
    }
    try {
      return new DirectoryStoredObject(file, key, await file.sizeBytes());
    } catch (error) {
      await file.close().catch(() => undefined); // the first error is the one to report
      throw toVolumeError(error, `opening object ${key}`);
    }
  }

  async list(folder: string): Promise<string[]> {
    const names = await this.#files.list(`${this.#directory}/${folder}`);
    return names.filter((name) => !name.startsWith('.'));
  }

  async remove(key: string): Promise<void> {
    try {
      await this.#files.remove(`${this.#directory}/${key}`);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw toVolumeError(error, `removing object ${key}`);
    }
  }
}
