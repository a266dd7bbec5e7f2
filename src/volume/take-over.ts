/** Taking a volume back from another host: the directory that is here gives way to what its bucket has. */
import { VolumeError } from '../base/errors.ts';
import type { EngineSettings } from '../base/settings-types.ts';
import type { Env } from '../env/env.ts';
import type { RemoteAccess } from './attach-remote.ts';
import { readRemoteConfig } from './remote-config.ts';
import { type Restored, restoreVolume } from './restore-volume.ts';
import { lockVolume, readManifest } from './volume-files.ts';
import type { OnProgress } from './volume-info.ts';

export interface TakeOverOptions {
  readonly env: Env;
  /** The directory of the volumes, and the volume's name there. */
  readonly parent: string;
  readonly name: string;
  readonly settings: EngineSettings;
  readonly access: RemoteAccess;
  readonly isForced: boolean;
  readonly onProgress: OnProgress;
}

/** What was here is kept, under the name `keptAs`. Nobody in this process has the volume open. Errors: as `restoreVolume`; `in-use`, `unsupported`, `already-exists`. */
export async function takeOverVolume({ env, parent, name, ...options }: TakeOverOptions): Promise<Restored & { readonly keptAs: string }> {
  const { files } = env;
  const directory = `${parent}/${name}`;
  const config = await readRemoteConfig(files, directory);
  if (config === null) throw new VolumeError('unsupported', `volume ${name} has no bucket: nobody else can have it`);
  const lock = await lockVolume(env, directory);
  if (lock === null) throw new VolumeError('in-use', `volume ${name} is open in another process; stop that first`);
  try {
    const { epoch } = await readManifest(files, directory);
    const keptAs = `${name}.before-e${epoch}`;
    const staged = `${directory}.taking-over`;
    if (await files.exists(`${parent}/${keptAs}`)) throw new VolumeError('already-exists', `${parent}/${keptAs} exists already; it is what an earlier takeover has kept. Move it away and try again`);
    const restored = await restoreVolume({ env, directory: staged, config, ...options });
    await files.rename(directory, `${parent}/${keptAs}`);
    await files.rename(staged, directory);
    await files.syncDirectory(parent);
    return { ...restored, keptAs };
  } finally {
    await lock.release();
  }
}
