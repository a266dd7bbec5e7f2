/**
 * What one session must come to: replies to options, requests and how each must end, and the end of it all. On the way the stream is
 * marked: each request gets a cookie of its own, and no byte of a payload has `FOREIGN_BIT`.
 */
import { ExpectedHandshake, type ExpectedOption, type ExpectedTerms, type HandshakeEnd } from './expected-handshake.ts';
import { clearForeign, DEVICE_BYTES } from './fuzz-device.ts';
import type { Script } from './input-format.ts';

export const CMD = { READ: 0, WRITE: 1, DISC: 2, FLUSH: 3, TRIM: 4, CACHE: 5, WRITE_ZEROES: 6, BLOCK_STATUS: 7 } as const;
export const FLAG = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8, FAST_ZERO: 16, PAYLOAD_LEN: 32 } as const;
const EPERM = 1;
const EINVAL = 22;
const ENOSPC = 28;
const SKIPPED_BYTES_MAX = 64 << 20;
export const COOKIE_MARK = 0xc00c_1e5e;

export interface ExpectedRequest {
  readonly command: number;
  readonly flags: number;
  readonly offset: number;
  /** Of what it is about; not of its payload. */
  readonly length: number;
  /** Where in the stream it ends, with its payload. */
  readonly endAt: number;
  /** 0: it succeeds, if the volume does not fail. */
  readonly error: number;
  /** Ids of contexts, of a BLOCK_STATUS. */
  readonly contexts: readonly number[];
  readonly headerAt: number;
}

interface Header {
  readonly at: number;
  readonly command: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
}

export class ExpectedSession {
  readonly options: readonly ExpectedOption[];
  readonly requests: ExpectedRequest[] = [];
  readonly terms: ExpectedTerms | null;
  readonly noZeroes: boolean;
  readonly shutdownAt: number;
  /** `open`: it waits for more. */
  end: Exclude<HandshakeEnd, 'transmission'> = 'open';
  /** The client has sent a part of a message. */
  partial = false;
  changesVolume = false;
  readonly #script: Script;
  readonly #view: DataView;
  readonly #endAt: number;
  #at = 0;

  constructor(script: Script) {
    this.#script = script;
    this.#view = new DataView(script.stream.buffer, script.stream.byteOffset, script.stream.length);
    const first = (...kinds: readonly string[]): number => script.events.find(({ kind }) => kinds.includes(kind))?.at ?? Number.POSITIVE_INFINITY;
    this.#endAt = Math.min(script.stream.length, first('end-input', 'disconnect'));
    this.shutdownAt = first('shutdown', 'leave-if-idle');
    const handshake = new ExpectedHandshake(script, { endAt: this.#endAt, shutdownAt: this.shutdownAt, failsAt: first('fail-directory') });
    this.options = handshake.options;
    this.noZeroes = handshake.noZeroes;
    this.terms = handshake.terms;
    this.#at = handshake.at;
    if (handshake.end !== 'transmission') this.end = handshake.end;
    else if (this.terms !== null) this.#transmit(this.terms);
    if (this.end === 'open' && this.#at < this.#endAt) this.partial = true;
  }

  /** Whether bytes stand behind the option that begins TLS: those end the session, if they come with it. */
  get hasMore(): boolean {
    return this.#at < this.#endAt;
  }

  #transmit(terms: ExpectedTerms): void {
    const isExtended = terms.style === 'extended';
    const headerBytes = isExtended ? 32 : 28;
    while (this.end === 'open' && !this.partial && this.#endAt - this.#at >= headerBytes) {
      const at = this.#at;
      if (this.#view.getUint32(at) !== (isExtended ? 0x21e41c71 : 0x25609513)) {
        this.end = 'broken';
        return;
      }
      const header = {
        at,
        flags: this.#view.getUint16(at + 4),
        command: this.#view.getUint16(at + 6),
        offset: this.#u64(at + 16),
        length: isExtended ? this.#u64(at + 24) : this.#view.getUint32(at + 24),
      };
      this.#view.setUint32(at + 8, COOKIE_MARK);
      this.#view.setUint32(at + 12, this.requests.length);
      if (header.command === CMD.DISC) {
        this.end = 'leaving';
        return;
      }
      this.#request(terms, header, at + headerBytes);
    }
  }

  /** Exact below 2^53, and near enough above. */
  #u64(at: number): number {
    return this.#view.getUint32(at) * 2 ** 32 + this.#view.getUint32(at + 4);
  }

  #request(terms: ExpectedTerms, header: Header, payloadAt: number): void {
    const { command, flags } = header;
    if (command === CMD.WRITE) this.#write(terms, header, payloadAt);
    else if (terms.style === 'extended' && (flags & FLAG.PAYLOAD_LEN) !== 0) this.#withPayload(terms, header, payloadAt);
    else this.#push(header, payloadAt, { length: header.length, error: this.#refusal(terms, header, header.length), contexts: terms.contexts });
  }

