/**
 * An input of the fuzzer: four bytes that say who the client is and how server, volume and network behave; then what the client sends, with
 * marks in it for what happens meanwhile.
 *
 * | offset | bits | meaning |
 * |---|---|---|
 * | 0 | 0-1 | TLS: 0 and 3 off, 1 selective, 2 forced |
 * | | 2 | TLS has begun (if it is not off); bit 3: that client said NO_ZEROES |
 * | | 4 | `disk` is read-only for this client |
 * | 1 | 0-1, 2-3, 4-5 | requests in flight, reply bytes, request bytes: one of four limits each |
 * | | 6, 7 | budgets of all connections are small; there is a default export |
 * | 2 | 0-4 | volume: lends, is cold, has a cold map, refuses cut blocks, lets reads wait |
 * | | 5-6, 7 | requests end at submit (0, 3), at once, by hand; they fail |
 * | 3 | | how the stream is cut into reads: 0 not at all, 1 byte by byte, else by chance with this seed |
 * | 4 | | the stream: a mark is `EVENT_MARK`, u8 what, u16 how much; all else is sent |
 */
import type { ServerSettings } from '../../src/base/settings-types.ts';
import type { ExportTerms, SessionClient } from '../../src/session/host.ts';
import type { DeviceSwitches } from './fuzz-device.ts';

export const INPUT_HEADER_BYTES = 4;
export const EVENT_MARK = [0xf6, 0x45, 0x56, 0x3a] as const;
export const EVENT_BYTES = 7;

/** What a mark stands for, by its number. */
export const EVENTS = [
  'settle',
  'cold',
  'warm',
  'full',
  'make-room',
  'hold-replies',
  'take-replies',
  'shutdown',
  'leave-if-idle',
  'end-input',
  'disconnect',
  'settle-all',
  'fail',
  'stop-failing',
  'pad',
  'fail-directory',
  'fail-admission',
  'cut-blocks',
  'limit',
  'pass-time',
] as const;
export type EventKind = (typeof EVENTS)[number];

/** A `pad` sends so many bytes for each unit of its count. */
const PAD_UNIT_BYTES = 64;
/** More than this is not sent, whatever an input's marks say. */
const STREAM_BYTES_MAX = 3 << 20;

export interface ScriptEvent {
  readonly at: number;
  readonly kind: EventKind;
}

export interface Script {
  readonly client: SessionClient;
  readonly settings: ServerSettings;
  readonly switches: DeviceSwitches;
  /** All failures of the volume that there may be: requests may end with an error that the client did not earn. */
  readonly mayFail: boolean;
  readonly splitSeed: number;
  readonly stream: Uint8Array;
  readonly events: readonly ScriptEvent[];
}

const IN_FLIGHT = [64, 1, 3, 16] as const;
const REPLY_BYTES = [4 << 20, 1, 4096, 100_000] as const;
const REQUEST_BYTES = [1 << 20, 65_536, 8192, 700_000] as const;

function settingsOf(tls: SessionClient['tls'], bits: number): ServerSettings {
  const small = (bits & 0x40) !== 0;
  return {
    maxConnections: 64,
    maxConnectionsPerAddress: 0,
    maxHalfOpen: 64,
    handshakeTimeoutMs: 10_000,
    maxOptions: 40,
    maxOptionBytes: 16 * 1024,
    maxRequestsInFlight: IN_FLIGHT[bits & 3],
    maxReplyBytes: REPLY_BYTES[(bits >> 2) & 3],
    replyBytes: small ? 10_000 : 16 << 20,
    maxRequestBytes: REQUEST_BYTES[(bits >> 4) & 3],
    payloadBytes: small ? 100_000 : 16 << 20,
    payloadTimeoutMs: 30_000,
    idleTimeoutMs: 0,
    defaultExport: (bits & 0x80) === 0 ? '' : 'disk',
    tls,
    tlsCertificates: '',
    tlsPskFile: '',
    tlsVerifyPeer: false,
    tlsHandshakeTimeoutMs: 10_000,
    maxTlsHandshakes: 16,
    socketMode: '0600',
    socketOwner: '',
  };
}

const TLS_MODES = ['off', 'selective', 'forced', 'off'] as const;
const SETTINGS = TLS_MODES.map((tls) => Array.from({ length: 256 }, (_, bits) => settingsOf(tls, bits)));

