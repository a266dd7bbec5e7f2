/**
 * The manifest: the root of a volume, one file of 512 bytes, replaced as a whole by a rename.
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | magic `BASALTMF` |
 * | 8 | 4 | format version: 1; 2 if the volume was resized |
 * | 12 | 4 | length of this structure, 512 |
 * | 16 | 16 | volume id |
 * | 32 | 8 | size that the volume was made with, in bytes; checkpoints name it |
 * | 40 | 4 | block size in bytes |
 * | 44 | 1 | durability mode: 0 strict, 1 batched, 2 relaxed, 3 async |
 * | 45 | 1 | quickest way to write the log in mode strict, as measured when the volume was made: 0 not measured, 1 buffered, 2 direct |
 * | 46 | 1 | compression of new chunks: 0 as the settings of whoever opens it say, 1 none, 2 LZ4 |
 * | 47 | 1 | zero |
 * | 48 | 8 | epoch: how often the volume was opened for writing |
 * | 56 | 8 | number of the newest checkpoint, 0 for none |
 * | 64 | 8 | epoch in which that checkpoint was written |
 * | 72 | 8 | last chunk that it covers |
 * | 80 | 8 | last LSN that it covers |
 * | 88 | 4 | number of log files |
 * | 92 | 4 | zero |
 * | 96 | 8 | size of a log file in bytes |
 * | 104 | 8 | time of creation, milliseconds since 1970 |
 * | 112 | 8 | cut: epoch; log records of earlier epochs count only up to the next field's LSN |
 * | 120 | 8 | cut: LSN that the volume had when it was opened in that epoch |
 * | 128 | 8 | version 2: size of the volume in bytes; version 1: zero, it is as it was made |
 * | 136 | 8 | version 2: the largest size it ever had: no block is stored behind it; version 1: zero |
 * | 144 | 364 | zero |
 * | 508 | 4 | CRC-32 of bytes 0 to 507 |
 *
 * Valid if and only if the length is 512, magic, version and CRC are right, the block size is a power of two from 4096 to
 * 65536 and divides the sizes, none of which is more than the largest, the mode and bytes 45 and 46 are known, and there are at least 3 log files. Bytes 45 and 46 were zero at
 * first, and are not looked at by versions from that time: they take such a manifest, go by their settings, and write the next one, at
 * their first opening, without what they do not know. Chunks say for themselves how they are stored, so that nothing depends on byte 46.
 */
import { checksum, formatChecksum } from '../base/checksum.ts';
import type { VolumeCompression } from '../base/compression.ts';
import { DURABILITY_MODES, type Durability } from '../base/durability.ts';
import { VolumeError } from '../base/errors.ts';
import { MEASURED_LOG_WAYS, type MeasuredLogWay } from '../base/settings-types.ts';
import { isPowerOfTwo } from '../base/units.ts';
import { corrupt, readU64, viewOf, writeU64 } from './bytes.ts';

export const MANIFEST_BYTES = 512;
export const MANIFEST_VERSION = 1;
/** Of a volume that was resized: a version that knows nothing of that must not take it for what it was. */
export const RESIZED_MANIFEST_VERSION = 2;
export const VOLUME_ID_BYTES = 16;
export const MIN_BLOCK_BYTES = 4096;
export const MAX_BLOCK_BYTES = 65536;
export const MIN_LOG_FILES = 3;

const MAGIC = Buffer.from('BASALTMF', 'latin1');
const CRC_OFFSET = 508;
/** By their numbers. */
const LOG_WAYS_ON_DISK: readonly (MeasuredLogWay | null)[] = [null, ...MEASURED_LOG_WAYS];
const COMPRESSIONS_ON_DISK: readonly VolumeCompression[] = ['default', 'none', 'lz4'];

export interface CheckpointReference {
  readonly number: number;
  readonly epoch: number;
  readonly lastChunk: number;
  readonly lastLsn: number;
}

export const NO_CHECKPOINT: CheckpointReference = { number: 0, epoch: 0, lastChunk: 0, lastLsn: 0 };

/**
 * What an opening recovered. A power cut may leave records behind the recovered LSN in the log; they are dead once the
 * volume has been opened without them, also when the records that took their LSNs are lost in their turn.
 */
export interface LogCut {
  readonly epoch: number;
  readonly lsn: number;
}

export const NO_CUT: LogCut = { epoch: 0, lsn: 0 };

export interface Manifest {
  readonly volumeId: Uint8Array;
  /** What clients see. */
  readonly sizeBytes: number;
  /** The size that it was made with: its checkpoints name it, whatever became of it. */
  readonly createdBytes: number;
  /** The largest size it ever had. Chunks and log may hold blocks up to here: what a smaller size cut off. */
  readonly spanBytes: number;
  readonly blockSizeBytes: number;
  readonly durability: Durability;
  /** Null: not measured. */
  readonly measuredLogWay: MeasuredLogWay | null;
  readonly compression: VolumeCompression;
  readonly epoch: number;
  readonly checkpoint: CheckpointReference;
  readonly cut: LogCut;
  readonly logFileCount: number;
  readonly logFileBytes: number;
  readonly createdMs: number;
}

