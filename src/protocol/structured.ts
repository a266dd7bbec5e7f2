/**
 * Chunks of structured replies (NBD document, "Structured reply chunk message" and "Structured reply types"; branch extension-ext-header,
 * "Extended reply chunk message").
 *
 * | offset | structured, 20 bytes | | offset | extended, 32 bytes |
 * |---|---|---|---|---|
 * | 0 | u32 NBD_STRUCTURED_REPLY_MAGIC | | 0 | u32 NBD_EXTENDED_REPLY_MAGIC |
 * | 4 | u16 flags: DONE | | 4 | u16 flags: DONE |
 * | 6 | u16 type | | 6 | u16 type |
 * | 8 | cookie of the request | | 8 | cookie of the request |
 * | 16 | u32 length of the payload | | 16 | offset of the request, as it came |
 * | 20 | payload | | 24 | u64 length of the payload |
 * | | | | 32 | payload |
 *
 * | type | payload |
 * |---|---|
 * | NONE | - |
 * | OFFSET_DATA | u64 offset, the data |
 * | OFFSET_HOLE | u64 offset, u32 length |
 * | BLOCK_STATUS | u32 context, for each extent: u32 length, u32 status |
 * | BLOCK_STATUS_EXT | u32 context, u32 number of extents, for each: u64 length, u64 status |
 * | ERROR | u32 error, u16 length of the text, text |
 * | ERROR_OFFSET | the same, u64 offset |
 *
 * Cookie and offset of a request lie side by side in both kinds of header: its **identity** is those 16 bytes, echoed and never parsed.
 */
import {
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_BLOCK_STATUS,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_ERROR_OFFSET,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_STRUCTURED_REPLY_MAGIC,
} from './constants.ts';
import { encodeText } from './negotiation.ts';
import { COOKIE_BYTES, copyCookie, writeU16, writeU32, writeU64 } from './wire.ts';

const STRUCTURED_HEADER_BYTES = 20;
const EXTENDED_HEADER_BYTES = 32;
const OFFSET_BYTES = 8;
const HOLE_BYTES = 12;

/** An error, as a chunk tells it. `offsetBytes`: where it happened, if that is known. */
export interface ChunkError {
  readonly error: number;
  readonly text: string;
  readonly offsetBytes: number | null;
}

/** Encodes chunks with one of the two headers. All methods write at `at` of `target`, where the caller has made room. */
export class ChunkEncoder {
  readonly #extended: boolean;
  readonly headerBytes: number;

  constructor(extended: boolean) {
    this.#extended = extended;
    this.headerBytes = extended ? EXTENDED_HEADER_BYTES : STRUCTURED_HEADER_BYTES;
  }

  /** What stands before the data of a chunk of data. */
  get dataPrefixBytes(): number {
    return this.headerBytes + OFFSET_BYTES;
  }

  get holeBytes(): number {
    return this.headerBytes + HOLE_BYTES;
  }

  /** What one extent takes in a chunk of statuses. */
  get extentBytes(): number {
    return this.#extended ? 16 : 8;
  }

  /** What stands before the extents of such a chunk. */
  get statusPrefixBytes(): number {
    return this.headerBytes + (this.#extended ? 8 : 4);
  }

  #header(target: Uint8Array, at: number, type: number, done: boolean, payloadBytes: number, identity: Uint8Array, identityAt: number): void {
    writeU32(target, at, this.#extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
    writeU16(target, at + 4, done ? NBD_REPLY_FLAG_DONE : 0);
    writeU16(target, at + 6, type);
    copyCookie(identity, identityAt, target, at + 8);
    if (this.#extended) {
      copyCookie(identity, identityAt + COOKIE_BYTES, target, at + 16); // the offset: eight bytes that are echoed, too
      writeU64(target, at + 24, payloadBytes);
    } else {
      writeU32(target, at + 16, payloadBytes);
    }
  }

  /** The last chunk of a reply that has nothing more to say; `headerBytes` long. */
  none(target: Uint8Array, at: number, identity: Uint8Array, identityAt: number): void {
    this.#header(target, at, NBD_REPLY_TYPE_NONE, true, 0, identity, identityAt);
  }

  /** What stands before `lengthBytes` of data; `dataPrefixBytes` long. */
  dataPrefix(target: Uint8Array, at: number, offsetBytes: number, lengthBytes: number, done: boolean, identity: Uint8Array, identityAt: number): void {
    this.#header(target, at, NBD_REPLY_TYPE_OFFSET_DATA, done, OFFSET_BYTES + lengthBytes, identity, identityAt);
    writeU64(target, at + this.headerBytes, offsetBytes);
  }

  /** `holeBytes` long. */
  hole(target: Uint8Array, at: number, offsetBytes: number, lengthBytes: number, done: boolean, identity: Uint8Array, identityAt: number): void {
    this.#header(target, at, NBD_REPLY_TYPE_OFFSET_HOLE, done, HOLE_BYTES, identity, identityAt);
    writeU64(target, at + this.headerBytes, offsetBytes);
    writeU32(target, at + this.headerBytes + OFFSET_BYTES, lengthBytes);
  }

  /** What stands before `extentCount` extents of a context; `statusPrefixBytes` long. */
  statusPrefix(target: Uint8Array, at: number, contextId: number, extentCount: number, done: boolean, identity: Uint8Array, identityAt: number): void {
    const type = this.#extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS;
    const payloadBytes = this.statusPrefixBytes - this.headerBytes + extentCount * this.extentBytes;
    this.#header(target, at, type, done, payloadBytes, identity, identityAt);
    writeU32(target, at + this.headerBytes, contextId);
    if (this.#extended) writeU32(target, at + this.headerBytes + 4, extentCount);
  }

  /** One extent, `extentBytes` long. */
  extent(target: Uint8Array, at: number, lengthBytes: number, status: number): void {
    if (this.#extended) {
      writeU64(target, at, lengthBytes);
      writeU64(target, at + 8, status);
    } else {
      writeU32(target, at, lengthBytes);
      writeU32(target, at + 4, status);
    }
  }

  /** The last chunk of a reply that failed, as bytes of its own: errors are few. */
  error({ error, text, offsetBytes }: ChunkError, identity: Uint8Array, identityAt: number): Uint8Array {
    const textBytes = encodeText(text);
    const offsetAt = this.headerBytes + 6 + textBytes.length;
    const target = new Uint8Array(offsetAt + (offsetBytes === null ? 0 : OFFSET_BYTES));
    const type = offsetBytes === null ? NBD_REPLY_TYPE_ERROR : NBD_REPLY_TYPE_ERROR_OFFSET;
    this.#header(target, 0, type, true, target.length - this.headerBytes, identity, identityAt);
    writeU32(target, this.headerBytes, error);
    writeU16(target, this.headerBytes + 4, textBytes.length);
    target.set(textBytes, this.headerBytes + 6);
    if (offsetBytes !== null) writeU64(target, offsetAt, offsetBytes);
    return target;
  }
}
