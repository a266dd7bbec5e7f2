/** Whether the log's users flush after every write: then the next FLUSH can be foreseen. */

/** Flushes in a row, each right behind a write, before the next one is expected. */
const HABIT = 8;

export class FlushHabit {
  #writesSinceFlush = 0;
  #inARow = 0;

  /** The log was written; true if a FLUSH is expected now. */
  wrote(): boolean {
    this.#writesSinceFlush += 1;
    if (this.#writesSinceFlush > 1) this.#inARow = 0;
    return this.#inARow >= HABIT;
  }

  /** A FLUSH came. */
  flushed(): void {
    if (this.#writesSinceFlush === 1) this.#inARow += 1;
    this.#writesSinceFlush = 0;
  }
}
