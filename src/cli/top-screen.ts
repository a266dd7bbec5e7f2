/** One picture of a server at work, for a terminal of some width: what does not fit is left out, the least important first. */
import type { Operation } from '../base/request-stats.ts';
import { formatSize } from '../base/units.ts';
import type { StatsAnswer, VolumeStatsAnswer } from '../control/stats.ts';
import { formatTable, type Cell } from './output.ts';
import { formatCount, formatLatency, operationsSince, type OperationRate } from './rates.ts';

const BAR_CELLS = 24;

/** A volume within the time between two looks. */
interface Row {
  readonly volume: VolumeStatsAnswer;
  readonly seconds: number;
  readonly rates: ReadonlyMap<Operation, OperationRate>;
}

interface Column {
  readonly title: string;
  /** Columns with a higher number go first when there is no room. */
  readonly rank: number;
  readonly value: (row: Row) => Cell;
}

const aSecond = ({ seconds, rates }: Row, operation: Operation): string => formatCount((rates.get(operation)?.count ?? 0) / seconds);
const bytesASecond = ({ seconds, rates }: Row, operation: Operation): string => formatSize(Math.round((rates.get(operation)?.bytes ?? 0) / seconds));
const latency = ({ rates }: Row, operation: Operation, key: 'p50Ms' | 'p99Ms' | 'p999Ms'): string => formatLatency(rates.get(operation)?.[key] ?? null);

function ofLive(format: (live: NonNullable<VolumeStatsAnswer['live']>) => Cell): (row: Row) => Cell {
  return ({ volume: { live } }) => (live === null ? '-' : format(live));
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '-' : `${Math.round((100 * part) / whole)}%`;
}

/** In the order in which they stand. */
const COLUMNS: readonly Column[] = [
  { title: 'READ/S', rank: 0, value: (row) => aSecond(row, 'read') },
  { title: 'BYTES/S', rank: 1, value: (row) => bytesASecond(row, 'read') },
  { title: 'P50', rank: 7, value: (row) => latency(row, 'read', 'p50Ms') },
  { title: 'P99', rank: 2, value: (row) => latency(row, 'read', 'p99Ms') },
  { title: 'P99.9', rank: 9, value: (row) => latency(row, 'read', 'p999Ms') },
  { title: 'WRITE/S', rank: 0, value: (row) => aSecond(row, 'write') },
  { title: 'BYTES/S', rank: 1, value: (row) => bytesASecond(row, 'write') },
  { title: 'P50', rank: 7, value: (row) => latency(row, 'write', 'p50Ms') },
  { title: 'P99', rank: 2, value: (row) => latency(row, 'write', 'p99Ms') },
  { title: 'P99.9', rank: 9, value: (row) => latency(row, 'write', 'p999Ms') },
  { title: 'FLUSH/S', rank: 6, value: (row) => aSecond(row, 'flush') },
  { title: 'P99', rank: 3, value: (row) => latency(row, 'flush', 'p99Ms') },
  { title: 'ERRORS', rank: 6, value: ({ rates }) => [...rates.values()].reduce((sum, { errors }) => sum + errors, 0) },
  { title: 'CLIENTS', rank: 8, value: ({ volume }) => volume.requests?.clients ?? 0 },
  { title: 'WAIT', rank: 4, value: ({ volume }) => volume.requests?.inFlight ?? 0 },
  { title: 'HITS', rank: 5, value: ofLive(({ stats }) => percent(stats.cacheHits, stats.cacheHits + stats.cacheMisses)) },
  { title: 'LOG', rank: 4, value: ofLive(({ stats }) => percent(stats.logFiles - stats.logFreeFiles, stats.logFiles)) },
  { title: 'NOT SYNCED', rank: 6, value: ofLive(({ atRisk }) => formatSize(atRisk.unsynced.bytes)) },
  { title: 'WEAR', rank: 8, value: ofLive(({ wear }) => (wear.factor === null ? '-' : wear.factor.toFixed(2))) },
];

const MAX_RANK = Math.max(...COLUMNS.map(({ rank }) => rank));
const NAME_MAX = 24;

function table(rows: readonly Row[], columns: number): string {
  for (let rank = MAX_RANK; ; rank -= 1) {
    const shown = COLUMNS.filter((column) => column.rank <= rank);
    const cells = rows.map((row): Cell[] => [shortName(row.volume.name), ...shown.map(({ value }) => value(row))]);
    const text = formatTable([['VOLUME', ...shown.map(({ title }) => title)], ...cells]);
    if (rank === 0 || text.split('\n').every((line) => line.length <= columns)) return text;
  }
}

function shortName(name: string): string {
  return name.length <= NAME_MAX ? name : `${name.slice(0, NAME_MAX - 1)}~`;
}

function bar(part: number, other: number, whole: number): string {
  const cells = (bytes: number): number => Math.round((bytes / whole) * BAR_CELLS);
  const dirty = cells(part);
  const cached = Math.min(cells(other), BAR_CELLS - dirty);
  return `[${'#'.repeat(dirty)}${'='.repeat(cached)}${'.'.repeat(BAR_CELLS - dirty - cached)}]`;
}

/** Why it takes no writes, where it should. */
function troubleOf({ failure, readOnly, following }: NonNullable<VolumeStatsAnswer['live']>): readonly string[] {
  const trouble = failure ?? (following === null ? readOnly : following.trouble);
  return trouble === null ? [] : [trouble];
}

/** Lines, none longer than `columns`, at most `rows` of them. The times of `before` and `now` differ. */
export function drawScreen(now: StatsAnswer, before: StatsAnswer, { columns, rows }: { readonly columns: number; readonly rows: number }): string[] {
  const seconds = (now.atMs - before.atMs) / 1000;
  const cpu = now.process.userCpuMs + now.process.systemCpuMs - before.process.userCpuMs - before.process.systemCpuMs;
  const { memory } = now;
  const volumes = now.volumes.map((volume): Row => {
    const earlier = before.volumes.find(({ name }) => name === volume.name)?.requests ?? null;
    return { volume, seconds, rates: new Map(operationsSince(volume.requests, earlier).map((rate) => [rate.operation, rate])) };
  });
  const lines = [
    `basalt: ${now.volumes.length} ${now.volumes.length === 1 ? 'volume' : 'volumes'}, ${now.connections} ${now.connections === 1 ? 'connection' : 'connections'}, processor ${Math.round(cpu / seconds / 10)} %, resident ${formatSize(now.process.residentBytes)}`,
    `blocks ${bar(memory.dirtyBytes, memory.cachedBytes, memory.arenaBytes)} ${formatSize(memory.dirtyBytes)} dirty, ${formatSize(memory.cachedBytes)} cached`,
    '',
    ...table(volumes, columns).trimEnd().split('\n'),
    ...volumes.flatMap(({ volume: { name, live } }) => (live === null ? [] : troubleOf(live).map((trouble) => `${name}: ${trouble}`))),
  ];
  return lines.slice(0, rows).map((line) => (line.length <= columns ? line : `${line.slice(0, columns - 1)}~`));
}
