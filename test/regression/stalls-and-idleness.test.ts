/**
 * What went wrong in other block-storage engines while nothing was to be done, or something took long: work in the background that held up
 * clients, work that nobody asked for, answers that never came, data that was not yet safe when the volume was closed.
 */
import { describe, expect, test } from 'vitest';
import { DURABILITY_MODES } from '../../src/base/durability.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { MIB } from '../../src/base/units.ts';
import { checkVolume } from '../../src/volume/check.ts';
import { openForServing } from '../../src/volume/open-read-only.ts';
import { damageOf } from '../../src/volume/probe-volume.ts';
import { scrubClosed } from '../../src/volume/scrub-closed.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { digests, fileOf, flipped, machineWith, sampleFiles, toolOptions, tryOpen, withFile } from '../support/damaged-volumes.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, smallArena, smallSettings } from '../support/engine-harness.ts';
import { SAMPLE_SETTINGS } from '../support/make-sample.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const AGE_MS = 10;
const HOUR_MS = 3_600_000;
/** A call of the disk that a client would notice. */
const SLOW = { kind: 'slow', delayMs: 20_000 } as const;

async function volumeOn(machine: SimMachine): Promise<Volume> {
  await machine.create('/v', { sizeBytes: 4 * MIB });
  return machine.open('/v');
}

async function elapsedMs(machine: SimMachine, task: () => Promise<unknown>): Promise<number> {
  const startMs = machine.env.clock.nowMs();
  await task();
  return machine.env.clock.nowMs() - startMs;
}

async function blockAt(volume: Volume, blockNumber: number): Promise<Buffer> {
  const target = Buffer.alloc(BLOCK_BYTES);
  await volume.read(blockNumber * BLOCK_BYTES, target);
  return target;
}

describe('work in the background that takes long', () => {
  test('as a checkpoint holds up no write and no flush', async () => {
    const machine = new SimMachine(smallSettings({ flushIntervalMs: AGE_MS, checkpointChunks: 1 }));
    await machine.run(async () => {
      const volume = await volumeOn(machine);
      let slowCalls = 0;
      machine.fault = (call) => (call.path.includes('/checkpoints/') ? ((slowCalls += 1), SLOW) : null);
      await volume.write(0, pattern(1, SLOTS), false);
      await machine.process.sleep(50 * AGE_MS);
      expect(slowCalls, 'a checkpoint is under way').toBe(1);
      expect(await elapsedMs(machine, () => volume.write(0, pattern(2, 2 * SLOTS), true))).toBeLessThan(10);
      expect(await elapsedMs(machine, () => volume.flush())).toBeLessThan(10);
      machine.fault = () => null;
      await volume.close();
    });
  });

  test('as chunks on their way to the disk holds up no read of what is stored', async () => {
    const machine = new SimMachine(smallSettings({ flushIntervalMs: AGE_MS }));
    await machine.run(async () => {
      const first = await volumeOn(machine);
      await first.write(0, pattern(1, SLOTS), false);
      await first.close();
      const volume = await machine.open('/v');
      let slowCalls = 0;
      machine.fault = (call) => (call.path.includes('.stage-') ? ((slowCalls += 1), SLOW) : null);
      await volume.write(SLAB_BYTES, pattern(2, SLOTS), false);
      await machine.process.sleep(50 * AGE_MS);
      expect(slowCalls, 'a chunk is under way').toBe(1);
      expect(await elapsedMs(machine, () => blockAt(volume, 3))).toBeLessThan(10);
      expect((await blockAt(volume, 3)).equals(pattern(1, SLOTS).subarray(3 * BLOCK_BYTES, 4 * BLOCK_BYTES))).toBe(true);
      machine.fault = () => null;
      await volume.close();
    });
  });
});

test('a volume that nobody uses asks nothing of the disk, and does not wake up', async () => {
  const machine = new SimMachine(smallSettings({ flushIntervalMs: AGE_MS, batchMs: AGE_MS, checkpointIntervalMs: 20 * AGE_MS, compactLivePercent: 60, compactSpacePercent: 130, compactPauseMs: AGE_MS }));
  await machine.run(async () => {
    const volume = await volumeOn(machine);
    for (let round = 0; round < 20; round += 1) await volume.write((round % 4) * SLAB_BYTES, pattern(round, SLOTS), false);
    await volume.trim(0, SLAB_BYTES, false);
    await machine.process.sleep(60_000);
    expect(volume.stats().checkpoints).toBeGreaterThan(0);
    const [calls, events] = [machine.calls.length, machine.scheduler.eventsRun];
    await machine.process.sleep(10 * HOUR_MS);
    expect(machine.calls.length).toBe(calls);
    expect(machine.scheduler.eventsRun - events).toBeLessThan(5);
    await volume.close();
  });
});

