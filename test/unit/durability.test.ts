import { describe, expect, test } from 'vitest';
import { DURABILITY_MODES, type Durability } from '../../src/base/durability.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { MIB } from '../../src/base/units.ts';
import { readManifest } from '../../src/volume/volume-files.ts';
import { VolumeSet } from '../../src/volume/volume-set.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, SimMachine, pattern, smallSettings } from '../support/engine-harness.ts';

/** What was not synced is gone. */
const NOTHING_KEPT = { keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false };

function cutPower(machine: SimMachine): void {
  machine.process.die();
  machine.disk.cutPower(NOTHING_KEPT);
  machine.restart();
}

/** A volume in a mode, on a machine where nothing is synced unless somebody asks. */
function withVolume(durability: Durability, use: (machine: SimMachine, volume: Volume) => Promise<void>, settings = smallSettings()): Promise<void> {
  const machine = new SimMachine(settings);
  return machine.run(async () => {
    await machine.create('/v', { durability });
    await use(machine, await machine.open('/v'));
  });
}

const modeOnDisk = async (machine: SimMachine): Promise<Durability> => (await readManifest(machine.env.files, '/v')).durability;

/** Asks for a write on the data path; says how its completion was settled. */
function writeNow(volume: Volume, blockNumber: number, fua = false): { answer: VolumeError | null | 'none' } {
  const state: { answer: VolumeError | null | 'none' } = { answer: 'none' };
  const settle = (error: VolumeError | null): void => void (state.answer = error);
  expect(volume.writeNow(blockNumber * BLOCK_BYTES, BLOCK_BYTES, pattern(blockNumber), 0, fua, { settle })).toBe('accepted');
  return state;
}

async function blocksFound(machine: SimMachine, blockCount: number): Promise<boolean[]> {
  const volume = await machine.open('/v');
  const found: boolean[] = [];
  for (let i = 0; i < blockCount; i += 1) {
    const target = Buffer.alloc(BLOCK_BYTES);
    await volume.read(i * BLOCK_BYTES, target);
    found.push(target.equals(pattern(i)));
  }
  return found;
}

const PAIRS = DURABILITY_MODES.flatMap((from) => DURABILITY_MODES.map((to) => [from, to] as const));

