/**
 * Sequential data through to the S3 server and back: a volume is written and drained, its disk deleted, and it is read from the bucket; against the bare SDK with objects of the
 * same size, as many at a time; and against s3backer, written and unmounted, mounted anew and read.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { MIB } from '../../src/base/units.ts';
import { loadSettings } from '../../src/config/load-settings.ts';
import { removePrefix } from '../../test/s3/campaign/bucket-copy.ts';
import { runFio } from '../fio.ts';
import { getObjects, putObjects } from './bare-sdk.ts';
import { BUCKET, newHost, type S3BenchContext, urlOf } from './context.ts';
import { S3backer } from './s3backer.ts';

/** Seconds. Writes: from the start of fio until all is in the bucket. Reads: as fio has it, without the quarter of a second in which it starts. */
interface StreamTimes {
  readonly write: number;
  readonly read: number;
}

export interface StreamRound {
  readonly basalt: StreamTimes;
  readonly sdk: StreamTimes;
  readonly s3backer: StreamTimes | null;
}

export interface StreamResult {
  readonly byteCount: number;
  readonly concurrency: number;
  readonly rounds: readonly StreamRound[];
}

/** fio begins with noise in its buffers, and stamps it at each use: nothing is written twice the same. The SDK's loop puts one body again and again, so fio makes no new noise for each request either. */
const WRITE = { pattern: 'write', requestBytes: MIB, depth: 4, flushEachWrite: false } as const;
const READ = { pattern: 'read', requestBytes: MIB, depth: 4, flushEachWrite: false } as const;

export async function measureStreams(context: S3BenchContext): Promise<StreamResult> {
  const { streamBytes: byteCount, rounds, settings } = context.options;
  const flags = settings.map((setting) => ({ flag: '--set', key: setting.split('=')[0], value: setting.slice(setting.indexOf('=') + 1) }));
  const concurrency = loadSettings({ flags }).settings.remote.shipConcurrency;
  const results: StreamRound[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    const sdk = await sdkRound(context, round, concurrency);
    const basalt = await basaltRound(context, round);
    const s3backer = context.options.withS3backer ? await s3backerRound(context, round) : null;
    results.push({ basalt, sdk, s3backer });
    const speed = ({ write, read }: StreamTimes): string => `${(byteCount / 1e6 / write).toFixed(0)} and ${(byteCount / 1e6 / read).toFixed(0)} MB/s`;
    context.progress(`stream  round ${round}/${rounds}  basalt ${speed(basalt)}, SDK ${speed(sdk)}${s3backer === null ? '' : `, s3backer ${speed(s3backer)}`} (written, read)`);
  }
  return { byteCount, concurrency, rounds: results };
}

async function sdkRound({ s3, options: { streamBytes } }: S3BenchContext, round: number, concurrency: number): Promise<StreamTimes> {
  const client = s3.client();
  const prefix = `sdk-${round}`;
  const write = await putObjects(client, prefix, streamBytes, concurrency);
  const read = await getObjects(client, prefix, streamBytes, concurrency);
  await removePrefix(client, BUCKET, prefix);
  client.destroy();
  return { write, read };
}

async function basaltRound(context: S3BenchContext, round: number): Promise<StreamTimes> {
  const { streamBytes: regionBytes } = context.options;
  const reportPath = join(context.directory, 'fio.json');
  const amount = { bytes: regionBytes };
  const prefix = `basalt-${round}`;
  const host = newHost(context, prefix);
  await host.create(urlOf(prefix), regionBytes);
  await host.serve();
  const write = await seconds(async () => {
    await runFio({ uri: host.uri, job: WRITE, regionBytes, amount, reportPath });
    await host.drain();
  });
  await host.stop();
  await host.loseDisk();
  await host.openRemote(urlOf(prefix), '--force');
  await host.serve();
  const client = await host.connect(); // the volume is open: that is not part of the stream
  const { seconds: read } = await runFio({ uri: host.uri, job: READ, regionBytes, amount, reportPath });
  await client.close();
  await host.stop();
  await host.loseDisk();
  const bucket = context.s3.client();
  await removePrefix(bucket, BUCKET, prefix);
  bucket.destroy();
  return { write, read };
}

async function s3backerRound(context: S3BenchContext, round: number): Promise<StreamTimes> {
  const { streamBytes: regionBytes } = context.options;
  const reportPath = join(context.directory, 'fio.json');
  const amount = { bytes: regionBytes };
  const prefix = `s3backer-${round}`;
  const directory = join(context.directory, prefix);
  await mkdir(directory, { recursive: true });
  const start = async (): Promise<S3backer> => {
    const mounted = await S3backer.start({ s3: context.s3, directory, prefix, sizeBytes: regionBytes, isSynced: false });
    context.started(() => mounted.end());
    return mounted;
  };
  const first = await start();
  const write = await seconds(async () => {
    await runFio({ uri: first.uri, job: WRITE, regionBytes, amount, reportPath });
    await first.stop();
  });
  const second = await start();
  const { seconds: read } = await runFio({ uri: second.uri, job: READ, regionBytes, amount, reportPath });
  await second.stop();
  await rm(directory, { recursive: true });
  const bucket = context.s3.client();
  await removePrefix(bucket, BUCKET, prefix);
  bucket.destroy();
  return { write, read };
}

async function seconds(task: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await task();
  return (performance.now() - startMs) / 1000;
}
