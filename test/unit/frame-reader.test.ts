import { describe, expect, test } from 'vitest';
import { checksum } from '../../src/base/checksum.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { type BuiltChunk, buildChunk } from '../../src/chunk/build-chunk.ts';
import { ChunkReader } from '../../src/chunk/chunk-reader.ts';
import { NO_VAIN_TRIES } from '../../src/chunk/frame-judge.ts';
import { PACKED_FRAME_BYTES } from '../../src/chunk/pack-blocks.ts';
import { CHUNK_HEADER_BYTES, type ChunkIdentity } from '../../src/format/chunk-layout.ts';
import type { StoredObject } from '../../src/store/object-store.ts';
import { text } from '../support/text.ts';

const BLOCK_BYTES = 4 * KIB;
const PER_FRAME = PACKED_FRAME_BYTES / BLOCK_BYTES;
const FRAMES = 6;
const BLOCKS = FRAMES * PER_FRAME;
const CHUNK = { number: 1, epoch: 1 };
const identity = { volumeId: new Uint8Array(16), blockSizeBytes: BLOCK_BYTES, epoch: 1, chunkNumber: 1, firstLsn: 1, lastLsn: 6, previousChunk: 0, part: 1, parts: 1 };
const blocks = Array.from({ length: BLOCKS }, (_, index) => Buffer.alloc(BLOCK_BYTES, `block ${index} of them, `));

function build(chunk: ChunkIdentity, contents: readonly Buffer[]): BuiltChunk {
  const memory = new Uint8Array(new SharedArrayBuffer(BLOCKS * BLOCK_BYTES));
  contents.forEach((block, index) => memory.set(block, index * BLOCK_BYTES));
  const source = { blockNumbers: Float64Array.from(contents.keys()), checksums: Uint32Array.from(contents, (block) => checksum(block)), bytes: memory };
  return buildChunk({ identity: chunk, sources: [source], picks: Uint32Array.from(contents.keys()), ranges: [], compress: true, vainTries: NO_VAIN_TRIES });
}

/** Chunk 2: newer versions of the same blocks, in the same frames and places. */
const newer = blocks.map((_, index) => Buffer.alloc(BLOCK_BYTES, `newer ${index} of them, `));
class OtherChunk implements StoredObject {
  readonly #bytes: Buffer;

  constructor() {
    const { header, packed, tail } = build({ ...identity, chunkNumber: 2, firstLsn: 7, lastLsn: 12, previousChunk: 1 }, newer);
    this.#bytes = Buffer.concat([header, packed ?? new Uint8Array(0), tail]);
  }

  get sizeBytes(): number {
    return this.#bytes.length;
  }

