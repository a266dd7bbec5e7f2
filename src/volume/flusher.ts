/**
 * Making chunks of sealed slabs, in the background: by size, by age, or because somebody needs room. Several chunks are built
 * and written at a time; they are published and committed strictly in order, so that the chunks on disk are always
 * an unbroken run. Only then does the index move to the chunk, the slab become a cache, and the log space become free, in
 * this order.
 */
import { assert } from '../base/assert.ts';
import type { Slab } from '../base/arena.ts';
import { SerialQueue } from '../base/async.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import { BUILD_CHUNK_TASK, type BuildChunkJob, type BuiltChunk, PICK_SOURCE_FACTOR } from '../chunk/build-chunk.ts';
import { chunkKey } from '../chunk/chunk-reader.ts';
import type { Timer } from '../env/env.ts';
import { type ChunkIdentity, type ZeroRange, chunkBytes } from '../format/chunk-layout.ts';
import type { StagedObject } from '../store/object-store.ts';
import { commitGroup } from './commit.ts';
import type { VolumeCore } from './volume-core.ts';
import type { DirtySlab, WritePath } from './write-path.ts';

/** Consecutive sealed slabs that become one chunk. */
export interface SlabGroup {
  readonly slabs: readonly DirtySlab[];
  readonly picks: Uint32Array;
  readonly ranges: readonly ZeroRange[];
}

/** A group with more ranges than this is not extended: telling which blocks they cover would cost too much. */
const MAX_GROUP_RANGES = 64;
const MAX_GROUP_SLABS = 16;

export interface FlusherEvents {
  /** A chunk was committed; runs before the next one is. */
  committed(): Promise<void>;
}

export class Flusher {
  readonly #core: VolumeCore;
  readonly #writes: WritePath;
  readonly #events: FlusherEvents;
  /** Publishing, committing and checkpoints: one at a time, in order. */
  readonly serial = new SerialQueue();
  readonly #outputs: Uint8Array[] = [];
  #active = 0;
  #nextChunk: number;
  #draining = 0;
  #urgent = false;
  #poking = false;
  #timer: Timer | null = null;
  #stopped = false;

  constructor(core: VolumeCore, writes: WritePath, events: FlusherEvents) {
    this.#core = core;
    this.#writes = writes;
    this.#events = events;
    this.#nextChunk = core.lastChunk + 1;
  }

