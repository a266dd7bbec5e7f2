import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { NBD_CMD_READ, NBD_CMD_WRITE, NBD_ENOSPC } from '../../src/protocol/constants.ts';
import { checkVolume } from '../../src/volume/check.ts';
import { VolumeSet } from '../../src/volume/volume-set.ts';
import { BLOCK_BYTES, SimMachine, pattern, smallSettings } from '../support/engine-harness.ts';
import { MemoryDevice, MemoryDirectory } from '../support/memory-device.ts';
import { SessionDriver, testResources } from '../support/session-driver.ts';
import { text } from '../support/text.ts';

const CREATE = { sizeBytes: MIB, blockSizeBytes: BLOCK_BYTES, durability: 'batched' } as const;
const YES = { mayShrink: true };
const NO = { mayShrink: false };

function world(): { machine: SimMachine; open: () => VolumeSet } {
  const machine = new SimMachine(smallSettings({ arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB, checkpointChunks: 1 }));
  machine.disk.makeDirectory('/data');
  return { machine, open: () => new VolumeSet({ env: machine.env, directory: '/data', settings: machine.settings }) };
}

const firstByte = async (volume: { read(at: number, target: Uint8Array): Promise<void> }, at: number): Promise<number> => {
  const target = new Uint8Array(1);
  await volume.read(at, target);
  return target[0];
};

