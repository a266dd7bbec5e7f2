/**
 * Taking writes: bytes are copied once, into the open slab; the index points there at once; the record goes to the log.
 * Everything here happens within one turn, so a request changes the volume at once (I8), and LSN order, slab order
 * and log order are one order. A sealed slab holds an unbroken range of LSNs: it is what a chunk is made of.
 */
import { assert } from '../base/assert.ts';
import type { Slab } from '../base/arena.ts';
import { checksum } from '../base/checksum.ts';
import { VolumeError } from '../base/errors.ts';
import type { ZeroRange } from '../format/chunk-layout.ts';
import { LEAF_BLOCKS, LOOKUP } from '../index/block-map.ts';
import { NO_LOCATION, isZeroLocation, zeroLocation } from '../index/resident-map.ts';
import type { VolumeCore } from './volume-core.ts';

/** A slab with data that is in no chunk yet, and the ranges that became zero in its range of LSNs. */
export interface DirtySlab {
  /** Null once every slot was overwritten by later slabs: its memory is free, its LSNs still need a place in a chunk set. */
  slab: Slab | null;
  readonly firstLsn: number;
  lastLsn: number;
  readonly ranges: ZeroRange[];
  /** Index entries that mark blocks as zero by this slab's records. */
  marks: number;
  readonly sinceMs: number;
  /** Bytes that the log had taken when the slab was opened. */
  readonly logBytes: number;
  /** LSN of the last record that overwrote what is gone of it: all of it, or what a merged slab left behind. 0: all is there. */
  coverLsn: number;
}

/** The dirty slab that takes writes now. */
interface OpenSlab extends DirtySlab {
  readonly slab: Slab;
}

/** A slab with more zero ranges, or zero marks in the index, is sealed before the next request: they take no slots. */
const MAX_SLAB_RANGES = 4096;
const MAX_SLAB_MARKS = 65536;

/** Content of a stored block that a partial write merges into, and where the map had it when it was read. */
export interface EdgeBlock {
  readonly bytes: Uint8Array;
  readonly chunk: number;
  readonly slot: number;
}

export type EdgeBlocks = ReadonlyMap<number, EdgeBlock>;
export const NO_EDGES: EdgeBlocks = new Map();

export class WritePath {
  /** Full slabs, oldest first, waiting for their chunk. */
  readonly sealed: DirtySlab[] = [];
  readonly #core: VolumeCore;
  readonly #zeroBlock: Buffer;
  /** Present content of the blocks that the write under way covers in part, and which they are; -1: none. */
  readonly #head: Buffer;
  readonly #tail: Buffer;
  #headBlock = -1;
  #tailBlock = -1;
  /** Some sealed slab may have no current slot left. */
  #someSuperseded = false;
  #open: OpenSlab | null = null;
  /** LSN of the newest record that is in a slab. */
  #lastLsn: number;

  constructor(core: VolumeCore, lastLsn: number) {
    this.#core = core;
    this.#lastLsn = lastLsn;
    this.#zeroBlock = Buffer.alloc(core.blockSizeBytes);
    this.#head = Buffer.alloc(core.blockSizeBytes);
    this.#tail = Buffer.alloc(core.blockSizeBytes);
  }

  get lastLsn(): number {
    return this.#lastLsn;
  }

  get open(): DirtySlab | null {
    return this.#open;
  }

