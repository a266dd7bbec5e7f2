/** Tells the end of a connection, which a kill brings about, from a reply that no server may give. */
import { systemCode } from '../../src/base/errors.ts';
import { NbdDisconnected } from '../support/nbd-client.ts';

const CODES: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ECONNREFUSED']);

export function isDisconnection(error: unknown): boolean {
  return error instanceof NbdDisconnected || CODES.has(systemCode(error) ?? '');
}
