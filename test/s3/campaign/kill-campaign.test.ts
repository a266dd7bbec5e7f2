/** A short one of `make crash-s3 RUNS=20`. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { MIB } from '../../../src/base/units.ts';
import { SeededRandom } from '../../crash/random.ts';
import { START_TIMEOUT_MS, serverObstacle } from '../s3-server.ts';
import { KillCampaign, SMALL_REMOTE_SETTINGS } from './kill-campaign.ts';

const obstacle = await serverObstacle('ceph20');
const NAME = 'when the server is killed, or the S3 server, its disk has all that was answered, and its bucket a prefix with all that was drained';

test.skipIf(obstacle !== null)(`${NAME}${obstacle === null ? '' : ` (${obstacle})`}`, { timeout: START_TIMEOUT_MS }, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'basalt-crash-s3-'));
  const campaign = await KillCampaign.start({
    directory,
    entry: resolve('dist/cli/basalt.cjs'),
    random: new SeededRandom(Date.now()),
    sizeBytes: 16 * MIB,
    depth: 8,
    loadMsMax: 1000,
    settings: SMALL_REMOTE_SETTINGS,
  });
  let requests = 0;
  try {
    for (const victim of ['server', 'S3 server'] as const) requests += (await campaign.run(victim)).requests;
    await campaign.finish();
  } finally {
    await campaign.dispose();
    await rm(directory, { recursive: true });
  }
  expect(requests).toBeGreaterThan(0);
});
