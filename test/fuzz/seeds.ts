/** The sessions that the fuzzer begins with, as `corpus/` has them: each an input (`input-format.ts`) with a name. */
import { clientFlagsBytes, extendedRequestBytes, infoRequestBytes, metaContextBytes, optionBytes, type RequestFields, requestBytes, statusPayloadBytes } from '../support/nbd-bytes.ts';
import { CMD, FLAG } from './expected-session.ts';
import { OPT } from './expected-handshake.ts';
import { EVENT_MARK, type EventKind, EVENTS } from './input-format.ts';

type Piece = Uint8Array;

const EMPTY = Buffer.alloc(0);
const COOKIE = Buffer.from('cookie 1');
const FLAGS = clientFlagsBytes(3);
const GO = optionBytes(OPT.GO, infoRequestBytes('disk'));
const CONTEXTS = ['base:allocation', 'basalt:state', 'qemu:allocation-depth'] as const;

function event(kind: EventKind, count = 0): Piece {
  return Buffer.from([...EVENT_MARK, EVENTS.indexOf(kind), count >> 8, count & 0xff]);
}

function input(header: readonly [who: number, limits: number, volume: number, split: number], ...pieces: readonly Piece[]): Buffer {
  return Buffer.concat([Buffer.from(header), ...pieces]);
}

type Asked = Omit<RequestFields, 'cookie'>;
const ask = (request: Asked): Piece => requestBytes({ ...request, cookie: COOKIE });
const askExtended = (request: Asked): Piece => extendedRequestBytes({ ...request, cookie: COOKIE, flags: (request.flags ?? 0) | (request.payload === undefined ? 0 : FLAG.PAYLOAD_LEN) });

/** Every command, with everything that it may be told. */
function everyCommand(send: (request: Asked) => Piece, style: 'simple' | 'structured' | 'extended'): Piece[] {
  const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, DISC } = CMD;
  const commands = [
    send({ command: READ, offset: 4096, length: 100 }),
    send({ command: WRITE, offset: 5000, payload: Buffer.from('a small write') }),
    send({ command: WRITE, flags: FLAG.FUA, offset: 8192, payload: Buffer.alloc(600, 0x2a) }),
    send({ command: FLUSH }),
    send({ command: READ, offset: 0, length: 40_000 }),
    send({ command: TRIM, offset: 4096, length: 8192 }),
    send({ command: WRITE_ZEROES, flags: FLAG.NO_HOLE, offset: 16_384, length: 4096 }),
    send({ command: WRITE_ZEROES, flags: FLAG.FAST_ZERO | FLAG.FUA, offset: 100, length: 1000 }),
    send({ command: CACHE, offset: 0, length: 65_536 }),
    send({ command: READ, offset: 1_048_000, length: 1000 }),
    send({ command: 8, length: 5 }),
  ];
  if (style !== 'simple') {
    commands.push(send({ command: READ, flags: FLAG.DF, offset: 0, length: 60_000 }));
    commands.push(send({ command: BLOCK_STATUS, offset: 0, length: 100_000 }), send({ command: BLOCK_STATUS, flags: FLAG.REQ_ONE, offset: 4000, length: 90_000 }));
  }
  if (style === 'extended') {
    commands.push(send({ command: BLOCK_STATUS, offset: 0, payload: statusPayloadBytes(50_000, [2]) }), send({ command: BLOCK_STATUS, offset: 0, payload: statusPayloadBytes(50_000, [1, 1]) }));
    commands.push(send({ command: TRIM, offset: 0, payload: Buffer.from('not here') }), send({ command: BLOCK_STATUS, offset: 1n << 60n, length: 1n << 60n }));
  }
  return [...commands, send({ command: DISC })];
}

const AGREED = {
  simple: [FLAGS, GO],
  structured: [FLAGS, optionBytes(OPT.STRUCTURED), optionBytes(OPT.SET_META, metaContextBytes('disk', CONTEXTS)), GO],
  extended: [FLAGS, optionBytes(OPT.EXTENDED), optionBytes(OPT.SET_META, metaContextBytes('disk', CONTEXTS)), GO],
} as const;

/** Every option in a row. */
const EVERY_OPTION: readonly Piece[] = [
  FLAGS,
  optionBytes(OPT.LIST),
  optionBytes(OPT.LIST, Buffer.from('data')),
  optionBytes(OPT.INFO, infoRequestBytes('disk', [0, 1, 2, 3, 9])),
  optionBytes(OPT.INFO, infoRequestBytes('nobody')),
  optionBytes(OPT.INFO, Buffer.from([0, 0, 0, 9, 1])),
  optionBytes(OPT.LIST_META, metaContextBytes('disk', [])),
  optionBytes(OPT.SET_META, metaContextBytes('disk', ['base:'])),
  optionBytes(OPT.STRUCTURED),
  optionBytes(OPT.STRUCTURED),
  optionBytes(OPT.LIST_META, metaContextBytes('disk', ['base:', 'other:one'])),
  optionBytes(OPT.SET_META, metaContextBytes('fixed', ['base:allocation'])),
  optionBytes(OPT.SET_META, metaContextBytes('disk', ['nocolon'])),
  optionBytes(OPT.SET_META, metaContextBytes('disk', ['base:allocation'], 3)),
  optionBytes(OPT.EXTENDED),
  optionBytes(OPT.STRUCTURED),
  optionBytes(99, Buffer.from('unknown')),
  optionBytes(OPT.STARTTLS),
  optionBytes(OPT.GO, infoRequestBytes('secret')),
  optionBytes(OPT.ABORT, Buffer.from('bye')),
];

