/**
 * The log's files a second time, opened so that a write is durable when it returns (O_DIRECT and O_DSYNC): one call where a plain
 * write and its sync are two. For strict mode, where every write is synced anyway; in the others a plain write is enough for an answer.
 *
 * Such writes are whole pages, from page-aligned memory. A batch seldom ends with a page: the rest is filled with zeroes, which end the
 * log as well as anything, and the page's records are kept here and written once more, the same bytes, in front of the next batch's. A
 * write that is torn therefore harms nothing that was durable: a sector (512 bytes) has either its old bytes or its new ones, and
 * both have the same records. Pages and not sectors: the device gets no more than from the page cache, a disk that has sectors of 4096 bytes
 * needs it, and one that hides them has no neighbours to rewrite. (4 KiB records: 114 to 134 us; in sectors of 512 bytes 121 to 163.)
 *
 * Who reads the log (recovery, inspection) does it through the page cache, which is right: the kernel writes back and drops the pages that a
 * direct write covers, so that a later reader finds what is on the medium. It is as strict here as a file's life is: direct
 * writes begin with a life of the file, after a sync of what older ones left in the page cache, and end with the first plain write.
 */
import { assert } from '../base/assert.ts';
import { VolumeError, isRefusal } from '../base/errors.ts';
import { DIRECT_ALIGNMENT_BYTES, type File, type FileSystem, type Logger } from '../env/env.ts';
import type { Segment } from './log-batch.ts';

/** Batches that are longer go in several writes. */
const STAGING_BYTES = 1024 * 1024;

export interface DirectLogOptions {
  readonly files: Pick<FileSystem, 'open'>;
  readonly logger: Logger;
  /** For messages. */
  readonly volume: string;
  readonly paths: readonly string[];
  /** The same files, opened for plain writes. */
  readonly plainFiles: readonly File[];
  readonly fileBytes: number;
}

interface Piece {
  readonly bytes: Uint8Array;
  readonly offsetBytes: number;
}

/** `Buffer.fill` copies out of shared memory at the speed of memory, `set` byte by byte (see `Slab.put`). */
function copy(source: Uint8Array, target: Buffer, start: number): void {
  if (source.length > 0) target.fill(source, start, start + source.length);
}

export class DirectLog {
  readonly #options: DirectLogOptions;
  readonly #files: readonly File[];
  /** Files that may have plain writes which are not synced: at first all, a process before this one may have left some. */
  readonly #plainlyWritten: Set<number>;
  /** The end of the last direct write: the records of its last page, and where the next one goes on. */
  readonly #tail = Buffer.alloc(DIRECT_ALIGNMENT_BYTES);
  #tailFile = -1;
  #tailOffset = 0;
  #staging: Buffer | null = null;
  #extraBytes = 0;
  #isRefused = false;

  private constructor(options: DirectLogOptions, files: readonly File[]) {
    this.#options = options;
    this.#files = files;
    this.#plainlyWritten = new Set(files.keys());
  }

  /** Null, with a warning, where the file system has no such writes. Errors: `io-error`. */
  static async open(options: DirectLogOptions): Promise<DirectLog | null> {
    const files: File[] = [];
    try {
      if (options.fileBytes % DIRECT_ALIGNMENT_BYTES !== 0) throw new VolumeError('unsupported', `log files of ${options.fileBytes} bytes are no whole pages`);
      for (const path of options.paths) files.push(await options.files.open(path, 'direct'));
      return new DirectLog(options, files);
    } catch (error) {
      await Promise.allSettled(files.map((file) => file.close())); // nothing was written through them
      if (!isRefusal(error) && !(error instanceof VolumeError && error.code === 'unsupported')) throw error;
      warn(options, error);
      return null;
    }
  }

  /** What was written beyond the records: pages that were made full, and written again. */
  get extraBytes(): number {
    return this.#extraBytes;
  }

  /** Whether the file system takes such writes, as far as is known. */
  get isInUse(): boolean {
    return !this.#isRefused;
  }