  #push(header: Header, endAt: number, rest: Pick<ExpectedRequest, 'length' | 'error' | 'contexts'>): void {
    this.#at = endAt;
    const { at: headerAt, command, flags, offset } = header;
    if (rest.error === 0 && (command === CMD.WRITE || command === CMD.TRIM || command === CMD.WRITE_ZEROES)) this.changesVolume = true;
    this.requests.push({ headerAt, command, flags, offset, endAt, ...rest });
  }

  #write(terms: ExpectedTerms, header: Header, payloadAt: number): void {
    const { length } = header;
    const error = this.#refusal(terms, header, length);
    if (error !== 0 && length > SKIPPED_BYTES_MAX) {
      this.end = 'broken';
      return;
    }
    const endAt = payloadAt + length;
    clearForeign(this.#script.stream.subarray(payloadAt, Math.min(endAt, this.#endAt)));
    if (endAt > this.#endAt) this.partial = true;
    else this.#push(header, endAt, { length, error, contexts: [] });
  }

  /** A request of an extended header with a payload, which BLOCK_STATUS alone may have. */
  #withPayload(terms: ExpectedTerms, header: Header, payloadAt: number): void {
    const payloadBytes = header.length;
    const isStatus = header.command === CMD.BLOCK_STATUS && payloadBytes <= 8 + 4 * terms.contexts.length;
    if (!isStatus && payloadBytes > SKIPPED_BYTES_MAX) {
      this.end = 'broken';
      return;
    }
    const endAt = payloadAt + payloadBytes;
    if (endAt > this.#endAt) {
      this.partial = true;
      return;
    }
    const ids: number[] = [];
    for (let at = payloadAt + 8; at + 4 <= endAt && isStatus; at += 4) ids.push(this.#view.getUint32(at));
    const isSound = isStatus && payloadBytes >= 8 && payloadBytes % 4 === 0 && ids.length > 0 && new Set(ids).size === ids.length && ids.every((id) => terms.contexts.includes(id));
    const length = isSound ? this.#u64(payloadAt) : 0;
    this.#push(header, endAt, { length, error: isSound ? this.#refusal(terms, header, length) : EINVAL, contexts: ids });
  }

  #refusal({ style, contexts, readOnly }: ExpectedTerms, { command, flags, offset }: Header, length: number): number {
    const allowed: Readonly<Record<number, number>> = {
      [CMD.READ]: style === 'simple' ? 0 : FLAG.DF,
      [CMD.WRITE]: style === 'extended' ? FLAG.PAYLOAD_LEN : 0,
      [CMD.FLUSH]: 0,
      [CMD.TRIM]: 0,
      [CMD.CACHE]: 0,
      [CMD.WRITE_ZEROES]: FLAG.NO_HOLE | FLAG.FAST_ZERO,
    };
    const status = FLAG.REQ_ONE | (style === 'extended' ? FLAG.PAYLOAD_LEN : 0);
    const flagsAllowed = command === CMD.BLOCK_STATUS && contexts.length > 0 ? status : allowed[command];
    if (flagsAllowed === undefined || (flags & ~(flagsAllowed | FLAG.FUA)) !== 0) return EINVAL;
    if (command === CMD.FLUSH) return 0;
    const writes = command === CMD.WRITE || command === CMD.WRITE_ZEROES;
    if (readOnly && (writes || command === CMD.TRIM)) return EPERM;
    if (length === 0) return EINVAL;
    if ((command === CMD.READ || command === CMD.WRITE) && length > this.#script.settings.maxRequestBytes) return EINVAL;
    if (offset > DEVICE_BYTES || length > DEVICE_BYTES - offset) return writes ? ENOSPC : EINVAL;
    return 0;
  }
}
