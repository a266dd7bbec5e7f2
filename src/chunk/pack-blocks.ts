/**
 * Compressing the blocks of a chunk: frame by frame, so that a reader of one block has little to fetch and unpack. Frames that do not
 * become a tenth smaller are stored as they are, and those that follow each other are one.
 */
import { copyShared } from '../base/arena.ts';
import { checksum } from '../base/checksum.ts';
import { lz4Encode } from '../base/lz4-encoder.ts';
import { KIB } from '../base/units.ts';
import { CHUNK_HEADER_BYTES, type ChunkFrame, FRAME_CODEC } from '../format/chunk-layout.ts';
import { FrameJudge } from './frame-judge.ts';

/**
 * What a compressed frame stands for; one block if that is larger. By the quicker encoder that there was at first, in frames of 4, 8, 16, 32 and 64 KiB (with their tables) this project's sources and tests took
 * 0.58, 0.53, 0.49, 0.46 and 0.45 of their size, documents of its packages 0.56, 0.50, 0.46, 0.44 and 0.42, lines of JSON 0.32, 0.29, 0.27, 0.26 and 0.25,
 * machine code 0.69, 0.65, 0.61, 0.59 and 0.58. A read of one block waits 2, 2, 4, 8 and 14 us for its unpacking. Through a server, 32 random reads
 * in flight, 16 and 32 KiB were 0.87 as fast as no compression, 64 KiB was 0.65: so much for so little that it is not worth it.
 */
export const PACKED_FRAME_BYTES = 32 * KIB;
/** A frame must save this part of its bytes: reading it back costs time. */
const SAVING = 0.1;

/** What stands between a chunk's header and its tables. */
export interface PackedBlocks {
  readonly frames: readonly ChunkFrame[];
  /** The frames' stored bytes, back to back, in shared memory. */
  readonly bytes: Uint8Array;
}

/**
 * Packs `count` blocks; `block(i)` is a view of one, which may be in shared memory. Returns null if none of their frames is worth it: the
 * blocks are then stored from where they are, and noise was looked at where it is, without a copy. `judge` says which frames are tried, and learns by them.
 */
export function packBlocks(count: number, blockSizeBytes: number, block: (index: number) => Uint8Array, judge = new FrameJudge(), frameBytes = PACKED_FRAME_BYTES): PackedBlocks | null {
  const perFrame = Math.max(1, Math.floor(frameBytes / blockSizeBytes));
  const plain = new Uint8Array(perFrame * blockSizeBytes);
  const packed: (Uint8Array | null)[] = [];
  for (let first = 0; first < count; first += perFrame) {
    const blocks = Math.min(perFrame, count - first);
    const blockAt = (index: number): Uint8Array => block(first + index);
    const isTried = judge.isWorthTrying(blocks, blockSizeBytes, blockAt);
    const frame = isTried ? packFrame(blocks, blockSizeBytes, blockAt, plain) : null;
    if (isTried) judge.tried(frame !== null);
    packed.push(frame);
  }
  return packed.every((frame) => frame === null) ? null : joinFrames(packed, { count, perFrame, blockSizeBytes }, block);
}

/** The blocks as one LZ4 block, by way of `scratch`; null if it is not worth it. */
function packFrame(blocks: number, blockSizeBytes: number, block: (index: number) => Uint8Array, scratch: Uint8Array): Uint8Array | null {
  for (let i = 0; i < blocks; i += 1) copyShared(block(i), scratch, i * blockSizeBytes);
  const whole = scratch.subarray(0, blocks * blockSizeBytes);
  return lz4Encode(whole, Math.floor(whole.length * (1 - SAVING)));
}

interface Extent {
  readonly count: number;
  readonly perFrame: number;
  readonly blockSizeBytes: number;
}

function joinFrames(packed: readonly (Uint8Array | null)[], { count, perFrame, blockSizeBytes }: Extent, block: (index: number) => Uint8Array): PackedBlocks {
  const plainBytesOf = (index: number): number => Math.min(perFrame, count - index * perFrame) * blockSizeBytes;
  const bytes = new Uint8Array(new SharedArrayBuffer(packed.reduce((sum, frame, index) => sum + (frame?.length ?? plainBytesOf(index)), 0)));
  const frames: ChunkFrame[] = [];
  let end = 0;
  for (const [index, stored] of packed.entries()) {
    const plainBytes = plainBytesOf(index);
    const offset = CHUNK_HEADER_BYTES + end;
    if (stored === null) {
      for (let at = 0; at < plainBytes; at += blockSizeBytes) copyShared(block(index * perFrame + at / blockSizeBytes), bytes, end + at);
      addPlain(frames, offset, plainBytes);
      end += plainBytes;
    } else {
      bytes.set(stored, end);
      frames.push({ codec: FRAME_CODEC.LZ4, offset, storedBytes: stored.length, plainBytes, checksum: checksum(stored) });
      end += stored.length;
    }
  }
  return { frames, bytes };
}

function addPlain(frames: ChunkFrame[], offset: number, lengthBytes: number): void {
  const last = frames.at(-1);
  if (last?.codec === FRAME_CODEC.NONE) {
    const whole = last.storedBytes + lengthBytes;
    frames[frames.length - 1] = { ...last, storedBytes: whole, plainBytes: whole };
  } else frames.push({ codec: FRAME_CODEC.NONE, offset, storedBytes: lengthBytes, plainBytes: lengthBytes, checksum: 0 });
}
