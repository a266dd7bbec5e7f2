/**
 * Answering reads. What is in memory, or known to be zero, is copied within the turn. The rest is read from chunks; the places
 * are taken from the index in one turn, and chunks do not change, so that a read sees the volume as it was at that moment.
 */
import type { Arena, Slab } from '../base/arena.ts';
import { assert } from '../base/assert.ts';
import { forEachLimited } from '../base/async.ts';
import { VolumeError } from '../base/errors.ts';
import type { ExtentList } from '../base/extent-list.ts';
import { LEAF_BLOCKS, LOOKUP, LOST_CHUNK } from '../index/block-map.ts';
import { NO_LOCATION, isZeroLocation } from '../index/resident-map.ts';
import type { ReadLoan } from './block-device.ts';
import { ExtentWalk } from './extent-walk.ts';
import type { VolumeCore } from './volume-core.ts';
import type { EdgeBlock } from './write-path.ts';

/** Consecutive blocks in consecutive slots of one chunk, and where their bytes go. */
interface ChunkPiece {
  readonly blockNumber: number;
  blockCount: number;
  readonly chunk: number;
  readonly slot: number;
  /** Offset of the first block in the target; negative when the request begins within it. */
  readonly targetStart: number;
}

/** Chunk reads under way for one request. */
const PIECES_AT_ONCE = 16;
/** Longer reads do not fill the cache: they would push everything else out. */
const CACHE_READ_BYTES = 1024 * 1024;
/** Ranges brought into the cache at the same time, one volume. */
const CACHED_AT_ONCE = 4;
/** Reads from this size on bring the blocks together that they find scattered over the cache. */
const GATHERED_READ_BYTES_MIN = 32 * 1024;
/** Parts of one read on loan. */
const LOAN_PARTS_MAX = 8;
/** A chunk may be removed between look-up and read; each time the map says where the blocks are now. */
const ATTEMPTS = 8;

export class ReadPath {
  readonly #core: VolumeCore;
  readonly #walk: ExtentWalk;
  #caching = 0;

  constructor(core: VolumeCore) {
    this.#core = core;
    this.#walk = new ExtentWalk(core);
  }

