/**
 * Reading blocks of stored chunks. A chunk's object and block table stay open and in memory, within limits, least recently
 * used first out. Every block is checked against its CRC before it is handed on (I3).
 */
import { checksum, formatChecksum } from '../base/checksum.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import { CHUNK_FOOTER_BYTES, CHUNK_HEADER_BYTES, HEADER_CRC_OFFSET, type ChunkFooter, type ChunkFrame, type ChunkIdentity, type ChunkTables, decodeChunkFooter, decodeChunkHeader, decodeChunkTables } from '../format/chunk-layout.ts';
import { type ObjectStore, type StoredObject, readAgainInDoubt } from '../store/object-store.ts';
import { FrameReader } from './frame-reader.ts';
import { type StoredExtent, extentOf, readSlots, unpackFrame } from './stored-blocks.ts';

export const CHUNK_FOLDER = 'chunks';
const TABLE_BYTES_PER_BLOCK = 16;
const FRAME_NUMBER_BYTES = 2;
/** Of an object with five numbers, roughly. */
const FRAME_BYTES = 64;

/** Key of a chunk: its epoch is part of it, so that two writers never want one key. */
export function chunkKey(epoch: number, chunk: number): string {
  return `${CHUNK_FOLDER}/${chunkName(epoch, chunk)}`;
}

export function chunkName(epoch: number, chunk: number): string {
  return `c${String(chunk).padStart(10, '0')}-e${String(epoch).padStart(6, '0')}`;
}

/** Number and epoch of a chunk's name, or null if it is not one. */
export function parseChunkName(name: string): { readonly chunk: number; readonly epoch: number } | null {
  const match = /^c(\d{10,})-e(\d{6,})$/.exec(name);
  return match === null ? null : { chunk: Number(match[1]), epoch: Number(match[2]) };
}

/** Number of the chunk that a key is of, or null if it is not one's. */
export function chunkNumberIn(key: string): number | null {
  return key.startsWith(`${CHUNK_FOLDER}/`) ? (parseChunkName(key.slice(CHUNK_FOLDER.length + 1))?.chunk ?? null) : null;
}

export interface ChunkReaderOptions {
  readonly store: Pick<ObjectStore, 'open'>;
  readonly volumeId: Uint8Array;
  readonly blockSizeBytes: number;
  readonly volumeBlocks: number;
  readonly maxOpen: number;
  readonly maxTableBytes: number;
  /** Limit of the unpacked frames that are kept for small reads in sequence. */
  readonly maxFrameBytes: number;
}

/** Blocks read in one piece though others stand between them, and the longest such piece. */
const GAP_BYTES = 32 * 1024;
const SPAN_BYTES = 256 * 1024;

/** Bytes that were read at once, for `slots[first]` to `slots[end - 1]`. */
interface ReadSpan {
  readonly slots: readonly number[];
  readonly extents: readonly StoredExtent[];
  readonly first: number;
  readonly end: number;
  readonly span: Uint8Array;
}

interface OpenChunk {
  readonly object: StoredObject;
  readonly tables: ChunkTables;
  users: number;
  evicted: boolean;
}

/** The header of a chunk object, checked. */
export async function readChunkIdentity(object: StoredObject, expected: Pick<ChunkReaderOptions, 'volumeId' | 'blockSizeBytes'>, chunk: number, name: string): Promise<ChunkIdentity> {
  return decodeChunkHeader(await readHeader(object, name), { ...expected, chunkNumber: chunk }, name);
}

async function readHeader(object: StoredObject, name: string): Promise<Uint8Array> {
  if (object.sizeBytes < CHUNK_HEADER_BYTES + CHUNK_FOOTER_BYTES) throw new VolumeError('corrupt', `${name}: ${object.sizeBytes} bytes long, too short for a chunk`);
  const header = new Uint8Array(CHUNK_HEADER_BYTES);
  await object.read(header, 0);
  return header;
}

/** Header, footer and tables of a chunk object, all checked. */
export async function readChunkTables(
  object: StoredObject,
  options: Pick<ChunkReaderOptions, 'volumeId' | 'blockSizeBytes' | 'volumeBlocks'>,
  chunk: number,
  name: string,
): Promise<{ readonly identity: ChunkIdentity; readonly footer: ChunkFooter; readonly tables: ChunkTables }> {
  const { sizeBytes } = object;
  const header = await readHeader(object, name);
  const identity = decodeChunkHeader(header, { volumeId: options.volumeId, blockSizeBytes: options.blockSizeBytes, chunkNumber: chunk }, name);
  const tail = new Uint8Array(CHUNK_FOOTER_BYTES);
  await object.read(tail, sizeBytes - CHUNK_FOOTER_BYTES);
  const footer = decodeChunkFooter(tail, sizeBytes, chunk, name);
  if (footer.headerChecksum !== checksum(header.subarray(0, HEADER_CRC_OFFSET))) throw new VolumeError('corrupt', `${name}: header and footer are not of one object`);
  const bytes = new Uint8Array(footer.tablesLength);
  await object.read(bytes, footer.tablesOffset);
  return { identity, footer, tables: decodeChunkTables(bytes, footer, options.blockSizeBytes, options.volumeBlocks, name) };
}

