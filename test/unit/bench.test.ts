import { describe, expect, test } from 'vitest';
import { median, type Measurement } from '../../bench/compare.ts';
import { decodeReport } from '../../bench/fio.ts';
import { GUARANTEE_MARKS, guaranteeOf, JOBS, type Job, type ServerName } from '../../bench/jobs.ts';
import { parseOptions } from '../../bench/options.ts';
import { numberOf, peakResidentBytes, processorSeconds } from '../../bench/process-io.ts';
import { summarizeProfile } from '../../bench/profile.ts';
import { floorMark, ratio, renderReport, renderTable } from '../../bench/report.ts';

function jobNamed(name: string): Job {
  const job = JOBS.find((candidate) => candidate.name === name);
  if (job === undefined) throw new Error(`no job ${name}`);
  return job;
}

function measurement(job: Job, server: ServerName, iops: number, rounds: readonly number[] = [iops]): Measurement {
  const runs = rounds.map((found) => ({ iops: found, bytes: 1, requests: 1, latencyUs: 1, latencyUs99: 2, seconds: 1 }));
  return { job, server, guarantee: guaranteeOf(job, server, 'batched'), runs, iops, latencyUs: 1, latencyUs99: 2, processorUs: 3 };
}

function frame(functionName: string, url: string) {
  return { functionName, url, lineNumber: 4 };
}

describe('what an answer guarantees', () => {
  test('a synced figure is marked otherwise than an unsynced one', () => {
    const write = jobNamed('randwrite-4k-q32');
    expect(guaranteeOf(write, 'basalt', 'batched')).toBe('unsynced');
    expect(guaranteeOf(write, 'basalt', 'strict')).toBe('synced');
    expect(guaranteeOf(write, 'basalt', 'async')).toBe('volatile');
    expect(guaranteeOf(write, 'file', 'strict')).toBe('unsynced');
    expect(new Set(Object.values(GUARANTEE_MARKS)).size).toBe(4);
  });

  test('a flush after each write syncs everywhere but in memory', () => {
    const synced = jobNamed('fsync-4k-q1');
    expect(synced.flushEachWrite).toBe(true);
    expect(guaranteeOf(synced, 'basalt', 'relaxed')).toBe('synced');
    expect(guaranteeOf(synced, 'basalt', 'async')).toBe('volatile');
    expect(guaranteeOf(synced, 'memory', 'strict')).toBe('volatile');
    expect(guaranteeOf(synced, 'qemu', 'batched')).toBe('synced');
  });
});

describe('the report', () => {
  test('a floor is met at its ratio and missed below it', () => {
    const job = jobNamed('fsync-4k-q32');
    const peer = measurement(job, 'file', 1000);
    expect(floorMark([measurement(job, 'basalt', 1200), peer], job)).toBe('ok 1.20, 1.20 to 1.20 (>= 1.2 x nbdkit file)');
    expect(floorMark([measurement(job, 'basalt', 1190), peer], job)).toMatch(/^BELOW 1\.19/);
    expect(floorMark([measurement(job, 'basalt', 1200)], job)).toBe('');
    expect(ratio([measurement(job, 'basalt', 1200)], job, 'file')).toBeNull();
  });

  test('a ratio is of rounds measured side by side, not of figures from a quiet and a busy minute', () => {
    const job = jobNamed('fsync-4k-q32');
    const [mine, theirs] = [measurement(job, 'basalt', 500, [500, 1300, 240]), measurement(job, 'file', 1000, [400, 1000, 200])];
    expect(ratio([mine, theirs], job, 'file')).toBe(1.25);
    expect(floorMark([mine, theirs], job)).toBe('ok 1.25, 1.20 to 1.30 (>= 1.2 x nbdkit file)');
  });

  test('the table names the mode and marks each figure with its guarantee', () => {
    const job = jobNamed('randwrite-4k-q32');
    const comparison = [measurement(job, 'basalt', 500), measurement(job, 'memory', 1000)];
    const text = renderReport({ mode: 'batched', comparison, tls: [], compression: null, bytes: [], memory: null });
    expect(text).toContain('basalt (batched)');
    expect(text).toMatch(/randwrite-4k-q32\s+500 u\s+1000 v\s+0\.50/);
  });

  test('bytes and memory are reported with their ratio and their limit', () => {
    const bytes = [{ name: 'bulk', userBytes: 1024, diskBytesAtEnd: 1024, diskBytesSettled: 1536 }];
    const text = renderReport({ mode: 'strict', comparison: [], tls: [], compression: null, bytes, memory: { userBytes: 1024 ** 3, peakBytes: 500 * 1024 ** 2, limitBytes: 400 * 1024 ** 2 } });
    expect(text).toMatch(/bulk\s+1 KiB\s+1 KiB\s+1\.5 KiB\s+1\.50/);
    expect(text).toContain('500 MiB, ABOVE (< 400 MiB)');
  });

  test('compression is reported with what text takes and what it costs, by the median round, and their limits', () => {
    const space = [['lines', 0.27], ['prose', 0.46]].map(([name, part]) => ({ name: String(name), userBytes: 1024, part: Number(part) }));
    const costs = [[0.9, 0.7, 0.59], [0.5, 0.59, 1]].map((ratios, index) => ({ name: `job ${index}`, plainIops: 1000, packedIops: 700, ratios, processorRatio: 1.25, least: 0.6 }));
    const text = renderReport({ mode: 'strict', comparison: [], tls: [], compression: { space, costs }, bytes: [], memory: null });
    expect(text).toMatch(/^lines +1 KiB +0\.270 +ok \(<= 0\.45\)$/mu);
    expect(text).toMatch(/^prose +1 KiB +0\.460 +ABOVE \(<= 0\.45\)$/mu);
    expect(text).toMatch(/^compressed chunks \(strict\)/mu);
    expect(text).toMatch(/^job 0 +1000 +700 +0\.70 +1\.25 +ok 0\.59 to 0\.90 \(>= 0\.6\)$/mu);
    expect(text).toMatch(/^job 1 +1000 +700 +0\.59 +1\.25 +BELOW 0\.50 to 1\.00 \(>= 0\.6\)$/mu);
  });

  test('columns are as wide as their widest cell', () => {
    expect(renderTable([['a', '1'], ['bcd', '234']])).toBe('a      1\nbcd  234');
  });

  test('the median of an even number of rounds lies between the two in the middle', () => {
    expect(median([9, 1, 5])).toBe(5);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(median([])).toBeNaN();
  });
});

