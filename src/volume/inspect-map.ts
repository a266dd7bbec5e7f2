/** The block map of a volume that nobody has open: its leaves against the chunks' tables and the catalogue. */
import type { ChunkTables } from '../format/chunk-layout.ts';
import { type PageReference, type Run, decodeLeaf } from '../format/checkpoint-layout.ts';
import { type BlockMap, LEAF_BLOCKS, LOST_CHUNK } from '../index/block-map.ts';
import type { ObjectOpener } from '../store/object-store.ts';
import type { InspectedCheckpoint } from './inspect-checkpoint.ts';
import type { InspectedChunk } from './inspect-chunks.ts';
import { type BlockRanges, type Findings, type OnProgress } from './inspect-findings.ts';
import { PageReader } from './load-checkpoint.ts';
import { checkpointKey } from './volume-files.ts';

/** Tables kept in memory at once while references are compared with them. */
const TABLE_BYTES_AT_ONCE = 64 * 1024 * 1024;
const BYTES_PER_BLOCK = 8;

/** Live blocks of each chunk, and what is wrong with the leaves. */
export interface InspectedLeaves {
  readonly live: ReadonlyMap<number, number>;
  /** Leaves that cannot be read, and where to say which of their blocks are lost. */
  readonly damaged: ReadonlyMap<number, BlockRanges>;
  /** Blocks whose entry names a slot that holds another block, or none. */
  readonly misplaced: ReadonlySet<number>;
}

export interface LeafInspection {
  readonly store: ObjectOpener;
  readonly checkpoint: InspectedCheckpoint;
  readonly chunks: ReadonlyMap<number, InspectedChunk>;
  readonly volumeBlocks: number;
  readonly readTables: (chunk: number) => Promise<ChunkTables>;
  readonly findings: Findings;
  readonly onProgress: OnProgress;
}

type VisitLeaf = (index: number, reference: PageReference, runs: readonly Run[]) => void;

/** Reads the leaves one by one, without keeping them. `failed` is told of one that cannot be read. */
async function readLeaves({ store, checkpoint }: LeafInspection, visit: VisitLeaf, failed: (index: number, key: string, error: unknown) => void): Promise<void> {
  const pages = new PageReader(store);
  try {
    for (const [index, reference] of checkpoint.leaves) {
      let runs: Run[];
      try {
        const { bytes, name } = await pages.read(reference);
        runs = decodeLeaf(bytes, index, reference, name);
      } catch (error) {
        failed(index, checkpointKey(reference.epoch, reference.number), error);
        continue;
      }
      visit(index, reference, runs);
    }
  } finally {
    await pages.close();
  }
}

export async function inspectLeaves(inspection: LeafInspection): Promise<InspectedLeaves> {
  const { checkpoint, volumeBlocks, findings, onProgress } = inspection;
  const live = new Map<number, number>();
  const damaged = new Map<number, BlockRanges>();
  const misplaced = new Set<number>();
  let done = 0;
  const visit: VisitLeaf = (index, reference, runs) => {
    done += 1;
    onProgress({ task: 'block map', done, total: checkpoint.leaves.size });
    for (const { place, blockCount, chunk } of runs) {
      const blockNumber = index * LEAF_BLOCKS + place;
      if (blockNumber + blockCount > volumeBlocks) findings.broken(checkpointKey(reference.epoch, reference.number), reference.offset, `leaf ${index} maps block ${blockNumber + blockCount - 1}, beyond the end of the volume`);
      else if (chunk !== 0 && chunk !== LOST_CHUNK) live.set(chunk, (live.get(chunk) ?? 0) + blockCount);
    }
  };
  await readLeaves(inspection, visit, (index, key, error) => void damaged.set(index, findings.failed(key, error)));
  for (const group of tableGroups(inspection.chunks, live)) await compareSlots(inspection, group, misplaced);
  return { live, damaged, misplaced };
}

