/**
 * `basalt scrub`: reads every chunk, its tables and each block's checksum, the manifest and the checkpoint's pages, at a bounded rate, while the
 * volume is served or while nobody has it open. Of a volume that takes writes, what is rotten and whole in memory is written anew. The log is
 * not read: what it holds is in memory, too, and its files are written again all the time.
 */
import { checksum } from '../base/checksum.ts';
import { deferred } from '../base/async.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { Clock } from '../env/env.ts';
import type { ChunkTables } from '../format/chunk-layout.ts';
import type { Manifest } from '../format/manifest.ts';
import { type BlockMap, LEAF_BLOCKS, LOOKUP } from '../index/block-map.ts';
import { NO_LOCATION, isZeroLocation } from '../index/resident-map.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { BlockDevice } from './block-device.ts';
import { isStillAt } from './commit.ts';
import { type BadBlock, type InspectedChunk, inspectChunk } from './inspect-chunks.ts';
import { loadIfSound } from './load-checkpoint.ts';
import { LiveStructures, type LiveUpkeep } from './scrub-live.ts';
import { StillStructures } from './scrub-still.ts';
import { type StructureReport, type Structures, pacedStore } from './scrub-structures.ts';
import type { VolumeCore } from './volume-core.ts';
import type { OnProgress, RottenPlace, ScrubReport } from './volume-info.ts';

/** While clients are at work a scrub reads this part of its rate. */
const BUSY_PART = 4;
/** They are, so long after a request: many small reads of the scrub have none between them. */
const BUSY_MS = 100;
/** Places that a report names; the others are counted. */
const PLACES_MAX = 1000;

export interface ScrubOptions {
  readonly bytesPerSecond: number;
  readonly onProgress: OnProgress;
  /** Ends it early; it rejects with `closed` then. */
  readonly signal: AbortSignal;
}

/** What takes the blocks that are written anew. */
export type WriteTarget = Pick<BlockDevice, 'writeNow' | 'submit' | 'whenAdmitting'>;

/** Holds a reader to a rate, and to a part of it while others are at work. */
class Pacer {
  readonly #clock: Clock;
  readonly #bytesPerMs: number;
  readonly #workOfOthers: () => number;
  #seen: number;
  #dueMs: number;
  #busyUntilMs = Number.NEGATIVE_INFINITY;
  bytes = 0;

  constructor(clock: Clock, bytesPerSecond: number, workOfOthers: () => number) {
    this.#clock = clock;
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#workOfOthers = workOfOthers;
    this.#seen = workOfOthers();
    this.#dueMs = clock.nowMs();
  }

