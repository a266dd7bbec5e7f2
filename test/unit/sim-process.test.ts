import { describe, expect, test } from 'vitest';
import { SimDisk } from '../sim/disk.ts';
import { SimEnv } from '../sim/env.ts';
import { CrashAtCall, FirstFault, NO_FAULTS, type FaultPolicy } from '../sim/faults.ts';
import { SimLocks } from '../sim/file-system.ts';
import { SimProcess } from '../sim/process.ts';
import { SeededRandom } from '../sim/random.ts';
import { Scheduler, StuckError } from '../sim/scheduler.ts';
import { IO_PROFILES } from '../sim/timing.ts';
import { Trace } from '../sim/trace.ts';

const BUSY = IO_PROFILES[1];

class Machine {
  readonly scheduler = new Scheduler((timeMs) => this.trace.setTime(timeMs));
  readonly trace = new Trace();
  readonly disk = new SimDisk();
  readonly locks = new SimLocks();
  readonly #random: SeededRandom;
  #count = 0;

  constructor(seed = 1) {
    this.#random = new SeededRandom(seed);
  }

  boot(faults: FaultPolicy = NO_FAULTS): SimEnv {
    this.#count += 1;
    const name = `process ${this.#count}`;
    const process = new SimProcess({ name, scheduler: this.scheduler, trace: this.trace, random: this.#random.derive(name) });
    const tasks = new Map([['double', (job: unknown) => (typeof job === 'number' ? job * 2 : null)]]);
    return new SimEnv({ process, disk: this.disk, locks: this.locks, profile: BUSY, faults, tasks });
  }

  sizeOf(path: string): number {
    return this.disk.findFile(path).sizeBytes;
  }
}

function drawEight(seed: number): number[] {
  const random = new SeededRandom(seed);
  return Array.from({ length: 8 }, () => random.u32());
}

describe('virtual time', () => {
  test('runs events by time, and those of one time in the order of scheduling', async () => {
    const scheduler = new Scheduler();
    const order: string[] = [];
    await scheduler.drive(async () => {
      await new Promise<void>((resolve) => {
        scheduler.after(2, () => order.push('late'));
        scheduler.after(1, () => order.push('first'));
        scheduler.after(1, () => order.push('second'));
        scheduler.after(3, resolve);
      });
    });
    expect(order).toEqual(['first', 'second', 'late']);
    expect(scheduler.nowMs).toBe(3);
  });

  test('lets all microtasks of an event end before the next event', async () => {
    const scheduler = new Scheduler();
    const order: string[] = [];
    await scheduler.drive(async () => {
      scheduler.after(1, () => {
        let chain = Promise.resolve();
        for (let i = 0; i < 20; i += 1) chain = chain.then(() => undefined);
        void chain.then(() => order.push('microtask'));
      });
      await new Promise<void>((resolve) => {
        scheduler.after(1, () => {
          order.push('event');
          resolve();
        });
      });
    });
    expect(order).toEqual(['microtask', 'event']);
  });

  test('is stuck when somebody waits and nothing is left to run', async () => {
    const scheduler = new Scheduler();
    await expect(scheduler.drive(() => new Promise(() => undefined))).rejects.toThrow(StuckError);
  });

  test('ends a world that never ends', async () => {
    const scheduler = new Scheduler(() => undefined, { maxEvents: 100, maxTimeMs: 1e9 });
    const tick = (): void => {
      scheduler.after(1, tick);
    };
    const task = (): Promise<never> => {
      tick();
      return new Promise(() => undefined);
    };
    await expect(scheduler.drive(task)).rejects.toThrow('no end after 100 events');
  });

  test('passes on what an event throws', async () => {
    const scheduler = new Scheduler();
    const task = (): Promise<never> => {
      scheduler.after(1, () => {
        throw new Error('broken timer');
      });
      return new Promise(() => undefined);
    };
    await expect(scheduler.drive(task)).rejects.toThrow('broken timer');
  });

  test('a cancelled timer does not fire', async () => {
    const machine = new Machine();
    const { clock, process } = machine.boot();
    let fired = 0;
    await machine.scheduler.drive(async () => {
      clock.setTimer(5, () => (fired += 1));
      clock.setTimer(5, () => (fired += 100)).cancel();
      await process.sleep(50);
    });
    expect(fired).toBe(1);
  });
});

describe('a simulated process', () => {
  test('writes, reads back and sees errors with their system codes', async () => {
    const machine = new Machine();
    const { files } = machine.boot();
    await machine.scheduler.drive(async () => {
      const file = await files.open('/f', 'create');
      await file.write([Uint8Array.of(1, 2), Uint8Array.of(3)], 1);
      file.writeNow([Uint8Array.of(9)], 0);
      const target = new Uint8Array(8);
      expect(await file.read(target, 0)).toBe(4);
      expect([...target]).toEqual([9, 1, 2, 3, 0, 0, 0, 0]);
      expect(await file.sizeBytes()).toBe(4);
      await file.close();
      expect(() => file.writeNow([Uint8Array.of(1)], 0)).toThrow(expect.objectContaining({ code: 'EBADF' }));
      await expect(files.open('/f', 'create')).rejects.toMatchObject({ code: 'EEXIST' });
      await expect(files.open('/g', 'read')).rejects.toMatchObject({ code: 'ENOENT' });
      expect(await files.list('/')).toEqual(['f']);
      expect([await files.exists('/f'), await files.exists('/g')]).toEqual([true, false]);
    });
  });

  test('ends calls in an order of their own', async () => {
    const machine = new Machine();
    const { files } = machine.boot();
    const order: number[] = [];
    await machine.scheduler.drive(async () => {
      const file = await files.open('/f', 'create');
      const write = async (index: number): Promise<void> => {
        await file.write([Uint8Array.of(index)], index);
        order.push(index);
      };
      await Promise.all(Array.from({ length: 20 }, (_none, index) => write(index)));
    });
    expect(order.toSorted((left, right) => left - right)).toEqual(Array.from({ length: 20 }, (_none, index) => index));
    expect(order).not.toEqual(order.toSorted((left, right) => left - right));
  });

  test('a sync does not cover a write that has not ended when it begins', async () => {
    const lost = new Set<boolean>();
    for (let seed = 0; seed < 20; seed += 1) {
      const machine = new Machine(seed);
      const { files } = machine.boot();
      await machine.scheduler.drive(async () => {
        const file = await files.open('/f', 'create');
        await files.syncDirectory('/');
        const write = file.write([Uint8Array.of(1)], 0);
        await file.sync();
        await write;
      });
      machine.disk.cutPower({ keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false });
      lost.add(machine.sizeOf('/f') === 0);
    }
    expect([...lost]).toEqual([true]);
  });

  test('takes its timers and calls along when it dies, but not what the kernel has', async () => {
    const machine = new Machine();
    const { files, clock, process } = machine.boot();
    const after: string[] = [];
    await machine.scheduler.drive(async () => {
      const file = await files.open('/f', 'create');
      file.writeNow([new Uint8Array(10)], 0);
      clock.setTimer(1, () => after.push('timer'));
      void file.sync().then(() => after.push('sync'));
      process.die();
      file.writeNow([new Uint8Array(99)], 0);
      await new Promise<void>((resolve) => {
        machine.scheduler.after(1000, resolve);
      });
    });
    expect(after).toEqual([]);
    expect(machine.sizeOf('/f')).toBe(10);
  });

  test('leaves a write in flight undone, done in part at a sector, or done', async () => {
    const sizes = new Set<number>();
    for (let seed = 0; seed < 100; seed += 1) {
      const machine = new Machine(seed);
      const { files, process } = machine.boot();
      await machine.scheduler.drive(async () => {
        const file = await files.open('/f', 'create');
        void file.write([new Uint8Array(1000)], 100);
        process.die();
      });
      sizes.add(machine.sizeOf('/f'));
    }
    expect([...sizes].sort((left, right) => left - right)).toEqual([0, 512, 1024, 1100]);
  });

  test('copies into a mapping as it writes: the kernel has it, and a power cut takes what was not synced', async () => {
    const machine = new Machine();
    const { files, process, simFiles } = machine.boot();
    await machine.scheduler.drive(async () => {
      const file = await files.open('/f', 'create');
      await file.write([new Uint8Array(8192)], 0);
      await file.sync();
      await files.syncDirectory('/');
      const mapping = await files.map('/f', 65_536);
      mapping.copyNow([Uint8Array.of(1), Uint8Array.of(2)], 1000);
      await file.sync();
      mapping.copyNow([Uint8Array.of(3)], 1001);
      const target = new Uint8Array(2);
      await file.read(target, 1000);
      expect([...target]).toEqual([1, 3]);
      await file.close();
      expect(simFiles.openPaths()).toEqual(['/f']);
      await mapping.close();
      expect(simFiles.openPaths()).toEqual([]);
      expect(() => mapping.copyNow([Uint8Array.of(1)], 0)).toThrow(/a mapping that is gone/);
      process.die();
    });
    machine.disk.cutPower({ keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false });
    const kept = new Uint8Array(2);
    machine.disk.findFile('/f').read(kept, 1000);
    expect([...kept]).toEqual([1, 2]);
  });

  test.each([[8192, 1], [8000, 200], [65_535, 1]])('has broken its promises when it touches a mapping behind the end of the file, at %d for %d bytes', async (offsetBytes, lengthBytes) => {
    const machine = new Machine();
    const { files } = machine.boot();
    await machine.scheduler.drive(async () => {
      const file = await files.open('/f', 'create');
      await file.write([new Uint8Array(8192)], 0);
      const mapping = await files.map('/f', 65_536);
      expect(() => mapping.copyNow([new Uint8Array(lengthBytes)], offsetBytes)).toThrow(/SIGBUS/);
      mapping.copyNow([new Uint8Array(192)], 8000);
    });
  });

  test('that dies within a copy leaves any part of it', async () => {
    const ends = new Set<number>();
    for (let seed = 0; seed < 60; seed += 1) {
      const machine = new Machine(seed);
      const { files, process } = machine.boot({ decide: ({ kind }) => (kind === 'copy' ? { kind: 'crash', when: 'during' } : null) });
      await machine.scheduler.drive(async () => {
        const file = await files.open('/f', 'create');
        await file.write([new Uint8Array(2000)], 0);
        const mapping = await files.map('/f', 4096);
        mapping.copyNow([new Uint8Array(1000).fill(1)], 100);
        await process.death;
      });
      const bytes = new Uint8Array(2000);
      machine.disk.findFile('/f').read(bytes, 0);
      ends.add(bytes.lastIndexOf(1));
    }
    expect(ends.size).toBeGreaterThan(30);
    expect([...ends].every((end) => end === -1 || (end >= 100 && end < 1100))).toBe(true);
  });

  test('holds a lock until it dies', async () => {
    const machine = new Machine();
    const first = machine.boot();
    const second = machine.boot();
    await machine.scheduler.drive(async () => {
      expect(await first.files.lock('/lock')).not.toBeNull();
      expect(await second.files.lock('/lock')).toBeNull();
      first.process.die();
      const lock = await second.files.lock('/lock');
      expect(lock).not.toBeNull();
      await lock?.release();
      expect(await machine.boot().files.lock('/lock')).not.toBeNull();
    });
  });

  test.each([
    ['before', 0],
    ['after', 700],
  ] as const)('dies %s the call that its fault policy names', async (when, sizeBytes) => {
    const machine = new Machine();
    const crash = new CrashAtCall(when);
    crash.arm(2);
    const { files, process } = machine.boot(crash);
    await machine.scheduler.drive(async () => {
      const file = await files.open('/f', 'create');
      file.writeNow([new Uint8Array(700)], 0);
      await process.death;
    });
    expect(machine.sizeOf('/f')).toBe(sizeBytes);
  });

  test('fails a call with the code that its fault policy names, and goes on', async () => {
    const machine = new Machine();
    const policy: FaultPolicy = { decide: (call) => (call.kind === 'sync' ? { kind: 'error', code: 'EIO' } : null) };
    const { files } = machine.boot(new FirstFault([NO_FAULTS, policy]));
    await machine.scheduler.drive(async () => {
      const file = await files.open('/f', 'create');
      await expect(file.sync()).rejects.toMatchObject({ code: 'EIO' });
      expect(() => file.syncNow()).toThrow(expect.objectContaining({ code: 'EIO' }));
      await file.write([Uint8Array.of(1)], 0);
    });
    expect(machine.sizeOf('/f')).toBe(1);
  });

  test('runs the tasks of its workers later', async () => {
    const machine = new Machine();
    const { workers } = machine.boot();
    await machine.scheduler.drive(async () => {
      const result = workers.run('double', 21);
      expect(machine.scheduler.nowMs).toBe(0);
      expect(await result).toBe(42);
      await expect(workers.run('unknown', 1)).rejects.toThrow('no worker task');
      await workers.close();
      await expect(workers.run('double', 1)).rejects.toThrow('closed');
    });
  });
});

describe('a seed', () => {
  test('gives the same numbers again, and another seed others', () => {
    expect(drawEight(7)).toEqual(drawEight(7));
    expect(drawEight(7)).not.toEqual(drawEight(8));
  });

  test('derives generators that differ by their names only', () => {
    const random = new SeededRandom(5);
    const before = random.derive('a').u32();
    random.u32();
    expect(random.derive('a').u32()).toBe(before);
    expect(random.derive('b').u32()).not.toBe(before);
  });

  test('skews towards small numbers, within its limits', () => {
    const random = new SeededRandom(3);
    const drawn = Array.from({ length: 2000 }, () => random.skewed(1, 1000));
    expect(Math.min(...drawn)).toBe(1);
    expect(Math.max(...drawn)).toBeGreaterThan(800);
    expect(Math.max(...drawn)).toBeLessThanOrEqual(1000);
    expect(drawn.filter((value) => value < 32).length).toBeGreaterThan(800);
  });
});
