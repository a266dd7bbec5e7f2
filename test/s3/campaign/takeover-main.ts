/** `make takeover-s3 RUNS=100`: see `takeover-campaign.ts`. Exits with 1, and keeps the hosts' directories, when a promise is broken. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { parseSize } from '../../../src/base/units.ts';
import { SeededRandom } from '../../crash/random.ts';
import { positive } from './numbers.ts';
import { TAKEOVER_SETTINGS, TakeoverCampaign } from './takeover-campaign.ts';

const USAGE = `usage: make takeover-s3 RUNS=100 ARGS="..."

  --runs N       how often the volume is taken over (100)
  --seed N       of the load and of what happens (random); the moments vary anyway
  --size SIZE    of the volume (8M)
  --depth N      requests in flight (8)
  --load-ms N    longest time before the next takeover begins (1500)
  --data DIR     where the hosts' directories go (the system's temporary directory)
`;

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '100' },
    seed: { type: 'string' },
    size: { type: 'string', default: '8M' },
    depth: { type: 'string', default: '8' },
    'load-ms': { type: 'string', default: '1500' },
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
  process.stdout.write(`takeovers between two hosts: ${runs}, seed ${seed}\n`);
  const directory = await mkdtemp(join(resolve(values.data), 'basalt-takeover-s3-'));
  const campaign = await TakeoverCampaign.start({
    directory,
    entry: resolve('dist/cli/basalt.cjs'),
    random: new SeededRandom(seed),
    sizeBytes: parseSize(values.size),
    depth: positive('depth', values.depth),
    loadMsMax: positive('load-ms', values['load-ms']),
    settings: TAKEOVER_SETTINGS,
  });
  const interrupted = (): void => {
    void campaign.dispose().finally(() => process.exit(130));
  };
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  const sums = { answered: 0, inVain: 0, refusals: 0, manners: new Map<string, number>() };
  try {
    for (let run = 1; run <= runs; run += 1) {
      const { manner, owner, answered, taken, drained, inVain, refusedFirst } = await campaign.takeOver();
      sums.inVain += inVain;
      sums.refusals += refusedFirst ? 1 : 0;
      sums.manners.set(manner, (sums.manners.get(manner) ?? 0) + 1);
      process.stdout.write(`${run}/${runs}: host ${owner + 1} took it from one that was ${manner}${refusedFirst ? ' (refused without --force)' : ''}: ${taken} of ${answered} requests, ${drained} drained; ${inVain} answered in vain after that\n`);
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
  const manners = [...sums.manners].map(([manner, times]) => `${times} from one that was ${manner}`).join(', ');
  process.stdout.write(`${runs} takeovers (${manners}; ${sums.refusals} refused first): no promise was broken; ${sums.inVain} requests were answered by hosts that had lost the volume, and none of them counts\n`);
}

main().catch((error: unknown) => {
  process.stderr.write(`takeover-s3: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
