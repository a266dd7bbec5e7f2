/** CACHE is a hint that may name any range: it must cost no more than it can bring. */
import { expect, test } from 'vitest';
import { Arena } from '../../src/base/arena.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import { createVolume } from '../../src/volume/create-volume.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import { boot, SETTINGS } from '../support/faulty-machine.ts';

const OPTIONS = { sizeBytes: 64 * GIB, blockSizeBytes: 4 * KIB, durability: 'batched' } as const;

test('hints for all of a large volume leave turns to others, and end soon', async () => {
  const { env, scheduler } = boot();
  const arena = new Arena({ arenaBytes: 16 * MIB, dirtyBytes: MIB, slabBytes: 64 * KIB });
  await scheduler.drive(async () => {
    await createVolume({ env, directory: '/volume', settings: SETTINGS, create: OPTIONS });
    const volume = await openVolume({ env, directory: '/volume', settings: SETTINGS, arena });
    let turns = 0;
    let ended = false;
    const others = async (): Promise<void> => {
      while (!ended) {
        await env.clock.yield();
        turns += 1;
      }
    };
    const counting = others();
    // Without turns in between the first of them alone would take 64 GiB of zeroes.
    const eventsBefore = scheduler.eventsRun;
    await Promise.all(Array.from({ length: 256 }, () => volume.cache(0, OPTIONS.sizeBytes)));
    ended = true;
    await counting;
    expect(turns).toBeGreaterThan(10);
    expect(scheduler.eventsRun - eventsBefore).toBeLessThan(1000);
    await volume.close();
  });
});

test('a hint brings what is stored into memory', async () => {
  const { env, scheduler, arena } = boot();
  await scheduler.drive(async () => {
    await createVolume({ env, directory: '/volume', settings: SETTINGS, create: OPTIONS });
    const first = await openVolume({ env, directory: '/volume', settings: SETTINGS, arena });
    await first.write(0, new Uint8Array(16 * KIB).fill(3), false);
    await first.close();
    const second = await openVolume({ env, directory: '/volume', settings: SETTINGS, arena });
    const target = new Uint8Array(16 * KIB);
    expect(second.readNow(0, target.length, target, 0)).toBe(false);
    await second.cache(0, target.length);
    expect(second.readNow(0, target.length, target, 0)).toBe(true);
    expect(target.every((byte) => byte === 3)).toBe(true);
    await second.close();
  });
});
