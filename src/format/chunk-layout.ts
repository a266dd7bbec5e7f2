/**
 * A chunk: one immutable object with up to 4 MiB of blocks, and what else happened in its range of LSNs. One or more chunks
 * with consecutive numbers make a set: together they are what an unbroken range of LSNs changed. A set counts only when
 * all its parts are there.
 *
 * How many blocks a full chunk has is no part of the format. It is now made of as many as fit, with header and tables, into 4 MiB (1018 of 4 KiB): stores cut
 * objects there. Versions before put 1024 into one, and with blocks of 16 KiB and more their logs have records of a whole 4 MiB: such a one is put back into a slab
 * of its own, of which two chunks are made.
 *
 * | offset | size | part |
 * |---|---|---|
 * | 0 | 4096 | header |
 * | 4096 | data length | frames, back to back |
 * | then | 16 x blocks | block table, ascending by block number |
 * | then | 48 x frames | frame table |
 * | then | 24 x ranges | range table: ranges that read as zeroes; they apply before the blocks |
 * | then | 64 | footer, the end of the object |
 *
 * Header
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | magic `BASALTCH` |
 * | 8 | 4 | format version: 2 if a frame is compressed, else 1 |
 * | 12 | 4 | block size in bytes |
 * | 16 | 16 | volume id |
 * | 32 | 8 | epoch |
 * | 40 | 8 | chunk number, from 1 |
 * | 48 | 8 | first LSN |
 * | 56 | 8 | last LSN |
 * | 64 | 8 | number of the last chunk of the set before this one, 0 for none |
 * | 72 | 4 | part of the set, from 1 |
 * | 76 | 4 | parts in the set |
 * | 80 | 1 | kind: 0 made from the log's records, 1 copied from older chunks by compaction |
 * | 81 | 7 | zero |
 * | 88 | 4 | CRC-32 of bytes 0 to 87 |
 * | 92 | 4004 | zero |
 *
 * All parts of a set have the same LSNs. Only its first part has ranges, and they apply before the blocks of all parts.
 *
 * A set of kind 1 changes nothing but where blocks are stored: its range of LSNs is empty (last LSN = first LSN - 1, the last one
 * of the sets before it), it has no ranges, and each of its blocks is, as of its place in the order of sets, the newest there is.
 *
 * Block table entry: u64 block number, u32 CRC-32 of the block, u16 frame, u16 place within the frame.
 * Frame table entry: u64 offset in the object, u32 stored length, u32 plain length, u32 CRC-32 of the stored bytes (0 for
 * codec 0: the blocks have their own), u8 codec (0 none; in version 2 also 1, LZ4), u8 cipher (0 none), u16 zero, 12 bytes nonce,
 * 12 bytes zero. The tag of a cipher is the end of the frame's stored bytes. A frame of codec 1 is one LZ4 block that stands for
 * whole blocks, back to back: 65536 bytes at most, and more than are stored.
 *
 * A frame table entry byte by byte: 0 offset, 8 stored length, 12 plain length, 16 CRC-32, 20 codec, 21 cipher, 22 zero, 24 nonce, 36 zero. Cipher,
 * nonce and the 12 bytes behind it are zero in versions 1 and 2, and a reader of these refuses a cipher. They are room for a version that encrypts: a frame is
 * compressed, then encrypted; byte 21 names the cipher, bytes 24 to 35 are its nonce, and its tag stands behind the encrypted bytes as the end of
 * the frame: stored length and CRC-32 are with it, so that a scrub needs no key, and a frame of codec 0 has a cipher as one of codec 1 has. Such a version says
 * for itself what becomes of the CRC-32s of blocks, which are of plain bytes and tell something of them.
 *
 * Range table entry: u64 first block, u64 number of blocks, u32 flags (bit 0: provisioned), u32 zero.
 *
 * Footer
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | magic `BASALTCF` |
 * | 8 | 4 | format version, the header's |
 * | 12 | 4 | number of blocks |
 * | 16 | 4 | number of frames |
 * | 20 | 4 | number of ranges |
 * | 24 | 8 | offset of the tables |
 * | 32 | 4 | length of the tables |
 * | 36 | 4 | CRC-32 of the tables |
 * | 40 | 8 | chunk number |
 * | 48 | 4 | CRC-32 of header bytes 0 to 87 |
 * | 52 | 8 | zero |
 * | 60 | 4 | CRC-32 of bytes 0 to 59 |
 *
 * Valid if and only if both magics, versions and CRCs are right, header and footer name the expected volume and number, the range
 * of LSNs is empty if and only if the kind is 1, the
 * tables end where the footer begins, block numbers ascend, and each entry lies within the frame, object and volume it names.
 */
