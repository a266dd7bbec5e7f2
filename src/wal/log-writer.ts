/**
 * The log writer: gives records their LSNs, hands them to the kernel in one write a turn, syncs as the durability mode asks
 * (group commit: while one sync is under way the next batch gathers) and tells who waits.
 *
 * Three marks move up: `lastLsn` (a record has its place) >= `writtenLsn` (handed to the kernel: survives the process)
 * >= `durableLsn` (synced: survives a power cut). A full disk stalls the log: its records are kept and tried again, nothing
 * new is taken meanwhile. A failed sync, or a write that fails for any other reason, ends it for good (I4).
 */
import { assert } from '../base/assert.ts';
import type { Durability } from '../base/durability.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { Timer } from '../env/env.ts';
import { LOG_HEADER_BYTES, MAX_RECORD_BLOCKS, RECORD_HEADER_BYTES, RECORD_KIND, type RecordContext, type RecordFields, encodeLogHeader, encodeRecordPrefix, recordBytes, recordPrefixBytes, recordSeed } from '../format/log-record.ts';
import { FlushHabit } from './flush-habit.ts';
import { LatencyPolicy } from './latency-policy.ts';
import { COPY_LIMIT_BYTES, LogBatch } from './log-batch.ts';
import type { LogStats, LogWriterOptions, UnsyncedData } from './log-options.ts';
import { Unsynced } from './unsynced.ts';
import { WaitQueue, type Waiter } from './waiters.ts';

/** Records that may gather while a write is under way; beyond it writers wait. */
const MAX_GATHERED_BYTES = 16 * 1024 * 1024;
/** Blocks of one record: small enough that a reader's buffer holds it. */
const RECORD_BLOCKS_MAX = 256;

export class LogWriter {
  readonly maxRecordBlocks: number;
  readonly #options: LogWriterOptions;
  readonly #policy: LatencyPolicy;
  readonly #written = new WaitQueue();
  readonly #durable = new WaitQueue();
  readonly #dirtyFiles = new Set<number>();
  readonly #unsynced = new Unsynced();
  readonly #habit = new FlushHabit();
  readonly #record: RecordFields;
  readonly #context: RecordContext;
  #batch = new LogBatch();
  #spare = new LogBatch();
  #lastLsn: number;
  #writtenLsn: number;
  #durableLsn: number;
  #durability: Durability;
  /** A FLUSH covers the records up to here, written or not: async mode answered them from memory. */
  #answeredLsn = 0;
  #writing: Promise<void> | null = null;
  #syncing: Promise<void> | null = null;
  #syncRequested = false;
  #timer: Timer | null = null;
  #stall: VolumeError | null = null;
  #stalledBatch: LogBatch | null = null;
  #failure: VolumeError | null = null;
  #logBytes = 0;
  #appendedBytes = 0;
  #logWrites = 0;
  #logSyncs = 0;

  constructor(options: LogWriterOptions) {
    this.#options = options;
    this.#context = { blockSizeBytes: options.blockSizeBytes, seed: recordSeed(options.volumeId) };
    this.#policy = new LatencyPolicy({ writeMs: options.settings.logInlineLatencyMs, syncMs: options.settings.logInlineSyncLatencyMs });
    this.#lastLsn = options.lastLsn;
    this.#writtenLsn = options.lastLsn;
    this.#durableLsn = options.lastLsn;
    this.#durability = options.durability;
    const perFile = Math.floor((options.ring.capacityBytes - RECORD_HEADER_BYTES) / (options.blockSizeBytes + 8) / 2);
    this.maxRecordBlocks = Math.max(1, Math.min(RECORD_BLOCKS_MAX, perFile, MAX_RECORD_BLOCKS));
    this.#record = { kind: RECORD_KIND.WRITE, provisioned: false, generation: 0, lsn: 0, durableLsn: 0, blockNumber: 0, blockCount: 0 };
  }

  get lastLsn(): number {
    return this.#lastLsn;
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
    return this.#appendedBytes;
  }