const write = (bytes: number, offset = 0): Piece => requestBytes({ command: CMD.WRITE, cookie: COOKIE, offset, length: bytes });

/** A payload of `units` of 64 bytes. */
const pad = (units: number): Piece => event('pad', units);

/** How the volume and the network behave around the same requests. */
function behaviours(): Record<string, Buffer> {
  const simple = [...AGREED.simple, ...everyCommand(ask, 'simple')];
  const structured = [...AGREED.structured, ...everyCommand(ask, 'structured')];
  const extended = [...AGREED.extended, ...everyCommand(askExtended, 'extended')];
  return {
    'simple': input([0, 0, 0, 0], ...simple),
    'structured': input([0, 0, 0, 0], ...structured),
    'extended': input([0, 0, 0, 0], ...extended),
    'simple-byte-by-byte': input([0, 0, 0, 1], ...simple),
    'extended-in-pieces': input([0, 0, 0, 77], ...extended),
    'structured-lent': input([0, 0, 0x01, 0], ...structured),
    'simple-lent': input([0, 0, 0x01, 3], ...simple),
    'structured-cold': input([0, 0, 0x06, 0], ...structured),
    'extended-waiting': input([0, 0, 0x5e, 9], ...extended),
    'simple-cold-one-at-a-time': input([0, 0x01, 0x1a, 5], ...simple),
    'extended-failing': input([0, 0, 0x86, 0], ...extended),
    'structured-failing': input([0, 0, 0xa0, 0], ...structured),
    'structured-few-reply-bytes': input([0, 0x45, 0x02, 0], ...structured),
    'read-only': input([0x10, 0, 0, 0], ...extended),
    'fixed': input([0, 0, 0, 0], FLAGS, optionBytes(OPT.GO, infoRequestBytes('fixed', [3])), ...everyCommand(ask, 'simple')),
  };
}

