import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { VolumeSet } from '../../src/volume/volume-set.ts';
import { BLOCK_BYTES, SimMachine, pattern, smallSettings } from '../support/engine-harness.ts';
import { text } from '../support/text.ts';

const IDLE_MS = 500;
const CREATE = { sizeBytes: MIB, blockSizeBytes: BLOCK_BYTES, durability: 'batched' } as const;

/** A set makes its own arena, of whole slabs. */
function machineWithSet(): { machine: SimMachine; open: () => VolumeSet } {
  const machine = new SimMachine(smallSettings({ arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB, idleCloseMs: IDLE_MS }));
  machine.disk.makeDirectory('/data');
  return { machine, open: () => new VolumeSet({ env: machine.env, directory: '/data', settings: machine.settings }) };
}

describe('a set of volumes', () => {
  test('opens a volume once for all who ask, and closes it when nobody has used it for a while', async () => {
    const { machine, open } = machineWithSet();
    await machine.run(async () => {
      const set = open();
      await set.create('a', CREATE);
      const [first, second] = await Promise.all([set.acquire('a'), set.acquire('a')]);
      expect(second).toBe(first);
      set.release(first);
      await machine.process.sleep(3 * IDLE_MS);
      expect((await set.describe('a')).open).toBe(true);
      expect(first.readNow(0, 1, new Uint8Array(1), 0)).toBe(true);
      set.release(second);
      await machine.process.sleep(3 * IDLE_MS);
      expect(() => first.readNow(0, 1, new Uint8Array(1), 0)).toThrow(expect.objectContaining({ code: 'closed' }));
      expect((await set.describe('a')).open).toBe(false);
      const third = await set.acquire('a');
      expect(third).not.toBe(first);
      await set.close();
    });
  });

  test('does not open a volume anew whose log could not be synced: it stays readable and takes no writes', async () => {
    const { machine, open } = machineWithSet();
    await machine.run(async () => {
      const set = open();
      await set.create('a', CREATE);
      const volume = await set.acquire('a');
      await volume.write(0, pattern(1), true);
      machine.fault = (call) => (call.kind === 'sync' && call.path.endsWith('.log') ? { kind: 'error', code: 'EIO' } : null);
      await expect(volume.write(BLOCK_BYTES, pattern(2), true)).rejects.toMatchObject({ code: 'failed' });
      machine.fault = () => null;
      set.release(volume);
      await machine.process.sleep(3 * IDLE_MS);
      const again = await set.acquire('a');
      expect(again).toBe(volume);
      await expect(again.write(0, pattern(3), false)).rejects.toMatchObject({ code: 'failed' });
      await expect(again.flush()).rejects.toMatchObject({ code: 'failed' });
      const target = new Uint8Array(BLOCK_BYTES);
      await again.read(0, target);
      expect(target).toEqual(new Uint8Array(pattern(1)));
      await expect(set.close()).rejects.toMatchObject({ code: 'failed' });
    });
  });

  test('that is used again in time stays open', async () => {
    const { machine, open } = machineWithSet();
    await machine.run(async () => {
      const set = open();
      await set.create('a', CREATE);
      const first = await set.acquire('a');
      for (let i = 0; i < 4; i += 1) {
        set.release(first);
        await machine.process.sleep(IDLE_MS / 2);
        expect(await set.acquire('a')).toBe(first);
      }
      await set.close();
    });
  });

  test('keeps what was written when it is closed, and hands out nothing afterwards', async () => {
    const { machine, open } = machineWithSet();
    await machine.run(async () => {
      const set = open();
      await set.create('a', CREATE);
      const volume = await set.acquire('a');
      await volume.write(0, pattern(1), false);
      await set.close();
      await expect(set.acquire('a')).rejects.toMatchObject({ code: 'closed' });
      const again = open();
      const target = Buffer.alloc(BLOCK_BYTES);
      await (await again.acquire('a')).read(0, target);
      expect(target.equals(Buffer.from(pattern(1)))).toBe(true);
      await again.close();
    });
  });

  test('says which volumes there are when one is asked for that is not', async () => {
    const { machine, open } = machineWithSet();
    await machine.run(async () => {
      const set = open();
      await set.create('b', CREATE);
      await set.create('a', CREATE);
      await expect(set.describe('c')).rejects.toMatchObject({ code: 'not-found', message: text('there are: a, b') });
      await expect(set.remove('c')).rejects.toMatchObject({ code: 'not-found' });
      await expect(set.acquire('c')).rejects.toMatchObject({ code: 'not-found' });
      await expect(set.create('a', CREATE)).rejects.toMatchObject({ code: 'already-exists' });
      expect((await set.list()).map((entry) => entry.name)).toEqual(['a', 'b']);
      await set.close();
    });
  });

  test('deletes a volume only while nobody has it open, and then all of it', async () => {
    const { machine, open } = machineWithSet();
    await machine.run(async () => {
      const set = open();
      await set.create('a', CREATE);
      await set.acquire('a');
      await expect(set.remove('a')).rejects.toMatchObject({ code: 'in-use' });
      await expect(open().remove('a')).rejects.toMatchObject({ code: 'in-use' });
      await set.close();
      await open().remove('a');
      expect(machine.names('/data')).toEqual([]);
    });
  });

  test('lists what can be read when one manifest is damaged, and opens it only when it is whole again', async () => {
    const { machine, open } = machineWithSet();
    await machine.run(async () => {
      const set = open();
      for (const name of ['a', 'b']) await set.create(name, CREATE);
      const node = machine.disk.findFile('/data/a/manifest');
      const whole = machine.bytesOf('/data/a/manifest');
      machine.disk.write(node, Uint8Array.of(whole[200] ^ 1), 200);
      expect((await set.list()).map((entry) => entry.name)).toEqual(['b']);
      await expect(set.acquire('a')).rejects.toMatchObject({ code: 'corrupt' });
      await expect(set.describe('a')).rejects.toMatchObject({ code: 'corrupt' });
      machine.disk.write(node, whole, 0);
      const volume = await set.acquire('a');
      expect(volume.sizeBytes).toBe(MIB);
      await set.close();
    });
  });

  test('a new volume that finds no space leaves nothing behind', async () => {
    const { machine, open } = machineWithSet();
    await machine.run(async () => {
      const set = open();
      machine.disk.capacityBytes = 100;
      await expect(set.create('a', CREATE)).rejects.toMatchObject({ code: 'no-space' });
      expect(machine.names('/data')).toEqual([]);
      await set.close();
    });
  });
});
