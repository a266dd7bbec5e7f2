import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { PAGE_MAGIC } from '../../src/format/checkpoint-layout.ts';
import { LEAF_BLOCKS } from '../../src/index/block-map.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { Checkpointer } from '../../src/volume/checkpointer.ts';
import { loadStored } from '../../src/volume/load-stored.ts';
import { readManifest } from '../../src/volume/volume-files.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { flipped } from '../support/damaged-volumes.ts';
import { BLOCK_BYTES, SimMachine, pattern, readAll, smallArena, smallSettings } from '../support/engine-harness.ts';

const LEAF_BYTES = LEAF_BLOCKS * BLOCK_BYTES;
const AGE_MS = 10;

/** Every set of chunks is followed by a checkpoint. */
function eager(changes = {}): SimMachine {
  return new SimMachine(smallSettings({ flushIntervalMs: AGE_MS, checkpointChunks: 1, ...changes }));
}

/** Lets what was written become chunks and a checkpoint. */
async function settle(machine: SimMachine, volume: Volume): Promise<void> {
  const { checkpoints } = volume.stats();
  for (let i = 0; i < 1000 && volume.stats().checkpoints === checkpoints; i += 1) await machine.process.sleep(AGE_MS);
  expect(volume.stats().checkpoints).toBe(checkpoints + 1);
}

