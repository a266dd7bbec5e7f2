/**
 * Where immutable objects live: chunks and checkpoints. An object is staged (written where nobody looks), sealed (its
 * bytes are durable) and then published under its key, atomically and only if the key is free; it never changes afterwards.
 * Keys are `folder/name`, of [a-z0-9._-]; names that begin with a dot are the store's own.
 */
import { VolumeError } from '../base/errors.ts';

/** An object on its way into the store. */
export interface StagedObject {
  /** The store keeps a copy of it in memory for as long as it needs all of it. */
  readonly isCopied?: boolean;
  /** Appends bytes; `parts` are borrowed until it settles. */
  append(parts: readonly Uint8Array[]): Promise<void>;
  /**
   * The same for bytes that nobody will read soon: where the store can, they do not go through the page cache. What was appended
   * before, and each part, is a multiple of `DIRECT_ALIGNMENT_BYTES` long, and the parts' memory is aligned to it.
   */
  appendUncached(parts: readonly Uint8Array[]): Promise<void>;
  /** Makes the bytes durable. Nothing may be appended any more. */
  seal(): Promise<void>;
  /** Drops an object that was not published. */
  abandon(): Promise<void>;
}

export interface ObjectStore {
  /** `sizeBytes`, if given, is what will be appended, exactly: the store may use the space of a removed object for it. */
  stage(key: string, sizeBytes?: number): Promise<StagedObject>;
  /**
   * Makes sealed objects visible under their keys and durable, in this order; they are of one folder. Rejects with
   * `already-exists` if a key is taken. When it rejects, any of them may be there; it may be called again after `no-space`.
   */
  publish(objects: readonly StagedObject[]): Promise<void>;
  /** Opens an object for reading. Rejects with `not-found`. */
  open(key: string): Promise<StoredObject>;
  /** Names in a folder, sorted. Rejects with `corrupt` if the folder is missing. */
  list(folder: string): Promise<string[]>;
  /**
   * Removes an object; one that is not there is no error. Durable some time later. With its `sizeBytes` given, its space may
   * be kept for an object that is staged later.
   */
  remove(key: string, sizeBytes?: number): Promise<void>;
  /** Makes removals whose space is kept durable: only then is it used again. Rejects with `failed`. */
  settle(): Promise<void>;
  /** Bytes that are kept for objects to come. */
  readonly spareBytes: number;
  /** Makes an object that is rotten anew from another copy of it; false if there is none that is sound. A store with one copy has no such method. */
  heal?(key: string): Promise<boolean>;
  /** Gives back what is kept for objects to come, but for `keepBytes` (0): the disk is full, or the volume is closed. */
  releaseSpace(keepBytes?: number): Promise<void>;
}

/** Runs `read`, which rejects with `corrupt` when the bytes of `object` fail their check, and again as long as fetching them anew may help. */
export async function readAgainInDoubt<T>(object: StoredObject, read: (isAgain: boolean) => Promise<T>): Promise<T> {
  for (let isAgain = false; ; isAgain = true) {
    try {
      return await read(isAgain);
    } catch (error) {
      const isDoubted = error instanceof VolumeError && error.code === 'corrupt' && object.doubt?.(0, object.sizeBytes) === true;
      if (!isDoubted) throw error;
    }
  }
}

/** What objects are read from. */
export type ObjectOpener = Pick<ObjectStore, 'open'>;
export type ObjectSource = Pick<ObjectStore, 'open' | 'list'>;

/** An object that is open for reading; it stays readable until it is closed, even if it is removed meanwhile. */
export interface StoredObject {
  readonly sizeBytes: number;
  /** Fills `target` from `offsetBytes`. Rejects with `corrupt` when the object ends before. */
  read(target: Uint8Array, offsetBytes: number): Promise<void>;
  /**
   * Bytes that were read fail their check. True: it may help to read them once more, from where they came from. A store that has only the one copy
   * has no such method.
   */
  doubt?(offsetBytes: number, lengthBytes: number): boolean;
  close(): Promise<void>;
}
