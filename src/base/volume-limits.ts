/** How much clients may ask of a volume: limits of its owner's choice, with bursts. */
import { VolumeError } from './errors.ts';
import { KIB, MAX_SIZE_BYTES, formatSize } from './units.ts';

/** Each is null where there is none. */
export interface VolumeLimits {
  /** Requests a second, FLUSH not among them. */
  readonly operationsPerSecond: number | null;
  /** How many may follow at once after a rest; null: a tenth of a second's worth. */
  readonly burstOperations: number | null;
  /** Bytes that are read, written and cached, a second. */
  readonly bytesPerSecond: number | null;
  readonly burstBytes: number | null;
}

export const NO_LIMITS: VolumeLimits = { operationsPerSecond: null, burstOperations: null, bytesPerSecond: null, burstBytes: null };
export const LIMIT_NAMES = ['operationsPerSecond', 'burstOperations', 'bytesPerSecond', 'burstBytes'] as const satisfies readonly (keyof VolumeLimits)[];

/** Those that are to change; null takes one away. */
export type LimitChanges = Partial<VolumeLimits>;

const OPERATIONS_MAX = 1e9;
/** Less than this a second, and whoever opens the volume takes it for dead. */
const BYTES_MIN = 4 * KIB;
/** What is saved up for a burst unless it is said: this share of a second's worth. */
const DEFAULT_BURST_SHARE = 0.1;

/** Throws `invalid-argument` unless these can be limits. */
export function checkLimits({ operationsPerSecond, burstOperations, bytesPerSecond, burstBytes }: VolumeLimits): void {
  checkNumber('operationsPerSecond', operationsPerSecond, 1, OPERATIONS_MAX);
  checkNumber('burstOperations', burstOperations, 1, OPERATIONS_MAX);
  checkNumber('bytesPerSecond', bytesPerSecond, BYTES_MIN, MAX_SIZE_BYTES);
  checkNumber('burstBytes', burstBytes, BYTES_MIN, MAX_SIZE_BYTES);
  if (burstOperations !== null && operationsPerSecond === null) throw new VolumeError('invalid-argument', 'a burst of operations goes with a limit of operations a second; give that, too');
  if (burstBytes !== null && bytesPerSecond === null) throw new VolumeError('invalid-argument', 'a burst of bytes goes with a limit of bytes a second; give that, too');
}

function checkNumber(name: string, value: number | null, min: number, max: number): void {
  if (value === null || (Number.isSafeInteger(value) && value >= min && value <= max)) return;
  throw new VolumeError('invalid-argument', `${name} ${value}: give a whole number from ${min} to ${max}`);
}

/** `limits` with some changed; a limit that goes takes its burst along. Errors: as `checkLimits`. */
export function changedLimits(limits: VolumeLimits, changes: LimitChanges): VolumeLimits {
  const burstOperations = changes.operationsPerSecond === null ? null : limits.burstOperations;
  const burstBytes = changes.bytesPerSecond === null ? null : limits.burstBytes;
  const changed = { ...limits, burstOperations, burstBytes, ...changes };
  checkLimits(changed);
  return changed;
}

export function hasLimits({ operationsPerSecond, bytesPerSecond }: VolumeLimits): boolean {
  return operationsPerSecond !== null || bytesPerSecond !== null;
}

/** What can be saved up at `rate` a second. */
export function burstOf(rate: number, burst: number | null): number {
  return burst ?? Math.max(1, rate * DEFAULT_BURST_SHARE);
}

/** `500 requests a second (50 at once), 20 MiB a second (2 MiB at once)` */
export function describeLimits({ operationsPerSecond, burstOperations, bytesPerSecond, burstBytes }: VolumeLimits): string {
  const parts: string[] = [];
  if (operationsPerSecond !== null) parts.push(`${operationsPerSecond} requests a second (${Math.floor(burstOf(operationsPerSecond, burstOperations))} at once)`);
  if (bytesPerSecond !== null) parts.push(`${formatSize(bytesPerSecond)} a second (${formatSize(Math.floor(burstOf(bytesPerSecond, burstBytes)))} at once)`);
  return parts.length === 0 ? 'none' : parts.join(', ');
}
