/** Volumes with a bucket, before there is a directory of theirs: making one where nothing is, and making one of what is there. */
import { VolumeError } from '../base/errors.ts';
import type { Env } from '../env/env.ts';
import { hexOf } from '../format/bytes.ts';
import { WRITER_BYTES } from '../format/remote-records.ts';
import { probeConditionalWrites } from '../store/probe-conditional.ts';
import type { RemoteAccess } from './attach-remote.ts';
import type { RemoteConfig } from './remote-config.ts';

/** What is said of a bucket when a volume is made or taken over. */
export type NewRemote = Omit<RemoteConfig, 'writer'>;

export function withWriter(config: NewRemote, env: Pick<Env, 'random'>): RemoteConfig {
  const writer = new Uint8Array(WRITER_BYTES);
  env.random.fill(writer);
  return { ...config, writer: hexOf(writer) };
}

/**
 * Looks whether a bucket can take a new volume: it is there, nothing stands below the prefix, and of several who create one key one wins. Errors: `already-exists`,
 * `unsupported` (no such writes, and nobody vouches for a single writer), and those of the store.
 */
export async function checkNewBucket(env: Pick<Env, 'random' | 'logger'>, access: RemoteAccess, config: RemoteConfig): Promise<void> {
  const remote = await access.open(config);
  try {
    for await (const page of remote.list('')) {
      const [first] = page;
      if (first === undefined) continue;
      throw new VolumeError('already-exists', `${config.url} is not empty: ${first.key} is there. If it is a volume, basalt open-remote takes it over; else choose another prefix`, { context: { key: first.key } });
    }
    if (config.singleWriter) return;
    const found = await probeConditionalWrites(remote, env, 'probe-');
    if (found.support === 'full') return;
    throw new VolumeError('unsupported', `${config.url}: ${found.message}. Two hosts could write one volume there. If there will never be a second one, add --single-writer`, { context: { reason: found.reason } });
  } finally {
    remote.close();
  }
}
