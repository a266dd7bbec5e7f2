/** Starts the shipping of a volume that was just recovered. */
import { parseChunkName } from '../chunk/chunk-reader.ts';
import type { AttachedRemote } from './attach-remote.ts';
import type { Checkpointer } from './checkpointer.ts';
import { Shipper } from './shipper.ts';
import type { VolumeCore } from './volume-core.ts';

const chunkOf = (key: string): number | null => parseChunkName(key.slice(key.indexOf('/') + 1))?.chunk ?? null;

export async function shipFrom(core: VolumeCore, { access, store, remote, ownership, base }: AttachedRemote, checkpointer: Checkpointer): Promise<void> {
  // Behind the checkpoint chunks are what the volume is recovered from.
  store.mayEvict = (key) => (chunkOf(key) ?? Number.MAX_SAFE_INTEGER) <= core.manifest.checkpoint.lastChunk;
  store.onEvict = (key) => {
    const chunk = chunkOf(key);
    if (chunk !== null) void core.reader.forget(chunk);
  };
  const { shipConcurrency, retryMs } = access.settings;
  core.shipper = new Shipper({
    env: core.env,
    volume: core.name,
    store,
    remote,
    ownership,
    concurrency: shipConcurrency,
    retryMs,
    // All that was recovered is the volume's: we were its last writer.
    fenceChunk: core.lastChunk,
    base,
    fenced: (error) => core.fail(error),
  });
  const { checkpoint } = core.manifest;
  if (checkpoint.number > 0 && (checkpoint.number !== base.checkpoint.number || checkpoint.epoch !== base.checkpoint.epoch)) await core.shipper.checkpointed(checkpointer.rootObjects(false));
}
