/**
 * The log: a ring of files. In each of its lives a file holds a header and then records, back to back.
 *
 * Log file header (4096 bytes at the start of the file)
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | magic `BASALTLG` |
 * | 8 | 4 | format version: 1, or 2 if this life may have records of codec 1 |
 * | 12 | 4 | block size in bytes |
 * | 16 | 16 | volume id |
 * | 32 | 8 | generation: number of this life, epoch x 2^24 + a count from 0: it grows from life to life and is never used twice |
 * | 40 | 8 | first LSN of this life |
 * | 48 | 8 | LSN known to be durable when the life began |
 * | 56 | 8 | epoch |
 * | 64 | 4 | place of the file in the ring, from 0 |
 * | 68 | 4 | CRC-32 of bytes 0 to 67 |
 * | 72 | 8 | generation of the life that this one follows in the log; 0: none, or not known |
 * | 80 | 4 | CRC-32 of bytes 0 to 67 and 72 to 79; zero where bytes 72 to 79 are |
 * | 84 | 4012 | zero |
 *
 * Record (at a multiple of 8)
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 4 | magic `BLR1` |
 * | 4 | 1 | kind: 1 write, 2 zero |
 * | 5 | 1 | flags: bit 0 (zero only): the range stays provisioned |
 * | 6 | 1 | codec of the payload: 0 none, 1 LZ4 (version 2, kind 1) |
 * | 7 | 1 | zero |
 * | 8 | 8 | generation of the file's present life |
 * | 16 | 8 | LSN |
 * | 24 | 8 | LSN known to be durable when the record was made |
 * | 32 | 8 | first block |
 * | 40 | 8 | number of blocks |
 * | 48 | 4 | stored length of the payload in bytes (kind 2: 0) |
 * | 52 | 4 | codec 1: CRC-32 of the stored payload; else zero |
 * | 56 | 4 | zero |
 * | 60 | 4 | CRC-32 of the volume id, of bytes 0 to 59 and of the table that follows |
 * | 64 | 4n | kind 1: CRC-32 of each of the n blocks |
 * | 64 + 4n | 0 or 4 | zero, to a multiple of 8 |
 * | then | stored length | payload: the blocks; codec 1: all of them as one LZ4 block, without a length in front |
 * | then | 0 to 7 | zero, to a multiple of 8 |
 *
 * The volume id in the CRC keeps data of the volume's users, who do not know it, from passing for records: a reader looks for records behind
 * damage, also within payloads.
 *
 * A header is valid if and only if magic, version, volume id, block size, place and the first CRC are right. Bytes 72 to 83 were zero at first, and
 * are not looked at by versions from that time; without the second CRC they name no life.
 * A record is valid if and only if it lies whole inside the file, its magic, kind, codec and CRC are right, its generation is
 * the header's, its LSN is the expected one, a write has 1 to 65535 blocks and a payload of just their size, and each block has its CRC.
 * A payload of codec 1 is shorter than its blocks, which are 1 MiB together at most; it has its CRC, and is decoded only then.
 */
import { checksum, formatChecksum, shortChecksum } from '../base/checksum.ts';
import { lz4Decode } from '../base/lz4-decoder.ts';
import { readU64, viewOf, writeU64 } from './bytes.ts';

export const LOG_HEADER_BYTES = 4096;
export const RECORD_HEADER_BYTES = 64;
/** Of a life without, and with, compressed payloads. */
export const LOG_VERSION = { PLAIN: 1, COMPRESSED: 2 } as const;
export type LogVersion = (typeof LOG_VERSION)[keyof typeof LOG_VERSION];
export const RECORD_KIND = { WRITE: 1, ZERO: 2 } as const;
export const RECORD_CODEC = { NONE: 0, LZ4: 1 } as const;
export const RECORD_FLAG_PROVISIONED = 1;
export const MAX_RECORD_BLOCKS = 65535;
/** Most bytes of blocks in one compressed payload: what a reader may have to make room for. */
export const MAX_COMPRESSED_BYTES = 1024 * 1024;

const LOG_MAGIC = Buffer.from('BASALTLG', 'latin1');
/** `BLR1` as the bytes stand in the file. */
export const RECORD_MAGIC_BYTES = Buffer.from('BLR1', 'latin1');
const RECORD_MAGIC = RECORD_MAGIC_BYTES.readUInt32LE(0);
const HEADER_CRC_OFFSET = 68;
const PREVIOUS_OFFSET = 72;
const PREVIOUS_CRC_OFFSET = 80;
/** A generation is `epoch * GENERATIONS_PER_EPOCH + count`. */
export const GENERATIONS_PER_EPOCH = 2 ** 24;
const RECORD_CRC_OFFSET = 60;
/** A table in a prefix up to this long is checksummed in place. */
const SHORT_PREFIX_BYTES = 128;

