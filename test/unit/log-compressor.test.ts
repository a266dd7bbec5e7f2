import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { lz4Compress } from '../../src/base/lz4.ts';
import { lz4Decode } from '../../src/base/lz4-decoder.ts';
import { LOG_COMPRESSIONS } from '../../src/base/settings-types.ts';
import { LOG_VERSION, RECORD_CODEC, RECORD_HEADER_BYTES } from '../../src/format/log-record.ts';
import { NoiseTest } from '../../src/base/noise.ts';
import { LogCompressor } from '../../src/wal/log-compressor.ts';
import { BLOCK_BYTES, pattern } from '../support/engine-harness.ts';
import { FakeFile } from '../support/fake-world.ts';
import { LogHarness, ONE_BLOCK_RECORD_BYTES, compressible, recover } from '../support/log-harness.ts';

const PACKED = { content: compressible, settings: { logCompress: 'lz4' } } as const;
const SLOW_MS = 5;

/** Noise of 7 bits a byte, which the noise test lets pass, but for a part that is zeroes. */
function shrinkingBy(part: number): Uint8Array {
  const bytes = pattern(5, 4).map((byte) => byte & 0x7f);
  return bytes.fill(0, 0, Math.floor(bytes.length * part));
}

function everyOtherCompressible(seed: number, blockCount: number): Uint8Array {
  return (seed % 2 === 0 ? compressible : pattern)(seed, blockCount);
}

describe('an LZ4 block', () => {
  test('gives back what went in, also from shared memory', () => {
    const bytes = fc.array(fc.tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 1, max: 700 })), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(bytes, (runs) => {
        const plain = Buffer.concat(runs.map(([value, length], index) => (index % 3 === 0 ? Buffer.from(pattern(value)).subarray(0, length) : Buffer.alloc(length, value))));
        const shared = new Uint8Array(new SharedArrayBuffer(plain.length));
        shared.set(plain);
        const stored = lz4Compress(plain);
        expect(Buffer.compare(lz4Compress(shared), stored)).toBe(0);
        expect(Buffer.compare(lz4Decode(stored, plain.length) ?? Buffer.alloc(0), plain)).toBe(0);
      }),
    );
  });

  test('does not stand for another number of bytes', () => {
    const stored = lz4Compress(compressible(1, 1));
    for (const length of [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES + 1, 2 * BLOCK_BYTES]) expect(lz4Decode(stored, length), `${length} bytes`).toBeNull();
    expect(lz4Decode(stored.subarray(0, stored.length - 1), BLOCK_BYTES)).toBeNull();
  });
});

describe('the noise test', () => {
  const noise = new NoiseTest();

  test('takes noise for noise, nearly always', () => {
    const found = Array.from({ length: 200 }, (_, seed) => noise.isNoise(pattern(seed + 1, 1 + (seed % 32)))).filter(Boolean);
    expect(found.length).toBeGreaterThan(180);
  });

  test.each([[4096, false], [4096, true], [65536, true]])('looks at blocks of %i bytes where they are, noise being likely: %j', (blockBytes, isLikely) => {
    const bytes = 65536;
    const areNoise = (payload: Uint8Array): boolean => noise.gradeOf(bytes / blockBytes, blockBytes, (index) => payload.subarray(index * blockBytes, (index + 1) * blockBytes), isLikely ? 'noise' : 'other') === 'noise';
    const found = Array.from({ length: 100 }, (_, seed) => areNoise(pattern(seed + 1, bytes / BLOCK_BYTES))).filter(Boolean);
    expect(found.length).toBeGreaterThan(90);
    expect(areNoise(Buffer.alloc(bytes, 'the quick brown fox, '))).toBe(false);
    expect(areNoise(Buffer.concat([pattern(4, bytes / 2 / BLOCK_BYTES), Buffer.alloc(bytes / 2)]))).toBe(false);
  });

  test.each([
    ['zeroes in each 512 bytes', compressible(3, 32)],
    ['text', Buffer.alloc(BLOCK_BYTES, 'the quick brown fox jumps over the lazy dog, ')],
    ['noise in one half, zeroes in the other', Buffer.concat([pattern(4, 4), Buffer.alloc(4 * BLOCK_BYTES)])],
  ])('has no word against %s', (_, bytes) => {
    expect(noise.isNoise(bytes)).toBe(false);
  });
});

