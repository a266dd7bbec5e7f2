import { describe, expect, test } from 'vitest';
import type { EngineSettings } from '../../src/base/settings-types.ts';
import { checksum } from '../../src/base/checksum.ts';
import { MIB } from '../../src/base/units.ts';
import { encodeChunkHeader, encodeChunkTail } from '../../src/format/chunk-layout.ts';
import { ChunkCatalogue } from '../../src/index/chunk-catalogue.ts';
import { copyBytes, findCandidates, isOverSpace, isWorth, livePartLimit } from '../../src/volume/compactor-victims.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import { readManifest } from '../../src/volume/volume-files.ts';
import type { Volume } from '../../src/volume/volume.ts';
import type { FileCall } from '../sim/faults.ts';
import { SeededRandom } from '../sim/random.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, readAll, smallArena, smallSettings } from '../support/engine-harness.ts';

const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const AGE_MS = 10;
const PAUSE_MS = 1000;
const LIMITS = { blockSizeBytes: BLOCK_BYTES, slabBytes: SLAB_BYTES, compactLivePercent: 50, compactSpacePercent: 130 };

/** Data is in chunks after ten milliseconds; half-dead chunks are looked for a second after a change. */
function compacting(changes: Partial<EngineSettings> = {}): SimMachine {
  return new SimMachine(smallSettings({ flushIntervalMs: AGE_MS, compactLivePercent: 60, compactPauseMs: PAUSE_MS, compactBytesPerSecond: 64 * MIB, ...changes }));
}

/** Two chunks of 16 blocks from block 0 on, each of which loses 8 to overwriting; what the volume must hold then. */
async function halfDead(machine: SimMachine, volume: Volume): Promise<Buffer> {
  const expected = Buffer.alloc(volume.sizeBytes);
  const write = async (blockNumber: number, seed: number, count: number): Promise<void> => {
    expected.set(pattern(seed, count), blockNumber * BLOCK_BYTES);
    await volume.write(blockNumber * BLOCK_BYTES, pattern(seed, count), false);
  };
  for (let chunk = 0; chunk < 2; chunk += 1) await write(chunk * SLOTS, chunk + 1, SLOTS);
  await machine.process.sleep(4 * AGE_MS);
  for (let chunk = 0; chunk < 2; chunk += 1) await write(chunk * SLOTS, chunk + 10, SLOTS / 2);
  await machine.process.sleep(4 * AGE_MS);
  expect(volume.stats()).toMatchObject({ chunksWritten: 3, compactions: 0, liveBytes: 2 * SLAB_BYTES });
  return expected;
}

async function withVolume(machine: SimMachine, use: (volume: Volume) => Promise<void>): Promise<void> {
  await machine.run(async () => {
    await machine.create('/v', { sizeBytes: 4 * MIB });
    await use(await machine.open('/v'));
  });
}

async function expectContent(volume: Volume, expected: Buffer, when: string): Promise<void> {
  const content = await readAll(volume);
  const wrong = [];
  for (let at = 0; at < expected.length; at += BLOCK_BYTES) {
    if (content.compare(expected, at, at + BLOCK_BYTES, at, at + BLOCK_BYTES) !== 0) wrong.push(at / BLOCK_BYTES);
  }
  expect(wrong, `blocks that are wrong ${when}`).toEqual([]);
}

/** What compaction of `halfDead` writes first. */
function isCopy(call: FileCall): boolean {
  return call.path.includes('c0000000004-');
}

function catalogueOf(chunks: readonly { readonly chunk: number; readonly blocks: number; readonly live: number }[]): ChunkCatalogue {
  const catalogue = new ChunkCatalogue(BLOCK_BYTES);
  for (const { chunk, blocks, live } of chunks) {
    catalogue.add(chunk, { epoch: 1, blockCount: blocks, objectBytes: blocks * BLOCK_BYTES });
    if (live < blocks) catalogue.displaced(chunk, blocks - live);
  }
  return catalogue;
}

/** Its data cannot be read from the disk; tables can. */
const isDataRead = (call: FileCall): boolean => call.kind === 'read' && call.path.includes('/chunks/') && call.lengthBytes > 4096;

/** Changes the volume when the copies have been read and their chunk is being written. */
async function changeMeanwhile(machine: SimMachine, change: () => Promise<void>): Promise<void> {
  const changes: Promise<void>[] = [];
  machine.fault = (call) => {
    if (call.kind === 'create' && isCopy(call) && changes.length === 0) changes.push(change());
    return null;
  };
  for (let i = 0; i < 300 && changes.length === 0; i += 1) await machine.process.sleep(AGE_MS);
  expect(changes.length).toBe(1);
  await Promise.all(changes);
  machine.fault = () => null;
}