export interface LogFileHeader {
  readonly version: LogVersion;
  readonly volumeId: Uint8Array;
  readonly blockSizeBytes: number;
  readonly generation: number;
  readonly firstLsn: number;
  readonly durableLsn: number;
  readonly epoch: number;
  readonly fileIndex: number;
  /** Of the life that this one goes on behind; 0: none, or not known. */
  readonly previousGeneration: number;
}

export function encodeLogHeader(header: LogFileHeader): Uint8Array {
  const bytes = new Uint8Array(LOG_HEADER_BYTES);
  const view = viewOf(bytes);
  bytes.set(LOG_MAGIC, 0);
  view.setUint32(8, header.version, true);
  view.setUint32(12, header.blockSizeBytes, true);
  bytes.set(header.volumeId, 16);
  writeU64(view, 32, header.generation);
  writeU64(view, 40, header.firstLsn);
  writeU64(view, 48, header.durableLsn);
  writeU64(view, 56, header.epoch);
  view.setUint32(64, header.fileIndex, true);
  view.setUint32(HEADER_CRC_OFFSET, checksum(bytes.subarray(0, HEADER_CRC_OFFSET)), true);
  if (header.previousGeneration === 0) return bytes;
  writeU64(view, PREVIOUS_OFFSET, header.previousGeneration);
  view.setUint32(PREVIOUS_CRC_OFFSET, previousChecksum(bytes), true);
  return bytes;
}

/** Why a log file's header is not valid. `foreign`: whole, but not of this volume or place, so it was moved here. */
export interface HeaderFault {
  readonly fault: 'unused' | 'damaged' | 'foreign';
  readonly detail: string;
}

/** The header, or what is wrong with it. A file that never lived is empty or all zero. */
export function decodeLogHeader(
  bytes: Uint8Array,
  expected: { readonly volumeId: Uint8Array; readonly blockSizeBytes: number; readonly fileIndex: number },
): LogFileHeader | HeaderFault {
  if (bytes.length === 0) return { fault: 'unused', detail: 'empty' };
  if (bytes.length < LOG_HEADER_BYTES) return { fault: 'damaged', detail: `${bytes.length} bytes, shorter than a header` };
  const view = viewOf(bytes);
  if (LOG_MAGIC.compare(bytes, 0, 8) !== 0) {
    const blank = bytes.subarray(0, LOG_HEADER_BYTES).every((byte) => byte === 0);
    return blank ? { fault: 'unused', detail: 'all zero' } : { fault: 'damaged', detail: 'wrong magic' };
  }
  const stored = view.getUint32(HEADER_CRC_OFFSET, true);
  const computed = checksum(bytes.subarray(0, HEADER_CRC_OFFSET));
  if (stored !== computed) return { fault: 'damaged', detail: `checksum ${formatChecksum(stored)}, expected ${formatChecksum(computed)}` };
  const version = view.getUint32(8, true);
  if (version !== LOG_VERSION.PLAIN && version !== LOG_VERSION.COMPRESSED) return { fault: 'foreign', detail: `format version ${version}, expected 1 or 2` };
  if (Buffer.compare(bytes.subarray(16, 32), expected.volumeId) !== 0) return { fault: 'foreign', detail: 'belongs to another volume' };
  const blockSizeBytes = view.getUint32(12, true);
  if (blockSizeBytes !== expected.blockSizeBytes) return { fault: 'foreign', detail: `block size ${blockSizeBytes}, expected ${expected.blockSizeBytes}` };
  const fileIndex = view.getUint32(64, true);
  if (fileIndex !== expected.fileIndex) return { fault: 'foreign', detail: `is file ${fileIndex} of the ring, expected ${expected.fileIndex}` };
  const header: LogFileHeader = {
    version,
    volumeId: new Uint8Array(bytes.subarray(16, 32)),
    blockSizeBytes,
    generation: readU64(view, 32),
    firstLsn: readU64(view, 40),
    durableLsn: readU64(view, 48),
    epoch: readU64(view, 56),
    fileIndex,
    previousGeneration: previousOf(bytes, view),
  };
  const plausible = header.generation > 0 && header.firstLsn > 0 && header.durableLsn >= 0 && header.epoch > 0;
  return plausible ? header : { fault: 'foreign', detail: 'a counter is out of range' };
}

/**
 * Bound to the rest of the header, of which a torn write leaves one part old. Not to its own CRC: behind that a CRC of all bytes before it is the
 * same for every header.
 */
function previousChecksum(bytes: Uint8Array): number {
  return checksum(bytes.subarray(PREVIOUS_OFFSET, PREVIOUS_CRC_OFFSET), checksum(bytes.subarray(0, HEADER_CRC_OFFSET)));
}

