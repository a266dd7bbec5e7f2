import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CHECKSUM_IMPLEMENTATIONS, checksum, formatChecksum, shortChecksum } from '../../src/base/checksum.ts';

test('the check value of CRC-32 is right in every implementation', () => {
  for (const crc32 of CHECKSUM_IMPLEMENTATIONS.values()) expect(crc32(Buffer.from('123456789'))).toBe(0xcbf43926);
  expect(formatChecksum(0xbf43926)).toBe('0bf43926');
});

test('all implementations agree, whole and continued, on private and on shared memory', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5000 }), fc.nat(5000), (bytes, cut) => {
      const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
      shared.set(bytes);
      const at = Math.min(cut, bytes.length);
      for (const crc32 of CHECKSUM_IMPLEMENTATIONS.values()) {
        expect(shortChecksum(bytes, at, bytes.length, shortChecksum(bytes, 0, at))).toBe(checksum(bytes));
        expect(crc32(shared.subarray(at), crc32(shared.subarray(0, at)))).toBe(checksum(bytes));
      }
    }),
  );
});
