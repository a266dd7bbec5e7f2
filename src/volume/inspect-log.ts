/** The log of a volume that nobody has open: its records behind the chunks, what is damaged, and what stands behind the damage. */
import { checksum } from '../base/checksum.ts';
import { toVolumeError } from '../base/errors.ts';
import type { File, FileSystem } from '../env/env.ts';
import { GENERATIONS_PER_EPOCH, RECORD_CODEC, RECORD_KIND, recordChecksum, recordPrefixBytes } from '../format/log-record.ts';
import type { Manifest } from '../format/manifest.ts';
import { type LogExamination, type ReplayedRecord, examineLog } from '../wal/log-recovery.ts';
import { BlockRanges, Findings, formatRanges, isDamage } from './inspect-findings.ts';
import { SYNCED_MARK_KEY, markedLsn, readSyncedMark } from './synced-mark-file.ts';
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
  /** Indexes of blocks that are damaged; their record is known all the same. */
  readonly bad: readonly number[];
}

export interface InspectedLog {
  /** The records that count, in order. */
  readonly records: readonly InspectedRecord[];
  /** Last LSN of the volume. */
  readonly lastLsn: number;
  /** Why the run of records ends where it ends. */
  readonly end: string;
  readonly isDamaged: boolean;
  /** More is damaged than blocks of which the numbers are known: any block may have been written there. */
  readonly isDoubtful: boolean;
  /** Blocks of which the newest version stands in the log, and is damaged. */
  readonly lost: readonly number[];
  /** Records behind `lastLsn` had been synced, and are missing. */
  readonly missesRecords: boolean;
  /** Whole records behind the damage; they are not part of the volume. Empty for a log that only ends. */
  readonly behind: readonly InspectedRecord[];
  /** Files whose header is of this volume. */
  readonly ownFiles: number;
  /** The newest epoch that one of these, or the mark, is of. */
  readonly newestEpoch: number;
}

const PIECE_BYTES = 4096;

/** Where a record stands, and what it says. */
export function summarizeRecord({ record, fileIndex, offsetBytes }: ReplayedRecord): InspectedRecord {
  const { kind, lsn, blockNumber, blockCount, provisioned, codec, storedBytes, storedChecksum } = record;
  return { kind: kind === RECORD_KIND.WRITE ? 'write' : 'zero', lsn, blockNumber, blockCount, provisioned, fileIndex, offsetBytes, payloadOffset: offsetBytes + recordPrefixBytes(kind, blockCount), codec, storedBytes, storedChecksum, bad: [] };
}

/** Which blocks of a record fail their checksums; of a compressed one that cannot be decoded all. */
export function badBlocksOf({ record, bytes, view }: ReplayedRecord, blockSizeBytes: number): number[] {
  const bad: number[] = [];
  for (let i = 0; i < record.blockCount; i += 1) {
    const at = record.payloadOffset + i * blockSizeBytes;
    const isPlain = record.codec === RECORD_CODEC.NONE;
    if (!isPlain || checksum(bytes.subarray(at, at + blockSizeBytes)) !== recordChecksum(view, record, i)) bad.push(i);
  }
  return bad;
}

/** Reads the log behind `chunkedLsn`, the last LSN that the chunks hold. Changes nothing. */
export async function inspectLog(files: FileSystem, directory: string, manifest: Manifest, chunkedLsn: number, findings: Findings): Promise<InspectedLog> {
  const records: InspectedRecord[] = [];
  const behind: InspectedRecord[] = [];
  let isReadable = true;
  const unreadable = (key: string, offsetBytes: number | null, problem: string): void => {
    isReadable = false;
    findings.broken(key, offsetBytes, problem);
  };
  const opened = await openLogFiles(files, directory, manifest, unreadable);
  try {
    const { volumeId, blockSizeBytes, spanBytes, cut, epoch: lastEpoch } = manifest;
    const mark = await readSyncedMark(files, directory, manifest);
    if (mark === 'foreign') findings.notes.push(`${SYNCED_MARK_KEY} belongs to another volume; what it says does not count, and the next opening replaces it`);
    const examine = (bridgedLsn: number): Promise<LogExamination> => {
      records.length = 0;
      behind.length = 0;
      return examineLog({
        files: opened,
        volumeId,
        blockSizeBytes,
        volumeBlocks: spanBytes / blockSizeBytes,
        chunkedLsn,
        cut,
        markedLsn: markedLsn(mark),
        lastEpoch,
        bridgedLsn,
        apply: (replayed) => void records.push(summarizeRecord(replayed)),
        damaged: (replayed) => void records.push({ ...summarizeRecord(replayed), bad: badBlocksOf(replayed, blockSizeBytes) }),
        behind: (replayed) => {
          if (!isDead(replayed, manifest)) behind.push(summarizeRecord(replayed));
        },
      });
    };
    let log = await examine(0);
    // Where records had been synced, one of which blocks alone are damaged ends nothing: it says which blocks those are.
    if (log.damage !== null) log = await examine(log.claimedLsn);
    const isDoubtful = reportLog(log, behind, findings) || !isReadable;
    const lost = reportBad(records, findings);
    const isDamaged = isDoubtful || records.some(({ bad }) => bad.length > 0);
    return { records, ownFiles: log.ownFiles, newestEpoch: Math.max(log.newestEpoch, typeof mark === 'string' ? 0 : mark.epoch), lastLsn: log.lastLsn, end: log.end, isDamaged, isDoubtful, lost, missesRecords: log.damage !== null, behind: isDoubtful ? behind.filter(({ lsn }) => lsn > log.lastLsn) : [] };
  } finally {
    // Descriptors that were only read from have nothing to lose when their close fails.
    await Promise.allSettled(opened.map(async (file) => file?.close()));
  }
}

