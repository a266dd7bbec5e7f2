/** Gives memory that nobody needs back to the system when there has been nothing to do for a while: what it is needed for next takes it again. */
import type { Arena } from '../base/arena.ts';
import type { Env } from '../env/env.ts';

/** Nothing to do for so long is rest. Memory that is touched anew costs a page fault each 4 KiB: not between two bursts of work. */
const QUIET_MS = 10_000;

export interface IdleMemoryOptions {
  readonly env: Pick<Env, 'clock' | 'memory'>;
  readonly arena: Arena;
  readonly quietMs?: number;
}

/** At rest it has no timer. */
export class IdleMemory {
  readonly #env: IdleMemoryOptions['env'];
  readonly #arena: Arena;
  readonly #quietMs: number;
  #isWaiting = false;

  private constructor({ env, arena, quietMs = QUIET_MS }: IdleMemoryOptions) {
    this.#env = env;
    this.#arena = arena;
    this.#quietMs = quietMs;
  }

  /** From now on, for as long as there is the arena. */
  static watch(options: IdleMemoryOptions): void {
    const idle = new IdleMemory(options);
    // Nothing becomes free but behind a slab that does: one whose chunk was made, whose reader is through, or whose volume was closed.
    options.arena.onRoom(() => {
      if (!idle.#isWaiting) idle.#wait();
    });
  }

  #wait(): void {
    this.#isWaiting = true;
    const { uses } = this.#arena;
    this.#env.clock.setTimer(this.#quietMs, () => void this.#restSince(uses));
  }

  /** Unless there were uses meanwhile, or come now: then it waits once more. */
  async #restSince(uses: number): Promise<void> {
    const { clock, memory } = this.#env;
    // One at a time (4 MiB take 0.4 ms), so that whoever comes meanwhile does not wait for an arena of gigabytes.
    while (this.#arena.uses === uses && this.#arena.giveBackFree((bytes) => memory.giveBack(bytes))) await clock.yield();
    this.#isWaiting = false;
    if (this.#arena.uses === uses) memory.trim();
    else this.#wait();
  }
}
