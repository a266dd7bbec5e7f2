import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import wabt from 'wabt';
import { instantiate } from '../../src/base/assembled.ts';
import { lz4Compress } from '../../src/base/lz4.ts';
import { lz4Decode } from '../../src/base/lz4-decoder.ts';
import { lz4Encode, lz4EncoderBinary } from '../../src/base/lz4-encoder.ts';
import { KIB } from '../../src/base/units.ts';
import { SeededRandom } from '../sim/random.ts';
import { buildPieces, decodedElsewhere, pieces, referenceDecode } from '../support/lz4-reference.ts';

const BLOCK_OFFSET = 327_680;
const MAX_BYTES = 64 * KIB;

test('the module is what its source says, and needs no SIMD instructions', async () => {
  const source = readFileSync(new URL('../../src/base/lz4-encoder.wat', import.meta.url), 'utf8');
  expect(source).not.toMatch(/v128/u);
  const assembled = (await wabt()).parseWat('lz4-encoder.wat', source, { bulk_memory: true });
  assembled.validate();
  expect(Buffer.compare(lz4EncoderBinary(), assembled.toBinary({}).buffer)).toBe(0);
});

/** Of noise the block is longer than it, and for the longest of it there is no room. */
const isTooLong = (plain: Uint8Array): boolean => plain.length > MAX_BYTES - 300 && lz4Encode(plain, MAX_BYTES) === null;

function expectRound(plain: Uint8Array): void {
  const stored = lz4Encode(plain, MAX_BYTES);
  if (stored === null) throw new Error(`${plain.length} bytes take more than ${MAX_BYTES}`);
  expect(Buffer.compare(referenceDecode(stored, plain.length + 1, plain.length) ?? Buffer.alloc(0), plain)).toBe(0);
  expect(Buffer.compare(lz4Decode(stored, plain.length) ?? Buffer.alloc(0), plain)).toBe(0);
  expect(Buffer.compare(decodedElsewhere(stored, plain.length), plain)).toBe(0);
}

test('what was encoded comes back, from this decoder and from others', () => {
  fc.assert(fc.property(pieces, (parts) => expectRound(buildPieces(parts).subarray(0, MAX_BYTES - 300))), { numRuns: 300 });
});

test('any length comes back, of one byte, of noise, and of what repeats itself', () => {
  const random = new SeededRandom(7);
  const noise = Uint8Array.from({ length: MAX_BYTES }, () => random.below(256));
  const lengths = [...Array.from({ length: 80 }, (_, length) => length), 254, 255, 256, 269, 270, 271, 525, 4096, 32_768, MAX_BYTES - 1, MAX_BYTES];
  for (const length of lengths) {
    for (const plain of [new Uint8Array(length).fill(7), noise.subarray(0, length), noise.map((_, at) => noise[at % 13]).subarray(0, length)]) {
      if (!isTooLong(plain)) expectRound(plain);
    }
  }
});

test('a match reaches back to the first byte of 64 KiB', () => {
  const random = new SeededRandom(8);
  const plain = new Uint8Array(MAX_BYTES);
  for (let at = 0; at < 1024; at += 1) plain[at] = random.below(256);
  plain.copyWithin(MAX_BYTES - 1024, 0, 1024);
  expect(lz4Encode(plain, MAX_BYTES)?.length).toBeLessThan(1024 + MAX_BYTES / 255 + 50);
  expectRound(plain);
});

test('no match begins in the last 12 bytes or has any of the last 5', () => {
  for (const length of [12, 13, 14, 17, 64]) {
    const stored = lz4Encode(new Uint8Array(length), MAX_BYTES) ?? new Uint8Array(0);
    expect([...stored.subarray(-6)], `${length}`).toEqual(length < 13 ? [0, 0, 0, 0, 0, 0] : [0x50, 0, 0, 0, 0, 0]);
    expectRound(new Uint8Array(length));
  }
});

test('a block is as long as it may be, or there is none', () => {
  const plain = readFileSync(new URL('../../package-lock.json', import.meta.url)).subarray(0, 32 * KIB);
  const { length = 0 } = lz4Encode(plain, MAX_BYTES) ?? {};
  for (let most = length + 20; most > length - 20; most -= 1) expect(lz4Encode(plain, most)?.length ?? 0).toBeLessThanOrEqual(most);
  expect(lz4Encode(plain, length + 300)?.length).toBe(length);
  expect(lz4Encode(plain, length - 1)).toBeNull();
});

test('text takes a tenth less than with the encoder that is quick', () => {
  const plain = Buffer.concat(['lz4-encoder', 'arena', 'units'].map((name) => readFileSync(new URL(`../../src/base/${name}.ts`, import.meta.url)))).subarray(-8 * KIB);
  expect(lz4Encode(plain, MAX_BYTES)?.length).toBeLessThan(0.93 * lz4Compress(plain).length);
});

test('what was encoded before leaves nothing in a block', () => {
  const plain = Uint8Array.from({ length: 5000 }, (_, at) => (at * at) >> 7);
  const blocks = [0, 0xa5].map((rest) => {
    const { memory, run } = instantiate(lz4EncoderBinary(), 'encode');
    memory.fill(rest);
    memory.set(plain, 0);
    const count = Number(run(plain.length, 4, MAX_BYTES));
    expect(memory.subarray(plain.length, 2 * MAX_BYTES).every((byte) => byte === rest)).toBe(true);
    expect(memory.subarray(BLOCK_OFFSET + count + 16).every((byte) => byte === rest)).toBe(true);
    return Buffer.from(memory.slice(BLOCK_OFFSET, BLOCK_OFFSET + count));
  });
  expect(Buffer.compare(blocks[0], blocks[1])).toBe(0);
});

test('more than it has room for is a mistake of the caller', () => {
  expect(() => lz4Encode(new Uint8Array(MAX_BYTES + 1), 100)).toThrow('more than the encoder has room for');
  expect(() => lz4Encode(new Uint8Array(10), MAX_BYTES + 1)).toThrow('more than the encoder has room for');
});
