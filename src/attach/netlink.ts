/**
 * Generic netlink (linux/netlink.h, linux/genetlink.h): bytes in, bytes out. Integers are those of the machine, little-endian on all that are
 * taken (`node-koffi.ts`).
 *
 * | offset | message | | offset | attribute |
 * |---|---|---|---|---|
 * | 0 | u32 length, with this header | | 0 | u16 length, with this header |
 * | 4 | u16 type: the family, or 2 for an error | | 2 | u16 type; bit 15: holds attributes |
 * | 6 | u16 flags | | 4 | value, with zeroes behind it to a multiple of 4 |
 * | 8 | u32 sequence number, echoed in answers | | | |
 * | 12 | u32 port; 0: the kernel's | | | |
 * | 16 | u8 command, u8 version, u16 zero | | | |
 * | 20 | attributes | | | |
 *
 * An error has behind its first 16 bytes an i32, 0 or a negative errno, and the header of what it answers: 0 is an acknowledgement.
 * Bytes are valid if and only if each length covers its own header and stays within what holds it.
 */
import { VolumeError } from '../base/errors.ts';

export const GENL_ID_CTRL = 16;
const NLMSG_ERROR = 2;
const NLM_F_REQUEST_AND_ACK = 1 | 4;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
const HEADER_BYTES = 16;
const GENERIC_HEADER_BYTES = 20;
const ATTRIBUTE_HEADER_BYTES = 4;

export interface NetlinkRequest {
  readonly family: number;
  readonly sequence: number;
  readonly command: number;
  readonly attributes: readonly Uint8Array[];
}

/** What the kernel says: the end of a request, or a message of a family. */
export type NetlinkAnswer =
  | { readonly kind: 'end'; readonly sequence: number; readonly errno: number }
  | { readonly kind: 'message'; readonly family: number; readonly sequence: number; readonly command: number; readonly attributes: ReadonlyMap<number, Uint8Array> };

const padded = (lengthBytes: number): number => (lengthBytes + 3) & ~3;

function encodeAttribute(type: number, valueBytes: number): Buffer {
  const target = Buffer.alloc(padded(ATTRIBUTE_HEADER_BYTES + valueBytes));
  target.writeUInt16LE(ATTRIBUTE_HEADER_BYTES + valueBytes, 0);
  target.writeUInt16LE(type, 2);
  return target;
}

export function encodeU32(type: number, value: number): Uint8Array {
  const target = encodeAttribute(type, 4);
  target.writeUInt32LE(value, ATTRIBUTE_HEADER_BYTES);
  return target;
}

/** `value` is a safe integer. */
export function encodeU64(type: number, value: number): Uint8Array {
  const target = encodeAttribute(type, 8);
  target.writeBigUInt64LE(BigInt(value), ATTRIBUTE_HEADER_BYTES);
  return target;
}

/** With a NUL behind it, as the kernel wants it. */
export function encodeString(type: number, text: string): Uint8Array {
  const bytes = Buffer.from(`${text}\0`, 'utf8');
  const target = encodeAttribute(type, bytes.length);
  target.set(bytes, ATTRIBUTE_HEADER_BYTES);
  return target;
}

export function encodeNested(type: number, attributes: readonly Uint8Array[]): Uint8Array {
  const value = Buffer.concat(attributes);
  const target = encodeAttribute(type | NLA_F_NESTED, value.length);
  target.set(value, ATTRIBUTE_HEADER_BYTES);
  return target;
}

/** A request that the kernel is to acknowledge. */
export function encodeRequest({ family, sequence, command, attributes }: NetlinkRequest): Uint8Array {
  const header = Buffer.alloc(GENERIC_HEADER_BYTES);
  const message = Buffer.concat([header, ...attributes]);
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(family, 4);
  message.writeUInt16LE(NLM_F_REQUEST_AND_ACK, 6);
  message.writeUInt32LE(sequence, 8);
  message[16] = command;
  message[17] = 1; // version
  return message;
}

function broken(what: string): VolumeError {
  return new VolumeError('unsupported', `the kernel's answer is not understood: ${what}`);
}

/** The value of each attribute by its type; of several of one type the last. */
export function decodeAttributes(source: Uint8Array): ReadonlyMap<number, Uint8Array> {
  return new Map(decodeList(source).map(({ type, value }) => [type, value]));
}

/** The attributes in their order, for lists that repeat a type. */
export function decodeList(source: Uint8Array): readonly { readonly type: number; readonly value: Uint8Array }[] {
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.length);
  const list: { type: number; value: Uint8Array }[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < ATTRIBUTE_HEADER_BYTES) throw broken(`an attribute is cut short at byte ${at} of ${bytes.length}`);
    const length = bytes.readUInt16LE(at);
    if (length < ATTRIBUTE_HEADER_BYTES || length > bytes.length - at) throw broken(`an attribute of ${length} bytes at byte ${at} of ${bytes.length}`);
    list.push({ type: bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK, value: bytes.subarray(at + ATTRIBUTE_HEADER_BYTES, at + length) });
    at += padded(length);
  }
  return list;
}

/** All messages of one datagram. */
export function decodeAnswers(source: Uint8Array): NetlinkAnswer[] {
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.length);
  const answers: NetlinkAnswer[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < HEADER_BYTES) throw broken(`a message is cut short at byte ${at} of ${bytes.length}`);
    const length = bytes.readUInt32LE(at);
    if (length < GENERIC_HEADER_BYTES || length > bytes.length - at) throw broken(`a message of ${length} bytes at byte ${at} of ${bytes.length}`);
    answers.push(decodeAnswer(bytes.subarray(at, at + length)));
    at += padded(length);
  }
  return answers;
}

function decodeAnswer(message: Buffer): NetlinkAnswer {
  const family = message.readUInt16LE(4);
  const sequence = message.readUInt32LE(8);
  if (family === NLMSG_ERROR) return { kind: 'end', sequence, errno: -message.readInt32LE(HEADER_BYTES) };
  return { kind: 'message', family, sequence, command: message[16], attributes: decodeAttributes(message.subarray(GENERIC_HEADER_BYTES)) };
}

function valueOf(attributes: ReadonlyMap<number, Uint8Array>, type: number, lengthBytes: number): Buffer {
  const value = attributes.get(type);
  if (value === undefined || value.length < lengthBytes) throw broken(`attribute ${type} ${value === undefined ? 'is missing' : `has ${value.length} bytes, not ${lengthBytes}`}`);
  return Buffer.from(value.buffer, value.byteOffset, value.length);
}

export function u8Of(attributes: ReadonlyMap<number, Uint8Array>, type: number): number {
  return valueOf(attributes, type, 1)[0];
}

export function u16Of(attributes: ReadonlyMap<number, Uint8Array>, type: number): number {
  return valueOf(attributes, type, 2).readUInt16LE();
}

export function u32Of(attributes: ReadonlyMap<number, Uint8Array>, type: number): number {
  return valueOf(attributes, type, 4).readUInt32LE();
}

/** The text of an attribute, up to its NUL. */
export function stringOf(attributes: ReadonlyMap<number, Uint8Array>, type: number): string {
  const value = valueOf(attributes, type, 1);
  const end = value.indexOf(0);
  return value.toString('utf8', 0, end === -1 ? value.length : end);
}

/** The list in an attribute; empty if it is missing. */
export function listOf(attributes: ReadonlyMap<number, Uint8Array>, type: number): readonly { readonly type: number; readonly value: Uint8Array }[] {
  return decodeList(attributes.get(type) ?? new Uint8Array(0));
}