describe('the choice of chunks', () => {
  const search = { limit: 0.6, lastChunk: 3000, blockSizeBytes: BLOCK_BYTES, isCompressed: false, except: new Set<number>() };

  test('takes the emptiest first, and of equally empty ones the oldest', () => {
    const chunks = [
      { chunk: 2, blocks: 1000, live: 500 },
      { chunk: 1500, blocks: 1000, live: 100 },
      { chunk: 1501, blocks: 1000, live: 900 },
      { chunk: 1502, blocks: 1000, live: 0 },
      { chunk: 1600, blocks: 1000, live: 500 },
      { chunk: 2900, blocks: 1000, live: 599 },
    ];
    const catalogue = catalogueOf(chunks);
    expect(findCandidates(catalogue, search)).toEqual([1500, 2, 1600, 2900]);
    expect(findCandidates(catalogue, { ...search, except: new Set([2]) })).toEqual([1500, 1600, 2900]);
  });

  test('keeps the best of very many', () => {
    const catalogue = catalogueOf(Array.from({ length: 2000 }, (_, index) => ({ chunk: index + 1, blocks: 1000, live: index === 1700 ? 1 : 400 })));
    const found = findCandidates(catalogue, search);
    expect(found.length).toBe(64);
    expect(new Set(found)).toEqual(new Set([1701, ...Array.from({ length: 63 }, (_, index) => index + 1)]));
  });

  test('goes beyond the threshold while all chunks together take too much', () => {
    const slack = 3 * SLOTS;
    const roomy = catalogueOf([{ chunk: 1, blocks: 1000, live: 750 }, { chunk: 2, blocks: 1000, live: 700 }]);
    const tight = catalogueOf([{ chunk: 1, blocks: 1000, live: 1000 }, { chunk: 2, blocks: 1000, live: 600 - slack }]);
    expect([isOverSpace(roomy, LIMITS), isOverSpace(tight, LIMITS)]).toEqual([true, false]);
    expect([livePartLimit(roomy, LIMITS), livePartLimit(tight, LIMITS)]).toEqual([0.85, 0.5]);
    // A dead chunk waits for its checkpoint: rewriting others would not help.
    expect(isOverSpace(catalogueOf([{ chunk: 1, blocks: 1000, live: 1000 }, { chunk: 2, blocks: 1000, live: 0 }]), LIMITS)).toBe(false);
  });

  test('never takes a full chunk, however small slabs are: copies of copies would be made for ever', () => {
    const small = { ...LIMITS, slabBytes: 4 * BLOCK_BYTES };
    const full = copyBytes(4, BLOCK_BYTES);
    expect((4 * BLOCK_BYTES) / full).toBeLessThan(0.85);
    const crowded = catalogueOf(Array.from({ length: 20 }, (_, index) => ({ chunk: index + 1, blocks: 8, live: 1 })));
    expect(isOverSpace(crowded, small)).toBe(true);
    expect(livePartLimit(crowded, small)).toBe((4 * BLOCK_BYTES) / full);
  });

  test('rewrites nothing that gives back next to nothing: it comes to an end', () => {
    expect(isWorth(0, MIB, BLOCK_BYTES)).toBe(false);
    expect(isWorth(1, 2 * BLOCK_BYTES + 128, BLOCK_BYTES)).toBe(false);
    expect(isWorth(100, 100 * BLOCK_BYTES, BLOCK_BYTES)).toBe(false);
    expect(isWorth(100, 130 * BLOCK_BYTES, BLOCK_BYTES)).toBe(true);
  });
});

