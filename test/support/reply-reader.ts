/**
 * Reads the replies of a server as strictly as the document allows, for any style of replies: each must answer a request that was made, have the
 * form that its request asks for, and say nothing that the document forbids. Written from the document, as `nbd-bytes.ts` is.
 */
import { NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_DF, NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_READ } from '../../src/protocol/constants.ts';
import { extendedRequestBytes, requestBytes, statusPayloadBytes } from './nbd-bytes.ts';

export type ReplyStyle = 'simple' | 'structured' | 'extended';

export interface OutstandingRequest {
  readonly command: number;
  readonly flags: number;
  readonly offset: bigint;
  readonly length: number;
  /** Ids of the contexts that a BLOCK_STATUS asks for. */
  readonly contexts: readonly number[];
}

/** One content chunk of a READ. */
export interface Piece {
  readonly kind: 'data' | 'hole';
  readonly offset: number;
  readonly length: number;
}

export interface Extent {
  readonly length: number;
  readonly status: number;
}

export interface Reply {
  readonly error: number;
  /** Hexadecimal. */
  readonly cookie: string;
  /** Of a READ that ended well: all bytes, zeroes where holes are. */
  readonly data: Buffer;
  /** What is empty for simple replies. */
  readonly pieces: readonly Piece[];
  readonly statuses: ReadonlyMap<number, readonly Extent[]>;
  readonly text: string | null;
  readonly errorOffset: number | null;
  /** Types of the chunks, in order. */
  readonly types: readonly number[];
}

interface Chunk {
  readonly done: boolean;
  readonly type: number;
  readonly payload: Buffer;
}

const ERRORS = new Set([0, 1, 5, 12, 22, 28, 75, 95, 108]);
const HEADER_BYTES = { simple: 16, structured: 20, extended: 32 } as const;
const MAX_EXTENTS = 1 << 20;

function must(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(message);
}

/** What has come so far of the reply to one request. */
class PartialReply {
  readonly request: OutstandingRequest;
  readonly pieces: Piece[] = [];
  readonly statuses = new Map<number, readonly Extent[]>();
  readonly types: number[] = [];
  readonly #data: Buffer;
  error = 0;
  text: string | null = null;
  errorOffset: number | null = null;

  constructor(request: OutstandingRequest) {
    this.request = request;
    this.#data = request.command === NBD_CMD_READ && request.length <= 2 ** 26 ? Buffer.alloc(request.length) : Buffer.alloc(0);
  }

  add({ type, payload, done }: Chunk): void {
    this.types.push(type);
    if (type === 0) must(payload.length === 0 && done, 'a chunk NONE that is not the end');
    else if (type === 1) this.#addData(payload);
    else if (type === 2) this.#addHole(payload);
    else if (type === 5) this.#addStatus(payload.readUInt32BE(0), pairs(payload.subarray(4), 8));
    else if (type === 6) this.#addStatus(payload.readUInt32BE(0), countedPairs(payload));
    else if (type === 0x8001 || type === 0x8002) this.#addError(payload, type === 0x8002);
    else throw new Error(`a chunk of the unknown type ${type}`);
  }

  #addData(payload: Buffer): void {
    must(payload.length >= 9, `a chunk of data of ${payload.length} bytes`);
    const piece = { kind: 'data' as const, offset: Number(payload.readBigUInt64BE(0)), length: payload.length - 8 };
    payload.copy(this.#data, this.#addPiece(piece), 8);
  }

