/**
 * How long a card may last, as far as that can be said: from what Linux counted of it since the machine started (all that writes to it, not only
 * basalt), from what its maker promises, and from what eMMC says of itself. What a card does inside (it moves whole erase blocks) is its maker's
 * business, and part of the promise.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../base/errors.ts';
import { formatSize } from '../base/units.ts';
import { LINUX, readDeviceFacts, type SystemFolders } from './device-facts.ts';

/** Of a disk, since the machine started. */
export interface DiskUse {
  readonly disk: string;
  readonly isCard: boolean;
  readonly writtenBytes: number;
  readonly days: number;
  /** eMMC's own estimate of the life that is used, in percent, at most; above 100: beyond what was promised. Null: it has none, as SD cards. */
  readonly usedPercentMax: number | null;
}

const SECTOR_BYTES = 512;
/** Field of the `stat` of a block device: sectors written. */
const SECTORS_WRITTEN = 6;
const DAY_SECONDS = 86_400;
/** Less is no rate: a start writes more than a day does. */
const LEAST_DAYS = 0.25;
const DAYS_OF_YEAR = 365.25;
/** eMMC's steps are tenths of its life; the last one means that it is over. */
const LIFE_STEP_PERCENT = 10;
const LIFE_STEPS = 11;

async function textOf(path: string): Promise<string | null> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if (['ENOENT', 'EACCES', 'ENOTDIR'].includes(systemCode(error) ?? '')) return null;
    throw error;
  }
}

/** Two estimates, of two kinds of its cells, such as `0x01 0x02`: the worse one counts. 0 is no estimate. */
function usedPercent(text: string | null): number | null {
  const steps = (text ?? '').split(/\s+/).map(Number).filter((step) => Number.isInteger(step) && step > 0 && step <= LIFE_STEPS);
  return steps.length === 0 ? null : Math.max(...steps) * LIFE_STEP_PERCENT;
}

/** Null where the system does not say. Errors: system codes, if the directory cannot be looked at. */
export async function readDiskUse(directory: string, folders: SystemFolders = LINUX): Promise<DiskUse | null> {
  const facts = await readDeviceFacts(directory, folders);
  if (facts === null || facts.disk === null) return null;
  const folder = join(folders.sys, 'class/block', facts.disk);
  const sectors = Number((await textOf(join(folder, 'stat')))?.split(/\s+/)[SECTORS_WRITTEN] ?? Number.NaN);
  const seconds = Number((await textOf(join(folders.proc, 'uptime')))?.split(' ')[0] ?? Number.NaN);
  if (!Number.isSafeInteger(sectors) || !Number.isFinite(seconds)) return null;
  return { disk: facts.disk, isCard: facts.isCard, writtenBytes: sectors * SECTOR_BYTES, days: seconds / DAY_SECONDS, usedPercentMax: usedPercent(await textOf(join(folder, 'device/life_time'))) };
}

export interface DiskLife extends DiskUse {
  /** Null while the machine has run for too short a time. */
  readonly bytesPerDay: number | null;
  /** What its maker promises; 0: not known. */
  readonly enduranceBytes: number;
  /** How long that lasts at this rate, from a new card on; null where it cannot be said. */
  readonly years: number | null;
}

export function estimateLife(use: DiskUse, enduranceBytes: number): DiskLife {
  const bytesPerDay = use.days < LEAST_DAYS ? null : use.writtenBytes / use.days;
  const years = bytesPerDay === null || bytesPerDay === 0 || enduranceBytes === 0 ? null : enduranceBytes / bytesPerDay / DAYS_OF_YEAR;
  return { ...use, bytesPerDay, enduranceBytes, years };
}

/** Lines of `show`; none for a disk that is no card and of which nobody said what it takes. */
export function describeLife({ disk, isCard, writtenBytes, days, usedPercentMax, bytesPerDay, enduranceBytes, years }: DiskLife): [string, string][] {
  if (!isCard && enduranceBytes === 0) return [];
  const rate = bytesPerDay === null ? 'too short a time to tell how much a day' : `${formatSize(Math.round(bytesPerDay))} a day`;
  const lines: [string, string][] = [['disk', `${disk}: ${formatSize(writtenBytes)} written by all of this machine since it started ${days.toFixed(1)} days ago, ${rate}`]];
  if (usedPercentMax !== null) lines.push(['disk life', usedPercentMax > 100 ? 'its own estimate: all used, and more' : `its own estimate: ${usedPercentMax - LIFE_STEP_PERCENT} to ${usedPercentMax} % used`]);
  if (years !== null) lines.push(['disk life', `at that rate the ${formatSize(enduranceBytes)} of process.disk_endurance_bytes last ${years.toFixed(1)} years, of which the disk's age is past`]);
  if (enduranceBytes === 0) lines.push(['disk life', 'set process.disk_endurance_bytes to what its data sheet says (TBW), and how long that lasts is told here']);
  return lines;
}
