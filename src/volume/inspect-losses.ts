/** Which blocks cannot be read because of what was found, once all that is newer is taken into account. */
import { chunkKey } from '../chunk/chunk-reader.ts';
import { PAGE_FANOUT, type Run } from '../format/checkpoint-layout.ts';
import { type BlockMap, LEAF_BLOCKS, LOST_CHUNK } from '../index/block-map.ts';
import type { InspectedCheckpoint } from './inspect-checkpoint.ts';
import type { BadBlock, ChunkChain, InspectedChunk } from './inspect-chunks.ts';
import { BlockRanges, type Findings, subtractRanges } from './inspect-findings.ts';
import type { InspectedLog } from './inspect-log.ts';
import { type InspectedLeaves, walkMap } from './inspect-map.ts';
import { CHECKPOINT_FOLDER } from './volume-files.ts';

export interface LossSources {
  readonly findings: Findings;
  readonly checkpoint: InspectedCheckpoint;
  readonly chunks: ReadonlyMap<number, InspectedChunk>;
  readonly chain: ChunkChain;
  readonly log: InspectedLog;
  readonly map: BlockMap;
  readonly leaves: InspectedLeaves;
}

/** Adds findings for chunks and blocks, and to all findings the blocks that are lost by them. Returns all that no repair can bring back. */
export async function reportLosses(sources: LossSources): Promise<BlockRanges> {
  const { findings, chunks, map, leaves } = sources;
  const byChunk = new Map<number, BlockRanges>();
  const bad: { chunk: InspectedChunk; block: BadBlock }[] = [];
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
  const all = new BlockRanges();
  const lose = (target: BlockRanges, ranges: BlockRanges): void => {
    const rest = subtractRanges(ranges.list, newer.list);
    target.addAll(rest);
    all.addAll(rest);
  };
  reportChunks(sources, byChunk, lose);
  for (const [target, ranges] of lostLeaves) if (target !== before) lose(target, ranges);
  const lostBefore = lostLeaves.get(before);
  if (lostBefore !== undefined) lose(findings.unreadable(CHECKPOINT_FOLDER, null, 'an earlier repair marked blocks as lost, and they were not written since'), lostBefore);
  lose(new BlockRanges(), misplaced);
  // The log's own damage is told of there; nothing newer covers it.
  for (const blockNumber of sources.log.lost) all.add(blockNumber, 1);
  for (const { chunk, block } of bad) {
    const lost = findings.unreadable(chunk.key, block.offsetBytes, `block ${block.blockNumber}: ${block.problem}`);
    lost.addAll(subtractRanges([{ blockNumber: block.blockNumber, blockCount: 1 }], newer.list));
  }
  return all;
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
