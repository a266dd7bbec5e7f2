/** What a micro-benchmark consists of. */

export interface MicroTask {
  readonly name: string;
  /** What one call of `run` does, so that the figures are those of one operation. */
  readonly operations: number;
  /** Bytes of user data that one call handles; 0: none. */
  readonly bytes: number;
  readonly run: () => void | Promise<void>;
}

export interface MicroSuite {
  readonly name: string;
  readonly tasks: readonly MicroTask[];
  readonly close?: () => Promise<void>;
}

/** A fixed series of numbers in [0, 2^32): the same work in every run, and no branch that a predictor could learn. */
export function* scramble(count: number): Generator<number> {
  let state = 0x2545f491;
  for (let index = 0; index < count; index += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    yield state >>> 0;
  }
}
