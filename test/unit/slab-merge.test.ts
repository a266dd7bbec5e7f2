import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, readAll, smallArena, smallSettings } from '../support/engine-harness.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const BLOCKS = 4 * SLOTS;

/** Memory for twice the blocks that are written, and a log that asks for no chunks. */
const settings = smallSettings({ flushBytes: 8 * SLAB_BYTES, logFileBytes: 8 * MIB });

/** Overwrites the blocks in an order that leaves something current in each slab. */
function scattered(round: number): number[] {
  return Array.from({ length: BLOCKS }, (_, index) => (index * 37 + round * 11) % BLOCKS);
}

describe('slabs of which much was overwritten', () => {
  test('are merged: blocks that are written again and again reach no chunk before the log or their age ask for it', async () => {
    const machine = new SimMachine(settings);
    const arena = smallArena(settings);
    await machine.run(async () => {
      await machine.create('/v', { sizeBytes: 4 * MIB });
      const volume = await machine.open('/v', settings, arena);
      const expected = Buffer.alloc(BLOCKS * BLOCK_BYTES);
      for (let round = 0; round < 12; round += 1) {
        for (const blockNumber of scattered(round)) {
          const bytes = pattern(round * 1000 + blockNumber);
          await volume.write(blockNumber * BLOCK_BYTES, bytes, false);
          expected.set(bytes, blockNumber * BLOCK_BYTES);
        }
      }
      expect(volume.stats().chunksWritten).toBe(0);
      expect(arena.stats().dirtySlabs).toBeLessThanOrEqual(9);
      expect((await readAll(volume)).subarray(0, expected.length).equals(expected)).toBe(true);
      await volume.close();
      const again = await machine.open('/v');
      expect((await readAll(again)).subarray(0, expected.length).equals(expected)).toBe(true);
      await again.close();
    });
  });

  test('are not merged while their bytes would have to go somewhere else as many: those of single writes go to chunks', async () => {
    const machine = new SimMachine(settings);
    await machine.run(async () => {
      await machine.create('/v', { sizeBytes: 4 * MIB });
      const volume = await machine.open('/v', settings);
      for (let blockNumber = 0; blockNumber < 12 * SLOTS; blockNumber += 1) await volume.write(blockNumber * BLOCK_BYTES, pattern(blockNumber), false);
      await machine.process.sleep(100);
      expect(volume.stats().chunksWritten).toBeGreaterThan(0);
      await volume.close();
    });
  });

  test('lose nothing when the records that overwrote them are lost with the power', async () => {
    const machine = new SimMachine(settings);
    await machine.run(async () => {
      await machine.create('/v', { sizeBytes: 4 * MIB });
      const volume = await machine.open('/v');
      for (let round = 0; round < 12; round += 1) for (const blockNumber of scattered(round)) await volume.write(blockNumber * BLOCK_BYTES, pattern(round * 1000 + blockNumber), false);
      await volume.flush();
      const durable = Buffer.from(await readAll(volume));
      await volume.write(3 * BLOCK_BYTES, pattern(77), false);
      machine.disk.cutPower({ keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false });
      machine.restart();
      const again = await machine.open('/v');
      expect((await readAll(again)).equals(durable)).toBe(true);
      await again.close();
    });
  });
});
