/** What an opening for writing has to do with a volume's bucket, before and after it recovers what is here. */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { RemoteSettings } from '../base/settings-types.ts';
import { KIB } from '../base/units.ts';
import { CHUNK_FOLDER, chunkNumberIn } from '../chunk/chunk-reader.ts';
import type { Env } from '../env/env.ts';
import { CHUNK_HEADER_BYTES } from '../format/chunk-layout.ts';
import { type Manifest, NO_CHECKPOINT } from '../format/manifest.ts';
import type { DirectoryStore } from '../store/directory-store.ts';
import type { RemoteStore } from '../store/remote-store.ts';
import { TieredStore } from '../store/tiered-store.ts';
import type { Orphan } from './orphans.ts';
import { readRemoteChain } from './remote-chain.ts';
import { Ownership, type RemoteState, fencedError, hasSameSize, readRemoteState } from './remote-state.ts';
import { type RemoteConfig, type RemoteOpener, readRemoteConfig } from './remote-config.ts';
import { problemOf } from './verify-object.ts';
import type { VolumeCore } from './volume-core.ts';
import { OBJECT_FOLDERS } from './volume-files.ts';

/** What a program that opens buckets gives the engine. */
export interface RemoteAccess {
  readonly open: RemoteOpener;
  readonly settings: RemoteSettings;
  /** Name of this host, for whoever finds its claim. */
  readonly host: string;
}

export interface AttachOptions {
  readonly env: Env;
  readonly directory: string;
  readonly name: string;
  /** Null: this program opens no buckets. */
  readonly access: RemoteAccess | null;
  readonly local: DirectoryStore;
  readonly manifest: Manifest;
  /** What a chunk is made of. */
  readonly slabBytes: number;
}

/** A volume's bucket, claimed by this process. */
export interface AttachedRemote {
  readonly access: RemoteAccess;
  readonly config: RemoteConfig;
  readonly remote: RemoteStore;
  readonly store: TieredStore;
  readonly ownership: Ownership;
  /** Of the newest root; that of an empty volume if there is none. */
  readonly base: Manifest;
  /** Where the chain of chunks behind the base ends, if the volume has another size than that; null: it has not. */
  readonly chainEnd: number | null;
  readonly orphans: readonly Orphan[];
}

/** Claims the bucket of a volume. Null: it has none. Errors: `fenced` (another host has it), `corrupt`, `unsupported`, and those of the store. */
export async function attachRemote(options: AttachOptions): Promise<AttachedRemote | null> {
  const { env, directory, name, manifest, access } = options;
  const config = await readRemoteConfig(env.files, directory);
  if (config === null) return null;
  if (access === null) throw new VolumeError('unsupported', `volume ${name} has a bucket, ${config.url}, which this program cannot open`);
  const remote = await access.open(config);
  try {
    const state = await readRemoteState(remote, manifest.volumeId);
    if (state.claim !== null && Buffer.from(state.claim.writer).toString('hex') !== config.writer) throw fencedError(state.claim);
    const chainEnd = await endOfChain(remote, state, manifest);
    const ownership = await claim(options, access, config, remote, state);
    const store = makeTieredStore(options, access, remote);
    const here = await keysHere(options.local);
    const isAway = await awayOf(options, remote, state, here);
    await store.attach(OBJECT_FOLDERS, state.objects, isAway);
    const orphans = orphansOf(state, here, (key) => !here.has(key) && !isAway(key));
    const base = state.root?.manifest ?? { ...manifest, checkpoint: NO_CHECKPOINT };
    return { access, config, remote, store, ownership, base, chainEnd, orphans };
  } catch (error) {
    remote.close();
    throw toVolumeError(error, `claiming ${config.url}`);
  }
}

function claim({ env, manifest }: AttachOptions, { settings, host }: RemoteAccess, config: RemoteConfig, remote: RemoteStore, { claim: last }: RemoteState): Promise<Ownership> {
  const epoch = Math.max(last?.epoch ?? 0, manifest.epoch) + 1;
  return Ownership.claim(remote, {
    volumeId: manifest.volumeId,
    epoch,
    writer: Buffer.from(config.writer, 'hex'),
    timeMs: Math.max(0, Math.floor(env.clock.wallMs())),
    leaseMs: settings.leaseMs,
    host,
  });
}

/** Tables of most chunks: 16 bytes a block, and few ranges. */
const CHUNK_TABLES_BYTES_MAX = 64 * KIB;