describe('compaction', () => {
  test('copies what lives in half-dead chunks, at idle, and removes them; then there is nothing more to do', async () => {
    const machine = compacting();
    await withVolume(machine, async (volume) => {
      const expected = await halfDead(machine, volume);
      const before = volume.stats();
      await machine.process.sleep(2 * PAUSE_MS);
      const after = volume.stats();
      expect(after).toMatchObject({ compactions: 1, liveBytes: before.liveBytes });
      expect(after.compactionBytes).toBe(after.chunkBytes - before.chunkBytes);
      expect(after.compactionBytes).toBeGreaterThan(SLAB_BYTES);
      expect(after.compactionBytes).toBeLessThan(SLAB_BYTES + 8192);
      await expectContent(volume, expected, 'after it');
      const calls = machine.calls.length;
      await machine.process.sleep(100 * PAUSE_MS);
      expect(machine.calls.length).toBe(calls);
      await volume.close();
      expect(machine.names('/v/chunks').map((name) => name.slice(0, 11))).toEqual(['c0000000003', 'c0000000004']);
      const again = await machine.open('/v');
      await expectContent(again, expected, 'after the next opening');
      await again.close();
    });
  });

  test('gives the space of trimmed blocks back', async () => {
    const machine = compacting({ checkpointIntervalMs: 2 * PAUSE_MS });
    await withVolume(machine, async (volume) => {
      for (let chunk = 0; chunk < 32; chunk += 1) await volume.write(chunk * SLAB_BYTES, pattern(chunk + 1, SLOTS), false);
      await machine.process.sleep(4 * AGE_MS);
      const full = volume.stats();
      for (let chunk = 0; chunk < 32; chunk += 1) await volume.trim(chunk * SLAB_BYTES, (SLOTS - 2) * BLOCK_BYTES, false);
      await machine.process.sleep(10 * PAUSE_MS);
      const { liveBytes, storedChunkBytes, compactionBytes } = volume.stats();
      expect(liveBytes).toBe(full.liveBytes / 8);
      expect(storedChunkBytes).toBeLessThan(1.2 * liveBytes);
      expect(compactionBytes).toBeLessThan(1.2 * liveBytes);
      const names = machine.names('/v/chunks').length;
      expect(names).toBeLessThan(8);
      await volume.close();
    });
  });

  test('keeps the chunks within their share of the live data, however long blocks are overwritten at random', async () => {
    const machine = compacting({ compactLivePercent: 0, compactSpacePercent: 130, compactPauseMs: 100 * PAUSE_MS, checkpointChunks: 8 });
    await withVolume(machine, async (volume) => {
      const random = new SeededRandom(7);
      let most = 0;
      for (let round = 0; round < 40; round += 1) {
        for (let i = 0; i < 128; i += 1) await volume.write(random.below(1024) * BLOCK_BYTES, pattern(round * 1000 + i), false);
        await machine.process.sleep(4 * AGE_MS);
        const { liveBytes, storedChunkBytes } = volume.stats();
        if (round >= 20) most = Math.max(most, storedChunkBytes / (1.3 * liveBytes + 2 * SLAB_BYTES + 16 * SLAB_BYTES));
      }
      expect(most).toBeLessThan(1);
      expect(volume.stats().compactions).toBeGreaterThan(10);
      await volume.close();
    });
  });

  test('keeps up with writers that never pause: the flusher has its turn when twice its bytes are copied, and not after each chunk', async () => {
    const machine = compacting({ compactLivePercent: 0, compactSpacePercent: 130, compactBytesPerSecond: SLAB_BYTES, flushBytes: 4 * SLAB_BYTES, checkpointChunks: 8 });
    await withVolume(machine, async (volume) => {
      const random = new SeededRandom(7);
      let most = 0;
      for (let round = 0; round < 40; round += 1) {
        const writes = Array.from({ length: 128 }, (_, i) => volume.write(random.below(1024) * BLOCK_BYTES, pattern(round * 1000 + i), false));
        await Promise.all(writes);
        const { liveBytes, storedChunkBytes } = volume.stats();
        // Behind the limits of the chunks and of the dead ones come a set that was just committed and its copies.
        if (round >= 20) most = Math.max(most, storedChunkBytes / (1.3 * liveBytes + (2 + 16 + 3 * 16) * SLAB_BYTES));
      }
      expect(most).toBeLessThan(1);
      const { chunkBytes, compactionBytes } = volume.stats();
      expect(compactionBytes).toBeLessThan(2 * (chunkBytes - compactionBytes));
      await volume.close();
    });
  });

  test('writes no more in a second than it may', async () => {
    const machine = compacting({ compactBytesPerSecond: SLAB_BYTES });
    await withVolume(machine, async (volume) => {
      for (let chunk = 0; chunk < 32; chunk += 1) await volume.write(chunk * SLAB_BYTES, pattern(chunk + 1, SLOTS), false);
      await machine.process.sleep(4 * AGE_MS);
      for (let chunk = 0; chunk < 32; chunk += 1) await volume.trim(chunk * SLAB_BYTES, (SLOTS / 2) * BLOCK_BYTES, false);
      await machine.process.sleep(PAUSE_MS + 5500);
      expect(volume.stats().compactions).toBeGreaterThanOrEqual(4);
      expect(volume.stats().compactions).toBeLessThanOrEqual(6);
      await machine.process.sleep(20_000);
      expect(volume.stats().compactions).toBe(16);
      await volume.close();
    });
  });

  test('takes blocks from memory that are there', async () => {
    const machine = compacting();
    await withVolume(machine, async (volume) => {
      const expected = await halfDead(machine, volume);
      machine.fault = (call) => (isDataRead(call) ? { kind: 'error', code: 'EIO' } : null);
      await machine.process.sleep(2 * PAUSE_MS);
      expect(volume.stats().compactions).toBe(1);
      expect(machine.env.simLogger.lines.filter((line) => line.event === 'chunk-not-compacted')).toEqual([]);
      machine.fault = () => null;
      await volume.close();
      const again = await machine.open('/v');
      await expectContent(again, expected, 'after the next opening');
      await again.close();
    });
  });

  test('does not take from memory what is not what was stored', async () => {
    const machine = compacting();
    await machine.run(async () => {
      await machine.create('/v', { sizeBytes: 4 * MIB });
      const arena = smallArena(machine.settings);
      const volume = await openVolume({ env: machine.env, directory: '/v', settings: machine.settings, arena });
      const expected = await halfDead(machine, volume);
      for (const slab of arena.slabs) slab.bytes[12 * BLOCK_BYTES + 5] ^= 1;
      await machine.process.sleep(2 * PAUSE_MS);
      expect(volume.stats().compactions).toBe(1);
      await volume.close();
      const again = await machine.open('/v');
      await expectContent(again, expected, 'after the next opening');
      await again.close();
    });
  });

  test('leaves a chunk alone that cannot be read, says so once, and goes on with the others', async () => {
    const machine = compacting();
    await withVolume(machine, async (volume) => {
      const expected = await halfDead(machine, volume);
      await volume.close();
      const damaged = machine.disk.findFile('/v/chunks/c0000000001-e000001');
      machine.disk.write(damaged, Buffer.from([1, 2, 3, 4]), 4096 + 12 * BLOCK_BYTES);
      const again = await machine.open('/v');
      await machine.process.sleep(20 * PAUSE_MS);
      expect(again.stats().compactions).toBe(1);
      const said = machine.env.simLogger.lines.filter((line) => line.event === 'chunk-not-compacted');
      expect(said.map((line) => line.fields.chunk)).toEqual([1]);
      expect(String(said[0]?.fields.error)).toContain('block 12: checksum');
      const content = Buffer.alloc(12 * BLOCK_BYTES);
      await again.read(0, content);
      expect(content.equals(expected.subarray(0, content.length))).toBe(true);
      await expect(again.read(12 * BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES))).rejects.toMatchObject({ code: 'corrupt' });
      await again.write(12 * BLOCK_BYTES, pattern(5), false);
      await again.close();
    });
  });

  test('is postponed by a full disk and harms nothing', async () => {
    const machine = compacting();
    await withVolume(machine, async (volume) => {
      const expected = await halfDead(machine, volume);
      machine.fault = (call) => (call.kind === 'write' && call.path.includes('/chunks/') ? { kind: 'error', code: 'ENOSPC' } : null);
      await machine.process.sleep(3 * PAUSE_MS);
      expect(volume.stats().compactions).toBe(0);
      expect(volume.failure).toBeNull();
      expect(machine.env.simLogger.lines.filter((line) => line.event === 'compaction-postponed').length).toBe(1);
      expect(machine.names('/v/chunks').length).toBe(3);
      machine.fault = () => null;
      await machine.process.sleep(PAUSE_MS);
      expect(volume.stats().compactions).toBe(1);
      await expectContent(volume, expected, 'after it');
      await volume.close();
    });
  });

  test('fails the volume when its chunk cannot be synced', async () => {
    const machine = compacting();
    await withVolume(machine, async (volume) => {
      await halfDead(machine, volume);
      machine.fault = (call) => (call.kind === 'sync' && isCopy(call) ? { kind: 'error', code: 'EIO' } : null);
      await machine.process.sleep(3 * PAUSE_MS);
      expect(volume.failure).toMatchObject({ code: 'io-error' });
      await expect(volume.write(0, pattern(1), false)).rejects.toMatchObject({ code: 'io-error' });
      await volume.close();
    });
  });

  test('ends with the volume, also while it waits for a flusher that finds no space', async () => {
    const machine = compacting();
    await withVolume(machine, async (volume) => {
      const expected = await halfDead(machine, volume);
      await machine.process.sleep(PAUSE_MS - 12 * AGE_MS);
      machine.fault = (call) => (call.kind === 'write' && call.path.includes('/chunks/') ? { kind: 'error', code: 'ENOSPC' } : null);
      expected.set(pattern(99), 3 * BLOCK_BYTES);
      await volume.write(3 * BLOCK_BYTES, pattern(99), false);
      await machine.process.sleep(PAUSE_MS);
      await volume.close();
      machine.fault = () => null;
      const again = await machine.open('/v');
      await expectContent(again, expected, 'after the next opening');
      await again.close();
    });
  });
});

