/**
 * Runs worlds from the command line: `--seeds N` many of them in several processes, up to the first failure; `--seed N` one
 * of them, with `--trace` telling every event.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { addCounts, noCounts, type WorldCounts } from './counts.ts';
import { hashText } from './random.ts';
import { TASTES, type Taste } from './plan.ts';
import { realEngine } from './real-engine.ts';
import { runWorld } from './world.ts';

/** A world takes a fraction of a second; one that takes this long hangs. */
const WORLD_TIMEOUT_S = 120;

/** What a child process says of one world. */
interface Verdict {
  readonly seed: number;
  readonly failure: string | null;
  readonly digest: string;
  readonly counts: WorldCounts;
}

function isVerdict(message: unknown): message is Verdict {
  return typeof message === 'object' && message !== null && 'seed' in message && 'failure' in message && 'counts' in message;
}

interface JudgeOptions {
  readonly taste?: Taste;
  readonly onEvent?: (line: string) => void;
}

async function judge(seed: number, options: JudgeOptions): Promise<Verdict> {
  try {
    const { digest, counts } = await runWorld({ engine: realEngine, seed, ...options });
    return { seed, failure: null, digest, counts };
  } catch (error) {
    return { seed, failure: error instanceof Error ? error.message : String(error), digest: '', counts: noCounts() };
  }
}

/** The child: judges each seed that the parent sends, until it is disconnected. */
function serveParent(options: JudgeOptions): void {
  let current = 0;
  const answer = async (seed: number): Promise<void> => {
    current = seed;
    process.send?.(await judge(seed, options));
  };
  process.on('message', (seed) => {
    if (typeof seed === 'number') void answer(seed);
  });
  const report = (reason: unknown, what: string): void => {
    const text = reason instanceof Error ? (reason.stack ?? reason.message) : String(reason);
    const verdict: Verdict = { seed: current, failure: `seed ${current}: ${what}:\n${text}`, digest: '', counts: noCounts() };
    process.send?.(verdict);
  };
  process.on('unhandledRejection', (reason) => report(reason, 'a promise was rejected and nobody looked'));
  process.on('uncaughtException', (error) => report(error, 'an exception that nobody caught'));
}

async function runOne(seed: number, options: JudgeOptions): Promise<boolean> {
  const verdict = await judge(seed, options);
  if (verdict.failure === null) console.log(`seed ${seed}: ok, digest ${verdict.digest}\n${describeCounts(verdict.counts)}`);
  else console.log(verdict.failure);
  return verdict.failure === null;
}

class Run {
  readonly #lastSeed: number;
  readonly #total: number;
  readonly #children: ChildProcess[] = [];
  readonly #startMs = performance.now();
  readonly #sums = noCounts();
  readonly #end: (isGood: boolean) => void;
  readonly #childArguments: readonly string[];
  #nextSeed: number;
  #done = 0;
  #digest = 0;
  #shownMs = 0;
  #hasFailed = false;

  constructor(options: { firstSeed: number; seeds: number; childArguments: readonly string[]; end: (isGood: boolean) => void }) {
    this.#childArguments = options.childArguments;
    this.#nextSeed = options.firstSeed;
    this.#lastSeed = options.firstSeed + options.seeds - 1;
    this.#total = options.seeds;
    this.#end = options.end;
  }

