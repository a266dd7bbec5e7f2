/** What several behaviours do. */
import {
  NBD_CMD_CACHE,
  NBD_CMD_FLUSH,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from '../../../../src/protocol/constants.ts';
import { extendedRequestBytes, type RequestFields, requestBytes } from '../../../support/nbd-bytes.ts';
import { type NbdClient, NbdDisconnected, type RawRequest } from '../../../support/nbd-client.ts';
import type { ReplyStyle } from '../../../support/reply-reader.ts';
import type { Need } from './behaviour.ts';
import type { Subject } from './subject.ts';

/** A request as the style has it; PAYLOAD_LEN is the caller's to say. */
export function headerBytes(style: ReplyStyle, fields: RequestFields): Buffer {
  return style === 'extended' ? extendedRequestBytes(fields) : requestBytes(fields);
}

const NEEDS_OF: Readonly<Record<number, Need>> = {
  [NBD_CMD_WRITE]: 'writable',
  [NBD_CMD_FLUSH]: 'flush',
  [NBD_CMD_TRIM]: 'trim',
  [NBD_CMD_WRITE_ZEROES]: 'write zeroes',
  [NBD_CMD_CACHE]: 'cache',
};

/** Those of the commands that the server says it has. */
export function advertised(subject: Subject, commands: readonly number[]): number[] {
  return commands.filter((command) => subject.lacks(NEEDS_OF[command]) === null);
}

export function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

/** Whether the server has closed or reset the connection, and done nothing worse. */
export function isDisconnection(error: unknown): boolean {
  return error instanceof NbdDisconnected || (error instanceof Error && 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE'));
}

/** The error of the answer to a request, or null if the connection ended instead. */
export async function errorOrEnd(client: NbdClient, request: RawRequest): Promise<number | null> {
  try {
    return (await client.request(request)).error;
  } catch (error) {
    if (isDisconnection(error)) return null;
    throw error;
  }
}