  /** Whether a request that takes up to `blockCount` slots can be applied now; 0: one that only makes zeroes. */
  hasRoom(blockCount: number): boolean {
    const { arena, chunkBlocks } = this.#core;
    const room = arena.dirtyRoom(this.#core);
    if (this.#open === null || this.#isOverfull(this.#open)) return room > 0 && blockCount <= room * chunkBlocks;
    return blockCount <= Math.max(0, chunkBlocks - this.#open.slab.slotCount) + room * chunkBlocks;
  }

  /** Throws `limit` when a request can never find room: volumes that failed keep what they hold of the memory, for their readers. */
  checkMemory(blockCount: number): void {
    const { arena, chunkBlocks } = this.#core;
    if (arena.dirtyLimit > 0 && blockCount <= arena.dirtyLimit * chunkBlocks) return;
    throw new VolumeError('limit', `volumes that failed hold the block memory (${arena.maxSlabs} slabs of ${arena.slabBytes} bytes); close them, or restart the server`);
  }

  #isOverfull(open: DirtySlab): boolean {
    return open.ranges.length >= MAX_SLAB_RANGES || open.marks >= MAX_SLAB_MARKS;
  }

  /** Ends the open slab: it waits for its chunk. One without a record goes back to the arena. */
  seal(): void {
    const open = this.#open;
    if (open === null) return;
    this.#open = null;
    if (open.lastLsn < open.firstLsn) {
      this.#core.arena.free(open.slab);
      return;
    }
    this.sealed.push(open);
  }

  /** The open slab, with a free slot. */
  #openSlab(): OpenSlab {
    if (this.#open !== null && this.#open.slab.slotCount >= this.#core.chunkBlocks) this.seal();
    return this.#openForRange();
  }

  /** The open slab, with or without a free slot: ranges need none. */
  #openForRange(): OpenSlab {
    if (this.#open !== null) return this.#open;
    const slab = this.#core.arena.takeDirty(this.#core);
    this.#open = {
      slab,
      firstLsn: this.#lastLsn + 1,
      lastLsn: this.#lastLsn,
      ranges: [],
      marks: 0,
      sinceMs: this.#core.env.clock.nowMs(),
      logBytes: this.#core.logIfOpen?.appendedBytes ?? 0,
      coverLsn: 0,
    };
    return this.#open;
  }

  /** To be called before a request is applied. */
  #beginRequest(): void {
    if (this.#open !== null && this.#isOverfull(this.#open)) this.seal();
  }

  /**
   * Looks whether a write can be applied without reading, and takes what is needed for it: the present content of the blocks
   * that it covers only in part. That content is in memory, known to be zero, or given in `edges` just as the map has it.
   * False if some of it must be read first. `write` for the same range must follow in the same turn.
   */
  prepareWrite(offsetBytes: number, lengthBytes: number, edges: EdgeBlocks): boolean {
    const { blockSizeBytes } = this.#core;
    const end = offsetBytes + lengthBytes;
    const first = Math.floor(offsetBytes / blockSizeBytes);
    const last = Math.floor((end - 1) / blockSizeBytes);
    this.#headBlock = -1;
    this.#tailBlock = -1;
    // Taken now, not when it is merged: making room for the data may push a cached block out.
    if (offsetBytes % blockSizeBytes !== 0 || (first === last && end % blockSizeBytes !== 0)) {
      if (!this.#copyCurrent(first, this.#head, edges)) return false;
      this.#headBlock = first;
    }
    if (last !== first && end % blockSizeBytes !== 0) {
      if (!this.#copyCurrent(last, this.#tail, edges)) return false;
      this.#tailBlock = last;
    }
    return true;
  }

  #copyCurrent(blockNumber: number, target: Buffer, edges: EdgeBlocks): boolean {
    const { map, blockSizeBytes, slotsPerSlab } = this.#core;
    const location = this.#core.residentLocation(blockNumber);
    if (location !== NO_LOCATION && !isZeroLocation(location)) {
      const start = (location % slotsPerSlab) * blockSizeBytes;
      this.#core.slabAt(location).get(start, blockSizeBytes, target, 0);
      return true;
    }
    const found = location === NO_LOCATION ? map.lookup(blockNumber) : LOOKUP.EMPTY;
    if (found === LOOKUP.NOT_RESIDENT) return false;
    if (found !== LOOKUP.STORED) {
      target.fill(0);
      return true;
    }
    const edge = edges.get(blockNumber);
    if (edge === undefined || edge.chunk !== map.foundChunk || edge.slot !== map.foundSlot) return false;
    target.set(edge.bytes);
    return true;
  }

  /** Applies a write; `hasRoom` and `prepareWrite` said yes. Returns the LSN of its last record, 0 if it changed nothing. */
  write(offsetBytes: number, lengthBytes: number, source: Uint8Array, sourceStart: number): number {
    const { blockSizeBytes } = this.#core;
    this.#beginRequest();
    let lastLsn = 0;
    let done = 0;
    while (done < lengthBytes) {
      const offset = offsetBytes + done;
      const blockNumber = Math.floor(offset / blockSizeBytes);
      const within = offset - blockNumber * blockSizeBytes;
      const left = lengthBytes - done;
      let lsn: number;
      let taken: number;
      if (within === 0 && left >= blockSizeBytes) {
        const count = Math.floor(left / blockSizeBytes);
        taken = count * blockSizeBytes;
        lsn = this.#writeBlocks(blockNumber, count, source, sourceStart + done);
      } else {
        taken = Math.min(blockSizeBytes - within, left);
        lsn = this.#mergeBlock(blockNumber, within, source.subarray(sourceStart + done, sourceStart + done + taken));
      }
      lastLsn = Math.max(lastLsn, lsn);
      done += taken;
    }
    return lastLsn;
  }

  /** Makes bytes read as zeroes; `hasRoom` and `prepareWrite` said yes. Returns as `write` does. */
  zeroBytes(offsetBytes: number, lengthBytes: number, provisioned: boolean): number {
    const { blockSizeBytes } = this.#core;
    this.#beginRequest();
    let lastLsn = 0;
    let done = 0;
    while (done < lengthBytes) {
      const offset = offsetBytes + done;
      const blockNumber = Math.floor(offset / blockSizeBytes);
      const within = offset - blockNumber * blockSizeBytes;
      const left = lengthBytes - done;
      const count = within === 0 ? Math.floor(left / blockSizeBytes) : 0;
      const taken = count > 0 ? count * blockSizeBytes : Math.min(blockSizeBytes - within, left);
      const lsn = count > 0 ? this.#zero(blockNumber, count, provisioned) : this.#mergeBlock(blockNumber, within, this.#zeroBlock.subarray(0, taken));
      lastLsn = Math.max(lastLsn, lsn);
      done += taken;
    }
    return lastLsn;
  }

  /** Whole blocks: runs of data and runs of zeroes, told apart. */
  #writeBlocks(blockNumber: number, blockCount: number, source: Uint8Array, sourceStart: number): number {
    const { blockSizeBytes } = this.#core;
    let lastLsn = 0;
    let at = 0;
    while (at < blockCount) {
      const zero = this.#isZero(source, sourceStart + at * blockSizeBytes);
      let end = at + 1;
      while (end < blockCount && this.#isZero(source, sourceStart + end * blockSizeBytes) === zero) end += 1;
      const lsn = zero
        ? this.#zero(blockNumber + at, end - at, false)
        : this.#writeData(blockNumber + at, end - at, source, sourceStart + at * blockSizeBytes);
      lastLsn = Math.max(lastLsn, lsn);
      at = end;
    }
    return lastLsn;
  }

  #isZero(source: Uint8Array, start: number): boolean {
    // Most data shows itself in its first or last byte; only what passes is compared as a whole.
    const end = start + this.#core.blockSizeBytes;
    if (source[start] !== 0 || source[end - 1] !== 0) return false;
    return this.#zeroBlock.compare(source, start, end) === 0;
  }

  #writeData(blockNumber: number, blockCount: number, source: Uint8Array, sourceStart: number): number {
    const { blockSizeBytes, chunkBlocks } = this.#core;
    const { maxRecordBlocks } = this.#core.log;
    let lsn = 0;
    let done = 0;
    while (done < blockCount) {
      const { slab } = this.#openSlab();
      const count = Math.min(blockCount - done, chunkBlocks - slab.slotCount, maxRecordBlocks);
      const start = sourceStart + done * blockSizeBytes;
      slab.put(source.subarray(start, start + count * blockSizeBytes), slab.slotCount * blockSizeBytes);
      lsn = this.#takeSlots(blockNumber + done, count);
      done += count;
    }
    return lsn;
  }

