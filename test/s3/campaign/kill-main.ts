/** `make crash-s3 RUNS=20`: see `kill-campaign.ts`. Exits with 1, and keeps the hosts' directories, when something is lost. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { parseSize } from '../../../src/base/units.ts';
import { SeededRandom } from '../../crash/random.ts';
import { KillCampaign, SMALL_REMOTE_SETTINGS } from './kill-campaign.ts';
import { positive } from './numbers.ts';

const USAGE = `usage: make crash-s3 RUNS=20 ARGS="..."

  --runs N       how often something is killed: the server and the S3 server in turn (20)
  --seed N       of the load (random); the moment of the kill varies anyway
  --size SIZE    of the volume (32M)
  --depth N      requests in flight (8)
  --load-ms N    longest time before the next thing happens (2500)
  --data DIR     where the hosts' directories go (the system's temporary directory)
`;

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '20' },
    seed: { type: 'string' },
    size: { type: 'string', default: '32M' },
    depth: { type: 'string', default: '8' },
    'load-ms': { type: 'string', default: '2500' },
    data: { type: 'string', default: tmpdir() },
    help: { type: 'boolean', default: false },
  },
});

async function main(): Promise<void> {
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : positive('seed', values.seed);
  const runs = positive('runs', values.runs);
  process.stdout.write(`kills of the server and of the S3 server: ${runs} runs, seed ${seed}\n`);
  const directory = await mkdtemp(join(resolve(values.data), 'basalt-crash-s3-'));
  const campaign = await KillCampaign.start({
    directory,
    entry: resolve('dist/cli/basalt.cjs'),
    random: new SeededRandom(seed),
    sizeBytes: parseSize(values.size),
    depth: positive('depth', values.depth),
    loadMsMax: positive('load-ms', values['load-ms']),
    settings: SMALL_REMOTE_SETTINGS,
  });
  const interrupted = (): void => {
    void campaign.dispose().finally(() => process.exit(130));
  };
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  try {
    for (let run = 1; run <= runs; run += 1) {
      const { victim, requests, acknowledged, recovered, drained, objects, isDiskLost } = await campaign.run(run % 2 === 1 ? 'server' : 'S3 server');
      const lost = isDiskLost ? '; its disk was lost, and it went on from there' : '';
      process.stdout.write(`run ${run}/${runs}: ${victim} killed, ${requests} changes answered; with its disk all ${acknowledged}, from the bucket (${objects} objects) ${recovered}, ${drained} of them drained${lost}\n`);
    }
    await campaign.finish();
  } catch (error) {
    process.stdout.write(`FAILED; the hosts' directories are kept in ${directory}\n`);
    throw error;
  } finally {
    await campaign.dispose();
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
  }
  await rm(directory, { recursive: true });
  process.stdout.write(`${runs} runs, nothing that was promised was lost, and nothing was out of order\n`);
}

main().catch((error: unknown) => {
  process.stderr.write(`crash-s3: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
