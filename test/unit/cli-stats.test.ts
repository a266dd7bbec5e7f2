import { beforeEach, describe, expect, test } from 'vitest';
import { OPERATION, RequestStats } from '../../src/base/request-stats.ts';
import type { StatsAnswer } from '../../src/control/stats.ts';
import { NO_LIMITS } from '../../src/base/volume-limits.ts';
import { FakeCli, NOT_ASKED } from '../support/cli-double.ts';
import { MEMORY, STATUS } from '../support/control-harness.ts';

let cli: FakeCli;
let requests: RequestStats;
let atMs = 0;

function stats(): StatsAnswer {
  atMs += 2000;
  const volumes = [{ name: 'demo', requests: requests.snapshot(), limits: NO_LIMITS, live: STATUS }, { name: 'rest', requests: null, limits: null, live: null }];
  return { atMs, connections: 1, memory: MEMORY, process: { residentBytes: 3 * 2 ** 26, userCpuMs: 1, systemCpuMs: 1 }, volumes };
}

function read(latencyMs: number, times: number): void {
  requests.latencies[OPERATION.READ].record(latencyMs, times);
  requests.bytes[OPERATION.READ] += 4096 * times;
}

beforeEach(() => {
  cli = new FakeCli();
  atMs = 0;
  requests = new RequestStats();
  read(0.1, 100);
  cli.server = { ...NOT_ASKED, stats: () => Promise.resolve(stats()), volumeStats: () => Promise.resolve(stats().volumes[0]) };
});

describe('stats', () => {
  test('shows what was asked of volumes, and what stands behind it', async () => {
    expect(await cli.run('stats')).toBe(0);
    expect(cli.out).toMatch(/^VOLUME {2}REQUESTS +COUNT +A SECOND +BYTES .* P99\.9\ndemo {4}read +100 +- +400 KiB +- +0 +10\d us +10\d us +10\d us\n/u);
    expect(cli.out).toMatch(/^demo +open +0 +0 +/mu);
    expect(cli.out).toMatch(/1 connection; blocks: .* resident: 192 MiB\n$/u);
  });

  test('--watch shows what came since the report before, with rates', async () => {
    let looks = 0;
    cli.server = {
      ...NOT_ASKED,
      stats: () => {
        looks += 1;
        if (looks > 1) read(4, 50);
        return Promise.resolve(stats());
      },
    };
    expect(await cli.run('stats', '--watch', '--count', '2', '--interval', '0.5')).toBe(0);
    expect(cli.sleeps).toEqual([500]);
    const second = cli.out.slice(cli.out.lastIndexOf('VOLUME  REQUESTS'));
    expect(second).toMatch(/demo {4}read +50 +25 +200 KiB +100 KiB +0 +4\.\d\d ms +4\.\d\d ms/u);
  });

  test('--json has everything, one line each with --watch, and one volume if one is named', async () => {
    expect(await cli.run('stats', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toMatchObject({ connections: 1, volumes: [{ name: 'demo', requests: { operations: { read: { count: 100, bytes: 409_600 } } } }, { name: 'rest', requests: null, limits: null, live: null }] });
    expect(await cli.run('stats', 'demo', '--json', '--watch', '--count', '3')).toBe(0);
    const lines = cli.out.trimEnd().split('\n');
    expect(lines.map((line): unknown => JSON.parse(line))).toHaveLength(3);
    expect(JSON.parse(lines[0])).toMatchObject({ name: 'demo' });
  });

  test('a volume that was asked for nothing has nothing to show', async () => {
    requests = new RequestStats();
    cli.server = { ...NOT_ASKED, stats: () => Promise.resolve({ ...stats(), volumes: [] }) };
    expect(await cli.run('stats')).toBe(0);
    expect(cli.out).toMatch(/^no requests\n/u);
  });

  test.each([
    [['stats', '--count', '2'], 2, /--count goes with --watch/],
    [['stats', '--watch', '--count', '0'], 2, /count 0: give one whole number/],
    [['stats', '--watch', '--interval', '0'], 2, /interval 0: give one number of seconds/],
    [['stats', '--watch', '--interval', 'soon'], 2, /interval NaN: give one number of seconds/],
    [['stats', 'a', 'b'], 2, /unexpected argument "b"; usage: basalt stats \[NAME\]/],
    [['stats', '--wach'], 2, /did you mean --watch\?/],
  ] as const)('%j is refused', async (words, exitCode, message) => {
    expect(await cli.run(...words)).toBe(exitCode);
    expect(cli.error).toMatch(message);
  });

  test('without a server says so', async () => {
    cli.server = null;
    expect(await cli.run('stats', '--json')).toBe(1);
    expect(JSON.parse(cli.error)).toMatchObject({ error: { code: 'not-found' } });
    expect(cli.error).toMatch(/no server runs in \.\/volumes.*basalt serve/u);
  });
});