describe('changing the mode of an open volume', () => {
  test.each(PAIRS)('from %s to %s: a power cut right behind the answer takes nothing that was accepted before, and not the mode', async (from, to) => {
    await withVolume(from, async (machine, volume) => {
      await volume.write(0, pattern(0), false);
      writeNow(volume, 1);
      volume.submit();
      writeNow(volume, 2); // of a turn that has not ended
      const changed = volume.setDurability(to);
      const duringChange = volume.write(3 * BLOCK_BYTES, pattern(3), false);
      await changed;
      expect(volume.durability).toBe(to);
      cutPower(machine);
      expect(await modeOnDisk(machine)).toBe(to);
      expect((await blocksFound(machine, 3)).every(Boolean)).toBe(true);
      await Promise.race([duringChange, Promise.resolve()]);
    });
  });

  test.each([
    ['strict', true, true],
    ['batched', true, false],
    ['relaxed', true, false],
    ['async', false, false],
  ] as const)('to %s holds for the next write at once', async (mode, survivesKill, survivesPowerCut) => {
    for (const [cut, survives] of [[(machine: SimMachine) => machine.restart(), survivesKill], [cutPower, survivesPowerCut]] as const) {
      await withVolume('relaxed', async (machine, volume) => {
        await volume.setDurability(mode);
        await volume.write(0, pattern(0), false);
        cut(machine);
        expect(await blocksFound(machine, 1)).toEqual([survives]);
      });
    }
  });

  test('from async: a flush that is asked for before the change is answered covers what async answered', async () => {
    await withVolume('async', async (machine, volume) => {
      await volume.write(0, pattern(0), false);
      machine.fault = (call) => (call.kind === 'sync' && call.path.endsWith('.log') ? { kind: 'slow', delayMs: 1000 } : null);
      const changed = volume.setDurability('relaxed');
      while (volume.durability === 'async') await machine.process.sleep(0.1);
      await volume.flush();
      cutPower(machine);
      expect(await blocksFound(machine, 1)).toEqual([true]);
      await Promise.race([changed, Promise.resolve()]);
    });
  });

  test('to async: a flush that was asked for before is answered when it is durable, not sooner', async () => {
    await withVolume('relaxed', async (machine, volume) => {
      await volume.write(0, pattern(0), false);
      machine.fault = (call) => (call.kind === 'sync' && call.path.endsWith('.log') ? { kind: 'slow', delayMs: 1000 } : null);
      const flushed = volume.flush().then(() => volume.durableLsn);
      await volume.setDurability('async');
      expect(await flushed).toBe(1);
    });
  });

  test('leaves the mode as it was when the disk is full', async () => {
    await withVolume('relaxed', async (machine, volume) => {
      await volume.write(0, pattern(0), false);
      machine.fault = (call) => (call.path.includes('manifest') && call.kind === 'write' ? { kind: 'error', code: 'ENOSPC' } : null);
      await expect(volume.setDurability('strict')).rejects.toMatchObject({ code: 'no-space' });
      expect([volume.durability, await modeOnDisk(machine)]).toEqual(['relaxed', 'relaxed']);
      machine.fault = () => null;
      await volume.setDurability('strict');
      expect(await modeOnDisk(machine)).toBe('strict');
    });
  });

  test('does not wait behind chunks that wait for space', async () => {
    await withVolume('relaxed', async (machine, volume) => {
      await volume.write(0, pattern(0), false);
      machine.fault = (call) => (call.path.includes('/chunks') && call.kind !== 'list' ? { kind: 'error', code: 'ENOSPC' } : null);
      await machine.process.sleep(100); // old enough for a chunk
      const publishing = volume.setDurability('async').then(() => 'changed', (error: unknown) => (error instanceof VolumeError ? error.code : 'another error'));
      expect(await publishing).toBe('no-space');
      expect(volume.durability).toBe('relaxed');
    }, smallSettings({ flushIntervalMs: 50 }));
  });

  test('whose manifest cannot be written ends the volume, as a checkpoint does', async () => {
    await withVolume('relaxed', async (machine, volume) => {
      machine.fault = (call) => (call.kind === 'sync' && call.path.includes('manifest') ? { kind: 'error', code: 'EIO' } : null);
      await expect(volume.setDurability('strict')).rejects.toMatchObject({ code: 'io-error' });
      expect(volume.failure?.code).toBe('io-error');
      await expect(volume.setDurability('strict')).rejects.toMatchObject({ code: 'io-error' });
      expect(await modeOnDisk(machine)).toBe('relaxed');
    });
  });

  test('says when the mode is changed but not everything before it is durable', async () => {
    await withVolume('async', async (machine, volume) => {
      await volume.write(0, pattern(0), false);
      machine.fault = (call) => (call.kind === 'sync' && call.path.endsWith('.log') ? { kind: 'error', code: 'EIO' } : null);
      await expect(volume.setDurability('strict')).rejects.toThrow(/is strict from now on, but what was written before is not durable yet: .*syncing the log failed/);
    });
  });

  test('is refused by a volume that is being closed', async () => {
    await withVolume('relaxed', async (machine, volume) => {
      await volume.write(0, pattern(0), false);
      const closed = volume.close();
      await expect(volume.setDurability('strict')).rejects.toMatchObject({ code: 'closed' });
      await closed;
      expect(await modeOnDisk(machine)).toBe('relaxed');
    });
  });

  test('is refused when its turn comes only while the volume is being closed', async () => {
    await withVolume('relaxed', async (machine, volume) => {
      machine.fault = (call) => (call.kind === 'sync' && call.path.includes('manifest') ? { kind: 'slow', delayMs: 100 } : null);
      const changes = [volume.setDurability('strict'), volume.setDurability('async')];
      await machine.process.sleep(50);
      await Promise.all([volume.close(), changes[0], expect(changes[1]).rejects.toMatchObject({ code: 'closed' })]);
      expect(await modeOnDisk(machine)).toBe('strict');
    });
  });

  test('and a checkpoint at the same time lose nothing of each other', async () => {
    await withVolume('relaxed', async (machine, volume) => {
      for (let round = 0; round < 8; round += 1) {
        const mode = round % 2 === 0 ? 'strict' : 'batched';
        for (let i = 0; i < 16; i += 1) void writeNow(volume, i);
        volume.submit();
        await Promise.all([volume.setDurability(mode), machine.process.sleep(round)]);
      }
      await machine.process.sleep(200);
      const manifest = await readManifest(machine.env.files, '/v');
      expect(manifest.durability).toBe('batched');
      expect(manifest.checkpoint.number).toBeGreaterThan(2);
      machine.restart();
      expect((await blocksFound(machine, 16)).every(Boolean)).toBe(true);
    }, smallSettings({ flushIntervalMs: 5, checkpointChunks: 1 }));
  });
});

