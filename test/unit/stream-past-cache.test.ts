/** Reading a volume of the bucket in sequence, when the cache here holds less than what is read ahead, or nothing. */
import { expect, test } from 'vitest';
import { KIB } from '../../src/base/units.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, SLAB_BYTES, pattern, smallSettings } from '../support/engine-harness.ts';
import { REMOTE, RemoteMachine } from '../support/remote-machine.ts';

const SLABS = 60;
const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const PIECE_BYTES = 16 * KIB;

/** A volume of which the bucket alone has the data, and how often all of these were fetched since it was opened. */
async function restored(world: RemoteMachine): Promise<{ readonly volume: Volume; readonly fetchedFactor: () => number }> {
  await world.create('/v');
  const first = await world.open('/v');
  for (let slab = 0; slab < SLABS; slab += 1) await first.write(slab * SLAB_BYTES, pattern(1000 * slab + 1, SLOTS), false);
  await first.drain();
  await first.close();
  await world.restore('/w');
  const volume = await world.open('/w', 'second');
  const received = (): number => volume.status().bucketRequests?.receivedBytes ?? 0;
  const before = received();
  return { volume, fetchedFactor: () => (received() - before) / (SLABS * SLAB_BYTES) };
}

test.each([
  ['one chunk', SLAB_BYTES + 8 * KIB, 2],
  ['nothing', 0, 0],
])('each chunk is fetched once where the cache holds %s', async (_, cacheBytes, keptMax) => {
  const world = new RemoteMachine(smallSettings({ checkpointChunks: 1 }));
  world.remoteSettings = { ...REMOTE, cacheBytes };
  await world.run(async () => {
    const { volume, fetchedFactor } = await restored(world);
    const bytes = Buffer.alloc(SLAB_BYTES);
    for (let slab = 0; slab < SLABS; slab += 1) {
      for (let at = 0; at < SLAB_BYTES; at += PIECE_BYTES) await volume.read(slab * SLAB_BYTES + at, bytes.subarray(at, at + PIECE_BYTES));
      expect(bytes.equals(pattern(1000 * slab + 1, SLOTS))).toBe(true);
    }
    // Once, but for the few that were begun before it was seen that the reads are a sequence.
    expect(fetchedFactor()).toBeLessThan(1.25);
    await world.machine.env.clock.sleep(1000);
    expect(world.chunksIn('/w').length).toBeLessThanOrEqual(keptMax);
    await volume.close();
  });
});

test.each([
  ['nothing', 0, 8000],
  ['one chunk', SLAB_BYTES + 8 * KIB, 8000],
  ['one chunk', SLAB_BYTES + 8 * KIB, 20_000],
])('of a stream no more is fetched ahead than it reads before that is forgotten, where the cache holds %s', async (_, cacheBytes, msPerPiece) => {
  const world = new RemoteMachine(smallSettings({ checkpointChunks: 1 }));
  world.remoteSettings = { ...REMOTE, cacheBytes, readAheadBytes: 8 * 136 * KIB };
  await world.run(async () => {
    const { volume, fetchedFactor } = await restored(world);
    const bytes = Buffer.alloc(SLAB_BYTES);
    for (let slab = 0; slab < SLABS; slab += 1) {
      await volume.read(slab * SLAB_BYTES, bytes);
      await world.machine.env.clock.sleep(msPerPiece);
    }
    expect(fetchedFactor()).toBeLessThan(1.3);
    await volume.close();
  });
});
