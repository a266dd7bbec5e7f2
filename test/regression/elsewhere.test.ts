/**
 * What went wrong in other block-storage engines, one test each. What concerns a server's connections stands in
 * `test/conformance`, and damaged files in `test/unit/bad-input.test.ts`.
 */
import { describe, expect, test } from 'vitest';
import { MIB, TIB } from '../../src/base/units.ts';
import { LEAF_BLOCKS } from '../../src/index/block-map.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, readAll, smallSettings } from '../support/engine-harness.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const LEAF_BYTES = LEAF_BLOCKS * BLOCK_BYTES;
const AGE_MS = 10;

function eager(changes = {}): SimMachine {
  return new SimMachine(smallSettings({ flushIntervalMs: AGE_MS, ...changes }));
}

async function volumeOn(machine: SimMachine, sizeBytes = 4 * MIB): Promise<Volume> {
  await machine.create('/v', { sizeBytes });
  return machine.open('/v');
}

/** Waits until `condition` holds; a hundred ages of data at most. */
async function until(machine: SimMachine, condition: () => boolean): Promise<void> {
  for (let i = 0; i < 100 && !condition(); i += 1) await machine.process.sleep(AGE_MS);
  expect(condition()).toBe(true);
}

async function blockAt(volume: Volume, blockNumber: number): Promise<Buffer> {
  const target = Buffer.alloc(BLOCK_BYTES);
  await volume.read(blockNumber * BLOCK_BYTES, target);
  return target;
}

test('making chunks of old data never hides newer writes in the middle of its runs', async () => {
  const machine = eager();
  await machine.run(async () => {
    const volume = await volumeOn(machine);
    await volume.write(0, pattern(1, SLOTS), false);
    await volume.write(20 * BLOCK_BYTES, pattern(2), false); // seals the first slab
    // While chunks of the run are being made, its middle is written again: the first block of the run still is the old one.
    const overwriting: Promise<void>[] = [];
    machine.fault = (call) => {
      const first = call.kind === 'create' && call.path.includes('/chunks/') && overwriting.length === 0;
      if (first) overwriting.push(volume.write(7 * BLOCK_BYTES, pattern(3, 2), false));
      return null;
    };
    await until(machine, () => volume.stats().chunksWritten > 0);
    expect(overwriting.length).toBe(1);
    await Promise.all(overwriting);
    expect((await blockAt(volume, 7)).equals(Buffer.from(pattern(3, 2).subarray(0, BLOCK_BYTES)))).toBe(true);
    expect((await blockAt(volume, 6)).equals(Buffer.from(pattern(1, SLOTS).subarray(6 * BLOCK_BYTES, 7 * BLOCK_BYTES)))).toBe(true);
    await until(machine, () => volume.stats().chunksWritten > 1);
    await volume.close();
    const again = await machine.open('/v');
    expect((await blockAt(again, 8)).equals(Buffer.from(pattern(3, 2).subarray(BLOCK_BYTES)))).toBe(true);
    await again.close();
  });
});

test('the log stays as long as it was, however much is written through it', async () => {
  const machine = eager();
  await machine.run(async () => {
    const volume = await volumeOn(machine);
    const lengthOfLog = (): number => machine.names('/v/log').reduce((sum, name) => sum + machine.bytesOf(`/v/log/${name}`).length, 0);
    for (let round = 0; round < 300; round += 1) await volume.write((round % 50) * SLAB_BYTES, pattern(round, SLOTS), false);
    expect(volume.stats().logBytes).toBeGreaterThan(15 * MIB);
    expect(lengthOfLog()).toBeLessThanOrEqual(3 * MIB);
    expect(machine.names('/v/log')).toEqual(['00.log', '01.log', '02.log', 'synced']);
    await volume.close();
  });
});

test('storing a little of a large volume writes a little of its block map', async () => {
  const machine = eager({ checkpointChunks: 1 });
  await machine.run(async () => {
    const first = await volumeOn(machine, 100 * LEAF_BYTES);
    // Every other block, so that each leaf has 20 runs.
    for (let leaf = 0; leaf < 100; leaf += 1) for (let i = 0; i < 20; i += 1) await first.write(leaf * LEAF_BYTES + 2 * i * BLOCK_BYTES, pattern(leaf), false);
    await first.close();
    const volume = await machine.open('/v');
    for (let round = 0; round < 5; round += 1) {
      const { checkpoints } = volume.stats();
      await volume.write(round * LEAF_BYTES + BLOCK_BYTES, pattern(round), false);
      await until(machine, () => volume.stats().checkpoints > checkpoints);
    }
    const { checkpoints, checkpointBytes } = volume.stats();
    // One leaf, its node of 100 entries, a page of the catalogue, a root: the whole map has 25 KiB in leaves alone.
    expect(checkpointBytes / checkpoints).toBeLessThan(10_000);
    await volume.close();
  });
});

