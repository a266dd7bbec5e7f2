/**
 * Building chunks: live blocks of sealed slabs, sorted by block number, with their checksums, become the bytes of objects.
 * Pure functions of shared memory, run on another thread.
 */
import { CHUNK_HEADER_BYTES, type ChunkIdentity, type ZeroRange, encodeChunkHeader, encodeChunkTail } from '../format/chunk-layout.ts';

export const SORT_PICKS_TASK = 'sortPicks';
export const BUILD_CHUNK_TASK = 'buildChunk';

/** Most slots of a source, and the factor between source and slot in a pick: `source * PICK_SOURCE_FACTOR + slot`. */
export const PICK_SOURCE_FACTOR = 65536;

export interface SortPicksJob {
  /** Block numbers of each source's slots. */
  readonly blockNumbers: readonly Float64Array[];
  readonly picks: Uint32Array;
}

/** The picks in the order of their block numbers. */
export function sortPicks({ blockNumbers, picks }: SortPicksJob): Uint32Array {
  const blockOf = (pick: number): number => blockNumbers[Math.floor(pick / PICK_SOURCE_FACTOR)][pick % PICK_SOURCE_FACTOR];
  return picks.slice().sort((a, b) => blockOf(a) - blockOf(b));
}

/** A slab as the worker sees it: views of shared memory. */
export interface ChunkSource {
  readonly bytes: Uint8Array;
  readonly blockNumbers: Float64Array;
  readonly checksums: Uint32Array;
}

export interface BuildChunkJob {
  readonly identity: ChunkIdentity;
  readonly sources: readonly ChunkSource[];
  /** What to take, in ascending order of block numbers, no block twice. */
  readonly picks: Uint32Array;
  readonly ranges: readonly ZeroRange[];
  /** Shared memory of at least `chunkBytes(...)` bytes for the object. */
  readonly output: Uint8Array;
}

export interface BuiltChunk {
  /** Bytes of `output` that are the object. */
  readonly length: number;
  /** Block number of each slot of the chunk, ascending. */
  readonly blockNumbers: Float64Array;
}

export function buildChunk(job: BuildChunkJob): BuiltChunk {
  const { identity, sources, output, picks } = job;
  const count = picks.length;
  const blockNumbers = new Float64Array(count);
  const checksums = new Uint32Array(count);
  const blockBytes = identity.blockSizeBytes;
  encodeChunkHeader(output, identity);
  let run = 0;
  for (let i = 0; i < count; i += 1) {
    const pick = picks[i];
    const source = sources[Math.floor(pick / PICK_SOURCE_FACTOR)];
    const slot = pick % PICK_SOURCE_FACTOR;
    blockNumbers[i] = source.blockNumbers[slot];
    checksums[i] = source.checksums[slot];
    run += 1;
    // Neighbours in the slab that stay neighbours in the chunk are copied in one go.
    if (i + 1 < count && picks[i + 1] === pick + 1) continue;
    const first = slot - run + 1;
    output.set(source.bytes.subarray(first * blockBytes, (slot + 1) * blockBytes), CHUNK_HEADER_BYTES + (i - run + 1) * blockBytes);
    run = 0;
  }
  const length = encodeChunkTail(output, CHUNK_HEADER_BYTES + count * blockBytes, identity, { blockNumbers, checksums, count }, job.ranges);
  return { length, blockNumbers };
}