function previousOf(bytes: Uint8Array, view: DataView): number {
  const isSound = view.getUint32(PREVIOUS_CRC_OFFSET, true) === previousChecksum(bytes);
  return isSound ? Math.max(0, readU64(view, PREVIOUS_OFFSET)) : 0;
}

/** Bytes before the payload of a record of `blockCount` blocks; always a multiple of 8. */
export function recordPrefixBytes(kind: number, blockCount: number): number {
  if (kind !== RECORD_KIND.WRITE) return RECORD_HEADER_BYTES;
  return RECORD_HEADER_BYTES + ((blockCount * 4 + 7) & ~7);
}

/** A length made up to a multiple of 8: a compressed payload's place in the log. */
export function paddedBytes(length: number): number {
  return (length + 7) & ~7;
}

/** All bytes of a record whose payload is stored as it is. */
export function recordBytes(kind: number, blockCount: number, blockSizeBytes: number): number {
  const payload = kind === RECORD_KIND.WRITE ? blockCount * blockSizeBytes : 0;
  return recordPrefixBytes(kind, blockCount) + payload;
}

/** What the records of a volume have in common. */
export interface RecordContext {
  readonly blockSizeBytes: number;
  /** `recordSeed` of the volume id. */
  readonly seed: number;
}

/** Where the CRCs of a volume's records begin. */
export function recordSeed(volumeId: Uint8Array): number {
  return checksum(volumeId);
}

export interface RecordFields {
  kind: number;
  provisioned: boolean;
  generation: number;
  lsn: number;
  durableLsn: number;
  blockNumber: number;
  blockCount: number;
  codec: number;
  /** Of the payload as it is stored: its length, and its CRC if it is compressed. */
  storedBytes: number;
  storedChecksum: number;
}

/**
 * Writes the prefix of a record (header and checksum table) into `target` at `offset`; returns its length. The block
 * checksums are `checksums[first .. first + blockCount)`. `view` is a view of all of `target`.
 */
export function encodeRecordPrefix(
  target: Uint8Array,
  view: DataView,
  offset: number,
  record: Readonly<RecordFields>,
  context: RecordContext,
  checksums: Uint32Array,
  first: number,
): number {
  const isWrite = record.kind === RECORD_KIND.WRITE;
  const length = recordPrefixBytes(record.kind, record.blockCount);
  view.setUint32(offset, RECORD_MAGIC, true);
  target[offset + 4] = record.kind;
  target[offset + 5] = record.provisioned ? RECORD_FLAG_PROVISIONED : 0;
  target[offset + 6] = record.codec;
  target[offset + 7] = 0;
  writeU64(view, offset + 8, record.generation);
  writeU64(view, offset + 16, record.lsn);
  writeU64(view, offset + 24, record.durableLsn);
  writeU64(view, offset + 32, record.blockNumber);
  writeU64(view, offset + 40, record.blockCount);
  view.setUint32(offset + 48, record.storedBytes, true);
  view.setUint32(offset + 52, record.storedChecksum, true);
  view.setUint32(offset + 56, 0, true);
  if (isWrite) {
    view.setUint32(offset + length - 4, 0, true); // the padding, if there is any; else overwritten below
    for (let i = 0; i < record.blockCount; i += 1) view.setUint32(offset + RECORD_HEADER_BYTES + i * 4, checksums[first + i], true);
  }
  view.setUint32(offset + RECORD_CRC_OFFSET, prefixChecksum(target, offset, length, context.seed), true);
  return length;
}

function prefixChecksum(bytes: Uint8Array, offset: number, prefixLength: number, seed: number): number {
  const head = shortChecksum(bytes, offset, offset + RECORD_CRC_OFFSET, seed);
  const table = offset + RECORD_HEADER_BYTES;
  if (prefixLength <= SHORT_PREFIX_BYTES) return shortChecksum(bytes, table, offset + prefixLength, head);
  return checksum(bytes.subarray(table, offset + prefixLength), head);
}

/** Result of looking for a record at an offset: it is there, there is none, or more bytes are needed to tell. */
export type RecordOutcome = 'valid' | 'invalid' | 'short';

/** A decoded record; one object is filled again and again. */
export class DecodedRecord implements RecordFields {
  kind = 0;
  provisioned = false;
  generation = 0;
  lsn = 0;
  durableLsn = 0;
  blockNumber = 0;
  blockCount = 0;
  codec = 0;
  storedBytes = 0;
  storedChecksum = 0;
  /** Offset of the payload, and of the first byte after the record, in the bytes that were decoded. */
  payloadOffset = 0;
  endOffset = 0;
  /** Why the last decode said `invalid`. */
  reason = '';
}

/**
 * Decodes the record at `offset` of `bytes` into `record`, all but its payload (`verifiedPayload` checks that).
 * `short` when the bytes end before the record does.
 */
