/** Tables of the benchmark of volumes with a bucket. */
import { formatSize } from '../../src/base/units.ts';
import { median } from '../compare.ts';
import { renderTable } from '../report.ts';
import { CONTESTANTS, type Contestant, DEPTHS, type RandomRun } from './random-writes.ts';
import type { RequestsResult } from './requests.ts';
import type { StreamResult, StreamRound } from './stream.ts';

export interface S3BenchReport {
  readonly requests: RequestsResult | null;
  readonly streams: StreamResult | null;
  readonly random: readonly RandomRun[];
}

/** What must be reached. */
const FLOORS = { sdk: 0.8, s3backerStream: 4, local: 0.9, s3backerRandom: 20, putsPerGib: 300 } as const;

export function renderReport({ requests, streams, random }: S3BenchReport): string {
  const parts: string[] = [];
  if (requests !== null) parts.push(renderRequests(requests));
  if (streams !== null) parts.push(renderStreams(streams));
  if (random.length > 0) parts.push(renderRandom(random));
  return `${parts.join('\n\n')}\n`;
}

function counts(of: Readonly<Record<string, number>>): string {
  return Object.entries(of)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ');
}

function renderRequests({ userBytes, methods, puts, idleSeconds, idleRequests }: RequestsResult): string {
  const mostPuts = FLOORS.putsPerGib * Math.max(1, userBytes / 2 ** 30);
  const allPuts = methods.PUT ?? 0;
  return [
    `requests of ${formatSize(userBytes)} of random 4 KiB writes, drained (batched): ${counts(methods)}`,
    `  PUTs: ${allPuts} (${counts(puts)}), ${allPuts <= mostPuts ? 'ok' : 'ABOVE'} (<= ${mostPuts})`,
    `  ${idleSeconds} s of rest, the volume open: ${idleRequests.length} requests, ${idleRequests.length === 0 ? 'ok' : `ABOVE (0): ${idleRequests.slice(0, 5).join(', ')}`}`,
  ].join('\n');
}

/** `ok 0.91, 0.88 to 0.93 (>= 0.8)`. */
function verdict(ratios: readonly number[], floor: number): string {
  if (ratios.length === 0) return '';
  const middle = median(ratios);
  return `${middle >= floor ? 'ok' : 'BELOW'} ${middle.toFixed(2)}, ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)} (>= ${floor})`;
}

function renderStreams({ byteCount, concurrency, rounds }: StreamResult): string {
  const head = ['MB/s, median', 'basalt', 'bare SDK', 's3backer', '/ SDK', '/ s3backer'];
  const rows = (['write', 'read'] as const).map((direction) => {
    const speed = (of: keyof StreamRound): string => {
      const times = rounds.flatMap((round) => round[of]?.[direction] ?? []);
      return times.length === 0 ? '' : median(times.map((time) => byteCount / 1e6 / time)).toFixed(0);
    };
    const ratios = (of: 'sdk' | 's3backer'): number[] => rounds.flatMap((round) => (round[of] === null ? [] : [round[of][direction] / round.basalt[direction]]));
    return [`${direction} ${formatSize(byteCount)}`, speed('basalt'), speed('sdk'), speed('s3backer'), verdict(ratios('sdk'), FLOORS.sdk), verdict(ratios('s3backer'), FLOORS.s3backerStream)];
  });
  const legend =
    `Written: until all of it is in the bucket (basalt: drained; s3backer: unmounted). Read: from the bucket, nothing of it is here. ${concurrency} objects of 4 MiB at a time.\n` +
    'Ratios are medians of the rounds, each of which is measured side by side; behind them stand the lowest and the highest.';
  return `${renderTable([head, ...rows])}\n${legend}`;
}

function renderRandom(runs: readonly RandomRun[]): string {
  const present = CONTESTANTS.filter((contestant) => runs.some((run) => run.contestant === contestant));
  const marks: Readonly<Record<Contestant, string>> = { bucket: 's', local: 's', 's3backer, synced': 's', s3backer: 'v' };
  const head = ['IOPS, median', ...present.map((contestant) => (contestant === 'bucket' || contestant === 'local' ? `basalt (${contestant}, batched)` : contestant)), '/ local', '/ s3backer, synced', '/ s3backer'];
  const rows = DEPTHS.map((depth) => {
    const of = (contestant: Contestant): number[] => runs.filter((run) => run.contestant === contestant && run.depth === depth).map(({ iops }) => iops);
    const mine = of('bucket');
    const ratios = (contestant: Contestant): number[] => of(contestant).map((iops, round) => mine[round] / iops);
    return [
      `fsync-4k-q${depth}`,
      ...present.map((contestant) => `${Math.round(median(of(contestant)))} ${marks[contestant]}`),
      verdict(ratios('local'), FLOORS.local),
      verdict(ratios('s3backer, synced'), FLOORS.s3backerRandom),
      ratios('s3backer').length === 0 ? '' : median(ratios('s3backer')).toFixed(1),
    ];
  });
  return `${renderTable([head, ...rows])}\ns: what was flushed is on a disk, basalt's own or the S3 server's; v: in s3backer's memory, flushed or not. A flush after each write.`;
}
