/** Starts the shipping of a volume that was just recovered. */
import { toVolumeError } from '../base/errors.ts';
import { chunkKey, chunkNumberIn } from '../chunk/chunk-reader.ts';
import type { AttachedRemote } from './attach-remote.ts';
import type { Checkpointer } from './checkpointer.ts';
import type { Flusher } from './flusher.ts';
import { PAGE_FANOUT } from '../format/checkpoint-layout.ts';
import { loadIfSound } from './load-checkpoint.ts';
import type { TieredStore } from '../store/tiered-store.ts';
import { Prefetch } from './prefetch.ts';
import { ReadAhead } from './read-ahead.ts';
import { Shipper } from './shipper.ts';
import { problemOf } from './verify-object.ts';
import type { VolumeCore } from './volume-core.ts';
import { CHECKPOINT_FOLDER, parseCheckpointName } from './volume-files.ts';
import { WritePressure } from './write-pressure.ts';

/** What writes checkpoints of the volume. */
export interface Upkeep {
  readonly flusher: Pick<Flusher, 'serial'>;
  readonly checkpointer: Checkpointer;
}

export async function shipFrom(core: VolumeCore, { access, store, remote, ownership, base, chainEnd, orphans }: AttachedRemote, parts: Upkeep): Promise<void> {
  // Behind the checkpoint chunks are what the volume is recovered from.
  store.mayEvict = (key) => {
    const chunk = chunkNumberIn(key) ?? Number.MAX_SAFE_INTEGER;
    return chunk <= core.manifest.checkpoint.lastChunk && core.shipper?.mayEvict(chunk) !== false;
  };
  // It may have been resized since.
  store.problemOf = (key, bytes) => problemOf({ clock: core.env.clock, manifest: core.manifest }, key, bytes);
  store.onEvict = (key) => {
    const chunk = chunkNumberIn(key);
    if (chunk !== null) void core.reader.forget(chunk);
  };
  store.onNoRoom = () => checkpointSoon(core, parts);
  const { settings } = access;
  core.readAhead = readAhead(core, store, settings.readAheadBytes);
  const pressure = new WritePressure({ env: core.env, volume: core.name, maxBytes: settings.maxUnshippedBytes, unshippedBytes: () => store.unshippedBytes, wake: () => core.room.wake() });
  core.pressure = pressure;
  const left = new Set<string>();
  const { checkpoint } = core.manifest;
  const isShipped = checkpoint.number === 0 || (checkpoint.number === base.checkpoint.number && checkpoint.epoch === base.checkpoint.epoch);
  core.shipper = new Shipper({
    env: core.env,
    volume: core.name,
    store,
    remote,
    ownership,
    settings,
    orphans,
    partialBytes: core.arena.slabBytes,
    isPressed: () => pressure.state !== 'free' || core.storeStall !== null || core.logIfOpen?.trouble !== null,
    // All that was recovered is the volume's: we were its last writer.
    fenceChunk: core.lastChunk,
    // What was written since the size changed would be read with the size before.
    baseFenceChunk: chainEnd ?? core.lastChunk,
    gapChunk: isShipped ? 0 : checkpoint.lastChunk,
    base,
    rewriteFactor: () => core.rewriteFactor,
    fenced: (error) => core.fail(error),
    progressed: () => pressure.eased(),
    rotten: (key) => leaveRotten(core, parts, key, left),
  });
  core.prefetch = await Prefetch.begin({ core, remote, store, cacheBytes: settings.cacheBytes, concurrency: settings.shipConcurrency, retryMs: settings.retryMs });
  if (!isShipped) await core.shipper.checkpointed(parts.checkpointer.rootObjects(false));
}

function readAhead({ map, catalogue, blockSizeBytes, env }: VolumeCore, store: TieredStore, limitBytes: number): ReadAhead {
  const fetchAhead = (chunk: number): boolean => {
    const facts = catalogue.get(chunk);
    return facts === undefined || store.fetchAhead(chunkKey(facts.epoch, chunk));
  };
  return new ReadAhead({ map, blockSizeBytes, limitBytes, fetchAhead, nowMs: () => env.clock.nowMs(), blockCountOf: (chunk) => catalogue.get(chunk)?.blockCount });
}

/** Chunks behind the checkpoint may not go from here: on a full disk it moves on, if it can. */
function checkpointSoon(core: VolumeCore, { flusher, checkpointer }: Upkeep): void {
  if (checkpointer.isCurrent || core.failure !== null) return;
  flusher.serial.run(() => checkpointer.run()).catch((error: unknown) => core.fail(toVolumeError(error, 'writing a checkpoint')));
}

/** Writes a checkpoint that needs nothing of the one at `key`, as far as that can be read. False: `key` is none, or that was tried before. */
function leaveRotten(core: VolumeCore, { flusher, checkpointer }: Upkeep, key: string, left: Set<string>): boolean {
  const checkpoint = key.startsWith(`${CHECKPOINT_FOLDER}/`) ? parseCheckpointName(key.slice(CHECKPOINT_FOLDER.length + 1)) : null;
  if (checkpoint === null || left.has(key)) return false;
  left.add(key);
  flusher.serial
    .run(async () => {
      await moveOut(core, checkpointer, checkpoint.number);
      await checkpointer.run();
    })
    .catch((error: unknown) => core.fail(toVolumeError(error, 'writing a checkpoint')));
  return true;
}

/** Marks the pages that stand in a checkpoint object, to be written into the next one. */
async function moveOut({ map, catalogue }: VolumeCore, checkpointer: Checkpointer, number: number): Promise<void> {
  const release = map.hold();
  try {
    const nodes = new Set<number>();
    for (const leaf of [...map.leaves()]) {
      nodes.add(Math.floor(leaf.index / PAGE_FANOUT));
      // One that cannot be read keeps the object in use: the volume is damaged.
      if (leaf.reference?.number === number && (await loadIfSound(map, leaf.index)) === null) map.rewrite(leaf);
    }
    for (const page of catalogue.pages()) if (page.reference?.number === number) catalogue.rewrite(page);
    checkpointer.rewrite(nodes);
  } finally {
    release();
  }
}
