/** Completions that wait for an LSN, in order: a growing list of pairs that is emptied from its front. */
import type { VolumeError } from '../base/errors.ts';

/** The end of a wait; `BlockDevice`'s Completion is one. */
export interface Waiter {
  settle(error: VolumeError | null): void;
}

export class WaitQueue {
  #lsns: number[] = [];
  #waiters: Waiter[] = [];
  #head = 0;

  get isEmpty(): boolean {
    return this.#head === this.#waiters.length;
  }

  get length(): number {
    return this.#waiters.length - this.#head;
  }

  /** The LSN that the first one waits for; infinite if nobody waits. */
  get firstLsn(): number {
    return this.#head === this.#waiters.length ? Number.POSITIVE_INFINITY : this.#lsns[this.#head];
  }

  /** Adds a waiter. One whose LSN is lower than the last one's waits with that one: the order is kept. */
  push(lsn: number, waiter: Waiter): void {
    const last = this.#head === this.#lsns.length ? lsn : this.#lsns[this.#lsns.length - 1];
    this.#lsns.push(Math.max(lsn, last));
    this.#waiters.push(waiter);
  }

  /** Settles all that wait for `lsn` or less. A waiter may push again meanwhile. */
  settleTo(lsn: number): void {
    while (this.#head < this.#waiters.length && this.#lsns[this.#head] <= lsn) {
      const waiter = this.#waiters[this.#head];
      this.#head += 1;
      if (this.#head === this.#waiters.length) this.#clear();
      waiter.settle(null);
    }
    if (this.#head > 4096) this.#compact();
  }

  /** Fails all that wait. */
  failAll(error: VolumeError): void {
    const waiting = this.#waiters.slice(this.#head);
    this.#clear();
    for (const waiter of waiting) waiter.settle(error);
  }

  #clear(): void {
    this.#head = 0;
    this.#lsns.length = 0;
    this.#waiters.length = 0;
  }

  #compact(): void {
    this.#lsns = this.#lsns.slice(this.#head);
    this.#waiters = this.#waiters.slice(this.#head);
    this.#head = 0;
  }
}
