/** Which blocks cannot be read because of what was found, once all that is newer is taken into account. */
import { chunkKey } from '../chunk/chunk-reader.ts';
import { PAGE_FANOUT, type Run } from '../format/checkpoint-layout.ts';
import type { ChunkTables } from '../format/chunk-layout.ts';
import { type BlockMap, LEAF_BLOCKS, LOST_CHUNK } from '../index/block-map.ts';
import type { InspectedCheckpoint } from './inspect-checkpoint.ts';
import type { BadBlock, ChunkChain, InspectedChunk } from './inspect-chunks.ts';
import { type BlockRange, BlockRanges, type Findings, formatRanges, subtractRanges } from './inspect-findings.ts';
import type { WantedBlocks } from './inspect-history.ts';
import type { InspectedLog } from './inspect-log.ts';
import { type InspectedLeaves, walkMap } from './inspect-map.ts';
import type { LoggedBlock } from './logged-blocks.ts';
import type { RebuiltLeaves } from './rebuild-leaves.ts';
import { CHECKPOINT_FOLDER } from './volume-files.ts';

export interface LossSources {
  readonly findings: Findings;
  readonly checkpoint: InspectedCheckpoint;
  readonly chunks: ReadonlyMap<number, InspectedChunk>;
  readonly chain: ChunkChain;
  readonly log: InspectedLog;
  readonly map: BlockMap;
  readonly leaves: InspectedLeaves;
  readonly rebuilt: RebuiltLeaves | null;
  readonly readTables: (chunk: number) => Promise<ChunkTables>;
  /** Which of the blocks the log has whole. */
  readonly restore: (wanted: WantedBlocks) => Promise<ReadonlyMap<number, LoggedBlock>>;
}

/** Blocks that cannot be read from the chunks. */
export interface Losses {
  /** No repair can bring them back. */
  readonly lost: BlockRanges;
  /** The log has them, among the records that the chunks hold. */
  readonly restored: ReadonlyMap<number, LoggedBlock>;
}

interface BlockDamage {
  readonly chunk: InspectedChunk;
  readonly block: BadBlock;
}

/** Adds findings for chunks and blocks, and to all findings the blocks that are lost by them. */
export async function reportLosses(sources: LossSources): Promise<Losses> {
  const { findings, chunks, map, leaves } = sources;
  const byChunk = new Map<number, BlockRanges>();
  const bad: BlockDamage[] = [];
  const lostLeaves = new Map<BlockRanges, BlockRanges>();
  const before = new BlockRanges();
  const misplaced = new BlockRanges();
  await walkMap(map, (leaf, runs) => {
    for (const run of runs) {
      if (run.chunk === 0) continue;
      const start = leaf * LEAF_BLOCKS + run.place;
      const chunk = chunks.get(run.chunk);
      if (run.chunk === LOST_CHUNK) rangesOf(lostLeaves, damageOf(sources, leaf) ?? before).add(start, run.blockCount);
      else if (chunk === undefined || chunk.fault !== null) rangesOf(byChunk, run.chunk).add(start, run.blockCount);
      else for (const block of chunk.badBlocks) if (isIn(run, block)) bad.push({ chunk, block });
      for (let i = 0; i < run.blockCount && leaves.misplaced.size > 0; i += 1) if (leaves.misplaced.has(start + i)) misplaced.add(start + i, 1);
    }
  });
  const newer = coverOf(sources.log);
  const wanted = await wantedBlocks(sources, byChunk, [...lostLeaves.values(), misplaced], bad);
  const restored = await sources.restore({ ...wanted, ranges: subtractRanges(wanted.ranges, newer.list) });
  noteRestored(findings, restored);
  for (const block of restored.keys()) newer.add(block, 1);
  const all = new BlockRanges();
  const lose = (target: BlockRanges, ranges: BlockRanges): void => {
    const rest = subtractRanges(ranges.list, newer.list);
    target.addAll(rest);
    all.addAll(rest);
  };
  reportChunks(sources, byChunk, lose);
  for (const [target, ranges] of lostLeaves) if (target !== before) lose(target, ranges);
  const lostBefore = lostLeaves.get(before);
  if (lostBefore !== undefined) {
    const isCurable = [...restored.keys()].some((block) => includes(lostBefore.list, block));
    const problem = 'an earlier repair marked blocks as lost, and they were not written since';
    lose(isCurable ? findings.broken(CHECKPOINT_FOLDER, null, problem) : findings.unreadable(CHECKPOINT_FOLDER, null, problem), lostBefore);
  }
  lose(new BlockRanges(), misplaced);
  // The log's own damage is told of there; nothing newer covers it.
  for (const blockNumber of sources.log.lost) all.add(blockNumber, 1);
  for (const { chunk, block } of bad) {
    const problem = `block ${block.blockNumber}: ${block.problem}`;
    const lost = restored.has(block.blockNumber) ? findings.broken(chunk.key, block.offsetBytes, problem) : findings.unreadable(chunk.key, block.offsetBytes, problem);
    lost.addAll(subtractRanges([{ blockNumber: block.blockNumber, blockCount: 1 }], newer.list));
  }
  return { lost: all, restored };
}

