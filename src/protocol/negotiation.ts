/**
 * Messages of the handshake (NBD document, "Handshake phase" and "Option types").
 *
 * | offset | option, from the client | | offset | option reply, from the server |
 * |---|---|---|---|---|
 * | 0 | u64 IHAVEOPT | | 0 | u64 NBD_REP_MAGIC |
 * | 8 | u32 option | | 8 | u32 option it answers |
 * | 12 | u32 length of the data | | 12 | u32 reply type |
 * | 16 | data | | 16 | u32 length of the data |
 * | | | | 20 | data |
 *
 * These messages are few: they are built as small arrays of their own.
 */
import {
  IHAVEOPT_HIGH,
  IHAVEOPT_LOW,
  MAX_STRING_BYTES,
  NBDMAGIC_HIGH,
  NBDMAGIC_LOW,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_EXPORT,
  NBD_INFO_NAME,
  NBD_REP_ACK,
  NBD_REP_INFO,
  NBD_REP_MAGIC_HIGH,
  NBD_REP_MAGIC_LOW,
  NBD_REP_SERVER,
} from './constants.ts';
import { readU16, readU32, writeU16, writeU32, writeU64 } from './wire.ts';

export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_BYTES = 20;
const EXPORT_NAME_PADDING_BYTES = 124;

