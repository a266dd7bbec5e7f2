/** A log on fake files: written by the real writer, read back by the real recovery. */
import { checksum } from '../../src/base/checksum.ts';
import type { Durability } from '../../src/base/durability.ts';
import type { VolumeError } from '../../src/base/errors.ts';
import type { EngineSettings } from '../../src/base/settings-types.ts';
import { RECORD_KIND } from '../../src/format/log-record.ts';
import { type LogRecovery, recoverLog } from '../../src/wal/log-recovery.ts';
import { DirectLog } from '../../src/wal/direct-log.ts';
import type { LogFile } from '../../src/wal/log-options.ts';
import { type LogLife, LogRing } from '../../src/wal/log-ring.ts';
import { LogWriter } from '../../src/wal/log-writer.ts';
import { MappedLog } from '../../src/wal/mapped-log.ts';
import type { Waiter } from '../../src/wal/waiters.ts';
import { BLOCK_BYTES, pattern, smallSettings } from './engine-harness.ts';
import { FakeDirectFile, FakeFile, FakeMapping, ManualClock, MemoryLogger } from './fake-world.ts';

export const VOLUME_ID = Uint8Array.from({ length: 16 }, (_, index) => index + 1);
export const VOLUME_BLOCKS = 4096;

/** Remembers how a wait ended. */
export class Ended implements Waiter {
  state: 'waiting' | 'done' | VolumeError = 'waiting';

  settle(error: VolumeError | null): void {
    if (this.state !== 'waiting') throw new Error('a waiter was settled twice');
    this.state = error ?? 'done';
  }

  get code(): string {
    return typeof this.state === 'string' ? this.state : this.state.code;
  }
}

export interface LogOptions {
  readonly durability?: Durability;
  readonly settings?: Partial<EngineSettings>;
  readonly blockBytes?: number;
  readonly fileBytes?: number;
  readonly fileCount?: number;
  readonly files?: readonly FakeFile[];
  readonly epoch?: number;
  readonly lastLsn?: number;
  readonly lives?: readonly LogLife[];
  readonly chunkedLsn?: number;
  readonly direct?: DirectLog;
  /** For the writer, in place of `files`. */
  readonly logFiles?: readonly LogFile[];
  /** What the records' blocks hold; `pattern`, which is noise, if it is not given. */
  readonly content?: Content;
}

/** Blocks that nobody takes for one another, from a number. */
export type Content = (seed: number, blockCount: number) => Uint8Array;

/** As `pattern`, but two thirds of each 512 bytes are zeroes. */
export function compressible(seed: number, blockCount: number): Uint8Array {
  const bytes = pattern(seed, blockCount);
  for (let at = 0; at < bytes.length; at += 512) bytes.fill(0, at + 170, at + 512);
  return bytes;
}

export class LogHarness {
  readonly clock = new ManualClock();
  readonly files: readonly FakeFile[];
  readonly ring: LogRing;
  readonly log: LogWriter;
  readonly failures: VolumeError[] = [];
  readonly #blockBytes: number;
  readonly #content: Content;
  rooms = 0;

  constructor(options: LogOptions = {}) {
    const { fileCount = 3, fileBytes = 128 * 1024, epoch = 1, lastLsn = 0, lives = [], chunkedLsn = 0, blockBytes = BLOCK_BYTES } = options;
    this.#blockBytes = blockBytes;
    this.#content = options.content ?? pattern;
    this.files = options.files ?? Array.from({ length: fileCount }, () => new FakeFile());
    this.ring = new LogRing({ fileCount, fileBytes, epoch, lives, chunkedLsn });
    this.log = new LogWriter({
      clock: this.clock,
      files: options.logFiles ?? this.files,
      direct: options.direct ?? null,
      ring: this.ring,
      volumeId: VOLUME_ID,
      blockSizeBytes: blockBytes,
      epoch,
      lastLsn,
      durability: options.durability ?? 'relaxed',
      settings: smallSettings(options.settings),
      events: {
        written: () => undefined,
        durable: () => undefined,
        room: () => {
          this.rooms += 1;
        },
        stalled: () => undefined,
        failed: (error) => this.failures.push(error),
      },
    });
  }

  /** Appends a write of `blockCount` blocks whose content says which record it is. */
  append(blockNumber = 0, blockCount = 1): number {
    const size = this.#blockBytes;
    const payload = this.#content(1000 + this.log.lastLsn + 1, (blockCount * size) / BLOCK_BYTES);
    const checksums = Uint32Array.from({ length: blockCount }, (_, index) => checksum(payload.subarray(index * size, (index + 1) * size)));
    return this.log.appendWrite(blockNumber, blockCount, payload, checksums, 0);
  }

  written(lsn: number): Ended {
    const ended = new Ended();
    this.log.whenWritten(lsn, ended);
    return ended;
  }

  durable(lsn: number): Ended {
    const ended = new Ended();
    this.log.whenDurable(lsn, ended);
    return ended;
  }

  /** Appends and submits `count` records, one write each. */
  writeRecords(count: number): void {
    for (let i = 0; i < count; i += 1) {
      this.append(i);
      this.log.submit();
    }
  }

