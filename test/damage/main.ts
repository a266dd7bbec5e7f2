/**
 * `make byte-flip`: changes every byte of every file of a small volume, one at a time, on simulated machines; the bytes are shared out
 * among processes. Ends with 1 when a rule of `support/byte-flips.ts` is broken.
 */
import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Counts, DamagedSample, SUBJECTS, noCounts } from '../support/byte-flips.ts';
import { fileOf } from '../support/damaged-volumes.ts';

const USAGE = `usage: make byte-flip ARGS="..."

  --file NAME   only this file of the volume, such as manifest or log/00.log
  --step N      of so many bytes one (1)
  --jobs N      processes (as many as there are processors)
`;

const { values } = parseArgs({
  options: {
    file: { type: 'string' },
    step: { type: 'string', default: '1' },
    jobs: { type: 'string', default: String(availableParallelism()) },
    share: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
const STEP = Number(values.step);
const JOBS = Number(values.jobs);
const SHOWN_PROBLEMS = 50;
const REPORT_EVERY = 500;

/** What a process has done since it last said so. */
interface Progress {
  readonly subject: string;
  readonly counts: Counts;
  readonly problems: readonly string[];
}

function tell(progress: Progress): Promise<void> {
  return new Promise((resolve, reject) => process.send?.(progress, (error: Error | null) => (error === null ? resolve() : reject(error))));
}

/** Changes each byte whose turn is this process's, and tells its parent. */
async function flipShare(share: number): Promise<void> {
  for (const { name, packing } of SUBJECTS) {
    if (values.file !== undefined && values.file !== name) continue;
    const subject = packing === 'nothing' ? name : `${name} (compressed)`;
    let sample = await DamagedSample.make(packing);
    let problems: string[] = [];
    const { length } = fileOf(sample.files, name);
    for (let at = share * STEP; at < length; at += JOBS * STEP) {
      problems.push(...(await sample.flip(name, at)));
      if (sample.counts.changes < REPORT_EVERY) continue;
      await tell({ subject, counts: sample.counts, problems });
      sample = await DamagedSample.make(packing);
      problems = [];
    }
    await tell({ subject, counts: sample.counts, problems });
  }
  process.disconnect();
}

class Totals {
  readonly #bySubject = new Map<string, Counts>();
  readonly problems: string[] = [];
  readonly #startMs = performance.now();
  #reportedMs = 0;

  add({ subject, counts, problems }: Progress): void {
    this.problems.push(...problems);
    const totals = this.#bySubject.get(subject) ?? noCounts();
    this.#bySubject.set(subject, totals);
    for (const key of countNames(counts)) totals[key] += counts[key];
    const elapsedMs = performance.now() - this.#startMs;
    if (elapsedMs - this.#reportedMs < 10_000) return;
    this.#reportedMs = elapsedMs;
    process.stderr.write(`${this.all.changes} bytes changed, ${(this.all.changes / (elapsedMs / 1000)).toFixed(0)} a second\n`);
  }

  get all(): Counts {
    const sum = noCounts();
    for (const counts of this.#bySubject.values()) for (const key of countNames(sum)) sum[key] += counts[key];
    return sum;
  }

  print(): void {
    const names = countNames(noCounts());
    printRow('', names);
    for (const [subject, counts] of [...this.#bySubject, ['all', this.all] as const]) printRow(subject, names.map((key) => String(counts[key])));
    for (const problem of this.problems.slice(0, SHOWN_PROBLEMS)) process.stdout.write(`WRONG: ${problem}\n`);
    process.stdout.write(`${this.problems.length} rules broken; ${((performance.now() - this.#startMs) / 1000).toFixed(0)} s\n`);
  }
}

function printRow(title: string, cells: readonly string[]): void {
  process.stdout.write(`${title.padEnd(34)}${cells.map((cell) => cell.padStart(13)).join('')}\n`);
}

function countNames(counts: Counts): (keyof Counts)[] {
  return Object.keys(counts).filter((key): key is keyof Counts => key in counts);
}

async function shareOut(): Promise<void> {
  const totals = new Totals();
  const runShare = (share: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const child = fork(fileURLToPath(import.meta.url), [...process.argv.slice(2), '--share', String(share)]);
      child.on('message', (progress: Progress) => totals.add(progress));
      child.on('error', reject);
      child.on('exit', (code, signal) => (code === 0 ? resolve() : reject(new Error(`the process of share ${share} ended with ${code ?? signal}`))));
    });
  await Promise.all(Array.from({ length: JOBS }, (_, share) => runShare(share)));
  totals.print();
  if (totals.problems.length > 0 || totals.all.changes === 0) process.exitCode = 1;
}

if (values.help) process.stdout.write(USAGE);
else if (values.share === undefined) await shareOut();
else await flipShare(Number(values.share));