describe('a compressor', () => {
  test('stores what does not shrink by a tenth as it is', () => {
    const compressor = new LogCompressor('lz4');
    expect([0, 0.08, 0.15].map((part) => compressor.compress(shrinkingBy(part)) !== null)).toEqual([false, false, true]);
    expect(compressor.compress(compressible(5, 4))?.length).toBeLessThan(4 * BLOCK_BYTES * 0.5);
  });

  test('leaves payloads alone that a reader would have to make too much room for', () => {
    const compressor = new LogCompressor('lz4');
    expect(compressor.compress(compressible(6, 256))).not.toBeNull();
    expect(compressor.compress(compressible(6, 257))).toBeNull();
  });

  test('that is off does nothing', () => {
    const compressor = new LogCompressor('off');
    for (let i = 0; i < 100; i += 1) compressor.synced(SLOW_MS, 4096);
    expect([compressor.isUsed, compressor.compress(compressible(7, 1))]).toEqual([false, null]);
  });

  test('on auto begins when syncs are slow, and ends when they are fast again', () => {
    const compressor = new LogCompressor('auto');
    const active = (): boolean => compressor.compress(compressible(8, 1)) !== null;
    const after = (count: number, elapsedMs: number, bytes: number): boolean => {
      for (let i = 0; i < count; i += 1) compressor.synced(elapsedMs, bytes);
      return active();
    };
    expect(active()).toBe(false);
    // Slow because they bring much to a fast disk.
    expect(after(20, 10, 8 * 1024 * 1024)).toBe(false);
    expect(after(7, SLOW_MS, 32 * 4096)).toBe(false);
    expect(after(1, SLOW_MS, 32 * 4096)).toBe(true);
    expect(after(7, 0.1, 4096)).toBe(true);
    expect(after(1, 0.1, 4096)).toBe(false);
  });
});

describe('a log', () => {
  test.each(LOG_COMPRESSIONS)('with compression %s says in its header whether there may be compressed records', (logCompress) => {
    const harness = new LogHarness({ settings: { logCompress } });
    harness.writeRecords(1);
    expect(harness.files[0].bytes.readUInt32LE(8)).toBe(logCompress === 'off' ? LOG_VERSION.PLAIN : LOG_VERSION.COMPRESSED);
  });

  test('of compressed records is shorter, and recovery gives back what was written', async () => {
    const harness = new LogHarness({ ...PACKED, fileBytes: 512 * 1024 });
    for (const [blockNumber, blockCount] of [[0, 1], [5, 3], [40, 32], [9, 1]]) harness.append(blockNumber, blockCount);
    harness.log.appendZero(100, 3, false);
    harness.append(7, 2);
    harness.log.submit();
    expect(harness.log.appendedBytes).toBeLessThan(0.5 * 39 * BLOCK_BYTES);
    expect(harness.files[0].bytes[4096 + 6]).toBe(RECORD_CODEC.LZ4);
    const { replayed, lastLsn } = await recover(harness.files, { content: compressible });
    expect([lastLsn, replayed.map(({ blockCount }) => blockCount)]).toEqual([6, [1, 3, 32, 1, 3, 2]]);
  });

  test('mixes records that compress with records that do not', async () => {
    const harness = new LogHarness({ ...PACKED, content: everyOtherCompressible });
    harness.writeRecords(12);
    const { replayed } = await recover(harness.files, { content: everyOtherCompressible });
    expect(replayed.map(({ lsn }) => lsn)).toEqual(Array.from({ length: 12 }, (_, index) => index + 1));
    expect(harness.log.appendedBytes).toBeGreaterThan(6 * ONE_BLOCK_RECORD_BYTES);
    expect(harness.log.appendedBytes).toBeLessThan(9 * ONE_BLOCK_RECORD_BYTES);
  });

  test('goes round its ring with compressed records of any length', async () => {
    const harness = new LogHarness({ ...PACKED, fileBytes: 64 * 1024 });
    for (let record = 0; record < 200; record += 1) {
      if (!harness.log.hasRoom(4)) harness.log.recycleTo(harness.log.lastLsn - 4);
      harness.append(record, 1 + (record % 4));
      harness.log.submit();
    }
    const { lastLsn } = await recover(harness.files, { content: compressible, chunkedLsn: 196 });
    expect(lastLsn).toBe(200);
  });

  test('ends at a compressed record that is torn or rotten at any byte, and before it nothing is lost', async () => {
    const harness = new LogHarness(PACKED);
    harness.append(0);
    harness.append(1, 2);
    harness.log.submit();
    const whole = Buffer.from(harness.files[0].bytes);
    const second = whole.indexOf('BLR1', 4096 + 8, 'latin1');
    const stored = whole.readUInt32LE(second + 48);
    const end = second + RECORD_HEADER_BYTES + 8 + stored;
    const lastLsnOf = async (bytes: Buffer): Promise<number> => {
      const files = harness.files.map(() => new FakeFile());
      files[0].replace(bytes);
      return (await recover(files, { content: compressible })).lastLsn;
    };
    expect(await lastLsnOf(whole)).toBe(2);
    for (let at = second; at < end; at += 7) {
      const rotten = Buffer.from(whole);
      rotten[at] ^= 1 << at % 8;
      expect(await lastLsnOf(rotten), `byte ${at} flipped`).toBe(1);
      expect(await lastLsnOf(whole.subarray(0, at)), `cut at byte ${at}`).toBe(1);
    }
  });

  test('of version 1 has no compressed record that counts', async () => {
    const harness = new LogHarness(PACKED);
    harness.writeRecords(2);
    const plain = new LogHarness({ content: compressible });
    plain.writeRecords(2);
    const mixed = Buffer.from(harness.files[0].bytes);
    plain.files[0].bytes.copy(mixed, 0, 0, 4096);
    harness.files[0].replace(mixed);
    const { lastLsn, end } = await recover(harness.files, { content: compressible });
    expect(lastLsn).toBe(0);
    expect(end).toMatch(/compressed record in a log of version 1$/);
  });
});
