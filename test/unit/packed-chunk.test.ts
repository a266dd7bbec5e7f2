import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checksum } from '../../src/base/checksum.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { type BuiltChunk, buildChunk } from '../../src/chunk/build-chunk.ts';
import { ChunkReader, chunkKey, readChunkTables } from '../../src/chunk/chunk-reader.ts';
import { NO_VAIN_TRIES } from '../../src/chunk/frame-judge.ts';
import { PACKED_FRAME_BYTES, packBlocks } from '../../src/chunk/pack-blocks.ts';
import { workerEntry } from '../../src/chunk/worker-entry.ts';
import { PoolWorkers } from '../../src/env/node-env.ts';
import { CHUNK_HEADER_BYTES, CHUNK_VERSION, type ChunkIdentity, FRAME_CODEC, encodeChunkHeader, encodeChunkTail } from '../../src/format/chunk-layout.ts';
import type { ObjectStore, StoredObject } from '../../src/store/object-store.ts';
import { inspectChunk } from '../../src/volume/inspect-chunks.ts';
import { MANIFEST } from '../golden/structures.ts';
import { SeededRandom } from '../sim/random.ts';
import { text } from '../support/text.ts';

const BLOCK_BYTES = 4096;
const PER_FRAME = PACKED_FRAME_BYTES / BLOCK_BYTES;
const VOLUME_ID = Uint8Array.from({ length: 16 }, (_, index) => index);
const CHUNK = { number: 1, epoch: 1 };

type Kind = 'text' | 'half' | 'noise';

/** A block of bytes that compress to next to nothing, to half, or not at all. */
function block(kind: Kind, seed: number, bytes = BLOCK_BYTES): Uint8Array {
  const made = Buffer.alloc(bytes, `block ${seed}, `);
  if (kind === 'noise') new SeededRandom(seed + 1).fill(made);
  if (kind === 'half') new SeededRandom(seed + 1).fill(made.subarray(0, bytes / 2));
  return made;
}

function identity(blockSizeBytes = BLOCK_BYTES): ChunkIdentity {
  return { volumeId: VOLUME_ID, blockSizeBytes, epoch: 1, chunkNumber: 1, firstLsn: 1, lastLsn: 6, previousChunk: 0, part: 1, parts: 1 };
}

function jobFor(blocks: readonly Uint8Array[], compress = true) {
  const [{ length: blockSizeBytes }] = blocks;
  const bytes = new Uint8Array(new SharedArrayBuffer(blocks.length * blockSizeBytes));
  blocks.forEach((each, index) => bytes.set(each, index * blockSizeBytes));
  const source = { blockNumbers: Float64Array.from(blocks, (_, index) => 10 + 2 * index), checksums: Uint32Array.from(blocks, (each) => checksum(each)), bytes };
  return { identity: identity(blockSizeBytes), sources: [source], picks: Uint32Array.from(blocks.keys()), ranges: [], compress, vainTries: NO_VAIN_TRIES };
}

/** A store of one object, which counts reads. */
class OneObject implements Pick<ObjectStore, 'open'> {
  readonly bytes: Uint8Array;
  reads = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  open(): Promise<StoredObject> {
    return Promise.resolve({
      sizeBytes: this.bytes.length,
      read: (target: Uint8Array, offsetBytes: number) => {
        this.reads += 1;
        target.set(this.bytes.subarray(offsetBytes, offsetBytes + target.length));
        return Promise.resolve();
      },
      close: () => Promise.resolve(),
    });
  }
}

function objectOf(built: BuiltChunk, blocks: readonly Uint8Array[]): OneObject {
  return new OneObject(Buffer.concat([built.header, ...(built.packed === null ? blocks : [built.packed]), built.tail]));
}

function readerOf(object: OneObject, blockSizeBytes = BLOCK_BYTES, maxFrameBytes = 0): ChunkReader {
  return new ChunkReader({ store: object, volumeId: VOLUME_ID, blockSizeBytes, volumeBlocks: 1000, maxOpen: 4, maxTableBytes: MIB, maxFrameBytes });
}

async function readAlone(reader: ChunkReader, slot: number, blockSizeBytes = BLOCK_BYTES): Promise<Uint8Array> {
  const target = new Uint8Array(blockSizeBytes);
  await reader.readBlocks(CHUNK, slot, 1, 10 + 2 * slot, target, 0);
  return target;
}