import { assert } from '../base/assert.ts';
import { checksum, formatChecksum } from '../base/checksum.ts';
import { VolumeError } from '../base/errors.ts';
import { corrupt, readU64, viewOf, writeU64 } from './bytes.ts';

export const CHUNK_HEADER_BYTES = 4096;
export const CHUNK_FOOTER_BYTES = 64;
/** By what a chunk may have in it. */
export const CHUNK_VERSION = { PLAIN: 1, PACKED: 2 } as const;
export type ChunkVersion = (typeof CHUNK_VERSION)[keyof typeof CHUNK_VERSION];
export const FRAME_CODEC = { NONE: 0, LZ4: 1 } as const;
export type FrameCodec = (typeof FRAME_CODEC)[keyof typeof FRAME_CODEC];
/** Longest that a compressed frame may be when it is unpacked. */
export const MAX_PACKED_PLAIN_BYTES = 65536;
export const BLOCK_ENTRY_BYTES = 16;
export const FRAME_ENTRY_BYTES = 48;
export const RANGE_ENTRY_BYTES = 24;
/** More ranges than this are never put into one chunk. */
export const MAX_CHUNK_RANGES = 65536;
const RANGE_FLAG_PROVISIONED = 1;
const KIND = { RECORDS: 0, COPIES: 1 } as const;
/** Bytes of the header that its CRC covers. */
export const HEADER_CRC_OFFSET = 88;
const FOOTER_CRC_OFFSET = 60;
const HEADER_MAGIC = Buffer.from('BASALTCH', 'latin1');
const FOOTER_MAGIC = Buffer.from('BASALTCF', 'latin1');

export interface ChunkIdentity {
  readonly volumeId: Uint8Array;
  readonly blockSizeBytes: number;
  readonly epoch: number;
  readonly chunkNumber: number;
  readonly firstLsn: number;
  /** `firstLsn - 1` for copies that compaction made (`isCopy`). */
  readonly lastLsn: number;
  /** Last chunk of the set before this one; 0: none. */
  readonly previousChunk: number;
  /** From 1 to `parts`. */
  readonly part: number;
  readonly parts: number;
}

/** A range that reads as zeroes. */
export interface ZeroRange {
  readonly blockNumber: number;
  readonly blockCount: number;
  readonly provisioned: boolean;
}

/** Consecutive blocks of a chunk that are stored together, as they are or as one LZ4 block. */
export interface ChunkFrame {
  readonly codec: FrameCodec;
  readonly offset: number;
  readonly storedBytes: number;
  readonly plainBytes: number;
  /** CRC-32 of the stored bytes; 0 for codec 0. */
  readonly checksum: number;
}

/** The tables of a chunk, decoded. */
export interface ChunkTables {
  readonly blockNumbers: Float64Array;
  readonly checksums: Uint32Array;
  /** Where each block's bytes begin: in the object, or, in a compressed frame, in what it is unpacked to. */
  readonly offsets: Uint32Array;
  readonly packed: PackedFrames | null;
  readonly ranges: readonly ZeroRange[];
}

/** The compressed frames of a chunk; a chunk without one has no `PackedFrames`. */
export interface PackedFrames {
  readonly frames: readonly ChunkFrame[];
  /** For each block 1 + the index of its frame in `frames`; 0: it is stored as it is. */
  readonly frameOf: Uint16Array;
}

export interface ChunkFooter {
  readonly version: ChunkVersion;
  readonly blockCount: number;
  readonly frameCount: number;
  readonly rangeCount: number;
  readonly tablesOffset: number;
  readonly tablesLength: number;
  readonly tablesChecksum: number;
  readonly chunkNumber: number;
  readonly headerChecksum: number;
}

/** Whether a chunk holds copies of blocks of older chunks, and not what records of the log brought. */
export function isCopy(identity: Pick<ChunkIdentity, 'firstLsn' | 'lastLsn'>): boolean {
  return identity.lastLsn < identity.firstLsn;
}

