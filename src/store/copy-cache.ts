/**
 * Which objects that the bucket has are here as well, whole or in parts, and which of them go first: those that were not used for longest. What is here
 * and nowhere else is none of its business.
 */
import { assert } from '../base/assert.ts';
import { toVolumeError } from '../base/errors.ts';
import type { Clock, Timer } from '../env/env.ts';

export interface CopyCacheOptions {
  readonly clock: Pick<Clock, 'nowMs' | 'setTimer'>;
  /** What was not used for so long goes; 0: for want of room alone. */
  readonly ttlMs: number;
  /** Most bytes that are kept, but for those that may not go. */
  readonly limitBytes: number;
  readonly mayEvict: (key: string) => boolean;
  /** Removes what is here of an object; it is not counted any more. */
  readonly remove: (key: string, bytes: number) => Promise<void>;
}

interface Copy {
  bytes: number;
  usedMs: number;
}

/** It is looked so often in its time to live whether something has outlived that. */
const LOOKS_PER_TTL = 8;
/** Timers are not for longer than this. */
const LOOK_MS_MAX = 3_600_000;

export class CopyCache {
  readonly #options: CopyCacheOptions;
  /** By key, least recently used first. */
  readonly #copies = new Map<string, Copy>();
  #timer: Timer | null = null;
  #isStopped = false;
  #bytes = 0;
  #evicting: Promise<void> | null = null;
  #leaving: string | null = null;
  evictions = 0;

  constructor(options: CopyCacheOptions) {
    this.#options = options;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#copies.size;
  }

  /** Keys, the one that was used last first. */
  newest(): string[] {
    return [...this.#copies.keys()].toReversed();
  }

  /** Whether what is here of it is just being removed. */
  isLeaving(key: string): boolean {
    return key === this.#leaving;
  }

  has(key: string): boolean {
    return this.#copies.has(key);
  }

  use(key: string): void {
    const copy = this.#copies.get(key);
    if (copy === undefined) return;
    copy.usedMs = this.#options.clock.nowMs();
    this.#copies.delete(key);
    this.#copies.set(key, copy);
  }

  /** So many more bytes of an object are here. */
  count(key: string, bytes: number): void {
    const before = this.#copies.get(key)?.bytes ?? 0;
    this.#copies.delete(key);
    this.#copies.set(key, { bytes: before + bytes, usedMs: this.#options.clock.nowMs() });
    this.#bytes += bytes;
    this.evictSoon();
    this.#lookLater();
  }

  uncount(key: string): void {
    this.#bytes -= this.#copies.get(key)?.bytes ?? 0;
    this.#copies.delete(key);
    assert(this.#bytes >= 0, 'less than nothing is cached');
  }

  evictSoon(): void {
    if (this.#bytes > this.#options.limitBytes && this.#evicting === null) void this.#start(this.#options.limitBytes);
  }

  /** Resolves when no more than so many bytes are here, or nothing more may go. */
  async shrink(keepBytes: number): Promise<void> {
    while (this.#evicting !== null) await this.#evicting;
    await this.#start(keepBytes); // begun in the same turn: two at a time would not know of each other
  }

  /** Resolves when nothing is being evicted. */
  async settle(): Promise<void> {
    while (this.#evicting !== null) await this.#evicting;
  }

  /** Nothing goes any more for its age. */
  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  #lookLater(): void {
    const { ttlMs, clock } = this.#options;
    if (ttlMs === 0 || this.#timer !== null || this.#isStopped || this.#copies.size === 0) return;
    this.#timer = clock.setTimer(Math.min(LOOK_MS_MAX, ttlMs / LOOKS_PER_TTL), () => {
      this.#timer = null;
      const beforeMs = clock.nowMs() - ttlMs;
      if (this.#evicting === null) void this.#run(({ usedMs }) => usedMs > beforeMs);
      this.#lookLater();
    });
  }

  #start(keepBytes: number): Promise<void> {
    return this.#run(() => this.#bytes <= keepBytes);
  }

  /** Those that may go go, least recently used first, until `isEnough`. */
  #run(isEnough: (next: Copy) => boolean): Promise<void> {
    assert(this.#evicting === null, 'two evict at a time');
    this.#evicting = this.#evict(isEnough)
      .catch((error: unknown) => void toVolumeError(error, 'evicting')) // a file that cannot be removed goes at the next opening; a broken assertion ends the process
      .finally(() => {
        this.#evicting = null;
        this.#leaving = null;
      });
    return this.#evicting;
  }

  async #evict(isEnough: (next: Copy) => boolean): Promise<void> {
    for (const [key, copy] of this.#copies) {
      if (isEnough(copy)) return;
      if (!this.#options.mayEvict(key)) continue;
      this.uncount(key);
      this.evictions += 1;
      this.#leaving = key;
      await this.#options.remove(key, copy.bytes);
    }
  }
}