async function readScattered(reader: ChunkReader, slots: readonly number[]): Promise<Uint8Array[]> {
  const found: Uint8Array[] = [];
  await reader.readScattered(CHUNK, slots, (index, bytes) => (found[index] = bytes.slice()));
  return found;
}

const kinds = fc.array(fc.constantFrom<Kind>('text', 'half', 'noise'), { minLength: 1, maxLength: 40 });

describe('a chunk whose blocks are compressed', () => {
  test('gives back what went in, block by block, together and scattered, whatever mix it is of', async () => {
    await fc.assert(
      fc.asyncProperty(kinds, fc.constantFrom(4 * KIB, 16 * KIB, 64 * KIB), fc.array(fc.nat(39)), async (mix, blockSizeBytes, wanted) => {
        const blocks = mix.map((kind, index) => block(kind, index, blockSizeBytes));
        const object = objectOf(buildChunk(jobFor(blocks)), blocks);
        const reader = readerOf(object, blockSizeBytes);
        for (const [slot, each] of blocks.entries()) expect(Buffer.compare(await readAlone(reader, slot, blockSizeBytes), each)).toBe(0);
        const slots = [...new Set(wanted.map((slot) => slot % blocks.length))].toSorted((a, b) => a - b);
        const found = await readScattered(reader, slots);
        expect(found.map((bytes, index) => Buffer.compare(bytes, blocks[slots[index]]))).toEqual(slots.map(() => 0));
      }),
      { numRuns: 60 },
    );
  });

  test('is smaller where that pays, and else just what it would be without compression', () => {
    const half = Array.from({ length: 64 }, (_, index) => block('half', index));
    const packed = buildChunk(jobFor(half)).packed ?? new Uint8Array(0);
    expect(packed.length / (64 * BLOCK_BYTES)).toBeGreaterThan(0.4);
    expect(packed.length / (64 * BLOCK_BYTES)).toBeLessThan(0.6);
    const noise = Array.from({ length: 64 }, (_, index) => block('noise', index));
    expect(buildChunk(jobFor(noise))).toEqual(buildChunk(jobFor(noise, false)));
    expect(buildChunk(jobFor(half, false)).packed).toBeNull();
  });

  test('keeps frames that do not compress together, as they are', () => {
    const mix: Kind[] = ['noise', 'noise', 'text', 'noise', 'noise'];
    const blocks = mix.flatMap((kind, frame) => Array.from({ length: PER_FRAME }, (_, index) => block(kind, frame * PER_FRAME + index)));
    const { frames = [] } = packBlocks(blocks.length, BLOCK_BYTES, (index) => blocks[index]) ?? {};
    expect(frames.map(({ codec, plainBytes }) => [codec, plainBytes / PACKED_FRAME_BYTES])).toEqual([[FRAME_CODEC.NONE, 2], [FRAME_CODEC.LZ4, 1], [FRAME_CODEC.NONE, 2]]);
    expect(frames.map(({ offset, storedBytes }) => offset + storedBytes).slice(0, 2)).toEqual(frames.map(({ offset }) => offset).slice(1));
  });

  test('is read with one call where its frames follow each other', async () => {
    const blocks = Array.from({ length: 16 }, (_, index) => block('half', index));
    const job = jobFor(blocks);
    // Consecutive, as a long read finds them.
    job.sources[0].blockNumbers.set(blocks.map((_, index) => 10 + index));
    const object = objectOf(buildChunk(job), blocks);
    const reader = readerOf(object);
    await reader.readBlocks(CHUNK, 0, 1, 10, new Uint8Array(BLOCK_BYTES), 0);
    object.reads = 0;
    const target = Buffer.alloc(14 * BLOCK_BYTES);
    await reader.readBlocks(CHUNK, 1, 14, 11, target, 0);
    expect(target.equals(Buffer.concat(blocks.slice(1, 15)))).toBe(true);
    expect(object.reads).toBe(1);
  });

  test('is built by the worker as it is here', async () => {
    const workers = new PoolWorkers(workerEntry(), 1);
    try {
      const job = jobFor(Array.from({ length: 9 }, (_, index) => block(index < 6 ? 'half' : 'noise', index)));
      expect(await workers.run('buildChunk', job)).toEqual(buildChunk(job));
    } finally {
      await workers.close();
    }
  });
});