describe('the options', () => {
  test('a prefix chooses jobs and scenarios', () => {
    expect(parseOptions(['--only', 'fsync,rss'])).toMatchObject({ jobs: [{ name: 'fsync-4k-q1' }, { name: 'fsync-4k-q32' }], scenarios: ['rss'] });
    expect(parseOptions([])).toMatchObject({ rounds: 5, seconds: 2, mode: 'batched', peers: ['memory', 'file', 'qemu'], scenarios: ['tls', 'compression', 'bytes', 'rss'] });
    expect(parseOptions(['--quick', '--seconds', '0.5', '--peers', 'none'])).toMatchObject({ rounds: 1, seconds: 0.5, peers: [] });
    expect(parseOptions(['--help'])).toBeNull();
  });

  test.each([['--only', 'nothing'], ['--mode', 'fast'], ['--peers', 'disk'], ['--rounds', '0'], ['--seconds', 'x'], ['--region', '1Q'], ['--speed', '1']])(
    '%s %s is refused',
    (...args) => {
      expect(() => parseOptions(args)).toThrow(args[1] === '1' ? /speed/ : (args[1] ?? ''));
    },
  );
});

describe('what other programs print', () => {
  const side = { iops: 1.5, io_bytes: 8192, total_ios: 2, runtime: 500, clat_ns: { mean: 3000, percentile: { '99.000000': 9000 } } };

  test('the figures of a fio report are taken in their units', () => {
    expect(decodeReport({ jobs: [{ error: 0, write: side }] }, 'write')).toEqual({ iops: 1.5, bytes: 8192, requests: 2, seconds: 0.5, latencyUs: 3, latencyUs99: 9 });
  });

  test('a report of a failed job, or without a figure, is refused', () => {
    expect(() => decodeReport({ jobs: [{ error: 5, write: side }] }, 'write')).toThrow('error 5');
    expect(() => decodeReport({ jobs: [{ error: 0, write: { ...side, iops: '1' } }] }, 'write')).toThrow('iops');
    expect(() => decodeReport({}, 'read')).toThrow('jobs');
  });

  test('a figure of /proc is found by its whole name', () => {
    expect(numberOf('write_bytes: 5\ncancelled_write_bytes: 7\n', 'write_bytes')).toBe(5);
    expect(numberOf('VmPeak:\t 9 kB\nVmHWM:\t   12 kB\n', 'VmHWM')).toBe(12);
    expect(() => numberOf('a: 1', 'b')).toThrow('"b"');
  });

  test.runIf(process.platform === 'linux')('memory and processor time of this process are read', async () => {
    expect(await peakResidentBytes(process.pid)).toBeGreaterThan(10 * 1024 ** 2);
    expect(await processorSeconds(process.pid)).toBeGreaterThan(0);
  });

  test('idle time is no part of a profile', () => {
    const profile = {
      nodes: [
        { id: 1, callFrame: frame('(idle)', '') },
        { id: 2, callFrame: frame('crc', 'file:///x/dist/base/crc.js') },
        { id: 3, callFrame: frame('', 'node:net') },
      ],
      samples: [1, 2, 3, 2],
      timeDeltas: [9000, 2000, 1000, 1000],
    };
    expect(summarizeProfile(profile)).toEqual([
      { place: 'crc base/crc.js:5', selfMs: 3, share: 0.75 },
      { place: '(anonymous) node:net:5', selfMs: 1, share: 0.25 },
    ]);
    expect(() => summarizeProfile({})).toThrow('nodes');
  });
});
