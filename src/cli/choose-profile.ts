/** Which profile fits a machine, and what of it to change there: from what was measured, with the reasons. */
import { isPowerOfTwo, formatSize, GIB, MIB } from '../base/units.ts';
import type { ProfileName } from '../config/profiles.ts';
import type { DiskMeasurement } from '../volume/measure-disk.ts';
import { type DeviceFacts, FAR_FILE_SYSTEMS, MEMORY_FILE_SYSTEMS } from './device-facts.ts';

export interface Machine {
  readonly memoryBytes: number;
  readonly processors: number;
  /** As `uname -r` has it. */
  readonly kernel: string;
}

export interface Measured {
  readonly measurement: DiskMeasurement;
  readonly facts: DeviceFacts | null;
  readonly machine: Machine;
}

export interface Change {
  /** Such as `engine.arena_bytes`. */
  readonly key: string;
  /** As TOML. */
  readonly value: string;
  readonly reason: string;
}

export interface Advice {
  /** Null: the defaults. */
  readonly profile: ProfileName | null;
  readonly reasons: readonly string[];
  readonly changes: readonly Change[];
  readonly warnings: readonly string[];
}

/** A flush of flash without a protected cache takes as long, at its best. Disks with a controller of their own answer within a millisecond. */
const CARD_SYNC_MS = 3;
/** With such syncs: a disk that writes faster is none of a card's kind (a hard disk, a disk in a network). */
const CARD_BYTES_PER_SECOND = 100 * MIB;
/** Whatever its syncs take, compressing pays on a disk that writes no faster. */
const SLOW_BYTES_PER_SECOND = 40 * MIB;
const FAST_SYNC_MS = 1.5;
const FAST_BYTES_PER_SECOND = 200 * MIB;
const NVME_MEMORY_BYTES = 8 * GIB;
/** Of `nvme.toml`. */
const NVME_WORKERS = 4;
/** Writes that begin elsewhere take so much longer before it is worth a word. */
const ALIGNMENT_MATTERS = 1.3;
const ms = (value: number): string => `${value.toFixed(value < 10 ? 2 : 0)} ms`;
const speed = (bytesPerSecond: number): string => `${formatSize(Math.round(bytesPerSecond / MIB) * MIB)}/s`;

/** Why `profile` is chosen. */
interface Choice {
  readonly profile: ProfileName | null;
  readonly reasons: readonly string[];
}

export function adviseSettings(measured: Measured): Advice {
  const { profile, reasons } = chooseProfile(measured);
  return { profile, reasons, changes: changesFor(profile, measured), warnings: warningsFor(measured) };
}

function chooseProfile({ measurement: { sync, bestBytesPerSecond }, facts, machine }: Measured): Choice {
  const measured = `a sync takes ${ms(sync.bestMs)} at its best, and ${speed(bestBytesPerSecond)} are written`;
  if (facts?.isCard === true) return { profile: 'jetson-sd', reasons: [`${facts.disk} is an SD card or eMMC`, measured] };
  const isCardlike = sync.bestMs >= CARD_SYNC_MS && bestBytesPerSecond < CARD_BYTES_PER_SECOND;
  if (isCardlike || bestBytesPerSecond < SLOW_BYTES_PER_SECOND) {
    return { profile: 'jetson-sd', reasons: [`the disk is as slow as a card: ${measured} (less than ${speed(SLOW_BYTES_PER_SECOND)}, or ${ms(CARD_SYNC_MS)} and more with less than ${speed(CARD_BYTES_PER_SECOND)})`] };
  }
  if (/microsoft/i.test(machine.kernel)) return { profile: 'wsl', reasons: [`the kernel is WSL's (${machine.kernel}): the disk is a file in Windows, and memory is shared with it`, measured] };
  const isFast = sync.bestMs <= FAST_SYNC_MS && bestBytesPerSecond >= FAST_BYTES_PER_SECOND;
  if (!isFast) return { profile: null, reasons: [`${measured}: no card, and not as fast as an SSD of its own (${ms(FAST_SYNC_MS)} or less, ${speed(FAST_BYTES_PER_SECOND)} or more)`] };
  if (machine.memoryBytes < NVME_MEMORY_BYTES) return { profile: null, reasons: [`the disk is fast (${measured}), but ${formatSize(machine.memoryBytes)} of memory are less than the ${formatSize(NVME_MEMORY_BYTES)} that nvme is for`] };
  return { profile: 'nvme', reasons: [`the disk is fast: ${measured}`, `${formatSize(machine.memoryBytes)} of memory are enough for a cache of 1 GiB`] };
}

function changesFor(profile: ProfileName | null, { facts, machine }: Measured): Change[] {
  const changes: Change[] = [];
  const eraseBytes = facts?.eraseBlockBytes ?? null;
  // A few cards name what is no size of flash.
  if (profile === 'jetson-sd' && eraseBytes !== null && isPowerOfTwo(eraseBytes) && eraseBytes >= MIB && eraseBytes <= 64 * MIB) {
    changes.push({ key: 'engine.erase_block_bytes', value: `"${eraseBytes / MIB}M"`, reason: `the card says that it erases ${formatSize(eraseBytes)} at once` });
  }
  if (profile === 'nvme' && machine.processors < NVME_WORKERS) {
    changes.push({ key: 'process.worker_threads', value: String(machine.processors), reason: `there are ${machine.processors} processors` });
  }
  return changes;
}

function warningsFor({ facts, measurement: { alignment, sync } }: Measured): string[] {
  const warnings: string[] = [];
  if (facts !== null && FAR_FILE_SYSTEMS.has(facts.fileSystem)) warnings.push(`${facts.mountPoint} is ${facts.fileSystem}: not a disk of this machine, and locks and syncs are as good as the other side's`);
  if (facts !== null && MEMORY_FILE_SYSTEMS.has(facts.fileSystem)) warnings.push(`${facts.mountPoint} is ${facts.fileSystem}: it is memory, and volumes there are gone with the next restart of the machine`);
  const eraseBytes = facts?.eraseBlockBytes ?? null;
  if (facts !== null && eraseBytes !== null && facts.partitionOffsetBytes % eraseBytes !== 0) {
    warnings.push(`the partition begins at byte ${facts.partitionOffsetBytes}, which is no multiple of the ${formatSize(eraseBytes)} that ${facts.disk} erases at once: log files are not whole erase blocks there; a partition that begins at 16 MiB is`);
  }
  if (alignment !== null && alignment.shifted.bestMs >= ALIGNMENT_MATTERS * alignment.aligned.bestMs) {
    warnings.push(`writes of 64 KiB that begin 4 KiB behind a multiple of it take ${(alignment.shifted.bestMs / alignment.aligned.bestMs).toFixed(1)} times as long: whole log files should be placed at multiples of what the disk erases at once, so leave engine.erase_block_bytes on`);
  }
  if (sync.medianMs > 4 * sync.bestMs) warnings.push(`the disk is in use: half of the syncs took ${ms(sync.medianMs)} or more, the best twentieth ${ms(sync.bestMs)} or less; the best were believed`);
  return warnings;
}
