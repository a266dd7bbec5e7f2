/**
 * Recovery's second step: the chunks behind the checkpoint. They form a chain of sets, each naming the last chunk before it.
 * A set counts when all its parts are there; one that is not complete was being published when the process ended, its
 * records are still in the log; copies that compaction made are one chunk each, whole or not there. Reading changes nothing.
 */
import { VolumeError } from '../base/errors.ts';
import { CHUNK_FOLDER, chunkKey, parseChunkName, readChunkIdentity, readChunkTables } from '../chunk/chunk-reader.ts';
import type { Logger } from '../env/env.ts';
import { type ChunkIdentity, type ZeroRange, isCopy } from '../format/chunk-layout.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { type ChunkContent, applyCopies, applySet } from './commit.ts';
import type { VolumeCore } from './volume-core.ts';
import type { OnProgress } from './volume-info.ts';

export interface RecoveredChunks {
  /** Keys of chunks that no root refers to: left by a removal or a publication that was interrupted. */
  readonly unused: readonly string[];
  /** Largest chunk number seen: new chunks get larger ones. */
  readonly largestChunk: number;
}

interface FoundSet {
  readonly firstChunk: number;
  readonly epoch: number;
  readonly previousChunk: number;
  readonly parts: number;
  readonly found: ChunkIdentity[];
}

/** Applies the chunks behind the checkpoint to the core's map. Errors: `corrupt`, naming what is missing or does not fit. */
export async function recoverChunks(core: VolumeCore, store: ObjectStore, logger: Logger, onProgress: OnProgress): Promise<RecoveredChunks> {
  const present = await listChunks(store, core.name, logger);
  const unused = checkCheckpointed(core, present);
  const newer = [...present].filter(([chunk]) => chunk > core.lastChunk).toSorted(([a], [b]) => a - b);
  const largestChunk = Math.max(core.lastChunk, newer.at(-1)?.[0] ?? 0);
  const sets = await readSets(core, store, newer, onProgress);
  let applied = 0;
  const passed = new Set<number>();
  for (;;) {
    passed.add(core.lastChunk);
    const next = sets.filter((set) => set.previousChunk === core.lastChunk && isWhole(set));
    if (next.length > 1) throw new VolumeError('corrupt', `two sets of chunks, from ${next[0].firstChunk} and from ${next[1].firstChunk} on, both follow chunk ${core.lastChunk}; nothing was changed`);
    if (next.length === 0) break;
    onProgress({ task: 'chunks', done: applied, total: newer.length });
    await applyFound(core, store, next[0]);
    applied += next[0].parts;
    sets.splice(sets.indexOf(next[0]), 1);
  }
  for (const set of sets) {
    const name = chunkKey(set.epoch, set.found[0].chunkNumber);
    if (!passed.has(set.previousChunk)) throw new VolumeError('corrupt', `${name}: follows chunk ${set.previousChunk}, which is missing or not whole; nothing was changed`);
    for (const { epoch, chunkNumber } of set.found) unused.push(chunkKey(epoch, chunkNumber));
  }
  return { unused, largestChunk };
}

/** Number and epoch of every chunk in the store. */
async function listChunks(store: ObjectStore, volume: string, logger: Logger): Promise<Map<number, number>> {
  const present = new Map<number, number>();
  for (const name of await store.list(CHUNK_FOLDER)) {
    const parsed = parseChunkName(name);
    if (parsed === null) {
      logger.log('warn', 'unknown-file', { volume, file: `${CHUNK_FOLDER}/${name}` });
      continue;
    }
    const other = present.get(parsed.chunk);
    if (other !== undefined) throw new VolumeError('corrupt', `chunk ${parsed.chunk} is there twice, of epochs ${other} and ${parsed.epoch}; nothing was changed`);
    present.set(parsed.chunk, parsed.epoch);
  }
  return present;
}

/**
 * Checks that the chunks of the checkpoint are there; returns those it covers and does not know. Those without a live block may have been removed
 * since: they leave the catalogue, so that no scrub misses them and no figure counts them.
 */
