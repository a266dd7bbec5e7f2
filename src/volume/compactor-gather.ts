/** Collecting what compaction copies: the live blocks of some chunks, sorted, in a buffer of one chunk's size. */
import { assert } from '../base/assert.ts';
import { checksum } from '../base/checksum.ts';
import { VolumeError } from '../base/errors.ts';
import type { ChunkTables } from '../format/chunk-layout.ts';
import { storedBlockBytes } from '../index/chunk-catalogue.ts';
import { NO_LOCATION, isZeroLocation } from '../index/resident-map.ts';
import { loadLeaves, isStillAt } from './commit.ts';
import type { VolumeCore } from './volume-core.ts';

/** Copies of stored blocks, ascending by block number, and where the map had each of them when it was looked up. */
export interface Copies {
  readonly count: number;
  readonly blockNumbers: Float64Array;
  readonly checksums: Uint32Array;
  readonly chunks: Uint32Array;
  readonly slots: Uint16Array;
  /** The blocks, back to back; checked. */
  readonly bytes: Uint8Array;
  /** Bytes that they take in their chunks, and those that their chunks take for them. */
  readonly storedBytes: number;
  readonly freedBytes: number;
}

interface LiveBlock {
  readonly blockNumber: number;
  readonly chunk: number;
  readonly slot: number;
  readonly checksum: number;
}

/** A chunk that cannot be read: it keeps what it has. */
export class UnreadableChunk extends Error {
  readonly chunk: number;
  override readonly cause: VolumeError;

  constructor(chunk: number, cause: VolumeError) {
    super(cause.message);
    this.chunk = chunk;
    this.cause = cause;
  }
}

/**
 * Gathers live blocks of `victims`, in this order, as many as `target` holds; of the last one it may be a part only. Blocks that have a
 * clean copy in memory come from there. A victim that died meanwhile is passed over. Rejects with `UnreadableChunk`.
 */
export async function gatherCopies(core: VolumeCore, victims: Iterable<number>, target: Uint8Array): Promise<Copies> {
  const limit = Math.floor(target.length / core.blockSizeBytes);
  const found: LiveBlock[] = [];
  let storedBytes = 0;
  let freedBytes = 0;
  for (const chunk of victims) {
    if (found.length === limit) break;
    const facts = core.catalogue.get(chunk);
    if (facts === undefined || facts.liveBlocks === 0) continue;
    const live = await unlessGone(core, chunk, () => findLive(core, { number: chunk, epoch: facts.epoch }, limit - found.length));
    for (const block of live ?? []) found.push(block);
    storedBytes += (live?.length ?? 0) * storedBlockBytes(facts, core.blockSizeBytes);
    freedBytes += ((live?.length ?? 0) * facts.objectBytes) / facts.liveBlocks;
  }
  found.sort((a, b) => a.blockNumber - b.blockNumber);
  for (const chunk of new Set(found.map((block) => block.chunk))) await unlessGone(core, chunk, () => readBlocks(core, chunk, found, target));
  return {
    count: found.length,
    blockNumbers: Float64Array.from(found, (block) => block.blockNumber),
    checksums: Uint32Array.from(found, (block) => block.checksum),
    chunks: Uint32Array.from(found, (block) => block.chunk),
    slots: Uint16Array.from(found, (block) => block.slot),
    bytes: target,
    storedBytes,
    freedBytes,
  };
}

/** Undefined if the chunk died while it was read: nothing of it is needed any more. */
async function unlessGone<T>(core: VolumeCore, chunk: number, task: () => Promise<T>): Promise<T | undefined> {
  try {
    return await task();
  } catch (error) {
    if (!(error instanceof VolumeError)) throw error;
    if ((core.catalogue.get(chunk)?.liveBlocks ?? 0) === 0) return undefined;
    throw new UnreadableChunk(chunk, error);
  }
}

/** The first blocks of a chunk that the map still has there; `limit` of them at most. */
async function findLive(core: VolumeCore, chunk: { readonly number: number; readonly epoch: number }, limit: number): Promise<LiveBlock[]> {
  const { map, reader } = core;
  const { blockNumbers, checksums }: ChunkTables = await reader.tables(chunk);
  const release = map.hold();
  try {
    await loadLeaves(map, { blockNumbers });
    const live: LiveBlock[] = [];
    for (let slot = 0; slot < blockNumbers.length && live.length < limit; slot += 1) {
      if (isStillAt(map, blockNumbers[slot], chunk.number, slot)) live.push({ blockNumber: blockNumbers[slot], chunk: chunk.number, slot, checksum: checksums[slot] });
    }
    return live;
  } finally {
    release();
  }
}

/** Fills in the bytes of the blocks of one chunk. */
async function readBlocks(core: VolumeCore, chunk: number, found: readonly LiveBlock[], target: Uint8Array): Promise<void> {
  const { blockSizeBytes, catalogue, reader } = core;
  const slots: number[] = [];
  const indexes: number[] = [];
  found.forEach((block, index) => {
    if (block.chunk !== chunk || copyCached(core, block, index, target)) return;
    slots.push(block.slot);
    indexes.push(index);
  });
  const facts = catalogue.get(chunk);
  // One that is gone has no block of these any more; the caller looks again before it uses them.
  if (facts === undefined || slots.length === 0) return;
  await reader.readScattered({ number: chunk, epoch: facts.epoch }, slots, (i, bytes) => target.set(bytes, indexes[i] * blockSizeBytes));
}

/** Takes a block from memory, if a clean copy is there that is what the chunk holds. */
function copyCached(core: VolumeCore, block: LiveBlock, index: number, target: Uint8Array): boolean {
  const { blockSizeBytes, slotsPerSlab, map } = core;
  assert(!core.closed, 'a closed volume is compacted');
  const location = core.residentLocation(block.blockNumber);
  if (location === NO_LOCATION || isZeroLocation(location)) return false;
  const slab = core.slabAt(location);
  // What is dirty is newer than what is stored, and so may be what is stored somewhere else by now.
  if (slab.state !== 'clean' || !isStillAt(map, block.blockNumber, block.chunk, block.slot)) return false;
  const bytes = slab.block(location % slotsPerSlab, blockSizeBytes);
  if (checksum(bytes) !== block.checksum) return false;
  target.set(bytes, index * blockSizeBytes);
  return true;
}