describe('a flush', () => {
  test('is answered only when a sync of the log that began after the write has ended', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await volumeOn(machine);
      await volume.write(0, pattern(1), false);
      const before = machine.calls.length;
      await volume.flush();
      expect(machine.calls.slice(before).map((call) => `${call.kind} ${call.path}`)).toContain('sync /v/log/00.log');
      machine.disk.cutPower({ keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false });
      machine.restart();
      const again = await machine.open('/v');
      expect((await blockAt(again, 0)).equals(Buffer.from(pattern(1)))).toBe(true);
      await again.close();
    });
  });

  test('with nothing to do asks nothing of the disk', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await volumeOn(machine);
      await volume.write(0, pattern(1), false);
      await volume.flush();
      const before = machine.calls.length;
      await volume.flush();
      expect(machine.calls.length).toBe(before);
      await volume.close();
    });
  });
});

test('a trim gives the space back', async () => {
  const machine = eager({ checkpointChunks: 1 });
  await machine.run(async () => {
    const volume = await volumeOn(machine);
    await volume.write(0, pattern(1, 8 * SLOTS), false);
    await until(machine, () => volume.stats().checkpoints > 0);
    const used = machine.disk.usedBytes('/v/chunks');
    expect(used).toBeGreaterThan(8 * SLAB_BYTES);
    await volume.trim(0, 8 * SLAB_BYTES, false);
    await until(machine, () => machine.disk.usedBytes('/v/chunks') < 2 * 8192);
    await volume.close();
    const again = await machine.open('/v');
    expect((await readAll(again)).every((byte) => byte === 0)).toBe(true);
    await again.close();
  });
});

describe('a chunk number is never used twice', () => {
  test.each(['before', 'during', 'after'] as const)('when the process dies %s the second part of a set gets its name', async (when) => {
    const machine = eager();
    const numbers = new Set<string>();
    let renames = 0;
    machine.fault = (call) => {
      if (call.kind !== 'rename' || !call.path.includes('/chunks/')) return null;
      renames += 1;
      return renames === 2 ? { kind: 'crash', when } : null;
    };
    const { process } = machine;
    await machine.run(async () => {
      const volume = await volumeOn(machine);
      await volume.write(0, pattern(1, 2 * SLOTS), false);
      await volume.flush();
      await Promise.race([process.death, process.sleep(1e6)]);
      expect(process.alive).toBe(false);
      machine.fault = () => null;
      for (const name of machine.names('/v/chunks')) if (!name.startsWith('.')) numbers.add(name.slice(0, 11));
      expect(numbers.size).toBeGreaterThan(0);
      machine.restart();
      const again = await machine.open('/v');
      const left = new Set(machine.names('/v/chunks'));
      await again.write(4 * SLAB_BYTES, pattern(2), false);
      await again.close();
      const fresh = machine.names('/v/chunks').filter((name) => !left.has(name));
      expect(fresh.length).toBeGreaterThan(0);
      expect(fresh.filter((name) => numbers.has(name.slice(0, 11)))).toEqual([]);
      const last = await machine.open('/v');
      const content = await readAll(last);
      expect(content.subarray(0, 2 * SLAB_BYTES).equals(Buffer.from(pattern(1, 2 * SLOTS)))).toBe(true);
      await last.close();
    });
  });
});

describe('writes of parts of one block at the same time', () => {
  test.each([
    ['while the block is empty', async () => undefined],
    ['while the block is in memory', async (volume: Volume) => volume.write(0, pattern(9), false)],
  ] as const)('lose no byte of each other, %s', async (_, prepare) => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await volumeOn(machine);
      await prepare(volume);
      await Promise.all(Array.from({ length: 64 }, (_none, index) => volume.write(index * 64, new Uint8Array(64).fill(index + 1), false)));
      const content = await blockAt(volume, 0);
      for (let i = 0; i < 64; i += 1) expect(content.subarray(i * 64, (i + 1) * 64).every((byte) => byte === i + 1), `part ${i}`).toBe(true);
      await volume.close();
    });
  });

  test('lose no byte of each other, while the block must first be read from its chunk', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const first = await volumeOn(machine);
      await first.write(0, pattern(9, 2), false);
      await first.close();
      const volume = await machine.open('/v');
      // Two of them reach into the next block; one of a whole block comes in between.
      const writes = Array.from({ length: 32 }, (_none, index) => volume.write(index * 128, new Uint8Array(128).fill(index + 1), false));
      writes.push(volume.write(BLOCK_BYTES - 8, new Uint8Array(16).fill(200), false));
      writes.push(volume.zero(BLOCK_BYTES + 100, 50, { provisioned: false, fua: false }));
      await Promise.all(writes);
      const content = Buffer.concat([await blockAt(volume, 0), await blockAt(volume, 1)]);
      const expected = Buffer.from(pattern(9, 2));
      for (let i = 0; i < 32; i += 1) expected.fill(i + 1, i * 128, (i + 1) * 128);
      const eitherWay = content.subarray(BLOCK_BYTES - 8, BLOCK_BYTES);
      expect(eitherWay.every((byte) => byte === 200) || eitherWay.every((byte) => byte === 32)).toBe(true);
      eitherWay.copy(expected, BLOCK_BYTES - 8);
      expected.fill(200, BLOCK_BYTES, BLOCK_BYTES + 8);
      expected.fill(0, BLOCK_BYTES + 100, BLOCK_BYTES + 150);
      expect(content.equals(expected)).toBe(true);
      await volume.close();
    });
  });
});

