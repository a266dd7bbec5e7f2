import { describe, expect, test } from 'vitest';
import { parsePskFile } from '../../src/server/tls-credentials.ts';
import { dnsNamesOf, namesOf } from '../../src/server/peer-names.ts';

describe('the names of a certificate', () => {
  test.each<[string, string[]]>([
    ['', []],
    ['DNS:a.example, IP Address:10.0.0.1, DNS:b', ['a.example', 'b']],
    ['DNS:"a.example, DNS:admin"', []],
    ['URI:"http://x/, DNS:admin", DNS:b', ['b']],
    [String.raw`URI:"a\", DNS:admin, \"", DNS:b`, ['b']],
    ['email:a@b, DNS:c', ['c']],
    ['DNS:a, nonsense', []],
    ['DNS:a,DNS:b', []],
  ])('in %j are %j', (list, names) => {
    expect(dnsNamesOf(list)).toEqual(names);
  });

  test('are all of its common names and DNS names', () => {
    const subject = { C: '', ST: '', L: '', O: '', OU: '', CN: 'alice' };
    expect(namesOf({ subject, subjectaltname: 'DNS:a.example' })).toEqual(['alice', 'a.example']);
    expect(namesOf({ subject: { ...subject, CN: '' }, subjectaltname: undefined })).toEqual([]);
    expect(namesOf({ subject: Object.assign({ ...subject }, { CN: ['a', 'b'] }), subjectaltname: undefined })).toEqual(['a', 'b']);
  });
});

describe('a file of keys', () => {
  const hex = '00112233445566778899aabbccddeeff';

  test('has a user and a key in each line', () => {
    const keys = parsePskFile('f', `alice:${hex}\r\n\nbob smith:${hex.toUpperCase()}\n`);
    expect([...keys.keys()]).toEqual(['alice', 'bob smith']);
    expect(Buffer.from(keys.get('alice') ?? []).toString('hex')).toBe(hex);
  });

  test.each([
    ['', 'f holds no keys'],
    ['alice', 'f, line 1: is not USER:HEX'],
    [`:${hex}`, 'f, line 1: is not USER:HEX'],
    ['alice:123', 'f, line 1: is not USER:HEX'],
    ['alice:xy', 'f, line 1: is not USER:HEX'],
    ['alice:1234', 'f, line 1: a key of 2 bytes; from 16 to 512 are possible'],
    [`a:${hex}\na:${hex}`, 'f, line 2: its user has a key already'],
    [`${'u'.repeat(129)}:${hex}`, 'the user is longer than 128 bytes'],
  ])('%j is refused without a word of what it holds', (text, message) => {
    expect(() => parsePskFile('f', text)).toThrow(message);
  });
});
