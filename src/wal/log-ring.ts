/**
 * Where in the ring of log files the next record goes. A file lives many times: a life begins with a header and ends when the
 * file is full; the file may begin a new life once all LSNs of the last one are durable elsewhere (I6).
 */
import { assert } from '../base/assert.ts';
import { GENERATIONS_PER_EPOCH, LOG_HEADER_BYTES } from '../format/log-record.ts';

/** One life of a log file; `lastLsn` is `firstLsn - 1` while it has no record. */
export interface LogLife {
  readonly fileIndex: number;
  readonly generation: number;
  readonly firstLsn: number;
  /** Of the life whose records come before its own; 0: not known. */
  readonly previousGeneration: number;
  lastLsn: number;
}

export interface LogRingOptions {
  readonly fileCount: number;
  readonly fileBytes: number;
  readonly epoch: number;
  /** Lives that recovery found and whose records are still needed. */
  readonly lives: readonly LogLife[];
  /** All LSNs up to here are durable in chunks. */
  readonly chunkedLsn: number;
}

export class LogRing {
  readonly fileBytes: number;
  readonly #lives: (LogLife | null)[];
  #current: LogLife | null = null;
  #offset = 0;
  #nextGeneration: number;
  #lastGeneration: number;
  #chunkedLsn: number;
  #scanFrom: number;

  constructor(options: LogRingOptions) {
    this.fileBytes = options.fileBytes;
    this.#lives = Array.from({ length: options.fileCount }, () => null);
    for (const life of options.lives) this.#lives[life.fileIndex] = life;
    this.#nextGeneration = options.epoch * GENERATIONS_PER_EPOCH;
    this.#chunkedLsn = options.chunkedLsn;
    const newest = options.lives.at(-1);
    this.#lastGeneration = newest?.generation ?? 0;
    this.#scanFrom = newest === undefined ? 0 : newest.fileIndex + 1;
  }

  /** The life that takes records now. */
  get current(): LogLife | null {
    return this.#current;
  }

  /** Where the next record goes in the current file. */
  get offset(): number {
    return this.#offset;
  }

  /** Bytes left in the current file. */
  get remaining(): number {
    return this.#current === null ? 0 : this.fileBytes - this.#offset;
  }

  /** Most bytes of records that one file holds. */
  get capacityBytes(): number {
    return this.fileBytes - LOG_HEADER_BYTES;
  }

  #isFree(index: number): boolean {
    const life = this.#lives[index];
    return life === null || (life !== this.#current && life.lastLsn <= this.#chunkedLsn);
  }

  /** Files that can begin a new life now. */
  freeFiles(): number {
    let count = 0;
    for (let i = 0; i < this.#lives.length; i += 1) if (this.#isFree(i)) count += 1;
    return count;
  }

  /** Ends the current life and begins one in the next free file; the header's bytes are accounted for. */
  begin(firstLsn: number): LogLife {
    const count = this.#lives.length;
    let index = -1;
    for (let i = 0; i < count && index < 0; i += 1) {
      const candidate = (this.#scanFrom + i) % count;
      if (this.#isFree(candidate)) index = candidate;
    }
    assert(index >= 0, 'a log file is begun while all hold records that are needed');
    const life = { fileIndex: index, generation: this.#nextGeneration, firstLsn, previousGeneration: this.#lastGeneration, lastLsn: firstLsn - 1 };
    this.#lastGeneration = this.#nextGeneration;
    this.#nextGeneration += 1;
    this.#lives[index] = life;
    this.#current = life;
    this.#offset = LOG_HEADER_BYTES;
    this.#scanFrom = index + 1;
    return life;
  }

  /** A record of `bytes` stands at `offset` of the current life now. */
  advance(bytes: number, lsn: number): void {
    const life = this.#current;
    assert(life !== null && bytes <= this.remaining && lsn === life.lastLsn + 1, 'a record does not fit the log, or comes out of order');
    this.#offset += bytes;
    life.lastLsn = lsn;
  }

  /** All LSNs up to `lsn` are durable in chunks: true if that freed a file. */
  recycleTo(lsn: number): boolean {
    const before = this.freeFiles();
    this.#chunkedLsn = Math.max(this.#chunkedLsn, lsn);
    return this.freeFiles() > before;
  }

  /** Whether a file holds records behind `durableLsn`: only then is there a reason to sync it. */
  holdsBehind(fileIndex: number, durableLsn: number): boolean {
    const life = this.#lives[fileIndex];
    return life !== null && life.lastLsn > durableLsn;
  }
}
