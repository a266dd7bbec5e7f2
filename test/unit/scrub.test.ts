/** Scrubbing: what is rotten in chunks is found, told, and written anew where memory has it whole; clients come first. */
import { beforeAll, describe, expect, test } from 'vitest';
import { SerialQueue } from '../../src/base/async.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import type { BlockDevice } from '../../src/volume/block-device.ts';
import type { Progress, ScrubReport } from '../../src/volume/volume-info.ts';
import { loadForReading } from '../../src/volume/probe-volume.ts';
import { ReadPath } from '../../src/volume/read-path.ts';
import { scrubClosed } from '../../src/volume/scrub-closed.ts';
import { type ScrubUpkeep, type WriteTarget, scrubOpen } from '../../src/volume/scrub.ts';
import type { VolumeCore } from '../../src/volume/volume-core.ts';
import { VolumeSet } from '../../src/volume/volume-set.ts';
import { readManifest } from '../../src/volume/volume-files.ts';
import type { Volume } from '../../src/volume/volume.ts';
import type { FileCall } from '../sim/faults.ts';
import { type VolumeFiles, digests, fileOf, flipped, machineWith, sampleFiles, toolOptions, withFile } from '../support/damaged-volumes.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, smallArena, smallSettings } from '../support/engine-harness.ts';
import { SAMPLE_SETTINGS } from '../support/make-sample.ts';
import { text } from '../support/text.ts';

const RATE = 64 * MIB;
const SLOTS = SLAB_BYTES / BLOCK_BYTES;
const BLOCKS = 4 * SLOTS;
/** Block 5 of a volume that `filled` made stands here in its chunk: behind the header, in the order of the blocks. */
const ROTTEN = 5;

function quick(changes: { readonly bytesPerSecond?: number; readonly onProgress?: (progress: Progress) => void; readonly signal?: AbortSignal } = {}) {
  return { bytesPerSecond: RATE, onProgress: () => undefined, signal: new AbortController().signal, ...changes };
}

/** A volume of 4 MiB whose first blocks are in chunks, opened anew: nothing of it is in memory. */
async function filled(machine: SimMachine): Promise<Volume> {
  await machine.create('/v');
  const first = await machine.open('/v');
  await first.write(0, pattern(1, BLOCKS), false);
  await first.close();
  return machine.open('/v');
}

/** What an open volume has in memory, with the block that is to rot in its cache. */
async function loadedCore(machine: SimMachine): Promise<VolumeCore> {
  await (await filled(machine)).close();
  const options = { env: machine.env, directory: '/v', name: 'v', settings: machine.settings, arena: smallArena(machine.settings) };
  const core = await loadForReading(options, await readManifest(machine.env.files, '/v'), () => undefined, () => Promise.resolve());
  await new ReadPath(core).read(ROTTEN * BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES));
  return core;
}

/** For a core without the parts that write. */
function upkeepWith(device: WriteTarget): ScrubUpkeep {
  return { device, flusher: { serial: new SerialQueue() }, checkpointer: { rewrite: () => undefined, run: () => Promise.resolve() } };
}

/** Changes one byte of a file on the simulated disk. */
function rot(machine: SimMachine, path: string, at: number): void {
  machine.disk.write(machine.disk.findFile(path), flipped(machine.bytesOf(path), at), 0);
}

const firstChunk = (machine: SimMachine): string => `/v/chunks/${machine.names('/v/chunks')[0]}`;

/** Where a block's bytes begin in a file. */
function offsetOf(machine: SimMachine, path: string, block: number): number {
  const at = machine.bytesOf(path).indexOf(pattern(1, BLOCKS).subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES));
  expect(at).toBeGreaterThan(0);
  return at;
}

async function blockAt(volume: BlockDevice, block: number): Promise<Buffer> {
  const target = Buffer.alloc(BLOCK_BYTES);
  await volume.read(block * BLOCK_BYTES, target);
  return target;
}

const originalOf = (block: number): Uint8Array => pattern(1, BLOCKS).subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);

