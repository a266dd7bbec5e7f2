import { expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, readAll, smallSettings } from '../support/engine-harness.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const REGION_SLABS = 6;
/** Three times the memory for dirty data. */
const ROUNDS = 8;

test('a log of more than the memory is replayed without making chunks of what it overwrites itself', async () => {
  const machine = new SimMachine(smallSettings({ logFileBytes: 4 * MIB }));
  await machine.run(async () => {
    await machine.create('/v');
    const volume = await machine.open('/v');
    for (let round = 0; round < ROUNDS; round += 1) {
      for (let slab = 0; slab < REGION_SLABS; slab += 1) await volume.write(slab * SLAB_BYTES, pattern(round * 100 + slab, SLOTS), false);
    }
    expect(volume.stats().chunksWritten).toBe(0);
    machine.restart();
    const again = await machine.open('/v');
    expect(again.stats().chunksWritten).toBe(0);
    const newest = Array.from({ length: REGION_SLABS }, (_, slab) => pattern((ROUNDS - 1) * 100 + slab, SLOTS));
    expect((await readAll(again)).subarray(0, REGION_SLABS * SLAB_BYTES).equals(Buffer.concat(newest))).toBe(true);
    await again.close();
  });
});
