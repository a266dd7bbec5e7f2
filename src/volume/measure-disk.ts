/**
 * How quick the disk below a directory is, for whoever chooses settings for it: pieces of 4 MiB with a sync each, as chunks are written; small
 * writes with a sync each over bytes that the file has had before, as the log does it; and whether writes that do not begin at a multiple of their size take longer.
 *
 * What else goes on on the machine can only make a disk look slower than it is. So the best twentieth of the rounds is told beside the median.
 */
import { isRefusal, toVolumeError } from '../base/errors.ts';
import { KIB, MIB } from '../base/units.ts';
import { DIRECT_ALIGNMENT_BYTES, type Clock, type Env, type File } from '../env/env.ts';
import { pageAlignedMemory } from '../wal/direct-log.ts';
import type { OnProgress } from './volume-info.ts';

const PIECE_BYTES = 4 * MIB;
/** The most that the measurement takes of the disk. */
export const MEASURED_BYTES_MAX = 64 * MIB;
/** A record of one block, with its header. */
const RECORD_BYTES = 2 * DIRECT_ALIGNMENT_BYTES;
/** The unit of the look at alignment: as large as the pages in which flash is mapped, or larger. */
const SPAN_BYTES = 64 * KIB;

interface Limit {
  readonly rounds: number;
  /** Fewer say nothing: so many there are, however long they take. */
  readonly leastRounds: number;
  /** Behind those no round begins after this time. */
  readonly ms: number;
}

/** In all some 8 s of a slow disk; seconds more on one that takes a second for a piece. */
const LIMITS = {
  write: { rounds: 80, leastRounds: 4, ms: 4000 },
  sync: { rounds: 200, leastRounds: 12, ms: 2000 },
  alignment: { rounds: 48, leastRounds: 12, ms: 2000 },
} as const satisfies Readonly<Record<string, Limit>>;

/** Milliseconds of one kind of rounds. */
export interface Timing {
  readonly medianMs: number;
  /** Of the best twentieth, the slowest. */
  readonly bestMs: number;
  readonly worstMs: number;
  readonly rounds: number;
}

export interface DiskMeasurement {
  /** A small write and its sync. */
  readonly sync: Timing;
  /** A piece of 4 MiB and its sync. */
  readonly write: Timing;
  readonly bestBytesPerSecond: number;
  readonly medianBytesPerSecond: number;
  /** Writes of 64 KiB past the page cache, at multiples of 64 KiB and 4 KiB behind them; null where there are no such writes. */
  readonly alignment: { readonly aligned: Timing; readonly shifted: Timing } | null;
  readonly writtenBytes: number;
  readonly elapsedMs: number;
}

export interface MeasureDiskOptions {
  readonly env: Pick<Env, 'files' | 'clock' | 'random'>;
  /** Where the file is made; it has no name any more when the measurement begins, so that nothing stays behind, however the process ends. */
  readonly directory: string;
  readonly onProgress: OnProgress;
}

/** Errors: `no-space`, `io-error` (also where nobody may write). */
export async function measureDisk(options: MeasureDiskOptions): Promise<DiskMeasurement> {
  const { clock } = options.env;
  const startMs = clock.nowMs();
  let scratch: Scratch | null = null;
  try {
    scratch = await openScratch(options);
    const counted = { ...options, ...scratch, writtenBytes: 0 };
    const write = await timeWrites(counted);
    const sync = await timeSyncs(counted);
    const alignment = await timeAlignment(counted);
    const speedOf = (ms: number): number => Math.round(PIECE_BYTES / (Math.max(ms, 0.001) / 1000));
    return { sync, write, bestBytesPerSecond: speedOf(write.bestMs), medianBytesPerSecond: speedOf(write.medianMs), alignment, writtenBytes: counted.writtenBytes, elapsedMs: clock.nowMs() - startMs };
  } catch (error) {
    throw toVolumeError(error, `measuring the disk of ${options.directory}`);
  } finally {
    await scratch?.plain.close();
    await scratch?.direct?.close();
  }
}

interface Scratch {
  readonly plain: File;
  /** The same file past the page cache; null where that is not possible. */
  readonly direct: File | null;
}

interface Run extends MeasureDiskOptions, Scratch {
  writtenBytes: number;
}

async function openScratch({ env: { files, clock, random }, directory }: MeasureDiskOptions): Promise<Scratch> {
  const id = new Uint8Array(6);
  random.fill(id);
  const path = `${directory}/.measured-${Math.floor(clock.wallMs())}-${Buffer.from(id).toString('hex')}`;
  const plain = await files.open(path, 'create');
  let direct: File | null = null;
  try {
    direct = await files.open(path, 'direct');
  } catch (error) {
    if (!isRefusal(error)) {
      await plain.close();
      throw error;
    }
  } finally {
    await files.remove(path);
  }
  return { plain, direct };
}

