/** basalt's own engine in simulated worlds. */
import { BUILD_CHUNK_TASK, type BuildChunkJob, SORT_PICKS_TASK, type SortPicksJob, buildChunk, sortPicks } from '../../src/chunk/build-chunk.ts';
import { checkVolume } from '../../src/volume/check.ts';
import { createVolume } from '../../src/volume/create-volume.ts';
import { openForServing } from '../../src/volume/open-read-only.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import { checkFiles } from './checks.ts';
import type { SimEngine } from './engine.ts';
import type { WorkerTask } from './env.ts';

function isBuildChunkJob(job: unknown): job is BuildChunkJob {
  return typeof job === 'object' && job !== null && 'identity' in job && 'sources' in job && 'picks' in job && 'ranges' in job && 'vainTries' in job;
}

function isSortPicksJob(job: unknown): job is SortPicksJob {
  return typeof job === 'object' && job !== null && 'blockNumbers' in job && 'picks' in job;
}

export const realEngine: SimEngine = {
  tasks: new Map<string, WorkerTask>([
    [
      SORT_PICKS_TASK,
      (job) => {
        if (!isSortPicksJob(job)) throw new TypeError('this is no job for the sorter of picks');
        return sortPicks(job);
      },
    ],
    [
      BUILD_CHUNK_TASK,
      (job) => {
        if (!isBuildChunkJob(job)) throw new TypeError('this is no job for the chunk builder');
        return buildChunk(job);
      },
    ],
  ]),
  create: ({ env, directory, settings }, create) => createVolume({ env, directory, settings, create }),
  open: ({ env, directory, settings, arena }, observer) => openVolume({ env, directory, settings, arena, observer }),
  serve: ({ env, directory, settings, arena }, observer) => openForServing({ env, directory, name: directory.slice(directory.lastIndexOf('/') + 1), settings, arena, observer }),
  checkFiles: (disk, { directory, settings }) => checkFiles(disk, directory, settings),
  inspect: async ({ env, directory, settings }) => {
    const { findings } = await checkVolume({ env, name: directory, directory, settings, onProgress: () => undefined, deep: true });
    return findings.map(({ file, problem }) => `${file}: ${problem}`);
  },
};
