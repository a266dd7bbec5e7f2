/** Errors of the file system in places where none are expected reach the caller as VolumeErrors: anything else ends a server. */
import { expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { VolumeSet } from '../../src/volume/volume-set.ts';
import { boot, type Machine, SETTINGS } from '../support/faulty-machine.ts';

const OPTIONS = { sizeBytes: MIB, blockSizeBytes: 4 * KIB, durability: 'batched' } as const;

async function volumesOf({ env }: Machine): Promise<VolumeSet> {
  await env.files.makeDirectory('/data');
  const settings = { ...SETTINGS, arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB };
  const volumes = new VolumeSet({ env, directory: '/data', settings });
  await volumes.create('good', OPTIONS);
  await volumes.create('locked', OPTIONS);
  return volumes;
}

test('a volume whose directory may not be entered is left out of the list and refused, and the others are served', async () => {
  const machine = boot();
  const { scheduler, faults } = machine;
  faults.matches = (call) => call.path.startsWith('/data/locked/');
  await scheduler.drive(async () => {
    const volumes = await volumesOf(machine);
    faults.code = 'EACCES';
    expect((await volumes.list()).map(({ name }) => name)).toEqual(['good']);
    await expect(volumes.acquire('locked')).rejects.toBeInstanceOf(VolumeError);
    await expect(volumes.describe('locked')).rejects.toBeInstanceOf(VolumeError);
    await expect(volumes.remove('locked')).rejects.toBeInstanceOf(VolumeError);
    volumes.release(await volumes.acquire('good'));
    await volumes.close();
  });
});

test.each(['open', 'size', 'read'] as const)('a chunk file whose %s fails is an io-error of the read, and readable again later', async (kind) => {
  const machine = boot();
  const { scheduler, faults } = machine;
  faults.matches = (call) => call.kind === kind && call.path.includes('/chunks/c');
  await scheduler.drive(async () => {
    const volumes = await volumesOf(machine);
    const first = await volumes.acquireVolume('good');
    await first.write(0, new Uint8Array(4 * KIB).fill(7), true);
    await first.close();
    await volumes.close();
    const again = new VolumeSet({ env: machine.env, directory: '/data', settings: { ...SETTINGS, arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB } });
    const second = await again.acquireVolume('good');
    const target = new Uint8Array(4 * KIB);
    faults.code = 'EIO';
    await expect(second.read(0, target)).rejects.toMatchObject({ code: 'io-error' });
    faults.code = null;
    await second.read(0, target);
    expect(target[0]).toBe(7);
    await again.close();
  });
});
