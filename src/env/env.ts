/**
 * What the engine needs from the world. The real one is `node-env.ts`; the simulator of `test/sim` implements the
 * same interfaces with a simulated clock, disk and random source, so that the whole engine runs in it unchanged.
 *
 * Every failing call of a FileSystem or File throws an Error with a system `code` (`ENOENT`, `ENOSPC`, `EIO`, ...).
 */

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Monotonic milliseconds, with fractions. */
  nowMs(): number;
  /** Milliseconds since 1970. May jump: for people to read, never for decisions. */
  wallMs(): number;
  /** Calls `callback` once after `delayMs`. A pending timer does not keep the process alive. */
  setTimer(delayMs: number, callback: () => void): Timer;
  /** Resolves after `delayMs`; keeps the process alive meanwhile. */
  sleep(delayMs: number): Promise<void>;
  /** Resolves after other pending work (sockets, timers) had its turn. */
  yield(): Promise<void>;
}

/** One open file. Its reads and writes are whole: short ones are continued inside, or fail. */
export interface File {
  /**
   * Writes all parts, back to back, at `offsetBytes`. On return the bytes are with the kernel, not on the disk (mode `direct`: durable).
   * On an error an unknown part of them is written.
   */
  write(parts: readonly Uint8Array[], offsetBytes: number): Promise<void>;
  /** The same within the turn: for small writes to files whose recent writes were fast. */
  writeNow(parts: readonly Uint8Array[], offsetBytes: number): void;
  /** Reads until `target` is full or the file ends; returns the bytes read. */
  read(target: Uint8Array, offsetBytes: number): Promise<number>;
  /** fdatasync: all bytes written before the call, also through mappings of the file, and the length, survive a power cut when it returns. */
  sync(): Promise<void>;
  /** The same within the turn. */
  syncNow(): void;
  sizeBytes(): Promise<number>;
  close(): Promise<void>;
}

/**
 * `create` makes a new file and fails with EEXIST; `write` opens one for reading and writing; `read` for reading. `direct`: past the page
 * cache, and a write is durable when it returns (O_DIRECT and O_DSYNC). `uncached`: past the page cache, and durable when the file
 * is synced, as a plain write is (O_DIRECT). Both write parts of whole pages in page-aligned memory, at an offset of whole pages; `direct`
 * one at a time. A file system that cannot do that answers EINVAL or ENOTSUP, here or at a write.
 */
export type OpenMode = 'create' | 'write' | 'read' | 'direct' | 'uncached';

/** Length, offset and memory of a write past the page cache are multiples of this: no disk has larger sectors. */
export const DIRECT_ALIGNMENT_BYTES = 4096;

/**
 * A shared mapping of a file: what is copied into it is with the kernel as after `File.write`, and durable after the `sync` of a `File` of
 * it. Copies and plain writes meet in the page cache and may be mixed.
 */
export interface Mapping {
  /**
   * Copies all parts, back to back, to `offsetBytes`, within the turn. The file must be that long already: memory behind its end is none, and
   * touching it ends the process. On an error an unknown part of them is copied; `EFAULT`: the kernel has no page there, or no space for it.
   */
  copyNow(parts: readonly Uint8Array[], offsetBytes: number): void;
  close(): Promise<void>;
}

/** A lock that ends with its process, however that ends. */
export interface FileLock {
  release(): Promise<void>;
}

export interface FileSystem {
  open(path: string, mode: OpenMode): Promise<File>;
  /** Maps the first `lengthBytes` of a file, which need not be there yet. Fails where that is not possible (`ENOSYS`, `ENODEV`, ...). */
  map(path: string, lengthBytes: number): Promise<Mapping>;
  /** Names in a directory, sorted. ENOENT if it is not there. */
  list(path: string): Promise<string[]>;
  makeDirectory(path: string): Promise<void>;
  /** Replaces `target` if it exists. Durable after `syncDirectory`. */
  rename(source: string, target: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Removes a directory and all below it. */
  removeTree(path: string): Promise<void>;
  /** Makes creations, renames and removals in a directory survive a power cut. */
  syncDirectory(path: string): Promise<void>;
  exists(path: string): Promise<boolean>;
  /** Bytes that the files of a directory, and of the directories in it, take on the disk. */
  usedBytes(path: string): Promise<number>;
  /** Takes an exclusive lock on a file (made if missing), or returns null at once if somebody holds it. */
  lock(path: string): Promise<FileLock | null>;
}

export interface Random {
  /** Fills `target` with unpredictable bytes. */
  fill(target: Uint8Array): void;
}

/** Runs named, pure functions of bytes on another thread. */
export interface Workers {
  run(task: string, job: unknown): Promise<unknown>;
  close(): Promise<void>;
}

/** This process's memory, of which the system may have what is not needed. Where that is not possible nothing happens. */
export interface Memory {
  /** Gives up what is in `bytes`, which are whole pages: they hold zeroes or what they held, and cost nothing until they are touched. */
  giveBack(bytes: Uint8Array): void;
  /** The same of all that was allocated and released again. Others who allocate wait meanwhile. */
  trim(): void;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  log(level: LogLevel, event: string, fields?: LogFields): void;
}

export interface Env {
  readonly clock: Clock;
  readonly files: FileSystem;
  readonly random: Random;
  readonly workers: Workers;
  readonly memory: Memory;
  readonly logger: Logger;
}
