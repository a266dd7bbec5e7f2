/** Entry of the worker threads: one export a task. */
export { buildChunk, sortPicks } from './build-chunk.ts';
