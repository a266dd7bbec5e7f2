/**
 * Reads what a server sends to one client as strictly as the document allows, and compares it with what is expected: each reply answers a
 * request that has been sent, has the form that it asks for, and no data that is not of the volume.
 */
import type { Style } from './expected-handshake.ts';
import { CMD, COOKIE_MARK, type ExpectedRequest, type ExpectedSession, FLAG } from './expected-session.ts';
import { DEVICE_BYTES, Finding, FIRST_CONTENT, indexOfForeign, isZeroAtFirst } from './fuzz-device.ts';

const EIO = 5;
const ESHUTDOWN = 108;
const HEADER_BYTES = { simple: 16, structured: 20, extended: 32 } as const;
const CHUNK = { NONE: 0, DATA: 1, HOLE: 2, STATUS: 5, STATUS_EXT: 6, ERROR: 0x8001, ERROR_OFFSET: 0x8002 } as const;
const GREETING = Buffer.from('NBDMAGICIHAVEOPT\0\x03', 'latin1');
const decoder = new TextDecoder('utf-8', { fatal: true });

function must(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Finding(message);
}

/** What has come of one reply. */
class PartialReply {
  done = false;
  error = 0;
  chunkCount = 0;
  /** Pieces of data and holes: begin and end of each. */
  readonly pieces: number[] = [];
  pieceBytes = 0;
  piecesEnd = 0;
  readonly statuses: number[] = [];
}

interface Chunk {
  readonly type: number;
  readonly at: number;
  readonly length: number;
}

export class ReplyChecker {
  readonly #expected: ExpectedSession;
  readonly #mayFail: boolean;
  readonly #onMessage: (message: Uint8Array) => void;
  #greeted: boolean;
  #optionIndex = 0;
  #replyIndex = 0;
  readonly #replies: (PartialReply | undefined)[] = [];
  #doneCount = 0;
  #bytes: Uint8Array = GREETING;
  #view: DataView = new DataView(new ArrayBuffer(0));
  #fedAt = 0;

  constructor(expected: ExpectedSession, { isGreeted, mayFail, onMessage }: { readonly isGreeted: boolean; readonly mayFail: boolean; readonly onMessage: (message: Uint8Array) => void }) {
    this.#expected = expected;
    this.#greeted = isGreeted;
    this.#mayFail = mayFail;
    this.#onMessage = onMessage;
  }

  get answeredOptions(): number {
    return this.#optionIndex;
  }

  get answeredRequests(): number {
    return this.#doneCount;
  }

  isAnswered(index: number): boolean {
    return this.#replies[index]?.done === true;
  }

  /** Takes what was sent in one piece when the server had been given `fedAt` bytes: whole messages, or it is a finding. */
  take(bytes: Uint8Array, fedAt: number): void {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#fedAt = fedAt;
    let at = 0;
    if (!this.#greeted) {
      must(Buffer.compare(bytes.subarray(0, 18), GREETING) === 0, 'the greeting is wrong');
      this.#greeted = true;
      at = 18;
    }
    while (at < bytes.length) {
      const end = this.#optionIndex < this.#expected.options.length ? this.#takeOption(at) : this.#takeReply(at);
      this.#onMessage(bytes.subarray(at, end));
      at = end;
    }
    must(at === bytes.length, 'a message is sent in two pieces');
  }

  #need(at: number, byteCount: number): void {
    must(this.#bytes.length - at >= byteCount, 'half a message is sent');
  }

  #takeOption(at: number): number {
    const { option, types, endAt } = this.#expected.options[this.#optionIndex];
    must(endAt <= this.#fedAt, 'an option is answered before it is there');
    if (types === null) return this.#takeExportName(at);
    this.#need(at, 20);
    const view = this.#view;
    must(view.getUint32(at) === 0x0003e889 && view.getUint32(at + 4) === 0x045565a9, 'an option reply without its magic');
    must(view.getUint32(at + 8) === option, 'another option is answered');
    const type = view.getUint32(at + 12);
    if (type !== types[this.#replyIndex]) throw new Finding(`option ${option}: reply ${type.toString(16)} instead of ${types[this.#replyIndex].toString(16)}`);
    const length = view.getUint32(at + 16);
    this.#need(at + 20, length);
    this.#checkOptionData(type, at + 20, length);
    this.#replyIndex += 1;
    if (this.#replyIndex === types.length) {
      this.#replyIndex = 0;
      this.#optionIndex += 1;
    }
    return at + 20 + length;
  }

  #checkOptionData(type: number, at: number, length: number): void {
    const view = this.#view;
    if (type === 1) must(length === 0, 'an ACK with data');
    if (type === 2) must(length >= 4 && view.getUint32(at) <= length - 4, 'a line of LIST of a wrong form');
    if (type === 4) must(length > 4, 'a context without a name');
    if (type >= 0x80000000) this.#checkText(at, length);
    if (type !== 3) return;
    must(length >= 2, 'an info without a type');
    const info = view.getUint16(at);
    must(info <= 3 && (info !== 0 || length === 12) && (info !== 3 || length === 14), 'an info of a wrong form');
    if (info === 0) this.#checkExport(at + 2);
  }

  #checkText(at: number, length: number): void {
    must(length <= 4096, 'a text that is too long');
    const bytes = this.#bytes.subarray(at, at + length);
    must(!bytes.includes(0), 'a NUL in a text');
    decoder.decode(bytes);
  }

