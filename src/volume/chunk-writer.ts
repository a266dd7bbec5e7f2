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
  /** The object's bytes, in order. The blocks among them are views of the sources: these must not change before it is written. */
  readonly parts: readonly Uint8Array[];
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
    parts: [built.header, ...blockParts(memory, built.runs, identity.blockSizeBytes), built.tail],
    objectBytes: built.header.length + picks.length * identity.blockSizeBytes + built.tail.length,
    blockNumbers: built.blockNumbers,
    picks,
  };
}

/** Writes a chunk, durable but not yet published. After an error nothing of it is left. */
export async function stageChunk(core: VolumeCore, chunk: PreparedChunk): Promise<StagedChunk> {
  const object = await core.store.stage(chunk.key, chunk.objectBytes);
  try {
    await object.append(chunk.parts);
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