describe('a checkpoint', () => {
  test('writes only what changed since the last one: its cost follows the change, not the volume', async () => {
    // Closing makes the one checkpoint of each opening.
    const machine = new SimMachine();
    const costs = await machine.run(async () => {
      await machine.create('/v', { sizeBytes: 64 * LEAF_BYTES });
      const volume = await machine.open('/v');
      for (let leaf = 0; leaf < 64; leaf += 1) {
        // Every other block, so that no leaf is one run.
        for (let i = 0; i < 4; i += 1) await volume.write(leaf * LEAF_BYTES + i * 2 * BLOCK_BYTES, pattern(leaf + i), false);
      }
      await volume.close();
      const again = await machine.open('/v');
      await again.write(5 * LEAF_BYTES, pattern(1), false);
      await again.close();
      expect([volume.stats().checkpoints, again.stats().checkpoints]).toEqual([1, 1]);
      return { first: volume.stats().checkpointBytes, second: again.stats().checkpointBytes };
    });
    expect(costs.first).toBeGreaterThan(64 * 4 * 12);
    expect(costs.second).toBeLessThan(costs.first / 2);
  });

  test('is what the next opening starts from: no chunk before it is read, no record replayed', async () => {
    const machine = eager();
    await machine.run(async () => {
      await machine.create('/v');
      const volume = await machine.open('/v');
      await volume.write(0, pattern(1, 8), false);
      await settle(machine, volume);
      await volume.close();
      const before = machine.calls.length;
      const again = await machine.open('/v');
      const opened = machine.calls.slice(before).filter((call) => call.kind === 'open' && call.path.includes('/chunks/'));
      expect(opened).toEqual([]);
      expect((await readAll(again)).subarray(0, 8 * BLOCK_BYTES).equals(Buffer.from(pattern(1, 8)))).toBe(true);
      await again.close();
    });
  });

  test('lets chunks without a live block, and older checkpoints without a page in use, go away', async () => {
    const machine = eager();
    await machine.run(async () => {
      await machine.create('/v', { sizeBytes: MIB });
      const volume = await machine.open('/v');
      for (let round = 0; round < 6; round += 1) {
        await volume.write(0, pattern(round, 4), false);
        await settle(machine, volume);
      }
      expect(machine.names('/v/chunks').length).toBe(1);
      expect(machine.names('/v/checkpoints').length).toBe(1);
      expect(volume.stats().chunksRemoved).toBe(5);
      expect((await readAll(volume)).subarray(0, 4 * BLOCK_BYTES).equals(Buffer.from(pattern(5, 4)))).toBe(true);
      await volume.close();
    });
  });

  test('that finds no space is postponed: nothing is removed, nothing is lost, and the next one is whole', async () => {
    const machine = eager();
    await machine.run(async () => {
      await machine.create('/v', { sizeBytes: MIB });
      const volume = await machine.open('/v');
      await volume.write(0, pattern(1, 4), false);
      await settle(machine, volume);
      const checkpoints = machine.names('/v/checkpoints');
      machine.fault = (call) => (call.kind === 'write' && call.path.includes('/checkpoints/') ? { kind: 'error', code: 'ENOSPC' } : null);
      await volume.write(0, pattern(2, 4), false);
      for (let i = 0; i < 50 && volume.stats().chunksWritten < 2; i += 1) await machine.process.sleep(AGE_MS);
      await machine.process.sleep(10 * AGE_MS);
      expect(machine.names('/v/checkpoints')).toEqual(checkpoints);
      expect(machine.names('/v/chunks').length).toBe(2);
      expect(machine.env.simLogger.lines.map((line) => line.event)).toContain('checkpoint-postponed');
      machine.fault = () => null;
      await volume.write(8 * BLOCK_BYTES, pattern(3), false);
      await settle(machine, volume);
      expect(machine.names('/v/chunks').length).toBe(2); // the first one is dead now
      machine.restart();
      const again = await machine.open('/v');
      const content = await readAll(again);
      expect(content.subarray(0, 4 * BLOCK_BYTES).equals(Buffer.from(pattern(2, 4)))).toBe(true);
      expect(content.subarray(8 * BLOCK_BYTES, 9 * BLOCK_BYTES).equals(Buffer.from(pattern(3)))).toBe(true);
      await again.close();
    });
  });

  test('that was published without its manifest is no root: it goes at the next opening, and its chunks stay', async () => {
    const machine = eager();
    await machine.run(async () => {
      await machine.create('/v', { sizeBytes: MIB });
      const volume = await machine.open('/v');
      await volume.write(0, pattern(1, 4), false);
      await settle(machine, volume);
      machine.fault = (call) => (call.kind === 'rename' && call.path.includes('manifest') ? { kind: 'crash', when: 'before' } : null);
      await volume.write(0, pattern(2, 4), false);
    });
    machine.scheduler.after(0, () => undefined);
    await machine.run(async () => {
      await machine.process.death;
    });
    machine.fault = () => null;
    machine.restart();
    await machine.run(async () => {
      expect(machine.names('/v/checkpoints').length).toBe(2);
      const volume = await machine.open('/v');
      expect(machine.names('/v/checkpoints')).toEqual(['k0000000001-e000001']);
      expect((await readAll(volume)).subarray(0, 4 * BLOCK_BYTES).equals(Buffer.from(pattern(2, 4)))).toBe(true);
      await volume.close();
    });
  });

  test('that moves pages out of an old object leaves one that cannot be read where it is', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      await machine.create('/v');
      const volume = await machine.open('/v');
      await volume.write(0, pattern(1, 4), false);
      await volume.close();
      const path = '/v/checkpoints/k0000000001-e000001';
      const options = { env: machine.env, directory: '/v', name: 'v', settings: machine.settings, arena: smallArena(machine.settings) };
      const { core, state } = await loadStored(options, new DirectoryStore(machine.env.files, '/v', 0), await readManifest(machine.env.files, '/v'), () => undefined);
      machine.disk.write(machine.disk.findFile(path), flipped(machine.bytesOf(path), machine.bytesOf(path).indexOf(PAGE_MAGIC.LEAF) + 20), 0);
      // As if nearly all of it were pages of earlier states.
      for (const [number, object] of state.objects) state.objects.set(number, { ...object, objectBytes: 64 * MIB });
      const checkpointer = new Checkpointer(core, state, () => undefined);
      checkpointer.rewrite([]);
      await checkpointer.run();
      expect(core.manifest.checkpoint.number).toBe(2);
      expect([core.map.leaf(0)?.reference?.number, state.nodes.get(0)?.number]).toEqual([1, 2]);
      expect(machine.env.simLogger.lines.map((line) => line.event)).toContain('leaf-unreadable');
    });
  });
});