  /** A block of which only part is written: the rest stays as `prepareWrite` found it. */
  #mergeBlock(blockNumber: number, within: number, part: Uint8Array): number {
    assert(blockNumber === this.#headBlock || blockNumber === this.#tailBlock, 'a block is merged unprepared');
    const merged = blockNumber === this.#headBlock ? this.#head : this.#tail;
    merged.set(part, within);
    if (this.#isZero(merged, 0)) return this.#zero(blockNumber, 1, false);
    return this.#writeData(blockNumber, 1, merged, 0);
  }

  /** Takes the next `count` slots of the open slab, whose bytes are in place, for consecutive blocks: index and log. */
  #takeSlots(blockNumber: number, count: number): number {
    const { log, blockSizeBytes, observer } = this.#core;
    const open = this.#openSlab();
    const { slab } = open;
    const first = slab.slotCount;
    for (let i = 0; i < count; i += 1) {
      slab.checksums[first + i] = checksum(slab.block(first + i, blockSizeBytes));
    }
    const payload = slab.bytes.subarray(first * blockSizeBytes, (first + count) * blockSizeBytes);
    const lsn = log.appendWrite(blockNumber, count, payload, slab.checksums, first);
    this.#indexSlots(open, blockNumber, count, lsn);
    observer?.accepted({ kind: 'write', lsn, blockNumber, blockCount: count });
    return lsn;
  }

