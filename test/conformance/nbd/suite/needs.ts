/** Why a server is not asked for a behaviour that needs something; null if it has it. */
import {
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
} from '../../../../src/protocol/constants.ts';
import type { Need } from './behaviour.ts';
import type { Facts } from './facts.ts';
import type { Target } from './target.ts';

const MIN_SIZE_BYTES = 2n * 1024n * 1024n;

type Lack = (facts: Facts, target: Target) => string | null;

const unless = (has: boolean, reason: string): string | null => (has ? null : reason);
const advertises =
  (flag: number, name: string): Lack =>
  (facts) =>
    unless((facts.export.transmissionFlags & flag) !== 0, `does not advertise ${name}`);

export const LACKS: Readonly<Record<Need, Lack>> = {
  writable: ({ readOnly, export: { sizeBytes } }) => (readOnly ? 'the export is read-only' : unless(sizeBytes >= MIN_SIZE_BYTES, 'the export is smaller than 2 MiB')),
  structured: ({ structured }) => unless(structured, 'no structured replies'),
  extended: ({ extended }) => unless(extended, 'no extended headers'),
  'base:allocation': ({ contexts }) => unless(contexts.includes('base:allocation'), 'no context base:allocation'),
  tls: (_, { tls }) => unless(tls !== null, 'the URI is not one of TLS'),
  'several connections': (_, { severalConnections }) => unless(severalConnections, 'one connection only'),
  'known names': ({ takesAnyName }) => unless(!takesAnyName, 'serves any export name'),
  'another export': (_, { otherExport }) => unless(otherExport !== null, 'no other export is known'),
  'an export of TLS only': (_, { tlsOnlyExport }) => unless(tlsOnlyExport !== null, 'no export of TLS only is known'),
  'a read-only export': (facts, { readOnly }) => unless(facts.readOnly || readOnly !== null, 'no read-only export is known'),
  list: ({ lists }) => unless(lists, 'does not list'),
  flush: advertises(NBD_FLAG_SEND_FLUSH, 'FLUSH'),
  fua: advertises(NBD_FLAG_SEND_FUA, 'FUA'),
  trim: advertises(NBD_FLAG_SEND_TRIM, 'TRIM'),
  'write zeroes': advertises(NBD_FLAG_SEND_WRITE_ZEROES, 'WRITE_ZEROES'),
  'fast zero': advertises(NBD_FLAG_SEND_FAST_ZERO, 'FAST_ZERO'),
  cache: advertises(NBD_FLAG_SEND_CACHE, 'CACHE'),
  'multi-conn': advertises(NBD_FLAG_CAN_MULTI_CONN, 'CAN_MULTI_CONN'),
};
