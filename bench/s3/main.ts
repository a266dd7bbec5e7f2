/**
 * `make bench-s3`: volumes with a bucket on a real Ceph gateway, against the bare SDK, a volume without a bucket, and s3backer; and how many requests they make. Prints tables; the
 * whole result goes to `bench/results/` as JSON.
 */
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { S3Server } from '../../test/s3/s3-server.ts';
import { CredentialsFolder } from '../../test/support/s3-settings.ts';
import { describeMachine, isMemoryBacked } from '../machine.ts';
import { BUCKET, type S3BenchContext } from './context.ts';
import { parseOptions, type S3BenchOptions, USAGE } from './options.ts';
import { measureRandomWrites } from './random-writes.ts';
import { renderReport, type S3BenchReport } from './report.ts';
import { measureRequests } from './requests.ts';
import { measureStreams } from './stream.ts';

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (options === null) {
    process.stdout.write(USAGE);
    return;
  }
  const base = await realpath(options.dataDirectory ?? tmpdir());
  if (await isMemoryBacked(base)) throw new Error(`${base} is in memory: syncing there costs nothing; name a directory on a disk with --data`);
  const directory = await mkdtemp(join(base, 'basalt-bench-s3-'));
  const stops: (() => Promise<unknown>)[] = [() => rm(directory, { recursive: true, force: true })];
  const cleanUp = async (): Promise<void> => {
    for (const stop of stops.toReversed()) await stop().catch((error: unknown) => process.stderr.write(`bench-s3: ending: ${String(error)}\n`));
  };
  const interrupted = (): void => {
    void cleanUp().finally(() => process.exit(130));
  };
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  try {
    await measure(options, directory, (stop) => stops.push(stop));
  } finally {
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
    await cleanUp();
  }
}

async function measure(options: S3BenchOptions, directory: string, started: (stop: () => Promise<unknown>) => void): Promise<void> {
  const s3 = await S3Server.start('ceph20');
  started(() => s3.dispose());
  await s3.createBucket(BUCKET);
  const credentials = await CredentialsFolder.create();
  started(() => credentials.dispose());
  const context: S3BenchContext = {
    options,
    s3,
    credentialsFile: await credentials.write('own', s3.accessKeyId, s3.secretAccessKey),
    directory,
    basaltEntry: resolve('dist/cli/basalt.cjs'),
    progress: (line) => process.stderr.write(`${line}\n`),
    started,
  };
  const report: S3BenchReport = {
    requests: options.parts.includes('requests') ? await measureRequests(context) : null,
    streams: options.parts.includes('stream') ? await measureStreams(context) : null,
    random: options.parts.includes('random') ? await measureRandomWrites(context) : [],
  };
  const machine = await describeMachine(directory);
  const text = `${JSON.stringify({ machine, options, ...report }, null, 2)}\n`;
  const results = resolve('bench', 'results');
  await mkdir(results, { recursive: true });
  const path = join(results, `s3-${machine.date.replaceAll(':', '-')}.json`);
  await writeFile(path, text);
  process.stdout.write(options.json ? text : `\n${renderReport(report)}\n${path}\n`);
}

main().catch((error: unknown) => {
  process.stderr.write(`bench-s3: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
