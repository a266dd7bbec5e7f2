/** Simulator, seed 1 of the first worlds with scrubs: after an opening a scrub called chunks rotten that had been removed, as they should be. */
import { expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { BLOCK_BYTES, SimMachine, pattern, smallSettings } from '../support/engine-harness.ts';

const AGE_MS = 10;

test('a chunk that was removed behind the last checkpoint is not missed after the next opening', async () => {
  const machine = new SimMachine(smallSettings({ flushIntervalMs: AGE_MS, checkpointChunks: 1 }));
  await machine.run(async () => {
    await machine.create('/v');
    const volume = await machine.open('/v');
    await volume.write(0, pattern(1, 4), false);
    while (volume.stats().checkpoints < 1) await machine.process.sleep(AGE_MS);
    // The checkpoint behind this one still lists the first chunk, without a live block; then its file goes.
    await volume.write(0, pattern(2, 4), false);
    while (volume.stats().chunksRemoved < 1) await machine.process.sleep(AGE_MS);
    await volume.close();
    const { length } = machine.names('/v/chunks');
    const again = await machine.open('/v');
    const { storedChunkBytes } = again.stats();
    const report = await again.scrub({ bytesPerSecond: MIB, onProgress: () => undefined, signal: new AbortController().signal });
    expect(report.rotten).toEqual([]);
    expect(report).toMatchObject({ isClean: true, chunks: length });
    expect(storedChunkBytes).toBe(machine.bytesOf(`/v/chunks/${machine.names('/v/chunks')[0]}`).length);
    expect(storedChunkBytes).toBeGreaterThan(4 * BLOCK_BYTES);
    await again.close();
  });
});