  /** Copies a range that is wholly in memory; false if it is not. */
  readNow(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetStart: number): boolean {
    if (!this.#copyKnown(offsetBytes, lengthBytes, target, targetStart, null)) return false;
    this.#core.counters.readBytes += lengthBytes;
    if (lengthBytes >= GATHERED_READ_BYTES_MIN) this.#bringTogether(offsetBytes, lengthBytes, target, targetStart);
    return true;
  }

  /**
   * A long read of cached blocks that had to be copied, since they lie in many places: they move together, so that the next such
   * read can be lent. Blocks that are in no chunk yet stay where they are.
   */
  #bringTogether(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetStart: number): void {
    const { blockSizeBytes } = this.#core;
    const first = Math.ceil(offsetBytes / blockSizeBytes);
    const end = Math.floor((offsetBytes + lengthBytes) / blockSizeBytes);
    let pieces = 0;
    let previous = NO_LOCATION;
    for (let blockNumber = first; blockNumber < end; blockNumber += 1) {
      const location = this.#core.residentLocation(blockNumber);
      if (!this.#isCached(location)) return;
      if (location !== previous + 1) pieces += 1;
      previous = location;
    }
    if (pieces <= LOAN_PARTS_MAX) return;
    for (let blockNumber = first; blockNumber < end; blockNumber += 1) {
      // Making room for one may push another one out.
      if (this.#isCached(this.#core.residentLocation(blockNumber))) this.#core.moveCached(blockNumber, target, targetStart + blockNumber * blockSizeBytes - offsetBytes);
    }
  }

  #isCached(location: number): boolean {
    return location !== NO_LOCATION && !isZeroLocation(location) && this.#core.slabAt(location).state === 'clean';
  }

  /** Lends a range that is wholly in memory, in a few slabs; null if it is not, or too much is on loan already. */
  lend(offsetBytes: number, lengthBytes: number): ReadLoan | null {
    const { blockSizeBytes, slotsPerSlab, arena, counters } = this.#core;
    const loan = new SlabLoan(arena);
    const end = offsetBytes + lengthBytes;
    let offset = offsetBytes;
    while (offset < end) {
      const blockNumber = Math.floor(offset / blockSizeBytes);
      const location = this.#core.residentLocation(blockNumber);
      const inSlab = location !== NO_LOCATION && !isZeroLocation(location);
      const count = inSlab ? this.#runLength(location, blockNumber, end) : 0;
      const start = (location % slotsPerSlab) * blockSizeBytes + offset - blockNumber * blockSizeBytes;
      const length = Math.min(end, (blockNumber + count) * blockSizeBytes) - offset;
      if (!inSlab || !loan.add(this.#core.slabAt(location), start, length)) {
        loan.release();
        return null;
      }
      offset += length;
    }
    counters.cacheHits += Math.ceil(lengthBytes / blockSizeBytes);
    counters.readBytes += lengthBytes;
    return loan;
  }

  async read(offsetBytes: number, target: Uint8Array, extents?: ExtentList): Promise<void> {
    this.#core.counters.readBytes += target.length;
    const isPassing = this.#core.readAhead?.next(offsetBytes, target.length) ?? false;
    await this.#readAll(offsetBytes, target, target.length <= CACHE_READ_BYTES && !isPassing, extents);
  }

  /**
   * Brings a range into the cache, piece by piece: no more of it than fits. It is a hint: while enough others are carried out, it is
   * passed over, so that a client that asks for everything at once takes neither memory nor time from the others.
   */
  async cache(offsetBytes: number, lengthBytes: number): Promise<void> {
    if (this.#caching >= CACHED_AT_ONCE) return;
    const { arena, env } = this.#core;
    const length = Math.min(lengthBytes, (arena.maxSlabs - arena.maxDirtySlabs) * arena.slabBytes);
    const scratch = new Uint8Array(Math.min(length, CACHE_READ_BYTES));
    this.#caching += 1;
    try {
      for (let done = 0; done < length && !this.#core.closed; done += scratch.length) {
        await this.#readAll(offsetBytes + done, scratch.subarray(0, Math.min(scratch.length, length - done)), true);
        // Where nothing is stored nothing is waited for.
        await env.clock.yield();
      }
    } finally {
      this.#caching -= 1;
    }
  }

  async #readAll(offsetBytes: number, target: Uint8Array, fillCache: boolean, extents?: ExtentList): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      extents?.clear();
      const pieces = await this.#locate(offsetBytes, target, extents);
      try {
        await forEachLimited(pieces, PIECES_AT_ONCE, (piece) => this.#readPiece(piece, target, fillCache));
        return;
      } catch (error) {
        const moved = error instanceof VolumeError && error.code === 'not-found';
        if (!moved || attempt === ATTEMPTS) throw error;
      }
    }
  }

  /** Copies what is known at once, and says where the rest is. */
  async #locate(offsetBytes: number, target: Uint8Array, extents?: ExtentList): Promise<ChunkPiece[]> {
    const release = this.#core.map.hold();
    try {
      await this.#loadLeaves(offsetBytes, target.length);
      // A volume that was closed meanwhile has given its slabs back: what the index names may be another volume's by now.
      if (this.#core.closed) throw new VolumeError('closed', `volume ${this.#core.name} is closed`);
      const pieces: ChunkPiece[] = [];
      const complete = this.#copyKnown(offsetBytes, target.length, target, 0, pieces);
      assert(complete, 'a leaf went away while it was held');
      // Where that says nothing, since the range is too long, the reader takes it for data.
      if (extents !== undefined && !this.#walk.now(offsetBytes, target.length, extents)) extents.clear();
      return pieces;
    } finally {
      release();
    }
  }

  async #loadLeaves(offsetBytes: number, lengthBytes: number): Promise<void> {
    const { map, blockSizeBytes } = this.#core;
    const first = Math.floor(offsetBytes / blockSizeBytes);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / blockSizeBytes);
    for (const leaf of map.leavesIn(first, last - first + 1)) if (!leaf.resident) await map.load(leaf.index);
  }

  /**
   * Copies what is in memory or zero. Blocks in chunks are added to `pieces`; without `pieces`, or if a leaf is not
   * resident, the answer is false.
   */
  #copyKnown(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetStart: number, pieces: ChunkPiece[] | null): boolean {
    const { blockSizeBytes, map, counters } = this.#core;
    const end = offsetBytes + lengthBytes;
    let offset = offsetBytes;
    while (offset < end) {
      const blockNumber = Math.floor(offset / blockSizeBytes);
      const at = targetStart + offset - offsetBytes;
      const location = this.#core.residentLocation(blockNumber);
      if (location !== NO_LOCATION && !isZeroLocation(location)) {
        offset += this.#copyFromSlab(location, blockNumber, offset, end, target, at);
        continue;
      }
      const blockEnd = Math.min(end, (blockNumber + 1) * blockSizeBytes);
      const found = location === NO_LOCATION ? map.lookup(blockNumber) : LOOKUP.EMPTY;
      if (found === LOOKUP.STORED || found === LOOKUP.NOT_RESIDENT) {
        if (pieces === null || found === LOOKUP.NOT_RESIDENT) return false;
        addPiece(pieces, blockNumber, map.foundChunk, map.foundSlot, targetStart + blockNumber * blockSizeBytes - offsetBytes);
        counters.cacheMisses += 1;
        offset = blockEnd;
        continue;
      }
      const zeroEnd = location === NO_LOCATION ? this.#endOfEmpty(blockNumber, blockEnd, end) : blockEnd;
      target.fill(0, at, at + zeroEnd - offset);
      offset = zeroEnd;
    }
    return true;
  }