  start(jobs: number): void {
    for (let i = 0; i < Math.min(jobs, this.#total); i += 1) {
      const child = fork(fileURLToPath(import.meta.url), ['--child', ...this.#childArguments]);
      let timer: NodeJS.Timeout | undefined;
      const next = (): void => {
        const seed = this.#nextSeed;
        this.#nextSeed += 1;
        if (seed > this.#lastSeed) {
          child.disconnect();
          return;
        }
        // Seconds in which this process ran: a machine that sleeps, or stops us for a while (SIGSTOP), is no hanging world.
        let seconds = 0;
        timer = setInterval(() => {
          seconds += 1;
          if (seconds > WORLD_TIMEOUT_S) this.#fail(`seed ${seed} does not end within ${WORLD_TIMEOUT_S} s`, seed);
        }, 1000);
        child.send(seed);
      };
      child.on('message', (message) => {
        clearInterval(timer);
        if (!isVerdict(message)) return;
        if (message.failure === null) {
          this.#add(message);
          next();
        } else this.#fail(message.failure, message.seed);
      });
      child.on('exit', (code) => {
        clearInterval(timer);
        if (code !== 0 && code !== null) this.#fail(`a process of the simulator ended with ${code}`, null);
      });
      this.#children.push(child);
      next();
    }
  }

  #add(verdict: Verdict): void {
    this.#done += 1;
    this.#digest = (this.#digest ^ hashText(`${verdict.seed} ${verdict.digest}`)) >>> 0; // worlds end in any order
    addCounts(this.#sums, verdict.counts);
    if (this.#done === this.#total) {
      console.log(`${this.#progress()}; digest ${this.#digest.toString(16).padStart(8, '0')}\n${describeCounts(this.#sums)}`);
      this.#end(true);
    } else if (performance.now() - this.#shownMs > (process.stderr.isTTY ? 500 : 15_000)) {
      this.#shownMs = performance.now();
      process.stderr.write(process.stderr.isTTY ? `\r${this.#progress()} ` : `${this.#progress()}\n`);
    }
  }

  #progress(): string {
    const seconds = (performance.now() - this.#startMs) / 1000;
    return `${this.#done} of ${this.#total} worlds ok, ${(this.#done / seconds).toFixed(1)} a second`;
  }

  #fail(failure: string, seed: number | null): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    for (const child of this.#children) child.kill('SIGKILL');
    console.log(`\n${failure}`);
    if (seed !== null) console.log(`\nafter ${this.#progress()}; replay it with: make sim SEED=${seed}`);
    this.#end(false);
  }
}

function describeCounts(counts: WorldCounts): string {
  return [
    `  ${counts.requests} changes and ${counts.reads} reads; ${counts.records} records, ${counts.refusedForSpace} refusals of a full disk`,
    `  ${counts.opens} recoveries, ${counts.lossyRecoveries} of them to less than all; ${counts.processCrashes} crashes of the process, ${counts.powerCuts} power cuts (${counts.earlyCrashes} of these while opening or creating), ${counts.exits} proper exits`,
    `  ${counts.failedCalls} calls failed, ${counts.failedSyncs} of them syncs; ${counts.refusedForFaults} refusals because of them, ${counts.failedVolumes} volumes that took no more writes`,
    `  ${counts.chunks} chunks, ${counts.checkpoints} checkpoints, ${Math.round(counts.logBytes / 1e6)} MB of log; ${counts.packedVolumes} volumes with compressed chunks at the end of a life, ${counts.compressionChanges} changes of that`,
    `  ${counts.scrubs} scrubs while clients worked (and ${counts.endedScrubs} ended early), ${counts.rottenScrubs} found rot (${counts.rottenBlockScrubs} in blocks alone), ${counts.rescuedBlocks} blocks written anew`,
    `  rot in ${counts.rottenChunkReads} other reads of chunks, ${counts.rottenLogReads} of logs, ${counts.rottenCheckpointReads} of checkpoints; ${counts.readOnlyOpenings} volumes served read-only, ${counts.unreadableBlocks} blocks of them unreadable; ${counts.rottenEnds} times it looked like the end of a log`,
  ].join('\n');
}

function wholeNumber(text: string | undefined, name: string, fallback: number): number {
  const value = text === undefined ? fallback : Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new RangeError(`--${name} must be a whole number above 0, not "${text}"`);
  return value;
}

function tasteOf(text: string | undefined): Taste | undefined {
  if (text === undefined) return undefined;
  const found = TASTES.find((taste) => taste === text);
  if (found === undefined) throw new RangeError(`--taste must be one of ${TASTES.join(', ')}, not "${text}"`);
  return found;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string' },
      seeds: { type: 'string' },
      first: { type: 'string' },
      jobs: { type: 'string' },
      taste: { type: 'string' },
      trace: { type: 'boolean', default: false },
      child: { type: 'boolean', default: false },
    },
  });
  const taste = tasteOf(values.taste);
  const options = taste === undefined ? {} : { taste };
  if (values.child) {
    serveParent(options);
    return;
  }
  if (values.seed !== undefined) {
    if (!(await runOne(wholeNumber(values.seed, 'seed', 1), values.trace ? { ...options, onEvent: (line) => console.log(line) } : options))) process.exitCode = 1;
    return;
  }
  const seeds = wholeNumber(values.seeds, 'seeds', 1000);
  const firstSeed = wholeNumber(values.first, 'first', 1);
  const isGood = await new Promise<boolean>((resolve) => {
    new Run({ firstSeed, seeds, childArguments: taste === undefined ? [] : ['--taste', taste], end: resolve }).start(wholeNumber(values.jobs, 'jobs', availableParallelism()));
  });
  if (!isGood) process.exitCode = 1;
}

await main();