  read(target: Uint8Array, offsetBytes: number): Promise<void> {
    target.set(this.#bytes.subarray(offsetBytes, offsetBytes + target.length));
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A chunk of six compressed frames that counts the reads of its frames; these take some turns. */
class FramedChunk {
  readonly bytes: Buffer;
  readonly reader: ChunkReader;
  reads = 0;
  /** Chunks of this number and later ones are not there. */
  chunkEnd = 3;
  /** Memory that frames were read into, and that of reads under way. */
  readonly buffers = new Set<ArrayBufferLike>();
  readonly #busy = new Set<ArrayBufferLike>();
  /** Reads of frames from now on fail, and go on writing when nobody waits for them any more. */
  isFailing = false;
  overrun: Promise<unknown> = Promise.resolve();

  constructor(maxFrameBytes: number) {
    const { header, packed, tail } = build(identity, blocks);
    this.bytes = Buffer.concat([header, packed ?? new Uint8Array(0), tail]);
    const end = header.length + (packed?.length ?? 0);
    const object: StoredObject = {
      sizeBytes: this.bytes.length,
      read: async (target, offsetBytes) => {
        const isOfFrames = offsetBytes >= CHUNK_HEADER_BYTES && offsetBytes < end;
        if (isOfFrames) this.#begin(target);
        await new Promise(setImmediate);
        target.set(this.bytes.subarray(offsetBytes, offsetBytes + target.length));
        this.#busy.delete(target.buffer);
      },
      close: () => Promise.resolve(),
    };
    const second = new OtherChunk();
    const open = (key: string): Promise<StoredObject> => {
      const number = Number(key.slice('chunks/c'.length, 'chunks/c'.length + 10));
      if (number >= this.chunkEnd) return Promise.reject(new VolumeError('not-found', `no ${key}`));
      return Promise.resolve(number === 1 ? object : second);
    };
    const store = { open };
    this.reader = new ChunkReader({ store, volumeId: identity.volumeId, blockSizeBytes: BLOCK_BYTES, volumeBlocks: BLOCKS, maxOpen: 4, maxTableBytes: MIB, maxFrameBytes });
  }

  #begin(target: Uint8Array): void {
    this.reads += 1;
    expect(this.#busy.has(target.buffer), 'another read is under way into this memory').toBe(false);
    this.buffers.add(target.buffer);
    if (!this.isFailing) {
      this.#busy.add(target.buffer);
      return;
    }
    this.overrun = new Promise((resolve) => setTimeout(() => resolve(target.fill(0xee)), 1));
    throw new Error('the disk fails');
  }

  async read(block: number, count = 1): Promise<void> {
    const target = new Uint8Array(count * BLOCK_BYTES);
    await this.reader.readBlocks(CHUNK, block, count, block, target, 0);
    expect(Buffer.compare(target, Buffer.concat(blocks.slice(block, block + count)))).toBe(0);
  }

  /** How often the object is read for blocks, one after the other. */
  async readsOf(...wanted: readonly number[]): Promise<number> {
    const before = this.reads;
    for (const block of wanted) await this.read(block);
    return this.reads - before;
  }
}

describe('small reads of compressed frames', () => {
  test('in sequence read each frame twice: for its first block, and then whole', async () => {
    const chunk = new FramedChunk(MIB);
    expect(await chunk.readsOf(...blocks.keys())).toBe(2 * FRAMES);
  });

  test('read a frame each time where nothing is kept', async () => {
    const chunk = new FramedChunk(0);
    expect(await chunk.readsOf(0, 1, 2, 1)).toBe(4);
    const short = new FramedChunk(PACKED_FRAME_BYTES - 1);
    expect(await short.readsOf(0, 1, 2, 1)).toBe(4);
  });

  test('that are all under way at once share one reading of the whole frame', async () => {
    const chunk = new FramedChunk(MIB);
    await Promise.all(Array.from({ length: PER_FRAME }, (_, index) => chunk.read(index)));
    expect(chunk.reads).toBe(2);
  });

  test('keep no more than their limit, the frames that were asked for last', async () => {
    const chunk = new FramedChunk(2 * PACKED_FRAME_BYTES);
    const [first, second, third] = [0, PER_FRAME, 2 * PER_FRAME];
    expect(await chunk.readsOf(first, first, second, second)).toBe(4);
    expect(await chunk.readsOf(first, second, first)).toBe(0);
    expect(await chunk.readsOf(third)).toBe(1);
    expect(await chunk.readsOf(first), 'it was asked for after the second').toBe(0);
    expect(await chunk.readsOf(second, second), 'it made room').toBe(2);
  });

  test('of whole frames keep none, and need none', async () => {
    const chunk = new FramedChunk(MIB);
    for (let round = 0; round < 3; round += 1) await chunk.read(PER_FRAME, PER_FRAME);
    await chunk.read(0, BLOCKS);
    expect(chunk.reads).toBe(4);
  });

  test('of a damaged frame fail, each naming its block, until it is sound again', async () => {
    const chunk = new FramedChunk(MIB);
    const at = CHUNK_HEADER_BYTES + 5;
    chunk.bytes[at] ^= 1;
    const reads = [0, 1, 2, 3].map((block) => expect(chunk.read(block)).rejects.toMatchObject({ code: 'corrupt', message: text(new RegExp(`block ${block}: compressed frame: checksum`, 'u')) }));
    await Promise.all(reads);
    chunk.bytes[at] ^= 1;
    expect(await chunk.readsOf(0, 1, 2)).toBeLessThanOrEqual(2);
  });

  test.each([[0, 0], [PACKED_FRAME_BYTES - 1, 0], [2 * PACKED_FRAME_BYTES, 2], [MIB, FRAMES]])('use buffers again when the reads into them are over: where %i bytes may be kept %i of them', async (maxFrameBytes, keptMax) => {
    const chunk = new FramedChunk(maxFrameBytes);
    await chunk.reader.tables(CHUNK);
    const burst = (): Promise<unknown> => Promise.all(Array.from({ length: FRAMES }, (_, frame) => chunk.read(frame * PER_FRAME)));
    await burst();
    expect(chunk.buffers.size).toBe(FRAMES);
    await burst();
    expect(chunk.reads).toBe(2 * FRAMES);
    expect(2 * FRAMES - chunk.buffers.size).toBe(keptMax);
  });

  test('never use a buffer again into which a read failed', async () => {
    const chunk = new FramedChunk(MIB);
    await chunk.read(0);
    chunk.buffers.clear();
    chunk.isFailing = true;
    for (const block of [PER_FRAME, PER_FRAME, 2 * PER_FRAME]) await expect(chunk.read(block)).rejects.toMatchObject({ code: 'io-error' });
    const lost = new Set(chunk.buffers);
    chunk.isFailing = false;
    chunk.buffers.clear();
    await Promise.all([chunk.overrun, ...Array.from(blocks.keys(), (block) => chunk.read(block))]);
    expect([...chunk.buffers].filter((buffer) => lost.has(buffer))).toEqual([]);
  });

  test('that are kept are those of one chunk: the same places of another one hold other blocks', async () => {
    const { reader, chunkEnd } = new FramedChunk(MIB);
    expect(chunkEnd).toBe(3);
    for (const [number, contents] of [[1, blocks], [2, newer], [1, blocks]] as const) {
      for (let round = 0; round < 3; round += 1) {
        const target = new Uint8Array(BLOCK_BYTES);
        await reader.readBlocks({ number, epoch: 1 }, 5, 1, 5, target, 0);
        expect(Buffer.compare(target, contents[5]), `chunk ${number}, round ${round}`).toBe(0);
      }
    }
  });

  test('that are kept go with their chunk: one that is gone, or has rotted when it is opened anew, is not served out of memory', async () => {
    const chunk = new FramedChunk(MIB);
    expect(await chunk.readsOf(0, 1, 2)).toBe(2);
    await chunk.reader.forget(1);
    chunk.bytes[CHUNK_HEADER_BYTES + 5] ^= 1;
    await expect(chunk.read(1)).rejects.toMatchObject({ code: 'corrupt', message: text(/block 1: compressed frame: checksum/u) });
    chunk.bytes[CHUNK_HEADER_BYTES + 5] ^= 1;
    expect(await chunk.readsOf(0, 1), 'the one that failed was the first').toBe(1);
    await chunk.reader.forget(1);
    chunk.chunkEnd = 1;
    await expect(chunk.read(0)).rejects.toMatchObject({ code: 'not-found' });
  });

  test('that are read whole when their chunk is forgotten end as if it were not', async () => {
    const chunk = new FramedChunk(MIB);
    await chunk.read(0);
    const reads = [chunk.read(1), chunk.read(2)];
    await new Promise((resolve) => queueMicrotask(() => resolve(chunk.reader.forget(1))));
    await Promise.all([...reads, chunk.read(3)]);
  });
});
