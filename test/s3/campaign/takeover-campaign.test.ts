/** A short one of `make takeover-s3 RUNS=100`. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import { SeededRandom } from '../../crash/random.ts';
import { START_TIMEOUT_MS, serverObstacle } from '../s3-server.ts';
import { TAKEOVER_SETTINGS, TakeoverCampaign } from './takeover-campaign.ts';

const obstacle = await serverObstacle('ceph20');
const NAME = 'two hosts that take a volume from each other under load keep what they promised, and the one that lost it fails its writes';

test.skipIf(obstacle !== null)(`${NAME}${obstacle === null ? '' : ` (${obstacle})`}`, { timeout: START_TIMEOUT_MS }, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'basalt-takeover-s3-'));
  const campaign = await TakeoverCampaign.start({
    directory,
    entry: resolve('dist/cli/basalt.cjs'),
    random: new SeededRandom(Date.now()),
    sizeBytes: 8 * MIB,
    depth: 8,
    loadMsMax: 500,
    settings: TAKEOVER_SETTINGS,
  });
  let taken = 0;
  try {
    for (let run = 0; run < 2; run += 1) taken += (await campaign.takeOver()).taken;
    await campaign.finish();
  } finally {
    await campaign.dispose();
    await rm(directory, { recursive: true });
  }
  expect(taken).toBeGreaterThan(0);
});