test.each(DURABILITY_MODES)('when a volume is closed all of it is safe from a power cut (%s)', async (durability) => {
  const machine = new SimMachine();
  await machine.run(async () => {
    await machine.create('/v', { durability });
    const volume = await machine.open('/v');
    await volume.write(0, pattern(1, 3), false);
    await volume.zero(BLOCK_BYTES, BLOCK_BYTES, { provisioned: false, fua: false });
    await volume.close();
    machine.disk.cutPower({ keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false });
    machine.restart();
    const again = await machine.open('/v');
    const found = Buffer.alloc(3 * BLOCK_BYTES);
    await again.read(0, found);
    expect(found.equals(Buffer.from(pattern(1, 3)).fill(0, BLOCK_BYTES, 2 * BLOCK_BYTES))).toBe(true);
    await again.close();
  });
});

test('a thousand blocks all over a volume become a few objects, not one each', async () => {
  const machine = new SimMachine(smallSettings({ checkpointChunks: 16 }));
  await machine.run(async () => {
    const volume = await volumeOn(machine);
    for (let index = 0; index < 1000; index += 1) await volume.write(((index * 389) % 1024) * BLOCK_BYTES, pattern(index), false);
    await volume.close();
    expect(machine.names('/v/chunks').length).toBeLessThan(2 * (1000 / SLOTS));
    expect(machine.names('/v/checkpoints').length).toBeLessThan(8);
  });
});

test('every write and flush that waits when the disk fails is answered with an error', async () => {
  const machine = new SimMachine();
  await machine.run(async () => {
    const volume = await volumeOn(machine);
    machine.fault = (call) => (call.path.includes('.stage-') ? { kind: 'slow', delayMs: HOUR_MS } : null);
    // More than the memory and the log hold: the last ones wait for room that chunks will not make.
    const writes = Array.from({ length: 40 }, (_, index) => volume.write((index % 60) * SLAB_BYTES, pattern(index, SLOTS), false));
    const outcomes = Promise.allSettled(writes);
    await machine.process.sleep(100);
    machine.fault = (call) => (call.kind === 'sync' && call.path.includes('/log/') ? { kind: 'error', code: 'EIO' } : { kind: 'slow', delayMs: HOUR_MS });
    const flushed = Promise.allSettled([volume.flush(), volume.flush()]);
    const waitedMs = await elapsedMs(machine, () => Promise.all([outcomes, flushed]));
    expect(waitedMs).toBeLessThan(2 * HOUR_MS);
    const settled = [...(await outcomes), ...(await flushed)];
    const refused = settled.filter((outcome) => outcome.status === 'rejected').map(({ reason }): unknown => reason);
    expect(refused.length).toBeGreaterThan(5);
    for (const reason of refused) expect(reason).toBeInstanceOf(VolumeError);
  });
});

test('a chunk that is being read is not written over, though it is removed and its file used again', async () => {
  const machine = new SimMachine(smallSettings({ flushIntervalMs: AGE_MS, checkpointChunks: 1, spareBytes: 16 * SLAB_BYTES }));
  await machine.run(async () => {
    const first = await volumeOn(machine);
    await first.write(0, pattern(1, SLOTS), false);
    await first.close();
    const volume = await machine.open('/v');
    const [chunk] = machine.names('/v/chunks');
    machine.fault = (call) => (call.kind === 'read' && call.path.endsWith(chunk) ? SLOW : null);
    const read = blockAt(volume, 3);
    await machine.process.sleep(AGE_MS);
    for (let round = 2; round < 12; round += 1) {
      await volume.write(0, pattern(round, SLOTS), false);
      await machine.process.sleep(20 * AGE_MS);
    }
    expect(machine.names('/v/chunks')).not.toContain(chunk);
    const versions = Array.from({ length: 12 }, (_, seed) => pattern(seed, SLOTS).subarray(3 * BLOCK_BYTES, 4 * BLOCK_BYTES));
    const found = await read;
    expect(versions.findIndex((version) => found.equals(version))).toBeGreaterThan(0);
    machine.fault = () => null;
    await volume.close();
    expect(await checkVolume({ ...toolOptions(machine), deep: true })).toMatchObject({ isClean: true });
  });
});

test('a checksum error in the middle of the log: whatever is done but a repair, no byte of it is deleted and no older data served', async () => {
  const sample = await sampleFiles();
  const log = fileOf(sample, 'log/00.log');
  const record = log.lastIndexOf('BLR1', log.lastIndexOf('BLR1', log.lastIndexOf('BLR1') - 1) - 1);
  const files = withFile(sample, 'log/00.log', flipped(log, record + 20));
  const machine = machineWith(files);
  await machine.run(async () => {
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const options = { ...toolOptions(machine), settings: { ...SAMPLE_SETTINGS, arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB } };
      const serving = { ...options, settings: SAMPLE_SETTINGS, arena: smallArena(SAMPLE_SETTINGS) };
      expect(await tryOpen(machine)).toMatchObject({ code: 'corrupt' });
      await expect(openForServing(serving)).rejects.toMatchObject({ code: 'corrupt' });
      expect(await damageOf(options)).toMatch(/the log is damaged.*basalt repair v/u);
      expect(await checkVolume({ ...options, deep: true })).toMatchObject({ isClean: false });
      expect(await scrubClosed({ ...options, bytesPerSecond: 64 * MIB, signal: new AbortController().signal })).toMatchObject({ isClean: true });
      machine.restart();
    }
  });
  expect(digests(machine.snapshot('/v'))).toEqual(digests(files));
});
