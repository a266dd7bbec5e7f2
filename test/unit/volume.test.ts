import { describe, expect, test } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, readAll, smallArena, smallSettings } from '../support/engine-harness.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const AGE_MS = 1000;

async function withVolume(machine: SimMachine, use: (volume: Volume) => Promise<void>): Promise<void> {
  await machine.run(async () => {
    await machine.create('/v', { sizeBytes: 4 * MIB });
    await use(await machine.open('/v'));
  });
}

function block(content: Buffer, blockNumber: number): Buffer {
  return content.subarray(blockNumber * BLOCK_BYTES, (blockNumber + 1) * BLOCK_BYTES);
}

/** What is stored alone decides: everything in chunks, the cache empty, the log read no more. */
async function reopened(machine: SimMachine, volume: Volume): Promise<Volume> {
  await volume.close();
  return machine.open('/v');
}

describe('a set of chunks', () => {
  test('holds the newest version of each block only, over many slabs', async () => {
    const machine = new SimMachine(smallSettings({ flushIntervalMs: AGE_MS }));
    await withVolume(machine, async (volume) => {
      for (let round = 0; round < 4; round += 1) for (let i = 0; i < SLOTS; i += 1) await volume.write(i * BLOCK_BYTES, pattern(round * 100 + i), false);
      await volume.write(100 * BLOCK_BYTES, pattern(7, 2), false);
      const again = await reopened(machine, volume);
      const content = await readAll(again);
      for (let i = 0; i < SLOTS; i += 1) expect(block(content, i).equals(Buffer.from(pattern(300 + i))), `block ${i}`).toBe(true);
      expect(volume.stats().chunkBytes).toBeLessThan((SLOTS + 2) * BLOCK_BYTES + 3 * 8192);
      await again.close();
    });
  });

  test('with a trim between two writes of a block keeps the order of the three', async () => {
    const machine = new SimMachine();
    await withVolume(machine, async (volume) => {
      await volume.write(0, pattern(1, 8), false);
      await volume.trim(2 * BLOCK_BYTES, 4 * BLOCK_BYTES, false);
      await volume.write(3 * BLOCK_BYTES, pattern(2), false);
      await volume.zero(6 * BLOCK_BYTES, BLOCK_BYTES, { provisioned: true, fua: false });
      const expected = Buffer.from(pattern(1, 8));
      expected.fill(0, 2 * BLOCK_BYTES, 7 * BLOCK_BYTES);
      expected.set(pattern(2), 3 * BLOCK_BYTES);
      expected.set(pattern(1, 8).subarray(7 * BLOCK_BYTES), 7 * BLOCK_BYTES);
      expect((await readAll(volume)).subarray(0, 8 * BLOCK_BYTES).equals(expected)).toBe(true);
      const again = await reopened(machine, volume);
      expect((await readAll(again)).subarray(0, 8 * BLOCK_BYTES).equals(expected)).toBe(true);
      await again.close();
    });
  });

  test('gives a trimmed block no older version, though a newer one stands behind the set and is lost by a power cut', async () => {
    const machine = new SimMachine(smallSettings({ flushBytes: 2 * SLAB_BYTES }));
    await withVolume(machine, async (volume) => {
      await volume.write(0, pattern(1), false);
      await volume.write(100 * BLOCK_BYTES, pattern(2, SLOTS), false); // the first slab is full, the second one has a block
      await volume.trim(0, BLOCK_BYTES, false);
      await volume.write(200 * BLOCK_BYTES, pattern(4, SLOTS - 1), false); // the second slab is full
      await volume.write(0, pattern(3), false); // the third slab: the first two are stored
      await machine.process.sleep(100);
      expect(volume.stats().chunksWritten).toBe(2);
      machine.disk.cutPower({ keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false });
      machine.restart();
      const again = await machine.open('/v');
      const content = await readAll(again);
      expect(again.recoveredLsn).toBe(volume.lastLsn - 1);
      expect(block(content, 0).every((byte) => byte === 0)).toBe(true);
      expect(block(content, 100).equals(Buffer.from(pattern(2, SLOTS).subarray(0, BLOCK_BYTES)))).toBe(true);
      await again.close();
    });
  });

  test('is not needed for slabs that were overwritten whole: their memory is free at once', async () => {
    const machine = new SimMachine();
    await withVolume(machine, async (volume) => {
      // Many times the memory for dirty slabs, and yet nothing must be stored.
      for (let round = 0; round < 30; round += 1) await volume.write(0, pattern(round, SLOTS), false);
      expect(volume.stats().chunksWritten).toBe(0);
      expect((await readAll(volume)).subarray(0, SLAB_BYTES).equals(Buffer.from(pattern(29, SLOTS)))).toBe(true);
      const again = await reopened(machine, volume);
      expect((await readAll(again)).subarray(0, SLAB_BYTES).equals(Buffer.from(pattern(29, SLOTS)))).toBe(true);
      await again.close();
    });
  });

  test('takes no space for blocks of zeroes', async () => {
    const machine = new SimMachine();
    await withVolume(machine, async (volume) => {
      await volume.write(0, new Uint8Array(MIB), false);
      expect(volume.lastLsn).toBe(0);
      await volume.write(0, pattern(1, 2), false);
      await volume.write(0, new Uint8Array(2 * BLOCK_BYTES), false);
      const again = await reopened(machine, volume);
      expect((await readAll(again)).every((byte) => byte === 0)).toBe(true);
      await again.close();
      expect(volume.stats().chunkBytes).toBeLessThan(3 * 8192);
    });
  });
});