  get stats(): LogStats {
    return { logBytes: this.#logBytes, logWrites: this.#logWrites, logSyncs: this.#logSyncs };
  }

  /** What a power cut would take now. */
  get unsynced(): UnsyncedData {
    // The batch under way is `#spare` until it is written; an empty batch counts nothing.
    const waiting = this.#spare.isEmpty ? this.#batch : this.#spare;
    return {
      blockCount: this.#unsynced.blockCount + this.#spare.blockCount + this.#batch.blockCount,
      sinceMs: Math.min(this.#unsynced.oldestMs, waiting.isEmpty ? Number.POSITIVE_INFINITY : waiting.sinceMs),
    };
  }

  /**
   * Changes the mode from this moment on. All that was accepted before becomes durable now, whatever it was promised; the
   * `waiter` is told. So no promise of the old mode depends on a timer that the new one does not have.
   */
  setDurability(durability: Durability, waiter: Waiter): void {
    this.#durability = durability;
    this.#answeredLsn = this.#lastLsn;
    this.#timer?.cancel();
    this.#timer = null;
    this.force(waiter);
  }

  /** Whether records for `blockCount` blocks, however they are split, can be appended now. */
  hasRoom(blockCount: number): boolean {
    if (this.#failure !== null || this.#stall !== null) return false;
    const { ring, blockSizeBytes } = this.#options;
    if (this.#writing !== null && this.#batch.bytes > MAX_GATHERED_BYTES) return false;
    const oneBlock = recordBytes(RECORD_KIND.WRITE, 1, blockSizeBytes) + RECORD_HEADER_BYTES;
    const needed = blockCount * oneBlock + RECORD_HEADER_BYTES;
    if (needed <= ring.remaining) return true;
    // A record that does not fit the rest of a file leaves that rest unused.
    const largest = recordBytes(RECORD_KIND.WRITE, this.maxRecordBlocks, blockSizeBytes);
    return needed <= ring.freeFiles() * (ring.capacityBytes - largest);
  }

  /** Most blocks that `hasRoom` says yes to when the whole ring but one file is free. */
  get maxBlocksAtOnce(): number {
    const { ring, blockSizeBytes, files } = this.#options;
    const oneBlock = recordBytes(RECORD_KIND.WRITE, 1, blockSizeBytes) + RECORD_HEADER_BYTES;
    const largest = recordBytes(RECORD_KIND.WRITE, this.maxRecordBlocks, blockSizeBytes);
    return Math.max(1, Math.floor(((files.length - 1) * (ring.capacityBytes - largest) - RECORD_HEADER_BYTES) / oneBlock));
  }

  /**
   * Appends a record of block data; returns its LSN. `payload` stays unchanged until the record is written (it is a slab's);
   * its checksums are `checksums[first ...]`. Room was asked for with `hasRoom`.
   */
  appendWrite(blockNumber: number, blockCount: number, payload: Uint8Array, checksums: Uint32Array, first: number): number {
    assert(blockCount <= this.maxRecordBlocks, 'a record is too long');
    const prefix = this.#begin(RECORD_KIND.WRITE, blockNumber, blockCount, false);
    const copy = payload.length <= COPY_LIMIT_BYTES;
    const { bytes, view, start } = this.#batch.reserve(prefix + (copy ? payload.length : 0));
    encodeRecordPrefix(bytes, view, start, this.#record, this.#context, checksums, first);
    // Not `set`: from shared memory that copies word by word (see `Slab.put`).
    if (copy) bytes.fill(payload, start + prefix, start + prefix + payload.length);
    else this.#batch.appendBorrowed(payload);
    return this.#end(prefix + payload.length, blockCount);
  }

  /** Appends a record that makes a range read as zeroes; returns its LSN. */
  appendZero(blockNumber: number, blockCount: number, provisioned: boolean): number {
    const prefix = this.#begin(RECORD_KIND.ZERO, blockNumber, blockCount, provisioned);
    const { bytes, view, start } = this.#batch.reserve(prefix);
    encodeRecordPrefix(bytes, view, start, this.#record, this.#context, NO_CHECKSUMS, 0);
    return this.#end(prefix, 1);
  }

  #begin(kind: number, blockNumber: number, blockCount: number, provisioned: boolean): number {
    assert(this.#failure === null && this.#stall === null, 'a record is appended to a log that takes none');
    const { ring, clock } = this.#options;
    const lsn = this.#lastLsn + 1;
    if (this.#batch.isEmpty) this.#batch.sinceMs = clock.nowMs();
    const length = recordBytes(kind, blockCount, this.#options.blockSizeBytes);
    if (length > ring.remaining) this.#beginLife(lsn);
    else if (this.#batch.isEmpty) this.#continueLife();
    const record = this.#record;
    record.kind = kind;
    record.provisioned = provisioned;
    record.generation = ring.current?.generation ?? 0;
    record.lsn = lsn;
    record.durableLsn = this.#durableLsn;
    record.blockNumber = blockNumber;
    record.blockCount = blockCount;
    return recordPrefixBytes(kind, blockCount);
  }

  #end(length: number, blockCount: number): number {
    this.#lastLsn += 1;
    this.#options.ring.advance(length, this.#lastLsn);
    this.#appendedBytes += length;
    this.#batch.lastLsn = this.#lastLsn;
    this.#batch.blockCount += blockCount;
    return this.#lastLsn;
  }

  #continueLife(): void {
    const { ring } = this.#options;
    assert(ring.current !== null, 'the log has no current file');
    this.#batch.beginSegment(ring.current.fileIndex, ring.offset);
  }

  #beginLife(firstLsn: number): void {
    const { ring, volumeId, blockSizeBytes, epoch } = this.#options;
    const { fileIndex, generation } = ring.begin(firstLsn);
    this.#batch.beginSegment(fileIndex, 0);
    const header = encodeLogHeader({ volumeId, blockSizeBytes, generation, firstLsn, durableLsn: this.#durableLsn, epoch, fileIndex });
    const { bytes, start } = this.#batch.reserve(LOG_HEADER_BYTES);
    bytes.set(header, start);
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
    if (this.#durability === 'async' && this.#batch.bytes < this.#options.settings.logInlineBytes && nobodyWaits) {
      if (!this.#batch.isEmpty) this.#armTimer(this.#options.settings.asyncIntervalMs);
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
    this.whenDurable(this.#lastLsn, waiter);
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
    this.#failure ??= new VolumeError('closed', 'the log is closed');
    while (this.#writing !== null || this.#syncing !== null) await (this.#writing ?? this.#syncing);
    this.#written.failAll(this.#failure);
    this.#durable.failAll(this.#failure);
  }

  #pump(): void {
    if (this.#failure !== null) return;
    if (!this.#batch.isEmpty && this.#writing === null && this.#stall === null) this.#writeBatch();
    this.#pumpSync();
  }

  #takeBatch(): LogBatch {
    const batch = this.#batch;
    batch.finish();
    this.#batch = this.#spare;
    this.#spare = batch;
    return batch;
  }

  #writeBatch(): void {
    const { clock, settings, files } = this.#options;
    const batch = this.#takeBatch();
    const startMs = clock.nowMs();
    if (batch.bytes > settings.logInlineBytes || !this.#policy.mayWriteNow(startMs)) {
      this.#writeInBackground(batch);
      return;
    }
    try {
      for (const segment of batch.segments) {
        this.#dirtyFiles.add(segment.fileIndex);
        files[segment.fileIndex].writeNow(segment.parts, segment.offsetBytes);
      }
    } catch (error) {
      this.#writeFailed(batch, error);
      return;
    }
    const endMs = clock.nowMs();
    this.#policy.wrote(endMs, endMs - startMs);
    this.#wrote(batch);
  }

  #writeInBackground(batch: LogBatch): void {
    const { clock, events } = this.#options;
    const startMs = clock.nowMs();
    this.#writing = this.#writeSegments(batch).then(
      () => {
        this.#writing = null;
        const endMs = clock.nowMs();
        // Bulk batches are slow because they are large: only small ones say something about the device.
        if (batch.bytes <= this.#options.settings.logInlineBytes) this.#policy.wrote(endMs, endMs - startMs);
        this.#wrote(batch);
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
    for (const segment of batch.segments) {
      this.#dirtyFiles.add(segment.fileIndex);
      await this.#options.files[segment.fileIndex].write(segment.parts, segment.offsetBytes);
    }
  }

  #wrote(batch: LogBatch): void {
    this.#writtenLsn = batch.lastLsn;
    this.#unsynced.add(batch.lastLsn, batch.blockCount, batch.sinceMs);
    this.#logBytes += batch.bytes;
    this.#logWrites += 1;
    batch.reset();
    this.#written.settleTo(this.#writtenLsn);
    this.#options.events.written();
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
      this.#fail(new VolumeError('failed', `${error.message}; the volume takes no more writes until it is opened again`, { cause }));
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
    this.#writing = this.#writeSegments(batch).then(
      () => {
        this.#writing = null;
        this.#stall = null;
        this.#stalledBatch = null;
        this.#wrote(batch);
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
    if (wanted || this.#syncRequested) this.#startSync(wanted);
  }

  #startSync(wanted: boolean): void {
    const target = this.#writtenLsn;
    // Files whose records all went into chunks in the meantime hold nothing that a crash could take.
    const indexes = [...this.#dirtyFiles].filter((index) => this.#options.ring.holdsBehind(index, this.#durableLsn));
    // A file whose write is still under way stays dirty: this sync need not cover that write.
    if (this.#writing === null) this.#dirtyFiles.clear();
    this.#syncRequested = false;
    if (wanted && this.#policy.maySyncNow()) this.#syncNow(indexes, target);
    else this.#syncInBackground(indexes, target);
  }

  /**
   * A client that flushes after every write will do so again: the sync begins when the write was answered, while the answer
   * and the FLUSH are on their way (4 KiB, write and flush in turn: a fifth faster). One that stops doing so costs one sync.
   */
  #anticipate(): void {
    if (this.#syncing !== null || this.#failure !== null || this.#durableLsn >= this.#writtenLsn) return;
    this.#startSync(true);
  }

  #syncNow(indexes: readonly number[], target: number): void {
    const { clock, files } = this.#options;
    const startMs = clock.nowMs();
    try {
      for (const index of indexes) files[index].syncNow();
    } catch (error) {
      this.#syncFailed(error);
      return;
    }
    this.#policy.synced(clock.nowMs() - startMs, true);
    this.#synced(target);
  }

  #syncInBackground(indexes: readonly number[], target: number): void {
    const { clock, files } = this.#options;
    const startMs = clock.nowMs();
    const syncAll = async (): Promise<void> => {
      for (const index of indexes) await files[index].sync();
    };
    this.#syncing = syncAll().then(
      () => {
        this.#syncing = null;
        this.#policy.synced(clock.nowMs() - startMs, false);
        this.#synced(target);
        this.#pump();
      },
      (error: unknown) => {
        this.#syncing = null;
        this.#syncFailed(error);
      },
    );
  }

  #synced(target: number): void {
    this.#logSyncs += 1;
    if (target > this.#durableLsn) this.#becomeDurable(target);
  }

  #becomeDurable(lsn: number): void {
    this.#durableLsn = lsn;
    this.#unsynced.durableTo(lsn);
    this.#durable.settleTo(lsn);
  }

  #syncFailed(cause: unknown): void {
    const text = cause instanceof Error ? cause.message : String(cause);
    this.#fail(new VolumeError('failed', `syncing the log failed (${text}): the disk may have lost writes; the volume takes no more until it is opened again`, { cause }));
  }

  #fail(error: VolumeError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#written.failAll(error);
    this.#durable.failAll(error);
    this.#options.events.failed(error);
  }
}

const NO_CHECKSUMS = new Uint32Array(0);
