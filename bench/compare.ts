/** Runs the same fio jobs against all servers in turn, for several rounds. */
import { join } from 'node:path';
import type { BenchOptions } from './options.ts';
import { execute, runFio, type FioResult } from './fio.ts';
import { guaranteeOf, TLS_JOBS, type Guarantee, type Job, type ServerName } from './jobs.ts';
import { processorSeconds } from './process-io.ts';
import { RunningServer } from './servers.ts';

export interface Measurement {
  readonly job: Job;
  readonly server: ServerName;
  readonly guarantee: Guarantee;
  /** One of each round. */
  readonly runs: readonly FioResult[];
  readonly iops: number;
  readonly latencyUs: number;
  readonly latencyUs99: number;
  /** The server's processor time for a request, without fio's. */
  readonly processorUs: number;
}

export interface CompareContext {
  readonly options: BenchOptions;
  readonly directory: string;
  readonly basaltEntry: string;
  readonly progress: (line: string) => void;
  /** Told of each server as it starts, so that an interrupted run stops it too. */
  readonly started: (server: RunningServer) => void;
}

const EXPORT_BYTES = 1024 ** 3;

/** One measurement of each job and server, in the order of jobs. All servers are stopped on return. */
export function compare(context: CompareContext): Promise<Measurement[]> {
  const { options, directory } = context;
  return compareServers(context, { jobs: options.jobs, names: ['basalt', ...options.peers], directory });
}

/** The same over TLS, with certificates that `basalt pki` makes, and the one peer that matters there. */
export async function compareTls(context: CompareContext): Promise<Measurement[]> {
  const { options, directory, basaltEntry } = context;
  const pkiDirectory = join(directory, 'pki');
  await execute(process.execPath, [basaltEntry, 'pki', pkiDirectory]);
  return compareServers(context, { jobs: TLS_JOBS, names: options.peers.length === 0 ? ['basalt'] : ['basalt', 'memory'], directory: join(directory, 'tls'), pkiDirectory });
}

interface Contest {
  readonly jobs: readonly Job[];
  readonly names: readonly ServerName[];
  readonly directory: string;
  readonly pkiDirectory?: string;
}

async function compareServers(context: CompareContext, contest: Contest): Promise<Measurement[]> {
  const { options } = context;
  const { jobs, names, directory, pkiDirectory } = contest;
  const servers: RunningServer[] = [];
  try {
    for (const name of names) {
      const server = await RunningServer.start({ ...serverOptions(context, name), directory: join(directory, name), ...(pkiDirectory === undefined ? {} : { pkiDirectory }) });
      servers.push(server);
      context.started(server);
    }
    for (const server of servers) await fill(context, server);
    for (const server of servers) server.pause();
    const runs = await runRounds(context, jobs, servers);
    return jobs.flatMap((job) => names.map((server) => summarize(job, server, options, runs)));
  } finally {
    for (const server of servers) await server.stop();
  }
}

/** What all servers of a run share. */
export function serverOptions(context: CompareContext, name: ServerName) {
  const { options, basaltEntry } = context;
  const serveOptions = options.settings.flatMap((setting) => ['--set', setting]);
  return { name, mode: options.mode, basaltEntry, serveOptions, sizeBytes: Math.max(EXPORT_BYTES, options.regionBytes) };
}

/** Writes the whole region once: a hole that was never written is read and overwritten at another price. */
export async function fill(context: CompareContext, server: RunningServer): Promise<void> {
  const { regionBytes } = context.options;
  const job = { pattern: 'write', requestBytes: 128 * 1024, depth: 16, flushEachWrite: false } as const;
  await runFio({ uri: server.uri, job, regionBytes, amount: { bytes: regionBytes }, reportPath: join(context.directory, 'fio.json') });
}

interface Run {
  readonly job: Job;
  readonly server: ServerName;
  readonly result: FioResult;
  readonly processorUs: number;
}

/**
 * Interleaved, so that a change in the machine's load meets all servers alike; each round begins with another
 * server, since what runs first finds the warmer processor. Servers that are not measured are stopped (SIGSTOP):
 * background work of one, such as basalt's chunks, must not be paid by the next.
 */
async function runRounds(context: CompareContext, jobs: readonly Job[], servers: readonly RunningServer[]): Promise<Run[]> {
  const { options } = context;
  const runs: Run[] = [];
  for (let round = 0; round < options.rounds; round += 1) {
    const first = round % servers.length;
    const order = [...servers.slice(first), ...servers.slice(0, first)];
    for (const job of jobs) {
      for (const server of order) {
        const run = await runOne(context, job, server);
        runs.push(run);
        context.progress(`round ${round + 1}/${options.rounds}  ${job.name}  ${server.name}  ${Math.round(run.result.iops)} IOPS`);
      }
    }
  }
  return runs;
}

/** One job on one of the servers, which is stopped (SIGSTOP) before and afterwards. `more`: options of fio. */
export async function runOne(context: CompareContext, job: Job, server: RunningServer, more: readonly string[] = []): Promise<Run> {
  const { regionBytes, seconds } = context.options;
  server.resume();
  try {
    const before = await processorSeconds(server.pid);
    const result = await runFio({ uri: server.uri, job, regionBytes, amount: { seconds }, reportPath: join(context.directory, 'fio.json'), more });
    const used = (await processorSeconds(server.pid)) - before;
    // fio counts from the end of its ramp, the processor from its start.
    const processorUs = (used / (result.seconds + 0.3)) * (1e6 / result.iops);
    return { job, server: server.name, result, processorUs };
  } finally {
    server.pause();
  }
}

function summarize(job: Job, server: ServerName, options: BenchOptions, runs: readonly Run[]): Measurement {
  const mine = runs.filter((run) => run.job === job && run.server === server);
  return {
    job,
    server,
    guarantee: guaranteeOf(job, server, options.mode),
    runs: mine.map((run) => run.result),
    iops: median(mine.map((run) => run.result.iops)),
    latencyUs: median(mine.map((run) => run.result.latencyUs)),
    latencyUs99: median(mine.map((run) => run.result.latencyUs99)),
    processorUs: median(mine.map((run) => run.processorUs)),
  };
}

/** The middle value, or the mean of the two in the middle. NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}
