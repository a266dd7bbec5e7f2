/** The log of a volume that nobody has open: its records behind the chunks, what is damaged, and what stands behind the damage. */
import { toVolumeError } from '../base/errors.ts';
import type { File, FileSystem } from '../env/env.ts';
import { GENERATIONS_PER_EPOCH, RECORD_KIND, recordPrefixBytes } from '../format/log-record.ts';
import type { Manifest } from '../format/manifest.ts';
import { type LogExamination, type ReplayedRecord, examineLog } from '../wal/log-recovery.ts';
import { type Findings, isDamage } from './inspect-findings.ts';
import { logKey, logPath, manifestKey } from './volume-files.ts';

export interface InspectedRecord {
  readonly kind: 'write' | 'zero';
  readonly lsn: number;
  readonly blockNumber: number;
  readonly blockCount: number;
  readonly provisioned: boolean;
  readonly fileIndex: number;
  readonly offsetBytes: number;
  /** Where the payload begins in the file, and how it is stored. */
  readonly payloadOffset: number;
  readonly codec: number;
  readonly storedBytes: number;
  readonly storedChecksum: number;
}

export interface InspectedLog {
  /** The records that count, in order. */
  readonly records: readonly InspectedRecord[];
  /** Last LSN of the volume. */
  readonly lastLsn: number;
  /** Why the run of records ends where it ends. */
  readonly end: string;
  readonly isDamaged: boolean;
  /** Records behind `lastLsn` had been synced, and are missing. */
  readonly missesRecords: boolean;
  /** Whole records behind the damage; they are not part of the volume. Empty for a log that only ends. */
  readonly behind: readonly InspectedRecord[];
  /** Files whose header is of this volume. */
  readonly ownFiles: number;
}

const PIECE_BYTES = 4096;

/** Where a record stands, and what it says. */
export function summarizeRecord({ record, fileIndex, offsetBytes }: ReplayedRecord): InspectedRecord {
  const { kind, lsn, blockNumber, blockCount, provisioned, codec, storedBytes, storedChecksum } = record;
  return { kind: kind === RECORD_KIND.WRITE ? 'write' : 'zero', lsn, blockNumber, blockCount, provisioned, fileIndex, offsetBytes, payloadOffset: offsetBytes + recordPrefixBytes(kind, blockCount), codec, storedBytes, storedChecksum };
}

/** Reads the log behind `chunkedLsn`, the last LSN that the chunks hold. Changes nothing. */
export async function inspectLog(files: FileSystem, directory: string, manifest: Manifest, chunkedLsn: number, findings: Findings): Promise<InspectedLog> {
  const opened: (File | null)[] = [];
  const records: InspectedRecord[] = [];
  const behind: InspectedRecord[] = [];
  let isReadable = true;
  const unreadable = (key: string, offsetBytes: number | null, problem: string): void => {
    isReadable = false;
    findings.broken(key, offsetBytes, problem);
  };
  try {
    for (let index = 0; index < manifest.logFileCount; index += 1) {
      opened.push(await openLogFile(files, directory, index, unreadable));
    }
    const { volumeId, blockSizeBytes, sizeBytes, cut } = manifest;
    const log = await examineLog({
      files: opened,
      volumeId,
      blockSizeBytes,
      volumeBlocks: sizeBytes / blockSizeBytes,
      chunkedLsn,
      cut,
      apply: (replayed) => {
        records.push(summarizeRecord(replayed));
        return Promise.resolve();
      },
      behind: (replayed) => {
        if (!isDead(replayed, manifest)) behind.push(summarizeRecord(replayed));
      },
    });
    const isDamaged = reportLog(log, behind, findings) || !isReadable;
    return { records, ownFiles: log.ownFiles, lastLsn: log.lastLsn, end: log.end, isDamaged, missesRecords: log.damage !== null, behind: isDamaged ? behind.filter(({ lsn }) => lsn > log.lastLsn) : [] };
  } finally {
    // Descriptors that were only read from have nothing to lose when their close fails.
    await Promise.allSettled(opened.map(async (file) => file?.close()));
  }
}

/** Whether the volume was opened without the record before: that it stands there means nothing. */
function isDead({ record }: ReplayedRecord, { cut }: Manifest): boolean {
  return Math.floor(record.generation / GENERATIONS_PER_EPOCH) < cut.epoch && record.lsn > cut.lsn;
}

/** True if anything is damaged. */
function reportLog(log: LogExamination, behind: readonly InspectedRecord[], findings: Findings): boolean {
  const { damage } = log;
  const foreign = log.headers.filter(({ fault }) => fault.fault === 'foreign');
  for (const { fileIndex, fault } of foreign) findings.broken(logKey(fileIndex), 0, fault.detail);
  for (const { fileIndex, fault } of log.headers) {
    if (damage !== null || fault.fault === 'foreign') continue;
    findings.notes.push(`${logKey(fileIndex)} has no valid header (${fault.detail}); a write of it was cut short, and no record of it is needed`);
  }
  if (damage !== null) {
    const { fileIndex, offsetBytes } = damage.context;
    const lost = findings.broken(fileIndex === undefined ? manifestKey() : logKey(fileIndex), offsetBytes ?? null, damage.message);
    for (const record of behind) if (record.lsn > log.lastLsn) lost.add(record.blockNumber, record.blockCount);
  }
  return damage !== null || foreign.length > 0;
}

type OnUnreadable = (key: string, offsetBytes: number | null, problem: string) => void;

async function openLogFile(files: FileSystem, directory: string, index: number, unreadable: OnUnreadable): Promise<File | null> {
  const path = logPath(directory, index);
  if (!(await files.exists(path))) {
    unreadable(logKey(index), null, 'is missing');
    return null;
  }
  return readable(await files.open(path, 'read'), logKey(index), unreadable);
}

/**
 * A log file of which the disk cannot read some places. They read as zeroes here, which no record's checksum lets pass: what was there
 * counts as damaged, and what stands around it is found all the same.
 */
function readable(file: File, key: string, unreadable: OnUnreadable): File {
  const told = new Set<number>();
  const readPiece = async (target: Uint8Array, offsetBytes: number): Promise<number> => {
    try {
      return await file.read(target, offsetBytes);
    } catch (cause) {
      const error = toVolumeError(cause, `reading ${key}`);
      if (!isDamage(error)) throw error;
      if (!told.has(offsetBytes)) unreadable(key, offsetBytes, error.message);
      told.add(offsetBytes);
      target.fill(0);
      return target.length;
    }
  };
  const read = async (target: Uint8Array, offsetBytes: number): Promise<number> => {
    try {
      return await file.read(target, offsetBytes);
    } catch (cause) {
      if (!isDamage(toVolumeError(cause, `reading ${key}`))) throw cause;
    }
    let done = 0;
    while (done < target.length) {
      const length = Math.min(PIECE_BYTES - ((offsetBytes + done) % PIECE_BYTES), target.length - done);
      const got = await readPiece(target.subarray(done, done + length), offsetBytes + done);
      done += got;
      if (got < length) break;
    }
    return done;
  };
  return {
    read,
    sizeBytes: () => file.sizeBytes(),
    close: () => file.close(),
    write: (parts, offsetBytes) => file.write(parts, offsetBytes),
    writeNow: (parts, offsetBytes) => file.writeNow(parts, offsetBytes),
    sync: () => file.sync(),
    syncNow: () => file.syncNow(),
  };
}
