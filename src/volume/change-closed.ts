/** Changing a volume that nobody has open, where that needs no opening. */
import { VolumeError } from '../base/errors.ts';
import type { LoadOptions } from './load-stored.ts';
import { readRemoteConfig } from './remote-config.ts';
import { lockVolume } from './volume-files.ts';

/**
 * Runs `change` under the lock of a volume that nobody in this process has open. False: nothing was done, it has to be opened for that. Errors:
 * `in-use` (another process has it open), and those of `change`.
 */
export async function changeClosed(options: LoadOptions, change: (options: LoadOptions) => Promise<void>): Promise<boolean> {
  const { env, directory, name } = options;
  const lock = await lockVolume(env, directory);
  if (lock === null) throw new VolumeError('in-use', `volume ${name} is open in another process; change it there, or stop that first`);
  try {
    // A new manifest is a new epoch, of which its bucket has to know.
    if ((await readRemoteConfig(env.files, directory)) !== null) return false;
    await change(options);
    return true;
  } finally {
    await lock.release();
  }
}
