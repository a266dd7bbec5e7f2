import { describe, expect, test } from 'vitest';
import { Arena } from '../../src/base/arena.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { NodeMemory } from '../../src/env/node-memory.ts';
import { IdleMemory } from '../../src/volume/idle-memory.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, readAll, smallArena } from '../support/engine-harness.ts';
import { hasMappings } from '../support/mappings.ts';

const QUIET_MS = 1000;
const NOBODY = { evict: (): void => undefined };

/** A machine whose memory says what it is asked for, and loses what it is given. */
async function watched(use: (machine: SimMachine, arena: Arena, asked: string[]) => Promise<void>): Promise<void> {
  const machine = new SimMachine();
  const { clock, memory } = machine.env;
  const asked: string[] = [];
  const telling = {
    giveBack: (bytes: Uint8Array): void => {
      asked.push('slab');
      memory.giveBack(bytes);
    },
    trim: (): void => void asked.push('trim'),
  };
  const arena = smallArena(machine.settings);
  IdleMemory.watch({ env: { clock, memory: telling }, arena, quietMs: QUIET_MS });
  await machine.run(() => use(machine, arena, asked));
}

describe('memory that nobody needs', () => {
  test('goes back when there was nothing to do for a while, and once', async () => {
    await watched(async (machine, arena, asked) => {
      const [first, second] = [arena.takeDirty(NOBODY), arena.takeDirty(NOBODY)];
      await machine.process.sleep(5 * QUIET_MS);
      expect(asked).toEqual([]);
      arena.free(first);
      await machine.process.sleep(0.9 * QUIET_MS);
      expect(asked).toEqual([]);
      await machine.process.sleep(0.2 * QUIET_MS);
      expect(asked).toEqual(['slab', 'trim']);
      arena.becomeClean(second);
      await machine.process.sleep(5 * QUIET_MS);
      expect(asked).toEqual(['slab', 'trim', 'trim']);
    });
  });

  test('stays while somebody is at work', async () => {
    await watched(async (machine, arena, asked) => {
      const slab = arena.takeClean(NOBODY);
      arena.free(arena.takeDirty(NOBODY));
      for (let i = 0; i < 10; i += 1) {
        await machine.process.sleep(0.8 * QUIET_MS);
        arena.touch(slab);
      }
      expect(asked).toEqual([]);
      await machine.process.sleep(3 * QUIET_MS);
      expect(asked).toEqual(['slab', 'trim']);
    });
  });

  test('is none that a volume has data in', async () => {
    await watched(async (machine, arena, asked) => {
      await machine.create('/v');
      for (let life = 1; life <= 2; life += 1) {
        const volume = await machine.open('/v', machine.settings, arena);
        const blocks = SLAB_BYTES / BLOCK_BYTES;
        for (let slab = 0; slab < 6; slab += 1) {
          await volume.write(slab * SLAB_BYTES, pattern(10 * life + slab, blocks), false);
          await machine.process.sleep(3 * QUIET_MS);
        }
        const expected = Array.from({ length: 6 }, (_, slab) => pattern(10 * life + slab, blocks));
        expect(Buffer.compare((await readAll(volume)).subarray(0, 6 * SLAB_BYTES), Buffer.concat(expected))).toBe(0);
        await volume.close();
        asked.length = 0;
        await machine.process.sleep(3 * QUIET_MS);
        expect(asked.filter((what) => what === 'slab').length).toBeGreaterThan(5);
        expect(asked.at(-1)).toBe('trim');
      }
    });
  });
});

test.runIf(hasMappings())('the system has the pages of free slabs back, and takes none of their neighbours', () => {
  const memory = new NodeMemory();
  const arena = new Arena({ arenaBytes: 128 * MIB, dirtyBytes: 64 * MIB });
  const slabs = Array.from({ length: 16 }, () => arena.takeDirty(NOBODY));
  for (const slab of slabs) slab.bytes.fill(slab.index + 1);
  const before = process.memoryUsage.rss();
  for (const slab of slabs) if (slab.index % 2 === 1) arena.free(slab);
  for (let count = 0; count < 8; count += 1) expect(arena.giveBackFree((bytes) => memory.giveBack(bytes))).toBe(true);
  memory.trim();
  expect(before - process.memoryUsage.rss()).toBeGreaterThan(24 * MIB);
  for (const slab of slabs) expect(slab.bytes.every((byte) => byte === (slab.index % 2 === 1 ? 0 : slab.index + 1))).toBe(true);
  const slab = arena.takeDirty(NOBODY);
  slab.bytes.fill(99);
  expect(slab.bytes.every((byte) => byte === 99)).toBe(true);
});

test.runIf(hasMappings())('memory that does not begin with a page stays as it is, and what does not end with one is refused', () => {
  const bytes = Buffer.alloc(64 * KIB + 100, 7);
  const memory = new NodeMemory();
  expect(() => memory.giveBack(bytes)).toThrow(/no whole pages/);
  const place = bytes.byteOffset % 4096 === 1 ? 2 : 1;
  memory.giveBack(bytes.subarray(place, place + 32 * KIB));
  expect(bytes.every((byte) => byte === 7)).toBe(true);
});
