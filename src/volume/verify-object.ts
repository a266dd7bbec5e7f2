/** Whether an object that is in memory whole is what was once written: asked before it is shipped, and of what comes from the bucket to be kept. */
import { VolumeError } from '../base/errors.ts';
import { CHUNK_FOLDER, parseChunkName } from '../chunk/chunk-reader.ts';
import type { Clock } from '../env/env.ts';
import type { Manifest } from '../format/manifest.ts';
import type { StoredObject } from '../store/object-store.ts';
import { inspectChunk } from './inspect-chunks.ts';

export interface VerifyOptions {
  readonly clock: Pick<Clock, 'yield'>;
  readonly manifest: Manifest;
}

/**
 * Checks header, tables, and each block of a chunk, with turns for others in between. Returns what is wrong, naming the object; null if nothing is. Null as well for a
 * checkpoint, whose pages are checked by what refers to them.
 */
export async function problemOf({ clock, manifest }: VerifyOptions, key: string, bytes: Uint8Array): Promise<string | null> {
  const name = key.startsWith(`${CHUNK_FOLDER}/`) ? parseChunkName(key.slice(CHUNK_FOLDER.length + 1)) : null;
  if (name === null) return null;
  const store = { open: () => Promise.resolve(objectOf(key, bytes)) };
  const { fault, badBlocks } = await inspectChunk({ store, manifest, deep: true, pace: () => clock.yield() }, name.chunk, name.epoch);
  if (fault !== null) return `${key}: ${fault.problem}${fault.offsetBytes === null ? '' : `, at byte ${fault.offsetBytes}`}`;
  const [first] = badBlocks;
  if (first === undefined) return null;
  return `${key}: block ${first.blockNumber}, at byte ${first.offsetBytes}: ${first.problem}${badBlocks.length === 1 ? '' : `, and ${badBlocks.length - 1} more`}`;
}

function objectOf(key: string, bytes: Uint8Array): StoredObject {
  return {
    sizeBytes: bytes.length,
    read: (target, offsetBytes) => {
      const end = offsetBytes + target.length;
      if (offsetBytes < 0 || end > bytes.length) return Promise.reject(new VolumeError('corrupt', `${key}: ends at byte ${bytes.length}, expected at least ${end}`));
      target.set(bytes.subarray(offsetBytes, end));
      return Promise.resolve();
    },
    close: () => Promise.resolve(),
  };
}