  /** Makes all records durable; the next ones say so. */
  async sync(): Promise<void> {
    const ended = new Ended();
    this.log.force(ended);
    for (let i = 0; i < 100 && ended.state === 'waiting'; i += 1) await Promise.resolve();
    if (ended.state !== 'done') throw new Error(`the sync ended with ${ended.code}`);
  }
}

/** A log with a second, direct descriptor of each file. */
export class DirectHarness extends LogHarness {
  readonly directFiles: readonly FakeDirectFile[];
  readonly logger: MemoryLogger;

  private constructor(options: LogOptions, files: readonly FakeFile[], directFiles: readonly FakeDirectFile[], logger: MemoryLogger, direct: DirectLog) {
    super({ durability: 'strict', ...options, files, direct });
    this.directFiles = directFiles;
    this.logger = logger;
  }

  static async make(options: LogOptions = {}): Promise<DirectHarness> {
    const files = Array.from({ length: options.fileCount ?? 3 }, () => new FakeFile());
    const directFiles = files.map((file) => new FakeDirectFile(file));
    const logger = new MemoryLogger();
    const open = (path: string): Promise<FakeDirectFile> => Promise.resolve(directFiles[Number(path)]);
    const direct = await DirectLog.open({ files: { open }, logger, volume: 'v', paths: files.map((_, index) => String(index)), plainFiles: files, fileBytes: options.fileBytes ?? 128 * 1024 });
    if (direct === null) throw new Error('the fake file system refuses direct writes');
    return new DirectHarness(options, files, directFiles, logger, direct);
  }

  /** Appends a record of so many blocks, and waits for it. */
  async writeDurably(blockCount = 1): Promise<Ended> {
    const ended = this.durable(this.append(0, blockCount));
    this.log.submit();
    for (let i = 0; i < 200 && ended.state === 'waiting'; i += 1) await Promise.resolve();
    return ended;
  }
}

/** A log with a mapping of each file. */
export class MappedHarness extends LogHarness {
  readonly mappings: readonly FakeMapping[];
  readonly logger: MemoryLogger;
  readonly mapped: MappedLog;

  private constructor(options: LogOptions, files: readonly FakeFile[], mappings: readonly FakeMapping[], logger: MemoryLogger, mapped: MappedLog) {
    super({ ...options, files, logFiles: mapped.files });
    this.mappings = mappings;
    this.logger = logger;
    this.mapped = mapped;
  }

  /** Its files begin with `writtenBytes` each. */
  static async make({ writtenBytes = 0, ...options }: LogOptions & { readonly writtenBytes?: number } = {}): Promise<MappedHarness> {
    const files = Array.from({ length: options.fileCount ?? 3 }, () => new FakeFile());
    for (const file of files) file.replace(Buffer.alloc(writtenBytes, 0xee));
    const mappings = files.map((file) => new FakeMapping(file));
    const logger = new MemoryLogger();
    const map = (path: string): Promise<FakeMapping> => Promise.resolve(mappings[Number(path)]);
    const mapped = await MappedLog.open({ files: { map }, logger, volume: 'v', paths: files.map((_, index) => String(index)), plainFiles: files, fileBytes: options.fileBytes ?? 128 * 1024 });
    if (mapped === null) throw new Error('the fake file system refuses mappings');
    return new MappedHarness(options, files, mappings, logger, mapped);
  }
}

export interface Replayed {
  readonly lsn: number;
  readonly kind: number;
  readonly blockNumber: number;
  readonly blockCount: number;
  readonly payload: Buffer;
}

/** Recovers the log in `files`; checks that each record has the content that the harness gave it. */
export async function recover(files: readonly FakeFile[], options: { readonly chunkedLsn?: number; readonly cut?: { epoch: number; lsn: number }; readonly content?: Content; readonly blockBytes?: number } = {}): Promise<LogRecovery & { replayed: Replayed[] }> {
  const { chunkedLsn = 0, cut = { epoch: 0, lsn: 0 }, content = pattern, blockBytes = BLOCK_BYTES } = options;
  const replayed: Replayed[] = [];
  const recovery = await recoverLog({
    files,
    volumeId: VOLUME_ID,
    blockSizeBytes: blockBytes,
    volumeBlocks: VOLUME_BLOCKS,
    chunkedLsn,
    cut,
    markedLsn: 0,
    lastEpoch: Number.POSITIVE_INFINITY,
    apply: ({ record, payload: borrowed }) => {
      const { lsn, kind, blockNumber, blockCount } = record;
      const payload = Buffer.from(borrowed);
      if (kind === RECORD_KIND.WRITE && Buffer.compare(payload, content(1000 + lsn, payload.length / BLOCK_BYTES)) !== 0) throw new Error(`record ${lsn} has the bytes of another one`);
      replayed.push({ lsn, kind, blockNumber, blockCount, payload });
      return Promise.resolve();
    },
  });
  return { ...recovery, replayed };
}

/** Bytes of a record of one block in the log. */
export const ONE_BLOCK_RECORD_BYTES = 64 + 8 + BLOCK_BYTES;
