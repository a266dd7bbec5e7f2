/** Random 4 KiB writes with a flush after each: a volume with a bucket, one without, and s3backer, in turn; those that are not measured are stopped (SIGSTOP). */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { GIB, MIB } from '../../src/base/units.ts';
import { runFio } from '../fio.ts';
import { RunningServer } from '../servers.ts';
import { type S3BenchContext, urlOf } from './context.ts';
import { S3backer } from './s3backer.ts';

export const CONTESTANTS = ['bucket', 'local', 's3backer, synced', 's3backer'] as const;
export type Contestant = (typeof CONTESTANTS)[number];

export const DEPTHS = [1, 32] as const;

export interface RandomRun {
  readonly contestant: Contestant;
  readonly depth: number;
  readonly round: number;
  readonly iops: number;
  readonly latencyUs99: number;
}

interface Runner {
  readonly contestant: Contestant;
  readonly uri: string;
  /** All of the region is written already. */
  readonly isFilled?: boolean;
  readonly pause: () => void;
  readonly resume: () => void;
  readonly stop: () => Promise<void>;
}

const REGION_BYTES = 64 * MIB;
const VOLUME_BYTES = GIB;

export async function measureRandomWrites(context: S3BenchContext): Promise<RandomRun[]> {
  const runners: Runner[] = [await startVolume(context, 'bucket'), await startVolume(context, 'local')];
  if (context.options.withS3backer) runners.push(await startS3backer(context, true), await startS3backer(context, false));
  for (const runner of runners) {
    if (runner.isFilled !== true) await fill(context, runner);
    runner.pause();
  }
  const runs: RandomRun[] = [];
  const { rounds } = context.options;
  for (let round = 1; round <= rounds; round += 1) {
    const first = round % runners.length; // what runs first finds the warmer processor
    for (const depth of DEPTHS) {
      for (const runner of [...runners.slice(first), ...runners.slice(0, first)]) runs.push(await runOne(context, runner, depth, round));
    }
  }
  for (const { stop } of runners) await stop();
  return runs;
}

async function runOne(context: S3BenchContext, runner: Runner, depth: number, round: number): Promise<RandomRun> {
  const { rounds, seconds } = context.options;
  runner.resume();
  const { iops, latencyUs99 } = await write(context, runner, { pattern: 'randwrite', requestBytes: 4096, depth, flushEachWrite: true }, { seconds });
  runner.pause();
  context.progress(`random  round ${round}/${rounds}  fsync-4k-q${depth}  ${runner.contestant}  ${Math.round(iops)} IOPS`);
  return { contestant: runner.contestant, depth, round, iops, latencyUs99 };
}

async function fill(context: S3BenchContext, place: Pick<Runner, 'uri'>): Promise<void> {
  await write(context, place, { pattern: 'write', requestBytes: MIB, depth: 4, flushEachWrite: false }, { bytes: REGION_BYTES });
}

function write({ directory }: S3BenchContext, { uri }: Pick<Runner, 'uri'>, job: Parameters<typeof runFio>[0]['job'], amount: Parameters<typeof runFio>[0]['amount']): ReturnType<typeof runFio> {
  return runFio({ uri, job, regionBytes: REGION_BYTES, amount, reportPath: join(directory, 'fio.json') });
}

async function startVolume(context: S3BenchContext, contestant: 'bucket' | 'local'): Promise<Runner> {
  const { directory, basaltEntry, options, s3, credentialsFile } = context;
  const remote = ['--remote', urlOf('random'), '--endpoint', s3.endpoint, '--credentials', credentialsFile];
  const serveOptions = options.settings.flatMap((setting) => ['--set', setting]);
  const createFlags = contestant === 'bucket' ? remote : [];
  const server = await RunningServer.start({ name: 'basalt', directory: join(directory, contestant), sizeBytes: VOLUME_BYTES, mode: 'batched', basaltEntry, serveOptions, createFlags });
  context.started(() => server.stop());
  return { contestant, uri: server.uri, pause: () => server.pause(), resume: () => server.resume(), stop: () => server.stop() };
}

async function startS3backer(context: S3BenchContext, isSynced: boolean): Promise<Runner> {
  const contestant = isSynced ? 's3backer, synced' : 's3backer';
  const directory = join(context.directory, isSynced ? 's3backer-synced' : 's3backer-unsynced');
  await mkdir(directory, { recursive: true });
  const mount = async (mode: boolean): Promise<S3backer> => {
    const mounted = await S3backer.start({ s3: context.s3, directory, prefix: isSynced ? 'random-synced' : 'random-unsynced', sizeBytes: VOLUME_BYTES, isSynced: mode });
    context.started(() => mounted.end());
    return mounted;
  };
  if (isSynced) {
    // FUSE writes pages, and each would wait for its object: so it is filled without that.
    const unsynced = await mount(false);
    await fill(context, unsynced);
    await unsynced.stop();
  }
  const mounted = await mount(isSynced);
  return { contestant, uri: mounted.uri, isFilled: isSynced, pause: () => mounted.pause(), resume: () => mounted.resume(), stop: () => mounted.stop() };
}
