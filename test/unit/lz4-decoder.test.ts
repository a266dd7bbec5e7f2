import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import wabt from 'wabt';
import { KIB, MIB } from '../../src/base/units.ts';
import { lz4Compress } from '../../src/base/lz4.ts';
import { lz4Decode, lz4DecoderBinary } from '../../src/base/lz4-decoder.ts';
import { SeededRandom } from '../sim/random.ts';
import { PLAIN_OFFSET, buildPieces, canary, decodedElsewhere, pieces, rawDecoder, referenceDecode } from '../support/lz4-reference.ts';

test('the module is what its source says, and needs no SIMD instructions', async () => {
  const source = readFileSync(new URL('../../src/base/lz4-decoder.wat', import.meta.url), 'utf8');
  expect(source).not.toMatch(/v128/u);
  const assembled = (await wabt()).parseWat('lz4-decoder.wat', source, { bulk_memory: true });
  assembled.validate();
  expect(Buffer.compare(lz4DecoderBinary(), assembled.toBinary({}).buffer)).toBe(0);
});

describe('what was compressed', () => {
  test('comes back, whole and as far as it is wanted, as another decoder has it', () => {
    fc.assert(
      fc.property(pieces, fc.nat(), (parts, cut) => {
        const plain = buildPieces(parts);
        const stored = lz4Compress(plain);
        expect(Buffer.compare(lz4Decode(stored, plain.length) ?? Buffer.alloc(0), plain)).toBe(0);
        expect(Buffer.compare(decodedElsewhere(stored, plain.length), plain)).toBe(0);
        const wanted = cut % (plain.length + 1);
        const part = lz4Decode(stored, plain.length, wanted) ?? Buffer.alloc(0);
        expect(part.length).toBeGreaterThanOrEqual(wanted);
        expect(Buffer.compare(part, plain.subarray(0, part.length))).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  test.each([1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 255, 4096])('comes back where it repeats itself every %i bytes', (period) => {
    const plain = Buffer.alloc(64 * KIB, Buffer.from(Array.from({ length: period }, (_, i) => (i * 37 + 11) % 256)));
    expect(Buffer.compare(lz4Decode(lz4Compress(plain), plain.length) ?? Buffer.alloc(0), plain)).toBe(0);
  });

  test('may be 1 MiB, and no more is asked for', () => {
    const plain = Buffer.alloc(MIB, 'ab');
    expect(Buffer.compare(lz4Decode(lz4Compress(plain), MIB) ?? Buffer.alloc(0), plain)).toBe(0);
    expect(lz4Decode(new Uint8Array(MIB + 1), MIB)).toBeNull();
    expect(() => lz4Decode(new Uint8Array(10), MIB + 1)).toThrow(/more than the decoder has room for/);
    expect(() => lz4Decode(new Uint8Array(10), 10, 11)).toThrow(/more than the decoder has room for/);
  });
});

describe('what is no block', () => {
  test('at any byte that is changed: null, or as many bytes as were asked for, and never one of an earlier block', () => {
    const secret = Buffer.alloc(64 * KIB, 'SECRET!');
    const plain = Buffer.concat(Array.from({ length: 60 }, (_, i) => Buffer.from(`line ${i % 7}: ${i * i}, `)));
    const stored = lz4Compress(plain);
    for (let at = 0; at < stored.length; at += 1) {
      for (const bit of [0, 3, 4, 7]) {
        const damaged = stored.slice();
        damaged[at] ^= 1 << bit;
        lz4Decode(lz4Compress(secret), secret.length);
        const found = lz4Decode(damaged, plain.length);
        if (found === null) continue;
        expect(found.length).toBe(plain.length);
        expect(Buffer.from(found).includes('SECRET'), `byte ${at}`).toBe(false);
      }
      expect(lz4Decode(stored.subarray(0, at), plain.length), `cut at ${at}`).toBeNull();
    }
  });

  test.each<readonly [string, readonly number[], number]>([
    ['nothing', [], 4],
    ['a match at offset 0', [0x40, 1, 2, 3, 4, 0, 0, 0x10, 9], 9],
    ['a match before the beginning', [0x10, 1, 5, 0, 0x10, 9], 6],
    ['more literals than there are bytes', [0xf0, 200, 1, 2, 3], 218],
    ['more literals than were asked for', [0x40, 1, 2, 3, 4], 3],
    ['a longer match than was asked for', [0x4f, 1, 2, 3, 4, 1, 0, 255, 255, 0, 0x10, 9], 100],
    ['fewer bytes than were asked for', [0x40, 1, 2, 3, 4], 5],
    ['a length without an end', [0xf0, 255, 255], 1000],
    ['a match length without an end', [0x4f, 1, 2, 3, 4, 1, 0, 255], 1000],
    ['half an offset', [0x40, 1, 2, 3, 4, 1], 8],
    ['no literals at its end', [0x40, 1, 2, 3, 4, 1, 0], 8],
  ])('%s', (_, bytes, plainBytes) => {
    expect(lz4Decode(Uint8Array.from(bytes), plainBytes)).toBeNull();
  });

  test('noise', () => {
    const random = new SeededRandom(5);
    for (let round = 0; round < 3000; round += 1) {
      const bytes = Buffer.alloc(random.between(1, 300));
      random.fill(bytes);
      const plainBytes = random.between(1, MIB);
      const wanted = random.chance(0.5) ? plainBytes : random.below(plainBytes);
      const length = lz4Decode(bytes, plainBytes, wanted)?.length ?? null;
      expect(length === null || (length >= wanted && length <= plainBytes)).toBe(true);
    }
  });
});

/** Sequences of literals and a match, of lengths about those at which their encoding changes. */
const lengths = fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constantFrom(14, 15, 16, 18, 19, 20, 269, 270, 271, 273, 274, 275), fc.nat(2000));
const sequences = fc.array(fc.record({ literals: lengths, offset: fc.oneof(fc.nat(40), fc.nat(65_535)), match: lengths }), { maxLength: 12 });
const damage = fc.record({ cut: fc.nat(), flips: fc.array(fc.record({ at: fc.nat(), value: fc.nat(255) }), { maxLength: 3 }), isCut: fc.boolean() });

function lengthBytes(length: number): number[] {
  return length < 15 ? [] : [...Array<number>(Math.floor((length - 15) / 255)).fill(255), (length - 15) % 255];
}

function encode(parts: readonly { readonly literals: number; readonly offset: number; readonly match: number }[]): number[] {
  const bytes = parts.flatMap(({ literals, offset, match }, index) => {
    const token = Math.min(15, literals) * 16 + Math.min(15, match);
    return [token, ...lengthBytes(literals), ...Array.from({ length: literals }, (_, i) => (index * 31 + i * 7) % 256), offset % 256, offset >> 8, ...lengthBytes(match)];
  });
  return [...bytes, 0x50, 1, 2, 3, 4, 5];
}

describe('whatever is put before the decoder', () => {
  const raw = rawDecoder();

  /** Decodes in memory full of one value; throws if the decoder has written where it must not. Gives what the reference has to give. */
  function decodeWatched(stored: Uint8Array, stop: number, plainBytes: number): Uint8Array | null {
    raw.memory.set(canary);
    raw.memory.set(stored, 0);
    const count = raw.decode(stored.length, stop, plainBytes);
    expect(Buffer.compare(raw.memory.subarray(0, stored.length), stored), 'the block is as it was').toBe(0);
    for (const [from, to] of [[stored.length, PLAIN_OFFSET], [PLAIN_OFFSET + plainBytes + 16, raw.memory.length]]) {
      expect(Buffer.compare(raw.memory.subarray(from, to), canary.subarray(from, to)), `bytes ${from} to ${to} are untouched`).toBe(0);
    }
    return count < 0 ? null : raw.memory.subarray(PLAIN_OFFSET, PLAIN_OFFSET + count);
  }

  test('is taken and refused as a decoder does that copies byte by byte, and nothing is written beyond its place', () => {
    let taken = 0;
    let refused = 0;
    fc.assert(
      fc.property(sequences, damage, fc.integer({ min: -3, max: 3 }), fc.nat(), fc.boolean(), (parts, { cut, flips, isCut }, more, stop, isPart) => {
        const bytes = encode(parts);
        for (const { at, value } of flips) bytes[at % bytes.length] = value;
        const stored = Uint8Array.from(isCut ? bytes.slice(0, cut % (bytes.length + 1)) : bytes);
        const whole = 5 + parts.reduce((sum, { literals, match }) => sum + literals + match + 4, 0);
        const plainBytes = Math.max(0, whole + more);
        const end = isPart ? stop % (plainBytes + 1) : plainBytes + 1;
        const expected = referenceDecode(stored, end, plainBytes);
        const found = decodeWatched(stored, end, plainBytes);
        expect(found === null ? null : Buffer.from(found).toString('hex')).toBe(expected === null ? null : Buffer.from(expected).toString('hex'));
        if (found === null) refused += 1;
        else taken += 1;
      }),
      { numRuns: 3000 },
    );
    expect(Math.min(taken, refused)).toBeGreaterThan(100);
  });

  test.each([1, 15, 16, 17, 65_534, 65_535, MIB - 1, MIB])('may be %i bytes of the highest value, or of zeroes: nothing is read or written beyond', (length) => {
    for (const value of [0xff, 0, 0xf0, 0x0f]) {
      const stored = new Uint8Array(length).fill(value);
      for (const plainBytes of [0, 1, 65_536, MIB]) expect(decodeWatched(stored, plainBytes + 1, plainBytes), `${value} for ${plainBytes}`).toEqual(referenceDecode(stored, plainBytes + 1, plainBytes));
    }
  });

  test('fills all of its room, by literals and by each kind of match, and not a byte more', () => {
    for (const offset of [1, 2, 7, 8, 9, 15, 16, 17, 255]) {
      for (const plainBytes of [MIB, MIB - 1, MIB - 13]) {
        const [literals, last] = [300, 5];
        const stored = Uint8Array.from(encode([{ literals, offset, match: plainBytes - literals - last - 4 }]));
        expect(decodeWatched(stored, plainBytes + 1, plainBytes)?.length).toBe(plainBytes);
        expect(Buffer.compare(decodeWatched(stored, plainBytes + 1, plainBytes) ?? Buffer.alloc(0), referenceDecode(stored, plainBytes + 1, plainBytes) ?? Buffer.alloc(0))).toBe(0);
        expect(decodeWatched(stored, plainBytes, plainBytes - 1)).toBeNull();
      }
    }
  });
});
