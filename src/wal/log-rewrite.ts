/**
 * Writing the end of the log again before it counts as durable. What recovery reads comes from the page cache, and that is no
 * proof: after a sync that failed in an earlier process the kernel takes the pages for written, a sync of ours would write
 * nothing and succeed, and the pages could go at any time. Bytes that were written again are dirty, so that the sync means them.
 *
 * Only the records that no later record calls durable are written again: at most what may be unsynced in the volume's mode. What is
 * written is what was read and found sound just now, in the same memory; it is written while what follows is read.
 */
import { assert } from '../base/assert.ts';
import type { File } from '../env/env.ts';
import { type LogFileHeader, encodeLogHeader } from '../format/log-record.ts';
import type { WindowKeeper } from './log-file-reader.ts';

export class LogRewrite {
  readonly #durableLsn: number;
  /** Of the files written so far; they do not reject. */
  readonly #syncs: Promise<{ readonly error: unknown } | null>[] = [];

  /** Records up to `durableLsn` are known to be on the medium. */
  constructor(durableLsn: number) {
    this.#durableLsn = durableLsn;
  }

  life(header: LogFileHeader, file: File): LifeRewrite {
    return new LifeRewrite(header, file, this.#durableLsn, () => this.#sync(file));
  }

  /** Syncs a file while the next ones are read and written. */
  #sync(file: File): void {
    this.#syncs.push(
      file.sync().then(
        () => null,
        (error: unknown) => ({ error }),
      ),
    );
  }

  /** When it settles no sync is under way any more. */
  async idle(): Promise<void> {
    await Promise.all(this.#syncs);
  }

  /** On return all that was written is durable. Errors: those of the syncs. */
  async end(): Promise<void> {
    for (const failed of await Promise.all(this.#syncs)) if (failed !== null) throw failed.error;
  }
}

/** One life of a file: its header and its last records. */
export class LifeRewrite implements WindowKeeper {
  readonly #header: LogFileHeader;
  readonly #file: File;
  readonly #durableLsn: number;
  readonly #startSync: () => void;
  /** What is to be written next, in bytes of the file; none: both are 0. */
  #from = 0;
  #end = 0;
  #isBegun = false;

  constructor(header: LogFileHeader, file: File, durableLsn: number, startSync: () => void) {
    this.#header = header;
    this.#file = file;
    this.#durableLsn = durableLsn;
    this.#startSync = startSync;
  }

  /** To be called with each record of the unbroken run, in order, once it was found sound. */
  sound(lsn: number, offsetBytes: number, endBytes: number): void {
    if (lsn <= this.#durableLsn) return;
    if (this.#end === 0) this.#from = offsetBytes;
    else assert(offsetBytes === this.#end, 'a record that is written again does not follow the one before it');
    this.#end = endBytes;
  }

  leave(bytes: Uint8Array, offsetBytes: number): Promise<void> | null {
    if (this.#from === this.#end) return null;
    const first = this.#from - offsetBytes;
    const end = this.#end - offsetBytes;
    assert(first >= 0 && end <= bytes.length, 'a window is left with records that it does not hold');
    this.#from = this.#end;
    return this.#write(bytes.subarray(first, end), offsetBytes + first);
  }

  async #write(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    if (!this.#isBegun) await this.#file.write([encodeLogHeader(this.#header)], 0);
    this.#isBegun = true;
    await this.#file.write([bytes], offsetBytes);
  }

  /** All windows were left and their writes have ended. */
  end(): void {
    assert(this.#from === this.#end, 'a life ends before it is written again');
    if (this.#isBegun) this.#startSync();
  }
}
