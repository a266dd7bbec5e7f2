/**
 * Certificates and keys, in the layout that libnbd, nbdkit and qemu share: a directory with server-cert.pem, server-key.pem,
 * ca-cert.pem and ca-crl.pem; and a file of pre-shared keys, lines `user:hex`.
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import tls from 'node:tls';
import { systemCode, VolumeError } from '../base/errors.ts';
import type { ServerSettings } from '../base/settings-types.ts';

export type CredentialSettings = Pick<ServerSettings, 'tlsCertificates' | 'tlsPskFile' | 'tlsVerifyPeer'>;

/** A key below this is guessed, and a handshake is all that it takes to try one. */
const PSK_BYTES_MIN = 16;
const PSK_BYTES_MAX = 512;
const PSK_USER_BYTES_MAX = 128;

/**
 * With keys. TLS 1.3: those of SHA-256 first, for OpenSSL uses a key with no other, and prefers them by itself only where there is no
 * certificate. TLS 1.2: the suites of keys with forward secrecy, and none without (`!PSK` would take them all out for good).
 */
const PSK_CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'ECDHE-PSK-CHACHA20-POLY1305',
  'DHE-PSK-AES256-GCM-SHA384',
  'DHE-PSK-AES128-GCM-SHA256',
  'ECDHE-PSK-AES256-CBC-SHA384',
  'ECDHE-PSK-AES128-CBC-SHA256',
  ...tls.DEFAULT_CIPHERS.split(':').filter((name) => name !== '!PSK' && !name.startsWith('TLS_')),
  '!kPSK',
  '!kRSAPSK',
].join(':');

/** What one handshake is made with. */
export interface CredentialSet {
  readonly options: tls.SecureContextOptions & { readonly requestCert: boolean; readonly rejectUnauthorized: boolean };
  /** Pre-shared keys by user. */
  readonly keys: ReadonlyMap<string, Uint8Array>;
  /** Null without a certificate. */
  readonly certificate: X509Certificate | null;
}

export class TlsCredentials {
  readonly #settings: CredentialSettings;
  #current: CredentialSet;

  private constructor(settings: CredentialSettings, current: CredentialSet) {
    this.#settings = settings;
    this.#current = current;
  }

  /** Reads everything. Rejects with `not-found`, `io-error` or `invalid-argument`, naming the file. */
  static async load(settings: CredentialSettings): Promise<TlsCredentials> {
    return new TlsCredentials(settings, await readCredentials(settings));
  }

  get current(): CredentialSet {
    return this.#current;
  }

  /** Reads everything again, for handshakes from now on; `nowMs` since 1970. Rejects as `load` does, and then nothing has changed. */
  async reload(nowMs: number): Promise<void> {
    const next = await readCredentials(this.#settings);
    // Not at the start: a small machine may not know the time yet.
    const problem = validityProblem(next.certificate, nowMs);
    if (problem !== null) throw new VolumeError('invalid-argument', `${join(this.#settings.tlsCertificates, 'server-cert.pem')} ${problem}`);
    this.#current = next;
  }
}

/** Why clients will refuse a certificate now; null if its time is right. */
export function validityProblem(certificate: X509Certificate | null, nowMs: number): string | null {
  if (certificate === null) return null;
  if (Date.parse(certificate.validTo) <= nowMs) return `expired on ${certificate.validTo}`;
  if (Date.parse(certificate.validFrom) > nowMs) return `is not valid before ${certificate.validFrom}`;
  return null;
}

async function readCredentials({ tlsCertificates, tlsPskFile, tlsVerifyPeer }: CredentialSettings): Promise<CredentialSet> {
  const file = (name: string): string => join(tlsCertificates, name);
  const hasCertificates = tlsCertificates !== '';
  const [cert, key, ca, crl] = await Promise.all([
    hasCertificates ? readCredential(file('server-cert.pem')) : undefined,
    hasCertificates ? readCredential(file('server-key.pem')) : undefined,
    // Without `ca` Node would take every certificate of the public authorities.
    tlsVerifyPeer ? readCredential(file('ca-cert.pem')) : undefined,
    tlsVerifyPeer ? readIfThere(file('ca-crl.pem')) : undefined,
  ]);
  const keys = tlsPskFile === '' ? new Map<string, Uint8Array>() : parsePskFile(tlsPskFile, await readCredential(tlsPskFile));
  const options = {
    ...(cert === undefined ? {} : { cert, key }),
    ...(ca === undefined ? {} : { ca }),
    ...(crl === undefined ? {} : { crl }),
    ...(keys.size === 0 ? {} : { ciphers: PSK_CIPHERS, dhparam: 'auto' }),
    minVersion: 'TLSv1.2',
    requestCert: tlsVerifyPeer,
    rejectUnauthorized: tlsVerifyPeer,
  } as const;
  try {
    tls.createSecureContext(options);
    return { options, keys, certificate: cert === undefined ? null : new X509Certificate(cert) };
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new VolumeError('invalid-argument', `the certificates in ${tlsCertificates} cannot be used: ${text}`, { cause: error });
  }
}

async function readCredential(path: string): Promise<string> {
  const text = await readIfThere(path);
  if (text === undefined) throw new VolumeError('not-found', `${path} is not there; basalt pki makes certificates for a first try`);
  return text;
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw new VolumeError('io-error', `${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** Keys by user. Empty lines are left out; a message never says what a line holds. Throws `invalid-argument`. */
export function parsePskFile(path: string, text: string): ReadonlyMap<string, Uint8Array> {
  const keys = new Map<string, Uint8Array>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '') continue;
    const bad = (problem: string): VolumeError => new VolumeError('invalid-argument', `${path}, line ${index + 1}: ${problem}`);
    const match = /^([^:]+):((?:[0-9a-fA-F]{2})+)\s*$/.exec(line);
    if (match === null) throw bad('is not USER:HEX');
    const [, user, hex] = match;
    const key = Buffer.from(hex, 'hex');
    if (Buffer.byteLength(user) > PSK_USER_BYTES_MAX) throw bad(`the user is longer than ${PSK_USER_BYTES_MAX} bytes`);
    if (key.length < PSK_BYTES_MIN || key.length > PSK_BYTES_MAX) throw bad(`a key of ${key.length} bytes; from ${PSK_BYTES_MIN} to ${PSK_BYTES_MAX} are possible`);
    if (keys.has(user)) throw bad('its user has a key already');
    keys.set(user, key);
  }
  if (keys.size === 0) throw new VolumeError('invalid-argument', `${path} holds no keys`);
  return keys;
}
