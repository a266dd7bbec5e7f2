/** What the programs of campaigns with a bucket share: their options, an end that can be interrupted, and the hosts' directories, which are kept when something is wrong. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { parseSize } from '../../../src/base/units.ts';
import { SeededRandom } from '../../crash/random.ts';
import { positive } from './numbers.ts';

export interface BucketCampaignOptions {
  /** Made if missing, left behind. */
  readonly directory: string;
  /** The compiled command line, `dist/cli/basalt.cjs`. */
  readonly entry: string;
  readonly random: SeededRandom;
  readonly sizeBytes: number;
  readonly depth: number;
  readonly loadMsMax: number;
  readonly settings: readonly string[];
}

interface BucketCampaign {
  dispose(): Promise<void>;
}

export interface CampaignProgram<Campaign extends BucketCampaign> {
  /** `make NAME`. */
  readonly name: string;
  /** What it does, said in its first line. */
  readonly what: string;
  /** Lines about `--runs` and `--load-ms`, which mean something else in each. */
  readonly usage: { readonly runs: string; readonly loadMs: string };
  readonly defaults: { readonly runs: string; readonly size: string; readonly loadMs: string };
  readonly settings: readonly string[];
  start(options: BucketCampaignOptions): Promise<Campaign>;
  /** All runs, each told of in a line; resolves with the last line. Rejects when a promise is broken. */
  run(campaign: Campaign, runs: number, tell: (line: string) => void): Promise<string>;
}

function tell(line: string): void {
  process.stdout.write(`${line}\n`);
}

function usageOf({ name, usage, defaults }: CampaignProgram<BucketCampaign>): string {
  return `usage: make ${name} RUNS=${defaults.runs} ARGS="..."

  --runs N       ${usage.runs} (${defaults.runs})
  --seed N       of the load and of what happens (random); the moments vary anyway
  --size SIZE    of the volume (${defaults.size})
  --depth N      requests in flight (8)
  --load-ms N    ${usage.loadMs} (${defaults.loadMs})
  --data DIR     where the hosts' directories go (the system's temporary directory)`;
}

async function main<Campaign extends BucketCampaign>(program: CampaignProgram<Campaign>): Promise<void> {
  const { defaults, name } = program;
  const { values } = parseArgs({
    options: {
      runs: { type: 'string', default: defaults.runs },
      seed: { type: 'string' },
      size: { type: 'string', default: defaults.size },
      depth: { type: 'string', default: '8' },
      'load-ms': { type: 'string', default: defaults.loadMs },
      data: { type: 'string', default: tmpdir() },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    tell(usageOf(program));
    return;
  }
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : positive('seed', values.seed);
  const runs = positive('runs', values.runs);
  const [depth, loadMsMax, sizeBytes] = [positive('depth', values.depth), positive('load-ms', values['load-ms']), parseSize(values.size)];
  tell(`${program.what}: ${runs}, seed ${seed}`);
  const directory = await mkdtemp(join(resolve(values.data), `basalt-${name}-`));
  const campaign = await program.start({ directory, entry: resolve('dist/cli/basalt.cjs'), random: new SeededRandom(seed), sizeBytes, depth, loadMsMax, settings: program.settings });
  const interrupted = (): void => {
    void campaign.dispose().finally(() => process.exit(130));
  };
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  let last: string;
  try {
    last = await program.run(campaign, runs, tell);
  } catch (error) {
    tell(`FAILED; the hosts' directories are kept in ${directory}`);
    throw error;
  } finally {
    await campaign.dispose();
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
  }
  await rm(directory, { recursive: true });
  tell(last);
}

/** Runs a campaign by the words of the command line. Exits with 1 when something is wrong. */
export function runCampaign<Campaign extends BucketCampaign>(program: CampaignProgram<Campaign>): void {
  main(program).catch((error: unknown) => {
    process.stderr.write(`${program.name}: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
}
