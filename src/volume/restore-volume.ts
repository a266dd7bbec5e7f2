/**
 * Making a volume of what its bucket has: on another host, or when the disk is gone. It takes the volume over: who had it is fenced off. The volume is a consistent prefix of
 * what its last writer had done: the newest root, and the unbroken chain of chunks behind it. Nothing of it is fetched before it is needed.
 */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { EngineSettings } from '../base/settings-types.ts';
import type { Env } from '../env/env.ts';
import { encodeRoot, rootKey } from '../format/remote-records.ts';
import type { RemoteStore } from '../store/remote-store.ts';
import type { RemoteAccess } from './attach-remote.ts';
import { makeFromManifest } from './create-volume.ts';
import { readRemoteChain } from './remote-chain.ts';
import type { RemoteConfig } from './remote-config.ts';
import { Ownership, type RemoteState, leaseLeftMs, readRemoteState } from './remote-state.ts';
import { type NewRemote, withWriter } from './remote-volumes.ts';
import type { OnProgress } from './volume-info.ts';

export interface RestoreOptions {
  readonly env: Env;
  /** The volume's directory; must not exist. */
  readonly directory: string;
  readonly settings: EngineSettings;
  readonly access: RemoteAccess;
  readonly config: NewRemote;
  /** Take it though its last writer may still be at work. */
  readonly isForced: boolean;
  /** Fetch what is likely to be needed, once it is opened. */
  readonly prefetches?: boolean;
  readonly onProgress: OnProgress;
}

export interface Restored {
  readonly epoch: number;
  /** Last LSN of the volume as it is now. */
  readonly lastLsn: number;
  readonly lastChunk: number;
  /** Chunks behind the root's checkpoint, and all objects that count. */
  readonly chainChunks: number;
  readonly objects: number;
}

/**
 * Takes a volume over and makes its directory. Errors: `not-found` (there is no volume in the bucket), `in-use` (its lease is not over), `already-exists`, `corrupt`, and
 * those of the store.
 */
export async function restoreVolume(options: RestoreOptions): Promise<Restored> {
  const { access, config, env } = options;
  const whole = withWriter(config, env);
  const remote = await access.open(whole);
  try {
    return await restore(options, whole, remote);
  } catch (error) {
    throw toVolumeError(error, `taking over ${config.url}`);
  } finally {
    remote.close();
  }
}

async function restore(options: RestoreOptions, config: RemoteConfig, remote: RemoteStore): Promise<Restored> {
  const { env, access, onProgress } = options;
  if (await env.files.exists(options.directory)) throw new VolumeError('already-exists', `${options.directory} exists already; choose another name`);
  onProgress({ task: 'bucket', done: 0, total: 1 });
  const before = await readRemoteState(remote, null);
  const root = newestRoot(before, config.url);
  refuseWhileLeased(options, before);
  const { volumeId } = root.manifest;
  const epoch = Math.max(before.claim?.epoch ?? 0, root.manifest.epoch) + 1;
  const timeMs = Math.max(0, Math.floor(env.clock.wallMs()));
  const ownership = await Ownership.claim(remote, { volumeId, epoch, writer: Buffer.from(config.writer, 'hex'), timeMs, leaseMs: access.settings.leaseMs, host: access.host });
  // From here on nothing that its last writer puts counts; what it relied on is there.
  const state = await readRemoteState(remote, volumeId);
  const { manifest } = newestRoot(state, config.url);
  const chain = await readRemoteChain(manifest, state.objects.keys(), (key, target) => remote.getRange(key, target, 0), onProgress);
  // What its last writer had beyond that, in its log, never was.
  const ours = { ...manifest, epoch, cut: { epoch, lsn: chain.lastLsn } };
  await remote.putIfAbsent(rootKey(epoch, manifest.checkpoint.number), [encodeRoot({ manifest: ours, fenceChunk: chain.lastChunk, timeMs })]);
  await ownership.check();
  await makeFromManifest({ env, directory: options.directory, settings: options.settings, remote: config }, ours, { prefetches: options.prefetches ?? false });
  return { epoch, lastLsn: chain.lastLsn, lastChunk: chain.lastChunk, chainChunks: chain.keys.length, objects: state.objects.size };
}

/** Errors: `not-found`. */
export function newestRoot({ root }: RemoteState, url: string): NonNullable<RemoteState['root']> {
  if (root !== null) return root;
  throw new VolumeError('not-found', `${url} holds no volume that anything was shipped of; check bucket and prefix`);
}

function refuseWhileLeased({ env, isForced, config }: RestoreOptions, state: RemoteState): void {
  const leftMs = leaseLeftMs(state, env.clock);
  if (leftMs === 0 || isForced || state.claim === null) return;
  const who = state.claim.host === '' ? 'another host' : `host ${state.claim.host}`;
  throw new VolumeError('in-use', `${who} may be writing ${config.url}: its lease ends in ${Math.ceil(leftMs / 1000)} s. Stop its server, wait, or take the volume from it with --force`, { context: { leftMs } });
}
