/**
 * Making chunks of sealed slabs, in the background: by size, by age, by log space, or because somebody needs room. One
 * set of chunks at a time: its parts are built and written side by side, then published together and committed. Only then
 * does the index move to the chunks, the slabs become a cache, and the log space become free, in this order.
 */
import { assert } from '../base/assert.ts';
import { SerialQueue, forEachLimited } from '../base/async.ts';
import { type VolumeError, toVolumeError } from '../base/errors.ts';
import { SORT_PICKS_TASK } from '../chunk/build-chunk.ts';
import type { Timer } from '../env/env.ts';
import type { ChunkIdentity } from '../format/chunk-layout.ts';
import { type ChunkSet, makeSet, setLength } from './chunk-set.ts';
import { type PrepareChunkJob, type StagedChunk, prepareChunk, stageChunk } from './chunk-writer.ts';
import { commitSet } from './commit.ts';
import { mergeSparse } from './slab-merge.ts';
import type { VolumeCore } from './volume-core.ts';
import type { DirtySlab, WritePath } from './write-path.ts';

/** Slabs that a set takes when somebody waits for room: small sets give it back early. */
const SMALL_SET_SLABS = 4;
/**
 * Part of the sealed slabs that a set takes when only their number is the reason: of what is overwritten again and again a
 * larger set writes less, and the rest is room for what comes in the meantime (4 KiB at random over 64 MiB: 12 of 20 slabs at
 * a time take a fifth less processor time than 4, and than 16).
 */
const SET_PART = 3 / 5;
/** Part of the log that may be behind the oldest data: the rest is room for what is written while the flush lasts. */
const LOG_PART = 5 / 8;
const ALL_SLABS = Number.MAX_SAFE_INTEGER;
/**
 * A set for which the log took so many times its bytes is of blocks that are written again and again: their chunks die soon, and they stay in
 * memory. So they need no place in the page cache, where making and dropping it costs more than the write (128 KiB within 64 MiB: a
 * tenth more writes a second).
 */
const REWRITTEN_FACTOR = 2;

export interface FlusherEvents {
  /** A set of so many chunks was committed; runs before the next one is. */
  committed(chunkCount: number, chunkBytes: number): Promise<void>;
}

/** Somebody else who adds to the chain of sets, waiting for the turn. */
interface Guest {
  readonly goesFirst: () => boolean;
  readonly begin: (hasTurn: boolean) => void;
}

export class Flusher {
  /** Publishing, committing and checkpoints: one at a time. */
  readonly serial = new SerialQueue();
  readonly #core: VolumeCore;
  readonly #writes: WritePath;
  readonly #events: FlusherEvents;
  /** A set is being made, by the flusher or by a guest: each names the one before it, so there is one at a time. */
  #busy = false;
  #guest: Guest | null = null;
  /** The slabs of the set under way, or of the one that failed. */
  #underWay: readonly DirtySlab[] = [];
  #nextChunk: number;
  #draining = 0;
  #urgent = false;
  #poking = false;
  #timer: Timer | null = null;
  #stopped = false;

  constructor(core: VolumeCore, writes: WritePath, nextChunk: number, events: FlusherEvents) {
    this.#core = core;
    this.#writes = writes;
    this.#events = events;
    this.#nextChunk = nextChunk;
  }

