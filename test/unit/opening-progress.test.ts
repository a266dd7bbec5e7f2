/** How far a long opening is: told by each of its steps, and shown on a terminal or in the server's log once it takes over a second. */
import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { OpeningProgress } from '../../src/cli/opening-progress.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import { LogProgress } from '../../src/volume/replay-log.ts';
import { VolumeSet } from '../../src/volume/volume-set.ts';
import type { Progress } from '../../src/volume/volume-info.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, smallArena, smallSettings } from '../support/engine-harness.ts';
import { ManualClock, MemoryLogger } from '../support/fake-world.ts';

const STEP: Progress = { task: 'chunks', done: 3, total: 12 };

function terminal(isInteractive: boolean) {
  const shown: string[] = [];
  return { shown, isInteractive, size: () => null, out: () => undefined, error: (text: string) => void shown.push(text), ask: () => Promise.resolve('') };
}

/** A volume with a checkpoint, two chunks behind it, and records in its log alone; its process was killed. */
async function killed(machine: SimMachine): Promise<void> {
  await machine.create('/v');
  const first = await machine.open('/v');
  await first.write(0, pattern(1, 20), false);
  await first.close();
  const second = await machine.open('/v');
  await second.write(0, pattern(2, 13 * (SLAB_BYTES / BLOCK_BYTES)), false);
  for (let i = 0; i < 100 && second.stats().chunksWritten < 2; i += 1) await machine.process.sleep(1);
  await second.write(0, pattern(3, 10), true);
  machine.restart();
}

describe('the opening of a volume', () => {
  test('tells how far each of its steps is', async () => {
    const machine = new SimMachine();
    const told: Progress[] = [];
    await machine.run(() => killed(machine));
    await machine.run(async () => {
      const volume = await openVolume({ env: machine.env, directory: '/v', settings: machine.settings, arena: smallArena(machine.settings), onProgress: (progress) => void told.push(progress) });
      await volume.close();
    });
    expect([...new Set(told.map(({ task }) => task))].slice(0, 4)).toEqual(['block map', 'headers of chunks', 'chunks', 'log, MiB']);
    for (const { done, total } of told) expect(done).toBeLessThan(total);
  });

  test('tells of the log by the MiB, not by the record', () => {
    const told: Progress[] = [];
    const progress = new LogProgress('log', { logFileBytes: 4 * MIB, logFileCount: 3 }, (step) => void told.push(step));
    for (const fileIndex of [2, 0]) for (let offsetBytes = 4096; offsetBytes < 4 * MIB; offsetBytes += 8192) progress.note({ fileIndex, offsetBytes });
    expect(told.map(({ done }) => done)).toEqual([0, 1, 2, 3, 3, 4, 5, 6]);
    expect(told[0]).toEqual({ task: 'log', done: 0, total: 12 });
  });

  test('of a set of volumes is watched until it ends, also when it fails', async () => {
    const machine = new SimMachine(smallSettings({ arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB }));
    await machine.run(async () => {
      await machine.create('/v');
      const seen: string[] = [];
      const watchOpening = (name: string) => ({ onProgress: ({ task }: Progress) => void seen.push(task), end: () => void seen.push(`end of ${name}`) });
      const set = new VolumeSet({ env: machine.env, directory: '/', settings: machine.settings, watchOpening });
      const volume = await set.acquireVolume('v');
      await volume.write(0, pattern(1), false);
      set.release(volume);
      await expect(set.acquireVolume('none')).rejects.toMatchObject({ code: 'not-found' });
      expect(seen.filter((event) => event.startsWith('end'))).toEqual(['end of v', 'end of none']);
      await set.close();
    });
  });
});

describe('a server', () => {
  test('says nothing of an opening within a second, then every five seconds a line in its log', () => {
    const clock = new ManualClock();
    const logger = new MemoryLogger();
    const quiet = terminal(false);
    const watch = new OpeningProgress({ clock, logger, terminal: quiet }).watch('demo');
    for (const [afterMs, lines] of [[0, 0], [999, 0], [1, 1], [1, 1], [4998, 1], [1, 2]] as const) {
      clock.advance(afterMs);
      watch.onProgress(STEP);
      expect(logger.lines.length).toBe(lines);
    }
    watch.end();
    expect(logger.lines[0]).toEqual({ level: 'info', event: 'recovering', fields: { volume: 'demo', ...STEP } });
    expect(quiet.shown).toEqual([]);
  });

  test('shows a bar on a terminal, takes it away for other lines, and at the end', () => {
    const clock = new ManualClock();
    const logger = new MemoryLogger();
    const screen = terminal(true);
    const openings = new OpeningProgress({ clock, logger, terminal: screen });
    const watch = openings.watch('demo');
    watch.onProgress(STEP);
    expect(screen.shown).toEqual([]);
    clock.advance(1000);
    watch.onProgress(STEP);
    expect(screen.shown.at(-1)).toMatch(/^\r\[#+\.+\] +25 % {2}opening demo, chunks: 3 of 12$/u);
    openings.clear();
    expect(screen.shown.at(-1)).toMatch(/^\r +\r$/u);
    clock.advance(100);
    watch.onProgress(STEP);
    watch.end();
    expect(screen.shown.at(-1)).toMatch(/^\r +\r$/u);
    const count = screen.shown.length;
    openings.clear();
    expect([screen.shown.length, logger.lines]).toEqual([count, []]);
  });
});
