/**
 * What the parts of an open volume share: its identity, its memory, its indexes, its log. The parts: `write-path.ts` takes
 * writes, `read-path.ts` answers reads, `flusher.ts` makes chunks of sealed slabs, `checkpointer.ts` writes the block map.
 */
import { assert } from '../base/assert.ts';
import type { Arena, Slab, SlabOwner } from '../base/arena.ts';
import { WaitList } from '../base/async.ts';
import { chunkCompressionOf } from '../base/compression.ts';
import { type VolumeError, toVolumeError } from '../base/errors.ts';
import type { ChunkCompression, EngineSettings } from '../base/settings-types.ts';
import type { ChunkReader, ChunkReaderOptions } from '../chunk/chunk-reader.ts';
import { NO_VAIN_TRIES, type VainTries } from '../chunk/frame-judge.ts';
import type { Env } from '../env/env.ts';
import { fullChunkBlocks } from '../format/chunk-layout.ts';
import type { Manifest } from '../format/manifest.ts';
import { type BlockMap, LEAF_BLOCKS, LOOKUP } from '../index/block-map.ts';
import { type BlockState, assertTransition } from '../index/block-state.ts';
import type { ChunkCatalogue } from '../index/chunk-catalogue.ts';
import { NO_LOCATION, ResidentMap, isZeroLocation } from '../index/resident-map.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { LogWriter } from '../wal/log-writer.ts';
import type { ReadAhead } from './read-ahead.ts';
import type { Prefetch } from './prefetch.ts';
import type { Shipper } from './shipper.ts';
import { withRestartAdvice, writeManifest } from './volume-files.ts';
import type { VolumeObserver, VolumeStats } from './volume-info.ts';
import type { WritePressure } from './write-pressure.ts';

/** A cached slab is filled up again when no more than this part of it is current. */
const SPARSE_PART = 4;

/** Counters of an open volume; `volume-info.ts` says what they mean. */
export interface Counters {
  readBytes: number;
  writtenBytes: number;
  zeroedBytes: number;
  chunkBytes: number;
  chunksWritten: number;
  chunksRemoved: number;
  compactionBytes: number;
  compactions: number;
  checkpointBytes: number;
  checkpoints: number;
  cacheHits: number;
  cacheMisses: number;
  cacheEvictions: number;
  scrubs: number;
  scrubbedBytes: number;
  rottenFound: number;
  rottenRewritten: number;
}

function newCounters(): Counters {
  return {
    readBytes: 0,
    writtenBytes: 0,
    zeroedBytes: 0,
    chunkBytes: 0,
    chunksWritten: 0,
    chunksRemoved: 0,
    compactionBytes: 0,
    compactions: 0,
    checkpointBytes: 0,
    checkpoints: 0,
    cacheHits: 0,
    cacheMisses: 0,
    cacheEvictions: 0,
    scrubs: 0,
    scrubbedBytes: 0,
    rottenFound: 0,
    rottenRewritten: 0,
  };
}

export interface CoreOptions {
  readonly env: Env;
  readonly name: string;
  /** The volume's directory. */
  readonly directory: string;
  readonly settings: EngineSettings;
  readonly arena: Arena;
  readonly store: ObjectStore;
  readonly manifest: Manifest;
  readonly map: BlockMap;
  readonly catalogue: ChunkCatalogue;
  readonly reader: ChunkReader;
  readonly observer: VolumeObserver | null;
  readonly counters?: Counters;
}

export class VolumeCore implements SlabOwner {
  readonly env: Env;
  readonly name: string;
  readonly directory: string;
  readonly settings: EngineSettings;
  readonly arena: Arena;
  readonly store: ObjectStore;
  readonly map: BlockMap;
  readonly catalogue: ChunkCatalogue;
  readonly reader: ChunkReader;
  readonly observer: VolumeObserver | null;
  readonly blockSizeBytes: number;
  /** Blocks that a slab has memory for: locations count by these. */
  readonly slotsPerSlab: number;
  /** Blocks of a full chunk, and of a slab that is full of new ones; a slab with a record of an older log may hold all that it has memory for. */
  readonly chunkBlocks: number;
  readonly resident: ResidentMap;
  /** Leaves that read as zeroes since a record in a dirty slab: leaf index to zero mark. Entries of `resident` stand above them. */
  readonly zeroLeaves = new Map<number, number>();
  /** Woken when a write that found no room may find some. */
  readonly room = new WaitList();
  /** Woken when a chunk was committed, or something went wrong with one. */
  readonly progress = new WaitList();
  readonly counters: Counters;
  #manifest: Manifest;
  /** One whose writing failed: it may stand on the disk in place of `manifest`, and which of the two a power cut leaves is not known. */
  #manifestInDoubt: Manifest | null = null;
  /** All LSNs up to here are in chunks, and the chunks durable. */
  chunkedLsn = 0;
  /** Number of the last chunk that is published. */
  lastChunk = 0;
  /** What chunks tell the next ones of compressing what is nearly noise. */
  vainTries: VainTries = NO_VAIN_TRIES;
  /** Bytes that went to the log for each byte of the newest chunks: 1 where nothing is written twice. */
  rewriteFactor = 1;
  /** Why the volume takes no more writes, if so. */
  failure: VolumeError | null = null;
  /** Why chunks cannot be stored at the moment, if so: the disk is full. */
  storeStall: VolumeError | null = null;
  /** Ships what is stored, if the volume has a bucket. */
  shipper: Shipper | null = null;
  /** Fetches what is likely to be needed of the bucket, if that was wanted. */
  prefetch: Prefetch | null = null;
  /** Holds writers back while the bucket is too far behind, if the volume has one. */
  pressure: WritePressure | null = null;
  /** Fetches chunks before they are read, if the volume has a bucket. */
  readAhead: ReadAhead | null = null;
  /** Nothing may be put into memory any more. */
  closed = false;
  #log: LogWriter | null = null;
  #fill: Slab | null = null;

