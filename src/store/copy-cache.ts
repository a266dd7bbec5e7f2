/**
 * Which objects that the bucket has are here as well, whole or in parts, and which of them go first: those that were not used for longest. What is here
 * and nowhere else is none of its business.
 */
import { assert } from '../base/assert.ts';
import { toVolumeError } from '../base/errors.ts';

export interface CopyCacheOptions {
  /** Most bytes that are kept, but for those that may not go. */
  readonly limitBytes: number;
  readonly mayEvict: (key: string) => boolean;
  /** Removes what is here of an object; it is not counted any more. */
  readonly remove: (key: string, bytes: number) => Promise<void>;
}

export class CopyCache {
  readonly #options: CopyCacheOptions;
  /** Bytes here by key, least recently used first. */
  readonly #copies = new Map<string, number>();
  #bytes = 0;
  #evicting: Promise<void> | null = null;
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

  has(key: string): boolean {
    return this.#copies.has(key);
  }

  use(key: string): void {
    const bytes = this.#copies.get(key);
    if (bytes === undefined) return;
    this.#copies.delete(key);
    this.#copies.set(key, bytes);
  }

  /** So many more bytes of an object are here. */
  count(key: string, bytes: number): void {
    const before = this.#copies.get(key) ?? 0;
    this.#copies.delete(key);
    this.#copies.set(key, before + bytes);
    this.#bytes += bytes;
    this.evictSoon();
  }

  uncount(key: string): void {
    this.#bytes -= this.#copies.get(key) ?? 0;
    this.#copies.delete(key);
    assert(this.#bytes >= 0, 'less than nothing is cached');
  }

  evictSoon(): void {
    if (this.#bytes > this.#options.limitBytes && this.#evicting === null) this.#start(this.#options.limitBytes);
  }

  /** Resolves when no more than so many bytes are here, or nothing more may go. */
  async shrink(keepBytes: number): Promise<void> {
    await this.settle();
    this.#start(keepBytes);
    await this.#evicting;
  }

  /** Resolves when nothing is being evicted. */
  async settle(): Promise<void> {
    while (this.#evicting !== null) await this.#evicting;
  }

  #start(keepBytes: number): void {
    this.#evicting = this.#evict(keepBytes)
      .catch((error: unknown) => void toVolumeError(error, 'evicting')) // a file that cannot be removed goes at the next opening; a broken assertion ends the process
      .finally(() => {
        this.#evicting = null;
      });
  }

  async #evict(keepBytes: number): Promise<void> {
    for (const [key, bytes] of this.#copies) {
      if (this.#bytes <= keepBytes) return;
      if (!this.#options.mayEvict(key)) continue;
      this.uncount(key);
      this.evictions += 1;
      await this.#options.remove(key, bytes);
    }
  }
}
