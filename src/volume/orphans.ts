/**
 * Objects of a volume's bucket that nothing refers to: chunks and checkpoints of writers that had lost their epoch when they put them, or that died before a set was whole, and old
 * roots. They are found when the volume is opened, by the listing that an opening makes anyway, and removed behind a later root of ours, when:
 *
 * - two roots of this epoch were put behind the first one, and nobody had claimed the volume behind the last of them: whoever claims it later goes on from one of
 *   these, whose fence leaves the others out;
 * - they are older than the grace time, by the store's own times.
 *
 * Nothing of a later epoch is ever touched, nor a claim of any: an owner that was fenced finds that out by the claim behind its own.
 */
import { assert } from '../base/assert.ts';
import type { Clock } from '../env/env.ts';

export interface Orphan {
  readonly key: string;
  /** How old it was, at least, when it was found. */
  readonly ageMs: number;
}

export interface OrphanOptions {
  readonly clock: Pick<Clock, 'nowMs'>;
  readonly graceMs: number;
  readonly orphans: readonly Orphan[];
  readonly isInUse: (key: string) => boolean;
}

/** The first one of an epoch says what the bucket had; then the last one, and the one before that, are kept. */
const ROOTS_BEFORE_REMOVAL = 3;
const ROOTS_KEPT = 2;

export class OrphanSweep {
  readonly #options: OrphanOptions;
  readonly #foundMs: number;
  #orphans: Orphan[];
  /** Of this epoch, oldest first. */
  #roots: { readonly key: string; readonly putMs: number }[] = [];
  #rootCount = 0;
  removed = 0;

  constructor(options: OrphanOptions) {
    this.#options = options;
    this.#foundMs = options.clock.nowMs();
    this.#orphans = [...options.orphans];
  }

  /** Those that are not removed yet. */
  get count(): number {
    return this.#orphans.length;
  }

  rootPut(key: string): void {
    if (this.#roots.some((root) => root.key === key)) return;
    this.#roots.push({ key, putMs: this.#options.clock.nowMs() });
    this.#rootCount += 1;
  }

  /** What is to be removed now: behind a root that was put, and a look that found the volume ours. */
  due(): string[] {
    const { clock, graceMs, isInUse } = this.#options;
    if (this.#rootCount < ROOTS_BEFORE_REMOVAL) return [];
    const nowMs = clock.nowMs();
    const isOver = (ageMs: number): boolean => ageMs >= graceMs;
    const old = this.#orphans.filter(({ ageMs }) => isOver(ageMs + nowMs - this.#foundMs)).map(({ key }) => key);
    const roots = this.#roots.slice(0, -ROOTS_KEPT).filter(({ putMs }) => isOver(nowMs - putMs)).map(({ key }) => key);
    for (const key of old) assert(!isInUse(key), `${key} is in use, and was taken for an orphan`);
    return [...old, ...roots];
  }

  /** They are gone. */
  forget(keys: readonly string[]): void {
    const gone = new Set(keys);
    this.#orphans = this.#orphans.filter(({ key }) => !gone.has(key));
    this.#roots = this.#roots.filter(({ key }) => !gone.has(key));
    this.removed += keys.length;
  }
}
