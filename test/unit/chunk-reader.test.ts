import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checksum } from '../../src/base/checksum.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { type ChunkSource, PICK_SOURCE_FACTOR, buildChunk, sortPicks } from '../../src/chunk/build-chunk.ts';
import { ChunkReader, chunkKey, chunkName, parseChunkName } from '../../src/chunk/chunk-reader.ts';
import { NO_VAIN_TRIES } from '../../src/chunk/frame-judge.ts';
import { workerEntry } from '../../src/chunk/worker-entry.ts';
import { PoolWorkers } from '../../src/env/node-env.ts';
import { CHUNK_FOOTER_BYTES, CHUNK_HEADER_BYTES } from '../../src/format/chunk-layout.ts';
import { NodeFileSystem } from '../../src/env/node-files.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import type { ObjectStore, StoredObject } from '../../src/store/object-store.ts';
import { readFileSync, writeFileSync } from 'node:fs';
import { BLOCK_BYTES, Scratch, pattern } from '../support/engine-harness.ts';
import { text } from '../support/text.ts';

const VOLUME_ID = Uint8Array.from({ length: 16 }, (_, index) => index);
const VOLUME_BLOCKS = 10_000;
/** Blocks of the chunk, and which slot of which slab each comes from. */
const BLOCKS = [3, 4, 5, 90, 91, 500];

function sources(): ChunkSource[] {
  const tables = [[90, 91, 3], [500, 4, 5]].map((blocks) => ({
    blockNumbers: Float64Array.from(blocks),
    checksums: Uint32Array.from(blocks, (block) => checksum(pattern(block))),
    bytes: null,
  }));
  return tables;
}

function identityOf(chunkNumber: number) {
  return { volumeId: VOLUME_ID, blockSizeBytes: BLOCK_BYTES, epoch: 1, chunkNumber, firstLsn: 1, lastLsn: 6, previousChunk: chunkNumber - 1, part: 1, parts: 1 };
}

function builtChunk(chunkNumber: number): Buffer {
  const tables = sources();
  const picks = sortPicks({ blockNumbers: tables.map((table) => table.blockNumbers), picks: Uint32Array.of(0, 1, 2, PICK_SOURCE_FACTOR, PICK_SOURCE_FACTOR + 1, PICK_SOURCE_FACTOR + 2) });
  const built = buildChunk({ identity: identityOf(chunkNumber), sources: tables, picks, ranges: [{ blockNumber: 7, blockCount: 2, provisioned: true }], compress: false, vainTries: NO_VAIN_TRIES });
  expect([...built.blockNumbers]).toEqual(BLOCKS);
  return Buffer.concat([built.header, ...BLOCKS.map((block) => pattern(block)), built.tail]);
}

/** Counts what is open. */
class CountingStore implements ObjectStore {
  readonly #inner: DirectoryStore;
  openObjects = 0;
  opened = 0;
  reads = 0;

  constructor(inner: DirectoryStore) {
    this.#inner = inner;
  }

  stage: ObjectStore['stage'] = (key) => this.#inner.stage(key);
  releaseSpace: ObjectStore['releaseSpace'] = () => this.#inner.releaseSpace();
  settle: ObjectStore['settle'] = () => this.#inner.settle();

  get spareBytes(): number {
    return this.#inner.spareBytes;
  }

  publish: ObjectStore['publish'] = (objects) => this.#inner.publish(objects);
  list: ObjectStore['list'] = (folder) => this.#inner.list(folder);
  remove: ObjectStore['remove'] = (key) => this.#inner.remove(key);

  async open(key: string): Promise<StoredObject> {
    const object = await this.#inner.open(key);
    this.openObjects += 1;
    this.opened += 1;
    return {
      sizeBytes: object.sizeBytes,
      read: (target, offsetBytes) => {
        this.reads += 1;
        return object.read(target, offsetBytes);
      },
      close: async () => {
        this.openObjects -= 1;
        await object.close();
      },
    };
  }
}

let scratch: Scratch;
let store: CountingStore;
beforeEach(async () => {
  scratch = new Scratch();
  await new NodeFileSystem().makeDirectory(`${scratch.path}/chunks`);
  store = new CountingStore(new DirectoryStore(new NodeFileSystem(), scratch.path, 0));
  for (const chunk of [1, 2, 3]) writeFileSync(pathOf(chunk), builtChunk(chunk));
});
afterEach(() => scratch.remove());

