/**
 * Compaction: chunks of which little is still live are rewritten, so that trims and overwrites give their space back. What is live in
 * some of them is copied into one new chunk; without a live block they are dead, and the checkpointer removes them once no root
 * refers to them.
 *
 * A chunk of copies is a set of its own in the chain of sets, made while the flusher makes none. The block map changes with the sets only, so
 * from the moment the compactor has its turn until its chunk is committed the map stands still: blocks that are not where they
 * were when they were read are left out then, and what stays in is the newest stored version at this place in the chain. Recovery
 * applies sets in the order of the chain, so there, too, the copies take the place of what they were copied from and of nothing else:
 * newer versions are in later sets or in the log. Writes that are accepted meanwhile hide the map until their own set is committed.
 *
 * Reading goes on beside everything else. A turn is the writing of one chunk, and data that is due goes first; but where
 * chunks take more space than they may, compaction goes first and goes on, for twice the bytes that were flushed since: so writers
 * are slowed until space is no problem, and never stopped.
 */
import { assert } from '../base/assert.ts';
import { toVolumeError } from '../base/errors.ts';
import type { Timer } from '../env/env.ts';
import type { ChunkIdentity } from '../format/chunk-layout.ts';
import { storedBlockBytes } from '../index/chunk-catalogue.ts';
import { type StagedChunk, prepareChunk, stageChunk } from './chunk-writer.ts';
import { applySet, isStillAt, loadLeaves } from './commit.ts';
import { type Copies, UnreadableChunk, gatherCopies } from './compactor-gather.ts';
import { type SpaceLimits, findCandidates, isOverSpace, isWorth, livePart, livePartLimit } from './compactor-victims.ts';
import type { Flusher } from './flusher.ts';
import type { VolumeCore } from './volume-core.ts';

/**
 * Bytes that may be copied before the flusher's next turn for each byte it has flushed, while chunks take too much space. Uniformly
 * random overwriting needs 1.35 to stay at 130 %, so it comes back to that.
 */
const COPIED_PER_FLUSHED = 2;

export class Compactor {
  readonly #core: VolumeCore;
  readonly #flusher: Flusher;
  /** Runs after each chunk that was committed, before the next set is. */
  readonly #committed: (chunkCount: number) => Promise<void>;
  readonly #limits: SpaceLimits;
  #candidates: number[] = [];
  /** Chunks that could not be read: they stay as they are. */
  readonly #unreadable = new Set<number>();
  /** Holds the blocks of one chunk while there is something to do. */
  #buffer: Uint8Array | null = null;
  /** Bytes that may be copied before the flusher has its turn. */
  #credit = 0;
  /** Bytes copied in this step without such credit: they are paced. */
  #unpaidBytes = 0;
  #timer: Timer | null = null;
  #dueMs = 0;
  #step: Promise<void> | null = null;
  #changed = false;
  #isPostponed = false;
  #stopped = true;

  constructor(core: VolumeCore, flusher: Flusher, committed: (chunkCount: number) => Promise<void>) {
    const { settings, blockSizeBytes, arena } = core;
    this.#core = core;
    this.#flusher = flusher;
    this.#committed = committed;
    this.#limits = { blockSizeBytes, slabBytes: arena.slabBytes, compactLivePercent: settings.compactLivePercent, compactSpacePercent: settings.compactSpacePercent };
  }

  /** The volume is open: looks for work, now and after each change. */
  start(): void {
    this.#stopped = false;
    this.#arm(this.#core.settings.compactPauseMs);
  }