describe('a power cut at any call of a change with writes and flushes in flight', () => {
  test.each([['async', 'strict'], ['strict', 'async'], ['relaxed', 'batched'], ['async', 'relaxed']] as const)('%s to %s', async (from, to) => {
    let crashed = true;
    for (let at = 1; crashed; at += 1) {
      expect(at).toBeLessThan(200);
      for (const when of ['before', 'during', 'after'] as const) crashed = await crashInChange({ from, to, at, when });
    }
  });
});

/** False if the change and all that went with it was over before the call number `at`. */
async function crashInChange({ from, to, at, when }: { from: Durability; to: Durability; at: number; when: 'before' | 'during' | 'after' }): Promise<boolean> {
  let crashed = false;
  await withVolume(from, async (machine, volume) => {
    const first = machine.calls.length;
    let owed = -1;
    const promised = (blockNumber: number): void => void (owed = Math.max(owed, blockNumber));
    machine.fault = () => (machine.calls.length === first + at ? { kind: 'crash', when } : null);
    const work = (async (): Promise<void> => {
      await volume.write(0, pattern(0), false);
      if (from === 'strict') promised(0);
      const writes = [1, 2].map((blockNumber) => {
        const isStrict = volume.durability === 'strict';
        return volume.write(blockNumber * BLOCK_BYTES, pattern(blockNumber), false).then(() => (isStrict ? promised(blockNumber) : undefined));
      });
      const changed = volume.setDurability(to).then(() => promised(2));
      const flushed = from === 'async' ? Promise.resolve() : volume.flush().then(() => promised(0));
      await Promise.all([...writes, changed, flushed]);
      await volume.write(3 * BLOCK_BYTES, pattern(3), to !== 'strict');
      if (to !== 'async') promised(3);
    })();
    await Promise.race([work, machine.process.death]);
    crashed = !machine.process.alive;
    machine.fault = () => null;
    cutPower(machine);
    const found = await blocksFound(machine, 4);
    const count = found.lastIndexOf(true) + 1;
    expect(found.slice(0, count).every(Boolean), 'a prefix').toBe(true);
    expect(count, `call ${at} (${when}): blocks up to ${owed} are owed`).toBeGreaterThan(owed);
    expect([from, to]).toContain(await modeOnDisk(machine));
  });
  return crashed;
}