  constructor(options: CoreOptions) {
    this.env = options.env;
    this.name = options.name;
    this.directory = options.directory;
    this.settings = options.settings;
    this.arena = options.arena;
    this.store = options.store;
    this.#manifest = options.manifest;
    this.map = options.map;
    this.catalogue = options.catalogue;
    this.reader = options.reader;
    this.observer = options.observer;
    this.counters = options.counters ?? newCounters();
    this.blockSizeBytes = options.manifest.blockSizeBytes;
    this.slotsPerSlab = Math.floor(this.arena.slabBytes / this.blockSizeBytes);
    this.chunkBlocks = fullChunkBlocks(this.arena.slabBytes, this.blockSizeBytes);
    this.resident = new ResidentMap(1024);
  }

  get manifest(): Manifest {
    return this.#manifest;
  }

  get manifestInDoubt(): Manifest | null {
    return this.#manifestInDoubt;
  }

  /** Writes a new manifest, durable on return. After an error the one before counts. Errors: as `writeManifest`. */
  async replaceManifest(next: Manifest): Promise<void> {
    this.#manifestInDoubt = next;
    await writeManifest(this.env, this.directory, next);
    this.#manifest = next;
    this.#manifestInDoubt = null;
  }

  /** No block behind these is stored: as many as the volume had when it was largest. */
  get volumeBlocks(): number {
    return this.manifest.spanBytes / this.blockSizeBytes;
  }

  /** What the chunks of this volume are checked against. */
  get readerOptions(): Pick<ChunkReaderOptions, 'volumeId' | 'blockSizeBytes' | 'volumeBlocks'> {
    return { volumeId: this.manifest.volumeId, blockSizeBytes: this.blockSizeBytes, volumeBlocks: this.volumeBlocks };
  }

  /** Whether new chunks are compressed. It changes while the volume is open: what is looked up before a wait does not hold behind it. */
  get chunkCompress(): ChunkCompression {
    return chunkCompressionOf(this.manifest.compression, this.settings.chunkCompress);
  }

