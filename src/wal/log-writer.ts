/**
 * The log writer: gives records their LSNs, hands them to the kernel in one write a turn, syncs as the durability mode asks
 * (group commit: while one sync is under way the next batch gathers) and tells who waits.
 *
 * Three marks move up: `lastLsn` (a record has its place) >= `writtenLsn` (handed to the kernel: survives the process)
 * >= `durableLsn` (synced: survives a power cut). A full disk stalls the log: its records are kept and tried again, nothing
 * new is taken meanwhile. A failed sync, or a write that fails for any other reason, ends it for good (I4).
 *
 * In strict mode write and sync may be one call (`direct-log.ts`); then a batch is durable when it is written.
 */
import { assert } from '../base/assert.ts';
import type { Durability } from '../base/durability.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { Timer } from '../env/env.ts';
import { FlushHabit } from './flush-habit.ts';
import { LatencyPolicy } from './latency-policy.ts';
import { LogBatch, type Segment } from './log-batch.ts';
import { LogCompressor } from './log-compressor.ts';
import type { LogStats, LogWriterOptions, UnsyncedData } from './log-options.ts';
import { LogRecords } from './log-records.ts';
import { SyncCompany } from './sync-company.ts';
import { Unsynced } from './unsynced.ts';
import { WaitQueue, type Waiter } from './waiters.ts';

/** Records that may gather while a write is under way; beyond it writers wait. */
const MAX_GATHERED_BYTES = 16 * 1024 * 1024;
/** What a sync makes durable, and the bytes that the log got since the one before it. */
interface SyncUnderWay {
  readonly target: number;
  readonly startMs: number;
  readonly bytes: number;
}

export class LogWriter {
  readonly #options: LogWriterOptions;
  readonly #policy: LatencyPolicy;
  readonly #written = new WaitQueue();
  readonly #durable = new WaitQueue();
  readonly #dirtyFiles = new Set<number>();
  readonly #unsynced = new Unsynced();
  readonly #habit = new FlushHabit();
  readonly #records: LogRecords;
  readonly #compressor: LogCompressor;
  /** The batch under way; empty while there is none. */
  #spare = new LogBatch();
  #writtenLsn: number;
  #durableLsn: number;
  #durability: Durability;
  /** A FLUSH covers the records up to here, written or not: async mode answered them from memory. */
  #answeredLsn = 0;
  #writing: Promise<void> | null = null;
  #syncing: Promise<void> | null = null;
  #syncRequested = false;
  #timer: Timer | null = null;
  readonly #company = new SyncCompany();
  /** Ends the wait of a sync for company. */
  #companyTimer: Timer | null = null;
  #stall: VolumeError | null = null;
  #stalledBatch: LogBatch | null = null;
  #failure: VolumeError | null = null;
  #logBytes = 0;
  /** Bytes that were written when the last sync began. */
  #syncedBytes = 0;
  #logWrites = 0;
  #logSyncs = 0;

  constructor(options: LogWriterOptions) {
    this.#options = options;
    this.#compressor = new LogCompressor(options.settings.logCompress);
    this.#records = new LogRecords(options, this.#compressor);
    this.#policy = new LatencyPolicy({ writeMs: options.settings.logInlineLatencyMs, syncMs: options.settings.logInlineSyncLatencyMs });
    this.#writtenLsn = options.lastLsn;
    this.#durableLsn = options.lastLsn;
    this.#durability = options.durability;
  }

  get lastLsn(): number {
    return this.#records.lastLsn;
  }

  get maxRecordBlocks(): number {
    return this.#records.maxRecordBlocks;
  }

  get writtenLsn(): number {
    return this.#writtenLsn;
  }

  get durableLsn(): number {
    return this.#durableLsn;
  }

  /** Why nothing can be taken at the moment (`no-space`) or any more; null while all is well. */
  get trouble(): VolumeError | null {
    return this.#failure ?? this.#stall;
  }

  /** Bytes of all records so far, written or not: the distance between two records in the log. */
  get appendedBytes(): number {
    return this.#records.appendedBytes;
  }

