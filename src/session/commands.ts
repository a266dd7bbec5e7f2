/** What a request must satisfy before it is carried out (NBD document, "Request types"). */
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOSPC,
  NBD_EPERM,
  NBD_ESHUTDOWN,
  NBD_FLAG_BLOCK_STATUS_PAYLOAD,
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_DF,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
} from '../protocol/constants.ts';
import { SIMPLE_TERMS, type Terms } from './terms.ts';

/** Payloads up to this are skipped when they are larger than a WRITE may be; a client that sends more has lost its way. */
export const SKIPPED_PAYLOAD_BYTES_MAX = 64 * 1024 * 1024;

/** What of an export bounds the requests of one client. */
export interface Bounds {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
}

/**
 * What an export can do. FLUSH and FUA of one connection cover the writes of all others, because all of them share one BlockDevice:
 * that is what CAN_MULTI_CONN promises.
 */
export function transmissionFlagsOf({ readOnly }: Pick<Bounds, 'readOnly'>, terms: Terms = SIMPLE_TERMS): number {
  const base = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;
  const payloads = terms.style === 'extended' && terms.contexts.length > 0 ? NBD_FLAG_BLOCK_STATUS_PAYLOAD : 0;
  const always = base | payloads | (terms.style === 'simple' ? 0 : NBD_FLAG_SEND_DF);
  if (readOnly) return always | NBD_FLAG_READ_ONLY;
  return always | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
}

/** FUA is accepted on every command once SEND_FUA is advertised. DISC never comes here. */
function flagsAllowed(command: number, { style, contexts }: Terms): number {
  switch (command) {
    case NBD_CMD_READ:
      return style === 'simple' ? NBD_CMD_FLAG_FUA : NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF;
    case NBD_CMD_WRITE:
      return style === 'extended' ? NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_PAYLOAD_LEN : NBD_CMD_FLAG_FUA;
    case NBD_CMD_BLOCK_STATUS:
      if (contexts.length === 0) return -1;
      return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE | (style === 'extended' ? NBD_CMD_FLAG_PAYLOAD_LEN : 0);
    case NBD_CMD_FLUSH:
    case NBD_CMD_TRIM:
    case NBD_CMD_CACHE:
      return NBD_CMD_FLAG_FUA;
    case NBD_CMD_WRITE_ZEROES:
      return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
    default:
      return -1;
  }
}

/**
 * The NBD error with which a request is refused, or 0. `offsetBytes` may be Infinity. An empty range is refused: the document leaves
 * it open, and it is a mistake of the client more often than not. The offset and length of a FLUSH mean nothing and are ignored.
 */
export function refusalOf(
  bounds: Bounds,
  command: number,
  flags: number,
  offsetBytes: number,
  lengthBytes: number,
  maxRequestBytes: number,
  terms: Terms = SIMPLE_TERMS,
): number {
  const allowed = flagsAllowed(command, terms);
  if (allowed < 0 || (flags & ~allowed) !== 0) return NBD_EINVAL;
  if (command === NBD_CMD_FLUSH) return 0;
  const writes = command === NBD_CMD_WRITE || command === NBD_CMD_WRITE_ZEROES;
  if (bounds.readOnly && (writes || command === NBD_CMD_TRIM)) return NBD_EPERM;
  if (lengthBytes === 0) return NBD_EINVAL;
  if ((command === NBD_CMD_READ || command === NBD_CMD_WRITE) && lengthBytes > maxRequestBytes) return NBD_EINVAL;
  if (lengthBytes > bounds.sizeBytes - offsetBytes) return writes ? NBD_ENOSPC : NBD_EINVAL;
  return 0;
}

const COMMAND_NAMES = ['READ', 'WRITE', 'DISC', 'FLUSH', 'TRIM', 'CACHE', 'WRITE_ZEROES', 'BLOCK_STATUS', 'RESIZE'];

/** What a request was refused for, in words, given the error of `refusalOf`. */
export function explainRefusal({ sizeBytes }: Bounds, error: number, command: number, flags: number, offsetBytes: number, lengthBytes: number): string {
  const name = command < COMMAND_NAMES.length ? `NBD_CMD_${COMMAND_NAMES[command]}` : `command ${command}`;
  if (error === NBD_ESHUTDOWN) return 'the server is shutting down';
  if (error === NBD_EPERM) return `${name}: the export is read-only`;
  const what = `${name} of ${lengthBytes} bytes at ${offsetBytes}, flags 0x${flags.toString(16)}`;
  if (lengthBytes > sizeBytes - offsetBytes) return `${what}: reaches past the end of the export (${sizeBytes} bytes)`;
  return `${what}: not valid here`;
}
