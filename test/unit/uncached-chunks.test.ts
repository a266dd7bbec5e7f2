import { expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import type { File, OpenMode } from '../../src/env/env.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, readAll, smallSettings } from '../support/engine-harness.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const BLOCKS = 4 * SLOTS;

/** Writes the same blocks `rounds` times, drains, and tells how its chunks were written, and what is read afterwards. */
async function chunksOf(rounds: number): Promise<{ readonly chunks: number; readonly uncached: number; readonly isRight: boolean }> {
  const machine = new SimMachine(smallSettings({ logFileBytes: 16 * MIB }));
  return machine.run(async () => {
    await machine.create('/v', { sizeBytes: 4 * MIB });
    const modes: OpenMode[] = [];
    const { files } = machine.env;
    const open = files.open.bind(files);
    files.open = (path: string, mode: OpenMode): Promise<File> => {
      modes.push(mode);
      return open(path, mode);
    };
    const volume = await machine.open('/v');
    const expected = Buffer.alloc(4 * MIB);
    for (let round = 0; round < rounds; round += 1) {
      for (let blockNumber = 0; blockNumber < BLOCKS; blockNumber += 1) {
        const bytes = pattern(round * 1000 + blockNumber);
        await volume.write(blockNumber * BLOCK_BYTES, bytes, false);
        expected.set(bytes, blockNumber * BLOCK_BYTES);
      }
    }
    await volume.close();
    const uncached = modes.filter((mode) => mode === 'uncached').length;
    const chunks = volume.stats().chunksWritten;
    const again = await machine.open('/v');
    const isRight = (await readAll(again)).equals(expected);
    await again.close();
    return { chunks, uncached, isRight };
  });
}

test('chunks of blocks that are written again and again do not go through the page cache', async () => {
  const { chunks, uncached, isRight } = await chunksOf(6);
  expect(chunks).toBeGreaterThan(0);
  expect(uncached).toBe(chunks);
  expect(isRight).toBe(true);
});

test('chunks of blocks that are written once stay in the page cache, for whoever reads them next', async () => {
  const { chunks, uncached, isRight } = await chunksOf(1);
  expect(chunks).toBeGreaterThan(0);
  expect(uncached).toBe(0);
  expect(isRight).toBe(true);
});
