/** Which chunks compaction rewrites, and when: how much space chunks take against what lives in them. */
import { CHUNK_FOOTER_BYTES, CHUNK_HEADER_BYTES, fullChunkBlocks, tablesBytes } from '../format/chunk-layout.ts';
import { type ChunkCatalogue, type ChunkFacts, PAGE_CHUNKS, storedBlockBytes } from '../index/chunk-catalogue.ts';

/** Candidates kept of one look at the catalogue. */
const CANDIDATES_MAX = 64;
/** Nothing is rewritten that does not give back so much: copying has its price, and rewriting must come to an end. */
const WORTH_PART = 0.85;
/** Chunks may take this many slabs more than their share: a volume of a few blocks is nothing but overhead. */
const SLACK_SLABS = 2;

export interface SpaceLimits {
  readonly blockSizeBytes: number;
  readonly slabBytes: number;
  /** As the settings of these names. */
  readonly compactLivePercent: number;
  readonly compactSpacePercent: number;
}

export interface Victim {
  readonly chunk: number;
  /** Bytes of its object per live block: what a block that is copied gives back. */
  readonly bytesPerBlock: number;
}

/** Whether the chunks take more space than they should for what lives in them. Dead ones do not count: they only wait for a checkpoint. */
export function isOverSpace(catalogue: ChunkCatalogue, limits: SpaceLimits): boolean {
  const takenBytes = catalogue.objectBytes - catalogue.deadBytes;
  return takenBytes > (catalogue.liveStoredBytes * limits.compactSpacePercent) / 100 + SLACK_SLABS * limits.slabBytes;
}

/**
 * A chunk is rewritten now if less than this part of it is live. A full chunk of copies never is: where slabs are small, header and tables
 * are so much of it that copies of copies would be made for ever.
 */
export function livePartLimit(catalogue: ChunkCatalogue, limits: SpaceLimits): number {
  const threshold = limits.compactLivePercent / 100;
  const blocks = fullChunkBlocks(limits.slabBytes, limits.blockSizeBytes);
  const fullPart = (blocks * limits.blockSizeBytes) / copyBytes(blocks, limits.blockSizeBytes);
  return Math.min(fullPart, isOverSpace(catalogue, limits) ? Math.max(threshold, WORTH_PART) : threshold);
}

/** How copies of blocks are stored. */
export interface CopyForm {
  readonly blockSizeBytes: number;
  /** Whether they are compressed, as their blocks are now or were not yet. */
  readonly isCompressed: boolean;
}

/**
 * What copies of a chunk's live blocks will take, as a part of its bytes: more than all of it where blocks are compressed and their copies are
 * not, so that it is no candidate; it would keep others from being rewritten. 0 if there is no such chunk, or nothing lives in it.
 */
export function livePart(catalogue: ChunkCatalogue, chunk: number, form: CopyForm): number {
  const facts = catalogue.get(chunk);
  return facts === undefined ? 0 : livePartOf(facts, form);
}

function livePartOf(facts: Pick<ChunkFacts, 'blockCount' | 'liveBlocks' | 'objectBytes'>, { blockSizeBytes, isCompressed }: CopyForm): number {
  return (facts.liveBlocks * (isCompressed ? storedBlockBytes(facts, blockSizeBytes) : blockSizeBytes)) / facts.objectBytes;
}

/**
 * Chunks of which no more than `limit` is live, the most rewarding first: what is free in them, times their age (what is old
 * will not become free by itself), over what it costs to copy the rest.
 */
export function findCandidates(catalogue: ChunkCatalogue, options: CopyForm & { readonly limit: number; readonly lastChunk: number; readonly except: ReadonlySet<number> }): number[] {
  const { limit, lastChunk, except } = options;
  let best: { readonly chunk: number; readonly reward: number }[] = [];
  const keepBest = (): void => {
    best = best.toSorted((a, b) => b.reward - a.reward).slice(0, CANDIDATES_MAX);
  };
  for (const page of catalogue.pages()) {
    const { liveBlocks, blockCounts, objectBytes } = page;
    for (let place = 0; place < PAGE_CHUNKS; place += 1) {
      if (liveBlocks[place] === 0) continue;
      const live = livePartOf({ blockCount: blockCounts[place], liveBlocks: liveBlocks[place], objectBytes: objectBytes[place] }, options);
      if (live >= limit) continue;
      const chunk = page.index * PAGE_CHUNKS + place;
      if (except.has(chunk)) continue;
      best.push({ chunk, reward: ((1 - live) * (lastChunk - chunk + 1)) / (1 + live) });
      if (best.length > 4 * CANDIDATES_MAX) keepBest();
    }
  }
  keepBest();
  return best.map(({ chunk }) => chunk);
}

/** Bytes of a chunk object of so many copied blocks, which take so many bytes each. */
export function copyBytes(blockCount: number, blockBytes: number): number {
  return CHUNK_HEADER_BYTES + blockCount * blockBytes + tablesBytes(blockCount, 1, 0) + CHUNK_FOOTER_BYTES;
}

/** Whether a new chunk of `blockCount` blocks of so many bytes each pays, when they give back `freedBytes` where they were. */
export function isWorth(blockCount: number, freedBytes: number, blockBytes: number): boolean {
  return blockCount > 0 && copyBytes(blockCount, blockBytes) <= freedBytes * WORTH_PART;
}