/** Bytes of the tables. */
export function tablesBytes(blockCount: number, frameCount: number, rangeCount: number): number {
  return blockCount * BLOCK_ENTRY_BYTES + frameCount * FRAME_ENTRY_BYTES + rangeCount * RANGE_ENTRY_BYTES;
}

/** Full chunks give up no more than this part of their blocks to be no longer than a slab. */
const FIT_PART = 1 / 32;

/**
 * Blocks of a full chunk that is made of slabs of so many bytes. With header and tables it is no longer than a slab, where that costs few blocks: stores cut objects at 4 MiB, and the few
 * kilobytes behind it are one more object to them. A Ceph gateway and its OSD took 7 % less processor time for puts of 4 MiB than for 20 KiB more, and 10 % less for gets.
 */
export function fullChunkBlocks(slabBytes: number, blockSizeBytes: number): number {
  const all = Math.floor(slabBytes / blockSizeBytes);
  const fitting = Math.floor((slabBytes - CHUNK_HEADER_BYTES - FRAME_ENTRY_BYTES - CHUNK_FOOTER_BYTES) / (blockSizeBytes + BLOCK_ENTRY_BYTES));
  return fitting >= all * (1 - FIT_PART) ? fitting : all;
}

/** The header: 4096 bytes. */
export function encodeChunkHeader(identity: ChunkIdentity, version: ChunkVersion = CHUNK_VERSION.PLAIN): Uint8Array {
  const bytes = new Uint8Array(CHUNK_HEADER_BYTES);
  const view = viewOf(bytes);
  bytes.set(HEADER_MAGIC, 0);
  view.setUint32(8, version, true);
  view.setUint32(12, identity.blockSizeBytes, true);
  bytes.set(identity.volumeId, 16);
  writeU64(view, 32, identity.epoch);
  writeU64(view, 40, identity.chunkNumber);
  writeU64(view, 48, identity.firstLsn);
  writeU64(view, 56, identity.lastLsn);
  writeU64(view, 64, identity.previousChunk);
  view.setUint32(72, identity.part, true);
  view.setUint32(76, identity.parts, true);
  view.setUint8(80, isCopy(identity) ? KIND.COPIES : KIND.RECORDS);
  view.setUint32(HEADER_CRC_OFFSET, checksum(bytes.subarray(0, HEADER_CRC_OFFSET)), true);
  return bytes;
}

/** Decodes and checks a header against the volume and number that are expected. Error: `corrupt`. */
export function decodeChunkHeader(bytes: Uint8Array, expected: { volumeId: Uint8Array; blockSizeBytes: number; chunkNumber: number }, name: string): ChunkIdentity {
  if (bytes.length < CHUNK_HEADER_BYTES) throw corrupt(name, `${bytes.length} bytes long, shorter than a header`, 0);
  const view = viewOf(bytes);
  if (HEADER_MAGIC.compare(bytes, 0, 8) !== 0) throw corrupt(name, 'not a chunk (wrong magic)', 0);
  const stored = view.getUint32(HEADER_CRC_OFFSET, true);
  const computed = checksum(bytes.subarray(0, HEADER_CRC_OFFSET));
  if (stored !== computed) throw corrupt(name, `header checksum ${formatChecksum(stored)}, expected ${formatChecksum(computed)}`, HEADER_CRC_OFFSET);
  checkVersion(view.getUint32(8, true), name);
  const identity = {
    volumeId: new Uint8Array(bytes.subarray(16, 32)),
    blockSizeBytes: view.getUint32(12, true),
    epoch: readU64(view, 32),
    chunkNumber: readU64(view, 40),
    firstLsn: readU64(view, 48),
    lastLsn: readU64(view, 56),
    previousChunk: readU64(view, 64),
    part: view.getUint32(72, true),
    parts: view.getUint32(76, true),
  };
  if (Buffer.compare(identity.volumeId, expected.volumeId) !== 0) throw corrupt(name, 'belongs to another volume', 16);
  if (identity.blockSizeBytes !== expected.blockSizeBytes) throw corrupt(name, `block size ${identity.blockSizeBytes}, expected ${expected.blockSizeBytes}`, 12);
  if (identity.chunkNumber !== expected.chunkNumber) throw corrupt(name, `chunk number ${identity.chunkNumber}, expected ${expected.chunkNumber}`, 40);
  const kind = bytes[80];
  if (kind !== KIND.RECORDS && kind !== KIND.COPIES) throw new VolumeError('unsupported', `${name}: chunk kind ${kind}; use a newer basalt`);
  const rightRange = kind === KIND.COPIES ? identity.lastLsn === identity.firstLsn - 1 : identity.lastLsn >= identity.firstLsn;
  if (identity.epoch <= 0 || identity.firstLsn <= 0 || identity.lastLsn < 0 || !rightRange) throw corrupt(name, 'epoch or LSN range is impossible', 32);
  const { part, parts, previousChunk, chunkNumber } = identity;
  if (part < 1 || part > parts || previousChunk < 0 || previousChunk + part > chunkNumber) throw corrupt(name, `part ${part} of ${parts} behind chunk ${previousChunk} is impossible`, 64);
  return identity;
}