function pathOf(chunk: number): string {
  return `${scratch.path}/${chunkKey(1, chunk)}`;
}

function reader(limits: { maxOpen?: number; maxTableBytes?: number } = {}): ChunkReader {
  return new ChunkReader({ store, volumeId: VOLUME_ID, blockSizeBytes: BLOCK_BYTES, volumeBlocks: VOLUME_BLOCKS, maxOpen: 10, maxTableBytes: 1e6, maxFrameBytes: 0, ...limits });
}

async function readBlocks(from: ChunkReader, chunk: number, slot: number, count: number): Promise<Buffer> {
  const target = Buffer.alloc(count * BLOCK_BYTES, 0xaa);
  await from.readBlocks({ number: chunk, epoch: 1 }, slot, count, BLOCKS[slot], target, 0);
  return target;
}

function damage(chunk: number, offset: number): void {
  const bytes = readFileSync(pathOf(chunk));
  bytes[offset < 0 ? bytes.length + offset : offset] ^= 1;
  writeFileSync(pathOf(chunk), bytes);
}

describe('reading a chunk', () => {
  test('gives each block, neighbours in one read', async () => {
    const chunks = reader();
    expect((await readBlocks(chunks, 1, 0, 3)).equals(Buffer.concat([pattern(3), pattern(4), pattern(5)]))).toBe(true);
    const { reads } = store;
    expect((await readBlocks(chunks, 1, 3, 2)).equals(Buffer.concat([pattern(90), pattern(91)]))).toBe(true);
    expect(store.reads).toBe(reads + 1);
    await chunks.close();
    expect(store.openObjects).toBe(0);
  });

  test('of other blocks than the map thinks is damage, not data', async () => {
    const target = new Uint8Array(BLOCK_BYTES);
    await expect(reader().readBlocks({ number: 1, epoch: 1 }, 2, 1, 6, target, 0)).rejects.toMatchObject({ code: 'corrupt', message: text('slot 2 holds block 5, expected block 6') });
    await expect(reader().readBlocks({ number: 1, epoch: 1 }, 6, 1, 6, target, 0)).rejects.toMatchObject({ code: 'corrupt', message: text('slot 6 holds block none') });
  });

  test('that is gone says so', async () => {
    await expect(readBlocks(reader(), 9, 0, 1)).rejects.toMatchObject({ code: 'not-found' });
  });

  test('keeps no more open than allowed, and opens one once for all who ask together', async () => {
    const chunks = reader({ maxOpen: 1 });
    await Promise.all([readBlocks(chunks, 1, 0, 1), readBlocks(chunks, 1, 1, 1), readBlocks(chunks, 1, 2, 1)]);
    expect(store.opened).toBe(1);
    await Promise.all([1, 2, 3, 1, 2, 3].map((chunk) => readBlocks(chunks, chunk, 0, 2)));
    expect(store.openObjects).toBeLessThanOrEqual(1);
    await chunks.close();
    expect(store.openObjects).toBe(0);
  });

  test('keeps no more tables than allowed', async () => {
    const chunks = reader({ maxTableBytes: 6 * 16 });
    for (const chunk of [1, 2, 3, 3, 3]) await readBlocks(chunks, chunk, 0, 1);
    expect(store.openObjects).toBe(1);
    expect(store.opened).toBe(3);
  });
});