/** `round` is called with 0, 1, ...; the first one, which opens the paths, is not counted. */
async function timeRounds(clock: Clock, limit: Limit, onProgress: (done: number, total: number) => void, round: (index: number) => Promise<number>): Promise<number[]> {
  const times: number[] = [];
  const startMs = clock.nowMs();
  for (let index = 0; index <= limit.rounds; index += 1) {
    const elapsedMs = clock.nowMs() - startMs;
    if (times.length >= limit.leastRounds && elapsedMs > limit.ms) break;
    // By time, where that will end it sooner than the count.
    onProgress(Math.max(index, Math.min(limit.rounds, Math.floor((elapsedMs / limit.ms) * limit.rounds))), limit.rounds);
    const ms = await round(index);
    if (index > 0) times.push(ms);
  }
  onProgress(limit.rounds, limit.rounds);
  return times;
}

function timingOf(times: readonly number[]): Timing {
  const sorted = times.toSorted((left, right) => left - right);
  const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
  return { medianMs: at(0.5), bestMs: at(0.05), worstMs: at(1), rounds: sorted.length };
}

/** Memory that does not compress, and is another one each time: some disks write what they have had only once. */
function noise(run: Run, bytes: number): (index: number) => Uint8Array {
  const memory = pageAlignedMemory(bytes);
  run.env.random.fill(memory);
  const words = new Float64Array(memory.buffer, 0, bytes / 8);
  return (index) => {
    for (let at = 0; at < words.length; at += DIRECT_ALIGNMENT_BYTES / 8) words[at] = index;
    return memory;
  };
}

async function timed(clock: Clock, work: () => Promise<void>): Promise<number> {
  const startMs = clock.nowMs();
  await work();
  return clock.nowMs() - startMs;
}

/** From the file's beginning, which it grows by, as the files of chunks do; behind its most, once more. */
async function timeWrites(run: Run): Promise<Timing> {
  const { env, plain, onProgress } = run;
  const bytesOf = noise(run, PIECE_BYTES);
  const progress = (done: number, total: number): void => onProgress({ task: 'writing pieces of 4 MiB', done, total });
  const times = await timeRounds(env.clock, LIMITS.write, progress, async (index) => {
    const bytes = bytesOf(index);
    run.writtenBytes += PIECE_BYTES;
    return timed(env.clock, async () => {
      await plain.write([bytes], (index * PIECE_BYTES) % MEASURED_BYTES_MAX);
      await plain.sync();
    });
  });
  return timingOf(times);
}

async function timeSyncs(run: Run): Promise<Timing> {
  const { env, plain, onProgress } = run;
  const bytesOf = noise(run, RECORD_BYTES);
  const progress = (done: number, total: number): void => onProgress({ task: 'syncing small writes', done, total });
  const times = await timeRounds(env.clock, LIMITS.sync, progress, async (index) => {
    const bytes = bytesOf(index);
    run.writtenBytes += RECORD_BYTES;
    return timed(env.clock, async () => {
      await plain.write([bytes], (index * RECORD_BYTES) % PIECE_BYTES);
      await plain.sync();
    });
  });
  return timingOf(times);
}

/** Both kinds in turn, over bytes that were written and synced before. */
async function timeAlignment(run: Run): Promise<DiskMeasurement['alignment']> {
  const { env, direct, onProgress } = run;
  if (direct === null) return null;
  const bytesOf = noise(run, SPAN_BYTES);
  const shifted: number[] = [];
  const progress = (done: number, total: number): void => onProgress({ task: 'looking at alignment', done, total });
  try {
    const aligned = await timeRounds(env.clock, LIMITS.alignment, progress, async (index) => {
      const bytes = bytesOf(index);
      const offsetBytes = (index * 2 * SPAN_BYTES) % (2 * PIECE_BYTES);
      run.writtenBytes += 2 * SPAN_BYTES;
      const alignedMs = await timed(env.clock, () => direct.write([bytes], offsetBytes));
      const shiftedMs = await timed(env.clock, () => direct.write([bytes], offsetBytes + DIRECT_ALIGNMENT_BYTES));
      if (index > 0) shifted.push(shiftedMs);
      return alignedMs;
    });
    return { aligned: timingOf(aligned), shifted: timingOf(shifted) };
  } catch (error) {
    if (isRefusal(error)) return null;
    throw error;
  }
}
