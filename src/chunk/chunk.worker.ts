/** Entry of the worker threads: one export a task. */
import { type BuildChunkJob, type BuiltChunk, buildChunk as build } from './build-chunk.ts';

export function buildChunk(job: BuildChunkJob): BuiltChunk {
  return build(job);
}