function handshakes(): Record<string, Buffer> {
  return {
    'every-option': input([0, 0, 0, 0], ...EVERY_OPTION),
    'every-option-selective': input([1, 0, 0, 13], ...EVERY_OPTION),
    'every-option-forced': input([2, 0, 0, 0], ...EVERY_OPTION),
    'every-option-secured': input([0x0e, 0, 0, 0], ...EVERY_OPTION.slice(1)),
    'secured': input([0x0d, 0, 0, 0], optionBytes(OPT.GO, infoRequestBytes('tls')), ...everyCommand(ask, 'simple')),
    'start-tls': input([1, 0, 0, 0], FLAGS, optionBytes(OPT.LIST), optionBytes(OPT.STARTTLS)),
    'start-tls-with-data-behind': input([1, 0, 0, 0], FLAGS, optionBytes(OPT.STARTTLS), Buffer.from([0x16, 3, 1, 0])),
    'tls-only-export': input([1, 0, 0, 0], FLAGS, optionBytes(OPT.GO, infoRequestBytes('tls')), optionBytes(OPT.EXPORT_NAME, Buffer.from('tls'))),
    'export-name': input([0, 0, 0, 0], FLAGS, optionBytes(OPT.EXPORT_NAME, Buffer.from('ü/ 1')), ask({ command: CMD.READ, offset: 0, length: 10_000 })),
    'export-name-padded': input([0, 0x80, 0, 0], clientFlagsBytes(0), optionBytes(OPT.EXPORT_NAME), ask({ command: CMD.READ, offset: 4096, length: 10 })),
    'export-name-unknown': input([0, 0, 0, 0], FLAGS, optionBytes(OPT.EXPORT_NAME, Buffer.from('nobody'))),
    'default-export': input([0, 0x80, 0, 0], FLAGS, optionBytes(OPT.GO, infoRequestBytes('', [1, 2])), ask({ command: CMD.FLUSH })),
    'unknown-client-flags': input([0, 0, 0, 0], clientFlagsBytes(7)),
    'not-newstyle': input([0, 0, 0, 0], clientFlagsBytes(0), optionBytes(OPT.LIST)),
    'http': input([0, 0, 0, 0], Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')),
    'directory-fails': input([0, 0, 0, 0], FLAGS, event('fail-directory'), optionBytes(OPT.LIST), GO, optionBytes(OPT.EXPORT_NAME, Buffer.from('disk'))),
    'shutdown-in-handshake': input([0, 0, 0, 0], FLAGS, event('shutdown'), optionBytes(OPT.LIST), optionBytes(OPT.ABORT)),
    'huge-option': input([0, 0, 0, 0], FLAGS, optionBytes(OPT.LIST, EMPTY, 0xffff_ffff)),
  };
}

function transmissions(): Record<string, Buffer> {
  const read = ask({ command: CMD.READ, offset: 4096, length: 60_000 });
  return {
    'many-pieces': input([0, 0, 0, 0], ...AGREED.structured, ask({ command: CMD.READ, offset: 100, length: 1_000_000 })),
    'many-pieces-cold': input([0, 0, 0x06, 0], ...AGREED.extended, askExtended({ command: CMD.READ, offset: 4096, length: 1_000_000 })),
    'cut-blocks': input([0, 0x40, 0x18, 0], ...AGREED.simple, write(96_064, 100), pad(1501), event('settle'), write(128, 5000), pad(2), event('settle'), event('cut-blocks'), event('warm')),
    'large-write': input([0, 0, 0, 0], ...AGREED.simple, write(1 << 20), pad(16_384), read),
    'large-write-in-pieces': input([0, 0, 0, 5], ...AGREED.simple, write(700_032, 100), pad(10_938), ask({ command: CMD.FLUSH })),
    'large-writes-small-budget': input([0, 0x40, 0x08, 5], ...AGREED.simple, write(700_032, 100), pad(10_938), write(640_000, 5), pad(10_000)),
    'large-write-refused': input([0, 0x20, 0, 5], ...AGREED.structured, write(640_000), pad(10_000), ask({ command: CMD.FLUSH })),
    'half-a-write': input([0, 0, 0, 5], ...AGREED.simple, write(640_000), pad(8000), event('end-input')),
    'half-a-large-write-then-gone': input([0, 0, 0, 5], ...AGREED.simple, write(640_000), pad(9900), event('settle'), event('disconnect')),
    'too-large-a-write': input([0, 0, 0, 0], ...AGREED.simple, write(0xffff_ffff)),
    'full': input([0, 0, 0, 5], ...AGREED.simple, event('full'), write(64), pad(1), ask({ command: CMD.TRIM, offset: 0, length: 4096 }), event('settle'), event('make-room')),
    'full-for-good': input([0, 0, 0, 0], ...AGREED.simple, event('full'), write(64), pad(1), event('settle'), event('fail-admission'), ask({ command: CMD.FLUSH })),
    'replies-not-taken': input([0, 0x48, 0, 0], ...AGREED.structured, event('hold-replies'), read, read, read, event('settle'), read, event('take-replies')),
    'gone-with-replies': input([0, 0, 0x01, 0], ...AGREED.structured, event('hold-replies'), read, read, event('settle'), event('disconnect')),
    'gone-with-reads': input([0, 0, 0x1e, 0], ...AGREED.structured, read, ask({ command: CMD.BLOCK_STATUS, offset: 0, length: 4096 }), event('settle'), event('disconnect')),
    'shutdown': input([0, 0, 0, 0], ...AGREED.extended, askExtended({ command: CMD.FLUSH }), event('shutdown'), askExtended({ command: CMD.READ, offset: 0, length: 10 }), askExtended({ command: CMD.FLUSH })),
    'leave-if-idle': input([0, 0, 0, 0], ...AGREED.simple, read, event('leave-if-idle'), read),
    'fails-now-and-then': input([0, 0, 0x60, 0], ...AGREED.structured, event('fail'), write(64), pad(1), read, event('settle'), event('stop-failing'), read),
    'flush-that-fails': input([0, 0, 0xa0, 0], ...AGREED.structured, ask({ command: CMD.FLUSH, offset: 16_128 })),
    'wrong-magic': input([0, 0, 0, 0], ...AGREED.simple, read, Buffer.alloc(28, 0x55)),
    'extended-not-negotiated': input([0, 0, 0, 0], ...AGREED.simple, askExtended({ command: CMD.READ, offset: 0, length: 10 })),
    'limited': input([0, 0, 0, 0], ...AGREED.structured, event('limit'), read, read, write(64), pad(1), read, event('settle'), event('pass-time'), event('settle'), read, event('pass-time'), event('settle')),
    'limited-then-left': input([0, 0, 0, 1], ...AGREED.simple, event('limit'), ...Array.from({ length: 5 }, () => [write(64), pad(1)]).flat(), event('settle'), event('pass-time'), event('settle'), event('end-input')),
    'full-then-left': input([0, 0, 0, 1], ...AGREED.simple, event('full'), write(64), pad(1), write(64), pad(1), event('settle'), event('end-input')),
    'limited-in-the-handshake': input([0, 0, 0, 3], event('limit'), ...AGREED.extended, ...Array.from({ length: 4 }, () => askExtended({ command: CMD.FLUSH })), askExtended({ command: CMD.READ, offset: 0, length: 10 }), event('shutdown')),
    'ends-in-a-header': input([0, 0, 0, 0], ...AGREED.simple, read.subarray(0, 13), event('end-input')),
  };
}

export function seeds(): Record<string, Buffer> {
  return { ...behaviours(), ...handshakes(), ...transmissions() };
}