describe('while a chunk of copies is written', () => {
  test.each([
    ['stored before the crash', 10],
    ['only in the log', 0],
  ])('a write and a trim of what it copies win, %s', async (_when, ages) => {
    const machine = compacting();
    await withVolume(machine, async (volume) => {
      const expected = await halfDead(machine, volume);
      await changeMeanwhile(machine, async () => {
        await volume.write(9 * BLOCK_BYTES, pattern(77), true);
        await volume.trim(10 * BLOCK_BYTES, BLOCK_BYTES, true);
      });
      expected.set(pattern(77), 9 * BLOCK_BYTES);
      expected.fill(0, 10 * BLOCK_BYTES, 11 * BLOCK_BYTES);
      await machine.process.sleep(ages * AGE_MS);
      await expectContent(volume, expected, 'before the crash');
      machine.restart();
      const again = await machine.open('/v');
      await expectContent(again, expected, 'after the crash');
      await machine.process.sleep(2 * PAUSE_MS);
      await expectContent(again, expected, 'after the next compaction');
      await again.close();
    });
  });

  test('a newer version that a power cut takes leaves the older one, which is not lost with its chunk', async () => {
    const machine = compacting({ checkpointChunks: 1 });
    await withVolume(machine, async (volume) => {
      const expected = await halfDead(machine, volume);
      await changeMeanwhile(machine, () => volume.write(9 * BLOCK_BYTES, pattern(77), false));
      while (volume.stats().compactions === 0) await machine.process.sleep(0.1);
      machine.disk.cutPower({ keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false });
      machine.restart();
      const again = await machine.open('/v');
      if (again.recoveredLsn === volume.lastLsn) expected.set(pattern(77), 9 * BLOCK_BYTES);
      await expectContent(again, expected, 'after the power cut');
      await again.close();
    });
  });

  test('blocks that were stored anew between reading and writing are left out', async () => {
    const machine = compacting();
    await withVolume(machine, async (volume) => {
      const expected = await halfDead(machine, volume);
      await volume.close();
      // Nothing is in memory, and a slab that is full is made into a chunk at once.
      const again = await machine.open('/v', { ...machine.settings, flushBytes: 0 });
      const write = (blockNumber: number, seed: number, count: number): Promise<void> => {
        expected.set(pattern(seed, count), blockNumber * BLOCK_BYTES);
        return again.write(blockNumber * BLOCK_BYTES, pattern(seed, count), false);
      };
      // While the second chunk is read, the flusher begins a set with a new version of what was read of the first one.
      const writes: Promise<void>[] = [];
      machine.fault = (call) => {
        const reads = call.kind === 'read' && call.path.includes('c0000000002') && call.lengthBytes > 4096;
        if (reads && writes.length === 0) writes.push(write(8, 55, 2), write(200, 56, SLOTS - 2), write(300, 57, 1));
        return null;
      };
      await machine.process.sleep(3 * PAUSE_MS);
      await Promise.all(writes);
      machine.fault = () => null;
      expect(writes.length).toBe(3);
      expect(again.stats().compactions).toBe(1);
      await expectContent(again, expected, 'after it');
      machine.restart();
      const last = await machine.open('/v');
      await expectContent(last, expected, 'after a crash');
      await last.close();
    });
  });

  test('a chunk is removed only after a checkpoint that knows the copies', async () => {
    const machine = compacting({ checkpointIntervalMs: 5 * PAUSE_MS });
    await withVolume(machine, async (volume) => {
      await halfDead(machine, volume);
      await machine.process.sleep(20 * PAUSE_MS);
      const at = (matches: (call: FileCall) => boolean): number => machine.calls.findIndex(matches);
      const copied = at((call) => call.kind === 'rename' && isCopy(call));
      const rooted = machine.calls.findIndex((call, index) => index > copied && call.kind === 'rename' && call.path.includes('manifest'));
      const removed = at((call) => call.kind === 'remove' && call.path.includes('c0000000001'));
      expect(copied).toBeGreaterThan(0);
      expect(rooted).toBeGreaterThan(copied);
      expect(removed).toBeGreaterThan(rooted);
      await volume.close();
    });
  });
});

