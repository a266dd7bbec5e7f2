/** Sizes as people write them, and the few units the code shares. */
import { VolumeError } from './errors.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const TIB = 1024 * GIB;

/** The largest size of a volume, in bytes: every offset stays a safe integer. */
export const MAX_SIZE_BYTES = Number.MAX_SAFE_INTEGER;

const FACTORS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: KIB,
  kib: KIB,
  kb: 1000,
  m: MIB,
  mib: MIB,
  mb: 1000 ** 2,
  g: GIB,
  gib: GIB,
  gb: 1000 ** 3,
  t: TIB,
  tib: TIB,
  tb: 1000 ** 4,
  p: 1024 * TIB,
  pib: 1024 * TIB,
  pb: 1000 ** 5,
};

/**
 * Bytes of a size such as `512M`, `10G`, `1.5T`, `64KiB` or `4096`. `K`, `M`, `G`, `T`, `P` are powers of 1024, as are `KiB`...;
 * `KB`, `MB`... are powers of 1000. Throws `invalid-argument` when it is not a whole, safe number of bytes.
 */
export function parseSize(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text);
  const factor = match === null ? undefined : FACTORS[(match[2] ?? '').toLowerCase()];
  const hint = 'write a number with K, M, G, T or P, as in 512M, 10G or 64KiB';
  if (match === null || factor === undefined) throw new VolumeError('invalid-argument', `size "${text}" is not understood: ${hint}`);
  const bytes = Number(match[1]) * factor;
  if (!Number.isSafeInteger(bytes)) {
    throw new VolumeError('invalid-argument', `size "${text}" is not a whole number of bytes below 2^53: ${hint}`);
  }
  return bytes;
}

/** `bytes` in the largest unit that shows it exactly or with one decimal: 1073741824 is `1 GiB`. */
export function formatSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`;
}

/** Whether `value` is a power of two. */
export function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && 2 ** Math.round(Math.log2(value)) === value;
}