export interface OlderLogOptions {
  readonly files: FileSystem;
  readonly directory: string;
  readonly manifest: Manifest;
  /** The newest epoch that anything is of. */
  readonly newestEpoch: number;
  /** The last LSN that chunks hold which the manifest's epoch, or an older one, made. */
  readonly knownLsn: number;
  /** The last LSN that the chunks hold. */
  readonly chunkedLsn: number;
  readonly findings: Findings;
}

/**
 * The same with a manifest that is older than the chunks. Where the openings since then cut the log off is not known. Records of older epochs behind
 * the chunks are part of the volume if they go on without a gap from what older chunks hold: a cut is a gap. Else they may be what a
 * later epoch wrote something else in the place of, and none of them counts.
 */
export async function inspectOlderLog({ files, directory, manifest, newestEpoch, knownLsn, chunkedLsn, findings }: OlderLogOptions): Promise<InspectedLog> {
  const doubtful = { isDamaged: true, isDoubtful: true };
  const whole = await inspectLog(files, directory, manifest, Math.min(knownLsn, chunkedLsn), new Findings());
  if (whole.lastLsn >= chunkedLsn) return { ...(await inspectLog(files, directory, manifest, chunkedLsn, findings)), ...doubtful };
  const { records } = await inspectLog(files, directory, manifest, chunkedLsn, new Findings());
  const log = await inspectLog(files, directory, { ...manifest, cut: { epoch: newestEpoch, lsn: chunkedLsn } }, chunkedLsn, findings);
  const given = records.filter(({ lsn }) => lsn > log.lastLsn);
  return { ...log, ...doubtful, behind: [...log.behind, ...given] };
}

/** Reports records with damaged blocks; returns the blocks of which no later record has a newer version. */
function reportBad(records: readonly InspectedRecord[], findings: Findings): number[] {
  const newest = new Map<number, InspectedRecord>();
  for (const record of records) {
    const { blockNumber, blockCount, bad } = record;
    for (const block of newest.keys()) if (block >= blockNumber && block < blockNumber + blockCount) newest.delete(block);
    for (const index of bad) newest.set(blockNumber + index, record);
  }
  for (const record of records) {
    if (record.bad.length === 0) continue;
    const { lsn, fileIndex, payloadOffset, blockNumber, bad } = record;
    const blocks = new BlockRanges();
    for (const index of bad) blocks.add(blockNumber + index, 1);
    const lost = findings.broken(logKey(fileIndex), payloadOffset, `the record of LSN ${lsn}, which had been synced, has damaged data of ${formatRanges(blocks.list)}`);
    for (const index of bad) if (newest.get(blockNumber + index) === record) lost.add(blockNumber + index, 1);
  }
  return [...newest.keys()].toSorted((a, b) => a - b);
}

/** Whether the volume was opened without the record before: that it stands there means nothing. */
function isDead({ record }: ReplayedRecord, { cut }: Manifest): boolean {
  return Math.floor(record.generation / GENERATIONS_PER_EPOCH) < cut.epoch && record.lsn > cut.lsn;
}

/** True if anything is damaged. */
function reportLog(log: LogExamination, behind: readonly InspectedRecord[], findings: Findings): boolean {
  const { damage, newerLife } = log;
  const foreign = log.headers.filter(({ fault }) => fault.fault === 'foreign');
  for (const { fileIndex, fault } of foreign) findings.broken(logKey(fileIndex), 0, fault.detail);
  for (const { fileIndex, fault } of log.headers) {
    if (damage !== null || fault.fault === 'foreign') continue;
    findings.notes.push(`${logKey(fileIndex)} has no valid header (${fault.detail}); a write of it was cut short, and no record of it is needed`);
  }
  if (newerLife !== null) findings.broken(manifestKey(), 48, newerLife);
  if (damage !== null) {
    const { fileIndex, offsetBytes } = damage.context;
    const lost = findings.broken(fileIndex === undefined ? manifestKey() : logKey(fileIndex), offsetBytes ?? null, damage.message);
    for (const record of behind) if (record.lsn > log.lastLsn) lost.add(record.blockNumber, record.blockCount);
  }
  return damage !== null || newerLife !== null || foreign.length > 0;
}

type OnUnreadable = (key: string, offsetBytes: number | null, problem: string) => void;

/** The log's files; `unreadable` is told of those that are missing, and of places that the disk cannot read. */
export async function openLogFiles(files: FileSystem, directory: string, { logFileCount }: Manifest, unreadable: OnUnreadable): Promise<(File | null)[]> {
  const opened: (File | null)[] = [];
  try {
    for (let index = 0; index < logFileCount; index += 1) opened.push(await openLogFile(files, directory, index, unreadable));
    return opened;
  } catch (error) {
    await Promise.allSettled(opened.map(async (file) => file?.close()));
    throw error;
  }
}

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
