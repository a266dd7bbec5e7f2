/**
 * The one checksum of basalt: CRC-32 as zlib computes it (IEEE 802.3, reflected). `@node-rs/crc32` (optional, prebuilt)
 * computes it with the processor's carry-less multiplication: 4 KiB in 0.4 us where `node:zlib` takes 1 us, on the path of every write.
 */
import { createRequire } from 'node:module';
import { crc32 as zlibCrc32 } from 'node:zlib';

type Crc32 = (bytes: Uint8Array, previous?: number) => number;

/** The implementations there are: the one of Node always, the native one where it loads. The fastest is the last. */
export const CHECKSUM_IMPLEMENTATIONS: ReadonlyMap<string, Crc32> = loadImplementations();

function loadImplementations(): Map<string, Crc32> {
  const found = new Map<string, Crc32>([['zlib', zlibCrc32]]);
  const native = loadNative('crc32');
  if (native !== null) found.set('native', native);
  return found;
}

function loadNative(name: 'crc32' | 'crc32c'): Crc32 | null {
  try {
    const module: unknown = createRequire(import.meta.url)('@node-rs/crc32');
    const found: unknown = typeof module === 'object' && module !== null ? Reflect.get(module, name) : null;
    return isCrc32(found) ? found : null;
  } catch {
    return null; // not installed, or not built for this machine: Node's own gives the same values
  }
}

/** Its one known form; that it computes the same values is tested. */
function isCrc32(value: unknown): value is Crc32 {
  return typeof value === 'function';
}

const implementation: Crc32 = CHECKSUM_IMPLEMENTATIONS.get('native') ?? zlibCrc32;

/** CRC-32 of `bytes`, or of all that gave `previous` followed by `bytes`. */
export function checksum(bytes: Uint8Array, previous = 0): number {
  return implementation(bytes, previous);
}

const TABLE = makeTable();

/** The effect of each byte on a reflected CRC-32: polynomial 0xedb88320. */
function makeTable(): Int32Array {
  const table = new Int32Array(256);
  for (let byte = 0; byte < 256; byte += 1) {
    let value = byte;
    for (let bit = 0; bit < 8; bit += 1) value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ 0xedb88320;
    table[byte] = value;
  }
  return table;
}

/** The checksum of `bytes[start .. end)`, for some dozens of bytes: a native call and the view for it cost more than the loop. */
export function shortChecksum(bytes: Uint8Array, start: number, end: number, previous = 0): number {
  let value = ~previous;
  for (let at = start; at < end; at += 1) value = (value >>> 8) ^ TABLE[(value ^ bytes[at]) & 0xff];
  return ~value >>> 0;
}

/** A checksum as people read it: eight hexadecimal digits. */
export function formatChecksum(value: number): string {
  return (value >>> 0).toString(16).padStart(8, '0');
}

/** CRC-32C (Castagnoli), for those outside who compute that quickest; null where the optional package is missing, as nothing else computes it quickly here. */
export const checksumC: ((bytes: Uint8Array) => number) | null = loadNative('crc32c');
