/**
 * Reads the records of one log file through a window that slides over it. While one window is looked at the next one is read: reading
 * and checking take about as long as each other, and recovery has to be quick.
 */
import type { File } from '../env/env.ts';
import { viewOf } from '../format/bytes.ts';
import { DecodedRecord, RECORD_MAGIC_BYTES, type RecordContext, type RecordOutcome, decodeRecord, verifiedPayload } from '../format/log-record.ts';

const WINDOW_BYTES = 2 * 1024 * 1024;
/** Room in front of a window for the end of the one before it: a record that lies in both is put together there. */
const CARRY_BYTES = 1024 * 1024;

type Outcome = Exclude<RecordOutcome, 'short'>;

/** The bytes behind the window, on their way to `buffer` behind its first CARRY_BYTES. An error counts only if they are needed. */
interface ReadAhead {
  readonly buffer: Uint8Array;
  readonly done: Promise<{ readonly got: number } | { readonly error: unknown }>;
}

/**
 * Who still needs bytes that the window slides off. They are borrowed until the promise settles; null: not needed. An error of it is
 * thrown by what the reader does next.
 */
export interface WindowKeeper {
  leave(bytes: Uint8Array, offsetBytes: number): Promise<void> | null;
}

/** Memory of the windows, for one file after another. */
export class WindowBuffers {
  readonly #free: Uint8Array[] = [];

  take(bytes: number): Uint8Array {
    const index = this.#free.findIndex(({ length }) => length >= bytes);
    return index < 0 ? new Uint8Array(bytes) : this.#free.splice(index, 1)[0];
  }

  give(...buffers: readonly Uint8Array[]): void {
    for (const buffer of buffers) if (buffer.length > 0) this.#free.push(buffer);
  }
}

export class LogFileReader {
  readonly #file: File;
  /** Less than it was when the file turns out to end earlier. */
  #sizeBytes: number;
  readonly #context: RecordContext;
  readonly #buffers: WindowBuffers;
  /** A file of one window needs no room in front of it. */
  readonly #carryBytes: number;
  #buffer: Uint8Array;
  #ahead: ReadAhead | null = null;
  readonly #keeper: WindowKeeper | null;
  /** The window that the keeper has: one at a time, so that three windows are all the memory it takes. */
  #kept: Promise<{ readonly error: unknown } | null> | null = null;
  #base = 0;
  bytes: Uint8Array;
  view: DataView;
  /** The record looked at last is invalid for its blocks alone: all that `record` says is right. */
  hasBadPayload = false;
  readonly record = new DecodedRecord();
  /** The blocks of the record decoded last. */
  payload: Uint8Array = new Uint8Array(0);

  constructor({ file, sizeBytes }: { readonly file: File; readonly sizeBytes: number }, context: RecordContext, buffers: WindowBuffers, keeper: WindowKeeper | null = null) {
    this.#file = file;
    this.#sizeBytes = sizeBytes;
    this.#context = context;
    this.#buffers = buffers;
    this.#keeper = keeper;
    this.#carryBytes = sizeBytes > WINDOW_BYTES ? CARRY_BYTES : 0;
    this.#buffer = buffers.take(this.#carryBytes + Math.min(WINDOW_BYTES, sizeBytes));
    this.bytes = this.#buffer.subarray(0, 0);
    this.view = viewOf(this.bytes);
  }