  #addHole(payload: Buffer): void {
    must(payload.length === 12 && payload.readUInt32BE(8) > 0, 'a hole of a wrong form');
    this.#addPiece({ kind: 'hole', offset: Number(payload.readBigUInt64BE(0)), length: payload.readUInt32BE(8) });
  }

  /** Returns where the piece begins in the data. */
  #addPiece(piece: Piece): number {
    const { command, offset, length, flags } = this.request;
    must(command === NBD_CMD_READ, 'content for a request that is no READ');
    const start = piece.offset - Number(offset);
    must(start >= 0 && start + piece.length <= length, `a piece ${piece.offset}+${piece.length} outside of the request`);
    must(
      this.pieces.every((other) => piece.offset + piece.length <= other.offset || piece.offset >= other.offset + other.length),
      'pieces that overlap',
    );
    must((flags & NBD_CMD_FLAG_DF) === 0 || this.pieces.length === 0, 'two pieces in spite of DF');
    this.pieces.push(piece);
    return start;
  }

  #addStatus(id: number, extents: readonly Extent[]): void {
    const { command, contexts, length, flags } = this.request;
    must(command === NBD_CMD_BLOCK_STATUS && contexts.includes(id) && !this.statuses.has(id), `a status of context ${id} that was not asked for`);
    must(extents.length > 0 && extents.length <= MAX_EXTENTS, `${extents.length} extents`);
    let sum = 0;
    for (const [index, extent] of extents.entries()) {
      must(extent.length > 0, 'an extent without length');
      must(sum < length, 'an extent that begins behind the range');
      must(index === 0 || extents[index - 1].status !== extent.status, 'neighbours that are not merged');
      sum += extent.length;
    }
    if ((flags & NBD_CMD_FLAG_REQ_ONE) !== 0) must(extents.length === 1 && sum <= length, 'REQ_ONE was not heeded');
    this.statuses.set(id, extents);
  }

  #addError(payload: Buffer, hasOffset: boolean): void {
    const textEnd = 6 + payload.readUInt16BE(4);
    must(payload.length === textEnd + (hasOffset ? 8 : 0) && textEnd <= 6 + 4096, `an error of ${payload.length} bytes`);
    must(this.error === 0, 'two errors in one reply');
    this.error = payload.readUInt32BE(0);
    must(this.error !== 0 && ERRORS.has(this.error), `error ${this.error} is none of NBD's`);
    this.text = new TextDecoder('utf-8', { fatal: true }).decode(payload.subarray(6, textEnd));
    must(!this.text.includes('\0'), 'a NUL in the text of an error');
    if (!hasOffset) return;
    this.errorOffset = Number(payload.readBigUInt64BE(textEnd));
    const { offset, length } = this.request;
    must(this.errorOffset >= Number(offset) && this.errorOffset < Number(offset) + length, 'an error outside of the request');
  }

  end(cookie: string): Reply {
    const { command, length, contexts } = this.request;
    if (this.error === 0 && command === NBD_CMD_READ) must(this.pieces.reduce((sum, piece) => sum + piece.length, 0) === length, 'a READ that is not whole');
    if (this.error === 0 && command === NBD_CMD_BLOCK_STATUS) must(this.statuses.size === contexts.length, 'a context without a status');
    const { error, pieces, statuses, text, errorOffset, types } = this;
    return { error, cookie, data: error === 0 ? this.#data : Buffer.alloc(0), pieces, statuses, text, errorOffset, types };
  }
}

function pairs(bytes: Buffer, size: 8 | 16): Extent[] {
  must(bytes.length % size === 0, 'half an extent');
  return Array.from({ length: bytes.length / size }, (_, index) => {
    const at = index * size;
    if (size === 8) return { length: bytes.readUInt32BE(at), status: bytes.readUInt32BE(at + 4) };
    return { length: Number(bytes.readBigUInt64BE(at)), status: Number(bytes.readBigUInt64BE(at + 8)) };
  });
}

function countedPairs(payload: Buffer): Extent[] {
  const extents = pairs(payload.subarray(8), 16);
  must(extents.length === payload.readUInt32BE(4), 'a wrong number of extents');
  return extents;
}

const EMPTY_PARTS = { pieces: [], statuses: new Map(), text: null, errorOffset: null, types: [] } as const;

/** A request as tests write it. */
export interface AskedRequest {
  readonly command: number;
  readonly flags?: number;
  readonly offset?: number | bigint;
  readonly length?: number | bigint;
  readonly payload?: Uint8Array;
  /** A BLOCK_STATUS with a payload: what stands in it. */
  readonly asks?: { readonly length: number | bigint; readonly ids: readonly number[] };
  readonly magic?: number;
}

export class ReplyReader {
  /** Whether requests that are no READ may fail with a simple reply: the document would rather have a structured one, but allows it. */
  allowsSimpleErrors = false;
  style: ReplyStyle = 'simple';
  /** Contexts that were selected: id and name. */
  contexts: readonly { readonly id: number; readonly name: string }[] = [];
  /** What is under way, by cookie in hexadecimal. */
  readonly outstanding = new Map<string, PartialReply>();

