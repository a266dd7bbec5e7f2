/**
 * The log's files a second time, as shared mappings: a write within the turn is a copy into one, in place of a call of the kernel. For those
 * who ask for it: here it is slower, each page that it touches first is a fault (see ARCHITECTURE, "Measured").
 *
 * A copy is with the kernel like a plain write: the page cache has it, so it survives the process, and readers and syncs of the file see it
 * in the same place. So both may be mixed, also within a life of a file, and all else (syncs, I4, recovery) is as it is without mappings. What is
 * written plainly: bytes that the file has not had yet, for behind a file's end there is no memory, and touching it ends the process; and what goes to the
 * thread pool (large batches, a slow disk), where a plain write is one call and several times as fast. No thread ever copies, so nobody
 * does while the mappings go.
 */
import { systemCode } from '../base/errors.ts';
import type { File, FileSystem, Logger, Mapping } from '../env/env.ts';
import type { LogFile } from './log-options.ts';

export interface MappedLogOptions {
  readonly files: Pick<FileSystem, 'map'>;
  readonly logger: Logger;
  /** For messages. */
  readonly volume: string;
  readonly paths: readonly string[];
  /** The same files, opened for plain writes. */
  readonly plainFiles: readonly File[];
  readonly fileBytes: number;
}

export class MappedLog {
  readonly #options: MappedLogOptions;
  readonly #mappings: readonly Mapping[];
  #isRefused = false;
  /** For the log writer. */
  readonly files: readonly LogFile[];

  private constructor(options: MappedLogOptions, mappings: readonly Mapping[], sizes: readonly number[]) {
    this.#options = options;
    this.#mappings = mappings;
    this.files = options.plainFiles.map((plain, index) => new MappedLogFile(this, plain, mappings[index], sizes[index]));
  }

  /** Null, with a warning, where there are no mappings. */
  static async open(options: MappedLogOptions): Promise<MappedLog | null> {
    const mappings: Mapping[] = [];
    try {
      const sizes = await Promise.all(options.plainFiles.map((file) => file.sizeBytes()));
      for (const path of options.paths) mappings.push(await options.files.map(path, options.fileBytes));
      return new MappedLog(options, mappings, sizes);
    } catch (error) {
      await Promise.allSettled(mappings.map((mapping) => mapping.close())); // nothing was written through them
      if (systemCode(error) === undefined) throw error;
      warn(options, error);
      return null;
    }
  }

  /** Whether writes are copies. */
  get isInUse(): boolean {
    return !this.#isRefused;
  }

  /** The kernel would not take a copy: from now on all is written plainly, and a plain write says what is wrong, if anything is. */
  refuse(error: unknown): void {
    if (this.#isRefused) return;
    this.#isRefused = true;
    warn(this.#options, error);
  }

  /** Closes all, also behind one that fails. No file of `files` may be written to afterwards. */
  async close(): Promise<void> {
    const results = await Promise.allSettled(this.#mappings.map((mapping) => mapping.close()));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }
}

/** One file of the log: small writes to where it has been written before are copies. */
class MappedLogFile implements LogFile {
  readonly #log: MappedLog;
  readonly #plain: LogFile;
  readonly #mapping: Mapping;
  /** The file has had all bytes up to here. */
  #wholeBytes: number;

  constructor(log: MappedLog, plain: LogFile, mapping: Mapping, sizeBytes: number) {
    this.#log = log;
    this.#plain = plain;
    this.#mapping = mapping;
    this.#wholeBytes = sizeBytes;
  }

  async write(parts: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    await this.#plain.write(parts, offsetBytes);
    this.#grewTo(parts, offsetBytes);
  }

  writeNow(parts: readonly Uint8Array[], offsetBytes: number): void {
    if (this.#log.isInUse && endOf(parts, offsetBytes) <= this.#wholeBytes && this.#copied(parts, offsetBytes)) return;
    this.#plain.writeNow(parts, offsetBytes);
    this.#grewTo(parts, offsetBytes);
  }

  #copied(parts: readonly Uint8Array[], offsetBytes: number): boolean {
    try {
      this.#mapping.copyNow(parts, offsetBytes);
      return true;
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
      this.#log.refuse(error);
      return false;
    }
  }

  /** A write that leaves a gap would leave a hole, which takes space when it is touched. */
  #grewTo(parts: readonly Uint8Array[], offsetBytes: number): void {
    if (offsetBytes <= this.#wholeBytes) this.#wholeBytes = Math.max(this.#wholeBytes, endOf(parts, offsetBytes));
  }

  sync(): Promise<void> {
    return this.#plain.sync();
  }

  syncNow(): void {
    this.#plain.syncNow();
  }
}

function endOf(parts: readonly Uint8Array[], offsetBytes: number): number {
  let end = offsetBytes;
  for (const part of parts) end += part.length;
  return end;
}

function warn({ logger, volume }: MappedLogOptions, error: unknown): void {
  logger.log('warn', 'no-mapped-log', { volume, instead: 'buffered', error });
}