function checkCheckpointed(core: VolumeCore, present: ReadonlyMap<number, number>): string[] {
  const { catalogue } = core;
  const removed: number[] = [];
  for (const page of catalogue.pages()) {
    for (const entry of page.entries()) {
      const chunk = page.index * page.epochs.length + entry.place;
      if (present.get(chunk) === entry.epoch) continue;
      if (entry.liveBlocks === 0) removed.push(chunk);
      else {
        throw new VolumeError('corrupt', `${chunkKey(entry.epoch, chunk)} is missing; ${entry.liveBlocks} blocks of the volume are in it. Nothing was changed`);
      }
    }
  }
  for (const chunk of removed) catalogue.remove(chunk);
  // The checkpoint had no block in them: they were being removed.
  return [...present].filter(([chunk, epoch]) => chunk <= core.lastChunk && catalogue.get(chunk)?.epoch !== epoch).map(([chunk, epoch]) => chunkKey(epoch, chunk));
}

async function readSets(core: VolumeCore, store: ObjectStore, chunks: readonly (readonly [number, number])[], onProgress: OnProgress): Promise<FoundSet[]> {
  const sets = new Map<string, FoundSet>();
  for (const [done, [chunk, epoch]] of chunks.entries()) {
    onProgress({ task: 'headers of chunks', done, total: chunks.length });
    const name = chunkKey(epoch, chunk);
    const object = await store.open(name);
    try {
      const identity = await readChunkIdentity(object, core.manifest, chunk, name);
      if (identity.epoch !== epoch) throw new VolumeError('corrupt', `${name}: is of epoch ${identity.epoch}; nothing was changed`);
      const { previousChunk, parts, part } = identity;
      const firstChunk = chunk - part + 1;
      const key = `${epoch}:${firstChunk}`;
      const set = sets.get(key) ?? { firstChunk, epoch, previousChunk, parts, found: [] };
      sets.set(key, set);
      set.found.push(identity);
    } finally {
      await object.close();
    }
  }
  return [...sets.values()];
}

/** Whether all parts are there; they were found in the order of their numbers. */
function isWhole({ found, parts }: FoundSet): boolean {
  return found.length === parts && found.every(({ part }, index) => part === index + 1);
}

async function applyFound(core: VolumeCore, store: ObjectStore, set: FoundSet): Promise<void> {
  const [first] = set.found;
  const chunks: ChunkContent[] = [];
  const ranges: ZeroRange[] = [];
  for (const identity of set.found) {
    const { chunkNumber, epoch } = identity;
    const name = chunkKey(epoch, chunkNumber);
    const sameSet = identity.parts === first.parts && identity.previousChunk === first.previousChunk && identity.firstLsn === first.firstLsn && identity.lastLsn === first.lastLsn;
    if (!sameSet || identity.firstLsn !== core.chunkedLsn + 1) {
      throw new VolumeError('corrupt', `${name}: holds LSN ${identity.firstLsn} to ${identity.lastLsn}, expected LSN ${core.chunkedLsn + 1} on; nothing was changed`);
    }
    const object = await store.open(name);
    try {
      const { tables } = await readChunkTables(object, core.readerOptions, chunkNumber, name);
      chunks.push({ chunk: chunkNumber, epoch, objectBytes: object.sizeBytes, blockNumbers: tables.blockNumbers });
      ranges.push(...tables.ranges);
    } finally {
      await object.close();
    }
  }
  if (isCopy(first)) {
    if (chunks.length !== 1 || ranges.length > 0) throw new VolumeError('corrupt', `${chunkKey(first.epoch, first.chunkNumber)}: copies are one chunk without ranges, not ${chunks.length} with ${ranges.length}; nothing was changed`);
    await applyCopies(core.map, core.catalogue, chunks[0]);
  } else await applySet(core.map, core.catalogue, ranges, chunks);
  core.chunkedLsn = first.lastLsn;
  core.lastChunk = first.chunkNumber + first.parts - 1;
}