test('copies of a block that no older chunk holds are refused: they would bring back what was trimmed', async () => {
  const machine = compacting();
  await withVolume(machine, async (volume) => {
    await volume.write(0, pattern(1, 4), false);
    await machine.process.sleep(4 * AGE_MS);
    const { lastLsn } = volume;
    machine.restart();
    const { volumeId } = await readManifest(machine.env.files, '/v');
    const forge = (blockNumber: number): void => {
      const identity = { volumeId, blockSizeBytes: BLOCK_BYTES, epoch: 1, chunkNumber: 2, firstLsn: lastLsn + 1, lastLsn, previousChunk: 1, part: 1, parts: 1 };
      const header = encodeChunkHeader(identity);
      const bytes = Buffer.from(pattern(9));
      const tail = encodeChunkTail(identity, header, { blockNumbers: Float64Array.of(blockNumber), checksums: Uint32Array.of(checksum(bytes)) }, []);
      machine.disk.write(machine.disk.createFile('/v/chunks/c0000000002-e000001'), Buffer.concat([header, bytes, tail]), 0);
    };
    forge(7);
    await expect(machine.open('/v')).rejects.toThrow(/a copy of block 7, which no older chunk holds/);
    await machine.env.files.remove('/v/chunks/c0000000002-e000001');
    forge(3);
    const again = await machine.open('/v');
    const expected = Buffer.alloc(4 * MIB);
    expected.set(pattern(1, 4));
    expected.set(pattern(9), 3 * BLOCK_BYTES);
    await expectContent(again, expected, 'with a copy of the fourth block');
    await again.close();
  });
});

