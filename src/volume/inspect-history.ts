/**
 * Blocks that no sound chunk has, looked for in the log: it keeps records until their file is used again, long after chunks hold them.
 * The newest record of a block is its last version only if nothing is missing behind it. So only a run of records counts that goes on
 * without a gap to the end of the volume's history, and of which each part is known to have been part of that history.
 */
import type { File, FileSystem } from '../env/env.ts';
import { GENERATIONS_PER_EPOCH, LOG_HEADER_BYTES, decodeLogHeader, recordChecksum } from '../format/log-record.ts';
import type { Manifest } from '../format/manifest.ts';
import { type LogExamination, type ReplayedRecord, examineLog } from '../wal/log-recovery.ts';
import type { BlockRange } from './inspect-findings.ts';
import { type InspectedLog, type InspectedRecord, badBlocksOf, openLogFiles, summarizeRecord } from './inspect-log.ts';
import type { LoggedBlock } from './logged-blocks.ts';

/** Each pass reads the log once; one that breaks off is followed by one that begins behind the gap. */
const MAX_PASSES = 16;
/** Blocks that were emptied are remembered up to so many: a trim may reach over terabytes. Further ones stay lost. */
const MAX_EMPTIED_BLOCKS = 1024 * 1024;

export interface HistoryOptions {
  readonly files: FileSystem;
  readonly directory: string;
  readonly manifest: Manifest;
  /** The last LSN of the chain of chunks. */
  readonly chunkedLsn: number;
  /** What stands behind that. */
  readonly log: InspectedLog;
  readonly wanted: WantedBlocks;
}

export interface WantedBlocks {
  /** In order, without overlap. */
  readonly ranges: readonly BlockRange[];
  /** Checksums of those of which a chunk's table is left. */
  readonly checksums: ReadonlyMap<number, number>;
}

/** The last versions of those wanted blocks that the log has whole: written (`record.kind`), or emptied. Changes nothing. */
export async function findInLog(options: HistoryOptions): Promise<ReadonlyMap<number, LoggedBlock>> {
  const { files, directory, manifest, chunkedLsn, log, wanted } = options;
  if (wanted.ranges.length === 0) return new Map();
  // What cannot be read was told of when the log was looked at.
  const opened = await openLogFiles(files, directory, manifest, () => undefined);
  try {
    let from = 1;
    for (let pass = 0; pass < MAX_PASSES && from <= chunkedLsn; pass += 1) {
      const run = new Run(wanted, manifest.blockSizeBytes);
      const found = await examine(opened, options, from, run);
      // With an old manifest it is not known which records were cut off.
      if (found.newerLife !== null) break;
      if (found.lastLsn === log.lastLsn) return run.lastVersions(manifest.epoch);
      from = behindGap(from, found);
    }
    return new Map();
  } finally {
    // Descriptors that were only read from have nothing to lose when their close fails.
    await Promise.allSettled(opened.map(async (file) => file?.close()));
  }
}

/** Where to begin after a pass that broke off: behind the record that is missing; where more than one is, with the next life of a file. */
function behindGap(from: number, { lastLsn, found }: LogExamination): number {
  if (lastLsn >= from) return lastLsn + 2;
  const begins = found.map(({ firstLsn }) => firstLsn);
  return begins.includes(from) ? from + 1 : Math.min(...begins.filter((lsn) => lsn > from), Infinity);
}

/** The LSN that the oldest life of a log file begins with; Infinity: there is none. */
export async function oldestLsn(files: FileSystem, directory: string, manifest: Manifest): Promise<number> {
  const opened = await openLogFiles(files, directory, manifest, () => undefined);
  let oldest = Infinity;
  try {
    for (const [fileIndex, file] of opened.entries()) {
      const bytes = new Uint8Array(LOG_HEADER_BYTES);
      const got = (await file?.read(bytes, 0)) ?? 0;
      const header = decodeLogHeader(bytes.subarray(0, got), { ...manifest, fileIndex });
      if (!('fault' in header)) oldest = Math.min(oldest, header.firstLsn);
    }
    return oldest;
  } finally {
    await Promise.allSettled(opened.map(async (file) => file?.close()));
  }
}

function examine(files: readonly (File | null)[], { manifest, log }: HistoryOptions, from: number, run: Run): Promise<LogExamination> {
  const { volumeId, blockSizeBytes, spanBytes, cut, epoch: lastEpoch } = manifest;
  return examineLog({
    files,
    volumeId,
    blockSizeBytes,
    volumeBlocks: spanBytes / blockSizeBytes,
    chunkedLsn: from - 1,
    cut,
    lastEpoch,
    // Whether the end of the log is damage is told of already.
    markedLsn: 0,
    bridgedLsn: log.lastLsn,
    apply: (replayed) => run.note(replayed, true),
    damaged: (replayed) => run.note(replayed, false),
  });
}

