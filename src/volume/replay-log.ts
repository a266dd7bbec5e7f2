/**
 * Putting the log's records back into memory, when a volume is opened for writing. Nothing may be written before all of the log was
 * found sound, so it is read in two passes. The first one puts records back until something would have to be written: until the
 * memory is full of what no chunk has, or so much may be unsynced that writing it again should not wait for the replay; from there
 * on it only checks. The second one does the rest, and writes again what may be unsynced. Of a log that was flushed, and fits the
 * memory, it reads next to nothing.
 */
import { MIB } from '../base/units.ts';
import { RECORD_KIND, recordChecksum } from '../format/log-record.ts';
import type { Manifest } from '../format/manifest.ts';
import { type LogRecovery, type LogRecoveryOptions, type ReplayedRecord, recoverLog, rereadLog } from '../wal/log-recovery.ts';
import type { LogPlace } from '../wal/unsynced-tail.ts';
import type { Flusher } from './flusher.ts';
import type { VolumeCore } from './volume-core.ts';
import type { OnProgress } from './volume-info.ts';
import type { WritePath } from './write-path.ts';

export interface LogReplayOptions {
  readonly core: VolumeCore;
  readonly writes: WritePath;
  readonly flusher: Flusher;
  readonly log: Omit<LogRecoveryOptions, 'apply'>;
  /** Called once, when all of the log was found sound and before anything is written. */
  readonly found: () => Promise<void>;
  readonly onProgress: OnProgress;
}

/**
 * On return all records are in slabs, or in chunks, and those that may have been unsynced were written again and synced. Errors:
 * `corrupt` (nothing was changed), `failed`, `limit`, those of the files, of `found`, and of making chunks.
 */
export async function replayLog(options: LogReplayOptions): Promise<LogRecovery> {
  const { core, log, found, onProgress } = options;
  const stopListening = core.arena.onRoom(() => core.room.wake());
  try {
    const replay = new LogReplay(options);
    const first = new LogProgress('log, MiB', core.manifest, onProgress);
    const apply = (replayed: ReplayedRecord): undefined => {
      first.note(replayed);
      return replay.putWhileFree(replayed);
    };
    const recovery = await recoverLog({ ...log, apply });
    await found();
    const second = new LogProgress('log once more, MiB', core.manifest, onProgress);
    const applyRest = (replayed: ReplayedRecord): Promise<void> | undefined => {
      second.note(replayed);
      return replay.putRest(replayed);
    };
    await rereadLog({ ...log, apply: applyRest }, recovery, replay.rest);
    return recovery;
  } finally {
    stopListening();
  }
}

/** Log between two reports. */
const REPORT_BYTES = MIB;

/** How far the reading of a log is: at most all of the ring; where the run of records ends is not known before. Two compares a record. */
export class LogProgress {
  readonly #task: string;
  readonly #ring: Pick<Manifest, 'logFileBytes' | 'logFileCount'>;
  readonly #onProgress: OnProgress;
  #fileIndex = -1;
  #dueBytes = 0;
  /** What was read of files before. */
  #readBytes = 0;
  #endBytes = 0;

  constructor(task: string, ring: Pick<Manifest, 'logFileBytes' | 'logFileCount'>, onProgress: OnProgress) {
    this.#task = task;
    this.#ring = ring;
    this.#onProgress = onProgress;
  }

  note({ fileIndex, offsetBytes }: Pick<ReplayedRecord, 'fileIndex' | 'offsetBytes'>): void {
    if (fileIndex === this.#fileIndex && offsetBytes < this.#dueBytes) return;
    if (fileIndex !== this.#fileIndex) this.#readBytes += this.#endBytes;
    this.#fileIndex = fileIndex;
    this.#endBytes = offsetBytes;
    this.#dueBytes = offsetBytes + REPORT_BYTES;
    const { logFileBytes, logFileCount } = this.#ring;
    this.#onProgress({ task: this.#task, done: Math.floor((this.#readBytes + offsetBytes) / MIB), total: Math.ceil((logFileBytes * logFileCount) / MIB) });
  }
}

/**
 * Of the ring. What is less than that is written and synced about as quickly as the rest would be read twice. 100,000 records of which none
 * was synced, half of it: 0.77 s with a quarter, 0.80 to 0.82 s with an eighth or a sixteenth.
 */
const UNSYNCED_SHARE = 1 / 4;

class LogReplay {
  readonly #core: VolumeCore;
  readonly #writes: WritePath;
  readonly #flusher: Flusher;
  /** Where the first pass began to check only. */
  rest: LogPlace | null = null;

  constructor({ core, writes, flusher }: LogReplayOptions) {
    this.#core = core;
    this.#writes = writes;
    this.#flusher = flusher;
  }

  putWhileFree(replayed: ReplayedRecord): undefined {
    if (this.rest !== null) return;
    const { record, offsetBytes, unsyncedBytes } = replayed;
    const { logFileCount, logFileBytes } = this.#core.manifest;
    const isFree = unsyncedBytes <= logFileCount * logFileBytes * UNSYNCED_SHARE;
    if (isFree && this.#hasRoom(replayed)) this.#put(replayed);
    else this.rest = { generation: record.generation, offsetBytes, lsn: record.lsn };
  }

  putRest(replayed: ReplayedRecord): Promise<void> | undefined {
    if (this.rest === null || replayed.record.lsn < this.rest.lsn) return undefined;
    if (!this.#hasRoom(replayed)) return this.#waitForRoom(replayed).then(() => this.#put(replayed));
    this.#put(replayed);
    return undefined;
  }

  #put({ record, payload, view }: ReplayedRecord): void {
    const { lsn, blockNumber, blockCount, provisioned } = record;
    if (record.kind === RECORD_KIND.WRITE) {
      this.#writes.replayWrite(lsn, blockNumber, blockCount, payload, (index) => recordChecksum(view, record, index));
    } else {
      this.#writes.replayZero(lsn, { blockNumber, blockCount, provisioned });
    }
  }

  #hasRoom(replayed: ReplayedRecord): boolean {
    // At once, not only when memory is short: memory that is touched for the first time costs more than the copy.
    this.#writes.releaseSuperseded();
    return this.#writes.hasRoom(this.#slotsOf(replayed));
  }

  /** Of one that is longer than a full slab of today all go into one slab (`WritePath.replayWrite`). */
  #slotsOf({ record }: ReplayedRecord): number {
    return record.kind === RECORD_KIND.WRITE ? Math.min(record.blockCount, this.#core.chunkBlocks) : 0;
  }

  async #waitForRoom(replayed: ReplayedRecord): Promise<void> {
    const slots = this.#slotsOf(replayed);
    while (!this.#writes.hasRoom(slots)) {
      const trouble = this.#core.failure ?? this.#core.storeStall;
      if (trouble !== null) throw trouble;
      this.#writes.checkMemory(slots);
      this.#core.arena.requestRoom();
      this.#flusher.urge();
      // The chunk under way may have failed or ended within `urge`.
      if (!this.#writes.hasRoom(slots)) await Promise.race([this.#core.room.wait(), this.#core.progress.wait()]);
    }
  }
}
