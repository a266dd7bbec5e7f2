/** Runs each job against a basalt of its own under node's sampling profiler, and lists where its time went. */
import { mkdir, readdir, readFile, rename } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fill, serverOptions, type CompareContext } from './compare.ts';
import { runFio } from './fio.ts';
import type { Job } from './jobs.ts';
import { listAt, member, numberAt } from './json.ts';
import { RunningServer } from './servers.ts';
import { renderTable } from './report.ts';

export interface HotSpot {
  readonly place: string;
  readonly selfMs: number;
  readonly share: number;
}

const HOT_SPOTS_SHOWN = 25;

/** Leaves `JOB.cpuprofile` in `directory` for each job, and prints the functions with the most time of their own. */
export async function profileJobs(context: CompareContext, directory: string): Promise<void> {
  const target = resolve(directory);
  await mkdir(target, { recursive: true });
  for (const job of context.options.jobs) {
    const iops = await profileJob(context, job, target);
    const hotSpots = summarizeProfile(JSON.parse(await readFile(join(target, `${job.name}.cpuprofile`), 'utf8')));
    const rows = hotSpots.slice(0, HOT_SPOTS_SHOWN).map((spot) => [spot.place, spot.selfMs.toFixed(0), `${(spot.share * 100).toFixed(1)} %`]);
    process.stdout.write(`\n${renderTable([[`${job.name} (${context.options.mode}): ${Math.round(iops)} IOPS`, 'self ms', 'share'], ...rows])}\n`);
  }
}

async function profileJob(context: CompareContext, job: Job, target: string): Promise<number> {
  const { regionBytes, seconds } = context.options;
  const raw = join(target, 'raw');
  const nodeOptions = ['--cpu-prof', `--cpu-prof-dir=${raw}`, '--cpu-prof-interval=200'];
  const server = await RunningServer.start({ ...serverOptions(context, 'basalt'), directory: join(context.directory, job.name), nodeOptions });
  context.started(server);
  let iops = 0;
  try {
    await fill(context, server);
    const reportPath = join(context.directory, 'fio.json');
    iops = (await runFio({ uri: server.uri, job, regionBytes, amount: { seconds }, reportPath })).iops;
  } finally {
    await server.stop();
  }
  await keepMainThread(raw, join(target, `${job.name}.cpuprofile`), server.pid);
  return iops;
}

/** Node writes one profile a thread, `CPU.date.time.pid.thread.number.cpuprofile`; the main thread is 0. */
async function keepMainThread(raw: string, target: string, pid: number): Promise<void> {
  const name = (await readdir(raw)).find((candidate) => candidate.includes(`.${pid}.0.`));
  if (name === undefined) throw new Error(`node left no profile of process ${pid} in ${raw}`);
  await rename(join(raw, name), target);
}

/** Self time by function of a V8 profile, the longest first; idle time is left out of the list and of the shares. */
export function summarizeProfile(profile: unknown): HotSpot[] {
  const { nodes, samples, timeDeltas } = decodeProfile(profile);
  const places = new Map(nodes.map((node) => [node.id, placeOf(node)]));
  const selfUs = new Map<string, number>();
  for (const [index, id] of samples.entries()) {
    const place = places.get(id) ?? '(unknown)';
    if (place === '(idle)' || place === '(program)') continue;
    selfUs.set(place, (selfUs.get(place) ?? 0) + (timeDeltas[index] ?? 0));
  }
  const total = [...selfUs.values()].reduce((sum, value) => sum + value, 0);
  return [...selfUs]
    .map(([place, micros]) => ({ place, selfMs: micros / 1000, share: micros / total }))
    .toSorted((left, right) => right.selfMs - left.selfMs);
}

interface ProfileNode {
  readonly id: number;
  readonly functionName: string;
  readonly url: string;
  readonly line: number;
}

function placeOf(node: ProfileNode): string {
  const name = node.functionName === '' ? '(anonymous)' : node.functionName;
  if (node.url === '') return name;
  const file = node.url.replace(/^.*\/dist\//, '').replace(/^.*\/node_modules\//, '');
  return `${name} ${file}:${node.line + 1}`;
}

function decodeProfile(profile: unknown): { nodes: ProfileNode[]; samples: number[]; timeDeltas: number[] } {
  const nodes = listAt(profile, 'nodes').map((node): ProfileNode => {
    const frame = member(node, 'callFrame');
    return {
      id: numberAt(node, ['id']),
      functionName: String(member(frame, 'functionName')),
      url: String(member(frame, 'url')),
      line: numberAt(frame, ['lineNumber']),
    };
  });
  return { nodes, samples: listAt(profile, 'samples').map(Number), timeDeltas: listAt(profile, 'timeDeltas').map(Number) };
}