  /** To be called at the end of a turn, and when records were written: starts what there is to do. */
  poke(): void {
    // Looking for work may write the log, which ends here again.
    if (this.#stopped || this.#poking) return;
    this.#poking = true;
    while (this.#active < this.#core.settings.chunkConcurrency && this.#isDue()) this.#start();
    this.#poking = false;
    this.#armTimer();
  }

  /** Somebody needs room: everything dirty is made into chunks now. */
  urge(): void {
    if (this.#stopped || this.#core.failure !== null) return;
    this.#writes.seal();
    this.#urgent = this.#writes.sealed.length > 0;
    this.poke();
  }

  /** Makes chunks of everything accepted so far; resolves when they are committed. Rejects when the volume fails meanwhile. */
  async drain(): Promise<void> {
    this.#writes.seal();
    const target = this.#writes.lastLsn;
    this.#draining += 1;
    try {
      while (this.#core.chunkedLsn < target) {
        if (this.#core.failure !== null) throw this.#core.failure;
        const trouble = this.#core.storeStall ?? this.#core.logIfOpen?.trouble ?? null;
        if (trouble !== null) throw trouble;
        this.poke();
        await this.#core.progress.wait();
      }
    } finally {
      this.#draining -= 1;
    }
  }

  /** Starts nothing new; resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    while (this.#active > 0) await this.#core.progress.wait();
    await this.serial.idle();
  }

  #isDue(): boolean {
    const oldest = this.#writes.sealed[0];
    if (oldest === undefined || this.#core.failure !== null) {
      this.#urgent = false;
      return false;
    }
    // Hot blocks first go to the log: a chunk is never ahead of it.
    const newest = this.#core.logIfOpen;
    if (newest !== null && oldest.lastLsn > newest.writtenLsn) {
      newest.writeOut();
      if (oldest.lastLsn > newest.writtenLsn) return false;
    }
    if (this.#draining > 0 || this.#urgent) return true;
    if (this.#writes.sealed.length * this.#core.arena.slabBytes >= this.#core.settings.flushBytes) return true;
    return this.#ageMs(oldest) >= this.#core.settings.flushIntervalMs;
  }

  #ageMs(dirty: DirtySlab): number {
    return this.#core.env.clock.nowMs() - dirty.sinceMs;
  }

  /** Wakes up when the oldest dirty data reaches its age. */
  #armTimer(): void {
    const oldest = this.#writes.sealed[0] ?? this.#writes.open;
    if (this.#timer !== null || oldest === null || this.#stopped) return;
    const delay = Math.max(1, this.#core.settings.flushIntervalMs - this.#ageMs(oldest));
    this.#timer = this.#core.env.clock.setTimer(delay, () => {
      this.#timer = null;
      const { open } = this.#writes;
      if (open !== null && this.#ageMs(open) >= this.#core.settings.flushIntervalMs) this.#writes.seal();
      this.poke();
    });
  }

  #start(): void {
    const group = this.#nextGroup();
    const chunk = this.#nextChunk;
    this.#nextChunk += 1;
    this.#active += 1;
    const staging = this.#stage(group, chunk);
    staging.catch(() => undefined); // `finish` looks at it when its turn comes
    const finish = async (): Promise<void> => {
      const { object, built, bytes } = await staging;
      // The chunk before this one was not published: this one must not be either.
      if (this.#core.failure !== null) throw this.#core.failure;
      await this.#publish(object);
      this.#core.lastChunk = chunk;
      await commitGroup(this.#core, { group, chunk, built, objectBytes: bytes });
      await this.#events.committed();
    };
    this.serial.run(finish).then(
      () => this.#finished(null),
      (error: unknown) => this.#finished(toVolumeError(error, `writing chunk ${chunk}`)),
    );
  }

  #finished(error: VolumeError | null): void {
    this.#active -= 1;
    if (error !== null && !this.#stopped) this.#core.fail(error);
    this.#core.progress.wake();
    this.poke();
  }

  /** Takes sealed slabs off the queue: as many as fit one chunk once their blocks overwritten within the group are left out. */
  #nextGroup(): SlabGroup {
    const { sealed } = this.#writes;
    const { slotsPerSlab } = this.#core;
    const slabs: DirtySlab[] = [];
    const written = this.#core.logIfOpen?.writtenLsn ?? Number.POSITIVE_INFINITY;
    const blocks = new Set<number>();
    let ranges = 0;
    for (const dirty of sealed) {
      if (dirty.lastLsn > written || slabs.length === MAX_GROUP_SLABS) break;
      ranges += dirty.ranges.length;
      if (slabs.length > 0 && ranges > MAX_GROUP_RANGES) break;
      if (!addLiveBlocks(dirty.slab, blocks, slotsPerSlab)) break;
      slabs.push(dirty);
    }
    sealed.splice(0, slabs.length);
    return { slabs, picks: pickNewest(slabs), ranges: slabs.flatMap((dirty) => dirty.ranges) };
  }

  /** Builds and writes the chunk's object, durable but not yet published; tries again while the disk is full. */
  async #stage(group: SlabGroup, chunk: number): Promise<{ object: StagedObject; built: BuiltChunk; bytes: number }> {
    const { manifest, blockSizeBytes, env } = this.#core;
    const identity: ChunkIdentity = {
      volumeId: manifest.volumeId,
      blockSizeBytes,
      epoch: manifest.epoch,
      chunkNumber: chunk,
      firstLsn: group.slabs[0].firstLsn,
      lastLsn: group.slabs[group.slabs.length - 1].lastLsn,
    };
    const output = this.#takeOutput(chunkBytes(group.picks.length, group.ranges.length, blockSizeBytes));
    const sources = group.slabs.map(({ slab }) => ({ bytes: slab.bytes, blockNumbers: slab.blockNumbers, checksums: slab.checksums }));
    const job: BuildChunkJob = { identity, sources, picks: group.picks, ranges: group.ranges, output };
    const built = asBuiltChunk(await env.workers.run(BUILD_CHUNK_TASK, job));
    for (;;) {
      const object = await this.#write(chunkKey(identity.epoch, chunk), output.subarray(0, built.length));
      if (object === null) continue;
      this.#outputs.push(output);
      return { object, built, bytes: built.length };
    }
  }

  /** Null: the disk was full, a pause is over, try again. */
  async #write(key: string, bytes: Uint8Array): Promise<StagedObject | null> {
    let object: StagedObject | null = null;
    try {
      object = await this.#core.store.stage(key);
      await object.append([bytes]);
      await object.seal();
      this.#setStall(null);
      return object;
    } catch (cause) {
      const error = toVolumeError(cause, `writing ${key}`);
      await object?.abandon();
      // The bytes are still in the slabs: a full disk costs time only. Anything else is a failing disk.
      if (error.code !== 'no-space' || this.#stopped) throw error;
      this.#setStall(error);
      await this.#core.env.clock.sleep(this.#core.settings.retryMs);
      return null;
    }
  }

  async #publish(object: StagedObject): Promise<void> {
    for (;;) {
      try {
        await object.publish();
        return;
      } catch (cause) {
        const error = toVolumeError(cause, 'publishing a chunk');
        if (error.code !== 'no-space' || this.#stopped) throw error;
        this.#setStall(error);
        await this.#core.env.clock.sleep(this.#core.settings.retryMs);
      }
    }
  }

  #setStall(error: VolumeError | null): void {
    const { storeStall } = this.#core;
    if (storeStall === null && error === null) return;
    if (storeStall === null || error === null) {
      this.#core.env.logger.log(error === null ? 'info' : 'warn', error === null ? 'space-is-back' : 'no-space', { volume: this.#core.name, error });
    }
    this.#core.storeStall = error;
    // Writers that wait for room learn that they wait for space; drains too.
    this.#core.room.wake();
    this.#core.progress.wake();
  }

  /** Shared memory for an object's bytes; one piece for each chunk that is built at a time is kept. */
  #takeOutput(length: number): Uint8Array {
    const index = this.#outputs.findIndex((output) => output.length >= length);
    if (index >= 0) return this.#outputs.splice(index, 1)[0];
    this.#outputs.length = 0;
    return new Uint8Array(new SharedArrayBuffer(length));
  }
}

function asBuiltChunk(result: unknown): BuiltChunk {
  const built = typeof result === 'object' && result !== null && 'length' in result && 'blockNumbers' in result && 'picks' in result;
  assert(built, 'the chunk worker answered with something else than a chunk');
  const { length, blockNumbers, picks } = result;
  assert(typeof length === 'number' && blockNumbers instanceof Float64Array && picks instanceof Uint32Array, 'the chunk worker answered with wrong types');
  return { length, blockNumbers, picks };
}

/** Adds a slab's live blocks; false if there would be more than `limit`. */
function addLiveBlocks(slab: Slab, blocks: Set<number>, limit: number): boolean {
  for (let slot = 0; slot < slab.slotCount; slot += 1) {
    if (slab.live[slot] === 1) blocks.add(slab.blockNumbers[slot]);
    if (blocks.size > limit) return false;
  }
  return true;
}

/** The newest version of each block in consecutive slabs, less those that a later slab's ranges cover. */
function pickNewest(slabs: readonly DirtySlab[]): Uint32Array {
  const picks: number[] = [];
  const taken = slabs.length > 1 ? new Set<number>() : null;
  const laterRanges: ZeroRange[] = [];
  for (let source = slabs.length - 1; source >= 0; source -= 1) {
    const { slab, ranges } = slabs[source];
    for (let slot = 0; slot < slab.slotCount; slot += 1) {
      if (slab.live[slot] === 0) continue;
      const blockNumber = slab.blockNumbers[slot];
      if (taken !== null) {
        if (taken.has(blockNumber) || laterRanges.some((range) => blockNumber >= range.blockNumber && blockNumber < range.blockNumber + range.blockCount)) continue;
        taken.add(blockNumber);
      }
      picks.push(source * PICK_SOURCE_FACTOR + slot);
    }
    laterRanges.push(...ranges);
  }
  return Uint32Array.from(picks);
}