describe('rot', () => {
  test('in a block fails that block with its number, chunk and byte; the others are still read', async () => {
    const at = CHUNK_HEADER_BYTES + 3 * BLOCK_BYTES;
    damage(1, at + 17);
    const chunks = reader();
    const error = await readBlocks(chunks, 1, 3, 2).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(VolumeError);
    expect(error).toMatchObject({ code: 'corrupt', context: { chunk: 'chunks/c0000000001-e000001', blockNumber: 90, offsetBytes: at } });
    expect(error).toMatchObject({ message: text(/block 90: checksum [0-9a-f]{8}, expected [0-9a-f]{8}, at byte 16384/) });
    for (const slot of [0, 1, 2, 4, 5]) expect((await readBlocks(chunks, 1, slot, 1)).equals(pattern(BLOCKS[slot]))).toBe(true);
  });

  test.each([
    ['the header', 40, /header checksum .* at byte 88/],
    ['the block table', CHUNK_HEADER_BYTES + 6 * BLOCK_BYTES + 9, /tables checksum .* at byte 28672/],
    ['the range table', -CHUNK_FOOTER_BYTES - 3, /tables checksum/],
    ['the footer', -20, /footer checksum .* at byte/],
    ['the magic of the footer', -CHUNK_FOOTER_BYTES, /no footer/],
  ])('in %s fails every read of the chunk, and leaves nothing open', async (_, offset, message) => {
    damage(2, offset);
    const chunks = reader();
    await expect(readBlocks(chunks, 2, 0, 1)).rejects.toMatchObject({ code: 'corrupt', message: text(message) });
    expect(store.openObjects).toBe(0);
    expect((await readBlocks(chunks, 1, 0, 1)).equals(pattern(3))).toBe(true);
  });

  test('of a chunk that was cut is no end of data but damage', async () => {
    const chunks = reader();
    await readBlocks(chunks, 3, 0, 1);
    writeFileSync(pathOf(3), readFileSync(pathOf(3)).subarray(0, CHUNK_HEADER_BYTES + 5 * BLOCK_BYTES + 100));
    await expect(readBlocks(chunks, 3, 5, 1)).rejects.toMatchObject({ code: 'corrupt', message: text('ends at byte') });
    expect((await readBlocks(chunks, 3, 4, 1)).equals(pattern(91))).toBe(true);
  });

  test('that puts one chunk in the place of another is found', async () => {
    writeFileSync(pathOf(2), readFileSync(pathOf(1)));
    await expect(readBlocks(reader(), 2, 0, 1)).rejects.toMatchObject({ code: 'corrupt', message: text('chunk number 1, expected 2') });
  });
});

describe('the built worker', () => {
  test('gives what the functions give, from another thread', async () => {
    const workers = new PoolWorkers(workerEntry(), 1);
    try {
      const tables = sources().map(({ blockNumbers, checksums }) => ({ blockNumbers, checksums, bytes: null }));
      const job = { blockNumbers: tables.map((table) => table.blockNumbers), picks: Uint32Array.of(0, 2, PICK_SOURCE_FACTOR) };
      const picks: unknown = await workers.run('sortPicks', job);
      expect(picks).toEqual(sortPicks(job));
      const chunk = { identity: identityOf(1), sources: tables, picks: sortPicks(job), ranges: [], compress: false, vainTries: NO_VAIN_TRIES };
      expect(await workers.run('buildChunk', chunk)).toEqual(buildChunk(chunk));
    } finally {
      await workers.close();
    }
  });
});

test('names of chunks are read back, and nothing else is taken for one', () => {
  expect(parseChunkName(chunkName(7, 12_345_678_901))).toEqual({ chunk: 12_345_678_901, epoch: 7 });
  for (const name of ['c1-e1', '.stage-c0000000001-e000001', 'c0000000001-e000001.bak', 'k0000000001-e000001', '']) expect(parseChunkName(name)).toBeNull();
});

test('picks are sorted by block number, whatever their source, up to the largest volume', () => {
  const blocks = [2 ** 41 - 1, 0, 511, 512, 513, 2 ** 32, 2 ** 32 - 1, 2 ** 40 + 511, 2 ** 40 + 512, 7, 2 ** 41 - 2, 1_000_000];
  const blockNumbers = [Float64Array.from(blocks.slice(0, 5)), new Float64Array(0), Float64Array.from(blocks.slice(5))];
  const picks = Uint32Array.from(blocks.keys(), (i) => (i < 5 ? i : 2 * PICK_SOURCE_FACTOR + i - 5));
  const blockOf = (pick: number): number => blockNumbers[Math.floor(pick / PICK_SOURCE_FACTOR)][pick % PICK_SOURCE_FACTOR];
  expect(Array.from(sortPicks({ blockNumbers, picks }), blockOf)).toEqual(blocks.toSorted((a, b) => a - b));
});
