/** The engine as `check`, `explain`, `repair` and `scrub` use it: volumes that nobody has open. */
import { VolumeError } from '../base/errors.ts';
import { workerEntry } from '../chunk/worker-entry.ts';
import { createJsonLogger, createNodeEnv } from '../env/node-env.ts';
import { type ToolOptions, checkVolume } from '../volume/check.ts';
import { checkRemote } from '../volume/check-remote.ts';
import { explainBlock } from '../volume/explain.ts';
import { repairVolume } from '../volume/repair.ts';
import { scrubClosed } from '../volume/scrub-closed.ts';
import { finishTakeovers } from '../volume/take-over.ts';
import { checkVolumeName } from '../volume/volume-name.ts';
import { holdsVolume, manifestPath } from '../volume/volume-files.ts';
import type { OpenVolumesOptions, Terminal, VolumeTools } from './context.ts';
import { remoteAccess } from './remote-access.ts';

export function openTools({ directory, settings, remote }: OpenVolumesOptions, terminal: Terminal): VolumeTools {
  const env = createNodeEnv({ logger: createJsonLogger('warn', (line) => terminal.error(line)), workerEntry: workerEntry(), workerThreads: 1 });
  const prepare = async (name: string, onProgress: ToolOptions['onProgress']): Promise<ToolOptions> => {
    checkVolumeName(name);
    const volume = `${directory}/${name}`;
    await finishTakeovers(env, directory).catch(() => undefined); // that the directory is not there is told below
    if (!(await holdsVolume(env.files, volume))) {
      throw new VolumeError('not-found', `there is no volume ${JSON.stringify(name)} in ${directory}: ${manifestPath(volume)} is missing; basalt list shows those that are there`, { context: { volume: name } });
    }
    return { env, name, directory: volume, settings, onProgress, ...(remote === undefined ? {} : { remotes: remoteAccess(env, remote) }) };
  };
  return {
    check: async (name, { deep, remote: isRemote }, onProgress) => (isRemote ? checkRemote : checkVolume)({ ...(await prepare(name, onProgress)), deep }),
    explain: async (name, { offsetBytes }, onProgress) => explainBlock({ ...(await prepare(name, onProgress)), offsetBytes }),
    repair: async (name, choice, onProgress) => repairVolume({ ...(await prepare(name, onProgress)), ...choice }),
    scrub: async (name, { bytesPerSecond }, onProgress) => scrubClosed({ ...(await prepare(name, onProgress)), bytesPerSecond: bytesPerSecond ?? settings.scrubBytesPerSecond, signal: new AbortController().signal }),
    close: () => env.workers.close(),
  };
}
