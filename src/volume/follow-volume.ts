/** Following a volume that another host writes: making its directory here, and opening it. Neither changes anything in the bucket. */
import { DEFAULT_SLAB_BYTES } from '../base/arena.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { Env } from '../env/env.ts';
import { DirectoryStore } from '../store/directory-store.ts';
import type { RemoteReader } from '../store/remote-store.ts';
import type { TieredStore } from '../store/tiered-store.ts';
import { type RemoteAccess, makeTieredStore } from './attach-remote.ts';
import { type CertainState, loadCertain, readCertainState, readKnownState } from './certain-state.ts';
import { makeVolume } from './create-volume.ts';
import { FollowedView } from './followed-view.ts';
import { FollowedVolume, keepState } from './followed-volume.ts';
import { type Following, createFollowing, readFollowing } from './following.ts';
import { openForServing } from './open-read-only.ts';
import type { ReadOnlyVolume } from './read-only-volume.ts';
import { type OpenVolumeOptions, takeLock } from './open-volume.ts';
import { type NewRemote, withWriter } from './remote-volumes.ts';
import type { FollowStatus, OnProgress } from './volume-info.ts';
import { OBJECT_FOLDERS, followsOther } from './volume-files.ts';
import { Volume } from './volume.ts';

/** A volume as a server has it open. */
export type OpenedVolume = Volume | ReadOnlyVolume | FollowedVolume;

/** Opens a volume that is another host's for following it; else as `openForServing`. */
export async function openServed(options: OpenVolumeOptions & { readonly name: string }): Promise<OpenedVolume> {
  const following = await readFollowing(options.env.files, options.directory);
  return following === null ? openForServing(options) : openFollowed(options, following);
}

/** The volume, if it takes changes. Throws why not. */
export function writable(volume: OpenedVolume): Volume {
  if (volume instanceof Volume) return volume;
  throw volume instanceof FollowedVolume ? followsOther(volume.name) : volume.reason;
}

/** Errors: as `FollowedVolume.refresh`; `unsupported`. */
export function refreshFollowed(volume: OpenedVolume): Promise<FollowStatus> {
  if (volume instanceof FollowedVolume) return volume.refresh();
  throw new VolumeError('unsupported', `volume ${volume.name} is this host's own, and always at its newest state; basalt follow makes one that is followed`);
}

export interface FollowOptions {
  readonly env: Env;
  /** The volume's directory; must not exist. */
  readonly directory: string;
  readonly access: RemoteAccess;
  readonly config: NewRemote;
  /** It stays at the state that it finds now. */
  readonly isPinned: boolean;
  readonly onProgress: OnProgress;
}

/** What was found in the bucket. */
export type Followed = Pick<FollowStatus, 'url' | 'owner' | 'epoch' | 'checkpoint' | 'chunk' | 'lsn' | 'isPinned'> & { readonly sizeBytes: number };

/** Errors: `already-exists`, `not-found` (there is no volume in the bucket), `unavailable`, `corrupt`, and those of the store. */
export async function followVolume({ env, directory, access, config, isPinned, onProgress }: FollowOptions): Promise<Followed> {
  if (await env.files.exists(directory)) throw new VolumeError('already-exists', `${directory} exists already; choose another name`);
  const whole = withWriter(config, env);
  const remote = await access.open(whole);
  try {
    const { root, claim, lastChunk, lastLsn } = await readCertainState(remote, config.url, null, onProgress);
    await makeVolume({ env, directory }, async (staged) => {
      for (const folder of OBJECT_FOLDERS) await env.files.makeDirectory(`${staged}/${folder}`);
      await createFollowing(env.files, staged, { config: whole, isPinned, root, lastChunk });
      await env.files.syncDirectory(staged);
    });
    const { epoch, checkpoint, sizeBytes } = root.manifest;
    return { url: config.url, owner: claim.host, epoch, checkpoint: checkpoint.number, chunk: lastChunk, lsn: lastLsn, isPinned, sizeBytes };
  } catch (error) {
    throw toVolumeError(error, `following ${config.url}`);
  } finally {
    remote.close();
  }
}

