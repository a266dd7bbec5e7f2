/** `basalt scrub` of a volume that nobody has open: the same as of one that is served, but that nothing is written anew. */
import { VolumeError } from '../base/errors.ts';
import { CHUNK_FOLDER, parseChunkName } from '../chunk/chunk-reader.ts';
import type { Manifest } from '../format/manifest.ts';
import type { BlockMap } from '../index/block-map.ts';
import { DirectoryStore } from '../store/directory-store.ts';
import { type ToolOptions, withLock } from './check.ts';
import { isStillAt } from './commit.ts';
import type { BadBlock, InspectedChunk } from './inspect-chunks.ts';
import { letGo, loadForReading } from './probe-volume.ts';
import { refuseShipped } from './remote-config.ts';
import { StillStructures } from './scrub-still.ts';
import { type ScrubOptions, allChunks, loadLeafOf, placeOf, scrub } from './scrub.ts';
import type { VolumeCore } from './volume-core.ts';
import { readManifest, refuseWhileRepairing } from './volume-files.ts';
import type { RottenPlace, ScrubReport } from './volume-info.ts';

/**
 * Scrubs a volume that nobody has open; nothing is changed. Errors: `not-found`, `in-use`, `unsupported`, `corrupt` for a manifest
 * that cannot be read, `closed` when it was ended early, `io-error` for a system that fails.
 */
export function scrubClosed(options: ToolOptions & ScrubOptions): Promise<ScrubReport> {
  return withLock(options, async () => {
    const { env, directory, name } = options;
    await refuseShipped(env.files, directory, name);
    await refuseWhileRepairing(env.files, directory, name);
    const manifest = await readManifest(env.files, directory);
    const store = new DirectoryStore(env.files, directory, 0);
    const listed = (await store.list(CHUNK_FOLDER)).flatMap((key) => parseChunkName(key) ?? []);
    const structures = new StillStructures(env.files, directory, manifest);
    const core = await loadIfSound(options, manifest);
    try {
      const judge = async (inspected: InspectedChunk): Promise<readonly RottenPlace[]> => {
        const { fault, chunk, badBlocks } = inspected;
        if (fault !== null) return [{ ...placeOf(inspected, { ...fault, blockNumber: null }), inUse: core === null ? null : (core.catalogue.get(chunk)?.liveBlocks ?? 0) > 0, rewritten: 0 }];
        const places: RottenPlace[] = [];
        for (const bad of badBlocks) places.push({ ...placeOf(inspected, bad), inUse: core === null ? null : await isMapped(core.map, chunk, bad), rewritten: 0 });
        return places;
      };
      const target = { name, clock: env.clock, store, manifest, structures, chunks: () => allChunks([...listed, ...structures.neededChunks]), judge };
      return await scrub({ ...target, workOfOthers: () => 0, isGone: () => false, check: () => undefined, note: () => undefined }, options);
    } finally {
      await letGo(core);
    }
  });
}

/** The volume's map and catalogue; null if the volume is damaged elsewhere, too, so that nobody can tell what is in use. */
async function loadIfSound(options: ToolOptions, manifest: Manifest): Promise<VolumeCore | null> {
  let core: VolumeCore | null = null;
  const made = (loaded: VolumeCore): void => {
    core = loaded;
  };
  try {
    return await loadForReading(options, manifest, made, () => Promise.resolve());
  } catch (error) {
    await letGo(core);
    if (error instanceof VolumeError && error.code === 'corrupt') return null;
    throw error;
  }
}

async function isMapped(map: BlockMap, chunk: number, { blockNumber, slot }: BadBlock): Promise<boolean | null> {
  const release = map.hold();
  try {
    return (await loadLeafOf(map, blockNumber)) ? isStillAt(map, blockNumber, chunk, slot) : null;
  } finally {
    release();
  }
}
