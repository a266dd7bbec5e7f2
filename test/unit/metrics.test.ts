import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ControlServer } from '../../src/control/control-server.ts';
import { Exposition } from '../../src/control/exposition.ts';
import type { FollowStatus, VolumeStatus } from '../../src/volume/volume-info.ts';
import { NamedVolumes, STATUS, exchangeRaw, someTraffic, startControl } from '../support/control-harness.ts';
import { readExposition } from '../support/exposition-reader.ts';
import { MemoryLogger } from '../support/fake-world.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';

/** Its open volume follows another one, if that is said. */
class SomeVolumes extends NamedVolumes {
  following: FollowStatus | null = null;

  override statusOf(name: string): VolumeStatus | null {
    const status = super.statusOf(name);
    return status === null || this.following === null ? status : { ...status, readOnly: 'it is followed', following: this.following };
  }
}

const FOLLOWING: FollowStatus = { url: 's3://b/v', owner: 'alpha', epoch: 3, checkpoint: 12, chunk: 310, lsn: 4711, writtenMs: 1, ageMs: 12_500, lookAgeMs: 2500, isPinned: false, moves: 4, cachedBytes: 1, trouble: null };

let directory: string;
let volumes: SomeVolumes;
let server: ControlServer;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'basalt-metrics-'));
  volumes = new SomeVolumes();
  server = await startControl({ directory, volumes, logger: new MemoryLogger(), traffic: someTraffic() });
});

afterEach(async () => {
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function scrape(): Promise<{ readonly head: string; readonly text: string }> {
  const answer = await exchangeRaw(join(directory, 'control.sock'), 'GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  const split = answer.indexOf('\r\n\r\n');
  return { head: answer.slice(0, split), text: answer.slice(split + 4) };
}

const valueOf = async (family: string): Promise<number | undefined> => readExposition((await scrape()).text).get(family)?.samples[0]?.value;

describe('/metrics', () => {
  test('is the text format, whole and valid', async () => {
    const { head, text } = await scrape();
    expect(head).toMatch(/^HTTP\/1\.1 200 OK\r\ncontent-type: text\/plain; version=0\.0\.4; charset=utf-8\r\n/u);
    const families = readExposition(text);
    expect(families.size).toBeGreaterThan(40);
    for (const [name, { type, help, samples }] of families) {
      expect(help, name).not.toBe('');
      expect(samples.length, name).toBeGreaterThan(0);
      // Prometheus' conventions: base units, and counters end in _total.
      expect(name.endsWith('_total'), name).toBe(type === 'counter');
      expect(name).not.toMatch(/_(?:ms|milliseconds|kib|mib|kb|mb|percent)(?:_|$)/u);
    }
  });

  test('tells the requests of each volume that had some, and their times', async () => {
    const families = readExposition((await scrape()).text);
    const of = (family: string, labels: Record<string, string>): number | undefined =>
      families.get(family)?.samples.find(({ labels: found }) => Object.entries(labels).every(([key, value]) => found[key] === value))?.value;
    const read = { volume: 'open', operation: 'read' };
    expect(of('basalt_request_bytes_total', read)).toBe(8192);
    expect(of('basalt_request_errors_total', { volume: 'open', operation: 'write' })).toBe(1);
    expect(of('basalt_requests_refused_total', { volume: 'größe & Co' })).toBe(3);
    expect(of('basalt_volume_requests_in_flight', { volume: 'open' })).toBe(1);
    expect(of('basalt_request_duration_seconds', { ...read, le: '0.000064' })).toBe(1);
    expect(of('basalt_request_duration_seconds', { ...read, le: '0.000128' })).toBe(2);
    expect(of('basalt_request_duration_seconds', { ...read, le: '+Inf' })).toBe(2);
    expect(of('basalt_clients_total', { outcome: 'turned_away' })).toBe(1);
    expect(of('basalt_memory_limit_bytes', { use: 'arena' })).toBe(64e6);
    expect(of('basalt_volume_written_bytes_total', { volume: 'open' })).toBe(STATUS.stats.writtenBytes);
    expect(families.has('basalt_bucket_requests_total')).toBe(false); // it has no bucket
  });

  test('tells how old the state is that a followed volume has, and takes it for no trouble', async () => {
    volumes.following = FOLLOWING;
    expect(await valueOf('basalt_volume_followed_age_seconds')).toBe(12.5);
    expect(await valueOf('basalt_volume_followed_look_age_seconds')).toBe(2.5);
    expect(await valueOf('basalt_volume_followed_moves_total')).toBe(4);
    expect(await valueOf('basalt_volume_read_only')).toBe(0);
    volumes.following = { ...FOLLOWING, isPinned: true };
    expect(await valueOf('basalt_volume_followed_look_age_seconds')).toBeUndefined();
    volumes.following = null;
    expect(await valueOf('basalt_volume_followed_age_seconds')).toBeUndefined();
  });
});

const read = (name: string): string => readFileSync(join(PROJECT_ROOT, 'monitoring', name), 'utf8');

describe('what stands in monitoring/', () => {
  test.each(['grafana-dashboard.json', 'alerts.yml'])('%s asks for metrics that there are', async (name) => {
    const own = readExposition((await scrape()).text);
    volumes.following = FOLLOWING;
    const families = new Map([...own, ...readExposition((await scrape()).text)]);
    const asked = [...new Set([...read(name).matchAll(/\b(?:basalt|process)_[a-z_]+[a-z]\b/gu)].map(([word]) => word))];
    expect(asked.length).toBeGreaterThan(8);
    const source = readFileSync(join(PROJECT_ROOT, 'src/control/metrics.ts'), 'utf8');
    // The double has no volume with a bucket.
    const isThere = (metric: string): boolean => families.has(metric.replace(/_(?:bucket|sum|count)$/u, '')) || (metric.startsWith('basalt_bucket_') && source.includes(`'${metric}'`));
    expect(asked.filter((metric) => !isThere(metric))).toEqual([]);
  });

  test('is a dashboard of panels that each ask something', () => {
    const dashboard: unknown = JSON.parse(read('grafana-dashboard.json'));
    expect(dashboard).toMatchObject({ title: 'basalt', panels: [{ title: 'Requests a second', targets: [{ refId: 'A' }] }, {}, {}, { title: 'Latency, median' }, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}] });
  });
});

describe('a label', () => {
  test('may hold what the format gives a meaning to', () => {
    const text = new Exposition();
    text.family('a_total', 'counter', 'one \\ two\nthree').sample(1, { volume: 'a"b\\c\nd' });
    expect(text.toString()).toBe('# HELP a_total one \\\\ two\\nthree\n# TYPE a_total counter\na_total{volume="a\\"b\\\\c\\nd"} 1\n');
    expect(readExposition(text.toString()).get('a_total')).toEqual({ type: 'counter', help: 'one \\ two\nthree', samples: [{ suffix: '', labels: { volume: 'a"b\\c\nd' }, value: 1 }] });
  });
});
