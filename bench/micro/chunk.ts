/**
 * Chunks: what compressing them costs, in frames of several sizes, and what reading a block of them does. The text is this project's own sources. Frames
 * of the size that the engine uses are read with and without frames that are kept.
 */
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checksum } from '../../src/base/checksum.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { type BuildChunkJob, buildChunk } from '../../src/chunk/build-chunk.ts';
import { CHUNK_FOLDER, ChunkReader, chunkKey } from '../../src/chunk/chunk-reader.ts';
import { FrameJudge, NO_VAIN_TRIES } from '../../src/chunk/frame-judge.ts';
import { PACKED_FRAME_BYTES, packBlocks } from '../../src/chunk/pack-blocks.ts';
import { NodeFileSystem } from '../../src/env/node-files.ts';
import { type ChunkIdentity, encodeChunkHeader, encodeChunkTail, plainFrames, versionFor } from '../../src/format/chunk-layout.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { type MicroSuite, type MicroTask, scramble } from './suite.ts';

const BLOCK_BYTES = 4 * KIB;
const BLOCKS = 1023;
const CHUNK_BYTES = BLOCKS * BLOCK_BYTES;
const FRAMES_KIB = [4, 8, 16, 32, 64];
const READS = 200;
const VOLUME_ID = new Uint8Array(16).fill(9);

export async function chunkSuite(): Promise<MicroSuite> {
  const directory = await mkdtemp(join(tmpdir(), 'basalt-micro-'));
  const files = new NodeFileSystem();
  await files.makeDirectory(join(directory, CHUNK_FOLDER));
  const store = new DirectoryStore(files, directory, 0);
  const text = shared(await readText());
  const noise = shared(Uint8Array.from(scramble(CHUNK_BYTES)));
  const tasks = [...buildTasks('noise', noise), ...buildTasks('text', text)];
  const readers: ChunkReader[] = [];
  const readerWith = (maxFrameBytes: number): ChunkReader => {
    const reader = new ChunkReader({ store, volumeId: VOLUME_ID, blockSizeBytes: BLOCK_BYTES, volumeBlocks: BLOCKS, maxOpen: 16, maxTableBytes: MIB, maxFrameBytes });
    readers.push(reader);
    return reader;
  };
  const plain = await putChunk(store, 1, text, null);
  tasks.push(...readTasks(readerWith(0), 1, `as it is (${plain})`));
  for (const [index, frameKib] of FRAMES_KIB.entries()) {
    const chunk = index + 2;
    const part = await putChunk(store, chunk, text, frameKib * KIB);
    tasks.push(packTask(text, frameKib, part), ...readTasks(readerWith(0), chunk, `in frames of ${frameKib} KiB`));
    if (frameKib * KIB === PACKED_FRAME_BYTES) tasks.push(...readTasks(readerWith(MIB), chunk, `in frames of ${frameKib} KiB, kept`));
  }
  const close = async (): Promise<void> => {
    for (const reader of readers) await reader.close();
    await rm(directory, { recursive: true });
  };
  return { name: 'chunk', tasks, close };
}

/** As much of the sources as a chunk holds. */
async function readText(): Promise<Uint8Array> {
  const names = await readdir('src', { recursive: true });
  const files = names.filter((name) => name.endsWith('.ts')).toSorted();
  const parts = await Promise.all(files.map((name) => readFile(join('src', name))));
  const all = Buffer.concat(parts);
  return Buffer.alloc(CHUNK_BYTES, all);
}

function shared(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new SharedArrayBuffer(bytes.length));
  copy.set(bytes);
  return copy;
}

function tableOf(bytes: Uint8Array): { readonly blockNumbers: Float64Array; readonly checksums: Uint32Array } {
  const places = Array.from({ length: BLOCKS }, (_, index) => index);
  return { blockNumbers: Float64Array.from(places), checksums: Uint32Array.from(places, (index) => checksum(bytes.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES))) };
}

function identityOf(chunkNumber: number): ChunkIdentity {
  return { volumeId: VOLUME_ID, blockSizeBytes: BLOCK_BYTES, epoch: 1, chunkNumber, firstLsn: 1, lastLsn: 1, previousChunk: 0, part: 1, parts: 1 };
}

/** On a worker thread of the engine; blocks that are not compressed go to the disk from where they are. */
function buildTasks(name: string, bytes: Uint8Array): MicroTask[] {
  const job = (compress: boolean): BuildChunkJob => ({
    identity: identityOf(1),
    sources: [{ ...tableOf(bytes), bytes }],
    picks: Uint32Array.from({ length: BLOCKS }, (_, index) => index),
    ranges: [],
    compress,
    vainTries: NO_VAIN_TRIES,
  });
  return [false, true].map((compress) => {
    const built = job(compress);
    return { name: `build a chunk of ${name}, ${compress ? 'compressed' : 'as it is'}`, operations: 1, bytes: CHUNK_BYTES, run: () => void buildChunk(built) };
  });
}

function packTask(text: Uint8Array, frameKib: number, part: string): MicroTask {
  const block = (index: number): Uint8Array => text.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
  return { name: `pack text in frames of ${frameKib} KiB (${part})`, operations: 1, bytes: CHUNK_BYTES, run: () => void packBlocks(BLOCKS, BLOCK_BYTES, block, new FrameJudge(), frameKib * KIB) };
}

/** Stores a chunk of the text; returns what part of it the object takes, in percent. */
async function putChunk(store: DirectoryStore, chunkNumber: number, text: Uint8Array, frameBytes: number | null): Promise<string> {
  const identity = identityOf(chunkNumber);
  const block = (index: number): Uint8Array => text.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
  const packed = frameBytes === null ? null : packBlocks(BLOCKS, BLOCK_BYTES, block, new FrameJudge(), frameBytes);
  const frames = packed?.frames ?? plainFrames(BLOCKS, BLOCK_BYTES);
  const header = encodeChunkHeader(identity, versionFor(frames));
  const parts = [header, packed?.bytes ?? text, encodeChunkTail(identity, header, tableOf(text), [], frames)];
  const object = await store.stage(chunkKey(1, chunkNumber));
  await object.append(parts);
  await object.seal();
  await store.publish([object]);
  return `${((100 * parts.reduce((sum, each) => sum + each.length, 0)) / CHUNK_BYTES).toFixed(1)} %`;
}

/** One read after the other, out of the page cache: at random places, and in sequence. */
function readTasks(reader: ChunkReader, number: number, name: string): MicroTask[] {
  // A target for each run: the first one is begun before anybody waits for it, to see whether it has to be waited for.
  const readAll = async (places: readonly number[]): Promise<void> => {
    const target = new Uint8Array(BLOCK_BYTES);
    for (const slot of places) await reader.readBlocks({ number, epoch: 1 }, slot, 1, slot, target, 0);
  };
  const slots = [...scramble(READS)].map((value) => value % BLOCKS);
  let next = 0;
  const inSequence = (): Promise<void> => {
    const places = Array.from({ length: READS }, (_, i) => (next + i) % BLOCKS);
    next += READS;
    return readAll(places);
  };
  return [
    { name: `read 4 KiB at random from text ${name}`, operations: READS, bytes: READS * BLOCK_BYTES, run: () => readAll(slots) },
    { name: `read 4 KiB in sequence from text ${name}`, operations: READS, bytes: READS * BLOCK_BYTES, run: inSequence },
  ];
}