function checkVersion(version: number, name: string): ChunkVersion {
  if (version === CHUNK_VERSION.PLAIN || version === CHUNK_VERSION.PACKED) return version;
  throw new VolumeError('unsupported', `${name}: format version ${version}; this basalt reads versions ${CHUNK_VERSION.PLAIN} and ${CHUNK_VERSION.PACKED}: use a newer one`);
}

/** The one frame of a chunk that is not compressed; none where there are no blocks. */
export function plainFrames(blockCount: number, blockSizeBytes: number): ChunkFrame[] {
  const bytes = blockCount * blockSizeBytes;
  return bytes === 0 ? [] : [{ codec: FRAME_CODEC.NONE, offset: CHUNK_HEADER_BYTES, storedBytes: bytes, plainBytes: bytes, checksum: 0 }];
}

/** The version of a chunk of such frames. */
export function versionFor(frames: readonly ChunkFrame[]): ChunkVersion {
  return frames.some(({ codec }) => codec !== FRAME_CODEC.NONE) ? CHUNK_VERSION.PACKED : CHUNK_VERSION.PLAIN;
}

/**
 * Tables and footer of a chunk: what stands behind its frames. `header` is the object's header, of the same version; `blockNumbers`
 * ascend, `checksums` go with them; `frames` hold the blocks in this order, and stand back to back in the object.
 */
export function encodeChunkTail(
  identity: ChunkIdentity,
  header: Uint8Array,
  blocks: { readonly blockNumbers: Float64Array; readonly checksums: Uint32Array },
  ranges: readonly ZeroRange[],
  frames: readonly ChunkFrame[] = plainFrames(blocks.blockNumbers.length, identity.blockSizeBytes),
): Uint8Array {
  const count = blocks.blockNumbers.length;
  const length = tablesBytes(count, frames.length, ranges.length);
  const bytes = new Uint8Array(length + CHUNK_FOOTER_BYTES);
  const view = viewOf(bytes);
  let at = encodeBlocks(view, blocks, frames, identity.blockSizeBytes);
  for (const frame of frames) {
    writeU64(view, at, frame.offset);
    view.setUint32(at + 8, frame.storedBytes, true);
    view.setUint32(at + 12, frame.plainBytes, true);
    view.setUint32(at + 16, frame.checksum, true);
    view.setUint8(at + 20, frame.codec);
    at += FRAME_ENTRY_BYTES;
  }
  for (const range of ranges) {
    writeU64(view, at, range.blockNumber);
    writeU64(view, at + 8, range.blockCount);
    view.setUint32(at + 16, range.provisioned ? RANGE_FLAG_PROVISIONED : 0, true);
    at += RANGE_ENTRY_BYTES;
  }
  bytes.set(FOOTER_MAGIC, at);
  view.setUint32(at + 8, versionFor(frames), true);
  view.setUint32(at + 12, count, true);
  view.setUint32(at + 16, frames.length, true);
  view.setUint32(at + 20, ranges.length, true);
  writeU64(view, at + 24, frames.reduce((end, { storedBytes }) => end + storedBytes, CHUNK_HEADER_BYTES));
  view.setUint32(at + 32, length, true);
  view.setUint32(at + 36, checksum(bytes.subarray(0, length)), true);
  writeU64(view, at + 40, identity.chunkNumber);
  view.setUint32(at + 48, checksum(header.subarray(0, HEADER_CRC_OFFSET)), true);
  view.setUint32(at + FOOTER_CRC_OFFSET, checksum(bytes.subarray(at, at + FOOTER_CRC_OFFSET)), true);
  return bytes;
}

