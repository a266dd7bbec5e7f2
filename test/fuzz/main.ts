/** `make fuzz`: mutated sessions until the time is over, or the replay of one input. See `README.md`. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Campaign, type Crash, errorOf, shrink } from './campaign.ts';
import { Coverage } from './coverage.ts';
import { type Edge, isEdge } from './instrument.ts';
import { runInput } from './run-input.ts';
import { seeds } from './seeds.ts';
import { Watchdog } from './watchdog.ts';

const ROOT = process.cwd();
const SEEDS = join(ROOT, 'test/fuzz/corpus');
const FOUND = join(ROOT, 'build/fuzz/corpus');
const PROGRESS_MS = 5000;
/** No input takes more than 3 ms on an idle machine; a busy one may stop us for a while. */
const HANG_MS = 10_000;

const options = {
  minutes: { type: 'string', default: '1' },
  seconds: { type: 'string' },
  inputs: { type: 'string' },
  seed: { type: 'string' },
  input: { type: 'string' },
  fresh: { type: 'boolean', default: false },
  uncovered: { type: 'boolean', default: false },
  'write-seeds': { type: 'boolean', default: false },
} as const;

function readFolder(folder: string): Buffer[] {
  mkdirSync(folder, { recursive: true });
  return readdirSync(folder).filter((name) => name.endsWith('.bin')).sort().map((name) => readFileSync(join(folder, name)));
}

const nameOf = (input: Uint8Array): string => createHash('sha1').update(input).digest('hex').slice(0, 12);

function readEdges(): Edge[] {
  const edges: unknown = JSON.parse(readFileSync(join(ROOT, 'build/fuzz/edges.json'), 'utf8'));
  if (!Array.isArray(edges) || !edges.every(isEdge)) throw new Error('build/fuzz/edges.json: not a list of branches');
  return edges;
}

function writeSeeds(): void {
  for (const [name, input] of Object.entries(seeds())) writeFileSync(join(SEEDS, `${name}.bin`), input);
}

async function replay(path: string): Promise<void> {
  process.on('unhandledRejection', (late) => {
    console.log(`${path}: nobody waited for:`, late);
    process.exitCode = 1;
  });
  const error = await errorOf(readFileSync(path));
  if (error === null) {
    console.log(`${path}: fine:`, await runInput(readFileSync(path)));
    return;
  }
  console.log(`${path}:`, error);
  process.exitCode = 1;
}

async function tell({ input, error }: Crash): Promise<void> {
  const path = join(ROOT, `build/fuzz/crash-${nameOf(input)}.bin`);
  writeFileSync(path, input);
  console.log(`${path}:`, error);
  const small = await shrink({ input, error });
  writeFileSync(path.replace('.bin', '-small.bin'), small);
  console.log(`${small.length} of its ${input.length} bytes do the same; replay: make fuzz INPUT=${path.replace('.bin', '-small.bin')}`);
  process.exitCode = 1;
}

async function fuzz(values: { readonly limitMs: number; readonly inputs: number; readonly seed: number; readonly isFresh: boolean; readonly tellsUncovered: boolean }): Promise<void> {
  Error.stackTraceLimit = 0; // of the thousands of errors that clients earn; a replay has them
  const edges = readEdges();
  const coverage = new Coverage(edges.length);
  const watchdog = new Watchdog(join(ROOT, 'build/fuzz/hang.bin'), HANG_MS);
  const campaign = new Campaign({
    seed: values.seed,
    coverage,
    corpus: [...readFolder(SEEDS), ...(values.isFresh ? [] : readFolder(FOUND))],
    onInput: (input) => watchdog.begin(input),
    onKept: (input) => (values.isFresh ? undefined : writeFileSync(join(FOUND, `${nameOf(input)}.bin`), input)),
  });
  process.on('unhandledRejection', (error) => campaign.noteLateError(error));
  const startMs = performance.now();
  let lastMs = startMs;
  let lastInputs = 0;
  const line = (nowMs: number, sinceMs: number, sinceInputs: number): string => {
    const { inputs, corpusSize, slowestMs } = campaign.progress;
    const rate = Math.round(((inputs - sinceInputs) * 1000) / (nowMs - sinceMs));
    const cpuRate = Math.round((inputs * 1e6) / process.cpuUsage().user);
    const rssMib = Math.round(process.memoryUsage.rss() / 2 ** 20);
    return `${Math.round((nowMs - startMs) / 1000)} s: ${inputs} inputs, ${rate} a second (${cpuRate} a second of processor time), ${coverage.seenCount} of ${coverage.edgeCount} branches, corpus ${corpusSize}, slowest ${slowestMs.toFixed(1)} ms, ${rssMib} MiB`;
  };
  const crash = await campaign.run(() => {
    const nowMs = performance.now();
    if (nowMs - lastMs >= PROGRESS_MS) {
      console.log(line(nowMs, lastMs, lastInputs));
      lastMs = nowMs;
      lastInputs = campaign.progress.inputs;
    }
    return nowMs - startMs >= values.limitMs || campaign.progress.inputs >= values.inputs;
  });
  console.log(`seed ${values.seed}: ${line(performance.now(), startMs, 0)}`);
  writeFileSync(join(ROOT, 'build/fuzz/slowest.bin'), campaign.slowest);
  if (values.tellsUncovered) for (const [index, { file, line: at }] of edges.entries()) if (!coverage.isSeen(index)) console.log(`never: ${file}, line ${at} of its build`);
  if (crash !== null) await tell(crash);
  await watchdog.stop();
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options });
  if (values['write-seeds']) writeSeeds();
  else if (values.input !== undefined) await replay(values.input);
  else {
    await fuzz({
      limitMs: values.seconds === undefined ? Number(values.minutes) * 60_000 : Number(values.seconds) * 1000,
      inputs: Number(values.inputs ?? Number.POSITIVE_INFINITY),
      seed: Number(values.seed ?? Date.now() % 1_000_000_007),
      isFresh: values.fresh,
      tellsUncovered: values.uncovered,
    });
  }
}

// From a macrotask: a module's own code runs as a microtask, in which nobody sees rejections.
setImmediate(() => void main());
