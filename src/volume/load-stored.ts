/** What of a volume stands in its checkpoint and chunks, read into memory: the first half of every opening. Changes nothing. */
import { Arena } from '../base/arena.ts';
import { VolumeError } from '../base/errors.ts';
import type { EngineSettings } from '../base/settings-types.ts';
import { ChunkReader } from '../chunk/chunk-reader.ts';
import type { Env, File } from '../env/env.ts';
import type { Manifest } from '../format/manifest.ts';
import { BlockMap } from '../index/block-map.ts';
import { ChunkCatalogue } from '../index/chunk-catalogue.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { LogRecoveryOptions } from '../wal/log-recovery.ts';
import type { CheckpointState } from './checkpointer.ts';
import { findNewerObject } from './found-objects.ts';
import { LeafReader } from './leaf-reader.ts';
import { loadCheckpoint } from './load-checkpoint.ts';
import { type RecoveredChunks, recoverChunks } from './recover-chunks.ts';
import { markedLsn, readSyncedMark } from './synced-mark-file.ts';
import { type Counters, VolumeCore } from './volume-core.ts';
import { CHECKPOINT_FOLDER, checkpointName } from './volume-files.ts';
import type { OnProgress, VolumeObserver } from './volume-info.ts';

export interface LoadOptions {
  readonly env: Env;
  /** The volume's directory. */
  readonly directory: string;
  readonly settings: EngineSettings;
  readonly name: string;
  /** Block memory to share with other volumes; one of its own if it is not given. */
  readonly arena?: Arena;
  readonly observer?: VolumeObserver;
  /** Told how far a long opening is. */
  readonly onProgress?: OnProgress;
  /** To go on counting in; new ones if they are not given. */
  readonly counters?: Counters;
}

export interface StoredVolume {
  readonly core: VolumeCore;
  readonly state: CheckpointState;
  readonly chunks: RecoveredChunks;
  /** Keys of checkpoints that an interrupted one left. */
  readonly oldCheckpoints: readonly string[];
}

/** The core of a volume over a map and a catalogue. */
export function makeCore({ env, directory, settings, name, arena, observer, counters }: LoadOptions, parts: { readonly store: ObjectStore; readonly manifest: Manifest; readonly map: BlockMap; readonly catalogue: ChunkCatalogue }): VolumeCore {
  const { store, manifest } = parts;
  const reader = new ChunkReader({
    store,
    volumeId: manifest.volumeId,
    blockSizeBytes: manifest.blockSizeBytes,
    volumeBlocks: manifest.spanBytes / manifest.blockSizeBytes,
    maxOpen: settings.openChunkFiles,
    maxTableBytes: settings.chunkTableBytes,
    maxFrameBytes: settings.frameCacheBytes,
  });
  const memory = arena ?? new Arena({ arenaBytes: settings.arenaBytes, dirtyBytes: settings.dirtyBytes });
  return new VolumeCore({ env, name, directory, settings, arena: memory, reader, observer: observer ?? null, ...(counters === undefined ? {} : { counters }), ...parts });
}

/**
 * Loads checkpoint and chunks; `made` is told of the core as soon as there is one to let go of. `lastEpoch` is the last one that the manifest as
 * it is on the disk knows of. Errors: `corrupt`, `io-error`.
 */
export async function loadStored(options: LoadOptions, store: ObjectStore, manifest: Manifest, made: (core: VolumeCore) => void, lastEpoch = manifest.epoch): Promise<StoredVolume> {
  const { onProgress = () => undefined } = options;
  // An old one, from a backup say, does not know where the log was cut off since, nor which epochs were used.
  const newer = await findNewerObject(store, lastEpoch);
  if (newer !== null) throw new VolumeError('corrupt', `${newer.problem}; nothing was changed`);
  const leaves = new LeafReader(store);
  const catalogue = new ChunkCatalogue(manifest.blockSizeBytes);
  const map = new BlockMap({
    limitBytes: options.settings.indexBytes,
    readLeaf: (index, reference) => leaves.read(index, reference),
    displaced: (chunk, blockCount) => catalogue.displaced(chunk, blockCount),
  });
  const state = await loadCheckpoint(store, manifest, map, catalogue, onProgress);
  const core = makeCore(options, { store, manifest, map, catalogue });
  made(core);
  core.chunkedLsn = manifest.checkpoint.lastLsn;
  core.lastChunk = manifest.checkpoint.lastChunk;
  const oldCheckpoints = await findOldCheckpoints(store, manifest, state);
  return { core, state, chunks: await recoverChunks(core, store, options.env.logger, onProgress), oldCheckpoints };
}

/** For reading the log behind what was loaded: all but what becomes of its records. Errors: `io-error`. */
export async function logOptions({ env, directory, manifest, volumeBlocks, chunkedLsn }: VolumeCore, files: readonly File[]): Promise<Omit<LogRecoveryOptions, 'apply'>> {
  const { volumeId, blockSizeBytes, cut, epoch } = manifest;
  const mark = await readSyncedMark(env.files, directory, manifest);
  return { files, volumeId, blockSizeBytes, volumeBlocks, chunkedLsn, cut, markedLsn: markedLsn(mark), lastEpoch: epoch };
}

/** The manifest, and what it refers to, are the only roots. */
async function findOldCheckpoints(store: ObjectStore, manifest: Manifest, state: CheckpointState): Promise<string[]> {
  const used = new Set([...state.objects.values()].map((object) => checkpointName(object.epoch, object.number)));
  used.add(checkpointName(manifest.checkpoint.epoch, manifest.checkpoint.number));
  const names = await store.list(CHECKPOINT_FOLDER);
  return names.filter((name) => /^k\d+-e\d+$/.test(name) && !used.has(name)).map((name) => `${CHECKPOINT_FOLDER}/${name}`);
}