/** Writes the block table; returns where it ends. */
function encodeBlocks(view: DataView, { blockNumbers, checksums }: { readonly blockNumbers: Float64Array; readonly checksums: Uint32Array }, frames: readonly ChunkFrame[], blockSizeBytes: number): number {
  let at = 0;
  let block = 0;
  for (let frame = 0; frame < frames.length; frame += 1) {
    const count = frames[frame].plainBytes / blockSizeBytes;
    for (let place = 0; place < count; place += 1) {
      writeU64(view, at, blockNumbers[block]);
      view.setUint32(at + 8, checksums[block], true);
      view.setUint16(at + 12, frame, true);
      view.setUint16(at + 14, place, true);
      at += BLOCK_ENTRY_BYTES;
      block += 1;
    }
  }
  assert(block === blockNumbers.length, 'the frames of a chunk hold other blocks than its table');
  return at;
}

/** Decodes and checks the footer: the last 64 bytes of an object of `objectBytes`. Errors: `corrupt`, `unsupported`. */
export function decodeChunkFooter(bytes: Uint8Array, objectBytes: number, chunkNumber: number, name: string): ChunkFooter {
  const base = objectBytes - CHUNK_FOOTER_BYTES;
  if (bytes.length !== CHUNK_FOOTER_BYTES || base < CHUNK_HEADER_BYTES) throw corrupt(name, `${objectBytes} bytes long, too short for a chunk`, 0);
  const view = viewOf(bytes);
  if (FOOTER_MAGIC.compare(bytes, 0, 8) !== 0) throw corrupt(name, 'no footer (wrong magic): the object is cut or damaged', base);
  const stored = view.getUint32(FOOTER_CRC_OFFSET, true);
  const computed = checksum(bytes.subarray(0, FOOTER_CRC_OFFSET));
  if (stored !== computed) throw corrupt(name, `footer checksum ${formatChecksum(stored)}, expected ${formatChecksum(computed)}`, base + FOOTER_CRC_OFFSET);
  const footer = {
    version: checkVersion(view.getUint32(8, true), name),
    blockCount: view.getUint32(12, true),
    frameCount: view.getUint32(16, true),
    rangeCount: view.getUint32(20, true),
    tablesOffset: readU64(view, 24),
    tablesLength: view.getUint32(32, true),
    tablesChecksum: view.getUint32(36, true),
    chunkNumber: readU64(view, 40),
    headerChecksum: view.getUint32(48, true),
  };
  if (footer.chunkNumber !== chunkNumber) throw corrupt(name, `footer of chunk ${footer.chunkNumber}, expected ${chunkNumber}`, base + 40);
  const length = tablesBytes(footer.blockCount, footer.frameCount, footer.rangeCount);
  if (footer.tablesLength !== length || footer.tablesOffset + length !== base || footer.tablesOffset < CHUNK_HEADER_BYTES) {
    throw corrupt(name, `tables at ${footer.tablesOffset}, ${footer.tablesLength} bytes, do not fit an object of ${objectBytes} bytes`, base + 24);
  }
  return footer;
}

