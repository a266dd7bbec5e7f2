/** Who may see which export: the rules of the settings, put to one client. */
import { parseAddress, rangeIncludes } from '../base/address-range.ts';
import type { ExportSettings, ExportTable, TlsMode } from '../base/settings-types.ts';
import type { ExportTerms, SessionClient } from '../session/host.ts';

/** Where a client comes from and who it is. */
export interface Peer {
  /** The bytes of its IP address; null for a unix socket. */
  readonly address: Uint8Array | null;
  /** Its client flags and what it has proved to be called, once TLS stands. */
  readonly secured: { readonly clientFlags: number; readonly names: readonly string[] } | null;
}

/** The table of those that have none of their own. */
const DEFAULT_NAME = '*';
const OPEN: ExportSettings = { readOnly: false, allow: null, tlsRequired: false, tlsNames: null };

export class ExportAccess {
  readonly #exports: ExportTable;
  readonly #tls: TlsMode;

  constructor(exports: ExportTable, tls: TlsMode) {
    this.#exports = exports;
    this.#tls = tls;
  }

  clientOf(peer: Peer): SessionClient {
    return { tls: this.#tls, securedFlags: peer.secured?.clientFlags ?? null, termsOf: (name) => this.#termsOf(peer, name) };
  }

  #termsOf({ address, secured }: Peer, name: string): ExportTerms {
    const rules = this.#exports.get(name) ?? this.#exports.get(DEFAULT_NAME) ?? OPEN;
    if (rules.allow !== null && !isAllowed(rules.allow, address)) return 'hidden';
    if (secured === null && rules.tlsRequired) return 'tls-only';
    if (rules.tlsNames !== null && secured?.names.some((proved) => rules.tlsNames?.includes(proved)) !== true) return 'hidden';
    return rules.readOnly ? 'read-only' : 'writable';
  }
}

function isAllowed(allow: NonNullable<ExportSettings['allow']>, address: Uint8Array | null): boolean {
  return allow.some((range) => (range === 'unix' ? address === null : address !== null && rangeIncludes(range, address)));
}

/** The address of a socket's other end; null if it has none. */
export function addressOf(remoteAddress: string | undefined): Uint8Array | null {
  return remoteAddress === undefined ? null : parseAddress(remoteAddress);
}

/** Bits of an IPv6 address that stand for one client: whoever has one address of a /64 has all of them. */
const IPV6_CLIENT_BYTES = 8;

/** What connections are counted by; null: not at all. */
export function countKeyOf(address: Uint8Array | null): string | null {
  return address === null ? null : Buffer.from(address.length === 4 ? address : address.subarray(0, IPV6_CLIENT_BYTES)).toString('hex');
}
