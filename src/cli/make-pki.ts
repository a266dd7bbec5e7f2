/** Certificates for a first try: a small authority, and what it vouches for. */
import { generateKeyPair, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import forge from 'node-forge';
import { parseAddress } from '../base/address-range.ts';

/** A certificate and its key, both as PEM. */
export interface Issued {
  readonly certificate: string;
  readonly key: string;
}

/** Milliseconds since 1970. */
export interface Validity {
  readonly fromMs: number;
  readonly toMs: number;
}

export interface CertificateOptions {
  /** Common name, in ASCII. */
  readonly name: string;
  readonly purpose: 'server' | 'client';
  /** DNS names and IP addresses that clients may know it by. */
  readonly altNames: readonly string[];
  readonly validity: Validity;
}

const KEY_BITS = 2048;
const SERIAL_BYTES = 16;
const DNS_NAME = 2;
const IP_ADDRESS = 7;

/** Keys are made by Node: forge would take seconds for one. */
async function newKey(): Promise<{ readonly pem: string; readonly privateKey: forge.pki.rsa.PrivateKey; readonly publicKey: forge.pki.rsa.PublicKey }> {
  const { privateKey: pem, publicKey } = await promisify(generateKeyPair)('rsa', {
    modulusLength: KEY_BITS,
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  return { pem, privateKey: forge.pki.privateKeyFromPem(pem), publicKey: forge.pki.publicKeyFromPem(publicKey) };
}

function draft(name: string, publicKey: forge.pki.rsa.PublicKey, { fromMs, toMs }: Validity): forge.pki.Certificate {
  const certificate = forge.pki.createCertificate();
  const serial = randomBytes(SERIAL_BYTES);
  serial[0] = (serial[0] & 0x7f) | 0x40; // a positive number of full length
  certificate.serialNumber = serial.toString('hex');
  certificate.publicKey = publicKey;
  certificate.validity.notBefore = new Date(fromMs);
  certificate.validity.notAfter = new Date(toMs);
  certificate.setSubject([{ name: 'commonName', value: name }]);
  return certificate;
}

/** Makes an authority whose certificate is its own word. */
export async function makeAuthority(name: string, validity: Validity): Promise<Issued> {
  const { pem, privateKey, publicKey } = await newKey();
  const certificate = draft(name, publicKey, validity);
  certificate.setIssuer(certificate.subject.attributes);
  certificate.setExtensions([
    { name: 'basicConstraints', cA: true, pathLenConstraint: 0, critical: true },
    { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
    { name: 'subjectKeyIdentifier' },
  ]);
  certificate.sign(privateKey, forge.md.sha256.create());
  return { certificate: forge.pki.certificateToPem(certificate), key: pem };
}

/** Makes a key, and a certificate that `authority` vouches for. */
export async function issueCertificate(authority: Issued, { name, purpose, altNames, validity }: CertificateOptions): Promise<Issued> {
  const issuer = forge.pki.certificateFromPem(authority.certificate);
  const { pem, publicKey } = await newKey();
  const certificate = draft(name, publicKey, validity);
  certificate.setIssuer(issuer.subject.attributes);
  certificate.setExtensions([
    { name: 'basicConstraints', cA: false, critical: true },
    { name: 'keyUsage', digitalSignature: true, keyEncipherment: purpose === 'server', critical: true },
    { name: 'extKeyUsage', serverAuth: purpose === 'server', clientAuth: purpose === 'client' },
    { name: 'subjectKeyIdentifier' },
    { name: 'authorityKeyIdentifier', keyIdentifier: issuer.generateSubjectKeyIdentifier().getBytes() },
    ...(altNames.length === 0 ? [] : [{ name: 'subjectAltName', altNames: altNames.map((text) => (parseAddress(text) === null ? { type: DNS_NAME, value: text } : { type: IP_ADDRESS, ip: text })) }]),
  ]);
  certificate.sign(forge.pki.privateKeyFromPem(authority.key), forge.md.sha256.create());
  return { certificate: forge.pki.certificateToPem(certificate), key: pem };
}
