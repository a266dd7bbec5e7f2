/**
 * Building chunks: which blocks of sealed slabs stand where, sorted by block number, with their checksums. Pure functions of
 * shared memory, run on another thread. The blocks themselves are not copied, but written from the slabs, unless they are compressed.
 */
import { assert } from '../base/assert.ts';
import { type ChunkIdentity, type ZeroRange, encodeChunkHeader, encodeChunkTail, plainFrames, versionFor } from '../format/chunk-layout.ts';
import { FrameJudge, type VainTries } from './frame-judge.ts';
import { packBlocks } from './pack-blocks.ts';

export const SORT_PICKS_TASK = 'sortPicks';
export const BUILD_CHUNK_TASK = 'buildChunk';

/** Most slots of a source, and the factor between source and slot in a pick: `source * PICK_SOURCE_FACTOR + slot`. */
export const PICK_SOURCE_FACTOR = 65536;

/** Most picks of a job: with the 41 bits of a block number, the place of a pick makes a number of 64 bits. */
const PICKS_MAX = 2 ** 23;
const BLOCKS_IN_LOW_HALF = 2 ** 32 / PICKS_MAX;
/** Which half of a 64-bit number comes first in memory. */
const LOW = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 0 : 1;

export interface SortPicksJob {
  /** Block numbers of each source's slots. */
  readonly blockNumbers: readonly Float64Array[];
  readonly picks: Uint32Array;
}

/**
 * The picks in the order of their block numbers, which are different. Sorted as 64-bit numbers, block number above place: without a
 * comparison function that takes a tenth of the time.
 */
export function sortPicks({ blockNumbers, picks }: SortPicksJob): Uint32Array {
  assert(picks.length <= PICKS_MAX, `${picks.length} picks are too many for one set`);
  const keys = new BigUint64Array(picks.length);
  const halves = new Uint32Array(keys.buffer);
  for (let i = 0; i < picks.length; i += 1) {
    const blockNumber = blockNumbers[Math.floor(picks[i] / PICK_SOURCE_FACTOR)][picks[i] % PICK_SOURCE_FACTOR];
    halves[2 * i + LOW] = (blockNumber % BLOCKS_IN_LOW_HALF) * PICKS_MAX + i;
    halves[2 * i + 1 - LOW] = Math.floor(blockNumber / BLOCKS_IN_LOW_HALF);
  }
  keys.sort();
  const sorted = new Uint32Array(picks.length);
  for (let i = 0; i < sorted.length; i += 1) sorted[i] = picks[halves[2 * i + LOW] % PICKS_MAX];
  return sorted;
}

/** The slot table of a slab: views of shared memory. */
export interface ChunkSource {
  readonly blockNumbers: Float64Array;
  readonly checksums: Uint32Array;
  /** The blocks of the slots, where they are to be compressed; null if they are not, or where nothing is picked from the slab. */
  readonly bytes: Uint8Array | null;
}

export interface BuildChunkJob {
  readonly identity: ChunkIdentity;
  readonly sources: readonly ChunkSource[];
  /** What to take, in ascending order of block numbers, no block twice. */
  readonly picks: Uint32Array;
  readonly ranges: readonly ZeroRange[];
  readonly compress: boolean;
  /** Of the chunks before: it saves tries, and changes nothing else. */
  readonly vainTries: VainTries;
}

/** A chunk without its blocks, which go from the slabs into the store as they are; or with them, where they are compressed. */
export interface BuiltChunk {
  readonly header: Uint8Array;
  /** Its frames, in shared memory; null: the blocks as they are. */
  readonly packed: Uint8Array | null;
  readonly tail: Uint8Array;
  /** Block number of each slot of the chunk, ascending. */
  readonly blockNumbers: Float64Array;
  /** Neighbours in a slab that stay neighbours in the chunk: first pick, number of slots; and so on. */
  readonly runs: Uint32Array;
  /** With what this chunk adds. */
  readonly vainTries: VainTries;
}

export function buildChunk({ identity, sources, picks, ranges, compress, vainTries }: BuildChunkJob): BuiltChunk {
  const { blockSizeBytes } = identity;
  const count = picks.length;
  const blockNumbers = new Float64Array(count);
  const checksums = new Uint32Array(count);
  const runs: number[] = [];
  for (let i = 0; i < count; i += 1) {
    const pick = picks[i];
    const source = sources[Math.floor(pick / PICK_SOURCE_FACTOR)];
    const slot = pick % PICK_SOURCE_FACTOR;
    blockNumbers[i] = source.blockNumbers[slot];
    checksums[i] = source.checksums[slot];
    if (i > 0 && picks[i - 1] === pick - 1) runs[runs.length - 1] += 1;
    else runs.push(pick, 1);
  }
  const blockAt = (index: number): Uint8Array => {
    const { bytes } = sources[Math.floor(picks[index] / PICK_SOURCE_FACTOR)];
    assert(bytes !== null, 'a block was picked from a slab without memory');
    const slot = picks[index] % PICK_SOURCE_FACTOR;
    return bytes.subarray(slot * blockSizeBytes, (slot + 1) * blockSizeBytes);
  };
  const judge = new FrameJudge(vainTries);
  const packed = compress ? packBlocks(count, blockSizeBytes, blockAt, judge) : null;
  const frames = packed?.frames ?? plainFrames(count, blockSizeBytes);
  const header = encodeChunkHeader(identity, versionFor(frames));
  const tail = encodeChunkTail(identity, header, { blockNumbers, checksums }, ranges, frames);
  return { header, packed: packed?.bytes ?? null, tail, blockNumbers, runs: Uint32Array.from(runs), vainTries: judge.tries };
}