/** The sound chunks that the map refers to, so many at once as fit the memory. */
function tableGroups(chunks: ReadonlyMap<number, InspectedChunk>, live: ReadonlyMap<number, number>): number[][] {
  const groups: number[][] = [];
  let room = 0;
  for (const { chunk, fault, blockCount } of chunks.values()) {
    if (fault !== null || !live.has(chunk)) continue;
    if (room < blockCount * BYTES_PER_BLOCK) {
      groups.push([]);
      room = TABLE_BYTES_AT_ONCE;
    }
    groups[groups.length - 1].push(chunk);
    room -= blockCount * BYTES_PER_BLOCK;
  }
  return groups;
}

async function compareSlots(inspection: LeafInspection, group: readonly number[], misplaced: Set<number>): Promise<void> {
  const { findings } = inspection;
  const tables = new Map<number, Float64Array>();
  for (const chunk of group) tables.set(chunk, (await inspection.readTables(chunk)).blockNumbers);
  const visit: VisitLeaf = (index, reference, runs) => {
    for (const { place, blockCount, chunk, slot } of runs) {
      const blockNumbers = tables.get(chunk);
      if (blockNumbers === undefined) continue;
      for (let i = 0; i < blockCount; i += 1) {
        const blockNumber = index * LEAF_BLOCKS + place + i;
        const found = blockNumbers[slot + i];
        if (found === blockNumber || misplaced.has(blockNumber)) continue;
        misplaced.add(blockNumber);
        const key = checkpointKey(reference.epoch, reference.number);
        findings.broken(key, reference.offset, `block ${blockNumber} is mapped to slot ${slot + i} of chunk ${chunk}, which holds ${found === undefined ? 'none' : `block ${found}`}`).add(blockNumber, 1);
      }
    }
  };
  // A leaf that could not be read has been told of already.
  await readLeaves(inspection, visit, () => undefined);
}

/** Compares what the catalogue says of each chunk with what was counted and what is there. `isComplete`: every leaf could be read. */
export function reconcileCatalogue(checkpoint: InspectedCheckpoint, chunks: ReadonlyMap<number, InspectedChunk>, live: ReadonlyMap<number, number>, isComplete: boolean, findings: Findings, file: string): void {
  for (const [chunk, said] of checkpoint.catalogue) {
    const counted = live.get(chunk) ?? 0;
    const isWrong = isComplete ? counted !== said.liveBlocks : counted > said.liveBlocks;
    if (isWrong) findings.broken(file, null, `the catalogue says that chunk ${chunk} has ${said.liveBlocks} live blocks, the block map refers to ${counted}`);
    const found = chunks.get(chunk);
    if (found === undefined || found.fault !== null) continue;
    if (found.epoch !== said.epoch) findings.broken(found.key, null, `is of epoch ${found.epoch}; the catalogue says epoch ${said.epoch}`);
    if (found.blockCount !== said.blockCount || found.sizeBytes !== said.objectBytes) {
      findings.broken(found.key, null, `has ${found.blockCount} blocks and ${found.sizeBytes} bytes; the catalogue says ${said.blockCount} blocks and ${said.objectBytes} bytes`);
    }
  }
  if (!checkpoint.catalogueIsSound) return;
  for (const [chunk, counted] of live) {
    if (!checkpoint.catalogue.has(chunk)) findings.broken(file, null, `the block map refers to chunk ${chunk} (${counted} blocks), which the catalogue does not know`);
  }
}

/** Visits all runs of a map, in the order of their blocks; leaves are loaded as they are needed. */
export async function walkMap(map: BlockMap, visit: (leaf: number, runs: readonly Run[]) => Promise<void> | void): Promise<void> {
  const indexes = [...map.leaves()].map(({ index }) => index).toSorted((a, b) => a - b);
  for (const index of indexes) {
    const release = map.hold();
    try {
      await map.load(index);
      const leaf = map.leaf(index);
      if (leaf !== undefined) await visit(index, map.runsOf(leaf));
    } finally {
      release();
    }
  }
}
