/**
 * Deliberate breaks of invariants: small textual changes of the compiled engine, never of `src`. Each must be found by
 * simulated worlds within 500 seeds; one that survives says that the worlds, or their checks, have a gap.
 */
import type { Taste } from '../sim/plan.ts';

export interface Edit {
  /** Compiled file, below `src`. */
  readonly file: string;
  /** Must be there exactly once. */
  readonly find: string;
  readonly replace: string;
}

export interface Mutant {
  readonly name: string;
  /** The invariant of the design that it breaks. */
  readonly invariant: string;
  readonly edits: readonly Edit[];
  /** The kind of world in which the short test looks for it; `make mutants` takes all kinds as they come. `remote`: hosts that share a bucket. */
  readonly taste: Taste | 'remote';
  /** Seed with which the short test begins, where those before it took a minute and showed nothing; 1 where nothing is said. */
  readonly first?: number;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'the log is never synced',
    invariant: 'I1',
    taste: 'usual',
    edits: [
      { file: 'wal/log-writer.js', find: 'await files[index].sync();', replace: 'await Promise.resolve(index);' },
      { file: 'wal/log-writer.js', find: 'files[index].syncNow();', replace: 'void index;' },
    ],
  },
  {
    name: 'FUA is answered when it is written',
    invariant: 'I1',
    taste: 'usual',
    edits: [{ file: 'volume/volume.js', find: "else if (fua || this.#durability === 'strict')", replace: "else if (this.#durability === 'strict')" }],
  },
  {
    name: 'log space is used again before its records are in chunks',
    invariant: 'I6',
    taste: 'usual',
    edits: [{ file: 'wal/log-ring.js', find: 'life.lastLsn <= this.#chunkedLsn)', replace: 'life.lastLsn <= this.#chunkedLsn + 8)' }],
  },
  {
    name: 'chunks are published before they are durable',
    invariant: 'I6',
    taste: 'usual',
    edits: [{ file: 'store/directory-store.js', find: 'await this.#file.sync();', replace: 'await Promise.resolve();' }],
  },
  {
    name: 'a partial write merges into what a block once held',
    invariant: 'I8',
    taste: 'merging',
    edits: [{ file: 'volume/write-path.js', find: 'edge === undefined || edge.chunk !== map.foundChunk || edge.slot !== map.foundSlot', replace: 'edge === undefined' }],
  },
  {
    name: 'recovery ignores where the log was cut off',
    invariant: 'I2',
    taste: 'seam',
    edits: [{ file: 'wal/log-recovery.js', find: 'epoch < cut.epoch ? cut.lsn : Number.MAX_SAFE_INTEGER', replace: 'epoch < 0 ? cut.lsn : Number.MAX_SAFE_INTEGER' }],
  },
  {
    name: 'age makes nothing durable',
    invariant: 'I1',
    taste: 'idle',
    edits: [{ file: 'wal/log-writer.js', find: '        this.#syncRequested = true;\n        this.#pump();', replace: '        this.#pump();' }],
  },
  {
    name: 'a failed sync counts as done',
    invariant: 'I4',
    taste: 'failing',
    edits: [{ file: 'wal/log-writer.js', find: '    #syncFailed(cause) {', replace: '    #syncFailed(cause) {\n        if (cause !== undefined) return this.#synced(this.#writtenLsn);' }],
  },
  {
    name: 'what is found in the page cache counts as durable',
    invariant: 'I4',
    taste: 'failing',
    edits: [{ file: 'wal/log-rewrite.js', find: 'return this.#write(bytes.subarray(first, end), offsetBytes + first);', replace: 'return null;' }],
  },
  {
    name: 'compaction brings overwritten blocks back',
    invariant: 'I2',
    taste: 'usual',
    edits: [
      { file: 'volume/compactor.js', find: 'if (isStillAt(map, blockNumbers[index], chunks[index], slots[index]))', replace: 'if (index >= 0)' },
      { file: 'volume/compactor.js', find: 'assert(isStillAt(', replace: 'assert(map !== null || isStillAt(' },
    ],
  },
  {
    name: 'a merged slab does not say what has overwritten the rest of it',
    invariant: 'I2',
    taste: 'rewriting',
    edits: [{ file: 'volume/slab-merge.js', find: 'logBytes: first.logBytes, coverLsn };', replace: 'logBytes: first.logBytes, coverLsn: 0 };' }],
  },
  {
    name: 'a direct write forgets the records of the page in which it begins',
    invariant: 'I1',
    taste: 'usual',
    edits: [{ file: 'wal/direct-log.js', find: 'staging.copy(this.#tail, 0, used - rest, used);', replace: 'void rest;' }],
  },
  {
    name: 'a mapped log copies behind the end of its file',
    invariant: 'I1',
    taste: 'usual',
    edits: [{ file: 'wal/mapped-log.js', find: 'endOf(parts, offsetBytes) <= this.#wholeBytes', replace: 'parts.length > 0' }],
  },
  {
    name: 'the mark says more than was synced',
    invariant: 'I2',
    taste: 'usual',
    edits: [{ file: 'wal/mark-writer.js', find: 'this.#lsn = lsn;', replace: 'this.#lsn = lsn + 1;' }],
  },
  {
    name: 'a block of a compressed frame is taken from its beginning',
    invariant: 'I3',
    taste: 'usual',
    edits: [{ file: 'chunk/stored-blocks.js', find: 'plain.subarray(start, start + blockSizeBytes)', replace: 'plain.subarray(0, start - start + blockSizeBytes)' }],
  },
  {
    name: 'a frame is kept in the memory that it was decoded into',
    invariant: 'I3',
    taste: 'uniform',
    edits: [{ file: 'chunk/frame-reader.js', find: 'endBytes: frame.plainBytes }).slice()', replace: 'endBytes: frame.plainBytes })' }],
  },
  {
    name: 'a scrub does not compare checksums',
    invariant: 'I3',
    taste: 'usual',
    edits: [{ file: 'volume/inspect-chunks.js', find: 'return computed === expected ? null :', replace: 'return computed >= 0 ? null :' }],
  },
  {
    name: 'a page of a checkpoint is not compared with its checksum',
    invariant: 'I3',
    taste: 'usual',
    edits: [{ file: 'format/checkpoint-layout.js', find: 'computed !== reference.checksum', replace: 'computed < 0' }],
  },
  {
    name: 'memory at rest is given back with the cache in it',
    invariant: 'I3',
    taste: 'idle',
    edits: [
      { file: 'base/arena.js', find: 'this.#free.find(({ isGivenBack }) => !isGivenBack)', replace: "this.slabs.find(({ isGivenBack, state }) => !isGivenBack && state !== 'dirty')" },
      { file: 'base/arena.js', find: "assert(slab.state === 'free' && slab.pins === 0,", replace: 'assert(true,' },
    ],
  },
];
