/**
 * The memory that replies take which clients have not taken yet, in all connections together. Each connection alone has a limit
 * of its own; a thousand of them that ask for large reads and take nothing would still be more than any machine has.
 *
 * A connection with nothing queued always gets a small reply, so that hoarders cannot stop the others; large replies wait.
 */
import { PIECE_BYTES } from './buffer-pool.ts';

export class ReplyBudget {
  readonly #totalBytes: number;
  readonly #waiting = new Set<() => void>();
  #usedBytes = 0;

  constructor(totalBytes: number) {
    this.#totalBytes = totalBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Whether somebody waits; then clients that do not take their replies are worth dropping. */
  get contended(): boolean {
    return this.#waiting.size > 0;
  }

  /** Whether a connection that has `queuedBytes` may queue `byteCount` more. If not, `wake` is called when it is worth another try. */
  admits(queuedBytes: number, byteCount: number, wake: () => void): boolean {
    const isSmall = queuedBytes === 0 && byteCount <= PIECE_BYTES;
    // A reply that is larger than the whole budget is admitted when nobody else holds anything.
    const isAlone = queuedBytes === 0 && this.#usedBytes === 0;
    if (isSmall || isAlone || this.#usedBytes + byteCount <= this.#totalBytes) return true;
    this.#waiting.add(wake);
    return false;
  }

  /** Forgets one that waits: its connection is over. */
  leave(wake: () => void): void {
    this.#waiting.delete(wake);
  }

  /** Counts bytes that are queued, or that have gone when `byteCount` is negative. */
  count(byteCount: number): void {
    this.#usedBytes += byteCount;
    if (byteCount >= 0 || this.#waiting.size === 0) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }
}
