/**
 * The mark: up to which LSN the volume is known to be on the disk, in one file of 64 bytes that is overwritten in place, never synced.
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | magic `BASALTSM` |
 * | 8 | 4 | format version, 1 |
 * | 12 | 4 | zero |
 * | 16 | 16 | volume id |
 * | 32 | 8 | epoch in which it was written |
 * | 40 | 8 | LSN: records up to here were synced, or stand in chunks |
 * | 48 | 12 | zero |
 * | 60 | 4 | CRC-32 of bytes 0 to 59 |
 *
 * It is written a moment after the last of a run of syncs, so it says at least that of the log's last records which no later record can say:
 * that they had been durable, and that a log without them is damaged and not torn. It may say less than is true, never more. One that is
 * missing, short, torn, or of an epoch before the manifest's cut (which says more) says nothing.
 */
import { checksum } from '../base/checksum.ts';
import { readU64, viewOf, writeU64 } from './bytes.ts';

export const SYNCED_MARK_BYTES = 64;
export const SYNCED_MARK_VERSION = 1;
const MAGIC = Buffer.from('BASALTSM', 'latin1');
const CRC_OFFSET = 60;

export interface SyncedMark {
  readonly volumeId: Uint8Array;
  readonly epoch: number;
  readonly lsn: number;
}

export function encodeSyncedMark({ volumeId, epoch, lsn }: SyncedMark): Uint8Array {
  const bytes = new Uint8Array(SYNCED_MARK_BYTES);
  const view = viewOf(bytes);
  bytes.set(MAGIC, 0);
  view.setUint32(8, SYNCED_MARK_VERSION, true);
  bytes.set(volumeId, 16);
  writeU64(view, 32, epoch);
  writeU64(view, 40, lsn);
  view.setUint32(CRC_OFFSET, checksum(bytes.subarray(0, CRC_OFFSET)), true);
  return bytes;
}

/** The mark; null if these bytes are none that this version knows. */
export function decodeSyncedMark(bytes: Uint8Array): SyncedMark | null {
  if (bytes.length !== SYNCED_MARK_BYTES || MAGIC.compare(bytes, 0, 8) !== 0) return null;
  const view = viewOf(bytes);
  if (view.getUint32(CRC_OFFSET, true) !== checksum(bytes.subarray(0, CRC_OFFSET)) || view.getUint32(8, true) !== SYNCED_MARK_VERSION) return null;
  const mark = { volumeId: new Uint8Array(bytes.subarray(16, 32)), epoch: readU64(view, 32), lsn: readU64(view, 40) };
  return mark.epoch < 0 || mark.lsn < 0 ? null : mark;
}
