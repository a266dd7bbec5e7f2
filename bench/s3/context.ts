/** What the parts of the benchmark share: one S3 server, and where things are. */
import { join } from 'node:path';
import { BucketHost } from '../../test/s3/campaign/bucket-host.ts';
import type { S3Server } from '../../test/s3/s3-server.ts';
import type { S3BenchOptions } from './options.ts';

export const BUCKET = 'bench';

export interface S3BenchContext {
  readonly options: S3BenchOptions;
  readonly s3: S3Server;
  readonly credentialsFile: string;
  /** On a real disk, and empty. */
  readonly directory: string;
  readonly basaltEntry: string;
  readonly progress: (line: string) => void;
  /** Told of what runs, so that an interrupted benchmark ends it, too. */
  readonly started: (stop: () => Promise<unknown>) => void;
}

export function newHost(context: S3BenchContext, name: string, endpoint = context.s3.endpoint): BucketHost {
  const { basaltEntry: entry, credentialsFile, directory, options, started } = context;
  const host = new BucketHost({ entry, credentialsFile, endpoint, settings: options.settings, directory: join(directory, name) });
  started(() => host.kill());
  return host;
}

export function urlOf(prefix: string): string {
  return `s3://${BUCKET}/${prefix}`;
}
