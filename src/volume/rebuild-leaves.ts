/**
 * Leaves of the block map that cannot be read, put together again from the tables of the chunks. Chunks say what they were given, not
 * what became of it: a chunk whose blocks were all overwritten is removed, and with it what it said of trims. So the newest version
 * that is found may be one that was trimmed since, or stands in a chunk that is missing. The catalogue tells: it has the number of
 * live blocks of each chunk. What it does not prove is uncertain.
 */
import type { ChunkTables, ZeroRange } from '../format/chunk-layout.ts';
import type { Run } from '../format/checkpoint-layout.ts';
import { LEAF_BLOCKS, LOST_CHUNK } from '../index/block-map.ts';
import { BlockRanges } from './inspect-findings.ts';

/** What is done with blocks of which the newest version found may not be the last one: they fail to be read, or that version is taken. */
export type UncertainChoice = 'lost' | 'restore';

export interface RebuildOptions {
  /** Whether a leaf is to be put together. */
  readonly isWanted: (leaf: number) => boolean;
  /** The sound chunks that the checkpoint covers, in order. */
  readonly chunks: readonly number[];
  readonly readTables: (chunk: number) => Promise<ChunkTables>;
  /** By chunk: live blocks that stand in none of the leaves that were read. Null: there is no (whole) catalogue. */
  readonly unexplained: ReadonlyMap<number, number> | null;
  /** Without a catalogue: chunks up to this one are not certain to hold the last version. */
  readonly lastGap: number;
  readonly volumeBlocks: number;
  readonly uncertain: UncertainChoice;
}

export interface RebuiltLeaves {
  /** The runs of a wanted leaf. */
  runsOf(leaf: number): Run[];
  /** Leaves in which something was found. */
  readonly leaves: readonly number[];
  readonly uncertain: BlockRanges;
}

/** The newest version of each block that was found; chunk 0: none. */
interface Candidates {
  readonly chunks: Uint32Array;
  readonly slots: Uint16Array;
}

type Verdict = 'live' | 'dead' | 'uncertain';

export async function rebuildLeaves(options: RebuildOptions): Promise<RebuiltLeaves> {
  const found = new Map<number, Candidates>();
  for (const chunk of options.chunks) {
    const { blockNumbers, ranges } = await options.readTables(chunk);
    for (const range of ranges) clear(found, range);
    for (const [slot, blockNumber] of blockNumbers.entries()) {
      const leaf = Math.floor(blockNumber / LEAF_BLOCKS);
      if (!options.isWanted(leaf)) continue;
      let candidates = found.get(leaf);
      if (candidates === undefined) {
        candidates = { chunks: new Uint32Array(LEAF_BLOCKS), slots: new Uint16Array(LEAF_BLOCKS) };
        found.set(leaf, candidates);
      }
      candidates.chunks[blockNumber % LEAF_BLOCKS] = chunk;
      candidates.slots[blockNumber % LEAF_BLOCKS] = slot;
    }
  }
  return new Rebuilt(options, found);
}

function clear(found: ReadonlyMap<number, Candidates>, { blockNumber, blockCount }: ZeroRange): void {
  for (const [leaf, { chunks }] of found) {
    const base = leaf * LEAF_BLOCKS;
    const [start, end] = [Math.max(0, blockNumber - base), Math.min(LEAF_BLOCKS, blockNumber + blockCount - base)];
    if (start < end) chunks.fill(0, start, end);
  }
}

class Rebuilt implements RebuiltLeaves {
  readonly uncertain = new BlockRanges();
  readonly #options: RebuildOptions;
  readonly #found: ReadonlyMap<number, Candidates>;
  readonly #counts = new Map<number, number>();
  /** Live blocks stand in chunks that are not sound: what has no other place may have been there. */
  readonly #isElsewhere: boolean;

  constructor(options: RebuildOptions, found: ReadonlyMap<number, Candidates>) {
    this.#options = options;
    this.#found = found;
    for (const { chunks } of found.values()) for (const chunk of chunks) if (chunk !== 0) this.#counts.set(chunk, (this.#counts.get(chunk) ?? 0) + 1);
    const sound = new Set(options.chunks);
    this.#isElsewhere = [...(options.unexplained ?? [])].some(([chunk, count]) => count > 0 && !sound.has(chunk));
    for (const leaf of this.leaves) this.#noteUncertain(leaf);
  }

  get leaves(): readonly number[] {
    return [...this.#found.keys()].toSorted((a, b) => a - b);
  }

  #verdict(chunk: number): Verdict {
    const { unexplained, lastGap } = this.#options;
    if (unexplained === null) return chunk > lastGap ? 'live' : 'uncertain';
    // All live blocks of a chunk are among those of which it has the newest version: as many as that, and they are the same.
    const live = unexplained.get(chunk) ?? 0;
    if (live === this.#counts.get(chunk)) return 'live';
    return live === 0 ? 'dead' : 'uncertain';
  }

  #noteUncertain(leaf: number): void {
    const { chunks } = this.#candidates(leaf);
    for (let place = 0; place < LEAF_BLOCKS; place += 1) {
      if (chunks[place] !== 0 && this.#verdict(chunks[place]) === 'uncertain') this.uncertain.add(leaf * LEAF_BLOCKS + place, 1);
    }
  }

  #candidates(leaf: number): Candidates {
    return this.#found.get(leaf) ?? { chunks: new Uint32Array(LEAF_BLOCKS), slots: new Uint16Array(LEAF_BLOCKS) };
  }

  runsOf(leaf: number): Run[] {
    const { chunks, slots } = this.#candidates(leaf);
    const length = Math.min(LEAF_BLOCKS, this.#options.volumeBlocks - leaf * LEAF_BLOCKS);
    const runs: Run[] = [];
    for (let place = 0; place < length; place += 1) {
      const chunk = this.#choose(chunks[place]);
      if (chunk === 0) continue;
      // What is lost stands in no slot; these ascend so that neighbours make one run.
      const slot = chunk === LOST_CHUNK ? place : slots[place];
      const last = runs.at(-1);
      const follows = last !== undefined && last.chunk === chunk && last.place + last.blockCount === place && last.slot + last.blockCount === slot;
      if (follows) runs[runs.length - 1] = { ...last, blockCount: last.blockCount + 1 };
      else runs.push({ place, blockCount: 1, chunk, slot });
    }
    return runs;
  }

  /** The chunk that a block is taken from: 0 for nowhere, it was empty; LOST_CHUNK when it is lost. */
  #choose(candidate: number): number {
    const none = this.#isElsewhere ? LOST_CHUNK : 0;
    if (candidate === 0) return none;
    const verdict = this.#verdict(candidate);
    if (verdict === 'live') return candidate;
    if (verdict === 'dead') return none;
    return this.#options.uncertain === 'restore' ? candidate : LOST_CHUNK;
  }
}
