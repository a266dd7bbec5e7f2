/**
 * `basalt scrub`: reads every chunk, its tables and each block's checksum, at a bounded rate, while the volume is served or while nobody
 * has it open. Of a volume that takes writes, a block that is rotten in its chunk and whole in memory is written anew.
 */
import { checksum } from '../base/checksum.ts';
import { deferred } from '../base/async.ts';
import { VolumeError } from '../base/errors.ts';
import type { Clock } from '../env/env.ts';
import type { Manifest } from '../format/manifest.ts';
import { type BlockMap, LEAF_BLOCKS, LOOKUP } from '../index/block-map.ts';
import { NO_LOCATION, isZeroLocation } from '../index/resident-map.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { BlockDevice } from './block-device.ts';
import { isStillAt } from './commit.ts';
import { type BadBlock, type InspectedChunk, inspectChunk } from './inspect-chunks.ts';
import { isDamage } from './inspect-findings.ts';
import type { VolumeCore } from './volume-core.ts';
import type { OnProgress, RottenPlace, ScrubReport } from './volume-info.ts';

/** While clients are at work a scrub reads this part of its rate. */
const BUSY_PART = 4;
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
    const isBusy = work !== this.#seen;
    this.#seen = work;
    const nowMs = this.#clock.nowMs();
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
  readonly chunks: readonly { readonly chunk: number; readonly epoch: number }[];
  /** Changes when clients work. */
  readonly workOfOthers: () => number;
  /** Whether a chunk may have been removed since the list was made. */
  readonly isGone: (chunk: number, epoch: number) => boolean;
  /** Throws when the volume is closed. */
  readonly check: () => void;
  readonly judge: (chunk: InspectedChunk) => Promise<readonly RottenPlace[]>;
}

/** Goes through the chunks of a volume. */
export async function scrub(target: ScrubTarget, { bytesPerSecond, onProgress, signal }: ScrubOptions): Promise<ScrubReport> {
  const { name, clock, store, manifest, chunks } = target;
  const startMs = clock.nowMs();
  const pacer = new Pacer(clock, bytesPerSecond, target.workOfOthers);
  const tell = (done: number): void => onProgress({ task: `scrub of ${name}, chunks`, done, total: chunks.length });
  const pace = async (bytes: number): Promise<void> => {
    await pacer.pace(bytes);
    if (signal.aborted) throw new VolumeError('closed', `the scrub of volume ${name} was ended early`);
    target.check();
  };
  const rotten: RottenPlace[] = [];
  const counts = { chunks: 0, blocks: 0, rottenCount: 0, rewrittenCount: 0 };
  for (const [index, { chunk, epoch }] of chunks.entries()) {
    tell(index);
    if (target.isGone(chunk, epoch)) continue;
    await pace(0);
    const inspected = await inspectChunk({ store, manifest, deep: true, pace }, chunk, epoch);
    // Compaction, or a checkpoint, may have removed it meanwhile: then nobody needs it.
    if (target.isGone(chunk, epoch)) continue;
    counts.chunks += 1;
    counts.blocks += inspected.blockCount;
    const places = await target.judge(inspected);
    counts.rottenCount += places.length;
    for (const place of places) counts.rewrittenCount += place.rewritten;
    rotten.push(...places.slice(0, PLACES_MAX - rotten.length));
  }
  tell(chunks.length);
  return { volume: name, isClean: counts.rottenCount === 0, ...counts, bytes: pacer.bytes, rotten, elapsedMs: Math.round(clock.nowMs() - startMs) };
}

/** Where a chunk as a whole, or one of its blocks, is rotten. */
export function placeOf({ key, chunk }: InspectedChunk, { blockNumber, offsetBytes, problem }: { readonly blockNumber: number | null; readonly offsetBytes: number | null; readonly problem: string }): Pick<RottenPlace, 'file' | 'chunk' | 'blockNumber' | 'offsetBytes' | 'problem'> {
  return { file: key, chunk, blockNumber, offsetBytes, problem };
}

/**
 * Scrubs a volume that is open here. `device` takes the writes of what is written anew; null: it takes none. Errors: `closed`, `io-error` for a
 * system that fails; what is rotten is in the report.
 */
export async function scrubOpen(core: VolumeCore, device: WriteTarget | null, options: ScrubOptions): Promise<ScrubReport> {
  const { catalogue, counters, env, store, manifest, name } = core;
  const chunks: { chunk: number; epoch: number }[] = [];
  for (const page of catalogue.pages()) for (const { place, epoch } of page.entries()) chunks.push({ chunk: page.index * page.epochs.length + place, epoch });
  const rescuer = new Rescuer(core, device);
  const target: ScrubTarget = {
    name,
    clock: env.clock,
    store,
    manifest,
    chunks: chunks.toSorted((a, b) => a.chunk - b.chunk),
    workOfOthers: () => counters.readBytes + counters.writtenBytes + counters.zeroedBytes,
    isGone: (chunk, epoch) => catalogue.get(chunk)?.epoch !== epoch,
    check: () => {
      if (core.closed) throw new VolumeError('closed', `volume ${name} is closed`);
    },
    judge: async (chunk) => {
      counters.scrubbedBytes += chunk.sizeBytes;
      const places = await rescuer.judge(chunk);
      counters.rottenFound += places.length;
      for (const place of places) {
        counters.rottenRewritten += place.rewritten;
        env.logger.log('error', 'rotten', { volume: name, ...place });
      }
      return places;
    },
  };
  const report = await scrub(target, options);
  counters.scrubs += 1;
  return report;
}

/** Brings the leaf of a block into memory, the map being held; false if it is damaged itself. */
export async function loadLeafOf(map: BlockMap, blockNumber: number): Promise<boolean> {
  try {
    await map.load(Math.floor(blockNumber / LEAF_BLOCKS));
    return true;
  } catch (error) {
    if (error instanceof VolumeError && isDamage(error)) return false;
    throw error;
  }
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
      const inUse = (this.#core.catalogue.get(chunk)?.liveBlocks ?? 0) > 0;
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
