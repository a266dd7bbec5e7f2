/** Objects of a bucket that are fetched whole before they are read. */
import { describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { KIB } from '../../src/base/units.ts';
import { AheadObjects } from '../../src/store/ahead-objects.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import type { StoredObject } from '../../src/store/object-store.ts';
import { SimMachine } from '../support/engine-harness.ts';

const SIZE = 10 * KIB + 7;

function bytesOf(key: string): Buffer {
  return Buffer.from(Array.from({ length: SIZE }, (_, index) => (index * 7 + key.charCodeAt(key.length - 1) * 31 + (index >> 8)) & 0xff));
}

/** Two buffers, and a bucket that answers after 5 ms. */
class World {
  readonly machine = new SimMachine();
  readonly local = new DirectoryStore(this.machine.env.files, '/v', 0);
  readonly asked: string[] = [];
  readonly elsewhere: string[] = [];
  readonly kept: string[] = [];
  readonly read: string[] = [];
  readonly unwanted = new Set<string>();
  isDown = false;
  latencyMs = 5;
  /** Called when it is asked whether an object may be kept. */
  onAsked: (key: string) => void = () => undefined;
  readonly ahead = new AheadObjects({
    local: this.local,
    clock: this.machine.env.clock,
    memoryBytes: 3 * 12 * KIB - 1,
    objectBytes: 12 * KIB,
    mayKeep: (key) => {
      this.onAsked(key);
      return !this.unwanted.has(key) && !this.kept.includes(key);
    },
    onKept: (key, sizeBytes) => {
      expect(sizeBytes).toBe(SIZE);
      this.kept.push(key);
    },
    onRead: (key) => this.read.push(key),
    remote: {
      getRange: async (key, target, offsetBytes) => {
        this.asked.push(`${key} ${offsetBytes}+${target.length}`);
        await this.machine.env.clock.sleep(this.latencyMs);
        if (this.isDown) throw new VolumeError('unavailable', `${key}: nobody answers`);
        bytesOf(key).copy(target, 0, offsetBytes, offsetBytes + target.length);
      },
    },
  });

  async run(task: () => Promise<void>): Promise<void> {
    await this.machine.run(async () => {
      for (const folder of ['/v', '/v/chunks']) await this.machine.env.files.makeDirectory(folder);
      await task();
    });
  }

  open(key: string): StoredObject {
    const object = this.ahead.open(key, async () => {
      this.elsewhere.push(key);
      return this.local.open(key);
    });
    if (object === null) throw new Error(`${key} is not fetched ahead`);
    return object;
  }

  async expectRead(object: StoredObject, key: string): Promise<void> {
    const target = Buffer.alloc(object.sizeBytes);
    await object.read(target, 0);
    expect(target.equals(bytesOf(key))).toBe(true);
  }

  get names(): string[] {
    return this.machine.names('/v/chunks');
  }
}

describe('an object', () => {
  test('is fetched by one request, served from memory, and kept', async () => {
    const world = new World();
    await world.run(async () => {
      expect(world.ahead.begin('chunks/a', SIZE)).toBe(true);
      expect(world.ahead.begin('chunks/a', SIZE)).toBe(true);
      const object = world.open('chunks/a');
      await world.expectRead(object, 'chunks/a');
      await world.machine.process.sleep(50);
      await world.expectRead(object, 'chunks/a');
      expect([world.asked, world.kept, world.elsewhere]).toEqual([[`chunks/a 0+${SIZE}`], ['chunks/a'], []]);
      await world.expectRead(await world.local.open('chunks/a'), 'chunks/a');
      await object.close();
    });
  });

  test('behind whose end is read is damaged', async () => {
    const world = new World();
    await world.run(async () => {
      world.ahead.begin('chunks/a', SIZE);
      await expect(world.open('chunks/a').read(Buffer.alloc(2), SIZE - 1)).rejects.toMatchObject({ code: 'corrupt' });
    });
  });

  test('that was read gives its memory to another one, and is read from the directory then', async () => {
    const world = new World();
    await world.run(async () => {
      for (const key of ['chunks/a', 'chunks/b']) world.ahead.begin(key, SIZE);
      const object = world.open('chunks/a');
      expect(world.ahead.begin('chunks/c', SIZE)).toBe(false);
      await world.machine.process.sleep(50);
      expect(world.ahead.begin('chunks/c', SIZE)).toBe(false); // what nobody has read yet stays
      await world.expectRead(object, 'chunks/a');
      expect(world.ahead.begin('chunks/c', SIZE)).toBe(true);
      expect(world.ahead.has('chunks/a')).toBe(false);
      await world.expectRead(object, 'chunks/a');
      expect(world.elsewhere).toEqual(['chunks/a']);
      await world.expectRead(world.open('chunks/c'), 'chunks/c');
      await object.close();
      await world.machine.process.sleep(50);
      expect(world.machine.env.simFiles.openPaths()).toEqual([]);
    });
  });

  test('that nobody reads for half a minute gives its memory back', async () => {
    const world = new World();
    await world.run(async () => {
      for (const key of ['chunks/a', 'chunks/b']) world.ahead.begin(key, SIZE);
      await world.machine.process.sleep(29_000);
      expect(world.ahead.begin('chunks/c', SIZE)).toBe(false);
      await world.machine.process.sleep(1100);
      expect(world.ahead.begin('chunks/c', SIZE)).toBe(true);
    });
  });

  test('and its memory go when nobody has read anything for a while; one that is read now and then stays', async () => {
    const world = new World();
    await world.run(async () => {
      for (const key of ['chunks/a', 'chunks/b']) world.ahead.begin(key, SIZE);
      const object = world.open('chunks/a');
      for (let seconds = 0; seconds < 100; seconds += 20) {
        await world.machine.process.sleep(20_000);
        await world.expectRead(object, 'chunks/a');
      }
      expect([world.ahead.has('chunks/a'), world.ahead.has('chunks/b'), world.ahead.bufferCount, world.elsewhere]).toEqual([true, false, 2, []]);
      await world.machine.process.sleep(61_000);
      expect([world.ahead.has('chunks/a'), world.ahead.bufferCount]).toEqual([false, 0]);
      await world.expectRead(object, 'chunks/a');
      expect(world.elsewhere).toEqual(['chunks/a']);
      await object.close();
      expect(world.ahead.begin('chunks/c', SIZE)).toBe(true);
      expect(world.ahead.bufferCount).toBe(1);
    });
  });

  test('that was removed on its way gives its memory back as well, when it has come', async () => {
    const world = new World();
    await world.run(async () => {
      world.latencyMs = 45_000;
      world.ahead.begin('chunks/a', SIZE);
      world.ahead.forget('chunks/a');
      await world.machine.process.sleep(100_000);
      expect([world.ahead.has('chunks/a'), world.ahead.bufferCount]).toEqual([false, 0]);
    });
  });

  test('that does not come is read elsewhere', async () => {
    const world = new World();
    await world.run(async () => {
      world.isDown = true;
      world.ahead.begin('chunks/a', SIZE);
      const object = world.open('chunks/a');
      await expect(object.read(Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'not-found' });
      expect(world.elsewhere).toEqual(['chunks/a']);
      await world.machine.process.sleep(50);
      expect([world.names, world.ahead.has('chunks/a')]).toEqual([[], false]);
    });
  });

  test('that is removed is not kept, at whichever call for its file that happens', async () => {
    let calls = 0;
    for (let at = 0; at <= calls; at += 1) {
      const world = new World();
      await world.run(async () => {
        calls = 0;
        let removal = Promise.resolve();
        world.machine.fault = () => {
          if (calls === at) {
            world.unwanted.add('chunks/a');
            world.ahead.forget('chunks/a');
          }
          calls += 1;
          if (calls - 1 === at) removal = world.local.remove('chunks/a');
          return null;
        };
        world.ahead.begin('chunks/a', SIZE);
        await world.machine.process.sleep(50);
        await world.ahead.close();
        await removal;
        // In the last round it is made whole before that.
        expect([world.names, world.kept]).toEqual(calls > at ? [[], []] : [['a'], ['chunks/a']]);
        expect(world.machine.env.simFiles.openPaths()).toEqual([]);
      });
      if (at === 50) throw new Error('it makes calls for ever');
    }
    expect(calls).toBeGreaterThan(5);
  });

  test('that is removed as it becomes whole is not counted as one that is here', async () => {
    const world = new World();
    await world.run(async () => {
      let asked = 0;
      let removal = Promise.resolve();
      const remove = (): void => {
        if (world.kept.length === 0) world.unwanted.add('chunks/a');
        world.ahead.forget('chunks/a');
        removal = world.local.remove('chunks/a');
      };
      world.onAsked = () => {
        asked += 1;
        if (asked === 3) queueMicrotask(remove); // it has its name
      };
      world.ahead.begin('chunks/a', SIZE);
      await world.machine.process.sleep(50);
      await removal;
      // Who removed it saw that it was here.
      expect([asked, world.unwanted.size, world.kept, world.names]).toEqual([3, 0, ['chunks/a'], []]);
    });
  });

  test('that is being written keeps its memory, though it was read', async () => {
    const world = new World();
    await world.run(async () => {
      for (const key of ['chunks/a', 'chunks/b']) world.ahead.begin(key, SIZE);
      world.unwanted.add('chunks/b');
      let isRead = false;
      const begun: boolean[] = [];
      world.machine.fault = () => {
        if (isRead) begun.push(false);
        if (isRead && world.ahead.begin('chunks/c', SIZE)) begun.push(true);
        return null;
      };
      await world.expectRead(world.open('chunks/a'), 'chunks/a');
      isRead = true;
      await world.machine.process.sleep(50);
      expect(begun).toContain(false);
      expect(begun).not.toContain(true);
      world.machine.fault = () => null;
      expect(world.ahead.begin('chunks/c', SIZE)).toBe(true);
    });
  });

  test('that was read and waits to be written gives its memory up before that: a stream does not wait for this disk', async () => {
    const world = new World();
    await world.run(async () => {
      const DISK_MS = 100; // for the first call of an object; all that is read here takes less
      world.machine.fault = () => ({ kind: 'slow', delayMs: DISK_MS });
      const startMs = world.machine.env.clock.nowMs();
      for (const key of ['chunks/a', 'chunks/b', 'chunks/c', 'chunks/d']) {
        expect(world.ahead.begin(key, SIZE)).toBe(true);
        await world.expectRead(world.open(key), key);
      }
      expect(world.machine.env.clock.nowMs() - startMs).toBeLessThan(DISK_MS);
      world.machine.fault = () => null;
      await world.machine.process.sleep(20 * DISK_MS);
      expect(world.kept).toEqual(['chunks/a', 'chunks/d']); // the one that was being written, and the one whose memory nobody needed
    });
  });

  test('is written after as long a rest as the one before it took, while more come than the disk writes', async () => {
    const world = new World();
    await world.run(async () => {
      const begun: number[] = [];
      const ended: number[] = [];
      world.machine.fault = (call) => {
        if (call.kind === 'create') begun.push(world.machine.env.clock.nowMs());
        if (call.kind === 'rename') ended.push(world.machine.env.clock.nowMs());
        return { kind: 'slow', delayMs: 20 };
      };
      for (const key of ['chunks/a', 'chunks/b']) world.ahead.begin(key, SIZE);
      await world.machine.process.sleep(1000);
      expect([world.kept, begun.length, ended.length]).toEqual([['chunks/a', 'chunks/b'], 2, 2]);
      expect(begun[1] - ended[0]).toBeGreaterThan(ended[0] - begun[0]);
    });
  });

  test('that is on its way or waits when the volume is closed is not written any more', async () => {
    const world = new World();
    await world.run(async () => {
      for (const key of ['chunks/a', 'chunks/b']) world.ahead.begin(key, SIZE);
      await world.ahead.close();
      expect([world.kept, world.names, world.asked.length]).toEqual([[], [], 2]);
    });
  });

  test('that finds no space is served all the same, and leaves nothing', async () => {
    const world = new World();
    await world.run(async () => {
      world.machine.fault = (call) => (call.kind === 'write' ? { kind: 'error', code: 'ENOSPC' } : null);
      world.ahead.begin('chunks/a', SIZE);
      await world.expectRead(world.open('chunks/a'), 'chunks/a');
      await world.machine.process.sleep(50);
      expect([world.kept, world.names]).toEqual([[], []]);
    });
  });

  test('whose bytes are doubted is not kept, and is read elsewhere', async () => {
    const world = new World();
    await world.run(async () => {
      world.ahead.begin('chunks/a', SIZE);
      const object = world.open('chunks/a');
      await object.read(Buffer.alloc(1), 0);
      expect(object.doubt?.(0, 1)).toBe(true);
      await expect(object.read(Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'not-found' });
      expect(object.doubt?.(0, 1)).toBe(false);
      await world.machine.process.sleep(50);
      expect([world.kept, world.names, world.elsewhere]).toEqual([[], [], ['chunks/a']]);
      expect(world.ahead.begin('chunks/b', SIZE) && world.ahead.begin('chunks/c', SIZE)).toBe(true);
    });
  });

  test('that is longer than a buffer is left to its readers', async () => {
    const world = new World();
    await world.run(() => {
      expect(world.ahead.begin('chunks/a', 12 * KIB + 1)).toBe(true);
      expect(world.ahead.open('chunks/a', () => Promise.reject(new Error('not asked for')))).toBe(null);
      return Promise.resolve();
    });
  });
});