  /** Whether a segment can be written here: at the start of a life, or right behind the last one that was. A plain write in between moves on. */
  takes({ fileIndex, offsetBytes }: Segment): boolean {
    if (this.#isRefused) return false;
    return offsetBytes === 0 || (fileIndex === this.#tailFile && offsetBytes === this.#tailOffset);
  }

  /** Whether that is a single call, without the sync that may have to go before a life. */
  isReady({ fileIndex }: Segment): boolean {
    return !this.#plainlyWritten.has(fileIndex);
  }

  /** To be called before each plain write. */
  plainWrite(fileIndex: number): void {
    this.#plainlyWritten.add(fileIndex);
  }

  /**
   * Writes a segment that it takes; durable on return. False: the file system refuses such writes, of this one nothing may be on the medium, and
   * it takes no more. After an error an unknown part of it is written; it may be written again. Errors: `failed` (a sync), system codes.
   */
  async write(segment: Segment): Promise<boolean> {
    const { fileIndex } = segment;
    if (this.#plainlyWritten.has(fileIndex)) await this.#syncPlainFile(fileIndex);
    try {
      for (const { bytes, offsetBytes } of this.#pieces(segment)) await this.#files[fileIndex].write([bytes], offsetBytes);
    } catch (error) {
      return this.#refused(error);
    }
    return true;
  }

  /** The same within the turn, for one that `isReady`. */
  writeNow(segment: Segment): boolean {
    assert(this.isReady(segment), 'a direct write meets pages that are not synced');
    try {
      for (const { bytes, offsetBytes } of this.#pieces(segment)) this.#files[segment.fileIndex].writeNow([bytes], offsetBytes);
    } catch (error) {
      return this.#refused(error);
    }
    return true;
  }

  async close(): Promise<void> {
    await Promise.all(this.#files.map((file) => file.close()));
  }

  /** The plain writes of a life before this one, whose records are in chunks. A failed sync is final here, too (I4). */
  async #syncPlainFile(fileIndex: number): Promise<void> {
    try {
      await this.#options.plainFiles[fileIndex].sync();
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause);
      throw new VolumeError('failed', `syncing log file ${fileIndex} failed (${text}): the disk may have lost writes`, { cause });
    }
    this.#plainlyWritten.delete(fileIndex);
  }

  /**
   * A refusal is no failure of the disk but the kernel's answer to a call that it does not do here (EINVAL also to the rest of a short write, which
   * begins within a page). The caller writes all of the segment plainly and syncs it, which proves as much as if it had never been here.
   */
  #refused(error: unknown): false {
    if (!isRefusal(error)) throw error;
    this.#isRefused = true;
    this.#tailFile = -1;
    warn(this.#options, error);
    return false;
  }

  /** The segment as whole pages. Each piece is valid until the next one is asked for; what was written last is known when all were. */
  *#pieces({ fileIndex, offsetBytes, parts }: Segment): Generator<Piece> {
    const staging = (this.#staging ??= pageAlignedMemory(STAGING_BYTES));
    let used = offsetBytes % DIRECT_ALIGNMENT_BYTES;
    let at = offsetBytes - used;
    let recordBytes = 0;
    copy(this.#tail.subarray(0, used), staging, 0);
    for (const part of parts) {
      recordBytes += part.length;
      for (let taken = 0; taken < part.length; ) {
        const length = Math.min(part.length - taken, staging.length - used);
        copy(part.subarray(taken, taken + length), staging, used);
        taken += length;
        used += length;
        if (used < staging.length) continue;
        yield { bytes: staging, offsetBytes: at };
        this.#extraBytes += used;
        at += used;
        used = 0;
      }
    }
    const end = Math.ceil(used / DIRECT_ALIGNMENT_BYTES) * DIRECT_ALIGNMENT_BYTES;
    if (end > used) staging.fill(0, used, end);
    if (end > 0) yield { bytes: staging.subarray(0, end), offsetBytes: at };
    this.#extraBytes += end - recordBytes;
    const rest = used % DIRECT_ALIGNMENT_BYTES;
    staging.copy(this.#tail, 0, used - rest, used);
    this.#tailFile = fileIndex;
    this.#tailOffset = offsetBytes + recordBytes;
  }
}

/** A resizable ArrayBuffer begins with a page; a Buffer does not. */
export function pageAlignedMemory(bytes: number): Buffer {
  return Buffer.from(new ArrayBuffer(bytes, { maxByteLength: bytes }));
}

function warn({ logger, volume }: DirectLogOptions, error: unknown): void {
  logger.log('warn', 'no-direct-log', { volume, instead: 'buffered', error });
}
