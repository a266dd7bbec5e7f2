/** What of the log's unbroken run may be unsynced: all behind the last LSN that a record of the run, or the cut, calls durable. */
import type { RecordFields } from '../format/log-record.ts';

/** Where a record begins. A generation is one life of one file. */
export interface LogPlace {
  readonly generation: number;
  readonly offsetBytes: number;
  readonly lsn: number;
}

interface Step extends LogPlace {
  /** Of the records noted before it. */
  readonly bytesBefore: number;
}

/** Places are kept so far apart: reading that much too early costs less than a place for each record. */
const STEP_BYTES = 128 * 1024;

export class UnsyncedTail {
  #durableLsn: number;
  /** Oldest first: one at or before the first record that may be unsynced, and those behind it. */
  #steps: Step[] = [];
  #bytes = 0;

  /** Records up to `durableLsn` are known to be on the medium. */
  constructor(durableLsn: number) {
    this.#durableLsn = durableLsn;
  }

  /** To be called with each record of the run, in order. */
  note({ lsn, durableLsn, generation }: Pick<RecordFields, 'lsn' | 'durableLsn' | 'generation'>, offsetBytes: number, lengthBytes: number): void {
    if (durableLsn > this.#durableLsn) {
      this.#durableLsn = durableLsn;
      const first = durableLsn + 1 < lsn ? this.#steps.findLastIndex((step) => step.lsn <= durableLsn + 1) : this.#steps.length;
      if (first > 0) this.#steps.splice(0, first);
    }
    const last = this.#steps.at(-1);
    if (lsn > this.#durableLsn && (last === undefined || this.#bytes - last.bytesBefore >= STEP_BYTES)) this.#steps.push({ generation, offsetBytes, lsn, bytesBefore: this.#bytes });
    this.#bytes += lengthBytes;
  }

  /** Records up to here are known to be on the medium. */
  get durableLsn(): number {
    return this.#durableLsn;
  }

  /** The first record that may be unsynced, or one shortly before it; null: there is none. */
  get place(): LogPlace | null {
    return this.#steps.at(0) ?? null;
  }

  /** About so many bytes may be unsynced, rather less. */
  get bytes(): number {
    return this.#bytes - (this.#steps.at(0)?.bytesBefore ?? this.#bytes);
  }
}
