/** The one checksum of basalt: CRC-32 as zlib computes it (IEEE 802.3, reflected). */
import { crc32 } from 'node:zlib';

/** CRC-32 of `bytes`, or of all that gave `previous` followed by `bytes`. */
export function checksum(bytes: Uint8Array, previous = 0): number {
  return crc32(bytes, previous);
}

/** A checksum as people read it: eight hexadecimal digits. */
export function formatChecksum(value: number): string {
  return (value >>> 0).toString(16).padStart(8, '0');
}