  /** File offset behind the window. */
  get #end(): number {
    return this.#base + this.bytes.length;
  }

  /** File offset just behind the record decoded last. */
  get endOffset(): number {
    return this.#base + this.record.endOffset;
  }

  /**
   * Decodes the record at `offset` of the file, payload checksums and all. `record` has offsets within `bytes`. What is in the window
   * already is answered within the turn.
   */
  recordAt(offset: number): Outcome | Promise<Outcome> {
    if (offset < this.#base || offset > this.#end) return this.#recordBehindWindow(offset);
    const outcome = decodeRecord(this.bytes, this.view, offset - this.#base, this.#context, this.record);
    return outcome === 'short' ? this.#recordBehindWindow(offset) : this.#checked(outcome);
  }

  async #recordBehindWindow(offset: number): Promise<Outcome> {
    if (offset < this.#base || offset > this.#end) await this.#load(offset, WINDOW_BYTES);
    let outcome = decodeRecord(this.bytes, this.view, offset - this.#base, this.#context, this.record);
    while (outcome === 'short') {
      if (this.#end >= this.#sizeBytes) {
        this.record.reason = 'the file ends within the record';
        this.hasBadPayload = false;
        return 'invalid';
      }
      // The window moves to the record; one that is longer than the window makes it grow, up to the file.
      await this.#load(offset, this.#base === offset ? this.bytes.length * 2 : WINDOW_BYTES);
      outcome = decodeRecord(this.bytes, this.view, 0, this.#context, this.record);
    }
    return this.#checked(outcome);
  }

  #checked(outcome: Outcome): Outcome {
    this.hasBadPayload = false;
    if (outcome === 'invalid') return outcome;
    const payload = verifiedPayload(this.bytes, this.view, this.record, this.#context.blockSizeBytes);
    if (payload === null) {
      this.record.reason = 'wrong block checksum';
      this.hasBadPayload = true;
      return 'invalid';
    }
    this.payload = payload;
    return 'valid';
  }

  /** Puts the window at `offset`. */
  async #load(offset: number, windowBytes: number): Promise<void> {
    const ahead = this.#ahead;
    const read = await ahead?.done;
    this.#ahead = null;
    await this.#leave();
    const carried = this.#end - offset;
    const continues = offset >= this.#base && carried >= 0 && carried <= CARRY_BYTES && windowBytes <= WINDOW_BYTES;
    if (ahead !== null && read !== undefined && continues) {
      if ('error' in read) throw read.error;
      ahead.buffer.set(this.bytes.subarray(offset - this.#base), CARRY_BYTES - carried);
      this.#show(ahead.buffer, CARRY_BYTES - carried, carried + read.got, offset);
    } else {
      if (ahead !== null) this.#buffers.give(ahead.buffer);
      const wanted = Math.min(Math.max(windowBytes, WINDOW_BYTES), Math.max(0, this.#sizeBytes - offset));
      const buffer = this.#carryBytes + wanted > this.#buffer.length ? this.#buffers.take(this.#carryBytes + wanted) : this.#buffer;
      this.#show(buffer, this.#carryBytes, await this.#read(buffer, offset, wanted), offset);
    }
    this.#readAhead();
  }

  /** The window is about to slide: its bytes stay readable, but its buffer is the keeper's if that needs it. */
  async #leave(): Promise<void> {
    await this.#keptDone();
    const done = this.#keeper?.leave(this.bytes, this.#base) ?? null;
    if (done === null) return;
    const buffer = this.#buffer;
    this.#buffer = new Uint8Array(0);
    this.#kept = done.then(
      () => {
        this.#buffers.give(buffer);
        return null;
      },
      (error: unknown) => ({ error }),
    );
  }

  async #keptDone(): Promise<void> {
    const failed = await this.#kept;
    this.#kept = null;
    if (failed !== null) throw failed.error;
  }

  async #read(buffer: Uint8Array, offset: number, wanted: number): Promise<number> {
    const got = await this.#file.read(buffer.subarray(this.#carryBytes, this.#carryBytes + wanted), offset);
    if (got < wanted) this.#sizeBytes = Math.min(this.#sizeBytes, offset + got);
    return got;
  }

  #show(buffer: Uint8Array, start: number, length: number, offset: number): void {
    if (buffer !== this.#buffer) this.#buffers.give(this.#buffer);
    this.#buffer = buffer;
    this.#base = offset;
    this.bytes = buffer.subarray(start, start + length);
    this.view = viewOf(this.bytes);
  }

  #readAhead(): void {
    const offset = this.#end;
    const wanted = Math.min(WINDOW_BYTES, this.#sizeBytes - offset);
    if (wanted <= 0) return;
    const buffer = this.#buffers.take(CARRY_BYTES + WINDOW_BYTES);
    const done = this.#read(buffer, offset, wanted).then(
      (got) => ({ got }),
      (error: unknown) => ({ error }),
    );
    this.#ahead = { buffer, done };
  }

  /** No more is asked for. When it settles nothing reads the file any more, and the keeper has had all, so that it may be closed. */
  async end(): Promise<void> {
    await this.#ahead?.done;
    if (this.#ahead !== null) this.#buffers.give(this.#ahead.buffer);
    this.#ahead = null;
    await this.#leave();
    await this.#keptDone();
    this.#buffers.give(this.#buffer);
    this.#buffer = new Uint8Array(0);
    this.bytes = this.#buffer;
  }

  /** Offset of the next place at or behind `offset` that looks like a record, or -1. */
  async nextCandidate(offset: number): Promise<number> {
    let at = offset;
    while (at < this.#sizeBytes) {
      if (at < this.#base || at >= this.#end) await this.#load(at, WINDOW_BYTES);
      if (this.bytes.length === 0) return -1;
      const found = Buffer.from(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength).indexOf(RECORD_MAGIC_BYTES, at - this.#base);
      if (found >= 0 && (this.#base + found) % 8 === 0) return this.#base + found;
      at = found >= 0 ? this.#base + found + 1 : Math.max(at + 1, this.#end - 3);
      if (at + RECORD_MAGIC_BYTES.length > this.#sizeBytes) return -1;
    }
    return -1;
  }
}