/** Memory that a chunk's tables take. */
function tableMemory({ blockNumbers, packed }: ChunkTables): number {
  const forFrames = packed === null ? 0 : packed.frameOf.length * FRAME_NUMBER_BYTES + packed.frames.length * FRAME_BYTES;
  return blockNumbers.length * TABLE_BYTES_PER_BLOCK + forFrames;
}

/** Where a piece ends that is read at once: it begins with `extents[first]`, and has others near behind it, or in the same frame. */
function spanEnd(extents: readonly StoredExtent[], first: number, mostBytes: number): number {
  const start = extents[first].offset;
  let end = first + 1;
  for (; end < extents.length; end += 1) {
    const { offset, bytes, frame } = extents[end];
    const last = extents[end - 1];
    const gap = offset - last.offset - last.bytes;
    const isNear = (frame !== null && frame === last.frame) || (gap >= 0 && gap <= GAP_BYTES);
    if (!isNear || offset + bytes - start > mostBytes) break;
  }
  return end;
}

/** Throws `corrupt`, naming block, chunk and byte, unless the bytes have the checksum of a slot's block (I3). */
function checkBlock(key: string, tables: ChunkTables, slot: number, bytes: Uint8Array): void {
  const computed = checksum(bytes);
  const expected = tables.checksums[slot];
  if (computed === expected) return;
  const blockNumber = tables.blockNumbers[slot];
  const offsetBytes = extentOf(tables, slot, bytes.length).offset;
  throw new VolumeError('corrupt', `${key}: block ${blockNumber}: checksum ${formatChecksum(computed)}, expected ${formatChecksum(expected)}, at byte ${offsetBytes}`, {
    context: { chunk: key, blockNumber, offsetBytes },
  });
}

export class ChunkReader {
  /** What tables are checked against: larger when the volume grows. */
  volumeBlocks: number;
  readonly #options: ChunkReaderOptions;
  /** Oldest use first. */
  readonly #open = new Map<number, OpenChunk>();
  readonly #opening = new Map<number, Promise<OpenChunk>>();
  readonly #frames: FrameReader;
  #tableBytes = 0;
  #closed = false;

  constructor(options: ChunkReaderOptions) {
    this.#options = options;
    this.#frames = new FrameReader(options.maxFrameBytes);
    this.volumeBlocks = options.volumeBlocks;
  }

  /**
   * Reads `count` blocks from consecutive slots of a chunk into `target` at `targetStart`; they must be the blocks from
   * `blockNumber` on. Returns their checksums, borrowed for the turn. Errors: `not-found` if the chunk is gone, `corrupt` naming block, chunk and byte, `io-error`.
   */
  async readBlocks(chunk: { readonly number: number; readonly epoch: number }, slot: number, count: number, blockNumber: number, target: Uint8Array, targetStart: number): Promise<Uint32Array> {
    const open = await this.#acquire(chunk.number, chunk.epoch);
    try {
      await readAgainInDoubt(open.object, () => this.#readSlots(open, chunkKey(chunk.epoch, chunk.number), { slot, count, blockNumber }, target, targetStart));
      return open.tables.checksums.subarray(slot, slot + count);
    } catch (error) {
      throw toVolumeError(error, `reading ${chunkKey(chunk.epoch, chunk.number)}`);
    } finally {
      await this.#release(open);
    }
  }

  /** The tables of a chunk; they never change. Errors as for `readBlocks`. */
  async tables(chunk: { readonly number: number; readonly epoch: number }): Promise<ChunkTables> {
    const open = await this.#acquire(chunk.number, chunk.epoch);
    await this.#release(open);
    return open.tables;
  }

  /**
   * Reads the blocks of ascending `slots`, neighbours together, and hands each one over when its checksum was found right:
   * the index in `slots`, and bytes that are borrowed for the call. One may be handed over twice, the same. Errors as for `readBlocks`.
   */
  async readScattered(chunk: { readonly number: number; readonly epoch: number }, slots: readonly number[], take: (index: number, bytes: Uint8Array) => void): Promise<void> {
    const { blockSizeBytes } = this.#options;
    const key = chunkKey(chunk.epoch, chunk.number);
    const open = await this.#acquire(chunk.number, chunk.epoch);
    try {
      const extents = slots.map((slot) => extentOf(open.tables, slot, blockSizeBytes));
      const scratch = new Uint8Array(Math.max(SPAN_BYTES, blockSizeBytes));
      for (let first = 0, end = 0; first < slots.length; first = end) {
        end = spanEnd(extents, first, scratch.length);
        const start = extents[first].offset;
        const span = scratch.subarray(0, extents[end - 1].offset + extents[end - 1].bytes - start);
        await readAgainInDoubt(open.object, async () => {
          await open.object.read(span, start);
          this.#takeSpan(open.tables, key, { slots, extents, first, end, span }, take);
        });
      }
    } catch (error) {
      throw toVolumeError(error, `reading ${key}`);
    } finally {
      await this.#release(open);
    }
  }

  /** Hands over what of `slots` is in a span that was read. */
  #takeSpan(tables: ChunkTables, key: string, read: ReadSpan, take: (index: number, bytes: Uint8Array) => void): void {
    const { slots, extents, first, end, span } = read;
    const { blockSizeBytes } = this.#options;
    const start = extents[first].offset;
    let unpacked: ChunkFrame | null = null;
    let plain: Uint8Array = span;
    for (let i = first; i < end; i += 1) {
      const { offset, bytes, frame } = extents[i];
      const stored = span.subarray(offset - start, offset - start + bytes);
      const slot = slots[i];
      if (frame !== null && frame !== unpacked) {
        let endBytes = 0;
        for (let next = i; next < end && extents[next].frame === frame; next += 1) endBytes = Math.max(endBytes, tables.offsets[slots[next]] + blockSizeBytes);
        plain = unpackFrame(frame, stored, { key, blockNumber: tables.blockNumbers[slot], endBytes });
        unpacked = frame;
      }
      const block = frame === null ? stored : plain.subarray(tables.offsets[slot], tables.offsets[slot] + blockSizeBytes);
      checkBlock(key, tables, slot, block);
      take(i, block);
    }
  }

