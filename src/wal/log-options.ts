/** What the log writer is given, and what it tells its owner. */
import type { Durability } from '../base/durability.ts';
import type { VolumeError } from '../base/errors.ts';
import type { EngineSettings } from '../base/settings-types.ts';
import type { Clock, File } from '../env/env.ts';
import type { DirectLog } from './direct-log.ts';
import type { LogRing } from './log-ring.ts';

export interface LogEvents {
  /** Records up to `writtenLsn` are with the kernel. */
  written(): void;
  /** Records up to `lsn` are on the disk, in the log or in chunks. */
  durable(lsn: number): void;
  /** There may be room again: a write ended, or the disk is no longer full. */
  room(): void;
  /** The disk is full: records wait for space. */
  stalled(): void;
  /** The log can take nothing more, for good. */
  failed(error: VolumeError): void;
}

/** What the log writer needs of a file. */
export type LogFile = Pick<File, 'write' | 'writeNow' | 'sync' | 'syncNow'>;

export interface LogWriterOptions {
  readonly clock: Clock;
  readonly files: readonly LogFile[];
  /** The same files for direct writes; null: no write is direct. */
  readonly direct: DirectLog | null;
  readonly ring: LogRing;
  readonly volumeId: Uint8Array;
  readonly blockSizeBytes: number;
  readonly epoch: number;
  readonly lastLsn: number;
  readonly durability: Durability;
  readonly settings: EngineSettings;
  readonly events: LogEvents;
}

export type LogStats = Readonly<Record<'logBytes' | 'logWrites' | 'logSyncs' | 'logFiles' | 'logFreeFiles', number>>;

/** What is accepted and not synced. A range of zeroes counts as one block. */
export interface UnsyncedData {
  readonly blockCount: number;
  /** When the oldest of it was accepted; infinite if there is none. */
  readonly sinceMs: number;
}