describe('of an open volume a scrub', () => {
  test('reads every block once, and says that all is well', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await filled(machine);
      const told: Progress[] = [];
      const report = await volume.scrub(quick({ onProgress: (progress) => void told.push(progress) }));
      expect(report).toMatchObject({ volume: 'v', isClean: true, chunks: 4, blocks: BLOCKS, pages: 4, mappedBlocks: BLOCKS, rotten: [], rottenCount: 0 });
      expect(report.bytes).toBeGreaterThan(BLOCKS * BLOCK_BYTES);
      expect(told[0]).toEqual({ task: 'scrub of v, block map', done: 0, total: 1 });
      expect([told[1], told.at(-1)]).toEqual([{ task: 'scrub of v, chunks', done: 0, total: 4 }, { task: 'scrub of v, chunks', done: 4, total: 4 }]);
      expect(volume.stats()).toMatchObject({ scrubs: 1, rottenFound: 0 });
      expect(volume.stats().scrubbedBytes).toBeGreaterThan(BLOCKS * BLOCK_BYTES);
      await volume.close();
    });
  });

  test('names a rotten block by chunk and byte, and leaves it unreadable when nothing has it whole', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await filled(machine);
      const path = firstChunk(machine);
      const at = offsetOf(machine, path, ROTTEN);
      rot(machine, path, at + 100);
      const report = await volume.scrub(quick());
      expect(report).toMatchObject({ isClean: false, rottenCount: 1, rewrittenCount: 0 });
      expect(report.rotten).toEqual([{ file: path.slice('/v/'.length), chunk: 1, blockNumber: ROTTEN, offsetBytes: at, problem: text(/^checksum [0-9a-f]{8}, expected [0-9a-f]{8}$/u), inUse: true, rewritten: 0 }]);
      await expect(blockAt(volume, ROTTEN)).rejects.toMatchObject({ code: 'corrupt' });
      expect(volume.stats()).toMatchObject({ rottenFound: 1, rottenRewritten: 0 });
      await volume.close();
    });
  });

  test('writes a rotten block anew that memory has whole: it is right after the next opening', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await filled(machine);
      const path = firstChunk(machine);
      await blockAt(volume, ROTTEN);
      rot(machine, path, offsetOf(machine, path, ROTTEN) + 100);
      expect(await volume.scrub(quick())).toMatchObject({ rottenCount: 1, rewrittenCount: 1, rotten: [{ blockNumber: ROTTEN, inUse: true, rewritten: 1 }] });
      await volume.close();
      const again = await machine.open('/v');
      expect((await blockAt(again, ROTTEN)).equals(originalOf(ROTTEN))).toBe(true);
      // What is rotten is not needed any more.
      expect((await again.scrub(quick())).rotten.map(({ inUse }) => inUse)).toEqual([false]);
      await again.close();
    });
  });

  test('writes anew what memory has of a chunk of which no table can be read', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await filled(machine);
      const path = firstChunk(machine);
      for (const block of [ROTTEN, ROTTEN + 2]) await blockAt(volume, block);
      rot(machine, path, machine.bytesOf(path).length - 3);
      expect(await volume.scrub(quick())).toMatchObject({ rottenCount: 1, rewrittenCount: 2, rotten: [{ blockNumber: null, inUse: true, rewritten: 2 }] });
      await volume.close();
      const again = await machine.open('/v');
      for (const block of [ROTTEN, ROTTEN + 2]) expect((await blockAt(again, block)).equals(originalOf(block))).toBe(true);
      await expect(blockAt(again, ROTTEN + 1)).rejects.toMatchObject({ code: 'corrupt' });
      await again.close();
    });
  });

  test('writes nothing over a newer version', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await filled(machine);
      const path = firstChunk(machine);
      await blockAt(volume, ROTTEN);
      rot(machine, path, offsetOf(machine, path, ROTTEN) + 100);
      await volume.write(ROTTEN * BLOCK_BYTES, pattern(77), false);
      expect(await volume.scrub(quick())).toMatchObject({ rotten: [{ inUse: false, rewritten: 0 }] });
      expect((await blockAt(volume, ROTTEN)).equals(pattern(77))).toBe(true);
      await volume.close();
    });
  });

  test('writes nothing anew of which the copy in memory is not whole either', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const core = await loadedCore(machine);
      const path = firstChunk(machine);
      rot(machine, path, offsetOf(machine, path, ROTTEN) + 100);
      core.slabAt(core.residentLocation(ROTTEN)).bytes[(core.residentLocation(ROTTEN) % core.slotsPerSlab) * BLOCK_BYTES + 9] ^= 1;
      let attempts = 0;
      const device: WriteTarget = {
        writeNow: () => {
          attempts += 1;
          return 'partial';
        },
        submit: () => undefined,
        whenAdmitting: () => Promise.resolve(),
      };
      expect(await scrubOpen(core, upkeepWith(device), quick())).toMatchObject({ rotten: [{ inUse: true, rewritten: 0 }] });
      expect(attempts).toBe(0);
    });
  });

  test('that waited for room looks again whether its block is still the newest', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const core = await loadedCore(machine);
      const path = firstChunk(machine);
      rot(machine, path, offsetOf(machine, path, ROTTEN) + 100);
      let attempts = 0;
      const device: WriteTarget = {
        writeNow: () => {
          attempts += 1;
          return 'full';
        },
        submit: () => undefined,
        // Meanwhile a client's newer version is in another chunk.
        whenAdmitting: () => {
          core.map.place(ROTTEN, 1, 2, 0);
          return Promise.resolve();
        },
      };
      expect(await scrubOpen(core, upkeepWith(device), quick())).toMatchObject({ rotten: [{ inUse: true, rewritten: 0 }] });
      expect(attempts).toBe(1);
    });
  });

  test('leaves out chunks that are removed meanwhile', async () => {
    const machine = new SimMachine(smallSettings({ checkpointChunks: 1, flushIntervalMs: 5 }));
    await machine.run(async () => {
      const volume = await filled(machine);
      await volume.trim(0, BLOCKS * BLOCK_BYTES, true);
      const slow = volume.scrub(quick({ bytesPerSecond: 64 * KIB }));
      for (let i = 0; i < 100 && volume.stats().chunksRemoved < 4; i += 1) await machine.process.sleep(10);
      expect(volume.stats().chunksRemoved).toBeGreaterThan(2);
      const report = await slow;
      expect(report).toMatchObject({ isClean: true });
      expect(report.chunks).toBeLessThan(4);
      await volume.close();
    });
  });

  test('does not call a chunk missing that was removed while it was about to be opened', async () => {
    const machine = new SimMachine(smallSettings({ checkpointChunks: 1, flushIntervalMs: 5 }));
    await machine.run(async () => {
      const volume = await filled(machine);
      const path = firstChunk(machine);
      machine.fault = (call) => (call.kind === 'open' && call.path === path ? { kind: 'slow', delayMs: 10_000 } : null);
      const scrub = volume.scrub(quick());
      await machine.process.sleep(1);
      await volume.trim(0, BLOCKS * BLOCK_BYTES, true);
      expect(await scrub).toMatchObject({ isClean: true, rotten: [] });
      expect(machine.calls.filter(({ kind, path: called }) => kind === 'open' && called === path).length).toBe(1);
      expect(volume.stats().chunksRemoved).toBeGreaterThanOrEqual(4);
      await volume.close();
    });
  });

  test('does not call a chunk missing whose removal is under way', async () => {
    const machine = new SimMachine(smallSettings({ checkpointChunks: 1, flushIntervalMs: 5, spareBytes: 16 * MIB }));
    await machine.run(async () => {
      const volume = await filled(machine);
      const [first, second] = machine.names('/v/chunks').map((name) => `/v/chunks/${name}`);
      const isOpening = (call: FileCall): boolean => call.kind === 'open' && call.path === first;
      const isRemoval = (call: FileCall): boolean => call.kind === 'rename' && call.path.startsWith(second);
      machine.fault = (call) => (isOpening(call) ? { kind: 'slow', delayMs: 5000 } : isRemoval(call) ? { kind: 'slow', delayMs: 60_000 } : null);
      const scrub = volume.scrub(quick());
      await machine.process.sleep(1);
      await volume.trim(0, BLOCKS * BLOCK_BYTES, true);
      expect(await scrub).toMatchObject({ isClean: true, rotten: [] });
      expect(machine.calls.some(isRemoval), 'it is being removed').toBe(true);
      expect(volume.stats().chunksRemoved, 'and not yet forgotten').toBeLessThan(4);
      await volume.close();
    });
  });

  test('keeps to its rate, and to a quarter of it while clients are at work', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await filled(machine);
      const idle = await volume.scrub(quick({ bytesPerSecond: MIB }));
      expect(idle.elapsedMs).toBeGreaterThanOrEqual((idle.bytes / MIB) * 1000 - 2);
      expect(idle.elapsedMs).toBeLessThan((idle.bytes / MIB) * 1100);
      let isDone = false;
      const busy = volume.scrub(quick({ bytesPerSecond: MIB })).finally(() => {
        isDone = true;
      });
      while (!isDone) {
        await blockAt(volume, 0);
        await machine.process.sleep(1);
      }
      expect((await busy).elapsedMs).toBeGreaterThan(2 * idle.elapsedMs);
      await volume.close();
    });
  });

  test('ends when it is told to, and when the volume is closed', async () => {
    const machine = new SimMachine();
    await machine.run(async () => {
      const volume = await filled(machine);
      const stop = new AbortController();
      const scrub = volume.scrub(quick({ bytesPerSecond: 64 * KIB, signal: stop.signal }));
      await machine.process.sleep(10);
      stop.abort();
      await expect(scrub).rejects.toMatchObject({ code: 'closed', message: text('ended early') });
      const other = volume.scrub(quick({ bytesPerSecond: 64 * KIB }));
      const [ended] = await Promise.allSettled([other, volume.close()]);
      expect(ended).toMatchObject({ status: 'rejected', reason: { code: 'closed' } });
      await expect(volume.scrub(quick())).rejects.toMatchObject({ code: 'closed' });
      expect(volume.stats().scrubs).toBe(0);
    });
  });
});

