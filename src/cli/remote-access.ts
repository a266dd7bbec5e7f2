/** How volumes of this program reach their buckets. The SDK is loaded when the first of them does. */
import { hostname } from 'node:os';
import { VolumeError } from '../base/errors.ts';
import type { S3Settings } from '../base/settings-types.ts';
import type { RemoteProgramSettings } from '../config/settings.ts';
import type { Env } from '../env/env.ts';
import type { RemoteAccess } from '../volume/attach-remote.ts';
import type { RemoteConfig } from '../volume/remote-config.ts';

/** Bucket and prefix of `s3://bucket/prefix`. Errors: `invalid-argument`. */
export function parseBucketUrl(url: string): { readonly bucket: string; readonly prefix: string } {
  const match = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*?))?\/?$/.exec(url);
  if (match === null) throw new VolumeError('invalid-argument', `"${url}" is no s3://BUCKET/PREFIX; bucket names are of 3 to 63 small letters, digits, dots and hyphens`);
  const prefix = match[2] ?? '';
  if (prefix !== '' && !/^[a-z0-9_-][a-z0-9._-]*(?:\/[a-z0-9_-][a-z0-9._-]*)*$/.test(prefix)) {
    throw new VolumeError('invalid-argument', `the prefix of "${url}" may be of small letters, digits and . _ - only, with single slashes: not every store takes others`);
  }
  return { bucket: match[1], prefix };
}

function s3SettingsOf(config: RemoteConfig, settings: RemoteProgramSettings): S3Settings {
  const { attempts, delayMs, throttledDelayMs, delayMsMax, attemptTimeoutMs, callTimeoutMs, connectTimeoutMs, socketsMax } = settings;
  return {
    ...parseBucketUrl(config.url),
    endpoint: config.endpoint === '' ? null : config.endpoint,
    region: config.region,
    credentialsFile: config.credentialsFile === '' ? null : config.credentialsFile,
    profile: 'default',
    pathStyle: null,
    caFile: config.caFile === '' ? null : config.caFile,
    socketsMax,
    connectTimeoutMs,
    checksums: 'off',
    retries: { attempts, delayMs, throttledDelayMs, delayMsMax, attemptTimeoutMs, callTimeoutMs },
  };
}

export function remoteAccess(env: Env, settings: RemoteProgramSettings): RemoteAccess {
  return {
    settings,
    host: hostname(),
    open: async (config) => {
      const { openS3Store } = await import('../store/s3-store.ts');
      const store = await openS3Store(env, s3SettingsOf(config, settings));
      if (!config.singleWriter) return store;
      const { SingleWriterStore } = await import('../store/single-writer-store.ts');
      return new SingleWriterStore(store);
    },
  };
}