describe('what is at risk', () => {
  test('is nothing in a new volume', async () => {
    await withVolume('relaxed', async (_machine, volume) => {
      expect(volume.atRisk()).toEqual({ unsynced: { bytes: 0, ageMs: 0 }, unchunked: { bytes: 0, ageMs: 0 } });
      expect(volume.status()).toMatchObject({ wear: { deviceBytes: 0, userBytes: 0, factor: null }, failure: null });
      await Promise.resolve();
    });
  });

  test('is what was written: until a sync the one part, until it is in a chunk the other', async () => {
    const settings = smallSettings({ flushIntervalMs: 1000 });
    await withVolume('relaxed', async (machine, volume) => {
      await volume.write(0, pattern(0, 3), false);
      await machine.process.sleep(100);
      await volume.trim(100 * BLOCK_BYTES, 50 * BLOCK_BYTES, false); // never written: no record, no risk
      await volume.trim(0, BLOCK_BYTES, false);
      const before = volume.atRisk();
      expect(before.unsynced.bytes).toBe(4 * BLOCK_BYTES);
      // The trimmed block is at no risk any more, its zeroes are.
      expect(before.unchunked.bytes).toBe(3 * BLOCK_BYTES);
      for (const { ageMs } of [before.unsynced, before.unchunked]) expect(Math.round(ageMs / 10)).toBe(10);
      await volume.flush();
      expect(volume.atRisk()).toMatchObject({ unsynced: { bytes: 0, ageMs: 0 }, unchunked: { bytes: 3 * BLOCK_BYTES } });
      await machine.process.sleep(2000);
      expect(volume.atRisk().unchunked).toEqual({ bytes: 0, ageMs: 0 });
      const { wear } = volume.status();
      expect(wear.userBytes).toBe(3 * BLOCK_BYTES);
      expect(wear.deviceBytes).toBeGreaterThan(5 * BLOCK_BYTES);
      expect(wear.factor).toBeCloseTo(wear.deviceBytes / wear.userBytes);
    }, settings);
  });

  test('includes in async mode what is in memory only', async () => {
    await withVolume('async', async (_machine, volume) => {
      await volume.write(0, pattern(0), false);
      expect(volume.stats().logBytes).toBe(0);
      expect(volume.atRisk().unsynced.bytes).toBe(BLOCK_BYTES);
      await volume.setDurability('relaxed');
      expect(volume.atRisk().unsynced.bytes).toBe(0);
    });
  });

  test('includes what was recovered from the log and is in no chunk', async () => {
    await withVolume('relaxed', async (machine, volume) => {
      await volume.write(0, pattern(0, 2), false);
      machine.restart();
      const again = await machine.open('/v');
      expect(again.atRisk()).toMatchObject({ unsynced: { bytes: 0 }, unchunked: { bytes: 2 * BLOCK_BYTES } });
      await again.close();
    });
  });

  test('includes the chunks that are being written', async () => {
    await withVolume('relaxed', async (machine, volume) => {
      await volume.write(0, pattern(0, 2), false);
      let seen = -1;
      machine.fault = (call) => {
        if (call.kind === 'rename' && call.path.includes('/chunks/')) seen = volume.atRisk().unchunked.bytes;
        return null;
      };
      await machine.process.sleep(500);
      expect(seen).toBe(2 * BLOCK_BYTES);
      expect(volume.atRisk().unchunked.bytes).toBe(0);
    }, smallSettings({ flushIntervalMs: 100 }));
  });

  test('does not include chunks that are committed, while the checkpoint behind them is written', async () => {
    await withVolume('relaxed', async (machine, volume) => {
      await volume.write(0, pattern(0, 2), false);
      const seen: number[] = [];
      machine.fault = (call) => {
        if (call.kind === 'rename' && call.path.includes('/checkpoints/')) seen.push(volume.atRisk().unchunked.bytes);
        return null;
      };
      await machine.process.sleep(500);
      expect(seen).toEqual([0]);
    }, smallSettings({ flushIntervalMs: 100, checkpointChunks: 1 }));
  });
});

