/**
 * Compares basalt with nbdkit and qemu-nbd under the same fio jobs, measures what it writes to disk and how much
 * memory it takes. Prints a table; the whole result goes to `bench/results/` as JSON.
 */
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { compare, compareTls, type CompareContext } from './compare.ts';
import { measureCompression } from './compression.ts';
import { describeMachine, isMemoryBacked } from './machine.ts';
import { parseOptions, USAGE, type BenchOptions } from './options.ts';
import { profileJobs } from './profile.ts';
import { renderReport, type BenchReport } from './report.ts';
import { measureBytes, measureMemory } from './scenarios.ts';
import type { RunningServer } from './servers.ts';

/** `make bench` runs in the project's directory. */
const PROJECT = process.cwd();

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (options === null) {
    process.stdout.write(USAGE);
    return;
  }
  const directory = await temporaryDirectory(options);
  const servers: RunningServer[] = [];
  const context: CompareContext = {
    options,
    directory,
    basaltEntry: join(PROJECT, 'dist', 'cli', 'basalt.cjs'),
    progress: (line) => process.stderr.write(`${line}\n`),
    started: (server) => servers.push(server),
  };
  const interrupted = (): void => {
    void cleanUp(servers, directory).finally(() => process.exit(130));
  };
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  try {
    if (options.profileDirectory === null) await measure(context);
    else await profileJobs(context, options.profileDirectory);
  } finally {
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
    await rm(directory, { recursive: true, force: true });
  }
}

async function cleanUp(servers: readonly RunningServer[], directory: string): Promise<void> {
  await Promise.allSettled(servers.map((server) => server.stop()));
  await rm(directory, { recursive: true, force: true });
}

async function measure(context: CompareContext): Promise<void> {
  const { options } = context;
  const report: BenchReport = {
    mode: options.mode,
    comparison: options.jobs.length > 0 ? await compare(context) : [],
    tls: options.scenarios.includes('tls') ? await compareTls(context) : [],
    compression: options.scenarios.includes('compression') ? await measureCompression(context) : null,
    bytes: options.scenarios.includes('bytes') ? await measureBytes(context) : [],
    memory: options.scenarios.includes('rss') ? await measureMemory(context) : null,
  };
  const machine = await describeMachine(context.directory);
  const text = `${JSON.stringify({ machine, options, ...report }, null, 2)}\n`;
  const results = join(PROJECT, 'bench', 'results');
  await mkdir(results, { recursive: true });
  const path = join(results, `${machine.date.replaceAll(':', '-')}.json`);
  await writeFile(path, text);
  process.stdout.write(options.json ? text : `\n${renderReport(report)}\n${path}\n`);
}

/** A new directory on a disk: the one asked for, the system's, or (when that one is in memory) the project's own. */
async function temporaryDirectory(options: BenchOptions): Promise<string> {
  if (options.dataDirectory !== null) {
    const wanted = resolve(options.dataDirectory);
    await mkdir(wanted, { recursive: true });
    if (await isMemoryBacked(wanted)) throw new Error(`--data ${wanted} is in memory: syncing there costs nothing; name a directory on a disk`);
    return mkdtemp(join(await realpath(wanted), 'bench-'));
  }
  const system = await realpath(tmpdir());
  if (!(await isMemoryBacked(system))) return mkdtemp(join(system, 'basalt-bench-'));
  const own = join(PROJECT, 'volumes');
  await mkdir(own, { recursive: true });
  return mkdtemp(join(own, 'bench-'));
}

main().catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
