/** Building a chunk on a worker thread and writing it into the store: what the flusher and the compactor share. */
import { assert } from '../base/assert.ts';
import { toVolumeError } from '../base/errors.ts';
import { BUILD_CHUNK_TASK, type BuildChunkJob, type BuiltChunk, type ChunkSource, PICK_SOURCE_FACTOR } from '../chunk/build-chunk.ts';
import { chunkKey } from '../chunk/chunk-reader.ts';
import type { VainTries } from '../chunk/frame-judge.ts';
import type { StagedObject } from '../store/object-store.ts';
import type { VolumeCore } from './volume-core.ts';

/** A chunk that is built but not written. */
export interface PreparedChunk {
  readonly chunk: number;
  readonly key: string;
  readonly header: Uint8Array;
  /** The blocks: compressed, or views of the sources, which must not change before they are written. */
  readonly blocks: readonly Uint8Array[];
  readonly isPacked: boolean;
  readonly tail: Uint8Array;
  readonly objectBytes: number;
  readonly blockNumbers: Float64Array;
  /** As in `build-chunk.ts`: where each block came from. */
  readonly picks: Uint32Array;
}

/** A chunk on its way into the store: durable, but not yet published. Compressed blocks are let go of: a set may be as large as all dirty memory. */
export interface StagedChunk extends Omit<PreparedChunk, 'header' | 'blocks' | 'tail'> {
  readonly object: StagedObject;
}

/** What a chunk is built from; of each source the slot table, and its memory, in which nothing is picked where it is null. */
export type PrepareChunkJob = Omit<BuildChunkJob, 'sources' | 'compress' | 'vainTries'> & { readonly sources: readonly ChunkSource[] };

export async function prepareChunk(core: VolumeCore, job: PrepareChunkJob): Promise<PreparedChunk> {
  const { identity, picks, sources } = job;
  const compress = core.chunkCompress === 'lz4';
  // Unless blocks are compressed their memory does not cross to the thread at all.
  const seen = compress ? sources : sources.map((source) => ({ ...source, bytes: null }));
  const built = asBuiltChunk(await core.env.workers.run(BUILD_CHUNK_TASK, { ...job, sources: seen, compress, vainTries: core.vainTries }));
  // Of chunks that are built side by side the last one's: they saw the same data, or nearly.
  if (compress) core.vainTries = built.vainTries;
  const blocks = built.packed === null ? blockParts(sources, built.runs, identity.blockSizeBytes) : [built.packed];
  return {
    chunk: identity.chunkNumber,
    key: chunkKey(identity.epoch, identity.chunkNumber),
    header: built.header,
    blocks,
    isPacked: built.packed !== null,
    tail: built.tail,
    objectBytes: blocks.reduce((sum, part) => sum + part.length, built.header.length + built.tail.length),
    blockNumbers: built.blockNumbers,
    picks,
  };
}

/**
 * Writes a chunk, durable but not yet published. After an error nothing of it is left, unless that fails, too. Anything but a full disk fails the volume. `uncached`: its blocks, which stand in slabs, are
 * not worth a place in the page cache.
 */
export async function stageChunk(core: VolumeCore, chunk: PreparedChunk, uncached: boolean): Promise<StagedChunk> {
  const { header, blocks, tail, ...staged } = chunk;
  const object = await core.store.stage(chunk.key, chunk.objectBytes);
  try {
    // What is shipped from memory is not read back either. Compressed blocks have no length that the disk could take as it is.
    if ((uncached || object.isCopied === true) && !staged.isPacked && blocks.length > 0) {
      await object.append([header]);
      await object.appendUncached(blocks);
      await object.append([tail]);
    } else {
      await object.append([header, ...blocks, tail]);
    }
    await object.seal();
    return { ...staged, object };
  } catch (cause) {
    const error = toVolumeError(cause, `writing ${chunk.key}`);
    // Said at once: giving the object up may take a failing disk a long time.
    if (error.code !== 'no-space') core.fail(error);
    await object.abandon().catch((left: unknown) => core.env.logger.log('warn', 'staged-chunk-left', { volume: core.name, chunk: chunk.key, error: left }));
    throw error;
  }
}

function blockParts(sources: readonly ChunkSource[], runs: Uint32Array, blockSizeBytes: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let i = 0; i < runs.length; i += 2) {
    const { bytes } = sources[Math.floor(runs[i] / PICK_SOURCE_FACTOR)];
    assert(bytes !== null, 'a block was picked from a slab without memory');
    const slot = runs[i] % PICK_SOURCE_FACTOR;
    parts.push(bytes.subarray(slot * blockSizeBytes, (slot + runs[i + 1]) * blockSizeBytes));
  }
  return parts;
}

function asBuiltChunk(result: unknown): BuiltChunk {
  const whole = typeof result === 'object' && result !== null && 'header' in result && 'packed' in result && 'tail' in result && 'blockNumbers' in result && 'runs' in result && 'vainTries' in result;
  assert(whole, 'the worker answered with something else than a chunk');
  const { header, packed, tail, blockNumbers, runs, vainTries } = result;
  const typed = header instanceof Uint8Array && (packed === null || packed instanceof Uint8Array) && tail instanceof Uint8Array && blockNumbers instanceof Float64Array && runs instanceof Uint32Array && areTries(vainTries);
  assert(typed, 'the worker answered with wrong types');
  return { header, packed, tail, blockNumbers, runs, vainTries };
}

function areTries(value: unknown): value is VainTries {
  if (typeof value !== 'object' || value === null || !('inVain' in value) || !('left' in value)) return false;
  return typeof value.inVain === 'number' && typeof value.left === 'number';
}
