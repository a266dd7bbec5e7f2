/** The client's side of the handshake, against the session of our own server and bytes of others. */
import { describe, expect, test } from 'vitest';
import { ClientHandshake, type ExportTerms, GOODBYE } from '../../src/protocol/client-handshake.ts';
import { NBD_OPT_GO, NBD_REP_ACK, NBD_REP_ERR_POLICY, NBD_REP_ERR_SHUTDOWN, NBD_REP_ERR_TLS_REQD, NBD_REP_ERR_UNKNOWN, NBD_REP_ERR_UNSUP, NBD_REP_INFO } from '../../src/protocol/constants.ts';
import { encodeAck, encodeGreeting, encodeInfoBlockSize, encodeInfoExport, encodeOptionError, encodeOptionReply } from '../../src/protocol/negotiation.ts';

const GREETING = encodeGreeting();
const sizes = { minimumBytes: 1, preferredBytes: 4096, maximumBytes: 33_554_432 };
const answer = [encodeInfoExport(NBD_OPT_GO, 1024 ** 4, 0x16d), encodeInfoBlockSize(NBD_OPT_GO, sizes), encodeAck(NBD_OPT_GO)];

function run(parts: readonly Uint8Array[], handshake = new ClientHandshake({ exportName: 'demo', purpose: 'go' })): { readonly sent: Buffer; readonly terms: ExportTerms | null } {
  const sent = parts.map((part) => handshake.receive(part)).filter((bytes) => bytes !== null);
  return { sent: Buffer.concat(sent), terms: handshake.terms };
}

/** Client flags 3; IHAVEOPT, GO, 12 bytes: length 4, "demo", one info, block sizes. */
const REQUEST = '0000000349484156454f5054000000070000000c0000000464656d6f00010003';

test('asks for the export with block sizes, and for nothing else', () => {
  const { sent, terms } = run([GREETING, ...answer]);
  expect(sent.toString('hex')).toBe(REQUEST);
  expect(terms).toEqual({ sizeBytes: 1024 ** 4, flags: 0x16d, blockSizes: sizes });
});

test('takes bytes one at a time', () => {
  const bytes = [...Buffer.concat([GREETING, ...answer])].map((byte) => Uint8Array.of(byte));
  expect(run(bytes)).toEqual(run([GREETING, ...answer]));
});

test('says NO_ZEROES only to a server that knows it, and takes one that does not tell block sizes', () => {
  const greeting = Uint8Array.from(GREETING);
  greeting[17] = 1;
  const { sent, terms } = run([greeting, answer[0], answer[2]]);
  expect(sent.toString('hex')).toBe(REQUEST.replace('00000003', '00000001'));
  expect(terms?.blockSizes).toBe(null);
});

test('only looks, and says goodbye', () => {
  const handshake = new ClientHandshake({ exportName: '', purpose: 'info' });
  expect(Buffer.from(handshake.receive(GREETING) ?? []).readUInt32BE(12)).toBe(6);
  expect(Buffer.from(GOODBYE).toString('hex')).toBe('49484156454f50540000000200000000');
});

describe('refusals', () => {
  test.each([
    [NBD_REP_ERR_UNKNOWN, 'not-found', 'the server has no export "demo", or not for this client (it says: none)'],
    [NBD_REP_ERR_POLICY, 'denied', 'refuses export "demo" with error 2^31+2 (it says: none)'],
    [NBD_REP_ERR_SHUTDOWN, 'unavailable', 'error 2^31+7'],
    [NBD_REP_ERR_TLS_REQD, 'unsupported', 'wants TLS for export "demo", which the kernel\'s NBD client does not speak'],
    [NBD_REP_ERR_UNSUP, 'unsupported', 'does not know NBD_OPT_GO'],
  ])('%i is %s', (type, code, text) => {
    const refusal = [GREETING, encodeOptionError(NBD_OPT_GO, type, 'none')];
    expect(() => run(refusal)).toThrow(expect.objectContaining({ code }));
    expect(() => run(refusal)).toThrow(text);
  });
});

describe('what is no server is told so', () => {
  const wrong = (at: number, value: number): Uint8Array => Uint8Array.from(GREETING, (byte, index) => (index === at ? value : byte));
  test.each<[string, Uint8Array[]]>([
    ['other bytes', [Buffer.from('HTTP/1.1 400 Bad Request')]],
    ['four other bytes', [Buffer.from('SSH-')]],
    ['an old greeting', [wrong(8, 0)]],
    ['not fixed newstyle', [wrong(17, 2)]],
    ['a reply that begins wrong', [GREETING, Buffer.alloc(20)]],
    ['a reply to another option', [GREETING, encodeAck(3)]],
    ['an end without a size', [GREETING, encodeAck(NBD_OPT_GO)]],
    ['a size that is no safe integer', [GREETING, encodeOptionReply(NBD_OPT_GO, NBD_REP_INFO, Buffer.from('00000020000000000000016d', 'hex'))]],
    ['an endless reply', [GREETING, Buffer.from(encodeAck(NBD_OPT_GO)).fill(0xff, 16)]],
    ['endless replies', [GREETING, ...Array.from({ length: 101 }, () => encodeOptionReply(NBD_OPT_GO, NBD_REP_INFO, new Uint8Array(2)))]],
    ['bytes behind the end', [GREETING, answer[0], Buffer.concat([encodeOptionReply(NBD_OPT_GO, NBD_REP_ACK, new Uint8Array(0)), Buffer.from('x')])]],
  ])('%s', (_, parts) => {
    expect(() => run(parts)).toThrow(expect.objectContaining({ code: 'unsupported' }));
  });
});
