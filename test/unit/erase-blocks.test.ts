import { describe, expect, test } from 'vitest';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import { createVolume } from '../../src/volume/create-volume.ts';
import { readManifest } from '../../src/volume/volume-files.ts';
import { BLOCK_BYTES, SimMachine, pattern, smallArena, smallSettings } from '../support/engine-harness.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import type { EngineSettings } from '../../src/base/settings-types.ts';

/** A volume made with these settings; what its manifest says of a log file. */
async function logFileBytesOf(changes: Partial<EngineSettings>, sizeBytes: number): Promise<number> {
  const machine = new SimMachine(smallSettings({ logFileCount: 8, ...changes }));
  let found = 0;
  await machine.run(async () => {
    const { env, settings } = machine;
    await createVolume({ env, directory: '/v', settings, create: { sizeBytes, blockSizeBytes: BLOCK_BYTES, durability: 'batched' } });
    found = (await readManifest(env.files, '/v')).logFileBytes;
  });
  return found;
}

describe('log files of a new volume', () => {
  test.each([
    ['as asked for, where that is whole erase blocks', 64 * MIB, 4 * MIB, 64 * MIB],
    ['rounded up', 10 * MIB, 4 * MIB, 12 * MIB],
    ['of one erase block at least', MIB, 4 * MIB, 4 * MIB],
    ['as asked for, where there are no erase blocks', 10 * MIB, 0, 10 * MIB],
  ])('are %s', async (_name, logFileBytes, eraseBlockBytes, expected) => {
    expect(await logFileBytesOf({ logFileBytes, eraseBlockBytes }, 10 * GIB)).toBe(expected);
  });

  test.each([
    ['a quarter of the volume', 20 * MIB, 4 * MIB, 8 * MIB],
    ['that small', 20 * MIB, 0, 5 * MIB],
    ['of one large erase block', MIB, 32 * MIB, 32 * MIB],
  ])('of a small one are %s, in whole erase blocks', async (_name, sizeBytes, eraseBlockBytes, expected) => {
    expect(await logFileBytesOf({ logFileBytes: 64 * MIB, eraseBlockBytes }, sizeBytes)).toBe(expected);
  });

  test('are used up to their rounded size before the next one begins', async () => {
    const machine = new SimMachine(smallSettings({ logFileBytes: 320 * KIB, eraseBlockBytes: 256 * KIB }));
    await machine.run(async () => {
      const { env, settings } = machine;
      await createVolume({ env, directory: '/v', settings, create: { sizeBytes: 4 * MIB, blockSizeBytes: BLOCK_BYTES, durability: 'batched' } });
      const volume = await openVolume({ env, directory: '/v', settings, arena: smallArena(settings) });
      for (let block = 0; block < 150; block += 1) await volume.write(block * BLOCK_BYTES, pattern(block), false);
      await volume.close();
      const log = machine.disk.findDirectory('/v/log').entries.get('00.log');
      const sizeBytes = log?.kind === 'file' ? log.sizeBytes : 0;
      expect(sizeBytes).toBeGreaterThan(512 * KIB - 2 * BLOCK_BYTES);
      expect(sizeBytes).toBeLessThanOrEqual(512 * KIB);
    });
  });
});