describe('a crash at any call of the file system from the copying to the removal', () => {
  const settings = { checkpointIntervalMs: 2 * PAUSE_MS, spareBytes: MIB };
  const NOTHING_KEPT = { keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false };

  /** Runs until the victims are removed, or to the crash. Returns what the volume must hold. */
  async function runAll(machine: SimMachine): Promise<Buffer> {
    let expected: Buffer = Buffer.alloc(0);
    await machine.run(async () => {
      const script = async (): Promise<void> => {
        await machine.create('/v', { sizeBytes: 4 * MIB, durability: 'strict' });
        const volume = await machine.open('/v');
        expected = await halfDead(machine, volume);
        await machine.process.sleep(5 * PAUSE_MS);
        expect(volume.stats()).toMatchObject({ compactions: 1, chunksRemoved: 2 });
      };
      await Promise.race([script(), machine.process.death]);
    });
    return expected;
  }

  test.each([
    ['before', false],
    ['during', false],
    ['after', false],
    ['before', true],
    ['during', true],
    ['after', true],
  ] as const)('%s it (with a power cut: %s) loses nothing and brings nothing back', async (when, powerCut) => {
    const whole = compacting(settings);
    await runAll(whole);
    const first = whole.calls.findIndex((call) => call.kind === 'create' && isCopy(call));
    expect(whole.calls.length - first).toBeGreaterThan(15);
    for (let at = first; at < whole.calls.length; at += 1) {
      const machine = compacting(settings);
      machine.fault = () => (machine.calls.length - 1 === at ? { kind: 'crash', when } : null);
      const expected = await runAll(machine);
      expect(machine.process.alive).toBe(false);
      if (powerCut) machine.disk.cutPower(NOTHING_KEPT);
      machine.fault = () => null;
      machine.restart();
      await machine.run(async () => {
        const again = await machine.open('/v');
        const call = whole.calls[at];
        await expectContent(again, expected, `after a crash ${when} call ${at}: ${call.kind} ${call.path}`);
        await machine.process.sleep(5 * PAUSE_MS);
        await expectContent(again, expected, `after the next compaction, with a crash at call ${at}`);
        expect(again.stats().storedChunkBytes).toBeLessThan(3.3 * SLAB_BYTES);
        await again.close();
      });
    }
  });
});
