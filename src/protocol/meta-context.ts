/**
 * Options about meta contexts (NBD document, "Metadata querying": NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT).
 *
 * Both take `u32 length of the export's name, name, u32 number of queries, each as u32 length, query`: valid if and only if these lengths fill
 * the data exactly and all strings are valid.
 */
import { NBD_REP_META_CONTEXT } from './constants.ts';
import { decodeText, encodeOptionReply, encodeText } from './negotiation.ts';
import { readU32, readU64, writeU32 } from './wire.ts';

export type MetaContextRequest = { readonly name: string; readonly queries: readonly string[] } | { readonly invalid: string };

export function decodeMetaContextRequest(data: Uint8Array): MetaContextRequest {
  if (data.length < 8) return { invalid: `option data of ${data.length} bytes is too short: it takes 8 at least` };
  const nameBytes = readU32(data, 0);
  if (nameBytes > data.length - 8) return { invalid: `name of ${nameBytes} bytes does not fit in option data of ${data.length}` };
  const name = decodeText(data.subarray(4, 4 + nameBytes), 'export name');
  if ('invalid' in name) return name;
  const queryCount = readU32(data, 4 + nameBytes);
  let at = 8 + nameBytes;
  // Each takes four bytes at least, so that a number is no reason to make room for it.
  if (queryCount > (data.length - at) / 4) return { invalid: `${queryCount} queries do not fit in option data of ${data.length} bytes` };
  const queries: string[] = [];
  while (queries.length < queryCount) {
    if (data.length - at < 4) return { invalid: `query ${queries.length} begins past the end of the option data` };
    const end = at + 4 + readU32(data, at);
    if (end > data.length) return { invalid: `query ${queries.length} reaches past the end of the option data` };
    const query = decodeText(data.subarray(at + 4, end), `query ${queries.length}`);
    if ('invalid' in query) return query;
    queries.push(query.text);
    at = end;
  }
  return at === data.length ? { name: name.text, queries } : { invalid: `${data.length - at} bytes follow the last query` };
}

/** One context: its number, which BLOCK_STATUS replies name, and its name. */
export function encodeMetaContext(option: number, id: number, name: string): Uint8Array {
  const nameBytes = encodeText(name);
  const data = new Uint8Array(4 + nameBytes.length);
  writeU32(data, 0, id);
  data.set(nameBytes, 4);
  return encodeOptionReply(option, NBD_REP_META_CONTEXT, data);
}

/** What the payload of an extended NBD_CMD_BLOCK_STATUS asks for: `u64 length, u32 context each`; null if it is not of that form. */
export function decodeStatusPayload(source: Uint8Array, at: number, byteCount: number): { lengthBytes: number; contextIds: number[] } | null {
  if (byteCount < 8 || byteCount % 4 !== 0) return null;
  const contextIds: number[] = [];
  for (let offset = 8; offset < byteCount; offset += 4) contextIds.push(readU32(source, at + offset));
  return { lengthBytes: readU64(source, at), contextIds };
}