  /** Copies a run of blocks that lie together in one slab; returns its bytes. */
  #copyFromSlab(location: number, blockNumber: number, offset: number, end: number, target: Uint8Array, at: number): number {
    const { arena, blockSizeBytes, slotsPerSlab, counters } = this.#core;
    const slab = this.#core.slabAt(location);
    const slot = location % slotsPerSlab;
    const count = this.#runLength(location, blockNumber, end);
    const within = offset - blockNumber * blockSizeBytes;
    const length = Math.min(end - offset, count * blockSizeBytes - within);
    const start = slot * blockSizeBytes + within;
    slab.get(start, length, target, at);
    if (slab.state === 'clean') arena.touch(slab);
    counters.cacheHits += count;
    return length;
  }

  /** How many blocks from `blockNumber`, which is at `location`, up to byte `end` of the volume lie behind each other in its slab. */
  #runLength(location: number, blockNumber: number, end: number): number {
    const { resident, blockSizeBytes, slotsPerSlab } = this.#core;
    const slot = location % slotsPerSlab;
    let count = 1;
    while ((blockNumber + count) * blockSizeBytes < end && slot + count < slotsPerSlab && resident.get(blockNumber + count) === location + count) count += 1;
    return count;
  }

  /** Where a run of blocks ends for which nothing is stored or in memory: whole absent leaves are passed at once. */
  #endOfEmpty(blockNumber: number, blockEnd: number, end: number): number {
    const { map, resident, blockSizeBytes } = this.#core;
    if (resident.size > 0 || map.leaf(Math.floor(blockNumber / LEAF_BLOCKS)) !== undefined) return blockEnd;
    return Math.min(end, (Math.floor(blockNumber / LEAF_BLOCKS) + 1) * LEAF_BLOCKS * blockSizeBytes);
  }

  async #readPiece(piece: ChunkPiece, target: Uint8Array, fillCache: boolean): Promise<void> {
    const { blockSizeBytes } = this.#core;
    const length = piece.blockCount * blockSizeBytes;
    const whole = piece.targetStart >= 0 && piece.targetStart + length <= target.length;
    // A block that the request wants only part of is read aside: its checksum is over all of it.
    const bytes = whole ? target : new Uint8Array(length);
    const start = whole ? piece.targetStart : 0;
    const checksums = await this.#readFromChunk(piece.chunk, piece.slot, piece.blockCount, piece.blockNumber, bytes, start);
    if (!whole) {
      const skip = Math.max(0, -piece.targetStart);
      const to = piece.targetStart + skip;
      target.set(bytes.subarray(skip, Math.min(length, skip + target.length - to)), to);
    }
    if (fillCache) this.#fillCache(piece, bytes, start, checksums);
  }

  /** Returns the checksums that the bytes were found to have. */
  async #readFromChunk(chunk: number, slot: number, count: number, blockNumber: number, target: Uint8Array, start: number): Promise<Uint32Array> {
    if (chunk === LOST_CHUNK) throw new VolumeError('corrupt', `block ${blockNumber} of volume ${this.#core.name} was lost: no sound file has its last version; it can be read again once it is written or trimmed`, { context: { blockNumber } });
    const facts = this.#core.catalogue.get(chunk);
    if (facts === undefined) throw new VolumeError('not-found', `chunk ${chunk}, which held block ${blockNumber}, is gone`);
    return this.#core.reader.readBlocks({ number: chunk, epoch: facts.epoch }, slot, count, blockNumber, target, start);
  }

  /** Keeps what was read, block by block, unless a write or another read was faster. */
  #fillCache(piece: ChunkPiece, bytes: Uint8Array, start: number, checksums: Uint32Array): void {
    const { map, blockSizeBytes } = this.#core;
    if (this.#core.closed) return;
    for (let i = 0; i < piece.blockCount; i += 1) {
      const blockNumber = piece.blockNumber + i;
      if (this.#core.residentLocation(blockNumber) !== NO_LOCATION) continue;
      const current = map.lookup(blockNumber) === LOOKUP.STORED && map.foundChunk === piece.chunk && map.foundSlot === piece.slot + i;
      if (current) this.#core.cacheBlock(blockNumber, bytes, start + i * blockSizeBytes, checksums[i]);
    }
  }

  /** Reads a stored block that a partial write merges into; null if it is not stored (any more). */
  async readEdge(blockNumber: number): Promise<EdgeBlock | null> {
    const { map, blockSizeBytes } = this.#core;
    const index = Math.floor(blockNumber / LEAF_BLOCKS);
    while (map.leaf(index)?.resident === false) await map.load(index);
    if (map.lookup(blockNumber) !== LOOKUP.STORED) return null;
    const [chunk, slot] = [map.foundChunk, map.foundSlot];
    const bytes = new Uint8Array(blockSizeBytes);
    try {
      await this.#readFromChunk(chunk, slot, 1, blockNumber, bytes, 0);
    } catch (error) {
      if (error instanceof VolumeError && error.code === 'not-found' && !this.#stillAt(blockNumber, chunk, slot)) return null;
      throw error;
    }
    return { bytes, chunk, slot };
  }

  #stillAt(blockNumber: number, chunk: number, slot: number): boolean {
    const { map } = this.#core;
    return map.lookup(blockNumber) === LOOKUP.STORED && map.foundChunk === chunk && map.foundSlot === slot;
  }
}

