/**
 * Committing a set of chunks: the block map moves to them, their slabs become a cache, their log space becomes free. The
 * chunks are published before; the map is changed in one turn.
 */
import { assert } from '../base/assert.ts';
import { VolumeError } from '../base/errors.ts';
import { PICK_SOURCE_FACTOR } from '../chunk/build-chunk.ts';
import type { ZeroRange } from '../format/chunk-layout.ts';
import { type BlockMap, LEAF_BLOCKS, LOOKUP } from '../index/block-map.ts';
import { assertTransition } from '../index/block-state.ts';
import type { ChunkCatalogue } from '../index/chunk-catalogue.ts';
import { NO_LOCATION, isZeroLocation, zeroSlab } from '../index/resident-map.ts';
import type { Slab } from '../base/arena.ts';
import type { ChunkSet } from './chunk-set.ts';
import type { StagedChunk } from './chunk-writer.ts';
import type { VolumeCore } from './volume-core.ts';

/** Ranges over more blocks than this are cleaned up by passes over the index instead of block by block. */
const LARGE_RANGE_BLOCKS = 8 * LEAF_BLOCKS;
/** A slab with less in it than this part is copied into the cache: 4 MiB for a few blocks would be a waste. */
const SPARSE_PART = 4;

/** What a chunk puts into the block map. */
export interface ChunkContent {
  readonly chunk: number;
  readonly epoch: number;
  readonly objectBytes: number;
  readonly blockNumbers: Float64Array;
}

/** Applies a set of chunks to the map and the catalogue; used when it is committed and again when it is recovered. */
export async function applySet(map: BlockMap, catalogue: ChunkCatalogue, ranges: readonly ZeroRange[], chunks: readonly ChunkContent[]): Promise<void> {
  const release = map.hold();
  try {
    for (const index of missingLeaves(map, ranges, chunks)) await map.load(index);
    place(map, catalogue, ranges, chunks);
  } finally {
    release();
  }
}

function place(map: BlockMap, catalogue: ChunkCatalogue, ranges: readonly ZeroRange[], chunks: readonly ChunkContent[]): void {
  for (const range of ranges) {
    if (range.provisioned) map.place(range.blockNumber, range.blockCount, 0, 0);
    else map.clear(range.blockNumber, range.blockCount);
  }
  for (const { chunk, epoch, objectBytes, blockNumbers } of chunks) {
    catalogue.add(chunk, { epoch, blockCount: blockNumbers.length, objectBytes });
    let start = 0;
    while (start < blockNumbers.length) {
      let end = start + 1;
      while (end < blockNumbers.length && blockNumbers[end] === blockNumbers[start] + end - start) end += 1;
      map.place(blockNumbers[start], end - start, chunk, start);
      start = end;
    }
  }
}

/** The block map leaves of blocks, in memory; the map must be held. */
export async function loadLeaves(map: BlockMap, chunk: Pick<ChunkContent, 'blockNumbers'>): Promise<void> {
  for (const index of missingLeaves(map, [], [chunk])) await map.load(index);
}

/**
 * Applies a recovered chunk of copies. Its place in the order of sets is the place at which it was committed, so the map is as it was
 * then, and it may not put a block where there was none: that would bring back what was trimmed. Error: `corrupt`.
 */
export async function applyCopies(map: BlockMap, catalogue: ChunkCatalogue, copies: ChunkContent): Promise<void> {
  const release = map.hold();
  try {
    await loadLeaves(map, copies);
    for (const blockNumber of copies.blockNumbers) {
      if (map.lookup(blockNumber) === LOOKUP.STORED && map.foundChunk < copies.chunk) continue;
      throw new VolumeError('corrupt', `chunk ${copies.chunk} holds a copy of block ${blockNumber}, which no older chunk holds; nothing was changed`);
    }
    place(map, catalogue, [], [copies]);
  } finally {
    release();
  }
}

/** Whether the map still has a block where it was read. Its leaf must be in memory. */
export function isStillAt(map: BlockMap, blockNumber: number, chunk: number, slot: number): boolean {
  return map.lookup(blockNumber) === LOOKUP.STORED && map.foundChunk === chunk && map.foundSlot === slot;
}

