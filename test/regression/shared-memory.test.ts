/** Volumes that share an arena. */
import { expect, test } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import { createVolume } from '../../src/volume/create-volume.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import { boot, SETTINGS } from '../support/faulty-machine.ts';

const OPTIONS = { sizeBytes: 64 * MIB, blockSizeBytes: 4 * KIB, durability: 'batched' } as const;
const BLOCK = new Uint8Array(4 * KIB).fill(1);

test('a volume that failed with all memory in its hands does not stop the others, and is still read', async () => {
  const { env, scheduler, arena, faults } = boot();
  await scheduler.drive(async () => {
    for (const name of ['failing', 'other']) await createVolume({ env, directory: `/${name}`, settings: SETTINGS, create: OPTIONS });
    const failing = await openVolume({ env, directory: '/failing', settings: SETTINGS, arena });
    const other = await openVolume({ env, directory: '/other', settings: SETTINGS, arena });
    faults.matches = (call) => call.path.startsWith('/failing/chunks') && call.kind === 'sync';
    faults.code = 'EIO';
    let taken = 0;
    let failure: unknown = null;
    while (failure === null) {
      await failing.write(taken * BLOCK.length, BLOCK, false).then(
        () => (taken += 1),
        (error: unknown) => (failure = error),
      );
    }
    expect(arena.stats().dirtySlabs).toBe(arena.maxDirtySlabs);
    const large = new Uint8Array(SETTINGS.dirtyBytes).fill(2);
    const outcome = await Promise.race([other.write(0, large, true).then(() => 'written'), env.clock.sleep(60_000).then(() => 'stuck')]);
    expect(outcome).toBe('written');
    const target = new Uint8Array(taken * BLOCK.length);
    await failing.read(0, target);
    expect(target.every((byte) => byte === 1)).toBe(true);
    await expect(failing.close()).rejects.toMatchObject({ code: 'io-error' });
    await other.close();
    expect(arena.stats()).toMatchObject({ dirtySlabs: 0, cleanSlabs: 0 });
    expect(arena.dirtyRoom()).toBe(arena.maxDirtySlabs);
  });
});