  /** Size and transmission flags. */
  #checkExport(at: number): void {
    must(this.#view.getUint32(at) === 0 && this.#view.getUint32(at + 4) === DEVICE_BYTES, 'a wrong size');
    const flags = this.#view.getUint16(at + 8);
    must((flags & 1) === 1 && (flags & ~0x1fff) === 0 && (flags & 0x210) === 0, 'transmission flags that are not known');
    const { terms, options } = this.#expected;
    const isLast = this.#optionIndex === options.length - 1;
    if (terms === null || !isLast) return;
    must(((flags & 2) !== 0) === terms.readOnly, 'READ_ONLY is wrong');
    must(((flags & 0x80) !== 0) === (terms.style !== 'simple'), 'SEND_DF is wrong');
  }

  #takeExportName(at: number): number {
    const length = this.#expected.noZeroes ? 10 : 134;
    this.#need(at, length);
    this.#checkExport(at);
    must(this.#bytes.subarray(at + 10, at + length).every((byte) => byte === 0), 'the padding is not zero');
    this.#optionIndex += 1;
    return at + length;
  }

  #takeReply(at: number): number {
    const { terms } = this.#expected;
    must(terms !== null, 'bytes that nobody asked for');
    this.#need(at, 16);
    const view = this.#view;
    const index = view.getUint32(at + 12);
    must(view.getUint32(at + 8) === COOKIE_MARK && index < this.#expected.requests.length, 'a reply to a request that nobody made');
    const request = this.#expected.requests[index];
    must(request.endAt <= this.#fedAt, 'a reply to a request that is not there yet');
    const reply = (this.#replies[index] ??= new PartialReply());
    must(!reply.done, 'a second reply to one request');
    if (view.getUint32(at) === 0x67446698) return this.#takeSimple(at, request, reply, terms.style);
    must(terms.style !== 'simple' && view.getUint32(at) === (terms.style === 'extended' ? 0x6e8a278c : 0x668e33ef), 'a reply of the wrong style');
    return this.#takeChunk(at, request, reply, terms.style);
  }

  #takeSimple(at: number, request: ExpectedRequest, reply: PartialReply, style: Style): number {
    const error = this.#view.getUint32(at + 4);
    const isPlain = style === 'simple' || (style === 'structured' && error === 0 && request.command !== CMD.READ && request.command !== CMD.BLOCK_STATUS);
    must(isPlain && reply.chunkCount === 0, 'a simple reply where a structured one belongs');
    reply.error = error;
    const length = error === 0 && request.command === CMD.READ ? request.length : 0;
    this.#need(at + 16, length);
    if (length > 0) this.#checkData(at + 16, request.offset, length);
    this.#end(request, reply);
    return at + 16 + length;
  }

  #takeChunk(at: number, request: ExpectedRequest, reply: PartialReply, style: Exclude<Style, 'simple'>): number {
    const headerBytes = HEADER_BYTES[style];
    this.#need(at, headerBytes);
    const view = this.#view;
    const flags = view.getUint16(at + 4);
    must(flags <= 1, 'unknown flags of a chunk');
    const isExtended = style === 'extended';
    const length = view.getUint32(at + (isExtended ? 28 : 16));
    if (isExtended) {
      must(view.getUint32(at + 24) === 0, 'a payload of 4 GiB');
      const offset = view.getUint32(at + 16) * 2 ** 32 + view.getUint32(at + 20);
      must(offset === request.offset, 'the offset of the request is not echoed');
    }
    this.#need(at + headerBytes, length);
    const chunk = { type: view.getUint16(at + 6), at: at + headerBytes, length };
    must((chunk.type !== CHUNK.STATUS || !isExtended) && (chunk.type !== CHUNK.STATUS_EXT || isExtended), 'a status of the wrong width');
    reply.chunkCount += 1;
    this.#add(chunk, flags === 1, request, reply);
    if (flags === 1) this.#end(request, reply);
    return at + headerBytes + length;
  }

  #add(chunk: Chunk, done: boolean, request: ExpectedRequest, reply: PartialReply): void {
    const { type, at, length } = chunk;
    if (type === CHUNK.NONE) must(length === 0 && done, 'a chunk NONE that is not the end');
    else if (type === CHUNK.DATA || type === CHUNK.HOLE) this.#addPiece(chunk, request, reply);
    else if (type === CHUNK.STATUS) this.#addStatus(chunk, 8, request, reply);
    else if (type === CHUNK.STATUS_EXT) this.#addStatus(chunk, 16, request, reply);
    else if (type === CHUNK.ERROR || type === CHUNK.ERROR_OFFSET) {
      const tail = type === CHUNK.ERROR_OFFSET ? 8 : 0;
      must(length >= 6 + tail && length === 6 + this.#view.getUint16(at + 4) + tail, 'an error of a wrong form');
      must(reply.error === 0, 'two errors in one reply');
      reply.error = this.#view.getUint32(at);
      must(reply.error !== 0, 'an error chunk without an error');
      this.#checkText(at + 6, length - 6 - tail);
      if (tail === 0) return;
      const offset = this.#view.getUint32(at + length - 8) * 2 ** 32 + this.#view.getUint32(at + length - 4);
      must(request.command !== CMD.FLUSH && offset >= request.offset && offset < request.offset + request.length, 'an error outside of the request');
    } else throw new Finding(`a chunk of the unknown type ${type}`);
  }

