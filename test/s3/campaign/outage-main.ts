/**
 * `make outage-s3 MINUTES=10`: the S3 server of a volume is stopped for minutes under load. No request fails; when it is back the bucket catches up, and has every request that was
 * answered. Exits with 1, and keeps the hosts' directories, when that is not so.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { formatSize, parseSize } from '../../../src/base/units.ts';
import { SeededRandom } from '../../crash/random.ts';
import { CredentialsFolder } from '../../support/s3-settings.ts';
import { S3Server } from '../s3-server.ts';
import { BucketHost } from './bucket-host.ts';
import { positive } from './numbers.ts';
import { type LoadEnd, OrderedLoad } from './ordered-load.ts';

const USAGE = `usage: make outage-s3 MINUTES=10 ARGS="..."

  --seconds N    how long the S3 server is gone (600)
  --seed N       of the load (random)
  --size SIZE    of the volume (64M)
  --depth N      requests in flight (8)
  --set KEY=VAL  a setting of the server; may be repeated
  --data DIR     where the hosts' directories go (the system's temporary directory)
`;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    seed: { type: 'string' },
    size: { type: 'string', default: '64M' },
    depth: { type: 'string', default: '8' },
    set: { type: 'string', multiple: true, default: [] },
    data: { type: 'string', default: tmpdir() },
    help: { type: 'boolean', default: false },
  },
});

const BUCKET = 'volumes';
const URL = `s3://${BUCKET}/outage`;
/** Before it goes, and when it is back. */
const LOAD_MS = 10_000;

async function main(): Promise<void> {
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const directory = await mkdtemp(join(resolve(values.data), 'basalt-outage-s3-'));
  const s3 = await S3Server.start('ceph20');
  const credentials = await CredentialsFolder.create();
  const shared = { entry: resolve('dist/cli/basalt.cjs'), settings: values.set, endpoint: s3.endpoint, credentialsFile: await credentials.write('own', s3.accessKeyId, s3.secretAccessKey) };
  const hosts = [new BucketHost({ ...shared, directory: join(directory, 'host') }), new BucketHost({ ...shared, directory: join(directory, 'other') })] as const;
  const end = async (): Promise<void> => {
    for (const host of hosts) await host.kill();
    await s3.dispose();
    await credentials.dispose();
  };
  const interrupted = (): void => {
    void end().finally(() => process.exit(130));
  };
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  try {
    await s3.createBucket(BUCKET);
    await outage(s3, hosts[0], hosts[1]);
  } catch (error) {
    process.stdout.write(`FAILED; the hosts' directories are kept in ${directory}\n`);
    throw new Error(`${error instanceof Error ? error.message : String(error)}\nthe server's last output:\n${hosts[0].output.slice(-4000)}`, { cause: error });
  } finally {
    await end();
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
  }
  await rm(directory, { recursive: true });
}

async function outage(s3: S3Server, host: BucketHost, other: BucketHost): Promise<void> {
  const seconds = positive('seconds', values.seconds);
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : positive('seed', values.seed);
  const sizeBytes = parseSize(values.size);
  const load = new OrderedLoad({ sizeBytes, depth: positive('depth', values.depth), random: new SeededRandom(seed) });
  process.stdout.write(`an S3 server that is gone for ${seconds} s under load, seed ${seed}\n`);
  await host.create(URL, sizeBytes);
  await host.serve();
  const client = await host.connect();
  const running = load.run(client, () => undefined);
  const forgetting = setInterval(() => load.forgetAnswered(), 1000);
  const wait = (ms: number): Promise<void> => during(running, delay(ms));
  await wait(LOAD_MS);
  await s3.stop();
  const before = load.counts.changes;
  await wait(seconds * 1000);
  const { live } = await host.show();
  const { shipping = null } = live ?? {};
  process.stdout.write(`gone: ${load.counts.changes - before} changes answered meanwhile; ${formatSize(shipping?.unshippedBytes ?? 0)} are not shipped, the oldest for ${Math.round((shipping?.ageMs ?? 0) / 1000)} s: ${shipping?.trouble}\n`);
  if ((shipping?.trouble ?? null) === null) throw new Error('basalt show does not say that the bucket cannot be reached');
  await s3.run();
  const backMs = performance.now();
  await wait(LOAD_MS);
  load.stop();
  await running;
  clearInterval(forgetting);
  const prefix = load.beginDrain();
  await host.drain();
  load.endDrain(prefix);
  process.stdout.write(`back: all is shipped ${((performance.now() - backMs) / 1000).toFixed(1)} s later, ${(LOAD_MS / 1000).toFixed(0)} s of that under load\n`);
  const isQuiet = (await host.show()).live?.shipping?.trouble === null;
  if (!isQuiet) throw new Error('basalt show still speaks of trouble behind a drain');
  await client.close();
  await host.kill();
  await other.openRemote(URL, '--force');
  await other.serve();
  const copy = await other.connect();
  await load.check(copy, 'recovered from the bucket alone', { atLeast: load.acknowledged, atMost: load.history.requests });
  await copy.close();
  process.stdout.write(`the bucket alone has all ${load.acknowledged} requests that were answered; no request failed\n`);
}

/** Waits; rejects as soon as the load ends. */
async function during(running: Promise<LoadEnd>, waiting: Promise<void>): Promise<void> {
  const early = running.then((end): never => {
    throw new Error(end instanceof Error ? `a request failed: ${end.message}` : `the load ended early: ${end}`);
  });
  await Promise.race([waiting, early]);
  early.catch(() => undefined); // the next one that waits is told
}

main().catch((error: unknown) => {
  process.stderr.write(`outage-s3: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
