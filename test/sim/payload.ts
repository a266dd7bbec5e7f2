/**
 * What simulated clients write: every 16 bytes say which request wrote them and where on the volume they belong, so a
 * byte that is found in the wrong place or time names its origin.
 */

/** `stamped` compresses well, `noisy` does not, `zero` is a write of zeroes. */
export type PayloadKind = 'stamped' | 'noisy' | 'zero';

const UNIT_BYTES = 16;

/** The bytes that request `requestId` writes at `[offsetBytes, offsetBytes + lengthBytes)` of the volume. */
export function makePayload(kind: PayloadKind, requestId: number, offsetBytes: number, lengthBytes: number): Uint8Array {
  if (kind === 'zero') return new Uint8Array(lengthBytes);
  const firstUnit = Math.floor(offsetBytes / UNIT_BYTES);
  const unitCount = Math.ceil((offsetBytes + lengthBytes) / UNIT_BYTES) - firstUnit;
  const words = new Uint32Array(unitCount * 4);
  let noise = (Math.imul(requestId, 0x9e3779b1) ^ firstUnit) | 1;
  for (let unit = 0; unit < unitCount; unit += 1) {
    const at = unit * 4;
    words[at] = requestId;
    words[at + 1] = firstUnit + unit;
    if (kind === 'noisy') {
      noise ^= noise << 13;
      noise ^= noise >>> 17;
      noise ^= noise << 5;
    }
    words[at + 2] = noise;
    words[at + 3] = ~requestId;
  }
  const start = offsetBytes - firstUnit * UNIT_BYTES;
  return new Uint8Array(words.buffer, start, lengthBytes);
}

/** Says in words whose bytes these are; `offsetBytes` is where on the volume they were found. */
export function describePayload(bytes: Uint8Array, offsetBytes: number): string {
  if (bytes.every((byte) => byte === 0)) return 'zeroes';
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = (UNIT_BYTES - (offsetBytes % UNIT_BYTES)) % UNIT_BYTES;
  for (let at = start; at + UNIT_BYTES <= bytes.length; at += UNIT_BYTES) {
    const requestId = view.getUint32(at, true);
    if (requestId === 0 || view.getUint32(at + 12, true) !== ~requestId >>> 0) continue;
    const home = view.getUint32(at + 4, true) * UNIT_BYTES;
    const place = home === offsetBytes + at ? '' : ` that belong at byte ${home}, not ${offsetBytes + at}`;
    return `bytes of request ${requestId}${place}`;
  }
  return `unknown bytes (${Buffer.from(bytes.subarray(0, 8)).toString('hex')}...)`;
}