  async #readSlots(open: OpenChunk, key: string, range: { slot: number; count: number; blockNumber: number }, target: Uint8Array, targetStart: number): Promise<void> {
    const { blockSizeBytes } = this.#options;
    const { tables } = open;
    const { slot, count, blockNumber } = range;
    for (let i = 0; i < count; i += 1) {
      if (tables.blockNumbers[slot + i] === blockNumber + i) continue;
      throw new VolumeError('corrupt', `${key}: slot ${slot + i} holds block ${tables.blockNumbers[slot + i] ?? 'none'}, expected block ${blockNumber + i}`);
    }
    const bytes = target.subarray(targetStart, targetStart + count * blockSizeBytes);
    await readSlots({ object: open.object, tables, blockSizeBytes, key, frames: this.#frames }, slot, bytes);
    for (let i = 0; i < count; i += 1) {
      checkBlock(key, tables, slot + i, bytes.subarray(i * blockSizeBytes, (i + 1) * blockSizeBytes));
    }
  }

  async #release(open: OpenChunk): Promise<void> {
    open.users -= 1;
    if (open.evicted && open.users === 0) await this.#closeQuietly(open.object);
  }

  async #acquire(chunk: number, epoch: number): Promise<OpenChunk> {
    if (this.#closed) throw new VolumeError('closed', `chunk ${chunk} is not read any more: its volume is closed`);
    const known = this.#open.get(chunk);
    if (known !== undefined) {
      this.#open.delete(chunk);
      this.#open.set(chunk, known);
      known.users += 1;
      return known;
    }
    const opened = await (this.#opening.get(chunk) ?? this.#startOpening(chunk, epoch));
    // Between its opening and this line another chunk may have pushed it out again.
    if (opened.evicted) return this.#acquire(chunk, epoch);
    opened.users += 1;
    return opened;
  }

  #startOpening(chunk: number, epoch: number): Promise<OpenChunk> {
    const opening = this.#openChunk(chunk, epoch).finally(() => this.#opening.delete(chunk));
    this.#opening.set(chunk, opening);
    return opening;
  }

  async #openChunk(chunk: number, epoch: number): Promise<OpenChunk> {
    const key = chunkKey(epoch, chunk);
    const object = await this.#options.store.open(key);
    try {
      const { tables } = await readAgainInDoubt(object, () => readChunkTables(object, { ...this.#options, volumeBlocks: this.volumeBlocks }, chunk, key));
      const open: OpenChunk = { object, tables, users: 0, evicted: false };
      this.#open.set(chunk, open);
      this.#tableBytes += tableMemory(tables);
      this.#evict(chunk);
      return open;
    } catch (error) {
      await this.#closeQuietly(object);
      throw toVolumeError(error, `opening ${key}`);
    }
  }

  #evict(keep: number): void {
    for (const chunk of this.#open.keys()) {
      if (this.#open.size <= this.#options.maxOpen && this.#tableBytes <= this.#options.maxTableBytes) return;
      if (chunk !== keep) void this.forget(chunk);
    }
  }

  /** Closes a chunk that will not be read any more; if reads are under way, the last of them does it later. */
  async forget(chunk: number): Promise<void> {
    const open = this.#open.get(chunk);
    if (open === undefined) return;
    this.#open.delete(chunk);
    this.#tableBytes -= tableMemory(open.tables);
    open.evicted = true;
    if (open.users === 0) await this.#closeQuietly(open.object);
  }

  /** A descriptor that was only read from has nothing to lose when its close fails. */
  async #closeQuietly(object: StoredObject): Promise<void> {
    await object.close().catch(() => undefined);
  }

  /** Reads under way end; what they would open from now on is refused with `closed`. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#opening.values());
    for (const chunk of this.#open.keys()) void this.forget(chunk);
  }
}