interface Version extends LoggedBlock {
  /** As the record has it; null: it empties the block. */
  readonly checksum: number | null;
  readonly isWhole: boolean;
}

function epochOf(generation: number): number {
  return Math.floor(generation / GENERATIONS_PER_EPOCH);
}

function isWithin({ blockNumber, blockCount }: BlockRange, block: number): boolean {
  return block >= blockNumber && block < blockNumber + blockCount;
}

/** The parts of `ranges`, which are in order, that lie within one. */
function overlap(ranges: readonly BlockRange[], { blockNumber, blockCount }: BlockRange): BlockRange[] {
  const end = blockNumber + blockCount;
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[middle].blockNumber + ranges[middle].blockCount > blockNumber) high = middle;
    else low = middle + 1;
  }
  const parts: BlockRange[] = [];
  for (let i = low; i < ranges.length && ranges[i].blockNumber < end; i += 1) {
    const from = Math.max(blockNumber, ranges[i].blockNumber);
    parts.push({ blockNumber: from, blockCount: Math.min(end, ranges[i].blockNumber + ranges[i].blockCount) - from });
  }
  return parts;
}

/** Versions of the wanted blocks in a run of records that has no gap. */
class Run {
  readonly #wanted: WantedBlocks;
  readonly #blockSizeBytes: number;
  readonly #versions = new Map<number, Version>();
  #generation = -1;
  #firstLsn = 0;
  /**
   * No opening after the run's last epoch can have ended the history before the run: either it begins with the first record of an epoch (what
   * was before had been synced then), or a record says that its beginning had been synced. Else the run may be the dead end of an
   * older history, behind a torn record, whose LSNs were given anew in an epoch that the log has no more.
   */
  #isAnchored = false;

  constructor(wanted: WantedBlocks, blockSizeBytes: number) {
    this.#wanted = wanted;
    this.#blockSizeBytes = blockSizeBytes;
  }

  note(replayed: ReplayedRecord, isWhole: boolean): undefined {
    const { record } = replayed;
    if (epochOf(record.generation) !== epochOf(this.#generation)) this.#enterEpoch(replayed);
    this.#generation = record.generation;
    if (record.durableLsn >= this.#firstLsn) this.#isAnchored = true;
    const bad = isWhole ? [] : badBlocksOf(replayed, this.#blockSizeBytes);
    const summary: InspectedRecord = { ...summarizeRecord(replayed), bad };
    const { blockNumber } = summary;
    const add = (block: number): void => {
      const index = block - blockNumber;
      const checksum = summary.kind === 'write' ? recordChecksum(replayed.view, record, index) : null;
      this.#versions.set(block, { record: summary, index, checksum, isWhole: !bad.includes(index) });
    };
    for (const range of overlap(this.#wanted.ranges, summary)) {
      const isKept = summary.kind === 'write' || this.#versions.size + range.blockCount <= MAX_EMPTIED_BLOCKS;
      if (!isKept) for (const block of this.#versions.keys()) if (isWithin(range, block)) this.#versions.delete(block);
      for (let i = 0; i < range.blockCount && isKept; i += 1) add(range.blockNumber + i);
    }
  }

  /** The epoch's first life begins where the opening found the end of the history: what the run has up to there was part of it, or is dead. */
  #enterEpoch({ record, offsetBytes }: ReplayedRecord): void {
    const isFirstOfEpoch = record.generation % GENERATIONS_PER_EPOCH === 0 && offsetBytes === LOG_HEADER_BYTES;
    if (!isFirstOfEpoch || !this.#reaches(epochOf(record.generation))) {
      this.#versions.clear();
      this.#firstLsn = record.lsn;
      this.#isAnchored = false;
    }
    if (isFirstOfEpoch) this.#isAnchored = true;
  }

  /** Whether the run was the volume's history when `epoch` began. Of the epoch before it is: nobody else wrote in between. */
  #reaches(epoch: number): boolean {
    return this.#generation >= 0 && (this.#isAnchored || epochOf(this.#generation) >= epoch - 1);
  }

  /** `epoch`: the manifest's. A version counts only where no table of a chunk contradicts it. */
  lastVersions(epoch: number): ReadonlyMap<number, LoggedBlock> {
    const last = new Map<number, LoggedBlock>();
    if (!this.#reaches(epoch)) return last;
    for (const [block, { record, index, checksum, isWhole }] of this.#versions) {
      const expected = this.#wanted.checksums.get(block) ?? null;
      if (isWhole && (expected === null || expected === checksum)) last.set(block, { record, index });
    }
    return last;
  }
}