/** Opens a volume that is followed. Errors: `in-use`, `unsupported` (this program opens no buckets), `not-found` (of what it is pinned to something was removed), and as `followVolume`. */
export async function openFollowed(options: OpenVolumeOptions & { readonly name: string }, following: Following): Promise<FollowedVolume> {
  const { env, directory, name, remotes: access } = options;
  const { config } = following;
  if (access === undefined) throw new VolumeError('unsupported', `volume ${name} follows ${config.url}, which this program cannot open`);
  const lock = await takeLock(env, directory, name);
  let remote: RemoteReader | null = null;
  try {
    remote = await access.open(config);
    const { state, view, store } = await load(options, { access, remote, following });
    env.logger.log('info', 'volume-followed', { volume: name, url: config.url, owner: state.claim.host, epoch: state.root.manifest.epoch, chunk: state.lastChunk, lsn: state.lastLsn, isPinned: following.isPinned });
    return new FollowedVolume({ options, lock, remote, store, following, view, intervalMs: access.settings.followIntervalMs });
  } catch (error) {
    remote?.close();
    await lock.release();
    throw toVolumeError(error, `following ${config.url}`);
  }
}

interface Source {
  readonly access: RemoteAccess;
  readonly remote: RemoteReader;
  readonly following: Following;
}

interface Loaded {
  readonly state: CertainState;
  readonly view: FollowedView;
  readonly store: TieredStore;
}

async function load(options: OpenVolumeOptions & { readonly name: string }, { access, remote, following }: Source): Promise<Loaded> {
  const { env, directory, name } = options;
  const { url } = following.config;
  const local = new DirectoryStore(env.files, directory, 0);
  const loadState = async (state: CertainState): Promise<Loaded> => {
    const store = makeTieredStore({ env, directory, local, name, manifest: following.root.manifest, slabBytes: options.arena?.slabBytes ?? DEFAULT_SLAB_BYTES }, access, remote);
    store.mayEvict = () => true;
    try {
      for (const folder of OBJECT_FOLDERS) for (const object of await local.list(folder)) if (!state.objects.has(`${folder}/${object}`)) await local.remove(`${folder}/${object}`);
      await store.attach(OBJECT_FOLDERS, state.objects, () => true);
      const view = await FollowedView.load(options, store, state);
      await keepState(options, { ...following, root: state.root, lastChunk: state.lastChunk }, view);
      return { state, store, view };
    } catch (error) {
      await store.close();
      throw error;
    }
  };
  try {
    return await loadCertain({ clock: env.clock, url }, () => stateToServe(options, remote, following), loadState);
  } catch (error) {
    if (!following.isPinned || !(error instanceof VolumeError) || (error.code !== 'not-found' && error.code !== 'corrupt')) throw error;
    throw new VolumeError(error.code, `volume ${name} is pinned to a state that cannot be loaded any more; most likely its owner has gone on since: ${error.message}. Delete it here, and follow ${url} anew`, { cause: error, context: error.context });
  }
}

/** The newest one; what is pinned, or while it is not known what the newest is, the last one that was served. */
async function stateToServe({ onProgress = () => undefined }: OpenVolumeOptions, remote: RemoteReader, following: Following): Promise<CertainState> {
  const { config, isPinned, root } = following;
  if (isPinned) return readKnownState(remote, config.url, following, onProgress);
  try {
    return await readCertainState(remote, config.url, root.manifest.volumeId, onProgress);
  } catch (error) {
    if (!(error instanceof VolumeError) || error.code !== 'unavailable' || error.context.epoch === undefined) throw error;
    return readKnownState(remote, config.url, following, onProgress).catch((other: unknown) => {
      throw toVolumeError(other, `following ${config.url}`).code === 'not-found' ? error : other;
    });
  }
}