describe('a set of volumes', () => {
  const CREATE = { sizeBytes: MIB, blockSizeBytes: BLOCK_BYTES, durability: 'batched' } as const;

  async function withSet(use: (machine: SimMachine, set: VolumeSet) => Promise<void>): Promise<void> {
    const machine = new SimMachine(smallSettings({ arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB, idleCloseMs: 100 }));
    machine.disk.makeDirectory('/data');
    machine.disk.makeNamesDurable(machine.disk.findDirectory('/'), machine.disk.sequence);
    await machine.run(async () => {
      const set = new VolumeSet({ env: machine.env, directory: '/data', settings: machine.settings });
      await set.create('a', CREATE);
      await use(machine, set);
    });
  }

  test('changes the mode of a volume that is closed, without opening it', async () => {
    await withSet(async (_machine, set) => {
      await set.setDurability('a', 'strict');
      expect(await set.describe('a')).toMatchObject({ durability: 'strict', epoch: 0, open: false });
      expect(set.statusOf('a')).toBeNull();
      await expect(set.setDurability('b', 'strict')).rejects.toMatchObject({ code: 'not-found' });
      await set.close();
    });
  });

  test('syncs the log of a volume whose server was killed before it promises more', async () => {
    await withSet(async (machine, set) => {
      const volume = await set.acquire('a');
      await volume.write(0, pattern(0), false);
      machine.restart();
      const later = new VolumeSet({ env: machine.env, directory: '/data', settings: machine.settings });
      await later.setDurability('a', 'strict');
      cutPower(machine);
      const target = Buffer.alloc(BLOCK_BYTES);
      const last = new VolumeSet({ env: machine.env, directory: '/data', settings: machine.settings });
      await (await last.acquire('a')).read(0, target);
      expect(target.equals(pattern(0))).toBe(true);
      await last.close();
    });
  });

  test('changes the mode of one that is open here, and lets it close in its time', async () => {
    await withSet(async (machine, set) => {
      const volume = await set.acquireVolume('a');
      set.release(volume);
      await set.setDurability('a', 'async');
      expect(volume.durability).toBe('async');
      expect(set.statusOf('a')).toMatchObject({ failure: null });
      await machine.process.sleep(500);
      expect(await set.describe('a')).toMatchObject({ durability: 'async', open: false });
      await set.close();
    });
  });

  test('refuses to change one that another process has', async () => {
    await withSet(async (machine, set) => {
      const lock = await machine.env.files.lock('/data/a/lock');
      await expect(set.setDurability('a', 'strict')).rejects.toThrow(/open in another process; change it there/);
      await lock?.release();
      await set.close();
    });
  });

  test('lets a client wait, and turns none away, while it changes a closed volume', async () => {
    await withSet(async (machine, set) => {
      machine.fault = (call) => (call.kind === 'sync' && call.path.endsWith('.log') ? { kind: 'slow', delayMs: 5000 } : null);
      const changed = set.setDurability('a', 'relaxed');
      const looked = set.describe('a');
      const volume = await set.acquireVolume('a');
      expect(volume.durability).toBe('relaxed');
      await changed;
      expect((await looked).name).toBe('a');
      set.release(volume);
      await set.close();
    });
  });

  test('waits a moment for somebody who only looks at the volume', async () => {
    await withSet(async (machine, set) => {
      const lock = await machine.env.files.lock('/data/a/lock');
      const changed = set.setDurability('a', 'strict');
      await machine.process.sleep(60);
      await lock?.release();
      await changed;
      await set.close();
    });
  });

  test('keeps no lock when a change fails', async () => {
    await withSet(async (machine, set) => {
      machine.fault = (call) => (call.kind === 'sync' && call.path.endsWith('.log') ? { kind: 'error', code: 'EIO' } : null);
      await expect(set.setDurability('a', 'strict')).rejects.toMatchObject({ code: 'io-error' });
      machine.fault = () => null;
      expect((await set.describe('a')).durability).toBe('batched');
      await (await set.acquire('a')).flush();
      await set.close();
    });
  });
});
