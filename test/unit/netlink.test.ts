/** Generic netlink and the kernel's NBD family: golden bytes come from a C program with the kernel's headers, and from a kernel. */
import { describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { decodeConnected, decodeFamily, decodeLinkDead, decodeStatus, encodeConnect, encodeDisconnect, encodeGetFamily, encodeReconfigure, encodeStatus } from '../../src/attach/nbd-netlink.ts';
import { decodeAnswers, decodeAttributes, encodeNested, encodeRequest, encodeString, encodeU32, encodeU64, type NetlinkAnswer, u16Of, u32Of } from '../../src/attach/netlink.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bytesOf = (text: string): Buffer => Buffer.from(text, 'hex');

const GOLDEN = {
  family: '1c00000010000500070000000000000003010000080002006e626400',
  connect:
    '940000001d00050008000000000000000101000008000100030000000c00020000907856341200000c00030000100000000000000c0005006d050000000000000c0004000500000000000000' +
    '0c00080078000000000000001f000a006e62643a2f2f3132372e302e302e313a31303830392f64656d6f00001c0007800c00018008000100150000000c0001800800010016000000',
  reconfigure: '400000001d000500090000000000000003010000080001000300000006000a00780000000c0002000020000000000000100007800c0001800800010015000000',
  disconnect: '1c0000001d0005000a00000000000000020100000800010003000000',
  status: '140000001d0005000b0000000000000005010000',
  devices: '400000001d0000000b00000000000000050100002c00090014000100080001000000000005000200000000001400010008000100010000000500020001000000',
  dead: '1c0000001d0000000000000000000000040100000800010003000000',
  // Of the family nlctrl, which every kernel has, with one multicast group.
  nlctrl:
    '88000000100000000c000000f2620000010200000b0002006e6c6374726c000006000100100000000800030002000000080004000000000008000500000000002c00060014000100080001000300' +
    '0000080002000e00000014000200080001000a000000080002000c0000001c0007001800010008000200100000000b0001006e6f746966790000',
  none: '34000000020000000d000000f2620000feffffff20000000100005000d0000000000000003010000090002006e6f6e6500000000',
};

type Message = NetlinkAnswer & { readonly kind: 'message' };

function message(text: string): Message {
  const [answer, ...others] = decodeAnswers(bytesOf(text));
  expect(others).toEqual([]);
  if (answer.kind !== 'message') throw new Error('an end');
  return answer;
}

describe('requests are those of the kernel’s headers', () => {
  const numbered = { family: 29, sequence: 8 };
  const connect = { index: 3, sizeBytes: 0x1234_5678_9000, blockSizeBytes: 4096, serverFlags: 0x56d, timeoutSeconds: 5, deadTimeoutSeconds: 120, descriptors: [21, 22], backend: 'nbd://127.0.0.1:10809/demo' };

  test('for a family', () => expect(hex(encodeGetFamily(7))).toBe(GOLDEN.family));
  test('to connect', () => expect(hex(encodeConnect(numbered, connect))).toBe(GOLDEN.connect));
  test('to reconfigure', () => expect(hex(encodeReconfigure({ family: 29, sequence: 9 }, { index: 3, backend: 'x', sizeBytes: 8192, descriptors: [21] }))).toBe(GOLDEN.reconfigure));
  test('to disconnect', () => expect(hex(encodeDisconnect({ family: 29, sequence: 10 }, 3))).toBe(GOLDEN.disconnect));
  test('for the status of all', () => expect(hex(encodeStatus({ family: 29, sequence: 11 }))).toBe(GOLDEN.status));

  test('and what is not said is left out', () => {
    const any = encodeConnect(numbered, { ...connect, index: null });
    expect(any.length).toBe(bytesOf(GOLDEN.connect).length - 8);
    expect(decodeAttributes(any.subarray(20)).has(1)).toBe(false);
    const resize = decodeAttributes(encodeReconfigure(numbered, { index: 3, backend: null, sizeBytes: 512 }).subarray(20));
    expect([...resize.keys()]).toEqual([1, 2]);
  });
});

describe('answers', () => {
  test('with the devices', () => expect(decodeStatus(message(GOLDEN.devices))).toEqual([{ index: 0, isConnected: false }, { index: 1, isConnected: true }]));
  test('of a dead connection', () => {
    expect(decodeLinkDead(message(GOLDEN.dead))).toBe(3);
    expect(decodeLinkDead(message(GOLDEN.devices))).toBe(null);
  });
  test('with the device of a connect', () => expect(decodeConnected(message(GOLDEN.dead))).toBe(3));
  test('of a kernel about a family; the group has to be that of NBD', () => {
    expect(decodeFamily(message(GOLDEN.nlctrl))).toEqual({ family: 16, group: null });
    const renamed = GOLDEN.nlctrl.replace('0b0001006e6f7469667900', '0b0001006e62645f6d6300'); // nbd_mc, which is not it
    expect(decodeFamily(message(renamed)).group).toBe(null);
    const nbd = { kind: 'message', family: 16, sequence: 1, command: 1, attributes: decodeAttributes(Buffer.concat([encodeNested(7, [encodeNested(1, [encodeU32(2, 9), encodeString(1, 'nbd_mc_group')])]), Buffer.from('060001001d000000', 'hex')])) } as const;
    expect(decodeFamily(nbd)).toEqual({ family: 29, group: 9 });
  });
  test('of a kernel that has no such family end with its errno', () => {
    expect(decodeAnswers(bytesOf(GOLDEN.none))).toEqual([{ kind: 'end', sequence: 13, errno: 2 }]);
  });
  test('may come several in a datagram', () => {
    const answers = decodeAnswers(bytesOf(GOLDEN.devices + GOLDEN.none));
    expect(answers.map(({ kind, sequence }) => [kind, sequence])).toEqual([['message', 11], ['end', 13]]);
  });

  test.each(['devices', 'dead', 'none', 'nlctrl'] as const)('that are cut short anywhere are refused: %s', (name) => {
    const whole = bytesOf(GOLDEN[name]);
    for (let length = 1; length < whole.length; length += 1) expect(() => decodeAnswers(whole.subarray(0, length)), `${length} bytes`).toThrow(VolumeError);
  });

  test('with lengths that lie are refused, and end the reading', () => {
    for (const [at, value] of [[0, 0], [0, 15], [0, 0xffff], [20, 0], [20, 3], [20, 0xffff]]) {
      const bytes = bytesOf(GOLDEN.devices);
      bytes.writeUInt16LE(value, at);
      expect(() => decodeStatus(message(hex(bytes))), `${value} at ${at}`).toThrow(/not understood/);
    }
  });

  test('without what they are for are refused', () => {
    expect(() => decodeConnected(message(GOLDEN.status.replace('0500', '0000')))).toThrow(/attribute 1 is missing/);
    expect(() => u32Of(decodeAttributes(bytesOf('0600010001000000')), 1)).toThrow(/attribute 1 has 2 bytes, not 4/);
    expect(u16Of(decodeAttributes(bytesOf('0600010001020000')), 1)).toBe(0x201);
  });
});

test('what is encoded is decoded again', () => {
  const attributes = [encodeU32(1, 0xffff_ffff), encodeU64(2, Number.MAX_SAFE_INTEGER), encodeString(3, 'ü'), encodeNested(4, [encodeU32(5, 6)])];
  const [answer] = decodeAnswers(encodeRequest({ family: 30, sequence: 4_000_000_000, command: 9, attributes }));
  if (answer.kind !== 'message') throw new Error('an end');
  expect([answer.family, answer.sequence, answer.command]).toEqual([30, 4_000_000_000, 9]);
  expect(u32Of(answer.attributes, 1)).toBe(0xffff_ffff);
  expect(Buffer.from(answer.attributes.get(2) ?? []).readBigUInt64LE()).toBe(BigInt(Number.MAX_SAFE_INTEGER));
  expect(Buffer.from(answer.attributes.get(3) ?? []).toString()).toBe('ü\0');
  expect(u32Of(decodeAttributes(answer.attributes.get(4) ?? new Uint8Array(0)), 5)).toBe(6);
});
