/** Closing a volume while something goes wrong, in a simulated process. */
import { describe, expect, test } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import { createVolume } from '../../src/volume/create-volume.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import { readManifest } from '../../src/volume/volume-files.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { boot, type Machine, SETTINGS } from '../support/faulty-machine.ts';

const DIRECTORY = '/volume';

async function make({ env }: Machine, directory = DIRECTORY): Promise<void> {
  await createVolume({ env, directory, settings: SETTINGS, create: { sizeBytes: 16 * MIB, blockSizeBytes: 4 * KIB, durability: 'batched' } });
}

function open({ env, arena }: Machine, directory = DIRECTORY): Promise<Volume> {
  return openVolume({ env, directory, settings: SETTINGS, arena });
}

function blockOf(value: number): Uint8Array {
  return new Uint8Array(4 * KIB).fill(value);
}

async function readBlock(volume: Volume, offsetBytes: number): Promise<number> {
  const target = new Uint8Array(4 * KIB);
  await volume.read(offsetBytes, target);
  return target[0];
}

describe('after a close', () => {
  test('whose last chunk waited for space, no checkpoint is written over the work of the next owner', async () => {
    const machine = boot();
    const { env, scheduler, faults } = machine;
    faults.matches = (call) => call.kind === 'write' && call.path.includes('.stage-');
    await scheduler.drive(async () => {
      await make(machine);
      const first = await open(machine);
      await first.write(0, blockOf(1), true);
      faults.code = 'ENOSPC';
      const closed = first.close();
      await env.clock.sleep(20);
      faults.code = null;
      await closed;
      const second = await open(machine);
      await second.write(0, blockOf(2), true);
      await env.clock.sleep(3 * SETTINGS.checkpointIntervalMs);
      expect((await readManifest(env.files, DIRECTORY)).epoch).toBe(2);
      await second.close();
      const third = await open(machine);
      expect(await readBlock(third, 0)).toBe(2);
      await third.close();
    });
  });

  test('on a full disk nothing of a set of chunks is left that was only begun', async () => {
    const machine = boot();
    const { env, scheduler, faults } = machine;
    let written = 0;
    // The first part of the set fits.
    faults.matches = (call) => call.kind === 'write' && call.path.includes('/chunks/') && (written += 1) > 1;
    await scheduler.drive(async () => {
      await make(machine);
      const first = await open(machine);
      for (let index = 0; index < 40; index += 1) await first.write(index * 4 * KIB, blockOf(index + 1), false);
      faults.code = 'ENOSPC';
      await first.close();
      expect(written).toBeGreaterThan(1);
      faults.code = null;
      expect(await env.files.list(`${DIRECTORY}/chunks`)).toEqual([]);
      const second = await open(machine);
      expect(await readBlock(second, 39 * 4 * KIB)).toBe(40);
      await second.close();
    });
  });

  test('a file that cannot be closed is told, and does not keep the volume locked', async () => {
    const machine = boot();
    const { scheduler, faults } = machine;
    faults.matches = (call) => call.kind === 'close' && call.path.includes('/log/');
    await scheduler.drive(async () => {
      await make(machine);
      const first = await open(machine);
      await first.write(0, blockOf(1), true);
      faults.code = 'EIO';
      await expect(first.close()).rejects.toMatchObject({ code: 'io-error' });
      faults.code = null;
      const second = await open(machine);
      expect(await readBlock(second, 0)).toBe(1);
      await second.close();
    });
  });

  test('an opening that fails lets go of the volume even if its files cannot be closed', async () => {
    const machine = boot();
    const { scheduler, faults } = machine;
    faults.matches = (call) => call.path.includes('/log/') && (call.kind === 'close' || call.kind === 'read');
    await scheduler.drive(async () => {
      await make(machine);
      faults.code = 'EIO';
      await expect(open(machine)).rejects.toMatchObject({ code: 'io-error' });
      faults.code = null;
      await (await open(machine)).close();
    });
  });

  test('a read that was under way never sees memory that another volume has by then', async () => {
    const machine = boot();
    const { scheduler } = machine;
    await scheduler.drive(async () => {
      await make(machine);
      await make(machine, '/other');
      const leafBytes = 4 * MIB;
      const writer = await open(machine);
      for (let leaf = 0; leaf < 4; leaf += 1) await writer.write(leaf * leafBytes, blockOf(1), false);
      await writer.close();
      const reader = await open(machine);
      const other = await open(machine, '/other');
      expect(await readBlock(reader, 0)).toBe(1); // in the cache now, while the other leaves are not in memory
      const target = new Uint8Array(16 * MIB);
      const read = reader.read(0, target).then(
        () => 'done',
        () => 'refused',
      );
      await reader.close();
      await other.write(0, new Uint8Array(SETTINGS.dirtyBytes / 2).fill(2), false);
      const outcome = await read;
      expect(outcome === 'refused' || target[0] === 1).toBe(true);
      await other.close();
    });
  });
});