describe('a killed process', () => {
  test('loses nothing that was answered, whether it was in chunks, behind them, or in the log only', async () => {
    const machine = new SimMachine(smallSettings({ flushIntervalMs: AGE_MS }));
    await withVolume(machine, async (volume) => {
      await volume.write(0, pattern(1, 4), false);
      await machine.process.sleep(5 * AGE_MS);
      expect(volume.stats().chunksWritten).toBe(1);
      await volume.write(BLOCK_BYTES, pattern(2), false);
      await volume.trim(3 * BLOCK_BYTES, BLOCK_BYTES, false);
      machine.restart();
      const again = await machine.open('/v');
      const content = await readAll(again);
      expect(block(content, 0).equals(Buffer.from(pattern(1, 4).subarray(0, BLOCK_BYTES)))).toBe(true);
      expect(block(content, 1).equals(Buffer.from(pattern(2)))).toBe(true);
      expect(block(content, 3).every((byte) => byte === 0)).toBe(true);
      expect(again.recoveredLsn).toBe(volume.lastLsn);
      await again.close();
    });
  });
});

describe('a full disk', () => {
  test('refuses writes with no-space, keeps what was acknowledged readable, and goes on when there is space', async () => {
    const machine = new SimMachine();
    await withVolume(machine, async (volume) => {
      await volume.write(0, pattern(1, 4), false);
      machine.disk.capacityBytes = machine.disk.usedBytes();
      const error = await volume.write(4 * BLOCK_BYTES, pattern(2, 4), false).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'no-space' });
      expect((await readAll(volume)).subarray(0, 4 * BLOCK_BYTES).equals(Buffer.from(pattern(1, 4)))).toBe(true);
      await volume.flush();
      machine.disk.capacityBytes = Number.MAX_SAFE_INTEGER;
      await machine.process.sleep(100);
      await volume.write(20 * BLOCK_BYTES, pattern(3), false);
      await volume.flush();
      machine.restart();
      const again = await machine.open('/v');
      const content = await readAll(again);
      expect(content.subarray(0, 4 * BLOCK_BYTES).equals(Buffer.from(pattern(1, 4)))).toBe(true);
      expect(block(content, 20).equals(Buffer.from(pattern(3)))).toBe(true);
      await again.close();
    });
  });

  test('that cannot take chunks makes writers wait or fail, and loses nothing', async () => {
    const machine = new SimMachine();
    await withVolume(machine, async (volume) => {
      machine.fault = (call) => (call.kind === 'write' && call.path.includes('/chunks/') ? { kind: 'error', code: 'ENOSPC' } : null);
      let accepted = 0;
      let refusal: unknown = null;
      while (refusal === null && accepted < 40) {
        refusal = await volume.write(accepted * SLAB_BYTES, pattern(accepted, SLOTS), false).then(
          () => null,
          (reason: unknown) => reason,
        );
        if (refusal === null) accepted += 1;
      }
      expect(refusal).toMatchObject({ code: 'no-space' });
      expect(accepted).toBeGreaterThan(4);
      machine.fault = () => null;
      await machine.process.sleep(1000);
      await volume.write(accepted * SLAB_BYTES, pattern(accepted, SLOTS), false);
      const again = await reopened(machine, volume);
      const content = await readAll(again);
      for (let i = 0; i <= accepted; i += 1) expect(content.subarray(i * SLAB_BYTES, (i + 1) * SLAB_BYTES).equals(Buffer.from(pattern(i, SLOTS))), `slab ${i}`).toBe(true);
      await again.close();
    });
  });
});