export function encodeManifest(manifest: Manifest): Uint8Array {
  const bytes = new Uint8Array(MANIFEST_BYTES);
  const view = viewOf(bytes);
  bytes.set(MAGIC, 0);
  const isResized = manifest.sizeBytes !== manifest.createdBytes || manifest.spanBytes !== manifest.createdBytes;
  view.setUint32(8, isResized ? RESIZED_MANIFEST_VERSION : MANIFEST_VERSION, true);
  view.setUint32(12, MANIFEST_BYTES, true);
  bytes.set(manifest.volumeId, 16);
  writeU64(view, 32, manifest.createdBytes);
  view.setUint32(40, manifest.blockSizeBytes, true);
  bytes[44] = DURABILITY_MODES.indexOf(manifest.durability);
  bytes[45] = LOG_WAYS_ON_DISK.indexOf(manifest.measuredLogWay);
  bytes[46] = COMPRESSIONS_ON_DISK.indexOf(manifest.compression);
  writeU64(view, 48, manifest.epoch);
  writeU64(view, 56, manifest.checkpoint.number);
  writeU64(view, 64, manifest.checkpoint.epoch);
  writeU64(view, 72, manifest.checkpoint.lastChunk);
  writeU64(view, 80, manifest.checkpoint.lastLsn);
  view.setUint32(88, manifest.logFileCount, true);
  writeU64(view, 96, manifest.logFileBytes);
  writeU64(view, 104, manifest.createdMs);
  writeU64(view, 112, manifest.cut.epoch);
  writeU64(view, 120, manifest.cut.lsn);
  if (isResized) {
    writeU64(view, 128, manifest.sizeBytes);
    writeU64(view, 136, manifest.spanBytes);
  }
  view.setUint32(CRC_OFFSET, checksum(bytes.subarray(0, CRC_OFFSET)), true);
  return bytes;
}

/** Decodes and checks a manifest. Errors: `corrupt`, and `unsupported` for a later version. `name` is for the message. */
export function decodeManifest(bytes: Uint8Array, name: string): Manifest {
  if (bytes.length !== MANIFEST_BYTES) throw corrupt(name, `${bytes.length} bytes long, expected ${MANIFEST_BYTES}`, 0);
  const view = viewOf(bytes);
  if (MAGIC.compare(bytes, 0, 8) !== 0) throw corrupt(name, 'not a basalt manifest (wrong magic)', 0);
  const version = view.getUint32(8, true);
  const stored = view.getUint32(CRC_OFFSET, true);
  const computed = checksum(bytes.subarray(0, CRC_OFFSET));
  if (stored !== computed) {
    throw corrupt(name, `checksum ${formatChecksum(stored)}, expected ${formatChecksum(computed)}`, CRC_OFFSET);
  }
  if (version !== MANIFEST_VERSION && version !== RESIZED_MANIFEST_VERSION) {
    throw new VolumeError('unsupported', `${name}: format version ${version}; this basalt reads versions ${MANIFEST_VERSION} and ${RESIZED_MANIFEST_VERSION}: use a newer one`);
  }
  const manifest = fieldsOf(bytes, view, name, version === RESIZED_MANIFEST_VERSION);
  checkFields(manifest, name);
  return manifest;
}

function fieldsOf(bytes: Uint8Array, view: DataView, name: string, isResized: boolean): Manifest {
  const durability = DURABILITY_MODES[bytes[44]];
  if (durability === undefined) throw corrupt(name, `durability mode ${bytes[44]} is not known`, 44);
  const measuredLogWay = LOG_WAYS_ON_DISK[bytes[45]];
  if (measuredLogWay === undefined) throw corrupt(name, `way ${bytes[45]} to write the log is not known`, 45);
  const compression = COMPRESSIONS_ON_DISK[bytes[46]];
  if (compression === undefined) throw new VolumeError('unsupported', `${name}: compression ${bytes[46]} is not known; use a newer basalt`);
  return {
    volumeId: new Uint8Array(bytes.subarray(16, 16 + VOLUME_ID_BYTES)),
    sizeBytes: readU64(view, isResized ? 128 : 32),
    createdBytes: readU64(view, 32),
    spanBytes: readU64(view, isResized ? 136 : 32),
    blockSizeBytes: view.getUint32(40, true),
    durability,
    measuredLogWay,
    compression,
    epoch: readU64(view, 48),
    checkpoint: { number: readU64(view, 56), epoch: readU64(view, 64), lastChunk: readU64(view, 72), lastLsn: readU64(view, 80) },
    logFileCount: view.getUint32(88, true),
    logFileBytes: readU64(view, 96),
    createdMs: readU64(view, 104),
    cut: { epoch: readU64(view, 112), lsn: readU64(view, 120) },
  };
}

function checkFields(manifest: Manifest, name: string): void {
  const { blockSizeBytes, sizeBytes, createdBytes, spanBytes, checkpoint } = manifest;
  if (!isPowerOfTwo(blockSizeBytes) || blockSizeBytes < MIN_BLOCK_BYTES || blockSizeBytes > MAX_BLOCK_BYTES) {
    throw corrupt(name, `block size ${blockSizeBytes} is not a power of two from ${MIN_BLOCK_BYTES} to ${MAX_BLOCK_BYTES}`, 40);
  }
  for (const [bytes, offset] of [[createdBytes, 32], [sizeBytes, 128], [spanBytes, 136]] as const) {
    if (bytes <= 0 || bytes % blockSizeBytes !== 0) throw corrupt(name, `size ${bytes} is not a positive multiple of the block size ${blockSizeBytes}`, offset);
    if (bytes > spanBytes) throw corrupt(name, `size ${bytes} is more than the largest there was, ${spanBytes}`, offset);
  }
  const counters = [manifest.epoch, checkpoint.number, checkpoint.epoch, checkpoint.lastChunk, checkpoint.lastLsn, manifest.createdMs, manifest.cut.epoch, manifest.cut.lsn];
  if (counters.some((value) => value < 0)) throw corrupt(name, 'a counter is 2^53 or more', 48);
  if (manifest.logFileCount < MIN_LOG_FILES || manifest.logFileBytes <= 0) {
    throw corrupt(name, `${manifest.logFileCount} log files of ${manifest.logFileBytes} bytes; at least ${MIN_LOG_FILES} are needed`, 88);
  }
}
