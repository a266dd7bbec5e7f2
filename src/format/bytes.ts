/**
 * Little-endian fields of on-disk layouts. A 64-bit field holds a safe integer: it is written and read as two halves,
 * and a value of 2^53 or more is refused when read.
 */
import { VolumeError } from '../base/errors.ts';

const TWO_32 = 2 ** 32;

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function writeU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value % TWO_32, true);
  view.setUint32(offset + 4, Math.floor(value / TWO_32), true);
}

/** The value, or -1 if it is 2^53 or more: no valid layout holds such a one. */
export function readU64(view: DataView, offset: number): number {
  const high = view.getUint32(offset + 4, true);
  if (high >= 2 ** 21) return -1;
  return high * TWO_32 + view.getUint32(offset, true);
}

/** A damaged structure: what it is, where, what stands there and what was expected. */
export function corrupt(what: string, detail: string, offsetBytes: number): VolumeError {
  return new VolumeError('corrupt', `${what}: ${detail}, at byte ${offsetBytes}; nothing was changed`, { context: { what, offsetBytes } });
}

export function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

/** Length rounded up to a multiple of 8: where the next structure begins. */
export function align8(length: number): number {
  return Math.ceil(length / 8) * 8;
}
