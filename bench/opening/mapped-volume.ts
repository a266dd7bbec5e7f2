/**
 * Makes a volume of many stored blocks without writing them: chunks are sparse, but for one block each; their headers and tables, the
 * checkpoint's leaves, nodes and catalogue are what the engine would have written. Neighbouring blocks are in different chunks, so that
 * every leaf is as long as it can be.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { checksum } from '../../src/base/checksum.ts';
import { MIB } from '../../src/base/units.ts';
import { chunkKey } from '../../src/chunk/chunk-reader.ts';
import type { Env } from '../../src/env/env.ts';
import { align8 } from '../../src/format/bytes.ts';
import { type CatalogueEntry, type CheckpointIdentity, type IndexedReference, type NodeEntry, PAGE_FANOUT, type Run, encodeCataloguePage, encodeLeaf, encodeNode, encodeRoot } from '../../src/format/checkpoint-layout.ts';
import { CHUNK_HEADER_BYTES, type ChunkIdentity, encodeChunkHeader, encodeChunkTail } from '../../src/format/chunk-layout.ts';
import type { Manifest } from '../../src/format/manifest.ts';
import { createVolume } from '../../src/index.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { PageWriter } from '../../src/volume/checkpointer.ts';
import { checkpointKey, readManifest, writeManifest } from '../../src/volume/volume-files.ts';

export const BLOCK_BYTES = 4096;
const CHUNK_BLOCKS = (4 * MIB) / BLOCK_BYTES;
const EPOCH = 1;
const ZERO_CHECKSUM = checksum(new Uint8Array(BLOCK_BYTES));

/** A volume of `chunks` full chunks, of which one block in `spread` is stored. */
export interface MappedShape {
  readonly chunks: number;
  /** 1: all are; more than 1: each stands alone. A divisor of the blocks of a leaf. */
  readonly spread: number;
}

/** How many chunks a volume of at least `blockCount` stored blocks has; all are full. */
export function chunksFor(blockCount: number): number {
  return Math.ceil(blockCount / CHUNK_BLOCKS);
}

/** Block `slot` of each chunk, from 1 on: of the stored ones, those of a chunk lie as far apart as there are chunks. */
function blockAt(chunk: number, slot: number, { chunks, spread }: MappedShape): number {
  return (slot * chunks + chunk - 1) * spread;
}

/** The one block of a chunk that is no zeroes. */
export function stampedBlock(chunk: number, shape: MappedShape): number {
  return blockAt(chunk, chunk % CHUNK_BLOCKS, shape);
}

export function stampOf(blockNumber: number): Buffer {
  return Buffer.alloc(BLOCK_BYTES, `block ${blockNumber}, `);
}

/** Makes the volume `path`. */
export async function makeMappedVolume(env: Env, path: string, shape: MappedShape): Promise<void> {
  const { chunks, spread } = shape;
  await createVolume(path, { size: chunks * CHUNK_BLOCKS * BLOCK_BYTES * spread, blockSizeBytes: BLOCK_BYTES });
  const manifest = await readManifest(env.files, path);
  const { volumeId, blockSizeBytes, sizeBytes } = manifest;
  let objectBytes = 0;
  for (let chunk = 1; chunk <= chunks; chunk += 1) objectBytes = await writeChunk(path, { volumeId, blockSizeBytes, epoch: EPOCH, chunkNumber: chunk, firstLsn: chunk, lastLsn: chunk, previousChunk: chunk - 1, part: 1, parts: 1 }, shape);
  const identity: CheckpointIdentity = { volumeId, blockSizeBytes, sizeBytes, epoch: EPOCH, number: 1, lastChunk: chunks, lastLsn: chunks };
  await writeCheckpoint(new DirectoryStore(env.files, path, 0), identity, shape, objectBytes);
  const checkpoint = { number: identity.number, epoch: EPOCH, lastChunk: chunks, lastLsn: chunks };
  const written: Manifest = { ...manifest, epoch: EPOCH, checkpoint, cut: { epoch: EPOCH, lsn: chunks } };
  await writeManifest(env, path, written);
}

