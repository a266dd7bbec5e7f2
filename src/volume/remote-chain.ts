/**
 * Which of the chunks that a bucket has behind a root's checkpoint belong to the volume: the longest unbroken chain of whole sets, each naming the last
 * chunk before it. A writer that had lost its epoch may have put sets of its own beside it, at any later time: where two follow one chunk the one of
 * the later epoch was put by somebody who looked after its claim and did not see the other; and no epoch follows a later one.
 */
import { chunkKey, parseChunkName } from '../chunk/chunk-reader.ts';
import { CHUNK_HEADER_BYTES, type ChunkIdentity, decodeChunkHeader } from '../format/chunk-layout.ts';
import type { CheckpointReference, Manifest } from '../format/manifest.ts';
import { forEachLimited } from '../base/async.ts';
import type { OnProgress } from './volume-info.ts';

export interface RemoteChain {
  /** Keys of the chunks of the chain, in order. */
  readonly keys: readonly string[];
  /** Number of its last chunk; that of the checkpoint if there is none behind it. */
  readonly lastChunk: number;
  readonly lastLsn: number;
}

interface FoundSet {
  readonly lastLsn: number;
  readonly firstChunk: number;
  readonly epoch: number;
  readonly previousChunk: number;
  readonly parts: number;
  readonly found: Set<number>;
}

const READS_AT_ONCE = 16;

/** A bit that flips on the way does not flip again and again. */
const HEADER_READS_MAX = 3;

/**
 * Errors: `corrupt` for a chunk whose header is damaged, and those of `readHeader`, which fills `target` with an object's first bytes; `isAgain`: those that
 * it gave last are damaged. Nothing behind `endChunk` is looked at.
 */
export async function readRemoteChain(
  { volumeId, blockSizeBytes, checkpoint }: Pick<Manifest, 'volumeId' | 'blockSizeBytes' | 'checkpoint'>,
  keys: Iterable<string>,
  readHeader: (key: string, target: Uint8Array, isAgain: boolean) => Promise<void>,
  onProgress: OnProgress,
  endChunk = Number.POSITIVE_INFINITY,
): Promise<RemoteChain> {
  const newer: { readonly chunk: number; readonly epoch: number }[] = [];
  for (const key of keys) {
    const parsed = parseChunkName(key.slice(key.indexOf('/') + 1));
    if (parsed !== null && parsed.chunk > checkpoint.lastChunk && parsed.chunk <= endChunk) newer.push(parsed);
  }
  const sets = new Map<string, FoundSet>();
  let done = 0;
  await forEachLimited(newer, READS_AT_ONCE, async ({ chunk, epoch }) => {
    const key = chunkKey(epoch, chunk);
    const header = new Uint8Array(CHUNK_HEADER_BYTES);
    for (let attempt = 1; ; attempt += 1) {
      await readHeader(key, header, attempt > 1);
      try {
        add(sets, decodeChunkHeader(header, { volumeId, blockSizeBytes, chunkNumber: chunk }, key));
        break;
      } catch (error) {
        if (attempt === HEADER_READS_MAX) throw error;
      }
    }
    done += 1;
    onProgress({ task: 'headers of chunks', done, total: newer.length });
  });
  return walk([...sets.values()], checkpoint);
}

function add(sets: Map<string, FoundSet>, { epoch, chunkNumber, part, parts, previousChunk, lastLsn }: ChunkIdentity): void {
  const firstChunk = chunkNumber - part + 1;
  const name = `${epoch}:${firstChunk}`;
  const set = sets.get(name) ?? { firstChunk, epoch, previousChunk, parts, lastLsn, found: new Set<number>() };
  sets.set(name, set);
  set.found.add(part);
}

function walk(sets: readonly FoundSet[], checkpoint: CheckpointReference): RemoteChain {
  const keys: string[] = [];
  let { lastChunk, lastLsn, epoch: lastEpoch } = checkpoint;
  for (;;) {
    const after = lastChunk;
    const least = lastEpoch;
    const next = sets
      .filter((set) => set.previousChunk === after && set.firstChunk > after && set.epoch >= least && set.found.size === set.parts)
      .toSorted((a, b) => a.epoch - b.epoch)
      .at(-1);
    if (next === undefined) return { keys, lastChunk, lastLsn };
    for (let part = 0; part < next.parts; part += 1) keys.push(chunkKey(next.epoch, next.firstChunk + part));
    lastChunk = next.firstChunk + next.parts - 1;
    lastEpoch = next.epoch;
    lastLsn = next.lastLsn;
  }
}