  get log(): LogWriter {
    assert(this.#log !== null, 'the log is used before recovery has ended');
    return this.#log;
  }

  /** The log while there is one: not yet during recovery. */
  get logIfOpen(): LogWriter | null {
    return this.#log;
  }

  set log(log: LogWriter) {
    this.#log = log;
  }

  /** The volume takes no more writes; readers go on. The first reason stays, with what to do about it. */
  fail(error: VolumeError): void {
    if (this.failure !== null) return;
    this.failure = withRestartAdvice(error, this.name);
    this.env.logger.log('error', 'volume-failed', { volume: this.name, error: this.failure });
    this.arena.giveUp(this);
    this.room.wake();
    this.progress.wake();
  }

  /** Gives back the disk space that the store keeps for chunks to come. Failing at that is no failure of the volume. */
  async releaseSpace(): Promise<void> {
    try {
      await this.store.releaseSpace();
    } catch (error) {
      this.env.logger.log('warn', 'space-not-released', { volume: this.name, error: toVolumeError(error, 'removing spare chunk files') });
    }
  }

  /** Whether trouble with the disk here is one that passes when more was shipped: writers wait then, and none fails. */
  waitsForBucket(trouble: VolumeError): boolean {
    return trouble.code === 'no-space' && this.shipper?.mayMakeRoom === true;
  }

  locationOf(slab: Slab, slot: number): number {
    return slab.index * this.slotsPerSlab + slot;
  }

  /** Where a block is in memory, or its zero mark, or NO_LOCATION when the block map decides. */
  residentLocation(blockNumber: number): number {
    const location = this.resident.get(blockNumber);
    if (location !== NO_LOCATION || this.zeroLeaves.size === 0) return location;
    return this.zeroLeaves.get(Math.floor(blockNumber / LEAF_BLOCKS)) ?? NO_LOCATION;
  }

  slabAt(location: number): Slab {
    return this.arena.slabs[Math.floor(location / this.slotsPerSlab)];
  }

  /** The state of a block (DESIGN 2). One whose leaf is not resident counts as persisted: absent leaves are the empty ones. */
  stateOf(blockNumber: number): BlockState {
    const location = this.residentLocation(blockNumber);
    if (location === NO_LOCATION) {
      const found = this.map.lookup(blockNumber);
      return found === LOOKUP.STORED || found === LOOKUP.NOT_RESIDENT ? 'persisted' : 'empty';
    }
    return isZeroLocation(location) ? 'empty' : this.stateAt(location);
  }

  /** The state of the block that is current in a slot of a slab. */
  stateAt(location: number): 'cached' | 'pending' | 'hot' {
    const slab = this.slabAt(location);
    if (slab.state === 'clean') return 'cached';
    const written = this.#log?.writtenLsn ?? Number.POSITIVE_INFINITY;
    return slab.lsns[location % this.slotsPerSlab] <= written ? 'pending' : 'hot';
  }

  /** Keeps a copy of a stored block in memory. The caller has checked that `bytes` are what the map points at. */
  cacheBlock(blockNumber: number, bytes: Uint8Array, start: number, checksum: number): void {
    assertTransition(this.stateOf(blockNumber), 'cached', blockNumber);
    this.#putInCache(blockNumber, bytes, start, checksum);
  }

  /** Puts a cached block behind the one that was cached last. `bytes` are its own. */
  moveCached(blockNumber: number, bytes: Uint8Array, start: number): void {
    const location = this.residentLocation(blockNumber);
    assert(location !== NO_LOCATION && !isZeroLocation(location) && this.slabAt(location).state === 'clean', 'only a cached block can be moved');
    this.#putInCache(blockNumber, bytes, start, this.slabAt(location).checksums[location % this.slotsPerSlab]);
  }

  #putInCache(blockNumber: number, bytes: Uint8Array, start: number, checksum: number): void {
    let slab = this.#fill;
    if (slab === null || slab.slotCount === this.slotsPerSlab) {
      slab = this.#compactedSlab() ?? this.arena.takeClean(this);
      this.#fill = slab;
    }
    const slot = slab.slotCount;
    slab.put(bytes.subarray(start, start + this.blockSizeBytes), slot * this.blockSizeBytes);
    slab.blockNumbers[slot] = blockNumber;
    slab.checksums[slot] = checksum;
    slab.slotCount += 1;
    slab.currentCount += 1;
    const before = this.resident.set(blockNumber, this.locationOf(slab, slot));
    if (before !== NO_LOCATION) this.slabAt(before).currentCount -= 1;
  }

  /**
   * A cached slab of which most was overwritten or has moved, with the rest at its front: room without giving up what is in use. The few
   * current blocks of such slabs may be asked for all the time, so that by use alone full slabs would go before them.
   */
  #compactedSlab(): Slab | null {
    const slab = this.arena.sparsest(this, Math.floor(this.slotsPerSlab / SPARSE_PART));
    if (slab === null) return null;
    const { blockSizeBytes, resident } = this;
    let kept = 0;
    for (let slot = 0; slot < slab.slotCount; slot += 1) {
      const blockNumber = slab.blockNumbers[slot];
      if (resident.get(blockNumber) !== this.locationOf(slab, slot)) continue;
      if (slot !== kept) {
        slab.bytes.copyWithin(kept * blockSizeBytes, slot * blockSizeBytes, (slot + 1) * blockSizeBytes);
        slab.blockNumbers[kept] = blockNumber;
        slab.checksums[kept] = slab.checksums[slot];
        resident.set(blockNumber, this.locationOf(slab, kept));
      }
      kept += 1;
    }
    assert(kept === slab.currentCount, `slab ${slab.index} holds ${kept} current blocks, not ${slab.currentCount}`);
    slab.slotCount = kept;
    this.arena.touch(slab);
    return slab;
  }

  /** Forgets the cached blocks of a clean slab that is taken back. */
  evict(slab: Slab): void {
    if (slab === this.#fill) this.#fill = null;
    for (let slot = 0; slot < slab.slotCount; slot += 1) {
      const blockNumber = slab.blockNumbers[slot];
      if (this.resident.get(blockNumber) !== this.locationOf(slab, slot)) continue;
      this.resident.delete(blockNumber);
      this.counters.cacheEvictions += 1;
    }
  }

  /** Memory of the arena that is the volume's: what waits for a chunk, and what is cached. */
  get memory(): Pick<VolumeStats, 'dirtyBytes' | 'cachedBytes'> {
    let dirty = 0;
    let clean = 0;
    for (const { owner, state } of this.arena.slabs) {
      if (owner !== this) continue;
      if (state === 'dirty') dirty += 1;
      else clean += 1;
    }
    return { dirtyBytes: dirty * this.arena.slabBytes, cachedBytes: clean * this.arena.slabBytes };
  }

  /** Gives all slabs back: the volume is closed, and its log has let go of them. */
  releaseMemory(): void {
    this.arena.takeBack(this);
    for (const slab of this.arena.slabs) if (slab.owner === this) this.arena.free(slab);
    this.#fill = null;
  }
}