  async pace(bytes: number): Promise<void> {
    this.bytes += bytes;
    const work = this.#workOfOthers();
    const nowMs = this.#clock.nowMs();
    if (work !== this.#seen) this.#busyUntilMs = nowMs + BUSY_MS;
    this.#seen = work;
    const isBusy = nowMs < this.#busyUntilMs;
    // What a slow disk took longer is not made up for.
    this.#dueMs = Math.max(this.#dueMs, nowMs - 1) + (bytes / this.#bytesPerMs) * (isBusy ? BUSY_PART : 1);
    if (this.#dueMs > nowMs) await this.#clock.sleep(this.#dueMs - nowMs);
    else await this.#clock.yield();
  }
}

/** A volume as a scrub sees it. */
export interface ScrubTarget {
  readonly name: string;
  readonly clock: Clock;
  readonly store: ObjectStore;
  readonly manifest: Manifest;
  readonly structures: Structures;
  /** Asked when the structures were begun with. */
  readonly chunks: () => readonly { readonly chunk: number; readonly epoch: number }[];
  /** Changes when clients work. */
  readonly workOfOthers: () => number;
  /** Whether a chunk may have been removed since the list was made. */
  readonly isGone: (chunk: number, epoch: number) => boolean;
  /** Throws when the volume is closed. */
  readonly check: () => void;
  readonly judge: (chunk: InspectedChunk) => Promise<readonly RottenPlace[]>;
  /** Told of bytes that were read, and of what is wrong with them. */
  readonly note: (bytes: number, places: readonly RottenPlace[]) => void;
}

/** What a scrub has found so far. */
class Found {
  readonly counts = { chunks: 0, blocks: 0, pages: 0, mappedBlocks: 0, rottenCount: 0, rewrittenCount: 0 };
  readonly rotten: RottenPlace[] = [];

  add(places: readonly RottenPlace[]): void {
    this.counts.rottenCount += places.length;
    for (const place of places) this.counts.rewrittenCount += place.rewritten;
    this.rotten.push(...places.slice(0, PLACES_MAX - this.rotten.length));
  }

  addStructures({ pages, mappedBlocks, places }: StructureReport): void {
    this.counts.pages += pages;
    this.counts.mappedBlocks += mappedBlocks;
    this.add(places);
  }
}

/** Goes through the structures and the chunks of a volume. */
export async function scrub(target: ScrubTarget, { bytesPerSecond, onProgress, signal }: ScrubOptions): Promise<ScrubReport> {
  const { name, clock, store, manifest, structures, note } = target;
  const startMs = clock.nowMs();
  const pacer = new Pacer(clock, bytesPerSecond, target.workOfOthers);
  const pace = async (bytes: number): Promise<void> => {
    await pacer.pace(bytes);
    if (signal.aborted) throw new VolumeError('closed', `the scrub of volume ${name} was ended early`);
    target.check();
  };
  const found = new Found();
  const reading = { store: pacedStore(store, pace), onProgress };
  const addStructures = (report: StructureReport, before: number): void => {
    found.addStructures(report);
    note(pacer.bytes - before, report.places);
  };
  await pace(0);
  addStructures(await structures.begin(reading), 0);
  const chunks = target.chunks();
  const tell = (done: number): void => onProgress({ task: `scrub of ${name}, chunks`, done, total: chunks.length });
  for (const [index, { chunk, epoch }] of chunks.entries()) {
    tell(index);
    if (target.isGone(chunk, epoch)) continue;
    await pace(0);
    let tables: ChunkTables | null = null;
    const onTables = (sound: ChunkTables): void => void (tables = sound);
    const inspected = await inspectChunk({ store, manifest, deep: true, pace, onTables }, chunk, epoch);
    // Compaction, or a checkpoint, may have removed it meanwhile: then nobody needs it.
    if (target.isGone(chunk, epoch)) continue;
    found.counts.chunks += 1;
    found.counts.blocks += inspected.blockCount;
    const healed = await healedPlaces(target, inspected);
    const places = [...(healed ?? (await target.judge(inspected))), ...(await structures.compare(inspected, tables))];
    found.add(places);
    note(inspected.sizeBytes, places);
  }
  tell(chunks.length);
  const before = pacer.bytes;
  addStructures(await structures.end(reading), before);
  const { counts, rotten } = found;
  return { volume: name, isClean: counts.rottenCount === 0, ...counts, bytes: pacer.bytes, rotten, elapsedMs: Math.round(clock.nowMs() - startMs) };
}

/** What was rotten in a chunk that another copy has made whole; null: nothing was, or it is as it was. */
async function healedPlaces({ name, store, isGone }: ScrubTarget, inspected: InspectedChunk): Promise<RottenPlace[] | null> {
  const { fault, badBlocks, key, chunk, epoch, blockCount } = inspected;
  if ((fault === null && badBlocks.length === 0) || store.heal === undefined || isGone(chunk, epoch)) return null;
  try {
    if (!(await store.heal(key))) return null;
  } catch (error) {
    // That the other copy cannot be had now is no reason to be silent of this one.
    toVolumeError(error, `healing a chunk of volume ${name}`);
    return null;
  }
  if (fault !== null) return [{ ...placeOf(inspected, { ...fault, blockNumber: null }), inUse: null, rewritten: Math.max(1, blockCount) }];
  return badBlocks.map((bad) => ({ ...placeOf(inspected, bad), inUse: null, rewritten: 1 }));
}

/** Where a chunk as a whole, or one of its blocks, is rotten. */
export function placeOf({ key, chunk }: InspectedChunk, { blockNumber, offsetBytes, problem }: { readonly blockNumber: number | null; readonly offsetBytes: number | null; readonly problem: string }): Pick<RottenPlace, 'file' | 'chunk' | 'blockNumber' | 'offsetBytes' | 'problem'> {
  return { file: key, chunk, blockNumber, offsetBytes, problem };
}

/** What of an open volume that takes writes is rotten goes this way. */
export interface ScrubUpkeep extends Pick<LiveUpkeep, 'flusher' | 'checkpointer'> {
  readonly device: WriteTarget;
}

/**
 * Scrubs a volume that is open here. `upkeep` null: it takes no writes, and its files stand still. Errors: `closed`, `io-error` for a
 * system that fails; what is rotten is in the report.
 */
export async function scrubOpen(core: VolumeCore, upkeep: ScrubUpkeep | null, options: ScrubOptions): Promise<ScrubReport> {
  const { catalogue, counters, env, store, manifest, name } = core;
  const check = (): void => {
    if (core.closed) throw new VolumeError('closed', `volume ${name} is closed`);
  };
  const rescuer = new Rescuer(core, upkeep?.device ?? null);
  const structures = upkeep === null ? new StillStructures(env.files, core.directory, manifest) : new LiveStructures({ ...upkeep, core, check });
  const isStill = upkeep === null;
  const target: ScrubTarget = {
    name,
    clock: env.clock,
    store,
    manifest,
    structures,
    chunks: () => allChunks([...catalogued(core), ...structures.neededChunks]),
    workOfOthers: () => counters.readBytes + counters.writtenBytes + counters.zeroedBytes,
    isGone: (chunk, epoch) => !isStill && !catalogue.holds(chunk, epoch),
    check,
    judge: (chunk) => rescuer.judge(chunk),
    note: (bytes, places) => {
      counters.scrubbedBytes += bytes;
      counters.rottenFound += places.length;
      for (const place of places) {
        counters.rottenRewritten += place.rewritten;
        env.logger.log('error', 'rotten', { volume: name, ...place });
      }
    },
  };
  const report = await scrub(target, options);
  counters.scrubs += 1;
  return report;
}

interface ChunkName {
  readonly chunk: number;
  readonly epoch: number;
}

function catalogued({ catalogue }: VolumeCore): ChunkName[] {
  const chunks: ChunkName[] = [];
  for (const page of catalogue.pages()) for (const { place, epoch } of page.entries()) chunks.push({ chunk: page.index * page.epochs.length + place, epoch });
  return chunks;
}

/** Each of them once, in order. */
export function allChunks(chunks: readonly ChunkName[]): ChunkName[] {
  const byKey = new Map(chunks.map((name) => [`${name.chunk}:${name.epoch}`, name]));
  return [...byKey.values()].toSorted((a, b) => a.chunk - b.chunk || a.epoch - b.epoch);
}

/** Brings the leaf of a block into memory, the map being held; false if it is damaged itself. */
export async function loadLeafOf(map: BlockMap, blockNumber: number): Promise<boolean> {
  return (await loadIfSound(map, Math.floor(blockNumber / LEAF_BLOCKS))) === null;
}

/** What becomes of rotten blocks of an open volume. */
class Rescuer {
  readonly #core: VolumeCore;
  readonly #device: WriteTarget | null;

  constructor(core: VolumeCore, device: WriteTarget | null) {
    this.#core = core;
    this.#device = device;
  }

  async judge(inspected: InspectedChunk): Promise<RottenPlace[]> {
    const { fault, chunk, badBlocks } = inspected;
    if (fault !== null) {
      // Of a damaged volume the catalogue has only what can be trusted.
      const facts = this.#core.catalogue.get(chunk);
      const inUse = facts === undefined ? null : facts.liveBlocks > 0;
      const rewritten = await this.#rewriteChunk(chunk);
      return [{ ...placeOf(inspected, { ...fault, blockNumber: null }), inUse, rewritten }];
    }
    const places: RottenPlace[] = [];
    for (const bad of badBlocks) {
      const { inUse, isRewritten } = await this.#rewriteBlock(chunk, bad);
      places.push({ ...placeOf(inspected, bad), inUse, rewritten: isRewritten ? 1 : 0 });
    }
    return places;
  }

  /** Writes anew what of a chunk, none of which can be read, is in memory; returns how many blocks. */
  async #rewriteChunk(chunk: number): Promise<number> {
    const { arena, map, resident } = this.#core;
    const found: BadBlock[] = [];
    for (const slab of arena.slabs) {
      if (slab.owner !== this.#core || slab.state !== 'clean') continue;
      for (let slot = 0; slot < slab.slotCount; slot += 1) {
        const blockNumber = slab.blockNumbers[slot];
        if (resident.get(blockNumber) === this.#core.locationOf(slab, slot)) found.push({ slot: -1, blockNumber, offsetBytes: 0, problem: '', checksum: slab.checksums[slot] });
      }
    }
    let count = 0;
    for (const cached of found) {
      const release = map.hold();
      try {
        const isStored = (await loadLeafOf(map, cached.blockNumber)) && map.lookup(cached.blockNumber) === LOOKUP.STORED;
        const slot = map.foundSlot;
        if (isStored && map.foundChunk === chunk && (await this.#write(chunk, { ...cached, slot }))) count += 1;
      } finally {
        release();
      }
    }
    return count;
  }

  async #rewriteBlock(chunk: number, bad: BadBlock): Promise<{ readonly inUse: boolean | null; readonly isRewritten: boolean }> {
    const { map } = this.#core;
    const release = map.hold();
    try {
      if (!(await loadLeafOf(map, bad.blockNumber))) return { inUse: null, isRewritten: false };
      const inUse = this.#isNewest(chunk, bad);
      return { inUse, isRewritten: inUse && (await this.#write(chunk, bad)) };
    } finally {
      release();
    }
  }

  /** Whether no newer version of the block is in memory or in another chunk; its leaf is in memory. */
  #isNewest(chunk: number, { blockNumber, slot }: BadBlock): boolean {
    if (!isStillAt(this.#core.map, blockNumber, chunk, slot)) return false;
    const location = this.#core.residentLocation(blockNumber);
    return location === NO_LOCATION || (!isZeroLocation(location) && this.#core.slabAt(location).state === 'clean');
  }

  /**
   * Writes a block as clients do, if memory has it whole; false if it has not, or something newer came. Looked at and written within one
   * turn: no write of a client is ever covered.
   */
  async #write(chunk: number, bad: BadBlock): Promise<boolean> {
    const device = this.#device;
    const { blockSizeBytes, env, name } = this.#core;
    try {
      for (;;) {
        const bytes = device === null ? null : this.#copyOf(chunk, bad);
        if (device === null || bytes === null) return false;
        const settled = deferred<void>();
        const admission = device.writeNow(bad.blockNumber * blockSizeBytes, blockSizeBytes, bytes, 0, false, { settle: (error) => (error === null ? settled.resolve() : settled.reject(error)) });
        if (admission === 'partial') return false;
        if (admission === 'accepted') {
          device.submit();
          await settled.promise;
          return true;
        }
        await device.whenAdmitting();
      }
    } catch (error) {
      // The volume takes no writes (any more); that a block is rotten is in the report all the same.
      if (!(error instanceof VolumeError)) throw error;
      env.logger.log('warn', 'rotten-block-not-rewritten', { volume: name, blockNumber: bad.blockNumber, error });
      return false;
    }
  }

  /** The cached copy of a block, checked; a copy, as the write may take the slab that it stands in. */
  #copyOf(chunk: number, bad: BadBlock): Uint8Array | null {
    const { blockSizeBytes, slotsPerSlab } = this.#core;
    if (!this.#isNewest(chunk, bad)) return null;
    const location = this.#core.residentLocation(bad.blockNumber);
    if (location === NO_LOCATION) return null;
    const slot = location % slotsPerSlab;
    const bytes = new Uint8Array(this.#core.slabAt(location).bytes.subarray(slot * blockSizeBytes, (slot + 1) * blockSizeBytes));
    return checksum(bytes) === bad.checksum ? bytes : null;
  }
}
