/**
 * `make crash RUNS=200`: kills the server with SIGKILL under load, over and over, and checks after each restart that
 * nothing that was acknowledged is lost or torn (mode async: nothing older than its interval, and no block mixed). Exits with 1, and keeps the volumes, when something is.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { DURABILITY_MODES, isDurability, type Durability } from '../../src/base/durability.ts';
import { LOG_WAYS } from '../../src/base/settings-types.ts';
import { MIB, parseSize } from '../../src/base/units.ts';
import { CrashCampaign, SMALL_SETTINGS } from './campaign.ts';
import { SeededRandom } from './random.ts';

const USAGE = `usage: make crash RUNS=200 ARGS="..."

  --runs N         how often the server is killed (200)
  --seed N         of the load (random); the moment of the kill varies anyway
  --modes NAMES    comma-separated: strict, batched, relaxed, async (all four, a volume each, at the same time)
  --size SIZE      of each volume (32M)
  --connections N  to each volume (3)
  --depth N        requests in flight on each connection (8)
  --load-ms N      longest time before a kill (1500)
  --settings KIND  small: limits that make everything happen within a second; default: none (alternating)
  --log-io WAYS    comma-separated: buffered, direct, mmap (all three, one after the other)
  --lives N        runs before the volumes are made anew (25)
  --data DIR       where the volumes go (the system's temporary directory)
`;

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '200' },
    seed: { type: 'string' },
    modes: { type: 'string', default: DURABILITY_MODES.join(',') },
    size: { type: 'string', default: '32M' },
    connections: { type: 'string', default: '3' },
    depth: { type: 'string', default: '8' },
    'load-ms': { type: 'string', default: '1500' },
    settings: { type: 'string', default: 'alternating' },
    'log-io': { type: 'string', default: LOG_WAYS.join(',') },
    lives: { type: 'string', default: '25' },
    data: { type: 'string', default: tmpdir() },
    help: { type: 'boolean', default: false },
  },
});

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value <= 0) throw new Error(`--${name} ${text}: a whole number above 0`);
  return value;
}

function parseModes(text: string): Durability[] {
  return text.split(',').map((mode) => {
    if (!isDurability(mode)) throw new Error(`--modes ${mode}: one of ${DURABILITY_MODES.join(', ')}`);
    return mode;
  });
}

function settingsOf(kind: string, campaign: number): readonly string[] {
  if (kind !== 'small' && kind !== 'default' && kind !== 'alternating') throw new Error(`--settings ${kind}: small, default or alternating`);
  const limits = kind === 'small' || (kind === 'alternating' && campaign % 2 === 0) ? SMALL_SETTINGS : [];
  const ways = values['log-io'].split(',');
  // In step with neither the limits nor the ways.
  const chunkCompress = Math.floor(campaign / 2) % 2 === 0 ? 'lz4' : 'off';
  return [...limits, `engine.log_io=${ways[campaign % ways.length]}`, `engine.chunk_compress=${chunkCompress}`];
}

async function main(): Promise<void> {
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
  const runs = positive('runs', values.runs);
  const lives = positive('lives', values.lives);
  const random = new SeededRandom(seed);
  process.stdout.write(`crash test: ${runs} runs, seed ${seed}, modes ${values.modes}\n`);
  for (let done = 0, campaign = 0; done < runs; done += lives, campaign += 1) {
    await runCampaign({ first: done, last: Math.min(done + lives, runs), runs, random, settings: settingsOf(values.settings, campaign) });
  }
  process.stdout.write(`${runs} runs, nothing that was promised was lost or torn\n`);
}

interface CampaignRange {
  readonly first: number;
  readonly last: number;
  readonly runs: number;
  readonly random: SeededRandom;
  readonly settings: readonly string[];
}

async function runCampaign({ first, last, runs, random, settings }: CampaignRange): Promise<void> {
  const directory = await mkdtemp(join(resolve(values.data), 'basalt-crash-'));
  const campaign = new CrashCampaign({
    directory,
    entry: resolve('dist/cli/basalt.cjs'),
    random,
    modes: parseModes(values.modes),
    sizeBytes: parseSize(values.size),
    connections: positive('connections', values.connections),
    depth: positive('depth', values.depth),
    loadMsMax: positive('load-ms', values['load-ms']),
    settings,
  });
  const interrupted = (): void => {
    void campaign.abort().finally(() => process.exit(130));
  };
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  try {
    await campaign.prepare();
    for (let run = first; run < last; run += 1) {
      const { ending, recoveryKills, counts } = await campaign.run();
      const mib = Math.round(counts.acknowledgedBytes / MIB);
      const recovery = recoveryKills > 0 ? `, ${recoveryKills} kills in recovery before` : '';
      process.stdout.write(
        `run ${run + 1}/${runs}: ${ending} after ${counts.acknowledged} requests (${mib} MiB), ${counts.reads} reads, ${counts.flushes} flushes, ${counts.unanswered} lanes cut${recovery}\n`,
      );
    }
    await campaign.finish();
  } catch (error) {
    await campaign.abort();
    process.stdout.write(`FAILED; the volumes are kept in ${directory}\n`);
    throw error;
  } finally {
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
  }
  await rm(directory, { recursive: true });
}

main().catch((error: unknown) => {
  process.stderr.write(`crash: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
