/**
 * Blocks of an open chunk object, as they are or out of compressed frames. What comes out of a frame was checked as a frame only: whoever
 * hands blocks on compares them with their own checksums (I3).
 */
import { checksum, formatChecksum } from '../base/checksum.ts';
import { VolumeError } from '../base/errors.ts';
import { lz4Decompress } from '../base/lz4.ts';
import type { ChunkFrame, ChunkTables } from '../format/chunk-layout.ts';
import type { StoredObject } from '../store/object-store.ts';

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

/** The blocks that a frame stands for. Error: `corrupt`, naming the chunk, the block that is wanted of it, and the frame's place. */
export function unpackFrame(frame: ChunkFrame, stored: Uint8Array, wanted: { readonly key: string; readonly blockNumber: number }): Uint8Array {
  const { key, blockNumber } = wanted;
  const failure = (what: string): VolumeError =>
    new VolumeError('corrupt', `${key}: block ${blockNumber}: compressed frame: ${what}, at byte ${frame.offset}`, { context: { chunk: key, blockNumber, offsetBytes: frame.offset } });
  const computed = checksum(stored);
  if (computed !== frame.checksum) throw failure(`checksum ${formatChecksum(computed)}, expected ${formatChecksum(frame.checksum)}`);
  const plain = lz4Decompress(stored, frame.plainBytes);
  if (plain === null) throw failure(`does not unpack to ${frame.plainBytes} bytes`);
  return plain;
}

/** Fills `target` with the blocks of `target.length / blockSizeBytes` slots from `slot` on. Errors: `corrupt`, `io-error`. */
export async function readSlots(object: StoredObject, tables: ChunkTables, slot: number, target: Uint8Array, blockSizeBytes: number, key: string): Promise<void> {
  const count = target.length / blockSizeBytes;
  for (let done = 0; done < count; ) {
    const rest = target.subarray(done * blockSizeBytes);
    const frame = frameAt(tables, slot + done);
    if (frame !== null) {
      done += await readFrames(object, { tables, slot: slot + done, first: frame }, rest, blockSizeBytes, key);
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
async function readFrames(
  object: StoredObject,
  { tables, slot, first }: { readonly tables: ChunkTables; readonly slot: number; readonly first: ChunkFrame },
  target: Uint8Array,
  blockSizeBytes: number,
  key: string,
): Promise<number> {
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
  const stored = new Uint8Array(end - first.offset);
  await object.read(stored, first.offset);
  let done = 0;
  for (const frame of frames) {
    const start = frame.offset - first.offset;
    const plain = unpackFrame(frame, stored.subarray(start, start + frame.storedBytes), { key, blockNumber: tables.blockNumbers[slot + done] });
    for (; done < count && frameAt(tables, slot + done) === frame; done += 1) {
      const from = tables.offsets[slot + done];
      target.set(plain.subarray(from, from + blockSizeBytes), done * blockSizeBytes);
    }
  }
  return count;
}
