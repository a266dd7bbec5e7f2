/**
 * Which way to write the log in mode strict is the quicker one on the disk of a new volume: small writes, each of them synced, both ways in turn,
 * over bytes that a file has had before, as the log does it. (Here 8 ms in all; direct writes are 1.2 times as fast, so it answers `buffered`.)
 */
import { systemCode, toVolumeError } from '../base/errors.ts';
import type { MeasuredLogWay } from '../base/settings-types.ts';
import { type Clock, DIRECT_ALIGNMENT_BYTES, type File, type FileSystem, type Logger } from '../env/env.ts';
import { pageAlignedMemory } from './direct-log.ts';

/** In whole servers a smaller advantage of direct writes was lost on the way (ARCHITECTURE, "Measured"). */
const LEAST_ADVANTAGE = 1.5;
/** A record of one block, with its header, is two pages. */
const WRITE_BYTES = 2 * DIRECT_ALIGNMENT_BYTES;
const ROUNDS = 24;
/** Fewer say nothing, and the first one, which opens the paths, is not counted. */
const LEAST_ROUNDS = 6;
/** No round begins after this time: a slow disk is measured by fewer rounds, and one that is slower still not at all. */
const LIMIT_MS = 200;
/** Each way has a half of the file, so that no direct write meets pages that the other way left in the page cache. */
const HALF_BYTES = 16 * WRITE_BYTES;

export interface MeasureOptions {
  readonly files: Pick<FileSystem, 'open' | 'remove'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of a file that is not there; it is made, and removed again. */
  readonly path: string;
}

/** `buffered`, too, where anything goes wrong or takes long. Errors: system codes, if the file cannot be removed. */
export async function measureLogWay(options: MeasureOptions): Promise<MeasuredLogWay> {
  const { files, clock, path, logger } = options;
  const startMs = clock.nowMs();
  const notMeasured = (error: unknown): void => logger.log('debug', 'log-not-measured', { path, error: toVolumeError(error, 'measuring log writes') });
  let plain: File;
  try {
    plain = await files.open(path, 'create');
  } catch (error) {
    notMeasured(error);
    await removeIfThere(files, path);
    return 'buffered';
  }
  let way: MeasuredLogWay = 'buffered';
  try {
    const times = await timeBothWays(options, plain, startMs);
    way = chooseLogWay(times);
    logger.log('debug', 'log-measured', { path, way, rounds: times.bufferedMs.length, bufferedMs: medianOf(times.bufferedMs), directMs: medianOf(times.directMs) });
  } catch (error) {
    notMeasured(error);
  } finally {
    await plain.close();
    await files.remove(path);
  }
  return way;
}

/** A creation that failed may have made the file all the same. */
async function removeIfThere(files: MeasureOptions['files'], path: string): Promise<void> {
  try {
    await files.remove(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}

export interface LogTimes {
  readonly bufferedMs: readonly number[];
  readonly directMs: readonly number[];
}

/** Direct only if it is clearly quicker: all else speaks for the plain way. */
export function chooseLogWay({ bufferedMs, directMs }: LogTimes): MeasuredLogWay {
  if (bufferedMs.length < LEAST_ROUNDS) return 'buffered';
  const [buffered, direct] = [medianOf(bufferedMs), medianOf(directMs)];
  return buffered > direct && buffered >= LEAST_ADVANTAGE * direct ? 'direct' : 'buffered';
}

async function timeBothWays({ files, clock, path }: MeasureOptions, plain: File, startMs: number): Promise<LogTimes> {
  const bufferedMs: number[] = [];
  const directMs: number[] = [];
  const bytes = pageAlignedMemory(WRITE_BYTES).fill(0xa5);
  await plain.write([Buffer.alloc(2 * HALF_BYTES)], 0);
  await plain.sync();
  const direct = await files.open(path, 'direct');
  try {
    for (let round = 0; round < ROUNDS && clock.nowMs() - startMs < LIMIT_MS; round += 1) {
      const offsetBytes = (round * WRITE_BYTES) % HALF_BYTES;
      const firstMs = clock.nowMs();
      await plain.write([bytes], offsetBytes);
      await plain.sync();
      const secondMs = clock.nowMs();
      await direct.write([bytes], HALF_BYTES + offsetBytes);
      if (round === 0) continue;
      bufferedMs.push(secondMs - firstMs);
      directMs.push(clock.nowMs() - secondMs);
    }
  } finally {
    await direct.close();
  }
  return { bufferedMs, directMs };
}

/** 0 of nothing. */
function medianOf(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[values.length >> 1] ?? 0;
}
