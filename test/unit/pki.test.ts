import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { writePki } from '../../src/cli/write-pki.ts';
import { TlsCredentials } from '../../src/server/tls-credentials.ts';

const DAY_MS = 86_400_000;
let directory = '';

beforeEach(async () => {
  directory = join(await mkdtemp(join(tmpdir(), 'basalt-pki-')), 'made');
});
afterEach(() => rm(join(directory, '..'), { recursive: true }));

const plan = (): Parameters<typeof writePki>[0] => ({ directory, hosts: ['nbd.example', '10.0.0.1'], clientName: 'alice', days: 30 });
const certificateOf = async (name: string): Promise<X509Certificate> => new X509Certificate(await readFile(join(directory, `${name}-cert.pem`)));

test('makes an authority that vouches for a server and a client, for a time, and keys for their owner alone', async () => {
  const now = Date.now();
  const files = await writePki(plan(), now);
  expect(files).toHaveLength(6);
  for (const name of files) expect((await stat(join(directory, name))).mode & 0o777).toBe(name.endsWith('-key.pem') ? 0o600 : 0o644);
  expect((await stat(directory)).mode & 0o777).toBe(0o700);
  const [ca, server, client] = [await certificateOf('ca'), await certificateOf('server'), await certificateOf('client')];
  expect([ca.ca, server.ca, client.ca]).toEqual([true, false, false]);
  for (const issued of [server, client]) {
    expect(issued.checkIssued(ca)).toBe(true);
    expect(issued.verify(ca.publicKey)).toBe(true);
    expect(Math.abs(Date.parse(issued.validTo) - now - 30 * DAY_MS)).toBeLessThan(2000);
    expect(Date.parse(issued.validFrom)).toBeLessThan(now);
  }
  for (const host of ['nbd.example', 'localhost']) expect(server.checkHost(host)).toBe(host);
  for (const address of ['10.0.0.1', '127.0.0.1', '::1']) expect(server.checkIP(address)).toBe(address);
  expect(client.subject).toBe('CN=alice');
  expect(new Set([ca, server, client].map(({ serialNumber }) => serialNumber)).size).toBe(3);
  await TlsCredentials.load({ tlsCertificates: directory, tlsPskFile: '', tlsVerifyPeer: true });
});

test.each(['ca-key.pem', 'client-cert.pem'])('never overwrites %s, nor writes anything beside it', async (name) => {
  await writePki(plan(), Date.now());
  for (const other of ['ca-cert.pem', 'ca-key.pem', 'server-cert.pem', 'server-key.pem', 'client-cert.pem', 'client-key.pem']) if (other !== name) await rm(join(directory, other));
  await writeFile(join(directory, name), 'precious');
  await expect(writePki(plan(), Date.now())).rejects.toMatchObject({ code: 'already-exists', message: `${join(directory, name)} is there already, and stays; name another directory` });
  expect(await readFile(join(directory, name), 'utf8')).toBe('precious');
  await expect(stat(join(directory, 'server-key.pem'))).rejects.toThrow('ENOENT');
});
