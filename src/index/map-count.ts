/**
 * Counts how many blocks of each chunk a block map refers to, leaf by leaf, while the map goes on changing: leaves that were counted are
 * watched, so that when all were visited the counts are those of that very turn.
 */
import { type BlockMap, LOST_CHUNK } from './block-map.ts';
import type { Run } from '../format/checkpoint-layout.ts';

export class MapCount {
  readonly #counts = new Map<number, number>();
  /** Leaves that are still to be visited. One that is not there yet is empty, and counted by what becomes of it. */
  readonly #unvisited: Set<number>;
  readonly #stop: () => void;

  constructor(map: BlockMap) {
    this.#unvisited = new Set([...map.leaves()].map(({ index }) => index));
    this.#stop = map.watch((leaf, chunk, change) => {
      if (!this.#unvisited.has(leaf)) this.#add(chunk, change);
    });
  }

  #add(chunk: number, change: number): void {
    this.#counts.set(chunk, (this.#counts.get(chunk) ?? 0) + change);
  }

  /** Leaves to visit, in order. */
  unvisited(): number[] {
    return [...this.#unvisited].toSorted((a, b) => a - b);
  }

  /** Counts a leaf; `runs` are what it has in this turn. Null: it cannot be read, so that nobody can change it either. */
  visit(index: number, runs: readonly Run[] | null): void {
    this.#unvisited.delete(index);
    for (const { chunk, blockCount } of runs ?? []) if (chunk !== 0 && chunk !== LOST_CHUNK) this.#add(chunk, blockCount);
  }

  /** Blocks that refer to each chunk, in all leaves that were visited. */
  get counts(): ReadonlyMap<number, number> {
    return this.#counts;
  }

  end(): void {
    this.#stop();
  }
}