describe('a failed sync', () => {
  test('ends writing for good: flush and writes fail, reads go on, and the next opening finds the rest', async () => {
    const machine = new SimMachine();
    await withVolume(machine, async (volume) => {
      await volume.write(0, pattern(1), false);
      await volume.flush();
      await volume.write(BLOCK_BYTES, pattern(2), false);
      machine.fault = (call) => (call.kind === 'sync' && call.path.includes('/log/') ? { kind: 'error', code: 'EIO' } : null);
      await expect(volume.flush()).rejects.toMatchObject({ code: 'failed' });
      machine.fault = () => null;
      await expect(volume.flush()).rejects.toMatchObject({ code: 'failed' });
      await expect(volume.write(0, pattern(3), false)).rejects.toMatchObject({ code: 'failed' });
      await expect(volume.trim(0, BLOCK_BYTES, false)).rejects.toMatchObject({ code: 'failed' });
      expect(block(await readAll(volume), 1).equals(Buffer.from(pattern(2)))).toBe(true);
      await expect(volume.close()).rejects.toMatchObject({ code: 'failed' });
      const again = await machine.open('/v');
      expect(block(await readAll(again), 0).equals(Buffer.from(pattern(1)))).toBe(true);
      await again.close();
    });
  });

  test('of the directory of chunks, whatever its code, ends writing, too', async () => {
    const machine = new SimMachine(smallSettings({ flushIntervalMs: AGE_MS }));
    await withVolume(machine, async (volume) => {
      machine.fault = (call) => (call.kind === 'sync-directory' && call.path.endsWith('/chunks') ? { kind: 'error', code: 'ENOSPC' } : null);
      await volume.write(0, pattern(1), false);
      await machine.process.sleep(3 * AGE_MS);
      await expect(volume.write(0, pattern(2), false)).rejects.toMatchObject({ code: 'failed' });
      machine.fault = () => null;
      await volume.close().catch(() => undefined);
      const again = await machine.open('/v');
      expect(block(await readAll(again), 0).equals(Buffer.from(pattern(1)))).toBe(true);
      await again.close();
    });
  });
});

describe('a request', () => {
  test.each([
    ['past the end', 4 * MIB - 100, 200],
    ['far behind it', 2 ** 50, 1],
    ['before the start', -1, 10],
  ])('%s is refused in every form, and changes nothing', async (_, offset, length) => {
    const machine = new SimMachine();
    await withVolume(machine, async (volume) => {
      const bytes = new Uint8Array(length).fill(1);
      for (const attempt of [
        () => volume.read(offset, bytes),
        () => volume.write(offset, bytes, false),
        () => volume.zero(offset, length, { provisioned: false, fua: false }),
        () => volume.trim(offset, length, false),
        () => volume.cache(offset, length),
      ]) {
        await expect(attempt()).rejects.toMatchObject({ code: 'out-of-range' });
      }
      expect(volume.lastLsn).toBe(0);
      await volume.close();
      await expect(volume.read(0, bytes)).rejects.toMatchObject({ code: 'closed' });
    });
  });

  test('larger than all memory goes in parts', async () => {
    const machine = new SimMachine(smallSettings({ flushBytes: 2 * SLAB_BYTES }));
    await withVolume(machine, async (volume) => {
      const bytes = pattern(9, (2 * MIB) / BLOCK_BYTES + 1).subarray(0, 2 * MIB + 3 * KIB);
      await volume.write(1000, bytes, false);
      const again = await reopened(machine, volume);
      const content = await readAll(again);
      expect(content.subarray(1000, 1000 + bytes.length).equals(Buffer.from(bytes))).toBe(true);
      expect(content.subarray(0, 1000).every((byte) => byte === 0)).toBe(true);
      await again.close();
    });
  });
});

/** What is on loan at once, or null. */
function lent(volume: Volume, offset: number, length: number): Buffer | null {
  const loan = volume.lend(offset, length);
  if (loan === null) return null;
  const bytes = Buffer.concat(loan.parts);
  loan.release();
  return bytes;
}