/** What is here of a volume, and behind it what its bucket has. */
export function makeTieredStore({ env, directory, local, manifest, name, slabBytes }: Omit<AttachOptions, 'access'>, { settings }: RemoteAccess, remote: Pick<RemoteStore, 'getRange'>): TieredStore {
  const { cacheBytes, cacheTtlMs, fetchBytes, readAheadBytes, shipMemoryBytes, shipConcurrency } = settings;
  return new TieredStore({
    clock: env.clock,
    local,
    files: env.files,
    directory,
    remote,
    shippedFolder: `${CHUNK_FOLDER}/`,
    cacheBytes,
    cacheTtlMs,
    fetchBytes,
    readAheadBytes,
    shipMemoryBytes,
    shipConcurrency,
    bufferBytes: slabBytes + CHUNK_HEADER_BYTES + CHUNK_TABLES_BYTES_MAX,
    problemOf: (key, bytes) => problemOf({ clock: env.clock, manifest }, key, bytes),
    onRotten: (key, isHealed) => env.logger.log('warn', isHealed ? 'rotten-object-healed' : 'rotten-object-read-in-bucket', { volume: name, file: key }),
  });
}

/** Null: the newest root has the size that the volume has here. */
async function endOfChain(remote: RemoteStore, { root, objects }: RemoteState, manifest: Manifest): Promise<number | null> {
  if (root === null || hasSameSize(root.manifest, manifest)) return null;
  return (await readRemoteChain(root.manifest, objects.keys(), (key, target) => remote.getRange(key, target, 0), () => undefined)).lastChunk;
}

async function keysHere(local: DirectoryStore): Promise<ReadonlySet<string>> {
  return new Set((await local.list(CHUNK_FOLDER)).map((name) => `${CHUNK_FOLDER}/${name}`));
}

/** What of a bucket will be referred to by nothing, once our roots have taken the place of those that are there. */
function orphansOf({ objects, strangers, roots, putMs }: RemoteState, here: ReadonlySet<string>, isUnused: (key: string) => boolean): Orphan[] {
  // The store's time now is not less.
  const nowMs = Math.max(0, ...putMs.values());
  // What is here is ours, though the last root does not count it: that one was put before it, with another size.
  const keys = [...roots, ...strangers.filter((key) => !here.has(key)), ...[...objects.keys()].filter(isUnused)];
  return keys.map((key) => ({ key, ageMs: nowMs - (putMs.get(key) ?? nowMs) }));
}

/**
 * Whether an object of the bucket that is not here is the volume's. Up to our checkpoint that says which are. Behind it they are those of a chain that goes on from there,
 * as a volume has it that was made of its bucket; else they are of a writer that had lost its epoch.
 */
export async function awayOf({ local, manifest }: Pick<AttachOptions, 'local' | 'manifest'>, remote: RemoteStore, { objects }: RemoteState, here: ReadonlySet<string>): Promise<(key: string) => boolean> {
  const isBehind = (key: string): boolean => (chunkNumberIn(key) ?? 0) > manifest.checkpoint.lastChunk;
  const away = [...objects.keys()].filter((key) => isBehind(key) && !here.has(key));
  if (away.length === 0) return (key) => !isBehind(key);
  const readHeader = async (key: string, target: Uint8Array, isAgain: boolean): Promise<void> => {
    if (!here.has(key) || (isAgain && objects.has(key))) return remote.getRange(key, target, 0);
    const object = await local.open(key);
    try {
      await object.read(target, 0);
    } finally {
      await object.close();
    }
  };
  const chain = new Set((await readRemoteChain(manifest, [...here, ...away], readHeader, () => undefined)).keys);
  return (key) => !isBehind(key) || chain.has(key);
}

/** Ends what an open volume has to do with its bucket. If all of it was shipped, nobody need wait for our lease. Trouble with the bucket keeps nobody from closing a volume. */
export async function detachRemote(core: VolumeCore, { remote, store, ownership }: AttachedRemote): Promise<void> {
  const { shipper, env, name } = core;
  await shipper?.stop();
  const isPrefetching = core.prefetch?.stop();
  core.pressure?.stop();
  const isDone = shipper?.isDone === true && core.failure === null;
  if (isDone) await shipper.noteHot();
  if (isDone) await ownership.release().catch((error: unknown) => env.logger.log('warn', 'lease-not-released', { volume: name, error }));
  else env.logger.log('warn', 'not-all-shipped', { volume: name, ...shipper?.status() });
  // First: what is still being fetched may wait for a bucket that cannot be reached, and nobody reads any more.
  remote.close();
  await isPrefetching;
  await store.close();
}