  /** The flusher has committed a set of chunks of so many bytes. */
  flushed(chunkBytes: number): void {
    if (this.#stopped) return;
    this.#changed = true;
    const isOver = isOverSpace(this.#core.catalogue, this.#limits);
    // No more at a time than writers have memory to wait in.
    this.#credit = isOver ? Math.min(this.#core.settings.dirtyBytes, this.#credit + COPIED_PER_FLUSHED * chunkBytes) : 0;
    if (this.#step === null) this.#arm(this.#pauseMs);
  }

  /** Copies are stored in another way from now on: chunks that were not worth it may be. What is under way is judged by the new way before it is written. */
  formChanged(): void {
    if (this.#stopped) return;
    this.#changed = true;
    if (this.#step === null) this.#arm(this.#pauseMs);
  }

  /** Starts nothing new; resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#timer = null;
    this.#flusher.withdrawGuest();
    await this.#step;
  }

  get #pauseMs(): number {
    return this.#credit > 0 ? 0 : this.#core.settings.compactPauseMs;
  }

  #arm(delayMs: number): void {
    if (this.#stopped) return;
    const dueMs = this.#core.env.clock.nowMs() + delayMs;
    if (this.#timer !== null && this.#dueMs <= dueMs) return;
    this.#timer?.cancel();
    this.#dueMs = dueMs;
    this.#timer = this.#core.env.clock.setTimer(delayMs, () => {
      this.#timer = null;
      this.#step = this.#compactSome().then((nextMs) => {
        this.#step = null;
        if (nextMs !== null) this.#arm(nextMs);
        else if (this.#changed) this.#arm(this.#pauseMs);
      });
    });
  }

  /** Rewrites what fills one chunk. Returns after what time to go on; null: there is nothing to do before something changes. */
  async #compactSome(): Promise<number | null> {
    this.#changed = false;
    this.#unpaidBytes = 0;
    if (this.#core.failure !== null) return null;
    const victims = this.#chooseVictims();
    if (victims === null) {
      this.#buffer = null;
      return null;
    }
    try {
      const written = await this.#rewrite(victims);
      this.#isPostponed = false;
      if (written === 0) return this.#core.settings.compactPauseMs;
      return (this.#unpaidBytes * 1000) / this.#core.settings.compactBytesPerSecond;
    } catch (error) {
      return this.#postpone(error);
    }
  }

  /** Chunks to copy from, the best first: enough for a whole chunk if there are so many. Null if it is not worth it. */
  #chooseVictims(): readonly number[] | null {
    const { catalogue, chunkBlocks, blockSizeBytes, lastChunk } = this.#core;
    const limit = livePartLimit(catalogue, this.#limits);
    const form = { blockSizeBytes, isCompressed: this.#core.chunkCompress !== 'off' };
    const isCandidate = (chunk: number): boolean => {
      const live = livePart(catalogue, chunk, form);
      return live > 0 && live < limit && !this.#unreadable.has(chunk);
    };
    this.#candidates = this.#candidates.filter(isCandidate);
    if (this.#liveBlocks(this.#candidates) < chunkBlocks) {
      this.#candidates = findCandidates(catalogue, { ...form, limit, lastChunk, except: this.#unreadable });
    }
    let blocks = 0;
    let storedBytes = 0;
    let freedBytes = 0;
    for (const chunk of this.#candidates) {
      const facts = catalogue.get(chunk);
      assert(facts !== undefined && facts.liveBlocks > 0, 'a chunk without a live block is a candidate');
      const taken = Math.min(facts.liveBlocks, chunkBlocks - blocks);
      blocks += taken;
      storedBytes += taken * storedBlockBytes(facts, blockSizeBytes);
      freedBytes += (taken * facts.objectBytes) / facts.liveBlocks;
    }
    return isWorth(blocks, freedBytes, this.#copyBlockBytes(blocks, storedBytes)) ? this.#candidates : null;
  }

  /** What a copy of a block will take, on the average: what it takes now, if copies are compressed. */
  #copyBlockBytes(blockCount: number, storedBytes: number): number {
    const { chunkCompress, blockSizeBytes } = this.#core;
    return chunkCompress === 'off' || blockCount === 0 ? blockSizeBytes : storedBytes / blockCount;
  }

  #liveBlocks(chunks: readonly number[]): number {
    return chunks.reduce((sum, chunk) => sum + (this.#core.catalogue.get(chunk)?.liveBlocks ?? 0), 0);
  }

  /** Returns the bytes that were written; 0 if there was nothing left that is worth it. */
  async #rewrite(victims: readonly number[]): Promise<number> {
    const copies = await this.#gather(victims);
    if (this.#stopped) return 0;
    const written = await this.#flusher.betweenSets(
      () => this.#credit > 0,
      () => this.#takeTurn(copies),
    );
    return written ?? 0;
  }

  #gather(victims: readonly number[]): Promise<Copies> {
    // Shared, so that the thread that compresses them sees the copies without a copy.
    this.#buffer ??= new Uint8Array(new SharedArrayBuffer(this.#core.chunkBlocks * this.#core.blockSizeBytes));
    return gatherCopies(this.#core, victims, this.#buffer);
  }

  /** Stores the copies, and as long as there is credit those of more chunks: a flusher that is let in between takes its time. */
  async #takeTurn(first: Copies): Promise<number> {
    let total = 0;
    for (let copies = first; ; ) {
      const written = await this.#store(copies);
      this.#pay(written);
      total += written;
      const victims = written > 0 && this.#credit > 0 ? this.#chooseVictims() : null;
      if (victims === null) return total;
      copies = await this.#gather(victims);
    }
  }

  #pay(bytes: number): void {
    this.#unpaidBytes += Math.max(0, bytes - this.#credit);
    this.#credit = Math.max(0, this.#credit - bytes);
    if (!isOverSpace(this.#core.catalogue, this.#limits)) this.#credit = 0;
  }

  /** Makes a chunk of what is still current, and commits it. No set is made meanwhile. */
  async #store(copies: Copies): Promise<number> {
    const { map } = this.#core;
    if (this.#stopped || this.#core.failure !== null || copies.count === 0) return 0;
    const release = map.hold();
    try {
      await loadLeaves(map, copies);
      const picks = Uint32Array.from(stillCurrent(this.#core, copies));
      if (!isWorth(picks.length, (copies.freedBytes * picks.length) / copies.count, this.#copyBlockBytes(copies.count, copies.storedBytes))) return 0;
      return await this.#writeAndCommit(copies, picks);
    } finally {
      release();
    }
  }

  /** As with the flusher's chunks any error but a full disk is a failing one. */
  async #writeAndCommit(copies: Copies, picks: Uint32Array): Promise<number> {
    const { manifest, blockSizeBytes, chunkedLsn, lastChunk } = this.#core;
    const identity: ChunkIdentity = {
      volumeId: manifest.volumeId,
      blockSizeBytes,
      epoch: manifest.epoch,
      chunkNumber: this.#flusher.takeChunkNumbers(1),
      firstLsn: chunkedLsn + 1,
      lastLsn: chunkedLsn,
      previousChunk: lastChunk,
      part: 1,
      parts: 1,
    };
    try {
      const { blockNumbers, checksums, bytes } = copies;
      const staged = await stageChunk(this.#core, await prepareChunk(this.#core, { identity, sources: [{ blockNumbers, checksums, bytes }], picks, ranges: [] }), false);
      await this.#flusher.serial.run(() => this.#commit(staged, copies));
      return staged.objectBytes;
    } catch (cause) {
      const error = toVolumeError(cause, `writing the copies of chunk ${identity.chunkNumber}`);
      if (error.code !== 'no-space') this.#core.fail(error);
      throw error;
    }
  }

  async #commit(staged: StagedChunk, copies: Copies): Promise<void> {
    const { map, catalogue, store, manifest, counters } = this.#core;
    for (const pick of staged.picks) {
      assert(isStillAt(map, copies.blockNumbers[pick], copies.chunks[pick], copies.slots[pick]), 'the block map changed while a chunk of copies was written');
    }
    try {
      await store.publish([staged.object]);
    } catch (error) {
      await staged.object.abandon(); // of a full disk: it has no name yet
      throw error;
    }
    this.#core.lastChunk = staged.chunk;
    await applySet(map, catalogue, [], [{ ...staged, epoch: manifest.epoch }]);
    counters.chunkBytes += staged.objectBytes;
    counters.chunksWritten += 1;
    counters.compactionBytes += staged.objectBytes;
    counters.compactions += 1;
    await this.#committed(1);
  }

  /** Says once what is wrong, and returns when to try again. */
  #postpone(cause: unknown): number | null {
    const { env, name, settings } = this.#core;
    if (cause instanceof UnreadableChunk) {
      this.#unreadable.add(cause.chunk);
      env.logger.log('warn', 'chunk-not-compacted', { volume: name, chunk: cause.chunk, error: cause.cause });
      return settings.compactPauseMs;
    }
    const error = toVolumeError(cause, 'rewriting chunks');
    if (!this.#isPostponed && this.#core.failure === null) env.logger.log('warn', 'compaction-postponed', { volume: name, error });
    this.#isPostponed = true;
    return settings.retryMs;
  }
}

/** Indexes of the copies whose blocks are stored where they were read; their leaves are in memory. */
function stillCurrent({ map }: VolumeCore, { blockNumbers, chunks, slots }: Copies): number[] {
  const current: number[] = [];
  for (let index = 0; index < blockNumbers.length; index += 1) {
    if (isStillAt(map, blockNumbers[index], chunks[index], slots[index])) current.push(index);
  }
  return current;
}
