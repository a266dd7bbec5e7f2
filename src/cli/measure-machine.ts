/** `basalt tune` on this machine: its disk, memory, processors and kernel. */
import { availableParallelism, release, totalmem } from 'node:os';
import { stat, statfs } from 'node:fs/promises';
import { VolumeError, systemCode, toVolumeError } from '../base/errors.ts';
import { formatSize } from '../base/units.ts';
import { workerEntry } from '../chunk/worker-entry.ts';
import { createNodeEnv } from '../env/node-env.ts';
import { MEASURED_BYTES_MAX, measureDisk } from '../volume/measure-disk.ts';
import type { OnProgress } from '../volume/volume-info.ts';
import type { Measured } from './choose-profile.ts';
import { readDeviceFacts } from './device-facts.ts';

/** A full disk is not filled for it: so much of what is free is left. */
const FREE_PART = 4;

async function checkSpace(directory: string): Promise<void> {
  let free: number;
  try {
    if (!(await stat(directory)).isDirectory()) throw new VolumeError('invalid-argument', `${directory} is no directory; name the one where volumes are, or will be`);
    const { bavail, bsize } = await statfs(directory);
    free = bavail * bsize;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') throw new VolumeError('not-found', `directory ${directory} is not there; make it, or name the one where volumes will be`, { cause: error });
    throw toVolumeError(error, `looking at ${directory}`);
  }
  if (free < FREE_PART * MEASURED_BYTES_MAX) throw new VolumeError('no-space', `measuring takes ${formatSize(MEASURED_BYTES_MAX)} for some seconds, and only ${formatSize(free)} are free in ${directory}; free ${formatSize(FREE_PART * MEASURED_BYTES_MAX)} first`);
}

/** Errors: `not-found`, `no-space`, `io-error`. */
export async function measureMachine(directory: string, onProgress: OnProgress): Promise<Measured> {
  await checkSpace(directory);
  const env = createNodeEnv({ logger: { log: () => undefined }, workerEntry: workerEntry(), workerThreads: 1 });
  try {
    const measurement = await measureDisk({ env, directory, onProgress });
    return { measurement, facts: await readDeviceFacts(directory), machine: { memoryBytes: totalmem(), processors: availableParallelism(), kernel: release() } };
  } finally {
    await env.workers.close();
  }
}