  #indexSlots(open: OpenSlab, blockNumber: number, count: number, lsn: number): void {
    const { resident } = this.#core;
    const { slab } = open;
    const first = slab.slotCount;
    slab.slotCount += count;
    slab.liveCount += count;
    slab.currentCount += count;
    for (let i = 0; i < count; i += 1) {
      slab.blockNumbers[first + i] = blockNumber + i;
      slab.lsns[first + i] = lsn;
      slab.live[first + i] = 1;
      this.#superseded(slab, resident.set(blockNumber + i, this.#core.locationOf(slab, first + i)), lsn);
    }
    open.lastLsn = lsn;
    this.#lastLsn = lsn;
  }

  /** A location that the index named until record `lsn`: if it is in the open slab, its slot needs no place in the chunk. */
  #superseded(open: Slab, location: number, lsn: number): void {
    if (location === NO_LOCATION || isZeroLocation(location)) return;
    const slab = this.#core.slabAt(location);
    slab.currentCount -= 1;
    if (slab.state !== 'dirty') return;
    slab.coverLsn = lsn;
    if (slab !== open) {
      if (slab.currentCount === 0) this.#someSuperseded = true;
      return;
    }
    slab.live[location % this.#core.slotsPerSlab] = 0;
    slab.liveCount -= 1;
  }

  /**
   * Frees the memory of sealed slabs that later slabs have overwritten whole. To be called between turns: what the log
   * has not written yet may still be needed there (in recovery it has all of it).
   */
  releaseSuperseded(): void {
    if (!this.#someSuperseded) return;
    this.#someSuperseded = false;
    for (const dirty of this.sealed) {
      const { slab } = dirty;
      if (slab === null || slab.currentCount > 0 || dirty.ranges.length > 0) continue;
      if (dirty.lastLsn > (this.#core.logIfOpen?.writtenLsn ?? Number.POSITIVE_INFINITY)) {
        this.#someSuperseded = true;
        continue;
      }
      dirty.coverLsn = Math.max(dirty.coverLsn, slab.coverLsn);
      dirty.slab = null;
      this.#core.arena.free(slab);
    }
  }

  /** Whether some block of a range is, or may be, other than empty. */
  hasContent(blockNumber: number, blockCount: number): boolean {
    const { map, resident, zeroLeaves } = this.#core;
    if (map.leavesIn(blockNumber, blockCount).some((leaf) => !leaf.resident || leaf.mapped > 0)) {
      // A short range is looked at block by block: its leaf may have content elsewhere only.
      if (blockCount > LEAF_BLOCKS) return true;
      for (let i = 0; i < blockCount; i += 1) if (map.lookup(blockNumber + i) !== LOOKUP.EMPTY) return true;
    }
    if (resident.mayHaveEntries(blockNumber, blockNumber + blockCount)) return true;
    return markedLeaves(zeroLeaves, Math.floor(blockNumber / LEAF_BLOCKS), Math.ceil((blockNumber + blockCount) / LEAF_BLOCKS)).length > 0;
  }

  /**
   * Makes blocks read as zeroes. Returns the LSN of the record, 0 if they were empty already and nothing was recorded.
   */
  zero(blockNumber: number, blockCount: number, provisioned: boolean): number {
    this.#beginRequest();
    return this.#zero(blockNumber, blockCount, provisioned);
  }

  #zero(blockNumber: number, blockCount: number, provisioned: boolean): number {
    const { log, observer } = this.#core;
    if (!provisioned && !this.hasContent(blockNumber, blockCount)) return 0;
    const open = this.#openForRange();
    const lsn = log.appendZero(blockNumber, blockCount, provisioned);
    this.#indexZero(open, { blockNumber, blockCount, provisioned }, lsn);
    observer?.accepted({ kind: 'zero', lsn, blockNumber, blockCount });
    return lsn;
  }

  #indexZero(open: OpenSlab, range: ZeroRange, lsn: number): void {
    open.ranges.push(range);
    open.lastLsn = lsn;
    this.#lastLsn = lsn;
    const { blockNumber, blockCount } = range;
    const mark = zeroLocation(open.slab.index, range.provisioned);
    const end = blockNumber + blockCount;
    const firstWhole = Math.ceil(blockNumber / LEAF_BLOCKS);
    const endWhole = Math.floor(end / LEAF_BLOCKS);
    if (firstWhole >= endWhole) {
      this.#markBlocks(open, blockNumber, end, mark, range.provisioned);
      return;
    }
    this.#markBlocks(open, blockNumber, firstWhole * LEAF_BLOCKS, mark, range.provisioned);
    this.#markLeaves(open, firstWhole, endWhole, mark, range.provisioned);
    this.#markBlocks(open, endWhole * LEAF_BLOCKS, end, mark, range.provisioned);
  }

  #markBlocks(open: OpenSlab, first: number, end: number, mark: number, provisioned: boolean): void {
    const { resident, map } = this.#core;
    for (let blockNumber = first; blockNumber < end; blockNumber += 1) {
      const known = this.#core.residentLocation(blockNumber) !== NO_LOCATION;
      // Nothing shows through an unmarked block that is empty anyway.
      if (!known && !provisioned && map.lookup(blockNumber) === LOOKUP.EMPTY) continue;
      this.#superseded(open.slab, resident.set(blockNumber, mark), open.lastLsn);
      open.marks += 1;
    }
  }

  /** Whole leaves: entries of their blocks go; a mark stays only where something could show through. */
  #markLeaves(open: OpenSlab, firstLeaf: number, endLeaf: number, mark: number, provisioned: boolean): void {
    const { resident, map, zeroLeaves } = this.#core;
    const first = firstLeaf * LEAF_BLOCKS;
    const count = (endLeaf - firstLeaf) * LEAF_BLOCKS;
    const marked = new Set<number>();
    for (const blockNumber of resident.keysBetween(first, first + count)) {
      this.#superseded(open.slab, resident.delete(blockNumber), open.lastLsn);
      marked.add(Math.floor(blockNumber / LEAF_BLOCKS));
    }
    for (const leaf of map.leavesIn(first, count)) marked.add(leaf.index);
    for (const leaf of markedLeaves(zeroLeaves, firstLeaf, endLeaf)) marked.add(leaf);
    if (provisioned) for (let leaf = firstLeaf; leaf < endLeaf; leaf += 1) marked.add(leaf);
    for (const leaf of marked) zeroLeaves.set(leaf, mark);
    open.marks += marked.size;
  }

  /**
   * Puts a record of the log back where it was before the crash; it keeps its LSN. Room was checked for its slots, or for a full slab: records of older logs may have all the blocks
   * that a slab has memory for, which is more than a full chunk has. Such a one gets a slab for itself, and its set one chunk more.
   */
  replayWrite(lsn: number, blockNumber: number, blockCount: number, payload: Uint8Array, checksumOf: (index: number) => number): void {
    assert(lsn === this.#lastLsn + 1, `record ${lsn} is replayed behind ${this.#lastLsn}`);
    let open = this.#openSlab();
    // A record stays whole in one slab, so that each chunk ends with a whole record.
    if (open.slab.slotCount > 0 && this.#core.chunkBlocks - open.slab.slotCount < blockCount) {
      this.seal();
      open = this.#openSlab();
    }
    const { slab } = open;
    assert(slab.slotCount + blockCount <= this.#core.slotsPerSlab, `record ${lsn} of ${blockCount} blocks is longer than a slab`);
    slab.put(payload, slab.slotCount * this.#core.blockSizeBytes);
    for (let i = 0; i < blockCount; i += 1) slab.checksums[slab.slotCount + i] = checksumOf(i);
    this.#indexSlots(open, blockNumber, blockCount, lsn);
  }

  replayZero(lsn: number, range: ZeroRange): void {
    assert(lsn === this.#lastLsn + 1, `record ${lsn} is replayed behind ${this.#lastLsn}`);
    this.#beginRequest();
    this.#indexZero(this.#openForRange(), range, lsn);
  }
}

/** Leaves of a range that have a zero mark; by whichever is less, the range or the marks. */
export function markedLeaves(zeroLeaves: ReadonlyMap<number, number>, firstLeaf: number, endLeaf: number): number[] {
  const found: number[] = [];
  if (endLeaf - firstLeaf < zeroLeaves.size) {
    for (let leaf = firstLeaf; leaf < endLeaf; leaf += 1) if (zeroLeaves.has(leaf)) found.push(leaf);
  } else {
    for (const leaf of zeroLeaves.keys()) if (leaf >= firstLeaf && leaf < endLeaf) found.push(leaf);
  }
  return found;
}