describe('a volume', () => {
  test('grows while it is open, and has what was written there after a checkpoint, a restart and in a check', async () => {
    const { machine, open } = world();
    const [low, high] = [pattern(1), pattern(2)];
    await machine.run(async () => {
      const set = open();
      await set.create('a', CREATE);
      const volume = await set.acquireVolume('a');
      await volume.write(0, low, false);
      await set.resize('a', 8 * MIB, NO);
      expect(volume.sizeBytes).toBe(8 * MIB);
      expect((await set.list())[0]).toMatchObject({ sizeBytes: 8 * MIB });
      await volume.write(8 * MIB - BLOCK_BYTES, high, true);
      set.release(volume);
      await set.close();
    });
    machine.restart();
    await machine.run(async () => {
      const report = await checkVolume({ env: machine.env, directory: '/data/a', name: 'a', settings: machine.settings, deep: true, onProgress: () => undefined });
      expect(report.findings).toEqual([]);
      const set = open();
      expect(await set.describe('a')).toMatchObject({ sizeBytes: 8 * MIB });
      const volume = await set.acquireVolume('a');
      const target = new Uint8Array(BLOCK_BYTES);
      await volume.read(8 * MIB - BLOCK_BYTES, target);
      expect(target).toEqual(new Uint8Array(high));
      set.release(volume);
      await set.close();
    });
  });

  test('reads blocks of chunks that lie behind its old end, without being opened anew', async () => {
    const machine = new SimMachine(smallSettings({ chunkTableBytes: 1, openChunkFiles: 1, arenaBytes: 4 * 65_536, dirtyBytes: 3 * 65_536 }));
    await machine.run(async () => {
      await machine.create('/v', { sizeBytes: MIB });
      const volume = await machine.open('/v');
      await volume.resize(4 * MIB);
      for (let at = 0; at < 4 * MIB; at += 16 * BLOCK_BYTES) await volume.write(at, pattern(1 + at, 16), true);
      for (let at = 4 * MIB - 16 * BLOCK_BYTES; at >= 0; at -= 16 * BLOCK_BYTES) expect(await firstByte(volume, at)).toBe(pattern(1 + at)[0]);
      await volume.close();
    });
  });

  test('is not made smaller without consent: the error says what would be lost, and who uses it', async () => {
    const { machine, open } = world();
    await machine.run(async () => {
      const set = open();
      await set.create('a', CREATE);
      const volume = await set.acquireVolume('a');
      await volume.write(0, pattern(1, 2), false);
      await volume.write(MIB / 2 + 5 * BLOCK_BYTES, pattern(2, 3), false);
      const lost = { needsConsent: true, volume: 'a', lostBytes: 3 * BLOCK_BYTES, firstByte: MIB / 2 + 5 * BLOCK_BYTES, endByte: MIB / 2 + 8 * BLOCK_BYTES, users: 1 };
      await expect(set.resize('a', MIB / 2, NO)).rejects.toMatchObject({ code: 'invalid-argument', message: 'making volume a smaller, from 1 MiB to 512 KiB, cuts off 12 KiB of data between bytes 544768 and 557056, for good; 1 client uses it now', context: lost });
      await expect(set.resize('a', MIB / 2 + 8 * BLOCK_BYTES, NO)).rejects.toMatchObject({ message: text(/cuts off no data: nothing is stored there/) });
      expect(volume.sizeBytes).toBe(MIB);
      for (const wrong of [0, -1, 4097, 1.5, 2 ** 53]) await expect(set.resize('a', wrong, YES), String(wrong)).rejects.toMatchObject({ code: 'invalid-argument' });
      await expect(set.resize('none', MIB, YES)).rejects.toMatchObject({ code: 'not-found' });
      set.release(volume);
      await set.close();
    });
  });

  test('that was made smaller refuses what is past its end, keeps the rest, and has zeroes there when it grows again', async () => {
    const { machine, open } = world();
    await machine.run(async () => {
      const set = open();
      await set.create('a', CREATE);
      const volume = await set.acquireVolume('a');
      await volume.write(0, pattern(1), false);
      await volume.write(MIB - BLOCK_BYTES, pattern(2), true);
      await set.resize('a', MIB / 2, YES);
      await expect(volume.write(MIB - BLOCK_BYTES, pattern(3), false)).rejects.toMatchObject({ code: 'out-of-range' });
      await expect(firstByte(volume, MIB / 2)).rejects.toMatchObject({ code: 'out-of-range' });
      expect(await firstByte(volume, 0)).toBe(pattern(1)[0]);
      await set.resize('a', 2 * MIB, NO);
      const target = new Uint8Array(BLOCK_BYTES).fill(9);
      await volume.read(MIB - BLOCK_BYTES, target);
      expect(target).toEqual(new Uint8Array(BLOCK_BYTES));
      set.release(volume);
      await set.close();
    });
  });

  test('that was made smaller gives the space back, and after a crash before that when it gets the size again', async () => {
    const machine = new SimMachine();
    const liveBlocks = async (): Promise<number> => {
      const volume = await machine.open('/v');
      const { liveBytes } = volume.stats();
      await volume.close();
      return liveBytes / BLOCK_BYTES;
    };
    const fill = async (): Promise<void> => {
      const volume = await machine.open('/v');
      await volume.resize(MIB);
      await volume.write(0, pattern(1, 256), false);
      await volume.close();
    };
    await machine.run(async () => {
      await machine.create('/v', { sizeBytes: MIB });
      await fill();
      expect(await liveBlocks()).toBe(256);
      const volume = await machine.open('/v');
      await volume.resize(16 * BLOCK_BYTES);
      await volume.close();
      expect(await liveBlocks()).toBe(16);
      await fill();
    });
    // The machine dies as soon as the manifest has the smaller size.
    const { process } = machine;
    await machine.run(async () => {
      const volume = await machine.open('/v');
      machine.fault = ({ kind }) => (kind === 'rename' ? { kind: 'crash', when: 'after' } : null);
      await Promise.race([volume.resize(16 * BLOCK_BYTES), process.death]);
    });
    machine.fault = () => null;
    machine.restart();
    await machine.run(async () => {
      expect(await liveBlocks()).toBe(256);
      const volume = await machine.open('/v');
      expect(volume.sizeBytes).toBe(16 * BLOCK_BYTES);
      await volume.resize(16 * BLOCK_BYTES);
      await volume.close();
      expect(await liveBlocks()).toBe(16);
    });
  });

  test('that is full of writers is resized between them', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      await machine.create('/v', { sizeBytes: MIB });
      const volume = await machine.open('/v');
      const writes = Array.from({ length: 100 }, (_, index) => volume.write((index % 128) * BLOCK_BYTES, pattern(index + 1), false));
      await Promise.all([...writes, volume.resize(2 * MIB)]);
      expect(volume.sizeBytes).toBe(2 * MIB);
      expect(await firstByte(volume, 99 * BLOCK_BYTES)).toBe(pattern(100)[0]);
      await volume.close();
    });
  });

  test('is given several sizes at once, one after another', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      await machine.create('/v', { sizeBytes: MIB });
      const volume = await machine.open('/v');
      await volume.write(MIB - BLOCK_BYTES, pattern(1), true);
      await Promise.all([MIB / 2, 2 * MIB, MIB / 4, MIB].map((sizeBytes) => volume.resize(sizeBytes)));
      expect(volume.sizeBytes).toBe(MIB);
      expect(await firstByte(volume, MIB - BLOCK_BYTES)).toBe(0);
      machine.fault = ({ path, kind }) => (path.includes('manifest') && kind === 'create' ? { kind: 'error', code: 'ENOSPC' } : null);
      const [first, second] = await Promise.allSettled([volume.resize(2 * MIB), volume.resize(MIB)]);
      expect([first.status, second.status]).toEqual(['rejected', 'fulfilled']);
      machine.fault = () => null;
      await volume.close();
    });
  });

  test('keeps its size on a full disk, and says why', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      await machine.create('/v', { sizeBytes: MIB });
      const volume = await machine.open('/v');
      machine.fault = ({ path, kind }) => (path.includes('manifest') && (kind === 'create' || kind === 'write') ? { kind: 'error', code: 'ENOSPC' } : null);
      await expect(volume.resize(2 * MIB)).rejects.toMatchObject({ code: 'no-space' });
      machine.fault = () => null;
      expect(volume.sizeBytes).toBe(MIB);
      await expect(volume.write(MIB, pattern(1), false)).rejects.toMatchObject({ code: 'out-of-range' });
      await volume.write(0, pattern(1), true);
      await volume.close();
    });
  });
});

test.each([true, false])('a client that is connected is bound by the new size at once (read-only: %s)', async (readOnly) => {
  const device = new MemoryDevice({ readOnly });
  const driver = new SessionDriver(testResources(new MemoryDirectory(device)));
  await driver.go('disk');
  Object.defineProperty(device, 'sizeBytes', { value: 65_536 });
  const [read, write] = await driver.exchange({ command: NBD_CMD_READ, offset: 65_536, length: 1 }, { command: NBD_CMD_WRITE, offset: 65_536, payload: Buffer.alloc(1) });
  expect(read.error).not.toBe(0);
  expect(readOnly || write.error === NBD_ENOSPC).toBe(true);
  expect(device.calls).toEqual([]); // it was not even asked
});
