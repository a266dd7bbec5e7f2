import { beforeEach, describe, expect, test } from 'vitest';
import { OPERATION, RequestStats } from '../../src/base/request-stats.ts';
import { drawScreen } from '../../src/cli/top-screen.ts';
import type { StatsAnswer } from '../../src/control/stats.ts';
import { NO_LIMITS } from '../../src/base/volume-limits.ts';
import { FakeCli, NOT_ASKED } from '../support/cli-double.ts';
import { MEMORY, STATUS } from '../support/control-harness.ts';

function answer(atMs: number, requests: RequestStats, changes: Partial<StatsAnswer> = {}): StatsAnswer {
  const volumes = [{ name: 'demo', requests: requests.snapshot(), limits: NO_LIMITS, live: STATUS }, { name: 'a-volume-with-a-very-long-name', requests: null, limits: null, live: null }];
  return { atMs, connections: 3, memory: MEMORY, process: { residentBytes: 2 ** 27, userCpuMs: atMs / 4, systemCpuMs: 0 }, volumes, ...changes };
}

let before: StatsAnswer;
let now: StatsAnswer;
beforeEach(() => {
  const requests = new RequestStats();
  before = answer(1000, requests);
  requests.latencies[OPERATION.READ].record(0.09, 30_000);
  requests.bytes[OPERATION.READ] += 30_000 * 4096;
  requests.latencies[OPERATION.WRITE].record(12, 10);
  requests.bytes[OPERATION.WRITE] += 40_960;
  now = answer(3000, requests);
});

describe('top', () => {
  test.each([40, 80, 120, 200])('fits a terminal of %d columns', (columns) => {
    for (const line of drawScreen(now, before, { columns, rows: 24 })) expect(line.length).toBeLessThanOrEqual(columns);
  });

  test('shows what matters on 80 columns, and everything on 200', () => {
    const [narrow, wide] = [80, 200].map((columns) => drawScreen(now, before, { columns, rows: 24 }));
    expect(narrow[0]).toBe('basalt: 2 volumes, 3 connections, processor 25 %, resident 128 MiB');
    expect(narrow[1]).toMatch(/^blocks \[###==\.+\] 7\.6 MiB dirty, 3\.8 MiB cached$/u);
    expect(narrow[3]).toMatch(/^VOLUME +READ\/S +BYTES\/S +P99 +WRITE\/S +BYTES\/S +P99/u);
    expect(narrow[4]).toMatch(/^demo +15\.0k +58\.6 MiB +9\d us +5 +20 KiB +12\.\d ms/u);
    expect(narrow[5]).toMatch(/^a-volume-with-a-very-lo~/u);
    expect(wide[3]).toMatch(/FLUSH\/S.*ERRORS.*CLIENTS.*WAIT.*HITS.*LOG.*NOT SYNCED.*WEAR$/u);
  });

  test('cuts what is below the last row, and says why a volume takes no writes', () => {
    expect(drawScreen(now, before, { columns: 80, rows: 4 })).toHaveLength(4);
    const failed = { ...now, volumes: [{ name: 'demo', requests: null, limits: null, live: { ...STATUS, failure: 'the disk is gone' } }] };
    expect(drawScreen(failed, before, { columns: 80, rows: 24 }).at(-1)).toBe('demo: the disk is gone');
  });

  test('draws over the last picture on a terminal, and below it without one', async () => {
    const cli = new FakeCli();
    const answers = [before, now, { ...now, atMs: 5000 }];
    cli.server = { ...NOT_ASKED, stats: () => Promise.resolve(answers.shift() ?? now) };
    cli.size = { columns: 80, rows: 24 };
    expect(await cli.run('top', '--count', '2', '--interval', '2')).toBe(0);
    expect(cli.sleeps).toEqual([2000, 2000]);
    expect(cli.out.startsWith('\u001b[2J\u001b[Hbasalt: 2 volumes')).toBe(true);
    expect(cli.out.split('\u001b[H')).toHaveLength(3);
    answers.push(before, now);
    cli.size = null;
    expect(await cli.run('top', '--count', '1')).toBe(0);
    expect(cli.out).not.toContain('\u001b');
    expect(cli.out).toMatch(/^basalt: .*\n.*\n\nVOLUME/u);
  });

  test.each([
    [['top', '--json'], 2, /basalt stats --json --watch/],
    [['top', 'demo'], 2, /unexpected argument "demo"; usage: basalt top/],
    [['top'], 1, /no server runs in/],
  ] as const)('%j is refused', async (words, exitCode, message) => {
    const cli = new FakeCli();
    expect(await cli.run(...words)).toBe(exitCode);
    expect(cli.error).toMatch(message);
  });
});
