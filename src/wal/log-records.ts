/** Making records: each gets the next LSN and a place in the ring, and is gathered in the batch that the next write takes. */
import { assert } from '../base/assert.ts';
import { checksum } from '../base/checksum.ts';
import { LOG_HEADER_BYTES, LOG_VERSION, MAX_RECORD_BLOCKS, RECORD_CODEC, RECORD_HEADER_BYTES, RECORD_KIND, type RecordContext, type RecordFields, encodeLogHeader, encodeRecordPrefix, paddedBytes, recordBytes, recordPrefixBytes, recordSeed } from '../format/log-record.ts';
import { COPY_LIMIT_BYTES, LogBatch } from './log-batch.ts';
import type { LogCompressor } from './log-compressor.ts';
import type { LogWriterOptions } from './log-options.ts';

/** Blocks of one record: small enough that a reader's buffer holds it. */
const RECORD_BLOCKS_MAX = 256;

export class LogRecords {
  readonly maxRecordBlocks: number;
  readonly #options: LogWriterOptions;
  readonly #compressor: LogCompressor;
  readonly #record: RecordFields;
  readonly #context: RecordContext;
  #batch = new LogBatch();
  #lastLsn: number;
  #appendedBytes = 0;

  constructor(options: LogWriterOptions, compressor: LogCompressor) {
    this.#options = options;
    this.#compressor = compressor;
    this.#lastLsn = options.lastLsn;
    this.#context = { blockSizeBytes: options.blockSizeBytes, seed: recordSeed(options.volumeId) };
    const perFile = Math.floor((options.ring.capacityBytes - RECORD_HEADER_BYTES) / (options.blockSizeBytes + 8) / 2);
    this.maxRecordBlocks = Math.max(1, Math.min(RECORD_BLOCKS_MAX, perFile, MAX_RECORD_BLOCKS));
    this.#record = { kind: RECORD_KIND.WRITE, provisioned: false, generation: 0, lsn: 0, durableLsn: 0, blockNumber: 0, blockCount: 0, codec: RECORD_CODEC.NONE, storedBytes: 0, storedChecksum: 0 };
  }

  get lastLsn(): number {
    return this.#lastLsn;
  }

  /** Bytes of all records so far, written or not. */
  get appendedBytes(): number {
    return this.#appendedBytes;
  }

  /** What was appended since the last `takeBatch`. */
  get batch(): LogBatch {
    return this.#batch;
  }

  /** The batch, ready to be written; what follows gathers in `next`, which is empty. */
  takeBatch(next: LogBatch): LogBatch {
    const batch = this.#batch;
    batch.finish();
    this.#batch = next;
    return batch;
  }

  /** Whether records for `blockCount` blocks, however they are split and whether they compress or not, fit the ring now. */
  hasRoom(blockCount: number): boolean {
    const { ring, blockSizeBytes } = this.#options;
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
  appendWrite(durableLsn: number, blockNumber: number, blockCount: number, payload: Uint8Array, checksums: Uint32Array, first: number): number {
    assert(blockCount <= this.maxRecordBlocks, 'a record is too long');
    const packed = this.#compressor.compress(payload);
    const stored = packed ?? payload;
    const record = this.#record;
    record.codec = packed === null ? RECORD_CODEC.NONE : RECORD_CODEC.LZ4;
    record.storedBytes = stored.length;
    record.storedChecksum = packed === null ? 0 : checksum(packed);
    const length = paddedBytes(stored.length);
    const prefix = this.#begin(RECORD_KIND.WRITE, durableLsn, blockNumber, blockCount);
    const copied = length <= COPY_LIMIT_BYTES ? length : 0;
    const { bytes, view, start } = this.#batch.reserve(prefix + copied);
    encodeRecordPrefix(bytes, view, start, record, this.#context, checksums, first);
    if (copied === 0) {
      this.#appendBorrowed(stored, length);
    } else {
      const end = start + prefix + stored.length;
      // Not `set`: from shared memory that copies word by word (see `Slab.put`).
      bytes.fill(stored, start + prefix, end);
      if (length > stored.length) bytes.fill(0, end, start + prefix + length);
    }
    return this.#end(prefix + length, blockCount);
  }

  /** A large payload is not copied; it is made up to `length` bytes with zeroes. */
  #appendBorrowed(stored: Uint8Array, length: number): void {
    this.#batch.appendBorrowed(stored);
    if (length === stored.length) return;
    const { bytes, start } = this.#batch.reserve(length - stored.length);
    bytes.fill(0, start, start + length - stored.length);
  }

  /** Appends a record that makes a range read as zeroes; returns its LSN. */
  appendZero(durableLsn: number, blockNumber: number, blockCount: number, provisioned: boolean): number {
    const record = this.#record;
    record.codec = RECORD_CODEC.NONE;
    record.storedBytes = 0;
    record.storedChecksum = 0;
    record.provisioned = provisioned;
    const prefix = this.#begin(RECORD_KIND.ZERO, durableLsn, blockNumber, blockCount);
    const { bytes, view, start } = this.#batch.reserve(prefix);
    encodeRecordPrefix(bytes, view, start, record, this.#context, NO_CHECKSUMS, 0);
    record.provisioned = false;
    return this.#end(prefix, 1);
  }

  /** The record's place, and the rest of its fields. Returns the length of its prefix. */
  #begin(kind: number, durableLsn: number, blockNumber: number, blockCount: number): number {
    const { ring, clock } = this.#options;
    const record = this.#record;
    const prefix = recordPrefixBytes(kind, blockCount);
    if (this.#batch.isEmpty) this.#batch.sinceMs = clock.nowMs();
    if (prefix + paddedBytes(record.storedBytes) > ring.remaining) this.#beginLife(durableLsn);
    else if (this.#batch.isEmpty) this.#continueLife();
    record.kind = kind;
    record.generation = ring.current?.generation ?? 0;
    record.lsn = this.#lastLsn + 1;
    record.durableLsn = durableLsn;
    record.blockNumber = blockNumber;
    record.blockCount = blockCount;
    return prefix;
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

  #beginLife(durableLsn: number): void {
    const { ring, volumeId, blockSizeBytes, epoch } = this.#options;
    const version = this.#compressor.isUsed ? LOG_VERSION.COMPRESSED : LOG_VERSION.PLAIN;
    const firstLsn = this.#lastLsn + 1;
    const { fileIndex, generation, previousGeneration } = ring.begin(firstLsn);
    this.#batch.beginSegment(fileIndex, 0);
    const header = encodeLogHeader({ version, volumeId, blockSizeBytes, generation, firstLsn, durableLsn, epoch, fileIndex, previousGeneration });
    const { bytes, start } = this.#batch.reserve(LOG_HEADER_BYTES);
    bytes.set(header, start);
  }
}

const NO_CHECKSUMS = new Uint32Array(0);