function missingLeaves(map: BlockMap, ranges: readonly ZeroRange[], chunks: readonly Pick<ChunkContent, 'blockNumbers'>[]): number[] {
  const missing = new Set<number>();
  let last = -1;
  for (const { blockNumbers } of chunks) {
    for (const blockNumber of blockNumbers) {
      const index = Math.floor(blockNumber / LEAF_BLOCKS);
      if (index === last) continue;
      last = index;
      const leaf = map.leaf(index);
      if (leaf !== undefined && !leaf.resident) missing.add(index);
    }
  }
  for (const range of ranges) {
    for (const leaf of map.leavesIn(range.blockNumber, range.blockCount)) if (!leaf.resident) missing.add(leaf.index);
  }
  return [...missing];
}

export async function commitSet(core: VolumeCore, set: ChunkSet, chunks: readonly StagedChunk[]): Promise<void> {
  const { map, catalogue, counters, manifest } = core;
  await applySet(map, catalogue, set.ranges, chunks.map((chunk) => ({ ...chunk, epoch: manifest.epoch })));
  for (const { picks } of chunks) checkCommittable(core, set, picks);
  for (const { slab, ranges } of set.slabs) {
    if (slab === null) continue; // it had no ranges
    for (const range of ranges) forgetMarks(core, slab, range);
    releaseSlab(core, slab);
  }
  core.chunkedLsn = set.lastLsn;
  for (const { objectBytes } of chunks) counters.chunkBytes += objectBytes;
  counters.chunksWritten += chunks.length;
  core.logIfOpen?.recycleTo(set.lastLsn);
}

/** A block goes to a chunk from `pending` only, never straight from `hot`: the log has it first. */
function checkCommittable(core: VolumeCore, set: ChunkSet, picks: Uint32Array): void {
  const written = core.logIfOpen?.writtenLsn ?? Number.POSITIVE_INFINITY;
  for (const pick of picks) {
    const { slab } = set.slabs[Math.floor(pick / PICK_SOURCE_FACTOR)];
    assert(slab !== null, 'a block was picked from a slab without memory');
    const slot = pick % PICK_SOURCE_FACTOR;
    assertTransition(slab.lsns[slot] <= written ? 'pending' : 'hot', 'persisted', slab.blockNumbers[slot]);
  }
}

/** Drops the zero marks of a dirty slab: the map says it now. Marks of later slabs stay. */
function forgetMarks(core: VolumeCore, slab: Slab, range: ZeroRange): void {
  const { resident, zeroLeaves } = core;
  const end = range.blockNumber + range.blockCount;
  const isOurs = (location: number): boolean => isZeroLocation(location) && zeroSlab(location) === slab.index;
  const forget = (blockNumber: number): void => {
    const location = resident.get(blockNumber);
    if (location !== NO_LOCATION && isOurs(location)) resident.delete(blockNumber);
  };
  if (range.blockCount > LARGE_RANGE_BLOCKS) resident.keysBetween(range.blockNumber, end).forEach(forget);
  else for (let blockNumber = range.blockNumber; blockNumber < end; blockNumber += 1) forget(blockNumber);
  const firstLeaf = Math.ceil(range.blockNumber / LEAF_BLOCKS);
  const endLeaf = Math.floor(end / LEAF_BLOCKS);
  if (endLeaf - firstLeaf > zeroLeaves.size) {
    for (const [leaf, mark] of zeroLeaves) if (leaf >= firstLeaf && leaf < endLeaf && isOurs(mark)) zeroLeaves.delete(leaf);
  } else {
    for (let leaf = firstLeaf; leaf < endLeaf; leaf += 1) {
      const mark = zeroLeaves.get(leaf);
      if (mark !== undefined && isOurs(mark)) zeroLeaves.delete(leaf);
    }
  }
}

/** A committed slab stays as a cache, if enough of it is still current. */
function releaseSlab(core: VolumeCore, slab: Slab): void {
  const { resident, arena, blockSizeBytes } = core;
  const current: number[] = [];
  for (let slot = 0; slot < slab.slotCount; slot += 1) {
    if (resident.get(slab.blockNumbers[slot]) === core.locationOf(slab, slot)) current.push(slot);
  }
  if (current.length * SPARSE_PART >= core.slotsPerSlab) {
    arena.becomeClean(slab);
    return;
  }
  for (const slot of current) {
    assert(slab.live[slot] === 1, `slot ${slot} is current but not live`);
    resident.delete(slab.blockNumbers[slot]);
    core.cacheBlock(slab.blockNumbers[slot], slab.bytes, slot * blockSizeBytes, slab.checksums[slot]);
  }
  arena.free(slab);
}
