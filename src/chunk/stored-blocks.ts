/**
 * Blocks of an open chunk object, as they are or out of compressed frames. What comes out of a frame was checked as a frame only: whoever
 * hands blocks on compares them with their own checksums (I3).
 */
import { checksum, formatChecksum } from '../base/checksum.ts';
import { VolumeError } from '../base/errors.ts';
import { lz4Decode } from '../base/lz4-decoder.ts';
import type { ChunkFrame, ChunkTables } from '../format/chunk-layout.ts';
import type { StoredObject } from '../store/object-store.ts';
import type { FrameReader } from './frame-reader.ts';

/** Longest piece that is read at once, where frames follow each other. */
const SPAN_BYTES = 256 * 1024;

/** What must be read of the object to have a block. */
export interface StoredExtent {
  readonly offset: number;
  readonly bytes: number;
  /** The frame that must be unpacked; null: this is the block. */
  readonly frame: ChunkFrame | null;
}

/** The compressed frame that a block is in; null: it is stored as it is. */
function frameAt({ packed }: ChunkTables, slot: number): ChunkFrame | null {
  const number = packed === null ? 0 : packed.frameOf[slot];
  return packed === null || number === 0 ? null : packed.frames[number - 1];
}

/** Where a block stands in the object. */
export function extentOf(tables: ChunkTables, slot: number, blockSizeBytes: number): StoredExtent {
  const frame = frameAt(tables, slot);
  return frame === null ? { offset: tables.offsets[slot], bytes: blockSizeBytes, frame } : { offset: frame.offset, bytes: frame.storedBytes, frame };
}

/** What is wanted of a frame: its bytes up to `endBytes`, for `blockNumber` and blocks behind it. */
export interface Wanted {
  readonly key: string;
  readonly blockNumber: number;
  readonly endBytes: number;
}

/** The first blocks that a frame stands for, as many as are wanted; borrowed until the next call. Error: `corrupt`, naming chunk, block, and the frame's place. */
export function unpackFrame(frame: ChunkFrame, stored: Uint8Array, { key, blockNumber, endBytes }: Wanted): Uint8Array {
  const failure = (what: string): VolumeError =>
    new VolumeError('corrupt', `${key}: block ${blockNumber}: compressed frame: ${what}, at byte ${frame.offset}`, { context: { chunk: key, blockNumber, offsetBytes: frame.offset } });
  const computed = checksum(stored);
  if (computed !== frame.checksum) throw failure(`checksum ${formatChecksum(computed)}, expected ${formatChecksum(frame.checksum)}`);
  const plain = lz4Decode(stored, frame.plainBytes, endBytes);
  if (plain === null) throw failure(`does not unpack to ${frame.plainBytes} bytes`);
  return plain;
}

/** A chunk to read blocks of. */
export interface SlotSource {
  readonly object: StoredObject;
  readonly tables: ChunkTables;
  readonly blockSizeBytes: number;
  readonly key: string;
  /** For frames that are read alone. */
  readonly frames: FrameReader;
}

/** Fills `target` with the blocks of `target.length / blockSizeBytes` slots from `slot` on. Errors: `corrupt`, `io-error`. */
export async function readSlots(source: SlotSource, slot: number, target: Uint8Array): Promise<void> {
  const { object, tables, blockSizeBytes } = source;
  const count = target.length / blockSizeBytes;
  for (let done = 0; done < count; ) {
    const rest = target.subarray(done * blockSizeBytes);
    const frame = frameAt(tables, slot + done);
    if (frame !== null) {
      done += await readFrames(source, slot + done, frame, rest);
      continue;
    }
    const run = plainRun(tables, slot + done, count - done, blockSizeBytes);
    await object.read(rest.subarray(0, run * blockSizeBytes), tables.offsets[slot + done]);
    done += run;
  }
}

/** How many slots from `slot` on, `most` at most, stand side by side in the object as they are; the first one does. */
function plainRun(tables: ChunkTables, slot: number, most: number, blockSizeBytes: number): number {
  const { offsets } = tables;
  let run = 1;
  while (run < most && offsets[slot + run] === offsets[slot] + run * blockSizeBytes && frameAt(tables, slot + run) === null) run += 1;
  return run;
}

/** Fills `target` from compressed frames that follow each other in the object, read at once; returns how many blocks that were. */
async function readFrames(source: SlotSource, slot: number, first: ChunkFrame, target: Uint8Array): Promise<number> {
  const { object, tables, blockSizeBytes, key } = source;
  const most = target.length / blockSizeBytes;
  const frames = [first];
  let end = first.offset + first.storedBytes;
  let count = 1;
  for (; count < most; count += 1) {
    const frame = frameAt(tables, slot + count);
    if (frame === frames.at(-1)) continue;
    if (frame === null || frame.offset !== end || end + frame.storedBytes - first.offset > SPAN_BYTES) break;
    frames.push(frame);
    end += frame.storedBytes;
  }
  const copy = (plain: Uint8Array, from: number, to: number): void => {
    for (let i = from; i < to; i += 1) {
      const start = tables.offsets[slot + i];
      target.set(plain.subarray(start, start + blockSizeBytes), i * blockSizeBytes);
    }
  };
  if (frames.length === 1) {
    const wanted = { key, blockNumber: tables.blockNumbers[slot], endBytes: endOf(source, slot, count) };
    const use = (plain: Uint8Array): void => copy(plain, 0, count);
    await (count * blockSizeBytes < first.plainBytes ? source.frames.read(object, first, wanted, use) : source.frames.readOnce(object, first, wanted, use));
    return count;
  }
  const stored = new Uint8Array(end - first.offset);
  await object.read(stored, first.offset);
  let done = 0;
  for (const frame of frames) {
    const begun = done;
    while (done < count && frameAt(tables, slot + done) === frame) done += 1;
    const start = frame.offset - first.offset;
    const wanted = { key, blockNumber: tables.blockNumbers[slot + begun], endBytes: endOf(source, slot + begun, done - begun) };
    copy(unpackFrame(frame, stored.subarray(start, start + frame.storedBytes), wanted), begun, done);
  }
  return count;
}

/** Up to where blocks of one frame reach in it. */
function endOf({ tables, blockSizeBytes }: SlotSource, slot: number, count: number): number {
  let last = 0;
  for (let i = slot; i < slot + count; i += 1) last = Math.max(last, tables.offsets[i]);
  return last + blockSizeBytes;
}