describe('a set of volumes', () => {
  test('opens a volume for its scrub, and runs one at a time of each', async () => {
    const machine = new SimMachine(smallSettings({ arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB, idleCloseMs: 100 }));
    await machine.run(async () => {
      await (await filled(machine)).close();
      const set = new VolumeSet({ env: machine.env, directory: '/', settings: machine.settings });
      const options = { ...quick(), bytesPerSecond: null };
      const first = set.scrub('v', options);
      await expect(set.scrub('v', options)).rejects.toMatchObject({ code: 'in-use', message: text('is being scrubbed already') });
      expect(await first).toMatchObject({ isClean: true, chunks: 4 });
      expect(set.statusOf('v')?.stats).toMatchObject({ scrubs: 1 });
      await expect(set.scrub('none', options)).rejects.toMatchObject({ code: 'not-found' });
      expect(await set.scrub('v', options)).toMatchObject({ isClean: true });
      await set.close();
    });
  });
});

describe('of a volume that nobody has open a scrub', () => {
  const FIRST_CHUNK = 'chunks/c0000000001-e000001';
  /** A tool makes its own arena, of whole slabs. */
  const TOOL_SETTINGS = { ...SAMPLE_SETTINGS, arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB };
  let sample: VolumeFiles;
  beforeAll(async () => {
    sample = await sampleFiles();
  });

  async function scrubbed(files: VolumeFiles): Promise<ScrubReport> {
    const machine = machineWith(files);
    const report = await machine.run(() => scrubClosed({ ...toolOptions(machine), settings: TOOL_SETTINGS, ...quick() }));
    expect(digests(machine.snapshot('/v'))).toEqual(digests(files));
    return report;
  }

  test('changes nothing, and says what is in use of what is rotten', async () => {
    expect(await scrubbed(sample)).toMatchObject({ isClean: true, chunks: 3 });
    // Blocks 0, 1 and 2 stand in this order; 1 and 2 were written again later.
    const rotten = flipped(flipped(fileOf(sample, FIRST_CHUNK), BLOCK_BYTES + 10), 2 * BLOCK_BYTES + 10);
    expect((await scrubbed(withFile(sample, FIRST_CHUNK, rotten))).rotten).toMatchObject([
      { blockNumber: 0, inUse: true },
      { blockNumber: 1, inUse: false },
    ]);
  });

  test('of which nobody can tell what is in use says so', async () => {
    const files = withFile(sample, 'checkpoints/k0000000001-e000001', Buffer.alloc(10));
    expect((await scrubbed(withFile(files, FIRST_CHUNK, flipped(fileOf(sample, FIRST_CHUNK), 30)))).rotten.at(-1)).toMatchObject({ file: FIRST_CHUNK, blockNumber: null, inUse: null });
  });

  test('is refused while somebody has it open, and in the middle of a repair', async () => {
    const machine = machineWith(sample);
    await machine.run(async () => {
      const volume = await machine.open('/v', SAMPLE_SETTINGS);
      await expect(scrubClosed({ ...toolOptions(machine), settings: TOOL_SETTINGS, ...quick() })).rejects.toMatchObject({ code: 'in-use' });
      await volume.close();
      machine.disk.createFile('/v/repairing');
      await expect(scrubClosed({ ...toolOptions(machine), settings: TOOL_SETTINGS, ...quick() })).rejects.toThrow(VolumeError);
    });
  });
});
