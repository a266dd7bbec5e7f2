/** What is written but not synced: how many blocks, and since when. One mark for each write of the log. */
export class Unsynced {
  #lsns: number[] = [];
  #blocks: number[] = [];
  #timesMs: number[] = [];
  #head = 0;
  #blockCount = 0;

  get blockCount(): number {
    return this.#blockCount;
  }

  /** When the oldest unsynced record was accepted; infinite if there is none. */
  get oldestMs(): number {
    return this.#head === this.#lsns.length ? Number.POSITIVE_INFINITY : this.#timesMs[this.#head];
  }

  add(lastLsn: number, blockCount: number, sinceMs: number): void {
    this.#lsns.push(lastLsn);
    this.#blocks.push(blockCount);
    this.#timesMs.push(sinceMs);
    this.#blockCount += blockCount;
  }

  /** Everything up to `lsn` is durable. A write that is durable in part counts until it is whole. */
  durableTo(lsn: number): void {
    while (this.#head < this.#lsns.length && this.#lsns[this.#head] <= lsn) {
      this.#blockCount -= this.#blocks[this.#head];
      this.#head += 1;
    }
    if (this.#head === this.#lsns.length || this.#head > 4096) this.#compact();
  }

  #compact(): void {
    this.#lsns = this.#lsns.slice(this.#head);
    this.#blocks = this.#blocks.slice(this.#head);
    this.#timesMs = this.#timesMs.slice(this.#head);
    this.#head = 0;
  }
}
