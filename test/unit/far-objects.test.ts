/** Objects of a bucket that are read by ranges, and what is kept of them. */
import { describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { KIB } from '../../src/base/units.ts';
import { FarFile, type FarOptions, FetchDemand, ReadAhead } from '../../src/store/far-objects.ts';
import { SimMachine } from '../support/engine-harness.ts';

const PIECE = 4 * KIB;
const KEY = 'chunks/c1';

/** An object of the bucket, what was asked for of it, and what became of it here. */
class Far {
  readonly machine = new SimMachine();
  readonly bytes: Buffer;
  readonly asked: string[] = [];
  readonly whole: string[] = [];
  keptBytes = 0;
  failures = 0;
  readonly file: FarFile;

  constructor(sizeBytes: number, changes: Partial<FarOptions> = {}) {
    this.bytes = Buffer.from(Array.from({ length: sizeBytes }, (_, index) => (index * 7 + (index >> 8)) & 0xff));
    const { env } = this.machine;
    this.file = new FarFile(KEY, sizeBytes, {
      files: env.files,
      directory: '/v',
      remote: {
        getRange: async (key, target, offsetBytes, options) => {
          expect(options).toEqual({ isPatient: true }); // a client's read waits for a bucket that is gone for a while
          this.asked.push(`${offsetBytes}+${target.length}`);
          await env.clock.sleep(5);
          if (this.failures > 0) {
            this.failures -= 1;
            throw new VolumeError('unavailable', `${key}: nobody answers`);
          }
          this.bytes.copy(target, 0, offsetBytes, offsetBytes + target.length);
        },
      },
      pieceBytes: PIECE,
      requestBytes: 4 * PIECE,
      readAhead: new ReadAhead(PIECE, 0),
      onRead: () => undefined,
      demand: new FetchDemand(),
      onFetched: (_key, bytes) => {
        this.keptBytes += bytes;
      },
      onWhole: (key) => {
        this.whole.push(key);
        return Promise.resolve(() => undefined);
      },
      ...changes,
    });
  }

  async run(task: () => Promise<void>): Promise<void> {
    await this.machine.run(async () => {
      for (const folder of ['/v', '/v/chunks']) await this.machine.env.files.makeDirectory(folder);
      await task();
    });
  }

  async expectRead(offsetBytes: number, lengthBytes: number): Promise<void> {
    const object = this.file.open();
    const target = Buffer.alloc(lengthBytes);
    await object.read(target, offsetBytes);
    expect(target.equals(this.bytes.subarray(offsetBytes, offsetBytes + lengthBytes))).toBe(true);
    await object.close();
  }
}

describe('a read', () => {
  test('fetches whole pieces, once, and the last one as long as it is', async () => {
    const far = new Far(3 * PIECE + 100);
    await far.run(async () => {
      await far.expectRead(PIECE + 10, 20);
      await far.expectRead(PIECE, PIECE);
      await far.expectRead(3 * PIECE + 50, 50);
      expect(far.asked).toEqual([`${PIECE}+${PIECE}`, `${3 * PIECE}+100`]);
      expect(far.keptBytes).toBe(PIECE + 100);
      expect(far.whole).toEqual([]);
    });
  });

  test('shares what is on its way with others, and splits what is long', async () => {
    const far = new Far(16 * PIECE);
    await far.run(async () => {
      await Promise.all([far.expectRead(0, 6 * PIECE), far.expectRead(PIECE, 6 * PIECE), far.expectRead(2 * PIECE + 1, 3)]);
      expect(far.asked).toEqual([`0+${4 * PIECE}`, `${4 * PIECE}+${2 * PIECE}`, `${6 * PIECE}+${PIECE}`]);
    });
  });

  test('behind the end is damage', async () => {
    const far = new Far(100);
    await far.run(async () => {
      await expect(far.expectRead(90, 11)).rejects.toMatchObject({ code: 'corrupt' });
      await far.expectRead(90, 10);
    });
  });

  test('that fails is tried again by the next one', async () => {
    const far = new Far(PIECE);
    await far.run(async () => {
      far.failures = 1;
      await expect(far.expectRead(0, 10)).rejects.toMatchObject({ code: 'unavailable' });
      await far.expectRead(0, 10);
    });
  });

  test('is answered on a full disk, too; nothing is kept then', async () => {
    const far = new Far(4 * PIECE);
    await far.run(async () => {
      far.machine.fault = (call) => (call.kind === 'write' ? { kind: 'error', code: 'ENOSPC' } : null);
      await far.expectRead(0, PIECE);
      await far.expectRead(0, PIECE);
      expect([far.asked.length, far.keptBytes]).toEqual([2, 0]);
      far.machine.fault = () => null;
      await far.expectRead(0, PIECE);
      expect(far.keptBytes).toBe(PIECE);
    });
  });

  test('whose bytes are doubted is fetched once more, three times at most', async () => {
    const far = new Far(2 * PIECE);
    await far.run(async () => {
      await far.expectRead(0, 2 * PIECE);
      const object = far.file.open();
      for (let time = 0; time < 3; time += 1) {
        expect(object.doubt?.(10, 10)).toBe(true);
        await far.expectRead(0, 2 * PIECE);
      }
      expect(object.doubt?.(10, 10)).toBe(false);
      await object.close();
      expect(far.asked).toEqual([`0+${2 * PIECE}`, `0+${PIECE}`, `0+${PIECE}`, `0+${PIECE}`]);
    });
  });
});

test('an object of which all has come is told of, synced', async () => {
  const far = new Far(2 * PIECE);
  await far.run(async () => {
    await far.expectRead(PIECE, 5);
    await far.expectRead(0, 5);
    await far.machine.process.sleep(10);
    expect(far.whole).toEqual([KEY]);
    expect(far.machine.calls.filter(({ kind }) => kind === 'sync').length).toBe(1);
  });
});

test('an object of which all has come is closed by its last reader', async () => {
  const far = new Far(2 * PIECE);
  await far.run(async () => {
    const object = far.file.open();
    await far.expectRead(0, 2 * PIECE);
    await far.machine.process.sleep(10);
    const target = Buffer.alloc(PIECE);
    await object.read(target, PIECE);
    expect(target.equals(far.bytes.subarray(PIECE))).toBe(true);
    await object.close();
    expect(far.machine.env.simFiles.openPaths()).toEqual([]);
  });
});

test('an object of which all has come is closed at once where nobody reads it', async () => {
  const far = new Far(PIECE);
  await far.run(async () => {
    await far.expectRead(0, PIECE);
    await far.machine.process.sleep(10);
    expect(far.whole).toEqual([KEY]);
    expect(far.machine.env.simFiles.openPaths()).toEqual([]);
  });
});

test('one that is dropped leaves no file, and is still read by whoever has it open', async () => {
  const far = new Far(4 * PIECE);
  await far.run(async () => {
    await far.expectRead(0, 10);
    const object = far.file.open();
    await far.file.drop();
    expect(far.machine.names('/v/chunks')).toEqual([]);
    const target = Buffer.alloc(3 * PIECE);
    await object.read(target, 0);
    expect(target.equals(far.bytes.subarray(0, 3 * PIECE))).toBe(true);
    await object.close();
    expect(far.machine.env.simFiles.openPaths()).toEqual([]);
  });
});

test('reading ahead doubles while reads go on, through the end of one object into the next, and stops at a jump', () => {
  const ahead = new ReadAhead(10, 50);
  const steps: [string, number][] = [['a', 0], ['a', 5], ['a', 10], ['a', 15], ['b', 0], ['b', 5], ['b', 100], ['b', 105]];
  expect(steps.map(([key, offset]) => ahead.next(key, offset, 5))).toEqual([0, 10, 20, 40, 50, 50, 0, 10]);
});

describe('what is fetched for nobody', () => {
  test('comes whole, a request at a time, and behind those who read', async () => {
    const far = new Far(16 * PIECE);
    await far.run(async () => {
      let fetchedBytes = 0;
      const fetching = far.file.fetchAll((bytes) => {
        fetchedBytes += bytes;
      });
      const { clock } = far.machine.env;
      await clock.sleep(1);
      const reading = far.expectRead(12 * PIECE, PIECE);
      // The request that is on its way is not called back, and has come by now; the next one waits for the reader.
      await clock.sleep(4.5);
      expect(fetchedBytes).toBe(4 * PIECE);
      expect(far.asked).toEqual([`0+${4 * PIECE}`, `${12 * PIECE}+${PIECE}`]);
      await reading;
      expect(await fetching).toBe(true);
      expect(far.asked.slice(2)).toEqual([`${4 * PIECE}+${4 * PIECE}`, `${8 * PIECE}+${4 * PIECE}`, `${13 * PIECE}+${3 * PIECE}`]);
      expect(fetchedBytes).toBe(16 * PIECE);
      expect(far.whole).toEqual([KEY]);
    });
  });

  test('ends when the object is dropped, or cannot be fetched', async () => {
    const far = new Far(16 * PIECE);
    await far.run(async () => {
      far.failures = 1;
      await expect(far.file.fetchAll(() => undefined)).rejects.toMatchObject({ code: 'unavailable' });
      const fetching = far.file.fetchAll(() => undefined);
      await far.machine.env.clock.sleep(1);
      await far.file.drop();
      expect(await fetching).toBe(false);
      expect(far.whole).toEqual([]);
    });
  });
});