describe('a read without a copy', () => {
  test('gives what is in memory, at any alignment, and nothing else', async () => {
    const machine = new SimMachine();
    await withVolume(machine, async (volume) => {
      const bytes = Buffer.from(pattern(3, 40));
      await volume.write(0, bytes, false);
      await volume.write(60 * BLOCK_BYTES, pattern(4, 2), false);
      expect(lent(volume, 0, bytes.length)?.equals(bytes)).toBe(true);
      expect(lent(volume, 700, 20 * BLOCK_BYTES)?.equals(bytes.subarray(700, 700 + 20 * BLOCK_BYTES))).toBe(true);
      expect(lent(volume, 39 * BLOCK_BYTES, 2 * BLOCK_BYTES)).toBeNull(); // a hole
      await volume.write(10 * BLOCK_BYTES, pattern(5), false);
      await volume.trim(3 * BLOCK_BYTES, BLOCK_BYTES, false);
      expect(lent(volume, 0, 4 * BLOCK_BYTES)).toBeNull(); // a zero
      expect(lent(volume, 9 * BLOCK_BYTES, 3 * BLOCK_BYTES)?.subarray(BLOCK_BYTES, 2 * BLOCK_BYTES).equals(Buffer.from(pattern(5)))).toBe(true);
      for (let i = 0; i < 20; i += 2) await volume.write((20 + i) * BLOCK_BYTES, pattern(50 + i), false);
      expect(lent(volume, 20 * BLOCK_BYTES, 20 * BLOCK_BYTES)).toBeNull(); // too many pieces
      const again = await reopened(machine, volume);
      expect(lent(again, 0, BLOCK_BYTES)).toBeNull(); // in a chunk only
      expect(() => volume.lend(0, BLOCK_BYTES)).toThrow(/is closed/);
      await again.close();
    });
  });

  test('keeps its bytes while the blocks are overwritten, the slabs used again and the volume closed', async () => {
    const machine = new SimMachine();
    const arena = smallArena(machine.settings);
    await machine.run(async () => {
      await machine.create('/v');
      const volume = await machine.open('/v', machine.settings, arena);
      const bytes = Buffer.from(pattern(3, SLOTS));
      await volume.write(0, bytes, false);
      const loan = volume.lend(0, bytes.length);
      for (let round = 0; round < 60; round += 1) await volume.write(0, pattern(100 + round, SLOTS), false);
      await volume.close();
      expect(loan === null ? null : Buffer.concat(loan.parts).equals(bytes)).toBe(true);
      expect(arena.stats().pinnedSlabs).toBe(1);
      loan?.release();
      expect(arena.stats()).toMatchObject({ pinnedSlabs: 0, dirtySlabs: 0, cleanSlabs: 0 });
    });
  });

  test('becomes possible for blocks that are scattered over the cache when they are read together', async () => {
    const machine = new SimMachine();
    await withVolume(machine, async (volume) => {
      const bytes = Buffer.from(pattern(3, 16));
      for (const i of [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15]) await volume.write(i * BLOCK_BYTES, block(bytes, i), false);
      const copy = new Uint8Array(bytes.length);
      expect(volume.readNow(0, bytes.length, copy, 0)).toBe(true);
      expect(lent(volume, 0, bytes.length)).toBeNull(); // in no chunk yet
      const again = await reopened(machine, volume);
      for (const i of [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15]) await again.read(i * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES));
      expect(lent(again, 0, bytes.length)).toBeNull();
      expect(again.readNow(100, bytes.length - 200, copy, 0)).toBe(true);
      expect(Buffer.from(copy.subarray(0, bytes.length - 200)).equals(bytes.subarray(100, bytes.length - 100))).toBe(true);
      expect(lent(again, BLOCK_BYTES, 14 * BLOCK_BYTES)?.equals(bytes.subarray(BLOCK_BYTES, 15 * BLOCK_BYTES))).toBe(true);
      expect((await readAll(again)).subarray(0, bytes.length).equals(bytes)).toBe(true);
      await again.close();
    });
  });
});

test('zeroes keep the space of 1 TiB at once, and no more', async () => {
  const machine = new SimMachine();
  await machine.run(async () => {
    await machine.create('/v', { sizeBytes: 2 ** 45 });
    const volume = await machine.open('/v');
    await expect(volume.zero(0, 2 ** 40 + 1, { provisioned: true, fua: false })).rejects.toMatchObject({ code: 'no-space' });
    await volume.zero(0, 2 ** 45, { provisioned: false, fua: false });
    await volume.zero(0, 2 ** 40, { provisioned: true, fua: false });
    await volume.close();
  });
});
