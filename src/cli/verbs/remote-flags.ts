/** Flags that say where a bucket is, and how it is reached. */
import { resolve } from 'node:path';
import type { Options } from 'yargs';
import type { NewRemote } from '../../volume/remote-volumes.ts';
import { UsageError } from '../context.ts';
import { once } from '../flags.ts';

export const BUCKET_FLAGS = {
  endpoint: { type: 'string', requiresArg: true, coerce: once('endpoint'), describe: "the store's address, such as https://s3.example.com; Amazon's own without it" },
  region: { type: 'string', requiresArg: true, default: 'us-east-1', coerce: once('region'), describe: 'region of the bucket' },
  credentials: { type: 'string', requiresArg: true, coerce: once('credentials'), describe: 'file of keys, as ~/.aws/credentials is; without it they are looked for where the SDK does' },
  ca: { type: 'string', requiresArg: true, coerce: once('ca'), describe: "PEM file of the authority that the endpoint's certificate is of" },
  'single-writer': { type: 'boolean', default: false, describe: 'for stores without conditional writes: you vouch that no second host ever opens the volume' },
} as const satisfies Record<string, Options>;

interface BucketArguments {
  readonly endpoint?: string | undefined;
  readonly region: string;
  readonly credentials?: string | undefined;
  readonly ca?: string | undefined;
  readonly 'single-writer': boolean;
}

/** What the flags say of the bucket at `url`. */
export function bucketOf(url: string, parsed: BucketArguments): NewRemote {
  if (!url.startsWith('s3://')) throw new UsageError(`"${url}" is no s3://BUCKET/PREFIX`, { flag: 'remote' });
  return {
    url,
    endpoint: parsed.endpoint ?? '',
    region: parsed.region,
    credentialsFile: parsed.credentials === undefined ? '' : resolve(parsed.credentials),
    caFile: parsed.ca === undefined ? '' : resolve(parsed.ca),
    singleWriter: parsed['single-writer'],
  };
}
