import { expect, test } from 'vitest';
import { BLOCK_BYTES, SimMachine, pattern, smallSettings } from '../support/engine-harness.ts';

const AGE_MS = 1000;
const REGION = 128;
const READ_BLOCKS = 16;

/**
 * A region of a third of the memory, written at random again and again, leaves slabs behind of which little is current. The few blocks in
 * them were used all the time when the whole region was read, so that, by use alone, they stayed and full slabs went: it was read from its chunks for ever.
 */
test('a region that fits the memory stays there when it is read again and again', async () => {
  const machine = new SimMachine(smallSettings({ flushIntervalMs: AGE_MS }));
  await machine.run(async () => {
    await machine.create('/v');
    const volume = await machine.open('/v');
    const content = Buffer.alloc(REGION * BLOCK_BYTES);
    const put = async (blockNumber: number, seed: number): Promise<void> => {
      const bytes = pattern(seed);
      content.set(bytes, blockNumber * BLOCK_BYTES);
      await volume.write(blockNumber * BLOCK_BYTES, bytes, false);
    };
    for (let i = 0; i < REGION; i += 1) await put(i, i);
    let at = 1;
    for (let round = 0; round < 40; round += 1) {
      // Half a slab's worth at random places, which become a chunk, and a cached slab.
      for (let i = 0; i < 8; i += 1) {
        at = (at * 75 + 74) % 65_537;
        await put(at % REGION, 1000 + round * 8 + i);
      }
      await machine.env.clock.sleep(3 * AGE_MS);
    }
    const target = new Uint8Array(READ_BLOCKS * BLOCK_BYTES);
    const pass = async (): Promise<number> => {
      const before = volume.stats().cacheMisses;
      for (let i = 0; i < REGION; i += READ_BLOCKS) {
        if (!volume.readNow(i * BLOCK_BYTES, target.length, target, 0)) await volume.read(i * BLOCK_BYTES, target);
        expect(content.subarray(i * BLOCK_BYTES, i * BLOCK_BYTES + target.length).equals(target)).toBe(true);
      }
      return volume.stats().cacheMisses - before;
    };
    for (let i = 0; i < 5; i += 1) await pass();
    expect([await pass(), await pass(), await pass()]).toEqual([0, 0, 0]);
    await volume.close();
  });
});
