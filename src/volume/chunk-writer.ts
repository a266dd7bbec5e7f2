/** Building a chunk on a worker thread and writing it into the store: what the flusher and the compactor share. */
import { assert } from '../base/assert.ts';
import { toVolumeError } from '../base/errors.ts';
import { BUILD_CHUNK_TASK, type BuildChunkJob, type BuiltChunk, PICK_SOURCE_FACTOR } from '../chunk/build-chunk.ts';
import { chunkKey } from '../chunk/chunk-reader.ts';
import type { StagedObject } from '../store/object-store.ts';
import type { VolumeCore } from './volume-core.ts';

/** A chunk that is built but not written. */
export interface PreparedChunk {
  readonly chunk: number;
  readonly key: string;
  readonly header: Uint8Array;
  /** The blocks: views of the sources, which must not change before they are written. */
  readonly blocks: readonly Uint8Array[];
  readonly tail: Uint8Array;
  readonly objectBytes: number;
  readonly blockNumbers: Float64Array;
  /** As in `build-chunk.ts`: where each block came from. */
  readonly picks: Uint32Array;
}

/** A chunk on its way into the store: durable, but not yet published. */
export interface StagedChunk extends PreparedChunk {
  readonly object: StagedObject;
}

/** Builds the chunk of a job; `memory` has the bytes of each of its sources, null where nothing is picked from one. */
export async function prepareChunk(core: VolumeCore, job: BuildChunkJob, memory: readonly (Uint8Array | null)[]): Promise<PreparedChunk> {
  const { identity, picks } = job;
  const built = asBuiltChunk(await core.env.workers.run(BUILD_CHUNK_TASK, job));
  return {
    chunk: identity.chunkNumber,
    key: chunkKey(identity.epoch, identity.chunkNumber),
    header: built.header,
    blocks: blockParts(memory, built.runs, identity.blockSizeBytes),
    tail: built.tail,
    objectBytes: built.header.length + picks.length * identity.blockSizeBytes + built.tail.length,
    blockNumbers: built.blockNumbers,
    picks,
  };
}

/**
 * Writes a chunk, durable but not yet published. After an error nothing of it is left. `uncached`: its blocks, which stand in slabs, are
 * not worth a place in the page cache.
 */
export async function stageChunk(core: VolumeCore, chunk: PreparedChunk, uncached: boolean): Promise<StagedChunk> {
  const { header, blocks, tail } = chunk;
  const object = await core.store.stage(chunk.key, chunk.objectBytes);
  try {
    if (uncached && blocks.length > 0) {
      await object.append([header]);
      await object.appendUncached(blocks);
      await object.append([tail]);
    } else {
      await object.append([header, ...blocks, tail]);
    }
    await object.seal();
    return { ...chunk, object };
  } catch (error) {
    await object.abandon();
    throw toVolumeError(error, `writing ${chunk.key}`);
  }
}

function blockParts(memory: readonly (Uint8Array | null)[], runs: Uint32Array, blockSizeBytes: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let i = 0; i < runs.length; i += 2) {
    const bytes = memory[Math.floor(runs[i] / PICK_SOURCE_FACTOR)];
    assert(bytes !== null, 'a block was picked from a slab without memory');
    const slot = runs[i] % PICK_SOURCE_FACTOR;
    parts.push(bytes.subarray(slot * blockSizeBytes, (slot + runs[i + 1]) * blockSizeBytes));
  }
  return parts;
}

function asBuiltChunk(result: unknown): BuiltChunk {
  const whole = typeof result === 'object' && result !== null && 'header' in result && 'tail' in result && 'blockNumbers' in result && 'runs' in result;
  assert(whole, 'the worker answered with something else than a chunk');
  const { header, tail, blockNumbers, runs } = result;
  const typed = header instanceof Uint8Array && tail instanceof Uint8Array && blockNumbers instanceof Float64Array && runs instanceof Uint32Array;
  assert(typed, 'the worker answered with wrong types');
  return { header, tail, blockNumbers, runs };
}