  get stats(): LogStats {
    return { logBytes: this.#logBytes + (this.#options.direct?.extraBytes ?? 0), logWrites: this.#logWrites, logSyncs: this.#logSyncs, logFiles: this.#options.files.length, logFreeFiles: this.#options.ring.freeFiles() };
  }

  /** Whether records are compressed now, where that saves something. */
  get isCompressing(): boolean {
    return this.#compressor.isActive;
  }

  /** What a power cut would take now. */
  get unsynced(): UnsyncedData {
    // The batch under way is `#spare` until it is written; an empty batch counts nothing.
    const waiting = this.#spare.isEmpty ? this.#records.batch : this.#spare;
    return {
      blockCount: this.#unsynced.blockCount + this.#spare.blockCount + this.#records.batch.blockCount,
      sinceMs: Math.min(this.#unsynced.oldestMs, waiting.isEmpty ? Number.POSITIVE_INFINITY : waiting.sinceMs),
    };
  }

  /**
   * Changes the mode from this moment on. All that was accepted before becomes durable now, whatever it was promised; the
   * `waiter` is told. So no promise of the old mode depends on a timer that the new one does not have.
   */
  setDurability(durability: Durability, waiter: Waiter): void {
    this.#durability = durability;
    this.#answeredLsn = this.#records.lastLsn;
    this.#timer?.cancel();
    this.#timer = null;
    this.force(waiter);
  }

  /** Whether records for `blockCount` blocks, however they are split, can be appended now. */
  hasRoom(blockCount: number): boolean {
    if (this.#failure !== null || this.#stall !== null) return false;
    if (this.#writing !== null && this.#records.batch.bytes > MAX_GATHERED_BYTES) return false;
    return this.#records.hasRoom(blockCount);
  }

  /** Most blocks that `hasRoom` says yes to when the whole ring but one file is free. */
  get maxBlocksAtOnce(): number {
    return this.#records.maxBlocksAtOnce;
  }

  /** As `LogRecords.appendWrite`; room was asked for with `hasRoom`. */
  appendWrite(blockNumber: number, blockCount: number, payload: Uint8Array, checksums: Uint32Array, first: number): number {
    this.#assertTaking();
    return this.#records.appendWrite(this.#durableLsn, blockNumber, blockCount, payload, checksums, first);
  }

  /** Appends a record that makes a range read as zeroes; returns its LSN. */
  appendZero(blockNumber: number, blockCount: number, provisioned: boolean): number {
    this.#assertTaking();
    return this.#records.appendZero(this.#durableLsn, blockNumber, blockCount, provisioned);
  }

  #assertTaking(): void {
    assert(this.#failure === null && this.#stall === null, 'a record is appended to a log that takes none');
  }

  /** Settles `waiter` when the record `lsn` is with the kernel. */
  whenWritten(lsn: number, waiter: Waiter): void {
    if (lsn <= this.#writtenLsn) waiter.settle(null);
    else if (this.#failure !== null) waiter.settle(this.#failure);
    else this.#written.push(lsn, waiter);
  }

  /** Settles `waiter` when the record `lsn` is durable; that takes a `submit`. */
  whenDurable(lsn: number, waiter: Waiter): void {
    if (lsn <= this.#durableLsn) waiter.settle(null);
    else if (this.#failure !== null) waiter.settle(this.#failure);
    else this.#durable.push(lsn, waiter);
  }

  /** Settles `waiter` when all that was answered is durable: what is with the kernel now, at least; that takes a `submit`. */
  flush(waiter: Waiter): void {
    this.#habit.flushed();
    this.whenDurable(Math.max(this.#writtenLsn, this.#answeredLsn), waiter);
  }

  /** Ends the turn: what was appended is written, and synced if somebody waits for that. */
  submit(): void {
    const nobodyWaits = this.#written.isEmpty && this.#durable.isEmpty;
    if (this.#durability === 'async' && this.#records.batch.bytes < this.#options.settings.logInlineBytes && nobodyWaits) {
      if (!this.#records.batch.isEmpty) this.#armTimer(this.#options.settings.asyncIntervalMs);
      return;
    }
    this.#pump();
  }

  /** Hands everything appended so far to the kernel, whatever the mode. */
  writeOut(): void {
    this.#pump();
  }

  /** Writes and syncs everything appended so far, whatever the mode; the `waiter` is told. */
  force(waiter: Waiter): void {
    this.whenDurable(this.#records.lastLsn, waiter);
    this.#pump();
  }

  /** Records up to `lsn` are durable in chunks: their log space can be used again. */
  recycleTo(lsn: number): void {
    if (this.#options.ring.recycleTo(lsn)) this.#options.events.room();
    if (lsn > this.#durableLsn) this.#becomeDurable(lsn);
  }

  /** Ends the log: waits for what is under way. What was never submitted is lost. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = null;
    this.#companyTimer?.cancel();
    this.#companyTimer = null;
    this.#failure ??= new VolumeError('closed', 'the log is closed');
    while (this.#writing !== null || this.#syncing !== null) await (this.#writing ?? this.#syncing);
    this.#written.failAll(this.#failure);
    this.#durable.failAll(this.#failure);
  }

  #pump(): void {
    if (this.#failure !== null) return;
    if (!this.#records.batch.isEmpty && this.#writing === null && this.#stall === null && !this.#directWaits()) this.#writeBatch();
    this.#pumpSync();
  }

  /** Where every write is synced the two are one call; in the other modes a plain write is enough for an answer, and far quicker. */
  #isDirect(segment: Segment): boolean {
    return this.#durability === 'strict' && this.#options.direct?.takes(segment) === true;
  }

  /** A direct write is a sync as well: it waits for company as one. */
  #directWaits(): boolean {
    return this.#durability === 'strict' && this.#options.direct !== null && this.#waitsForCompany();
  }

  #writeBatch(): void {
    const { clock, settings } = this.#options;
    const batch = this.#records.takeBatch(this.#spare);
    this.#spare = batch;
    const startMs = clock.nowMs();
    if (batch.bytes > settings.logInlineBytes || !this.#mayWriteNow(batch, startMs)) {
      this.#writeInBackground(batch);
      return;
    }
    try {
      for (const segment of batch.segments) this.#writeSegmentNow(segment);
    } catch (error) {
      this.#writeFailed(batch, error);
      return;
    }
    this.#wrote(batch, startMs, true);
  }

  #mayWriteNow(batch: LogBatch, nowMs: number): boolean {
    const direct = batch.segments.filter((segment) => this.#isDirect(segment));
    if (direct.length < batch.segments.length && !this.#policy.mayWriteNow(nowMs)) return false;
    return direct.every((segment) => this.#policy.maySyncNow() && this.#options.direct?.isReady(segment) === true);
  }

  #writeSegmentNow(segment: Segment): void {
    const { direct, files } = this.#options;
    const { fileIndex, parts, offsetBytes } = segment;
    if (direct !== null && this.#isDirect(segment) && direct.writeNow(segment)) return;
    this.#beginPlainWrite(fileIndex);
    files[fileIndex].writeNow(parts, offsetBytes);
  }

  #beginPlainWrite(fileIndex: number): void {
    this.#dirtyFiles.add(fileIndex);
    this.#options.direct?.plainWrite(fileIndex);
  }

  #writeInBackground(batch: LogBatch): void {
    const { clock, events } = this.#options;
    const startMs = clock.nowMs();
    this.#writing = this.#writeSegments(batch).then(
      () => {
        this.#writing = null;
        this.#wrote(batch, startMs, false);
        this.#pump();
        events.room();
      },
      (error: unknown) => {
        this.#writing = null;
        this.#writeFailed(batch, error);
      },
    );
  }

  async #writeSegments(batch: LogBatch): Promise<void> {
    const { direct, files } = this.#options;
    for (const segment of batch.segments) {
      if (direct !== null && this.#isDirect(segment) && (await direct.write(segment))) continue;
      this.#beginPlainWrite(segment.fileIndex);
      await files[segment.fileIndex].write(segment.parts, segment.offsetBytes);
    }
  }

  #wrote(batch: LogBatch, startMs: number, withinTurn: boolean): void {
    const { clock, settings, events } = this.#options;
    const { bytes } = batch;
    // No file has a plain write that is not synced: everything is durable, this batch by its own write. Unless a sync failed meanwhile:
    // what it should have covered counts as dirty nowhere, and may be lost.
    const isDurable = this.#failure === null && this.#dirtyFiles.size === 0 && this.#syncing === null;
    // Bulk batches are slow because they are large: only small ones say something about the device.
    if (!isDurable && bytes <= settings.logInlineBytes) this.#policy.wrote(clock.nowMs(), clock.nowMs() - startMs);
    this.#writtenLsn = batch.lastLsn;
    this.#unsynced.add(batch.lastLsn, batch.blockCount, batch.sinceMs);
    this.#logBytes += bytes;
    this.#logWrites += 1;
    batch.reset();
    this.#written.settleTo(this.#writtenLsn);
    if (isDurable) {
      this.#syncedBytes = this.#logBytes;
      this.#synced({ target: this.#writtenLsn, startMs, bytes }, withinTurn);
    }
    events.written();
    this.#limitUnsynced();
    if (this.#habit.wrote() && this.#durable.isEmpty && this.#durability !== 'async') queueMicrotask(() => this.#anticipate());
  }

  /** batched mode: what is unsynced stays within its limits of blocks and time; async mode: within its interval. */
  #limitUnsynced(): void {
    if (this.#durableLsn >= this.#writtenLsn) return;
    if (this.#durability === 'async') this.#armTimer(this.#options.settings.asyncIntervalMs);
    if (this.#durability !== 'batched') return;
    const { batchBlocks, batchMs } = this.#options.settings;
    if (this.#unsynced.blockCount >= batchBlocks) this.#syncRequested = true;
    else this.#armTimer(batchMs - (this.#options.clock.nowMs() - this.#unsynced.oldestMs));
  }

  #armTimer(delayMs: number): void {
    if (this.#timer !== null) return;
    this.#timer = this.#options.clock.setTimer(Math.max(0, delayMs), () => {
      this.#timer = null;
      this.#timeIsUp();
    });
  }

  /** The oldest data has reached its age, unless chunks made it durable in the meantime and what is left is younger. */
  #timeIsUp(): void {
    const { clock, settings } = this.#options;
    const ageMs = clock.nowMs() - this.#unsynced.oldestMs;
    if (this.#durability === 'batched' && ageMs < settings.batchMs) {
      this.#limitUnsynced();
      return;
    }
    this.#syncRequested = true;
    this.#pump();
  }

  #writeFailed(batch: LogBatch, cause: unknown): void {
    const error = toVolumeError(cause, 'writing the log');
    if (error.code !== 'no-space') {
      this.#fail(new VolumeError('failed', error.message, { cause }));
      return;
    }
    // The records keep their places: they are written again, at the same offsets, when there is space. Who waits is told now.
    this.#stall = error;
    this.#stalledBatch = batch;
    this.#written.failAll(error);
    this.#durable.failAll(error);
    this.#options.events.stalled();
    this.#options.clock.setTimer(this.#options.settings.retryMs, () => this.#retry());
  }

  #retry(): void {
    const batch = this.#stalledBatch;
    if (batch === null || this.#failure !== null) return;
    const startMs = this.#options.clock.nowMs();
    this.#writing = this.#writeSegments(batch).then(
      () => {
        this.#writing = null;
        this.#stall = null;
        this.#stalledBatch = null;
        this.#wrote(batch, startMs, false);
        this.#pump();
        this.#options.events.room();
      },
      (error: unknown) => {
        this.#writing = null;
        this.#writeFailed(batch, error);
      },
    );
  }

  #pumpSync(): void {
    if (this.#syncing !== null || this.#failure !== null) return;
    if (this.#durableLsn >= this.#writtenLsn) {
      if (this.#writing === null) this.#syncRequested = false;
      return;
    }
    // Strict: the written are waited for by their writers. Else only who asked for durability, or the batch limits.
    const wanted = this.#durable.firstLsn <= this.#writtenLsn;
    if (!wanted && !this.#syncRequested) return;
    if (this.#syncRequested || !this.#waitsForCompany()) this.#startSync(wanted);
  }

  /** Whether it is too early for a sync; then it is looked at again in time. */
  #waitsForCompany(): boolean {
    const waitMs = this.#company.waitMs(this.#options.clock.nowMs(), this.#durable.length);
    if (waitMs > 0) this.#companyTimer ??= this.#options.clock.setTimer(waitMs, () => this.#companyIsLate());
    return waitMs > 0;
  }

  #companyIsLate(): void {
    this.#companyTimer = null;
    this.#pump();
  }

  #startSync(wanted: boolean): void {
    const sync: SyncUnderWay = { target: this.#writtenLsn, startMs: this.#options.clock.nowMs(), bytes: this.#logBytes - this.#syncedBytes };
    this.#syncedBytes = this.#logBytes;
    this.#companyTimer?.cancel();
    this.#companyTimer = null;
    // Files whose records all went into chunks in the meantime hold nothing that a crash could take.
    const indexes = [...this.#dirtyFiles].filter((index) => this.#options.ring.holdsBehind(index, this.#durableLsn));
    // A file whose write is still under way stays dirty: this sync need not cover that write.
    if (this.#writing === null) this.#dirtyFiles.clear();
    this.#syncRequested = false;
    if (wanted && this.#policy.maySyncNow()) this.#syncNow(indexes, sync);
    else this.#syncInBackground(indexes, sync);
  }

  /**
   * A client that flushes after every write will do so again: the sync begins when the write was answered, while the answer
   * and the FLUSH are on their way (4 KiB, write and flush in turn: a fifth faster). One that stops doing so costs one sync.
   */
  #anticipate(): void {
    if (this.#syncing !== null || this.#failure !== null || this.#durableLsn >= this.#writtenLsn) return;
    this.#startSync(true);
  }

  #syncNow(indexes: readonly number[], sync: SyncUnderWay): void {
    const { files } = this.#options;
    try {
      for (const index of indexes) files[index].syncNow();
    } catch (error) {
      this.#syncFailed(error);
      return;
    }
    this.#synced(sync, true);
  }

  #syncInBackground(indexes: readonly number[], sync: SyncUnderWay): void {
    const { files } = this.#options;
    const syncAll = async (): Promise<void> => {
      for (const index of indexes) await files[index].sync();
    };
    this.#syncing = syncAll().then(
      () => {
        this.#syncing = null;
        this.#synced(sync, false);
        this.#pump();
      },
      (error: unknown) => {
        this.#syncing = null;
        this.#syncFailed(error);
      },
    );
  }

  #synced({ target, startMs, bytes }: SyncUnderWay, withinTurn: boolean): void {
    const elapsedMs = this.#options.clock.nowMs() - startMs;
    this.#policy.synced(elapsedMs, withinTurn);
    this.#compressor.synced(elapsedMs, bytes);
    this.#logSyncs += 1;
    const waited = this.#durable.length;
    if (target > this.#durableLsn) this.#becomeDurable(target);
    const left = this.#durable.length;
    this.#company.synced(this.#options.clock.nowMs(), elapsedMs, waited - left, left);
  }

  #becomeDurable(lsn: number): void {
    this.#durableLsn = lsn;
    this.#unsynced.durableTo(lsn);
    this.#durable.settleTo(lsn);
    this.#options.events.durable(lsn);
  }

  #syncFailed(cause: unknown): void {
    const text = cause instanceof Error ? cause.message : String(cause);
    this.#fail(new VolumeError('failed', `syncing the log failed (${text}): the disk may have lost writes`, { cause }));
  }

  #fail(error: VolumeError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#written.failAll(error);
    this.#durable.failAll(error);
    this.#options.events.failed(error);
  }
}