/** Decodes and checks the tables that `footer` describes; `volumeBlocks` is the size of the volume in blocks. */
export function decodeChunkTables(bytes: Uint8Array, footer: ChunkFooter, blockSizeBytes: number, volumeBlocks: number, name: string): ChunkTables {
  if (bytes.length !== footer.tablesLength) throw corrupt(name, `tables of ${bytes.length} bytes, expected ${footer.tablesLength}`, footer.tablesOffset);
  const computed = checksum(bytes);
  if (computed !== footer.tablesChecksum) {
    throw corrupt(name, `tables checksum ${formatChecksum(footer.tablesChecksum)}, expected ${formatChecksum(computed)}`, footer.tablesOffset);
  }
  const view = viewOf(bytes);
  const frames = decodeFrames(view, footer, name);
  const packedFrames: ChunkFrame[] = [];
  // As in `PackedFrames.frameOf`.
  const packedNumbers = frames.map((frame) => (frame.codec === FRAME_CODEC.NONE ? 0 : packedFrames.push(frame)));
  const frameOf = packedFrames.length === 0 ? null : new Uint16Array(footer.blockCount);
  const blockNumbers = new Float64Array(footer.blockCount);
  const checksums = new Uint32Array(footer.blockCount);
  const offsets = new Uint32Array(footer.blockCount);
  let previous = -1;
  for (let i = 0; i < footer.blockCount; i += 1) {
    const at = i * BLOCK_ENTRY_BYTES;
    const blockNumber = readU64(view, at);
    const frameIndex = view.getUint16(at + 12, true);
    const frame = frames[frameIndex];
    const offsetInFrame = view.getUint16(at + 14, true) * blockSizeBytes;
    const fits = frame !== undefined && offsetInFrame + blockSizeBytes <= frame.plainBytes;
    if (blockNumber <= previous || blockNumber >= volumeBlocks || !fits) throw corrupt(name, `block table entry ${i} is impossible`, footer.tablesOffset + at);
    blockNumbers[i] = blockNumber;
    checksums[i] = view.getUint32(at + 8, true);
    offsets[i] = frame.codec === FRAME_CODEC.NONE ? frame.offset + offsetInFrame : offsetInFrame;
    if (frameOf !== null) frameOf[i] = packedNumbers[frameIndex];
    previous = blockNumber;
  }
  const packed = frameOf === null ? null : { frames: packedFrames, frameOf };
  return { blockNumbers, checksums, offsets, packed, ranges: decodeRanges(view, footer, volumeBlocks, name) };
}

function decodeFrames(view: DataView, footer: ChunkFooter, name: string): ChunkFrame[] {
  const frames: ChunkFrame[] = [];
  const start = footer.blockCount * BLOCK_ENTRY_BYTES;
  for (let i = 0; i < footer.frameCount; i += 1) {
    const at = start + i * FRAME_ENTRY_BYTES;
    const codec = view.getUint8(at + 20);
    const isKnown = codec === FRAME_CODEC.NONE || (codec === FRAME_CODEC.LZ4 && footer.version === CHUNK_VERSION.PACKED);
    if (!isKnown || view.getUint8(at + 21) !== 0) {
      throw new VolumeError('unsupported', `${name}: frame ${i} has codec ${codec}, cipher ${view.getUint8(at + 21)}; use a newer basalt`);
    }
    const frame: ChunkFrame = { codec, offset: readU64(view, at), storedBytes: view.getUint32(at + 8, true), plainBytes: view.getUint32(at + 12, true), checksum: view.getUint32(at + 16, true) };
    if (!isPossible(frame, footer)) {
      throw corrupt(name, `frame ${i} (offset ${frame.offset}, ${frame.storedBytes} bytes for ${frame.plainBytes}) is impossible`, footer.tablesOffset + at);
    }
    frames.push(frame);
  }
  return frames;
}

function isPossible({ codec, offset, storedBytes, plainBytes }: ChunkFrame, footer: ChunkFooter): boolean {
  if (offset < CHUNK_HEADER_BYTES || offset + storedBytes > footer.tablesOffset) return false;
  if (codec === FRAME_CODEC.NONE) return plainBytes === storedBytes;
  return storedBytes > 0 && storedBytes < plainBytes && plainBytes <= MAX_PACKED_PLAIN_BYTES;
}

function decodeRanges(view: DataView, footer: ChunkFooter, volumeBlocks: number, name: string): ZeroRange[] {
  const ranges: ZeroRange[] = [];
  const start = footer.blockCount * BLOCK_ENTRY_BYTES + footer.frameCount * FRAME_ENTRY_BYTES;
  for (let i = 0; i < footer.rangeCount; i += 1) {
    const at = start + i * RANGE_ENTRY_BYTES;
    const blockNumber = readU64(view, at);
    const blockCount = readU64(view, at + 8);
    if (blockNumber < 0 || blockCount <= 0 || blockNumber + blockCount > volumeBlocks) {
      throw corrupt(name, `range ${i} (block ${blockNumber}, ${blockCount} blocks) is impossible`, footer.tablesOffset + at);
    }
    ranges.push({ blockNumber, blockCount, provisioned: (view.getUint32(at + 16, true) & RANGE_FLAG_PROVISIONED) !== 0 });
  }
  return ranges;
}
