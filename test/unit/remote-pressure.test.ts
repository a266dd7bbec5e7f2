/** Volumes whose bucket is out of reach, or whose disk is full: writers are slowed, then wait, and nothing fails. */
import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { MemoryLogger } from '../support/fake-world.ts';
import { WritePressure } from '../../src/volume/write-pressure.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, smallSettings } from '../support/engine-harness.ts';
import { REMOTE, RemoteMachine } from '../support/remote-machine.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const SETTINGS = smallSettings({ flushBytes: SLAB_BYTES, checkpointChunks: 4 });

/** Writes slabs side by side, one after another; counts those that were answered. */
class Writer {
  answered = 0;
  readonly done: Promise<void>;

  constructor(volume: Volume, slabs: number) {
    this.done = this.#run(volume, slabs);
  }

  async #run(volume: Volume, slabs: number): Promise<void> {
    for (let slab = 0; slab < slabs; slab += 1) {
      await volume.write(slab * SLAB_BYTES, pattern(slab, SLOTS), false);
      this.answered += 1;
    }
  }
}

async function expectSlabs(volume: Volume, slabs: number): Promise<void> {
  for (let slab = 0; slab < slabs; slab += 1) {
    const target = Buffer.alloc(SLAB_BYTES);
    await volume.read(slab * SLAB_BYTES, target);
    expect(target.equals(pattern(slab, SLOTS)), `slab ${slab}`).toBe(true);
  }
}

describe('writers of a volume whose bucket is out of reach', () => {
  test('go on as long as there is space, wait at the limit, and catch up', async () => {
    const world = new RemoteMachine(SETTINGS);
    world.remoteSettings = { ...REMOTE, maxUnshippedBytes: 8 * SLAB_BYTES };
    await world.run(async () => {
      await world.create('/first', 8 * MIB);
      const volume = await world.open('/first');
      await volume.drain();
      world.bucket.isDown = true;
      const writer = new Writer(volume, 70);
      await world.machine.process.sleep(30_000);
      const answered = writer.answered;
      // What is in memory comes on top of it.
      expect(answered).toBeGreaterThanOrEqual(8);
      expect(answered).toBeLessThanOrEqual(8 + SETTINGS.dirtyBytes / SLAB_BYTES);
      expect(volume.status().shipping?.writers).toBe('paused');
      expect(volume.failure).toBeNull();
      await volume.flush();
      await volume.trim(100 * SLAB_BYTES - BLOCK_BYTES, BLOCK_BYTES, false);
      world.bucket.isDown = false;
      await writer.done;
      await volume.drain();
      expect(volume.status().shipping).toMatchObject({ writers: 'free', unshippedBytes: 0, trouble: null });
      await expectSlabs(volume, 70);
      await volume.close();
    });
  });
});

describe('a full disk', () => {
  test('makes room by what the bucket has, and nobody is told "no space"', async () => {
    const world = new RemoteMachine(SETTINGS);
    await world.run(async () => {
      await world.create('/first', 8 * MIB);
      const volume = await world.open('/first');
      const { disk } = world.machine;
      world.machine.fault = (call) => (call.kind === 'write' && call.path.includes('/chunks/') && disk.usedBytes('/first/chunks') > 30 * SLAB_BYTES ? { kind: 'error', code: 'ENOSPC' } : null);
      const writer = new Writer(volume, 70);
      await writer.done;
      await volume.drain();
      expect(disk.usedBytes('/first/chunks')).toBeLessThan(40 * SLAB_BYTES);
      await expectSlabs(volume, 70);
      await volume.close();
    });
  });

  test('while the bucket is out of reach: writers wait for it', async () => {
    const world = new RemoteMachine(SETTINGS);
    await world.run(async () => {
      await world.create('/first', 8 * MIB);
      const volume = await world.open('/first');
      await volume.drain();
      const { disk } = world.machine;
      world.machine.fault = (call) => (call.kind === 'write' && call.path.includes('/chunks/') && disk.usedBytes('/first/chunks') > 30 * SLAB_BYTES ? { kind: 'error', code: 'ENOSPC' } : null);
      world.bucket.isDown = true;
      const writer = new Writer(volume, 70);
      await world.machine.process.sleep(10_000);
      expect(writer.answered).toBeGreaterThanOrEqual(25);
      expect(writer.answered).toBeLessThan(70);
      expect(volume.status().shipping?.writers).toBe('paused');
      world.bucket.isDown = false;
      await writer.done;
      await volume.drain();
      await expectSlabs(volume, 70);
      await volume.close();
    });
  });

  test('that holds nothing of ours to let go is an error, as ever', async () => {
    const world = new RemoteMachine(SETTINGS);
    await world.run(async () => {
      await world.create('/first', 8 * MIB);
      const volume = await world.open('/first');
      await volume.drain();
      world.machine.fault = (call) => (call.kind === 'write' && call.path.includes('/chunks/') ? { kind: 'error', code: 'ENOSPC' } : null);
      await expect(new Writer(volume, 70).done).rejects.toMatchObject({ code: 'no-space' });
      await volume.close();
    });
  });
});

test('the nearer the limit is, the longer each write waits', async () => {
  const machine = new SimMachine();
  await machine.run(async () => {
    const logger = new MemoryLogger();
    let unshipped = 0;
    let wakes = 0;
    const pressure = new WritePressure({ env: { clock: machine.env.clock, logger }, volume: 'v', maxBytes: 1000, unshippedBytes: () => unshipped, wake: () => { wakes += 1; } });
    const pauseAt = async (bytes: number): Promise<number> => {
      unshipped = bytes;
      while (!pressure.admits()) await machine.process.sleep(1);
      const since = machine.env.clock.nowMs();
      while (!pressure.admits()) await machine.process.sleep(0.5);
      return machine.env.clock.nowMs() - since;
    };
    expect(await pauseAt(700)).toBe(0);
    const early = await pauseAt(800);
    const late = await pauseAt(990);
    expect(early).toBeGreaterThan(0);
    expect(late).toBeGreaterThan(20 * early);
    expect(wakes).toBeGreaterThan(0);
    unshipped = 1000;
    expect(pressure.admits()).toBe(false);
    expect(pressure.state).toBe('paused');
    unshipped = 0;
    pressure.eased();
    expect(pressure.admits()).toBe(true);
    expect(logger.events()).toEqual(['writes-slowed', 'writes-paused', 'writes-go-on']);
  });
});
