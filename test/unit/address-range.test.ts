import { BlockList } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseAddress, parseRange, rangeIncludes } from '../../src/base/address-range.ts';

const includes = (range: string, address: string): boolean => {
  const [parsedRange, parsedAddress] = [parseRange(range), parseAddress(address)];
  if (parsedRange === null || parsedAddress === null) throw new Error(`${range} or ${address} is not understood`);
  return rangeIncludes(parsedRange, parsedAddress);
};

describe('an address', () => {
  test.each([
    ['127.0.0.1', '7f000001'],
    ['::', '00000000000000000000000000000000'],
    ['::1', '00000000000000000000000000000001'],
    ['1:2:3:4:5:6:7:8', '00010002000300040005000600070008'],
    ['fe80::1%eth0', 'fe800000000000000000000000000001'],
    ['2001:DB8::ff00:42', '20010db80000000000000000ff000042'],
    ['::ffff:10.1.2.3', '0a010203'],
    ['::ffff:a01:203', '0a010203'],
    ['64:ff9b::10.1.2.3', '0064ff9b00000000000000000a010203'],
  ])('%s is %s', (text, hex) => {
    expect(Buffer.from(parseAddress(text) ?? []).toString('hex')).toBe(hex);
  });

  test.each(['', 'localhost', '1.2.3', '1.2.3.4.5', '01.2.3.4', '256.1.1.1', '1.2.3.-4', ':', ':::', '1::2::3', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '1:2:3:4:5:6:7::8', '12345::', 'g::', '::1.2.3', '1.2.3.4::', '::1/64'])(
    '%j is none',
    (text) => {
      expect(parseAddress(text)).toBeNull();
    },
  );
});

describe('a range', () => {
  test('ends where its prefix ends', () => {
    expect(includes('10.0.0.0/8', '10.255.255.255')).toBe(true);
    expect(includes('10.0.0.0/8', '11.0.0.0')).toBe(false);
    expect(includes('10.0.0.128/25', '10.0.0.128')).toBe(true);
    expect(includes('10.0.0.128/25', '10.0.0.127')).toBe(false);
    expect(includes('10.0.0.1', '10.0.0.2')).toBe(false);
    expect(includes('0.0.0.0/0', '255.1.2.3')).toBe(true);
    expect(includes('::/0', '10.0.0.1')).toBe(false);
    expect(includes('::1', '::1')).toBe(true);
  });

  test('of IPv4 holds those that come as IPv6', () => {
    expect(includes('10.0.0.0/8', '::ffff:10.1.2.3')).toBe(true);
    expect(includes('::ffff:10.0.0.0/104', '10.1.2.3')).toBe(true);
  });

  test.each(['', '/8', '10.0.0.0/', '10.0.0.0/33', '::/129', '10.0.0.1/8', '10.0.0.0/8/8', '::1/64', '10.0.0.0/-1', '::ffff:10.0.0.0/95'])('%j is none', (text) => {
    expect(parseRange(text)).toBeNull();
  });

  test('says the same as Node does', () => {
    const byte = fc.nat(255);
    const ipv4 = fc.tuple(byte, byte, byte, byte).map((bytes) => bytes.join('.'));
    fc.assert(
      fc.property(fc.oneof(ipv4, fc.ipV6()), fc.nat(128), fc.oneof(ipv4, fc.ipV6()), fc.boolean(), (base, prefix, other, same) => {
        const bytes = parseAddress(base);
        if (bytes === null) throw new Error(`${base} is not understood`);
        const bits = Math.min(prefix, bytes.length * 8);
        const masked = bytes.map((value, index) => value & (0xff00 >> Math.max(0, Math.min(8, bits - index * 8))) & 0xff);
        const range = { bytes: masked, prefixBits: bits };
        const list = new BlockList();
        list.addSubnet(base, bits, bytes.length === 4 ? 'ipv4' : 'ipv6');
        const asked = same ? base : other;
        const address = parseAddress(asked);
        if (address === null) throw new Error(`${asked} is not understood`);
        // To Node `::/0` holds all of IPv4 too, which is one way to let in more than one meant.
        fc.pre(asked.includes(':') === (address.length === 16) && base.includes(':') === (bytes.length === 16) && address.length === bytes.length);
        expect(rangeIncludes(range, address)).toBe(list.check(asked, address.length === 4 ? 'ipv4' : 'ipv6'));
      }),
    );
  });
});
