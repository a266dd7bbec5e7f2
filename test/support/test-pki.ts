/** Certificates and keys for tests, in the layout that all programs share; made once for a test file. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CertificateOptions, type Issued, issueCertificate, makeAuthority } from '../../src/cli/make-pki.ts';

const DAY_MS = 86_400_000;
/** Wide enough for a machine whose clock is wrong. */
export const VALID = { fromMs: Date.now() - DAY_MS, toMs: Date.now() + 365 * DAY_MS };
export const EXPIRED = { fromMs: Date.now() - 3 * DAY_MS, toMs: Date.now() - DAY_MS };

export class TestPki {
  readonly directory: string;
  readonly authority: Issued;
  readonly server: Issued;
  /** Of the name `alice`. */
  readonly client: Issued;

  private constructor(directory: string, { authority, server, client }: { readonly authority: Issued; readonly server: Issued; readonly client: Issued }) {
    this.directory = directory;
    this.authority = authority;
    this.server = server;
    this.client = client;
  }

  static async create(): Promise<TestPki> {
    const directory = await mkdtemp(join(tmpdir(), 'basalt-pki-'));
    const authority = await makeAuthority('test authority', VALID);
    const server = await issueCertificate(authority, { name: 'localhost', purpose: 'server', altNames: ['localhost', '127.0.0.1', '::1'], validity: VALID });
    const client = await issueCertificate(authority, { name: 'alice', purpose: 'client', altNames: ['alice.example'], validity: VALID });
    const pki = new TestPki(directory, { authority, server, client });
    await pki.write('ca', authority);
    await pki.write('server', server);
    await pki.write('client', client);
    return pki;
  }

  issue(options: Partial<CertificateOptions>): Promise<Issued> {
    return issueCertificate(this.authority, { name: 'alice', purpose: 'client', altNames: [], validity: VALID, ...options });
  }

  async write(name: string, { certificate, key }: Issued): Promise<void> {
    await writeFile(join(this.directory, `${name}-cert.pem`), certificate);
    await writeFile(join(this.directory, `${name}-key.pem`), key, { mode: 0o600 });
  }

  async dispose(): Promise<void> {
    await rm(this.directory, { recursive: true });
  }
}
