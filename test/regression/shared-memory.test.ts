/** Volumes that share an arena. */
import { expect, test } from 'vitest';
import { Arena } from '../../src/base/arena.ts';
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
    expect(arena.dirtyRoom({ evict: () => undefined })).toBe(arena.maxDirtySlabs);
  });
});

test('where failed volumes hold all memory, the others are refused instead of waiting for ever', async () => {
  const { env, scheduler, faults } = boot();
  const slabBytes = 64 * KIB;
  const settings = { ...SETTINGS, arenaBytes: 5 * slabBytes, dirtyBytes: 4 * slabBytes };
  const arena = new Arena({ arenaBytes: settings.arenaBytes, dirtyBytes: settings.dirtyBytes, slabBytes });
  await scheduler.drive(async () => {
    for (const name of ['failing', 'other']) await createVolume({ env, directory: `/${name}`, settings, create: OPTIONS });
    const failing = await openVolume({ env, directory: '/failing', settings, arena });
    const other = await openVolume({ env, directory: '/other', settings, arena });
    faults.matches = (call) => call.path.startsWith('/failing/chunks') && call.kind === 'write';
    faults.code = 'EIO';
    const fillUp = async (): Promise<void> => {
      for (let i = 0; i < 100; i += 1) await failing.write(i * BLOCK.length, BLOCK, false);
    };
    await expect(fillUp()).rejects.toMatchObject({ code: 'io-error' });
    await expect(other.write(0, BLOCK, false)).rejects.toMatchObject({ code: 'limit' });
    await expect(failing.close()).rejects.toMatchObject({ code: 'io-error' });
    await other.write(0, BLOCK, true);
    await other.close();
  });
});

test('a volume whose disk is full lends its memory to the others, and goes on when there is space', async () => {
  const { env, scheduler, arena, faults } = boot();
  await scheduler.drive(async () => {
    for (const name of ['full', 'other']) await createVolume({ env, directory: `/${name}`, settings: SETTINGS, create: OPTIONS });
    const full = await openVolume({ env, directory: '/full', settings: SETTINGS, arena });
    const other = await openVolume({ env, directory: '/other', settings: SETTINGS, arena });
    faults.matches = (call) => call.path.startsWith('/full/chunks') && call.kind === 'write';
    faults.code = 'ENOSPC';
    let taken = 0;
    let refusal: unknown = null;
    const writeOne = async (): Promise<void> => {
      await full.write(taken * BLOCK.length, BLOCK, false);
      taken += 1;
    };
    while (refusal === null) await writeOne().catch((error: unknown) => (refusal = error));
    expect(refusal).toMatchObject({ code: 'no-space' });
    const large = new Uint8Array(4 * SETTINGS.dirtyBytes).fill(2);
    expect(await Promise.race([other.write(0, large, true).then(() => 'written'), env.clock.sleep(60_000).then(() => 'stuck')])).toBe('written');
    // What is lent is not taken by the lender itself.
    await expect(full.write(0, large, false)).rejects.toMatchObject({ code: 'no-space' });
    expect(await Promise.race([other.write(0, large, true).then(() => 'written'), env.clock.sleep(60_000).then(() => 'stuck')])).toBe('written');

    faults.code = null;
    await env.clock.sleep(10 * SETTINGS.retryMs);
    await writeOne();
    await full.flush();
    const target = new Uint8Array(taken * BLOCK.length);
    await full.read(0, target);
    expect(target.every((byte) => byte === 1 || byte === 2)).toBe(true);
    await full.close();
    await other.close();
    expect(arena.stats()).toMatchObject({ dirtySlabs: 0, cleanSlabs: 0 });
    expect(arena.dirtyRoom({ evict: () => undefined })).toBe(arena.maxDirtySlabs);
  });
});

test('a request that takes more than what is lent goes in parts, and does not wait for the full disk', async () => {
  const { env, scheduler, faults } = boot();
  const slabBytes = 64 * KIB;
  const settings = { ...SETTINGS, arenaBytes: 8 * slabBytes, dirtyBytes: 5 * slabBytes };
  const arena = new Arena({ arenaBytes: settings.arenaBytes, dirtyBytes: settings.dirtyBytes, slabBytes });
  await scheduler.drive(async () => {
    for (const name of ['full', 'other']) await createVolume({ env, directory: `/${name}`, settings, create: OPTIONS });
    const full = await openVolume({ env, directory: '/full', settings, arena });
    const other = await openVolume({ env, directory: '/other', settings, arena });
    faults.matches = (call) => call.path.startsWith('/full/chunks') && call.kind === 'write';
    faults.code = 'ENOSPC';
    const fillUp = async (): Promise<void> => {
      for (let i = 0; i < 100; i += 1) await full.write(i * BLOCK.length, BLOCK, false);
    };
    await expect(fillUp()).rejects.toMatchObject({ code: 'no-space' });
    // As much as fits at once while nothing is lent.
    const large = new Uint8Array(4 * slabBytes).fill(2);
    expect(await Promise.race([other.write(0, large, true).then(() => 'written'), env.clock.sleep(60_000).then(() => 'stuck')])).toBe('written');
    const found = new Uint8Array(large.length);
    await other.read(0, found);
    expect(Buffer.compare(found, large)).toBe(0);
    faults.code = null;
    await env.clock.sleep(10 * settings.retryMs);
    await full.close();
    await other.close();
  });
});