/** Parts of slabs, each slab pinned once. */
class SlabLoan implements ReadLoan {
  readonly parts: Uint8Array[] = [];
  readonly #arena: Arena;
  readonly #slabs: Slab[] = [];

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  /** False if the slab cannot be pinned, or there are so many parts that copying them is cheaper. */
  add(slab: Slab, start: number, lengthBytes: number): boolean {
    if (this.parts.length === LOAN_PARTS_MAX) return false;
    if (!this.#slabs.includes(slab)) {
      if (!this.#arena.pin(slab)) return false;
      this.#slabs.push(slab);
      if (slab.state === 'clean') this.#arena.touch(slab);
    }
    this.parts.push(slab.bytes.subarray(start, start + lengthBytes));
    return true;
  }

  release(): void {
    for (const slab of this.#slabs) this.#arena.unpin(slab);
  }
}

function addPiece(pieces: ChunkPiece[], blockNumber: number, chunk: number, slot: number, targetStart: number): void {
  const last = pieces.at(-1);
  const follows = last !== undefined && last.chunk === chunk && last.blockNumber + last.blockCount === blockNumber && last.slot + last.blockCount === slot;
  // The first piece may begin outside the target: it stays alone, so that the others are read in place.
  if (follows && last.targetStart >= 0) last.blockCount += 1;
  else pieces.push({ blockNumber, blockCount: 1, chunk, slot, targetStart });
}
