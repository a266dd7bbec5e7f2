/**
 * What an NBD client puts on the wire and takes from it, written from the document and not with `src/protocol`: the two check each
 * other. Numbers may be bigints, so that a test can say what no honest client would.
 */
import {
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_EXPORT,
  NBD_INFO_NAME,
} from '../../src/protocol/constants.ts';

export interface RequestFields {
  readonly command: number;
  readonly flags?: number;
  /** 8 bytes. */
  readonly cookie: Uint8Array;
  readonly offset?: number | bigint;
  readonly length?: number | bigint;
  readonly payload?: Uint8Array;
  readonly magic?: number;
}

export function requestBytes(fields: RequestFields): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(fields.magic ?? 0x25609513, 0);
  header.writeUInt16BE(fields.flags ?? 0, 4);
  header.writeUInt16BE(fields.command, 6);
  header.set(fields.cookie, 8);
  header.writeBigUInt64BE(BigInt(fields.offset ?? 0), 16);
  header.writeUInt32BE(Number(fields.length ?? fields.payload?.length ?? 0), 24);
  return fields.payload === undefined ? header : Buffer.concat([header, fields.payload]);
}

/** A request with an extended header; PAYLOAD_LEN is the caller's to say. */
export function extendedRequestBytes(fields: RequestFields): Buffer {
  const header = Buffer.alloc(32);
  header.writeUInt32BE(fields.magic ?? 0x21e41c71, 0);
  header.writeUInt16BE(fields.flags ?? 0, 4);
  header.writeUInt16BE(fields.command, 6);
  header.set(fields.cookie, 8);
  header.writeBigUInt64BE(BigInt(fields.offset ?? 0), 16);
  header.writeBigUInt64BE(BigInt(fields.length ?? fields.payload?.length ?? 0), 24);
  return fields.payload === undefined ? header : Buffer.concat([header, fields.payload]);
}

export function clientFlagsBytes(flags: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(flags);
  return bytes;
}

export function optionBytes(option: number, data: Uint8Array = Buffer.alloc(0), announcedBytes: number = data.length): Buffer {
  const header = Buffer.alloc(16);
  header.write('IHAVEOPT', 'latin1');
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(announcedBytes, 12);
  return Buffer.concat([header, data]);
}

/** Data of INFO and GO. */
export function infoRequestBytes(name: string | Uint8Array, infos: readonly number[] = []): Buffer {
  const nameBytes = typeof name === 'string' ? Buffer.from(name) : name;
  const data = Buffer.alloc(4 + nameBytes.length + 2 + 2 * infos.length);
  data.writeUInt32BE(nameBytes.length);
  data.set(nameBytes, 4);
  data.writeUInt16BE(infos.length, 4 + nameBytes.length);
  infos.forEach((info, index) => data.writeUInt16BE(info, 6 + nameBytes.length + 2 * index));
  return data;
}

function prefixed(text: string | Uint8Array): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. `announced`: the number of queries that is said. */
export function metaContextBytes(name: string | Uint8Array, queries: readonly (string | Uint8Array)[], announced = queries.length): Buffer {
  const count = Buffer.alloc(4);
  count.writeUInt32BE(announced);
  return Buffer.concat([prefixed(name), count, ...queries.map(prefixed)]);
}

/** Payload of an extended BLOCK_STATUS. */
export function statusPayloadBytes(length: number | bigint, ids: readonly number[]): Buffer {
  const bytes = Buffer.alloc(8 + 4 * ids.length);
  bytes.writeBigUInt64BE(BigInt(length));
  for (const [index, id] of ids.entries()) bytes.writeUInt32BE(id, 8 + 4 * index);
  return bytes;
}

/** The 18 bytes that a server says first. */
export const GREETING = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), Buffer.from([0, 3])]);

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

/** Reads one option reply off the front of `source`, or null if it is not all there. Throws on a wrong magic number. */
export function takeOptionReply(source: Buffer): { reply: OptionReply; rest: Buffer } | null {
  if (source.length < 20) return null;
  if (source.readBigUInt64BE(0) !== 0x0003e889045565a9n) throw new Error(`no option reply: ${source.subarray(0, 20).toString('hex')}`);
  const end = 20 + source.readUInt32BE(16);
  if (source.length < end) return null;
  const reply = { option: source.readUInt32BE(8), type: source.readUInt32BE(12), data: source.subarray(20, end) };
  return { reply, rest: source.subarray(end) };
}

/** What a server says of an export; each info at most once, and of the length that it must have. */
export interface ExportInfo {
  sizeBytes: bigint;
  transmissionFlags: number;
  name: string | null;
  description: string | null;
  blockSizes: { minimum: number; preferred: number; maximum: number } | null;
}

export function decodeExportInfos(replies: readonly OptionReply[]): ExportInfo {
  const info: ExportInfo = { sizeBytes: -1n, transmissionFlags: 0, name: null, description: null, blockSizes: null };
  const seen = new Set<number>();
  for (const { data } of replies) {
    const kind = data.readUInt16BE(0);
    if (seen.has(kind)) throw new Error(`info ${kind} was sent twice`);
    seen.add(kind);
    if (kind === NBD_INFO_EXPORT && data.length === 12) {
      info.sizeBytes = data.readBigUInt64BE(2);
      info.transmissionFlags = data.readUInt16BE(10);
    } else if (kind === NBD_INFO_NAME) {
      info.name = data.subarray(2).toString();
    } else if (kind === NBD_INFO_DESCRIPTION) {
      info.description = data.subarray(2).toString();
    } else if (kind === NBD_INFO_BLOCK_SIZE && data.length === 14) {
      info.blockSizes = { minimum: data.readUInt32BE(2), preferred: data.readUInt32BE(6), maximum: data.readUInt32BE(10) };
    } else {
      throw new Error(`info ${kind} of ${data.length} bytes`);
    }
  }
  if (!seen.has(NBD_INFO_EXPORT)) throw new Error('there is no NBD_INFO_EXPORT');
  return info;
}
