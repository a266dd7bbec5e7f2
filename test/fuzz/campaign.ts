/** The loop of the fuzzer: takes an input, changes it, runs it, and keeps it if it has reached something new. */
import type { Coverage } from './coverage.ts';
import { padBytesOf } from './input-format.ts';
import { Mutator } from './mutator.ts';
import { renewSurroundings, runInput } from './run-input.ts';

/** Inputs between two looks at the clock and at what else is due in the process. */
const INPUTS_PER_LOOK = 512;
const LARGE_STREAM_BYTES = 20_000;
const LARGE_SHARE = 30;
const SHRINK_RUNS_MAX = 20_000;

export interface CampaignOptions {
  readonly seed: number;
  readonly coverage: Coverage;
  readonly corpus: readonly Uint8Array[];
  /** An input begins. */
  readonly onInput: (input: Uint8Array) => void;
  /** An input has reached something new. */
  readonly onKept: (input: Uint8Array) => void;
}

/** An input that has shown a mistake. */
export interface Crash {
  readonly input: Uint8Array;
  readonly error: Error;
}

export interface Progress {
  readonly inputs: number;
  readonly corpusSize: number;
  readonly slowestMs: number;
}

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

/** The error that an input ends with; null if it is fine. */
export async function errorOf(input: Uint8Array): Promise<Error | null> {
  try {
    await runInput(input);
    return null;
  } catch (error) {
    renewSurroundings();
    return asError(error);
  }
}

export class Campaign {
  readonly #options: CampaignOptions;
  readonly #mutator: Mutator;
  readonly #corpus: Uint8Array[] = [];
  #inputs = 0;
  #slowestMs = 0;
  slowest: Uint8Array = new Uint8Array(0);
  /** An error that nobody waited for, with the input that ran then. */
  #late: Error | null = null;

  constructor(options: CampaignOptions) {
    this.#options = options;
    this.#mutator = new Mutator(options.seed);
  }

  get progress(): Progress {
    return { inputs: this.#inputs, corpusSize: this.#corpus.length, slowestMs: this.#slowestMs };
  }

  noteLateError(error: unknown): void {
    this.#late ??= asError(error);
  }

  /** Runs the corpus, then changed inputs until `isOver`; the first crash ends it. */
  async run(isOver: () => boolean): Promise<Crash | null> {
    for (const input of this.#options.corpus) {
      const crash = await this.#try(input);
      if (crash !== null) return crash;
    }
    if (this.#corpus.length === 0) this.#corpus.push(...this.#options.corpus);
    while (!isOver()) {
      let last: Uint8Array = this.#corpus[0];
      for (let count = 0; count < INPUTS_PER_LOOK; count += 1) {
        last = this.#mutator.mutate(this.#choose(), this.#mutator.pick(this.#corpus));
        const crash = await this.#try(last);
        if (crash !== null) return crash;
      }
      await new Promise((resolve) => void setImmediate(resolve));
      if (this.#late !== null) return { input: last, error: this.#late };
    }
    return null;
  }

  /** What is new has more to give: half of the time one of the last that were kept. What sends much is rarely worth its time. */
  #choose(): Uint8Array {
    const corpus = this.#corpus;
    const recent = Math.min(corpus.length, 50);
    for (;;) {
      const chosen = this.#mutator.below(2) === 0 ? this.#mutator.pick(corpus) : corpus[corpus.length - 1 - this.#mutator.below(recent)];
      if (padBytesOf(chosen) < LARGE_STREAM_BYTES || this.#mutator.below(LARGE_SHARE) === 0) return chosen;
    }
  }

  async #try(input: Uint8Array): Promise<Crash | null> {
    const { coverage, onInput, onKept } = this.#options;
    onInput(input);
    this.#inputs += 1;
    coverage.begin();
    const startMs = performance.now();
    const error = await errorOf(input);
    const tookMs = performance.now() - startMs;
    if (tookMs > this.#slowestMs) {
      this.#slowestMs = tookMs;
      this.slowest = input;
    }
    if (error !== null) return { input, error };
    if (coverage.isNew()) {
      this.#corpus.push(input);
      onKept(input);
    }
    return null;
  }
}

/** A shorter input that ends with the same message. */
export async function shrink({ input, error }: Crash): Promise<Uint8Array> {
  let best = input;
  let runs = 0;
  for (let size = best.length >> 1; size >= 1 && runs < SHRINK_RUNS_MAX; size >>= 1) {
    for (let at = 4; at + size <= best.length && runs < SHRINK_RUNS_MAX; runs += 1) {
      const candidate = Buffer.concat([best.subarray(0, at), best.subarray(at + size)]);
      if ((await errorOf(candidate))?.message === error.message) best = candidate;
      else at += size;
    }
  }
  return best;
}