test('a short read of a chunk is an error, and is not kept as data', async () => {
  const machine = new SimMachine();
  await machine.run(async () => {
    const first = await volumeOn(machine);
    await first.write(0, pattern(1, 4), false);
    await first.close();
    const volume = await machine.open('/v');
    await blockAt(volume, 0); // the chunk's tables are in memory now
    const [name] = machine.names('/v/chunks');
    const path = `/v/chunks/${name}`;
    const whole = machine.bytesOf(path);
    const node = machine.disk.findFile(path);
    const realRead = node.read.bind(node);
    node.read = (target, offset) => Math.min(realRead(target, offset), 2000);
    for (let attempt = 0; attempt < 2; attempt += 1) await expect(blockAt(volume, 2)).rejects.toMatchObject({ code: 'corrupt' });
    node.read = realRead;
    expect(whole.length).toBeGreaterThan(4 * BLOCK_BYTES);
    expect((await blockAt(volume, 2)).equals(Buffer.from(pattern(1, 4).subarray(2 * BLOCK_BYTES, 3 * BLOCK_BYTES)))).toBe(true);
    await volume.close();
  });
});

test('chunks and log files stay while the checkpoint that would replace them cannot be saved', async () => {
  const machine = eager({ checkpointChunks: 1 });
  await machine.run(async () => {
    const volume = await volumeOn(machine);
    await volume.write(0, pattern(1, 4), false);
    await until(machine, () => volume.stats().checkpoints > 0);
    const [chunk] = machine.names('/v/chunks');
    const [checkpoint] = machine.names('/v/checkpoints');
    // The checkpoint is written and published; its manifest is not.
    machine.fault = (call) => (call.path.includes('manifest') && ['create', 'write', 'rename'].includes(call.kind) ? { kind: 'error', code: 'ENOSPC' } : null);
    await volume.write(0, pattern(2, 4), false);
    await until(machine, () => machine.env.simLogger.lines.some((line) => line.event === 'checkpoint-postponed'));
    expect(machine.names('/v/chunks')).toContain(chunk);
    expect(machine.names('/v/checkpoints')).toContain(checkpoint);
    machine.fault = () => null;
    machine.disk.cutPower({ keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false });
    machine.restart();
    const again = await machine.open('/v');
    expect((await blockAt(again, 0)).equals(Buffer.from(pattern(2, 4).subarray(0, BLOCK_BYTES)))).toBe(true);
    await again.close();
  });
});

test('a small read keeps a small copy: the cache takes no more memory than the blocks in it', async () => {
  const machine = new SimMachine();
  await machine.run(async () => {
    const first = await volumeOn(machine);
    await first.write(0, pattern(1, 12 * SLOTS), false);
    await first.close();
    const volume = await machine.open('/v');
    for (let i = 0; i < 2 * SLOTS; i += 1) await blockAt(volume, i * 6);
    const before = machine.calls.filter((call) => call.kind === 'read').length;
    for (let i = 0; i < 2 * SLOTS; i += 1) expect(volume.readNow(i * 6 * BLOCK_BYTES, BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES), 0)).toBe(true);
    expect(machine.calls.filter((call) => call.kind === 'read').length).toBe(before);
    // Neighbours that nobody asked for are not in memory.
    expect(volume.readNow(BLOCK_BYTES, BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES), 0)).toBe(false);
    await volume.close();
  });
});

describe('a trim of a whole volume of 1 TiB', () => {
  const settle = { settle: () => undefined };

  test('that is empty does nothing at all', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await volumeOn(machine, TIB);
      const before = machine.calls.length;
      expect(volume.trimNow(0, TIB, false, settle)).toBe('accepted');
      volume.submit();
      expect(volume.lastLsn).toBe(0);
      expect(machine.calls.length).toBe(before);
      await volume.close();
    });
  });

  test('with data all over it is one record, in chunks and in memory, and all of it reads as zeroes', async () => {
    const machine = eager();
    await machine.run(async () => {
      const volume = await volumeOn(machine, TIB);
      const places = Array.from({ length: 100 }, (_, index) => index * 2600 * LEAF_BYTES);
      for (const [index, place] of places.entries()) {
        await volume.write(place, pattern(index), false);
        if (index === 50) await until(machine, () => volume.stats().chunksWritten > 0);
      }
      const { lastLsn } = volume;
      const startMs = performance.now();
      expect(volume.trimNow(0, TIB, false, settle)).toBe('accepted');
      volume.submit();
      expect(performance.now() - startMs).toBeLessThan(1000); // takes a few milliseconds; block by block it would take minutes
      expect(volume.lastLsn).toBe(lastLsn + 1);
      const isEmpty = async (target: Volume): Promise<boolean> => {
        for (const place of places) if ((await blockAt(target, place / BLOCK_BYTES)).some((byte) => byte !== 0)) return false;
        return true;
      };
      expect(await isEmpty(volume)).toBe(true);
      await volume.close();
      const again = await machine.open('/v');
      expect(await isEmpty(again)).toBe(true);
      await again.close();
    });
  });
});
