/** Writes the certificates of `basalt pki` where libnbd, nbdkit, qemu and `server.tls_certificates` look for them. */
import { lstat, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode, toVolumeError, VolumeError } from '../base/errors.ts';
import type { PkiPlan } from './context.ts';
import { issueCertificate, makeAuthority } from './make-pki.ts';

const DAY_MS = 86_400_000;
/** Clocks differ, and the client's may be behind. */
const CLOCK_SKEW_MS = 3_600_000;
const LOCAL_HOSTS = ['localhost', '127.0.0.1', '::1'];
const PUBLIC_MODE = 0o644;
const SECRET_MODE = 0o600;

/** Returns the names of the files. Rejects with `already-exists`, and has written nothing then, or `io-error`. */
export async function writePki({ directory, hosts, clientName, days }: PkiPlan, nowMs: number): Promise<readonly string[]> {
  const names = ['ca', 'server', 'client'].flatMap((owner) => [`${owner}-cert.pem`, `${owner}-key.pem`]);
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (const name of names) await checkFree(join(directory, name));
    const validity = { fromMs: nowMs - CLOCK_SKEW_MS, toMs: nowMs + days * DAY_MS };
    const authority = await makeAuthority('basalt pki', validity);
    const server = await issueCertificate(authority, { name: hosts[0] ?? 'localhost', purpose: 'server', altNames: [...new Set([...hosts, ...LOCAL_HOSTS])], validity });
    const client = await issueCertificate(authority, { name: clientName, purpose: 'client', altNames: [], validity });
    const texts = [authority, server, client].flatMap(({ certificate, key }) => [certificate, key]);
    for (const [index, name] of names.entries()) {
      // `wx`: what has come there meanwhile stays as well.
      await writeFile(join(directory, name), texts[index], { flag: 'wx', mode: name.endsWith('-key.pem') ? SECRET_MODE : PUBLIC_MODE });
    }
  } catch (error) {
    throw toVolumeError(error, `making certificates in ${directory}`);
  }
  return names;
}

async function checkFree(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return null;
    throw error;
  });
  if (found !== null) throw new VolumeError('already-exists', `${path} is there already, and stays; name another directory`);
}
