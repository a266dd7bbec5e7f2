/** Changing whether new chunks are compressed. Those that are there say for themselves how they are stored, and stay until compaction rewrites them. */
import type { VolumeCompression } from '../base/compression.ts';
import { toVolumeError } from '../base/errors.ts';
import { type Turn, inTurn, replaceManifest } from './change-durability.ts';
import type { LoadOptions } from './load-stored.ts';
import { letGo, loadForReading } from './probe-volume.ts';
import type { VolumeCore } from './volume-core.ts';
import { readManifest, refuseWhileRepairing, withAdvice, writeManifest } from './volume-files.ts';

/**
 * Changes an open volume. On return the manifest says it durably, and it holds for every chunk that is begun from now on. Errors: what `check` throws;
 * `no-space`: nothing was changed; `io-error`: the volume takes no more writes.
 */
export async function changeCompression(turn: Turn, compression: VolumeCompression): Promise<void> {
  const { core } = turn;
  await inTurn(turn, async () => {
    if (core.manifest.compression !== compression) await replaceManifest(core, { ...core.manifest, compression });
  });
}

/**
 * Changes a volume that nobody has open; the caller holds its lock. One that its opening would refuse is not changed either: its manifest may be
 * an old one, and the copy of the manifest, which is written along, the better of the two. Errors: `corrupt`, `no-space`, `io-error`, `failed`.
 */
export async function changeCompressionOffline(options: LoadOptions, compression: VolumeCompression): Promise<void> {
  const { env, directory, name } = options;
  await refuseWhileRepairing(env.files, directory, name);
  const manifest = await readManifest(env.files, directory);
  let core: VolumeCore | null = null;
  const made = (loaded: VolumeCore): void => {
    core = loaded;
  };
  try {
    await loadForReading(options, manifest, made, () => Promise.resolve());
  } catch (error) {
    throw withAdvice(toVolumeError(error, `looking at volume ${name}`), name);
  } finally {
    await letGo(core);
  }
  if (manifest.compression !== compression) await writeManifest(env, directory, { ...manifest, compression });
}
