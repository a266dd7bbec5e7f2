/** How many requests a volume makes of its S3 server: counted by a proxy in front of it, so also what the client does not know of. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { S3Proxy } from '../../test/support/s3-proxy.ts';
import { runFio } from '../fio.ts';
import { BUCKET, newHost, type S3BenchContext, urlOf } from './context.ts';

export interface RequestsResult {
  readonly userBytes: number;
  /** From the first write to rest behind the drain, by method. */
  readonly methods: Readonly<Record<string, number>>;
  /** What was put, by the first part of its key. */
  readonly puts: Readonly<Record<string, number>>;
  readonly idleSeconds: number;
  readonly idleRequests: readonly string[];
}

/** Without a request for so long nothing more is to come. */
const QUIET_MS = 10_000;
const QUIET_TIMEOUT_MS = 600_000;

export async function measureRequests(context: S3BenchContext): Promise<RequestsResult> {
  const { options, directory, s3 } = context;
  const proxy = await S3Proxy.start(s3.port);
  context.started(() => proxy.stop());
  const host = newHost(context, 'requests', proxy.endpoint);
  await host.create(urlOf('requests'), 2 * options.randomBytes);
  await host.serve();
  const client = await host.connect(); // so that the volume stays open
  proxy.reset();
  const job = { pattern: 'randwrite', requestBytes: 4096, depth: 32, flushEachWrite: false } as const;
  await runFio({ uri: host.uri, job, regionBytes: 2 * options.randomBytes, amount: { bytes: options.randomBytes }, reportPath: join(directory, 'fio.json') });
  await host.drain();
  await quiet(proxy);
  const seen = [...proxy.seen];
  proxy.reset();
  context.progress(`requests  ${seen.length} of them; ${options.idleSeconds} s of rest`);
  await delay(options.idleSeconds * 1000);
  const idleRequests = [...proxy.seen];
  await client.close();
  await host.stop();
  await proxy.stop();
  return { userBytes: options.randomBytes, methods: tally(seen.map(methodOf)), puts: tally(seen.filter((line) => line.startsWith('PUT ')).map(folderOf)), idleSeconds: options.idleSeconds, idleRequests };
}

async function quiet(proxy: S3Proxy): Promise<void> {
  const endMs = performance.now() + QUIET_TIMEOUT_MS;
  for (let count = -1; count !== proxy.seen.length; ) {
    if (performance.now() > endMs) throw new Error(`the volume still makes requests ${QUIET_TIMEOUT_MS / 1000} s behind its drain`);
    count = proxy.seen.length;
    await delay(QUIET_MS);
  }
}

function methodOf(line: string): string {
  const method = line.slice(0, line.indexOf(' '));
  return line.includes('list-type=2') ? 'LIST' : method;
}

function folderOf(line: string): string {
  return line.slice(`PUT /${BUCKET}/requests/`.length).split('/')[0] ?? '';
}

function tally(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
