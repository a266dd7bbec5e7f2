/** `basalt stats [NAME]` */
import type { Argv, Options } from 'yargs';
import { VolumeError } from '../../base/errors.ts';
import { formatSize } from '../../base/units.ts';
import type { StatsAnswer, VolumeStatsAnswer } from '../../control/stats.ts';
import { UsageError, type CliContext, type RunningServer } from '../context.ts';
import { DATA_FLAG, JSON_FLAG } from '../flags.ts';
import { formatJson, formatTable, type Cell } from '../output.ts';
import { formatCount, formatLatency, operationsSince } from '../rates.ts';

const MIN_INTERVAL_S = 0.1;

function intervalOf(value: number | readonly number[]): number {
  if (typeof value === 'number' && value >= MIN_INTERVAL_S) return value;
  throw new UsageError(`interval ${String(value)}: give one number of seconds, ${MIN_INTERVAL_S} or more`, { flag: 'interval' });
}

function countOf(value: number | readonly number[]): number {
  if (typeof value === 'number' && value >= 1 && Number.isSafeInteger(value)) return value;
  throw new UsageError(`count ${String(value)}: give one whole number, 1 or more`, { flag: 'count' });
}

export const statsFlags = {
  watch: { type: 'boolean', default: false, describe: 'go on, with what happened since the report before; --json: one line each' },
  interval: { type: 'number', requiresArg: true, default: 1, coerce: intervalOf, describe: 'seconds between two reports' },
  count: { type: 'number', requiresArg: true, coerce: countOf, describe: 'end after so many reports' },
  data: DATA_FLAG,
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

/** The server whose statistics are asked for: nobody else has any. */
export async function serverOf(context: CliContext, directory: string): Promise<RunningServer> {
  const server = await context.findServer(directory);
  if (server !== null) return server;
  throw new VolumeError('not-found', `no server runs in ${directory}: statistics are what a server counts while it runs (basalt serve); basalt show says what is known without one`, { context: { directory } });
}

/** One look: of all volumes, or of one. */
interface Look {
  readonly atMs: number;
  readonly all: StatsAnswer;
  readonly volumes: readonly VolumeStatsAnswer[];
}

async function look(server: RunningServer, name: string | undefined): Promise<Look> {
  const one = name === undefined ? null : await server.volumeStats(name);
  const all = await server.stats();
  return { atMs: all.atMs, all, volumes: one === null ? all.volumes : [one] };
}

const HEADER = ['VOLUME', 'REQUESTS', 'COUNT', 'A SECOND', 'BYTES', 'BYTES A SECOND', 'ERRORS', 'P50', 'P99', 'P99.9'];

/** The requests since `before`; without it all there were, and no rates. */
function describeRequests({ volumes, atMs }: Look, before: Look | null): string {
  const seconds = before === null ? 0 : (atMs - before.atMs) / 1000;
  const rate = (amount: number, format: (rate: number) => string): string => (seconds > 0 ? format(amount / seconds) : '-');
  const rows = volumes.flatMap(({ name, requests }) => {
    const earlier = before?.volumes.find((volume) => volume.name === name)?.requests ?? null;
    return operationsSince(requests, earlier).map(({ operation, count, bytes, errors, p50Ms, p99Ms, p999Ms }): Cell[] => [
      name, operation, count, rate(count, formatCount), formatSize(bytes), rate(bytes, (perSecond) => formatSize(Math.round(perSecond))), errors, formatLatency(p50Ms), formatLatency(p99Ms), formatLatency(p999Ms),
    ]);
  });
  return rows.length === 0 ? 'no requests\n' : formatTable([HEADER, ...rows]);
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '-' : `${Math.round((100 * part) / whole)} %`;
}

/** What stands behind the requests of the volumes that are open. */
function describeVolumes(volumes: readonly VolumeStatsAnswer[]): string {
  const rows = volumes.flatMap(({ name, requests, live }): Cell[][] => {
    if (live === null) return [];
    const { stats, atRisk, wear } = live;
    const log = percent(stats.logFiles - stats.logFreeFiles, stats.logFiles);
    const state = live.failure !== null ? 'failed' : live.readOnly !== null ? 'read-only' : 'open';
    return [[name, state, requests?.clients ?? 0, requests?.inFlight ?? 0, requests?.throttled ?? 0, percent(stats.cacheHits, stats.cacheHits + stats.cacheMisses), stats.cacheEvictions, log, formatSize(atRisk.unsynced.bytes), formatSize(atRisk.unchunked.bytes), wear.factor === null ? '-' : wear.factor.toFixed(2)]];
  });
  return rows.length === 0 ? '' : formatTable([['VOLUME', 'STATE', 'CLIENTS', 'WAITING', 'THROTTLED', 'CACHE HITS', 'EVICTED', 'LOG IN USE', 'NOT SYNCED', 'NOT IN CHUNKS', 'WEAR'], ...rows]);
}

function describeMemory({ memory, connections, process }: StatsAnswer): string {
  const arena = `${formatSize(memory.dirtyBytes)} dirty and ${formatSize(memory.cachedBytes)} cached of ${formatSize(memory.arenaBytes)}`;
  return `${connections} ${connections === 1 ? 'connection' : 'connections'}; blocks: ${arena}; buffers: ${formatSize(memory.bufferBytes)}; replies: ${formatSize(memory.replyBytes)}; resident: ${formatSize(process.residentBytes)}\n`;
}

function describe(now: Look, before: Look | null): string {
  const behind = describeVolumes(now.volumes);
  return `${describeRequests(now, before)}${behind === '' ? '' : `\n${behind}`}\n${describeMemory(now.all)}`;
}

function asJson({ all, volumes }: Look, name: string | undefined, oneLine: boolean): string {
  const value = name === undefined ? all : volumes[0];
  return oneLine ? `${JSON.stringify(value)}\n` : formatJson(value);
}

export function addStats(program: Argv, context: CliContext): Argv {
  return program.command(
    'stats [name]',
    'requests, latencies, cache, log and memory of a running server',
    (verb) =>
      verb
        .positional('name', { type: 'string', describe: 'name of a volume; all of them without it' })
        .options(statsFlags)
        .example('$0 stats', 'all volumes, since the server began; latencies from the arrival of a request to its answer')
        .example('$0 stats demo --watch', 'once a second, what happened in that second')
        .example('$0 stats --json', 'everything that is counted; /metrics of the control socket has it for Prometheus'),
    async (parsed) => {
      if (!parsed.watch && parsed.count !== undefined) throw new UsageError('--count goes with --watch', { flag: 'count' });
      const server = await serverOf(context, parsed.data);
      const { name, json } = parsed;
      const reports = parsed.watch ? (parsed.count ?? Number.POSITIVE_INFINITY) : 1;
      let before: Look | null = null;
      for (let report = 0; report < reports; report += 1) {
        if (report > 0) await context.sleep(parsed.interval * 1000);
        const now = await look(server, name);
        context.terminal.out(json ? asJson(now, name, parsed.watch) : `${report > 0 ? '\n' : ''}${describe(now, before)}`);
        before = now;
      }
    },
  );
}
