import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { DURABILITY_MODES } from '../../src/base/durability.ts';
import { MIB } from '../../src/base/units.ts';
import { CrashCampaign, SMALL_SETTINGS } from './campaign.ts';
import { SeededRandom } from './random.ts';

const KILLS = 5;

/** The long version is `make crash RUNS=200`. */
test.each([
  ['small limits', SMALL_SETTINGS],
  ['default settings', []],
  ['small limits, a direct log, compressed chunks', [...SMALL_SETTINGS, 'engine.log_io=direct', 'engine.chunk_compress=lz4']],
  ['small limits, a mapped log', [...SMALL_SETTINGS, 'engine.log_io=mmap']],
])(`nothing acknowledged is lost or torn when the server is killed ${KILLS} times (%s)`, { timeout: 120_000 }, async (_name, settings) => {
  const directory = await mkdtemp(join(tmpdir(), 'basalt-crash-'));
  const campaign = new CrashCampaign({
    directory,
    entry: resolve('dist/cli/basalt.cjs'),
    random: new SeededRandom(Date.now()),
    modes: DURABILITY_MODES,
    sizeBytes: 16 * MIB,
    connections: 2,
    depth: 8,
    loadMsMax: 1000,
    settings,
  });
  let acknowledged = 0;
  try {
    await campaign.prepare();
    for (let run = 0; run < KILLS; run += 1) acknowledged += (await campaign.run()).counts.acknowledged;
    await campaign.finish();
  } finally {
    await campaign.abort();
    await rm(directory, { recursive: true });
  }
  expect(acknowledged).toBeGreaterThan(0);
});