/** What to look for in the log, and the checksums that are known. */
async function wantedBlocks({ chunks, rebuilt, readTables }: LossSources, byChunk: ReadonlyMap<number, BlockRanges>, others: readonly BlockRanges[], bad: readonly BlockDamage[]): Promise<WantedBlocks> {
  const wanted = new BlockRanges();
  const checksums = new Map<number, number>();
  for (const ranges of [...others, ...(rebuilt === null ? [] : [rebuilt.uncertain])]) wanted.addAll(ranges.list);
  for (const [chunk, ranges] of byChunk) {
    // A chunk whose header alone is damaged still says what its blocks were.
    const tables = chunks.has(chunk) ? await readTables(chunk).catch(() => null) : null;
    wanted.addAll(ranges.list);
    if (tables === null) continue;
    for (const [slot, blockNumber] of tables.blockNumbers.entries()) if (includes(ranges.list, blockNumber)) checksums.set(blockNumber, tables.checksums[slot]);
  }
  for (const { block } of bad) {
    wanted.add(block.blockNumber, 1);
    checksums.set(block.blockNumber, block.checksum);
  }
  return { ranges: wanted.list, checksums };
}

function includes(ranges: readonly BlockRange[], block: number): boolean {
  return ranges.some(({ blockNumber, blockCount }) => block >= blockNumber && block < blockNumber + blockCount);
}

function noteRestored({ notes }: Findings, restored: ReadonlyMap<number, LoggedBlock>): void {
  if (restored.size > 0) notes.push(`the log has the last version of ${formatRanges(blockRangesOf(restored).list)}, which no chunk has whole; a repair brings it back`);
}

/** The keys of a map by block. */
export function blockRangesOf(blocks: ReadonlyMap<number, unknown>): BlockRanges {
  const ranges = new BlockRanges();
  for (const block of [...blocks.keys()].toSorted((a, b) => a - b)) ranges.add(block, 1);
  return ranges;
}

function rangesOf<Key>(ranges: Map<Key, BlockRanges>, key: Key): BlockRanges {
  const known = ranges.get(key);
  if (known !== undefined) return known;
  const made = new BlockRanges();
  ranges.set(key, made);
  return made;
}

/** What takes the blocks that are lost by the damage of a leaf; null if the leaf is not damaged. */
function damageOf({ checkpoint, leaves }: LossSources, leaf: number): BlockRanges | null {
  return leaves.damaged.get(leaf) ?? checkpoint.lostNodes.get(leaf - (leaf % PAGE_FANOUT)) ?? checkpoint.lostRoot;
}

function isIn(run: Run, { slot }: BadBlock): boolean {
  return slot >= run.slot && slot < run.slot + run.blockCount;
}

/** What the log's records write anew. */
function coverOf(log: InspectedLog): BlockRanges {
  const cover = new BlockRanges();
  for (const { blockNumber, blockCount } of log.records) cover.add(blockNumber, blockCount);
  return cover;
}

function reportChunks(sources: LossSources, byChunk: ReadonlyMap<number, BlockRanges>, lose: (target: BlockRanges, ranges: BlockRanges) => void): void {
  const { findings, checkpoint, chunks, chain, leaves } = sources;
  const needed = new Set([...leaves.live.keys(), ...byChunk.keys()]);
  for (const [chunk, { liveBlocks }] of checkpoint.catalogue) if (liveBlocks > 0) needed.add(chunk);
  for (const { chunk } of chain.unplaced) needed.add(chunk);
  for (const inspected of chunks.values()) {
    const { key, fault, chunk } = inspected;
    if (fault === null) continue;
    // With a checkpoint that cannot be read nobody knows which chunks matter.
    const isNeeded = needed.has(chunk) || checkpoint.lostRoot !== null;
    if (isNeeded) lose(findings.broken(key, fault.offsetBytes, fault.problem), byChunk.get(chunk) ?? new BlockRanges());
    else findings.notes.push(`${key}: ${fault.problem}; no block of it is in use, and it is removed by and by`);
  }
  for (const chunk of needed) {
    if (chunks.has(chunk)) continue;
    const key = chunkKey(checkpoint.catalogue.get(chunk)?.epoch ?? 0, chunk);
    lose(findings.broken(key, null, 'is missing'), byChunk.get(chunk) ?? new BlockRanges());
  }
}
