import { expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, readAll, smallSettings } from '../support/engine-harness.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const AGE_MS = 10;
const PAUSE_MS = 1000;
const SETTINGS = smallSettings({
  flushIntervalMs: AGE_MS,
  compactLivePercent: 60,
  compactPauseMs: PAUSE_MS,
  compactBytesPerSecond: 64 * MIB,
  checkpointIntervalMs: 2 * PAUSE_MS,
  chunkCompress: 'lz4',
});

/** Blocks of which half compresses. */
function half(seed: number, count: number): Buffer {
  const blocks = Array.from({ length: count }, (_, i) => [pattern(seed * 100 + i).subarray(0, BLOCK_BYTES / 2), Buffer.alloc(BLOCK_BYTES / 2)]);
  return Buffer.concat(blocks.flat());
}

test.each(['lz4', 'off'] as const)('the space of trimmed blocks comes back where chunks are compressed, and copies with chunk_compress %s', async (chunkCompress) => {
  const machine = new SimMachine(SETTINGS);
  const expected = Buffer.alloc(4 * MIB);
  await machine.run(async () => {
    await machine.create('/v', { sizeBytes: 4 * MIB });
    const first = await machine.open('/v');
    for (let chunk = 0; chunk < 32; chunk += 1) {
      const bytes = half(chunk + 1, SLOTS);
      await first.write(chunk * SLAB_BYTES, bytes, false);
      expected.set(bytes.subarray(0, 8 * BLOCK_BYTES), chunk * SLAB_BYTES);
    }
    await machine.process.sleep(4 * AGE_MS);
    const full = first.stats();
    expect(full.liveStoredBytes / full.liveBytes).toBeGreaterThan(0.5);
    expect(full.liveStoredBytes / full.liveBytes).toBeLessThan(0.6);
    await first.close();
    const volume = await machine.open('/v', { ...machine.settings, chunkCompress });
    expect(volume.stats().liveStoredBytes).toBe(full.liveStoredBytes);
    for (let chunk = 0; chunk < 32; chunk += 1) await volume.trim(chunk * SLAB_BYTES + 8 * BLOCK_BYTES, 8 * BLOCK_BYTES, false);
    await machine.process.sleep(20 * PAUSE_MS);
    const { liveBytes, liveStoredBytes, storedChunkBytes, compactions } = volume.stats();
    expect(liveBytes).toBe(full.liveBytes / 2);
    // Copies that are not compressed give nothing back: none are made.
    expect(compactions > 0).toBe(chunkCompress === 'lz4');
    expect(storedChunkBytes / liveStoredBytes).toBeLessThan(chunkCompress === 'lz4' ? 1.4 : 2.4);
    const calls = machine.calls.length;
    await machine.process.sleep(100 * PAUSE_MS);
    expect(machine.calls.length, 'it has come to an end').toBe(calls);
    expect((await readAll(volume)).equals(expected), 'after compaction').toBe(true);
    await volume.close();
    const again = await machine.open('/v');
    expect((await readAll(again)).equals(expected), 'after the next opening').toBe(true);
    expect(again.stats().liveStoredBytes).toBe(liveStoredBytes);
    await again.close();
  });
});
