/**
 * With compression turned off again, copies of compressed blocks take more than they give back. Such chunks headed the candidates for compaction
 * all the same, and what was not worth it for them was done for no other chunk either: a few of them stopped compaction for good.
 */
import { expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, readAll, smallSettings } from '../support/engine-harness.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const AGE_MS = 10;
const PAUSE_MS = 1000;
const SETTINGS = smallSettings({
  flushIntervalMs: AGE_MS,
  compactLivePercent: 60,
  compactSpacePercent: 130,
  compactPauseMs: PAUSE_MS,
  compactBytesPerSecond: 64 * MIB,
  checkpointIntervalMs: 2 * PAUSE_MS,
});

/** A block of which next to nothing is left when it is compressed. */
function thin(seed: number): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  block.set(pattern(seed).subarray(0, 64));
  return block;
}

test('chunks that are not compressed are compacted though older ones are, and copies are not', async () => {
  const machine = new SimMachine(SETTINGS);
  const expected = Buffer.alloc(8 * MIB);
  await machine.run(async () => {
    await machine.create('/v', { sizeBytes: 8 * MIB });
    const first = await machine.open('/v', { ...SETTINGS, chunkCompress: 'lz4' });
    // Eight compressed chunks, of which a quarter stays.
    for (let chunk = 0; chunk < 8; chunk += 1) {
      const bytes = Buffer.concat(Array.from({ length: SLOTS }, (_, i) => thin(chunk * SLOTS + i + 1)));
      await first.write(chunk * SLAB_BYTES, bytes, false);
      expected.set(bytes.subarray(0, 4 * BLOCK_BYTES), chunk * SLAB_BYTES);
    }
    await first.close();
    const volume = await machine.open('/v', SETTINGS);
    for (let chunk = 0; chunk < 8; chunk += 1) await volume.trim(chunk * SLAB_BYTES + 4 * BLOCK_BYTES, (SLOTS - 4) * BLOCK_BYTES, false);
    // They are old when plain ones come, of which an eighth stays.
    for (let round = 0; round < 150; round += 1) {
      await volume.write(127 * SLAB_BYTES, pattern(5000 + round), false);
      expected.set(pattern(5000 + round), 127 * SLAB_BYTES);
      await machine.process.sleep(4 * AGE_MS);
    }
    for (let chunk = 8; chunk < 72; chunk += 1) {
      const bytes = pattern(1000 + chunk, SLOTS);
      await volume.write(chunk * SLAB_BYTES, bytes, false);
      expected.set(bytes.subarray(0, 2 * BLOCK_BYTES), chunk * SLAB_BYTES);
    }
    await machine.process.sleep(4 * AGE_MS);
    for (let chunk = 8; chunk < 72; chunk += 1) await volume.trim(chunk * SLAB_BYTES + 2 * BLOCK_BYTES, (SLOTS - 2) * BLOCK_BYTES, false);
    await machine.process.sleep(30 * PAUSE_MS);
    const { liveBytes, storedChunkBytes, compactions } = volume.stats();
    expect(compactions).toBeGreaterThan(0);
    expect(storedChunkBytes).toBeLessThan(1.5 * liveBytes);
    const calls = machine.calls.length;
    await machine.process.sleep(100 * PAUSE_MS);
    expect(machine.calls.length, 'it has come to an end').toBe(calls);
    expect((await readAll(volume)).equals(expected)).toBe(true);
    await volume.close();
  });
});
