/**
 * Building chunks: which blocks of sealed slabs stand where, sorted by block number, with their checksums. Pure functions of
 * shared memory, run on another thread. The blocks themselves are not copied: they are written from the slabs.
 */
import { type ChunkIdentity, type ZeroRange, encodeChunkHeader, encodeChunkTail } from '../format/chunk-layout.ts';

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

/** The slot table of a slab: views of shared memory. */
export interface ChunkSource {
  readonly blockNumbers: Float64Array;
  readonly checksums: Uint32Array;
}

export interface BuildChunkJob {
  readonly identity: ChunkIdentity;
  readonly sources: readonly ChunkSource[];
  /** What to take, in ascending order of block numbers, no block twice. */
  readonly picks: Uint32Array;
  readonly ranges: readonly ZeroRange[];
}

/** A chunk without its blocks, which go from the slabs into the store as they are. */
export interface BuiltChunk {
  readonly header: Uint8Array;
  readonly tail: Uint8Array;
  /** Block number of each slot of the chunk, ascending. */
  readonly blockNumbers: Float64Array;
  /** Neighbours in a slab that stay neighbours in the chunk: first pick, number of slots; and so on. */
  readonly runs: Uint32Array;
}

export function buildChunk({ identity, sources, picks, ranges }: BuildChunkJob): BuiltChunk {
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
  const header = encodeChunkHeader(identity);
  return { header, tail: encodeChunkTail(identity, header, { blockNumbers, checksums }, ranges), blockNumbers, runs: Uint32Array.from(runs) };
}