  #addPiece({ type, at, length }: Chunk, request: ExpectedRequest, reply: PartialReply): void {
    must(request.command === CMD.READ && (type === CHUNK.DATA ? length >= 9 : length === 12), 'content of a wrong form');
    const begin = this.#view.getUint32(at) * 2 ** 32 + this.#view.getUint32(at + 4);
    const size = type === CHUNK.DATA ? length - 8 : this.#view.getUint32(at + 8);
    must(size > 0 && begin >= request.offset && begin + size <= request.offset + request.length, 'a piece outside of the request');
    const isBehindAll = begin >= reply.piecesEnd;
    for (let index = 0; index < reply.pieces.length && !isBehindAll; index += 2) must(begin + size <= reply.pieces[index] || begin >= reply.pieces[index + 1], 'pieces that overlap');
    reply.piecesEnd = Math.max(reply.piecesEnd, begin + size);
    must((request.flags & FLAG.DF) === 0 || reply.pieces.length === 0, 'two pieces in spite of DF');
    reply.pieces.push(begin, begin + size);
    reply.pieceBytes += size;
    if (type === CHUNK.DATA) this.#checkData(at + 8, begin, size);
    else if (!this.#expected.changesVolume) must(isZeroAtFirst(begin, size), 'a hole where data is');
  }

  #addStatus({ at, length }: Chunk, extentBytes: 8 | 16, request: ExpectedRequest, reply: PartialReply): void {
    const view = this.#view;
    const head = extentBytes === 8 ? 4 : 8;
    must(length >= head + extentBytes && (length - head) % extentBytes === 0, 'a status of a wrong form');
    const id = view.getUint32(at);
    must(request.command === CMD.BLOCK_STATUS && request.contexts.includes(id) && !reply.statuses.includes(id), 'a status that was not asked for');
    reply.statuses.push(id);
    const count = (length - head) / extentBytes;
    must(extentBytes === 8 || view.getUint32(at + 4) === count, 'a wrong number of extents');
    must((request.flags & FLAG.REQ_ONE) === 0 || count === 1, 'REQ_ONE was not heeded');
    let sum = 0;
    let last = -1;
    for (let from = at + head; from < at + length; from += extentBytes) {
      const size = extentBytes === 8 ? view.getUint32(from) : view.getUint32(from) * 2 ** 32 + view.getUint32(from + 4);
      const status = view.getUint32(from + extentBytes - 4);
      must(size > 0 && sum < request.length && status !== last, 'an extent that is empty, behind the range or not merged');
      sum += size;
      last = status;
    }
    must(sum <= request.length, 'extents that are longer than the range');
  }

  #checkData(at: number, offset: number, length: number): void {
    const bytes = this.#bytes;
    if (!this.#expected.changesVolume) {
      const isSame = Buffer.compare(bytes.subarray(at, at + length), FIRST_CONTENT.subarray(offset, offset + length)) === 0;
      if (!isSame) throw new Finding(`data at ${offset} that is not of the volume`);
      return;
    }
    const foreign = indexOfForeign(bytes.subarray(at, at + length));
    if (foreign >= 0) throw new Finding(`byte ${bytes[at + foreign]} at ${offset + foreign} is not of the volume`);
  }

  #end(request: ExpectedRequest, reply: PartialReply): void {
    reply.done = true;
    this.#doneCount += 1;
    const { error } = reply;
    const isLate = request.endAt > this.#expected.shutdownAt;
    // The kernel's client takes every error for a failed disk: it is told nothing.
    if (isLate && this.#isSimple) throw new Finding(`command ${request.command} ${request.offset}+${request.length}: a client of simple replies is answered ${error} while the server stops`);
    const isExpected = isLate ? error === ESHUTDOWN || (error === request.error && error !== 0) : error === request.error || (request.error === 0 && error === EIO && this.#mayFail);
    if (!isExpected) throw new Finding(`command ${request.command} flags ${request.flags} ${request.offset}+${request.length}: error ${error} instead of ${isLate ? ESHUTDOWN : request.error}`);
    if (error !== 0 || this.#isSimple) return;
    if (request.command === CMD.READ) must(reply.pieceBytes === request.length, 'a READ that is not whole');
    if (request.command === CMD.BLOCK_STATUS) must(reply.statuses.length === request.contexts.length, 'a context without a status');
  }

  get #isSimple(): boolean {
    return this.#expected.terms?.style === 'simple';
  }
}
