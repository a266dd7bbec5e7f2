/** README's table "What of NBD is spoken": its rows, each of which has its tests in `features*.test.ts`, of the built server. */
import { test } from 'vitest';
import { interopTest, type Tool } from './tools.ts';

export const FEATURE_ROWS = [
  'fixed newstyle: INFO, GO, LIST, ABORT',
  'EXPORT_NAME',
  'unknown client flags',
  'INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE',
  'unknown exports',
  'structured replies, OFFSET_HOLE',
  'texts of errors',
  '`base:allocation` / contexts of QEMU',
  'extended headers, BLOCK_STATUS_PAYLOAD',
  'DF',
  'FLUSH, FUA',
  'TRIM, WRITE_ZEROES, NO_HOLE, FAST_ZERO, CACHE',
  'CAN_MULTI_CONN',
  'RESIZE',
  'a write past the end / to a read-only export',
  'a WRITE of 33 MiB',
  'requests in flight of one connection',
  'half-close: what is outstanding is answered',
  'limits of handshakes: options / time',
  'TLS: X.509 / PSK / peers verified',
  'TLS: forced / selective, by export',
  'STARTTLS: bytes behind it / state before it / TLS 1.1',
  'unix sockets / stdio / LISTEN_FDS / vsock',
  'ESHUTDOWN on stop',
  'many exports, made while it runs',
] as const;

export type FeatureRow = (typeof FEATURE_ROWS)[number];

/** A test of what one row says. */
export function row(name: FeatureRow, behaviour: string, run: () => Promise<void>): void {
  test(`${name}: ${behaviour}`, run);
}

/** The same, seen by another project's client. */
export function rowWith(tools: readonly Tool[], name: FeatureRow, behaviour: string, run: () => Promise<void>): void {
  interopTest(tools, `${name}: ${behaviour}`, run);
}