/** A chunk of one frame that says what it likes of what it holds. */
function forged(stored: Uint8Array, plainBytes: number, frameChecksum: number): OneObject {
  const header = encodeChunkHeader(identity(), CHUNK_VERSION.PACKED);
  const frame = { codec: FRAME_CODEC.LZ4, offset: CHUNK_HEADER_BYTES, storedBytes: stored.length, plainBytes, checksum: frameChecksum };
  const tail = encodeChunkTail(identity(), header, { blockNumbers: Float64Array.of(10), checksums: Uint32Array.of(checksum(new Uint8Array(BLOCK_BYTES))) }, [], [frame]);
  return new OneObject(Buffer.concat([header, stored, tail]));
}

/** Whether a block is in the second frame. */
function isInSecond(slot: number): boolean {
  return slot >= PER_FRAME && slot < 2 * PER_FRAME;
}

describe('damage in a compressed frame', () => {
  const blocks = Array.from({ length: 3 * PER_FRAME }, (_, index) => block('half', index));

  test('fails the blocks of that frame, with number, chunk and byte, and no other', async () => {
    const object = objectOf(buildChunk(jobFor(blocks)), blocks);
    const { tables } = await readChunkTables(await object.open(), { volumeId: VOLUME_ID, blockSizeBytes: BLOCK_BYTES, volumeBlocks: 1000 }, 1, 'it');
    const [, second] = tables.packed?.frames ?? [];
    object.bytes[second.offset + 5] ^= 1;
    const reader = readerOf(object);
    const slots = [...blocks.keys()];
    for (const slot of slots.filter((each) => !isInSecond(each))) expect(Buffer.compare(await readAlone(reader, slot), blocks[slot]), `slot ${slot}`).toBe(0);
    for (const slot of slots.filter(isInSecond)) {
      const failure = { code: 'corrupt', context: { chunk: chunkKey(1, 1), blockNumber: 10 + 2 * slot, offsetBytes: second.offset }, message: text(/compressed frame: checksum [0-9a-f]{8}, expected [0-9a-f]{8}, at byte \d+/) };
      await expect(readAlone(reader, slot), `slot ${slot}`).rejects.toMatchObject(failure);
      await expect(readScattered(reader, [slot])).rejects.toMatchObject(failure);
    }
  });

  test.each<[string, Uint8Array]>([
    ['is no LZ4 block', Uint8Array.of(0xff, 0xff)],
    ['unpacks to less', Uint8Array.of(0x10, 0x61)],
    ['unpacks to more', Uint8Array.from([0x1f, 0x61, 1, 0, ...Array<number>(40).fill(255), 0, 0x50, 1, 2, 3, 4, 5])],
    ['refers to what is before its beginning', Uint8Array.from([0x1f, 0x61, 9, 0, ...Array<number>(15).fill(255), 246, 0x50, 1, 2, 3, 4, 5])],
  ])('that has its checksum and %s is damage all the same', async (_, stored) => {
    const reader = readerOf(forged(stored, BLOCK_BYTES, checksum(stored)));
    await expect(readAlone(reader, 0)).rejects.toMatchObject({ code: 'corrupt', message: text('block 10') });
  });

  test('that unpacks to other bytes than the block had is found by the checksum of the block', async () => {
    const stored = Uint8Array.from([0x1f, 0x61, 1, 0, ...Array<number>(15).fill(255), 246, 0x50, ...Array<number>(5).fill(0x61)]);
    const reader = readerOf(forged(stored, BLOCK_BYTES, checksum(stored)));
    await expect(readAlone(reader, 0)).rejects.toMatchObject({ code: 'corrupt', message: text(/block 10: checksum/) });
  });

  test('whose checksum is right though a block has not its own is found by a deep check and a scrub, too', async () => {
    const stored = Uint8Array.from([0x1f, 0x61, 1, 0, ...Array<number>(15).fill(255), 246, 0x50, ...Array<number>(5).fill(0x61)]);
    const object = await forged(stored, BLOCK_BYTES, checksum(stored)).open();
    const inspected = await inspectChunk({ store: { open: () => Promise.resolve(object) }, manifest: { ...MANIFEST, volumeId: VOLUME_ID, blockSizeBytes: BLOCK_BYTES, sizeBytes: 1000 * BLOCK_BYTES }, deep: true }, 1, 1);
    expect(inspected.fault).toBeNull();
    expect(inspected.badBlocks).toMatchObject([{ blockNumber: 10, offsetBytes: CHUNK_HEADER_BYTES, problem: text(/^checksum [0-9a-f]{8}, expected [0-9a-f]{8}$/) }]);
  });
});
