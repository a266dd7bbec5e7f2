/** Runs fio with its NBD engine and decodes its report. */
import { spawn } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import type { Job } from './jobs.ts';
import { listAt, member, numberAt } from './json.ts';

export interface FioResult {
  readonly iops: number;
  readonly bytes: number;
  readonly requests: number;
  readonly seconds: number;
  /** Mean and 99th percentile of completion, microseconds. */
  readonly latencyUs: number;
  readonly latencyUs99: number;
}

/** How much a run does: for a time, or until so many bytes have been transferred. */
export type Amount = { readonly seconds: number } | { readonly bytes: number };

export interface FioRun {
  readonly uri: string;
  readonly job: Pick<Job, 'pattern' | 'requestBytes' | 'depth' | 'flushEachWrite'>;
  /** The run stays within the first `regionBytes` of the export. */
  readonly regionBytes: number;
  readonly amount: Amount;
  /** Where fio may leave its report; it is read and removed. */
  readonly reportPath: string;
  /** More of fio's options: what the data is like. */
  readonly more?: readonly string[];
}

/** Rejects when fio fails, with the end of what it said. */
export async function runFio(run: FioRun): Promise<FioResult> {
  await execute('fio', argumentsOf(run));
  const report: unknown = JSON.parse(jsonPart(await readFile(run.reportPath, 'utf8')));
  await rm(run.reportPath);
  return decodeReport(report, run.job.pattern.endsWith('read') ? 'read' : 'write');
}

function argumentsOf(run: FioRun): string[] {
  const { job, amount } = run;
  const limit =
    'seconds' in amount ? ['--time_based', `--runtime=${Math.round(amount.seconds * 1000)}ms`, '--ramp_time=300ms'] : [`--io_size=${amount.bytes}`];
  return [
    '--name=bench',
    '--ioengine=nbd',
    `--uri=${run.uri}`,
    `--rw=${job.pattern}`,
    `--bs=${job.requestBytes}`,
    `--iodepth=${job.depth}`,
    `--size=${run.regionBytes}`,
    ...limit,
    ...(job.flushEachWrite ? ['--fsync=1'] : []),
    '--randrepeat=0',
    '--norandommap',
    ...(run.more ?? []),
    '--output-format=json',
    `--output=${run.reportPath}`,
  ];
}

/** fio's nbd engine prints lines of its own into the report, before the JSON. */
function jsonPart(text: string): string {
  return text.slice(text.indexOf('{'));
}

/** Takes the figures of one direction out of a fio JSON report; throws when they are not there. */
export function decodeReport(report: unknown, direction: 'read' | 'write'): FioResult {
  const first = listAt(report, 'jobs')[0];
  const failure = numberAt(first, ['error']);
  if (failure !== 0) throw new Error(`fio reports error ${failure}`);
  const side = member(first, direction);
  const percentiles = member(member(side, 'clat_ns'), 'percentile');
  return {
    iops: numberAt(side, ['iops']),
    bytes: numberAt(side, ['io_bytes']),
    requests: numberAt(side, ['total_ios']),
    seconds: numberAt(side, ['runtime']) / 1000,
    latencyUs: numberAt(side, ['clat_ns', 'mean']) / 1000,
    latencyUs99: numberAt(percentiles, ['99.000000']) / 1000,
  };
}

/** Runs a command to its end and gives its standard output; rejects with the end of its standard error. */
export function execute(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let complaint = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint = (complaint + text).slice(-2000)));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${command} ${args.join(' ')} ended with ${signal ?? code}: ${complaint}${output.slice(-500)}`));
    });
  });
}