  /** The bytes of a request; it counts as under way from now on. */
  request(cookie: Uint8Array, { asks, ...asked }: AskedRequest): Buffer {
    const key = Buffer.from(cookie).toString('hex');
    must(!this.outstanding.has(key), 'that cookie is under way');
    const payload = asks === undefined ? asked.payload : statusPayloadBytes(asks.length, asks.ids);
    const needsFlag = this.style === 'extended' && payload !== undefined;
    const fields = { ...asked, payload, cookie, flags: (asked.flags ?? 0) | (needsFlag ? NBD_CMD_FLAG_PAYLOAD_LEN : 0) };
    this.outstanding.set(key, new PartialReply({
      command: asked.command,
      flags: fields.flags,
      offset: BigInt(asked.offset ?? 0),
      length: Number(asks?.length ?? asked.length ?? payload?.length ?? 0),
      contexts: asks?.ids ?? this.contexts.map(({ id }) => id),
    }));
    return this.style === 'extended' ? extendedRequestBytes(fields) : requestBytes(fields);
  }

  /** Takes the first whole message off `source`: what follows it, and the reply that it ends, if it does. Null if none is whole. */
  takeFirst(source: Buffer): { reply: Reply | null; rest: Buffer } | null {
    const byteCount = this.messageBytes(source.subarray(0, 32));
    if (byteCount === null || source.length < byteCount) return null;
    return { reply: this.take(source.subarray(0, byteCount)), rest: source.subarray(byteCount) };
  }

  /** How many bytes the message at the front takes; null if that cannot be said yet. */
  messageBytes(head: Buffer): number | null {
    if (head.length < 20) {
      const isSimple = head.length >= 16 && head.readUInt32BE(0) === 0x67446698;
      return isSimple ? this.#simpleBytes(head) : null;
    }
    if (head.readUInt32BE(0) === 0x67446698) return this.#simpleBytes(head);
    must(this.style !== 'simple', `no simple reply: ${head.subarray(0, 16).toString('hex')}`);
    if (this.style === 'structured') return HEADER_BYTES.structured + head.readUInt32BE(16);
    return head.length < HEADER_BYTES.extended ? null : HEADER_BYTES.extended + Number(head.readBigUInt64BE(24));
  }

  #simpleBytes(head: Buffer): number {
    const request = this.#find(head).request;
    return HEADER_BYTES.simple + (request.command === NBD_CMD_READ && head.readUInt32BE(4) === 0 ? request.length : 0);
  }

  #find(head: Buffer): PartialReply {
    const cookie = head.subarray(8, 16).toString('hex');
    const found = this.outstanding.get(cookie);
    must(found !== undefined, `reply to a request that nobody made: ${cookie}`);
    return found;
  }

  /** Takes one whole message; the reply that it ends, or null if more chunks follow. */
  take(message: Buffer): Reply | null {
    const partial = this.#find(message);
    const cookie = message.subarray(8, 16).toString('hex');
    if (message.readUInt32BE(0) === 0x67446698) return this.#takeSimple(message, cookie, partial);
    must(message.readUInt32BE(0) === (this.style === 'extended' ? 0x6e8a278c : 0x668e33ef), 'a chunk of the wrong style');
    const flags = message.readUInt16BE(4);
    must((flags & ~1) === 0, `unknown flags ${flags} of a chunk`);
    if (this.style === 'extended') must(message.readBigUInt64BE(16) === partial.request.offset, 'the offset of the request is not echoed');
    const done = flags === 1;
    const type = message.readUInt16BE(6);
    must(type !== 5 || this.style === 'structured', 'a narrow status with extended headers');
    must(type !== 6 || this.style === 'extended', 'a wide status without extended headers');
    partial.add({ done, type, payload: message.subarray(HEADER_BYTES[this.style]) });
    if (!done) return null;
    this.outstanding.delete(cookie);
    return partial.end(cookie);
  }

  #takeSimple(message: Buffer, cookie: string, { request, types }: PartialReply): Reply {
    const error = message.readUInt32BE(4);
    must(ERRORS.has(error), `error ${error} is none of NBD's`);
    must(this.style !== 'extended', 'a simple reply with extended headers');
    const mayBeSimple = request.command !== NBD_CMD_READ && request.command !== NBD_CMD_BLOCK_STATUS && (error === 0 || this.allowsSimpleErrors);
    const isPlain = this.style === 'simple' || mayBeSimple;
    must(isPlain && types.length === 0, 'a simple reply where a structured one belongs');
    this.outstanding.delete(cookie);
    return { error, cookie, data: message.subarray(HEADER_BYTES.simple), ...EMPTY_PARTS };
  }
}