export function decodeRecord(bytes: Uint8Array, view: DataView, offset: number, { blockSizeBytes, seed }: RecordContext, record: DecodedRecord): RecordOutcome {
  if (offset + RECORD_HEADER_BYTES > bytes.length) return 'short';
  if (view.getUint32(offset, true) !== RECORD_MAGIC) return invalid(record, 'no record (wrong magic)');
  const kind = bytes[offset + 4];
  if (kind !== RECORD_KIND.WRITE && kind !== RECORD_KIND.ZERO) return invalid(record, `record kind ${kind} is not known`);
  const codec = bytes[offset + 6];
  if (codec !== RECORD_CODEC.NONE && (codec !== RECORD_CODEC.LZ4 || kind !== RECORD_KIND.WRITE)) return invalid(record, `codec ${codec} is not known`);
  const blockCount = readU64(view, offset + 40);
  const isWrite = kind === RECORD_KIND.WRITE;
  if (blockCount <= 0 || (isWrite && blockCount > MAX_RECORD_BLOCKS)) return invalid(record, `${blockCount} blocks in a record`);
  const storedLength = view.getUint32(offset + 48, true);
  const plainLength = isWrite ? blockCount * blockSizeBytes : 0;
  const fits = codec === RECORD_CODEC.NONE ? storedLength === plainLength : storedLength > 0 && storedLength < plainLength && plainLength <= MAX_COMPRESSED_BYTES;
  if (!fits) return invalid(record, `payload of ${storedLength} bytes for ${blockCount} blocks`);
  const prefix = recordPrefixBytes(kind, blockCount);
  if (offset + prefix > bytes.length) return 'short';
  if (view.getUint32(offset + RECORD_CRC_OFFSET, true) !== prefixChecksum(bytes, offset, prefix, seed)) return invalid(record, 'wrong header checksum');
  record.kind = kind;
  record.provisioned = (bytes[offset + 5] & RECORD_FLAG_PROVISIONED) !== 0;
  record.generation = readU64(view, offset + 8);
  record.lsn = readU64(view, offset + 16);
  record.durableLsn = readU64(view, offset + 24);
  record.blockNumber = readU64(view, offset + 32);
  record.blockCount = blockCount;
  record.payloadOffset = offset + prefix;
  record.codec = codec;
  record.storedBytes = storedLength;
  record.storedChecksum = view.getUint32(offset + 52, true);
  record.endOffset = offset + prefix + paddedBytes(storedLength);
  if (record.generation < 0 || record.lsn < 0 || record.durableLsn < 0 || record.blockNumber < 0) return invalid(record, 'a counter is 2^53 or more');
  return record.endOffset > bytes.length ? 'short' : 'valid';
}

function invalid(record: DecodedRecord, reason: string): RecordOutcome {
  record.reason = reason;
  return 'invalid';
}

/** Checksum of block `index` of the write record whose payload begins at `payloadOffset`, as its table has it. */
export function recordChecksum(view: DataView, record: DecodedRecord, index: number): number {
  const table = record.payloadOffset - recordPrefixBytes(record.kind, record.blockCount) + RECORD_HEADER_BYTES;
  return view.getUint32(table + index * 4, true);
}

const NO_PAYLOAD = new Uint8Array(0);

/** The blocks of a record, none if it writes none, borrowed from `bytes` or decoded; null if its payload, or one of its blocks, has not its checksum. */
export function verifiedPayload(bytes: Uint8Array, view: DataView, record: DecodedRecord, blockSizeBytes: number): Uint8Array | null {
  if (record.kind !== RECORD_KIND.WRITE) return NO_PAYLOAD;
  const payload = decodePayload(bytes.subarray(record.payloadOffset, record.payloadOffset + record.storedBytes), record, blockSizeBytes);
  if (payload === null) return null;
  if (record.blockCount === 1) return checksum(payload) === recordChecksum(view, record, 0) ? payload : null;
  for (let i = 0; i < record.blockCount; i += 1) {
    if (checksum(payload.subarray(i * blockSizeBytes, (i + 1) * blockSizeBytes)) !== recordChecksum(view, record, i)) return null;
  }
  return payload;
}

/** The blocks, not checked yet, that a write record's payload stands for; null if it is compressed and has not its checksum. */
export function decodePayload(stored: Uint8Array, record: Pick<RecordFields, 'codec' | 'blockCount' | 'storedChecksum'>, blockSizeBytes: number): Uint8Array | null {
  if (record.codec === RECORD_CODEC.NONE) return stored;
  // What nobody checked never reaches the decoder.
  return checksum(stored) === record.storedChecksum ? (lz4Decode(stored, record.blockCount * blockSizeBytes)?.slice() ?? null) : null;
}
