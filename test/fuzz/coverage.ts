/** What of the session the fuzzer has seen: which branches, and about how often each was taken by one input. */

declare global {
  // oxlint-disable-next-line no-var -- a global that instrumented modules share (`instrument.ts`)
  var __basaltEdges: Uint8Array | undefined;
}

/** Counts of one input that are told apart, as bits: 1, 2, 3, 4-7, 8-15, 16-31, 32-127, 128 and more. */
const BUCKETS = Uint8Array.from({ length: 256 }, (_, count) => {
  const bounds = [1, 2, 3, 4, 8, 16, 32, 128];
  const index = bounds.findLastIndex((bound) => count >= bound);
  return index < 0 ? 0 : 1 << index;
});

export class Coverage {
  readonly edgeCount: number;
  readonly #counts: Uint8Array;
  readonly #words: Uint32Array;
  readonly #seen: Uint8Array;

  constructor(edgeCount: number) {
    globalThis.__basaltEdges ??= new Uint8Array(1 << 14);
    this.#counts = globalThis.__basaltEdges;
    this.edgeCount = edgeCount;
    this.#words = new Uint32Array(this.#counts.buffer, 0, Math.ceil(edgeCount / 4));
    this.#seen = new Uint8Array(this.#counts.length);
  }

  /** Forgets the counts of what ran before. */
  begin(): void {
    this.#words.fill(0);
  }

  /** Adds what ran since `begin`; true if any of it is new. */
  isNew(): boolean {
    let found = false;
    for (let word = 0; word < this.#words.length; word += 1) {
      if (this.#words[word] === 0) continue;
      for (let edge = word * 4; edge < word * 4 + 4; edge += 1) {
        const bucket = BUCKETS[this.#counts[edge]];
        if ((bucket & ~this.#seen[edge]) === 0) continue;
        this.#seen[edge] |= bucket;
        found = true;
      }
    }
    return found;
  }

  /** Branches that some input has taken. */
  get seenCount(): number {
    let count = 0;
    for (let edge = 0; edge < this.edgeCount; edge += 1) if (this.#seen[edge] !== 0) count += 1;
    return count;
  }

  isSeen(edge: number): boolean {
    return this.#seen[edge] !== 0;
  }
}
