/** The simulator's only source of chance: a small, fast generator (sfc32) whose whole future follows from its seed. */
import type { Random } from '../../src/env/env.ts';

/** Mixes `text` into a 32-bit number (FNV-1a), so that generators can be derived by name. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

export class SeededRandom implements Random {
  readonly #seed: number;
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number) {
    this.#seed = seed >>> 0;
    this.#a = this.#seed;
    this.#b = Math.floor(seed / 2 ** 32) >>> 0;
    this.#c = 0x9e3779b9;
    for (let i = 0; i < 15; i += 1) this.u32();
  }

  /** A generator of its own: what one part of a world draws does not shift what another draws. */
  derive(label: string): SeededRandom {
    return new SeededRandom(hashText(label) * 2 ** 20 + (this.#seed ^ (this.#seed >>> 12)) * 3);
  }

  u32(): number {
    const result = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + result) | 0;
    return result >>> 0;
  }

  /** In [0, 1). */
  unit(): number {
    return this.u32() / 2 ** 32;
  }

  /** A whole number in [0, count). */
  below(count: number): number {
    return Math.floor(this.unit() * count);
  }

  /** A whole number in [low, high], both ends included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** Like `between`, but every power of two of the range is as likely as any other: small numbers often, large ones at times. */
  skewed(low: number, high: number): number {
    const value = Math.floor(Math.exp(Math.log(low) + this.unit() * Math.log((high + 1) / low)));
    return Math.min(high, Math.max(low, value));
  }

  chance(probability: number): boolean {
    return this.unit() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }

  /** One of the keys, each as likely as its weight says. */
  weighted<K extends string>(weights: ReadonlyMap<K, number>): K {
    let total = 0;
    for (const weight of weights.values()) total += weight;
    let rest = this.unit() * total;
    let last: K | undefined;
    for (const [key, weight] of weights) {
      last = key;
      rest -= weight;
      if (rest < 0) return key;
    }
    if (last === undefined) throw new RangeError('nothing to choose from');
    return last;
  }

  fill(target: Uint8Array): void {
    for (let i = 0; i < target.length; i += 1) target[i] = this.u32();
  }
}