  /** To be called at the end of a turn, and when records were written: starts what there is to do. */
  poke(): void {
    // Looking for work may write the log, which ends here again.
    if (this.#stopped || this.#poking) return;
    this.#poking = true;
    if (!this.#busy) this.#startNext();
    this.#poking = false;
    this.#armTimer();
  }

  /** Somebody needs room: the oldest data is made into chunks now. */
  urge(): void {
    if (this.#stopped || this.#core.failure !== null) return;
    if (this.#writes.sealed.length === 0) this.#writes.seal();
    this.#urgent = this.#writes.sealed.length > 0;
    this.poke();
  }

  /** What is in no chunk yet: blocks (a range of zeroes counts as one), and since when there is some; infinite if there is none. */
  get unchunked(): { readonly blockCount: number; readonly sinceMs: number } {
    const { sealed, open } = this.#writes;
    let blockCount = 0;
    let sinceMs = Number.POSITIVE_INFINITY;
    for (const dirty of [...this.#underWay, ...sealed, ...(open === null ? [] : [open])]) {
      // Of a set that was just committed the slabs are a cache already; an open slab may have nothing in it yet.
      if (dirty.lastLsn <= this.#core.chunkedLsn || dirty.lastLsn < dirty.firstLsn) continue;
      blockCount += (dirty.slab?.currentCount ?? 0) + dirty.ranges.length;
      sinceMs = Math.min(sinceMs, dirty.sinceMs);
    }
    return { blockCount, sinceMs };
  }

  /** Another volume, or this one, needs room: what is dirty goes, or, where the disk is full, stays without counting against the others. */
  makeRoom(): void {
    if (this.#core.storeStall === null) this.urge();
    else this.#core.arena.lend(this.#core);
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
        if (trouble !== null && !this.#core.waitsForBucket(trouble)) throw trouble;
        this.poke();
        await this.#core.progress.wait();
      }
    } finally {
      this.#draining -= 1;
    }
  }

  /** Starts nothing new; resolves when nothing is under way. No guest may wait any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    while (this.#busy) await this.#core.progress.wait();
    await this.serial.idle();
  }

  /**
   * Runs `task` when no set of chunks is being made, and makes none meanwhile. Data that is due goes first, unless `goesFirst`
   * says otherwise. A failure of the volume does not keep it from running: it has to look. Null if it was withdrawn.
   */
  async betweenSets<T>(goesFirst: () => boolean, task: () => Promise<T>): Promise<T | null> {
    assert(this.#guest === null, 'two guests wait for the flusher');
    const hasTurn = await new Promise<boolean>((begin) => {
      this.#guest = { goesFirst, begin };
      this.poke();
    });
    if (!hasTurn) return null;
    try {
      return await task();
    } finally {
      this.#endTurn();
    }
  }

  /** What waits for its turn is not run any more; what runs goes on. */
  withdrawGuest(): void {
    const guest = this.#guest;
    this.#guest = null;
    guest?.begin(false);
  }

  /** The first of `count` chunk numbers that nobody else gets. */
  takeChunkNumbers(count: number): number {
    const first = this.#nextChunk;
    this.#nextChunk += count;
    return first;
  }

  #startNext(): void {
    const canFlush = this.#core.failure === null;
    if (canFlush && this.#guest?.goesFirst() !== true) this.#startIfDue();
    if (this.#busy || this.#guest === null) return;
    const { begin } = this.#guest;
    this.#guest = null;
    this.#busy = true;
    begin(true);
  }

  #startIfDue(): void {
    const wanted = this.#slabsDue();
    if (wanted === 0) return;
    const { sealed } = this.#writes;
    const log = this.#core.logIfOpen;
    // Hot blocks first go to the log: a chunk is never ahead of it.
    if (log !== null && sealed[Math.min(wanted, sealed.length) - 1].lastLsn > this.#writtenLsn) log.writeOut();
    let length = setLength(sealed, wanted, this.#writtenLsn);
    if (length === 0) {
      // Slabs were overwritten whole by the open one: that goes with them.
      this.#writes.seal();
      log?.writeOut();
      length = setLength(sealed, ALL_SLABS, this.#writtenLsn);
    }
    if (length === 0) return;
    this.#urgent = false;
    this.#busy = true;
    const slabs = sealed.splice(0, length);
    const set = makeSet(this.#core, slabs, (sealed[0] ?? this.#writes.open)?.logBytes ?? log?.appendedBytes ?? 0);
    this.#underWay = set.slabs;
    this.#flush(set).then(
      () => this.#finished(null),
      (error: unknown) => this.#finished(toVolumeError(error, `writing the chunks of LSN ${set.firstLsn} to ${set.lastLsn}`)),
    );
  }

  get #writtenLsn(): number {
    return this.#core.logIfOpen?.writtenLsn ?? Number.POSITIVE_INFINITY;
  }

  /** How many of the sealed slabs are to be made into chunks now. Where merging them makes room, none. */
  #slabsDue(): number {
    const { sealed } = this.#writes;
    const { settings, arena, manifest } = this.#core;
    const oldest = sealed[0];
    if (oldest === undefined) return 0;
    if (this.#draining > 0 || this.#ageMs(oldest) >= settings.flushIntervalMs) return ALL_SLABS;
    // Much of the log is behind the oldest data: all goes, so that what was overwritten in between is written once.
    const distance = (this.#core.logIfOpen?.appendedBytes ?? 0) - oldest.logBytes;
    if (distance >= manifest.logFileBytes * manifest.logFileCount * LOG_PART) return ALL_SLABS;
    if (this.#urgent) return SMALL_SET_SLABS;
    const dirtyBytes = sealed.reduce((sum, { slab }) => sum + (slab === null ? 0 : arena.slabBytes), 0);
    if (dirtyBytes < settings.flushBytes || mergeSparse(this.#core, sealed, this.#writtenLsn)) return 0;
    return Math.max(SMALL_SET_SLABS, Math.floor(sealed.length * SET_PART));
  }

  #ageMs(dirty: DirtySlab): number {
    return this.#core.env.clock.nowMs() - dirty.sinceMs;
  }

  /** Wakes up when the oldest dirty data reaches its age. */
  #armTimer(): void {
    const oldest = this.#writes.sealed[0] ?? this.#writes.open;
    // The end of what is under way looks again; a volume that failed makes no more chunks.
    const needsNone = this.#busy || this.#core.failure !== null;
    if (this.#timer !== null || oldest === null || this.#stopped || needsNone) return;
    const delay = Math.max(1, this.#core.settings.flushIntervalMs - this.#ageMs(oldest));
    this.#timer = this.#core.env.clock.setTimer(delay, () => {
      this.#timer = null;
      const { open } = this.#writes;
      if (open !== null && this.#ageMs(open) >= this.#core.settings.flushIntervalMs) this.#writes.seal();
      this.poke();
    });
  }

  #finished(error: VolumeError | null): void {
    if (error === null) this.#underWay = [];
    else if (!this.#stopped) this.#core.fail(error);
    this.#endTurn();
  }

  #endTurn(): void {
    this.#busy = false;
    this.#core.progress.wake();
    this.poke();
  }

  async #flush(set: ChunkSet): Promise<void> {
    const chunks: StagedChunk[] = [];
    try {
      await this.#stageAll(set, chunks);
      await this.serial.run(async () => {
        await this.#publish(chunks);
        this.#core.lastChunk = chunks[chunks.length - 1].chunk;
        await commitSet(this.#core, set, chunks);
        await this.#events.committed(chunks.length, chunks.reduce((sum, chunk) => sum + chunk.objectBytes, 0));
      });
    } catch (error) {
      await this.#abandon(chunks);
      throw error;
    }
  }

  /** What has no name yet is of no use: all of it is in the log. On a full disk it would be in the way until the next opening. */
  async #abandon(chunks: readonly StagedChunk[]): Promise<void> {
    for (const chunk of chunks) {
      // Those that never came into being are holes.
      await chunk?.object.abandon().catch((error: unknown) => this.#core.env.logger.log('warn', 'staged-chunk-left', { volume: this.#core.name, chunk: chunk.key, error }));
    }
  }

  /** Builds and writes the parts of a set into `staged`, durable but not yet published. */
  async #stageAll(set: ChunkSet, staged: (StagedChunk | undefined)[]): Promise<void> {
    const { chunkBlocks, manifest, blockSizeBytes, env, settings } = this.#core;
    const sources = set.slabs.map(({ slab }) => (slab === null ? NO_SOURCE : { blockNumbers: slab.blockNumbers, checksums: slab.checksums, bytes: slab.bytes }));
    const sorted: unknown = await env.workers.run(SORT_PICKS_TASK, { blockNumbers: sources.map((source) => source.blockNumbers), picks: set.picks });
    assert(sorted instanceof Uint32Array && sorted.length === set.picks.length, 'the worker answered with something else than picks');
    const parts = Math.max(1, Math.ceil(sorted.length / chunkBlocks));
    const firstChunk = this.takeChunkNumbers(parts);
    const previousChunk = this.#core.lastChunk;
    this.#core.rewriteFactor = set.loggedBytes / Math.max(1, sorted.length * blockSizeBytes);
    const isRewritten = this.#core.rewriteFactor >= REWRITTEN_FACTOR;
    await forEachLimited(
      Array.from({ length: parts }, (_, index) => index),
      settings.chunkConcurrency,
      async (index) => {
        const picks = sorted.subarray(index * chunkBlocks, (index + 1) * chunkBlocks);
        const chunk = firstChunk + index;
        const identity: ChunkIdentity = {
          volumeId: manifest.volumeId,
          blockSizeBytes,
          epoch: manifest.epoch,
          chunkNumber: chunk,
          firstLsn: set.firstLsn,
          lastLsn: set.lastLsn,
          previousChunk,
          part: index + 1,
          parts,
        };
        // The slabs do not change before the set is committed.
        staged[index] = await this.#stage({ identity, sources, picks: picks.slice(), ranges: index === 0 ? set.ranges : [] }, isRewritten);
      },
    );
  }

  async #stage(job: PrepareChunkJob, uncached: boolean): Promise<StagedChunk> {
    const chunk = await prepareChunk(this.#core, job);
    return this.#whileFull(() => stageChunk(this.#core, chunk, uncached));
  }

  #publish(chunks: readonly StagedChunk[]): Promise<void> {
    return this.#whileFull(() => this.#core.store.publish(chunks.map((chunk) => chunk.object)));
  }

  /** Repeats `attempt` while the disk is full: the data is still in memory and in the log, so that costs time only. */
  async #whileFull<T>(attempt: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        const result = await attempt();
        this.#setStall(null);
        return result;
      } catch (cause) {
        const error = toVolumeError(cause, 'storing chunks');
        // Anything but a full disk is a failing one.
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
    if (error === null && this.#core.failure === null) this.#core.arena.takeBack(this.#core);
    else if (storeStall === null) this.#core.arena.askAgain();
    // Writers that wait for room learn that they wait for space; drains too.
    this.#core.room.wake();
    this.#core.progress.wake();
  }
}

/** Stands for a slab whose memory is free: nothing is picked from it. */
const NO_SOURCE = { blockNumbers: new Float64Array(0), checksums: new Uint32Array(0), bytes: null };
