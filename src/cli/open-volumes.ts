/** The engine as `create`, `list`, `show` and `delete` use it. */
import { toVolumeError } from '../base/errors.ts';
import { workerEntry } from '../chunk/worker-entry.ts';
import { createJsonLogger, createNodeEnv } from '../env/node-env.ts';
import { VolumeSet } from '../volume/volume-set.ts';
import type { OpenVolumesOptions, Terminal, VolumeManager } from './context.ts';
import { remoteAccess } from './remote-access.ts';

/** Opens a directory of volumes. Warnings and errors of the engine go to standard error as JSON lines. */
export async function openVolumes(options: OpenVolumesOptions, terminal: Terminal): Promise<VolumeManager> {
  const { directory, settings, remote, makeDirectory = false } = options;
  const logger = createJsonLogger('warn', (line) => terminal.error(line));
  const env = createNodeEnv({ logger, workerEntry: workerEntry(), workerThreads: 1 });
  if (makeDirectory && !(await env.files.exists(directory))) {
    try {
      await env.files.makeDirectory(directory);
    } catch (error) {
      throw toVolumeError(error, `making the directory ${directory}`);
    }
  }
  return new VolumeSet({ env, directory, settings, ...(remote === undefined ? {} : { remotes: remoteAccess(env, remote) }) });
}
