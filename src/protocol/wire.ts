/**
 * Integers of the wire: big-endian, read from and written to a byte array at an offset. No DataView: it would have to
 * be made for each buffer, and plain indexing compiles to the same loads. The caller has checked that the bytes are there.
 */

export function readU16(source: Uint8Array, at: number): number {
  return (source[at] << 8) | source[at + 1];
}

export function readU32(source: Uint8Array, at: number): number {
  return ((source[at] << 24) | (source[at + 1] << 16) | (source[at + 2] << 8) | source[at + 3]) >>> 0;
}

const TWO_TO_32 = 0x1_0000_0000;
const UNSAFE_HIGH_HALF = 0x20_0000; // 2^53 / 2^32

/**
 * A 64-bit offset or size as a number. Values of 2^53 and above, which a number cannot hold exactly, come back as Infinity:
 * every bounds check refuses that, since no volume is larger than 2^53-1 bytes.
 */
export function readU64(source: Uint8Array, at: number): number {
  const high = readU32(source, at);
  if (high >= UNSAFE_HIGH_HALF) return Number.POSITIVE_INFINITY;
  return high * TWO_TO_32 + readU32(source, at + 4);
}

export function writeU16(target: Uint8Array, at: number, value: number): void {
  target[at] = value >>> 8;
  target[at + 1] = value;
}

export function writeU32(target: Uint8Array, at: number, value: number): void {
  target[at] = value >>> 24;
  target[at + 1] = value >>> 16;
  target[at + 2] = value >>> 8;
  target[at + 3] = value;
}

/** `value` is a safe integer. */
export function writeU64(target: Uint8Array, at: number, value: number): void {
  writeU32(target, at, Math.floor(value / TWO_TO_32));
  writeU32(target, at + 4, value % TWO_TO_32);
}

export const COOKIE_BYTES = 8;

/** Copies the 8 bytes of a cookie. They are the client's: nothing here ever makes a number of them. */
export function copyCookie(source: Uint8Array, sourceAt: number, target: Uint8Array, targetAt: number): void {
  for (let index = 0; index < COOKIE_BYTES; index += 1) target[targetAt + index] = source[sourceAt + index];
}
