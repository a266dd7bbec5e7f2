/** Logs of versions whose slabs and chunks held as many blocks as fit in a slab without header and tables. */
import { expect, test } from 'vitest';
import { Arena } from '../../src/base/arena.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { fullChunkBlocks } from '../../src/format/chunk-layout.ts';
import { BLOCK_BYTES, SimMachine, pattern, readAll, smallSettings } from '../support/engine-harness.ts';

const SLAB_BYTES = 256 * KIB;
const SLAB_BLOCKS = SLAB_BYTES / BLOCK_BYTES;
const SETTINGS = smallSettings({ arenaBytes: 8 * SLAB_BYTES, dirtyBytes: 6 * SLAB_BYTES, flushBytes: 5 * SLAB_BYTES, logFileBytes: 2 * MIB });

function arenaOf(slabBytes: number): Arena {
  return new Arena({ arenaBytes: 8 * SLAB_BYTES, dirtyBytes: 6 * SLAB_BYTES, slabBytes });
}

test.each([
  ['by itself', [SLAB_BLOCKS]],
  ['behind others', [3, SLAB_BLOCKS]],
  ['before others', [SLAB_BLOCKS, 3, SLAB_BLOCKS - 1, SLAB_BLOCKS - 2, 7]],
  ['and many more', [1, SLAB_BLOCKS, SLAB_BLOCKS, SLAB_BLOCKS - 1, 5, SLAB_BLOCKS, SLAB_BLOCKS, SLAB_BLOCKS, SLAB_BLOCKS, 2, SLAB_BLOCKS]],
])('a record of the log that takes a whole slab is put back, %s', async (_, counts) => {
  expect(fullChunkBlocks(SLAB_BYTES, BLOCK_BYTES)).toBeLessThan(SLAB_BLOCKS - 1);
  const machine = new SimMachine(SETTINGS);
  await machine.run(async () => {
    await machine.create('/v');
    // Larger slabs make records as large as those of the versions before.
    const first = await machine.open('/v', SETTINGS, arenaOf(2 * SLAB_BYTES));
    const expected = Buffer.alloc(4 * MIB);
    let block = 0;
    for (const [index, count] of counts.entries()) {
      const bytes = pattern(index + 1, count);
      await first.write(block * BLOCK_BYTES, bytes, false);
      expected.set(bytes, block * BLOCK_BYTES);
      block += count;
    }
    await first.flush();
    machine.restart();
    const second = await machine.open('/v', SETTINGS, arenaOf(SLAB_BYTES));
    expect((await readAll(second)).equals(expected)).toBe(true);
    // What is written now goes nowhere else.
    const more = pattern(99, SLAB_BLOCKS + 5);
    await second.write(block * BLOCK_BYTES, more, true);
    expected.set(more, block * BLOCK_BYTES);
    expect((await readAll(second)).equals(expected)).toBe(true);
    await second.close();
    machine.restart();
    const third = await machine.open('/v', SETTINGS, arenaOf(SLAB_BYTES));
    expect((await readAll(third)).equals(expected)).toBe(true);
    await third.close();
  });
});
