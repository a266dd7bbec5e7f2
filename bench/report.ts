/** Turns the measurements into a table for people and an object for machines. */
import type { Durability } from '../src/base/durability.ts';
import { formatSize, MIB } from '../src/base/units.ts';
import { median, type Measurement } from './compare.ts';
import { type CompressionResult, TEXT_PART_MAX } from './compression.ts';
import { GUARANTEE_MARKS, SERVER_TITLES, type Job, type Peer, type ServerName } from './jobs.ts';
import type { BytesResult, MemoryResult } from './scenarios.ts';

export interface BenchReport {
  readonly mode: Durability;
  readonly comparison: readonly Measurement[];
  /** Over TLS; of its peers only nbdkit memory. */
  readonly tls: readonly Measurement[];
  readonly compression: CompressionResult | null;
  readonly bytes: readonly BytesResult[];
  readonly memory: MemoryResult | null;
}

/** basalt's IOPS over a peer's in one job, round by round: what is measured seconds apart meets the same load of the machine. */
function roundRatios(comparison: readonly Measurement[], job: Job, peer: Peer): number[] {
  const mine = find(comparison, job, 'basalt')?.runs ?? [];
  const theirs = find(comparison, job, peer)?.runs ?? [];
  return mine.slice(0, theirs.length).map((run, round) => run.iops / theirs[round].iops);
}

/** The median of the rounds' ratios; null when one of the two was not measured. */
export function ratio(comparison: readonly Measurement[], job: Job, peer: Peer): number | null {
  const ratios = roundRatios(comparison, job, peer);
  return ratios.length === 0 ? null : median(ratios);
}

/** `ok 1.31, 1.10 to 1.40 (>= 1.2 x nbdkit file)`, `BELOW 0.70, ...`, or nothing where there is no floor or no figure. */
export function floorMark(comparison: readonly Measurement[], job: Job): string {
  if (job.floor === null) return '';
  const reached = ratio(comparison, job, job.floor.peer);
  if (reached === null) return '';
  const ratios = roundRatios(comparison, job, job.floor.peer);
  const range = `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`;
  const floor = `(>= ${job.floor.ratio} x ${SERVER_TITLES[job.floor.peer]})`;
  return `${reached >= job.floor.ratio ? 'ok' : 'BELOW'} ${reached.toFixed(2)}, ${range} ${floor}`;
}

export function renderReport(report: BenchReport): string {
  const parts = [];
  if (report.comparison.length > 0) parts.push(renderComparison(report));
  if (report.tls.length > 0) parts.push(`over TLS:\n${renderComparison({ ...report, comparison: report.tls })}`);
  if (report.compression !== null) parts.push(renderCompression(report.mode, report.compression));
  if (report.bytes.length > 0) parts.push(renderBytes(report));
  if (report.memory !== null) parts.push(renderMemory(report.memory));
  return `${parts.join('\n\n')}\n`;
}

function renderComparison({ mode, comparison }: BenchReport): string {
  const jobs = [...new Set(comparison.map((measurement) => measurement.job))];
  const servers = [...new Set(comparison.map((measurement) => measurement.server))];
  const peers = servers.filter((server) => server !== 'basalt');
  const head = [
    'IOPS, median',
    ...servers.map((server) => (server === 'basalt' ? `basalt (${mode})` : SERVER_TITLES[server])),
    ...peers.map((peer) => `/ ${peer}`),
    'cpu us',
    'p99 us',
    'floor',
  ];
  const rows = jobs.map((job) => {
    const mine = find(comparison, job, 'basalt');
    return [
      job.name,
      ...servers.map((server) => figure(find(comparison, job, server))),
      ...peers.map((peer) => ratio(comparison, job, peer)?.toFixed(2) ?? ''),
      mine?.processorUs.toFixed(1) ?? '',
      mine?.latencyUs99.toFixed(0) ?? '',
      floorMark(comparison, job),
    ];
  });
  const legend =
    's: synced to disk before the answer; u: handed to the kernel, unsynced (a power cut may take it);\n' +
    "v: volatile, in the process's memory; no mark: a read. cpu us: basalt's processor time for a request.\n" +
    'Ratios are medians of the rounds, each of which is measured side by side; behind a floor stand the lowest and the highest.';
  return `${renderTable([head, ...rows])}\n${legend}`;
}

function find(comparison: readonly Measurement[], job: Job, server: ServerName): Measurement | undefined {
  return comparison.find((measurement) => measurement.job === job && measurement.server === server);
}

function figure(measurement: Measurement | undefined): string {
  if (measurement === undefined) return '';
  return `${Math.round(measurement.iops)} ${GUARANTEE_MARKS[measurement.guarantee]}`;
}

function renderCompression(mode: Durability, { space, costs }: CompressionResult): string {
  const taken = space.map(({ name, userBytes, part }) => [name, formatSize(userBytes), part.toFixed(3), `${part <= TEXT_PART_MAX ? 'ok' : 'ABOVE'} (<= ${TEXT_PART_MAX})`]);
  const rows = costs.map(({ name, plainIops, packedIops, ratios, processorRatio, least }) => {
    const reached = median(ratios);
    const range = `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`;
    return [name, Math.round(plainIops).toString(), Math.round(packedIops).toString(), reached.toFixed(2), processorRatio.toFixed(2), `${reached >= least ? 'ok' : 'BELOW'} ${range} (>= ${least})`];
  });
  const spaceTable = renderTable([['in compressed chunks', 'user data', 'stored / user', 'limit'], ...taken]);
  const costTable = renderTable([[`compressed chunks (${mode})`, 'off', 'lz4', 'lz4 / off', 'cpu', 'floor'], ...rows]);
  return `${spaceTable}\n\n${costTable}\nRatios are medians of the rounds, each of which is measured side by side. cpu: the ratio of the servers' processor time for a request.`;
}

function renderBytes({ mode, bytes }: BenchReport): string {
  const head = [`bytes to disk (${mode})`, 'user data', 'at the end', 'settled', 'settled / user'];
  const rows = bytes.map((result) => [
    result.name,
    formatSize(result.userBytes),
    formatSize(result.diskBytesAtEnd),
    formatSize(result.diskBytesSettled),
    (result.diskBytesSettled / result.userBytes).toFixed(2),
  ]);
  return renderTable([head, ...rows]);
}

function renderMemory({ userBytes, peakBytes, limitBytes }: MemoryResult): string {
  const verdict = peakBytes < limitBytes ? 'ok' : 'ABOVE';
  const peak = Math.round(peakBytes / MIB);
  return `peak resident memory, ${formatSize(userBytes)} written to a 16 GiB volume: ${peak} MiB, ${verdict} (< ${limitBytes / MIB} MiB)`;
}

/** Columns padded to their widest cell: the first to the left, the others to the right. */
export function renderTable(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  const pad = (cell: string, column: number): string => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0));
  return rows.map((row) => row.map(pad).join('  ').trimEnd()).join('\n');
}
