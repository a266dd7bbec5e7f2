/** What the LZ4 decoder is compared with: one that copies byte by byte, and the module itself in memory that can be looked at. */
import fc from 'fast-check';
import { decompress } from 'lz4-wasm-nodejs';
import { MIB } from '../../src/base/units.ts';
import { lz4DecoderBinary } from '../../src/base/lz4-decoder.ts';
import { SeededRandom } from '../sim/random.ts';

/** Where the module puts what a block stands for. */
export const PLAIN_OFFSET = MIB + 65_536;
const MEMORY_BYTES = 34 * 65_536;
/** What memory is full of before anything is decoded. */
export const canary = new Uint8Array(MEMORY_BYTES).fill(0xa5);

declare const WebAssembly: {
  readonly Module: new (binary: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: { readonly memory: { readonly buffer: ArrayBuffer }; readonly decode: (sourceBytes: number, stop: number, plainBytes: number) => number } };
};

export function rawDecoder(): { readonly memory: Uint8Array; readonly decode: (sourceBytes: number, stop: number, plainBytes: number) => number } {
  const { memory, decode } = new WebAssembly.Instance(new WebAssembly.Module(lz4DecoderBinary())).exports;
  return { memory: new Uint8Array(memory.buffer), decode };
}

/** As the module's source says of `decode`; null where that is -1. */
export function referenceDecode(stored: Uint8Array, stop: number, plainBytes: number): Uint8Array | null {
  const plain = new Uint8Array(plainBytes);
  let at = 0;
  let count = 0;
  const longLength = (short: number): number | null => {
    let length = short;
    for (let byte = short === 15 ? 255 : 0; byte === 255; ) {
      if (at >= stored.length) return null;
      byte = stored[at];
      at += 1;
      length += byte;
    }
    return length;
  };
  for (;;) {
    if (at >= stored.length) return null;
    const token = stored[at];
    at += 1;
    const literals = longLength(token >> 4);
    if (literals === null || literals > stored.length - at || literals > plainBytes - count) return null;
    for (let i = 0; i < literals; i += 1) plain[count + i] = stored[at + i];
    at += literals;
    count += literals;
    if (at === stored.length || count >= stop) return plain.subarray(0, count);
    if (stored.length - at < 2) return null;
    const offset = stored[at] + stored[at + 1] * 256;
    at += 2;
    if (offset === 0 || offset > count) return null;
    const matched = longLength(token & 15);
    if (matched === null || matched + 4 > plainBytes - count) return null;
    for (let i = 0; i < matched + 4; i += 1) plain[count + i] = plain[count + i - offset];
    count += matched + 4;
    if (count >= stop) return plain.subarray(0, count);
  }
}

/** By the decoder that did this work before, which is none of ours. */
export function decodedElsewhere(stored: Uint8Array, plainBytes: number): Uint8Array {
  const framed = Buffer.alloc(4 + stored.length);
  framed.writeUInt32LE(plainBytes, 0);
  framed.set(stored, 4);
  return decompress(framed);
}

/** Pieces of noise, runs of one byte, patterns of some bytes, and repetitions of what was there before, near and far. */
export const pieces = fc.array(
  fc.record({ kind: fc.constantFrom('noise', 'run', 'pattern', 'again'), length: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 5000 })), value: fc.nat(255), back: fc.nat(70_000) }),
  { minLength: 1, maxLength: 40 },
);

export function buildPieces(parts: readonly { readonly kind: string; readonly length: number; readonly value: number; readonly back: number }[]): Buffer {
  const bytes: number[] = [];
  const random = new SeededRandom(parts.length);
  for (const { kind, length, value, back } of parts) {
    const from = Math.max(0, bytes.length - back);
    for (let i = 0; i < length; i += 1) {
      const seen = bytes[from + i] ?? value;
      bytes.push({ noise: random.below(256), run: value, pattern: i % ((value % 20) + 2), again: seen }[kind] ?? 0);
    }
  }
  return Buffer.from(bytes);
}