/** Returns the bytes of the object, most of which are a hole. */
async function writeChunk(path: string, identity: ChunkIdentity, shape: MappedShape): Promise<number> {
  const { chunkNumber } = identity;
  const blockNumbers = Float64Array.from({ length: CHUNK_BLOCKS }, (_, slot) => blockAt(chunkNumber, slot, shape));
  const checksums = new Uint32Array(CHUNK_BLOCKS).fill(ZERO_CHECKSUM);
  const slot = chunkNumber % CHUNK_BLOCKS;
  const stamp = stampOf(blockNumbers[slot]);
  checksums[slot] = checksum(stamp);
  const header = encodeChunkHeader(identity);
  const tail = encodeChunkTail(identity, header, { blockNumbers, checksums }, []);
  const tailOffset = CHUNK_HEADER_BYTES + CHUNK_BLOCKS * BLOCK_BYTES;
  const file = await open(join(path, chunkKey(identity.epoch, chunkNumber)), 'wx');
  try {
    await file.write(header, 0, header.length, 0);
    await file.write(stamp, 0, stamp.length, CHUNK_HEADER_BYTES + slot * BLOCK_BYTES);
    await file.write(tail, 0, tail.length, tailOffset);
  } finally {
    await file.close();
  }
  return tailOffset + tail.length;
}

async function writeCheckpoint(store: DirectoryStore, identity: CheckpointIdentity, shape: MappedShape, objectBytes: number): Promise<void> {
  const { chunks } = shape;
  // A full leaf has as many blocks as a chunk.
  const leaves = chunks * shape.spread;
  const object = await store.stage(checkpointKey(identity.epoch, identity.number));
  const writer = new PageWriter(object, identity);
  const nodes: IndexedReference[] = [];
  const catalogue: IndexedReference[] = [];
  let liveBytes = 0;
  const page = async (bytes: Uint8Array): ReturnType<PageWriter['page']> => {
    liveBytes += align8(bytes.length);
    return writer.page(bytes);
  };
  for (let node = 0; node * PAGE_FANOUT < leaves; node += 1) {
    const entries: NodeEntry[] = [];
    for (let place = 0; place < PAGE_FANOUT && node * PAGE_FANOUT + place < leaves; place += 1) {
      const leaf = node * PAGE_FANOUT + place;
      entries.push({ place, reference: await page(encodeLeaf(leaf, runsOf(leaf, shape))) });
    }
    nodes.push({ index: node, reference: await page(encodeNode(node, entries)) });
  }
  for (let index = 0; index * PAGE_FANOUT <= chunks; index += 1) {
    const entries: CatalogueEntry[] = [];
    for (let place = index === 0 ? 1 : 0; place < PAGE_FANOUT && index * PAGE_FANOUT + place <= chunks; place += 1) {
      entries.push({ place, liveBlocks: CHUNK_BLOCKS, blockCount: CHUNK_BLOCKS, objectBytes, epoch: EPOCH });
    }
    catalogue.push({ index, reference: await page(encodeCataloguePage(index, entries)) });
  }
  const objects = [{ number: identity.number, epoch: identity.epoch, objectBytes: writer.offset, liveBytes }];
  await writer.finish(await writer.page(encodeRoot(identity.number, { nodes, catalogue, objects })));
  await object.seal();
  await store.publish([object]);
}

/** The runs of a leaf: one for each stored block, but where two neighbours happen to be in one chunk. */
function runsOf(leaf: number, { chunks, spread }: MappedShape): Run[] {
  return Array.from({ length: PAGE_FANOUT / spread }, (_, i) => {
    const stored = (leaf * PAGE_FANOUT) / spread + i;
    return { place: i * spread, blockCount: 1, chunk: (stored % chunks) + 1, slot: Math.floor(stored / chunks) };
  });
}