const textEncoder = new TextEncoder();
// ignoreBOM: a name that starts with U+FEFF is a name like any other, it must not lose its first character.
const textDecoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** NBDMAGIC, IHAVEOPT, handshake flags: the 18 bytes that open every connection. */
export function encodeGreeting(): Uint8Array {
  const target = new Uint8Array(18);
  writeU32(target, 0, NBDMAGIC_HIGH);
  writeU32(target, 4, NBDMAGIC_LOW);
  writeU32(target, 8, IHAVEOPT_HIGH);
  writeU32(target, 12, IHAVEOPT_LOW);
  writeU16(target, 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
  return target;
}

export function clientFlags(source: Uint8Array, at: number): number {
  return readU32(source, at);
}

/** Whether an option starts at `at`. */
export function isOption(source: Uint8Array, at: number): boolean {
  return readU32(source, at) === IHAVEOPT_HIGH && readU32(source, at + 4) === IHAVEOPT_LOW;
}

export function optionCode(source: Uint8Array, at: number): number {
  return readU32(source, at + 8);
}

export function optionDataBytes(source: Uint8Array, at: number): number {
  return readU32(source, at + 12);
}

/** A string of the protocol, or the reason why it is none: at most 4096 bytes of UTF-8 without NUL. */
export type DecodedText = { readonly text: string } | { readonly invalid: string };

export function decodeText(source: Uint8Array, what: string): DecodedText {
  if (source.length > MAX_STRING_BYTES) return { invalid: `${what} of ${source.length} bytes is longer than ${MAX_STRING_BYTES}` };
  if (source.includes(0)) return { invalid: `${what} contains a NUL byte` };
  try {
    return { text: textDecoder.decode(source) };
  } catch {
    return { invalid: `${what} is not UTF-8` }; // the only thing that a fatal decoder throws for
  }
}

/** What NBD_OPT_INFO and NBD_OPT_GO ask for. */
export type InfoRequest = { readonly name: string; readonly infos: readonly number[] } | { readonly invalid: string };

/**
 * `u32 length of the name, name, u16 number of infos, u16 each`: valid if and only if these lengths fill the data exactly and the name
 * is a valid string.
 */
export function decodeInfoRequest(data: Uint8Array): InfoRequest {
  if (data.length < 6) return { invalid: `option data of ${data.length} bytes is too short: it takes 6 at least` };
  const nameBytes = readU32(data, 0);
  if (nameBytes > data.length - 6) return { invalid: `name of ${nameBytes} bytes does not fit in option data of ${data.length}` };
  const infoCount = readU16(data, 4 + nameBytes);
  const expectedBytes = 6 + nameBytes + 2 * infoCount;
  if (data.length !== expectedBytes) {
    return { invalid: `option data of ${data.length} bytes, but its name and ${infoCount} infos take ${expectedBytes}` };
  }
  const name = decodeText(data.subarray(4, 4 + nameBytes), 'export name');
  if ('invalid' in name) return name;
  const infos: number[] = [];
  for (let index = 0; index < infoCount; index += 1) infos.push(readU16(data, 6 + nameBytes + 2 * index));
  return { name: name.text, infos };
}

/** UTF-8 of `text`, cut between two characters where it would be longer than a string of the protocol may be. */
export function encodeText(text: string): Uint8Array {
  const bytes = textEncoder.encode(text);
  if (bytes.length <= MAX_STRING_BYTES) return bytes;
  let end = MAX_STRING_BYTES;
  while (end > 0 && (bytes[end] & 0xc0) === 0x80) end -= 1;
  return bytes.subarray(0, end);
}

/** Option reply `type` with `data` behind it. */
export function encodeOptionReply(option: number, type: number, data: Uint8Array): Uint8Array {
  const target = new Uint8Array(OPTION_REPLY_BYTES + data.length);
  writeU32(target, 0, NBD_REP_MAGIC_HIGH);
  writeU32(target, 4, NBD_REP_MAGIC_LOW);
  writeU32(target, 8, option);
  writeU32(target, 12, type);
  writeU32(target, 16, data.length);
  target.set(data, OPTION_REPLY_BYTES);
  return target;
}

export function encodeAck(option: number): Uint8Array {
  return encodeOptionReply(option, NBD_REP_ACK, new Uint8Array(0));
}

/** An error reply, with a text that clients print. */
export function encodeOptionError(option: number, type: number, text: string): Uint8Array {
  return encodeOptionReply(option, type, encodeText(text));
}

/** One line of NBD_OPT_LIST. */
export function encodeServer(option: number, name: string, description: string): Uint8Array {
  const nameBytes = encodeText(name);
  const descriptionBytes = encodeText(description);
  const data = new Uint8Array(4 + nameBytes.length + descriptionBytes.length);
  writeU32(data, 0, nameBytes.length);
  data.set(nameBytes, 4);
  data.set(descriptionBytes, 4 + nameBytes.length);
  return encodeOptionReply(option, NBD_REP_SERVER, data);
}

/** NBD_INFO_EXPORT: what transmission needs to know. */
export function encodeInfoExport(option: number, sizeBytes: number, transmissionFlags: number): Uint8Array {
  const data = new Uint8Array(12);
  writeU16(data, 0, NBD_INFO_EXPORT);
  writeU64(data, 2, sizeBytes);
  writeU16(data, 10, transmissionFlags);
  return encodeOptionReply(option, NBD_REP_INFO, data);
}

function encodeInfoText(option: number, info: number, text: string): Uint8Array {
  const bytes = encodeText(text);
  const data = new Uint8Array(2 + bytes.length);
  writeU16(data, 0, info);
  data.set(bytes, 2);
  return encodeOptionReply(option, NBD_REP_INFO, data);
}

export function encodeInfoName(option: number, name: string): Uint8Array {
  return encodeInfoText(option, NBD_INFO_NAME, name);
}

export function encodeInfoDescription(option: number, description: string): Uint8Array {
  return encodeInfoText(option, NBD_INFO_DESCRIPTION, description);
}

/** Block sizes in bytes, as NBD_INFO_BLOCK_SIZE has them. */
export interface BlockSizes {
  readonly minimumBytes: number;
  readonly preferredBytes: number;
  readonly maximumBytes: number;
}

export function encodeInfoBlockSize(option: number, sizes: BlockSizes): Uint8Array {
  const data = new Uint8Array(14);
  writeU16(data, 0, NBD_INFO_BLOCK_SIZE);
  writeU32(data, 2, sizes.minimumBytes);
  writeU32(data, 6, sizes.preferredBytes);
  writeU32(data, 10, sizes.maximumBytes);
  return encodeOptionReply(option, NBD_REP_INFO, data);
}

/** The answer to NBD_OPT_EXPORT_NAME, which has no reply header; 124 zeroes follow unless the client said C_NO_ZEROES. */
export function encodeExportNameReply(sizeBytes: number, transmissionFlags: number, noZeroes: boolean): Uint8Array {
  const target = new Uint8Array(10 + (noZeroes ? 0 : EXPORT_NAME_PADDING_BYTES));
  writeU64(target, 0, sizeBytes);
  writeU16(target, 8, transmissionFlags);
  return target;
}