/** Names of the volumes, and what they are to a client. */
export const VOLUME_NAMES = ['disk', 'fixed', 'secret', 'tls', 'ü/ 1'] as const;

function clientOf(bits: number): SessionClient {
  const tls = TLS_MODES[bits & 3];
  const secured = tls !== 'off' && (bits & 4) !== 0;
  const termsOf = (name: string): ExportTerms => {
    if (name === 'secret') return 'hidden';
    if (name === 'tls' && tls !== 'off' && !secured) return 'tls-only';
    return name === 'disk' && (bits & 0x10) !== 0 ? 'read-only' : 'writable';
  };
  return { tls, securedFlags: secured ? (bits & 8) === 0 ? 1 : 3 : null, termsOf };
}

const CLIENTS = Array.from({ length: 32 }, (_, bits) => clientOf(bits));

function switchesOf(bits: number): DeviceSwitches {
  const settles = (['at submit', 'at once', 'by hand', 'at submit'] as const)[(bits >> 5) & 3];
  return { lends: (bits & 1) !== 0, cold: (bits & 2) !== 0, mapCold: (bits & 4) !== 0, partial: (bits & 8) !== 0, readsWait: (bits & 0x10) !== 0, settles, fails: (bits & 0x80) !== 0 };
}

export function isMark(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === EVENT_MARK[0] && bytes[at + 1] === EVENT_MARK[1] && bytes[at + 2] === EVENT_MARK[2] && bytes[at + 3] === EVENT_MARK[3] && at + EVENT_BYTES <= bytes.length;
}

/** Reads an input; any bytes are one. */
export function readInput(input: Uint8Array): Script {
  const [who = 0, limits = 0, volume = 0, splitSeed = 0] = input;
  const events: ScriptEvent[] = [];
  const marks: { readonly from: number; readonly padBytes: number }[] = [];
  let streamBytes = 0;
  let at = INPUT_HEADER_BYTES;
  for (let next = input.indexOf(EVENT_MARK[0], at); next >= 0; next = input.indexOf(EVENT_MARK[0], next)) {
    if (!isMark(input, next)) {
      next += 1;
      continue;
    }
    streamBytes += next - at;
    const kind = EVENTS[input[next + 4] % EVENTS.length];
    const count = (input[next + 5] << 8) | input[next + 6];
    const padBytes = kind === 'pad' ? Math.min(count * PAD_UNIT_BYTES, Math.max(0, STREAM_BYTES_MAX - streamBytes)) : 0;
    marks.push({ from: next, padBytes });
    streamBytes += padBytes;
    if (kind !== 'pad') events.push({ at: streamBytes, kind });
    next += EVENT_BYTES;
    at = next;
  }
  const client = CLIENTS[who & 31];
  const mayFail = (volume & 0x80) !== 0 || events.some(({ kind }) => kind === 'fail' || kind === 'fail-admission');
  return { client, settings: SETTINGS[who & 3][limits], switches: switchesOf(volume), mayFail, splitSeed, stream: expand(input, marks), events };
}

/** Bytes that the marks of an input send. */
export function padBytesOf(input: Uint8Array): number {
  let bytes = 0;
  for (let at = input.indexOf(EVENT_MARK[0]); at >= 0; at = input.indexOf(EVENT_MARK[0], at + 1)) {
    if (isMark(input, at) && EVENTS[input[at + 4] % EVENTS.length] === 'pad') bytes += ((input[at + 5] << 8) | input[at + 6]) * PAD_UNIT_BYTES;
  }
  return bytes;
}

function expand(input: Uint8Array, marks: readonly { readonly from: number; readonly padBytes: number }[]): Uint8Array {
  if (marks.length === 0) return Buffer.from(input.subarray(INPUT_HEADER_BYTES));
  const bytes = marks.reduce((sum, { padBytes }) => sum + padBytes, Math.max(0, input.length - INPUT_HEADER_BYTES) - marks.length * EVENT_BYTES);
  const stream = Buffer.allocUnsafe(bytes);
  let from = INPUT_HEADER_BYTES;
  let at = 0;
  for (const mark of marks) {
    stream.set(input.subarray(from, mark.from), at);
    at += mark.from - from;
    if (mark.padBytes > 0) stream.fill(0x11, at, at + mark.padBytes);
    at += mark.padBytes;
    from = mark.from + EVENT_BYTES;
  }
  stream.set(input.subarray(from), at);
  return stream;
}
