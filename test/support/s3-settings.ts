/** Settings of S3 stores for tests: few and quick tries, so that what fails does so soon. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RetrySettings, S3Settings } from '../../src/base/settings-types.ts';
import { createNodeEnv } from '../../src/env/node-env.ts';
import type { Env } from '../../src/env/env.ts';

export const QUICK_RETRIES: RetrySettings = { attempts: 4, delayMs: 20, throttledDelayMs: 40, delayMsMax: 200, attemptTimeoutMs: 10_000, callTimeoutMs: 30_000 };

export function s3Settings(settings: Pick<S3Settings, 'endpoint' | 'bucket'> & Partial<S3Settings>): S3Settings {
  return {
    region: 'us-east-1',
    prefix: '',
    credentialsFile: null,
    profile: 'default',
    pathStyle: null,
    caFile: null,
    socketsMax: 32,
    connectTimeoutMs: 3000,
    checksums: 'off',
    retries: QUICK_RETRIES,
    ...settings,
  };
}

export function nodeEnv(): Env {
  return createNodeEnv({ logger: { log: () => undefined }, workerEntry: new URL('file:///none'), workerThreads: 1 });
}

/** A folder of credentials files. */
export class CredentialsFolder {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async create(): Promise<CredentialsFolder> {
    return new CredentialsFolder(await mkdtemp(join(tmpdir(), 'basalt-credentials-')));
  }

  /** Writes a file of one key; returns its path. */
  async write(name: string, accessKeyId: string, secretAccessKey: string): Promise<string> {
    const path = join(this.path, name);
    await writeFile(path, `# of a test\n[default]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`, { mode: 0o600 });
    return path;
  }

  async dispose(): Promise<void> {
    await rm(this.path, { recursive: true });
  }
}
