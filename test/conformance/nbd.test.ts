/** The behaviours of `nbd/`, as `make conformance` checks them, against basalt in each of its ways. Over TLS and --stdio a part of them: the rest is the same code, and slow. */
import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { loadBehaviours } from './nbd/suite/load.ts';
import { tableOf } from './nbd/suite/report.ts';
import { type Result, runSuite } from './nbd/suite/runner.ts';
import { type BasaltWay, startBasalt } from './nbd/suite/servers.ts';

const behaviours = await loadBehaviours();

async function failures(way: BasaltWay, selected: (name: string) => boolean = () => true): Promise<{ results: Result[]; failed: string }> {
  const server = await startBasalt(way);
  try {
    const results = await runSuite(server.target, { behaviours, selected, timeoutMs: 60_000 });
    const failed = results.filter(({ verdict }) => verdict === 'FAILED');
    return { results, failed: failed.length === 0 ? '' : tableOf(way, failed) };
  } finally {
    await server.stop();
  }
}

describe.concurrent('basalt does what the protocol says', () => {
  test.each(['tcp', 'unix'] as const)('over %s', async (way) => {
    const { results, failed } = await failures(way);
    expect(failed).toBe('');
    expect(results.filter(({ verdict }) => verdict === 'ok').length).toBeGreaterThan(160);
  });

  test('over TLS', async () => {
    const { results, failed } = await failures('tls', (name) => /^(?:handshake|options|tls)\/|\[extended\]/.test(name));
    expect(failed).toBe('');
    expect(results.filter(({ behaviour, verdict }) => behaviour.id.startsWith('tls/') && verdict === 'ok').length).toBe(10);
  });

  test('where TLS is for those who ask for it', async () => {
    const { results, failed } = await failures('selective', (name) => name.startsWith('tls/'));
    expect(failed).toBe('');
    const verdicts = new Map(results.map(({ name, verdict }) => [name, verdict]));
    expect(['tls/nothing-carried-over', 'tls/export-of-tls-only'].map((name) => verdicts.get(name))).toEqual(['ok', 'ok']);
  });

  test('on standard input', async () => {
    const { results, failed } = await failures('stdio', (name) => /^(?:handshake\/greeting|options\/abort|transmission\/(?:disconnect-behind-writes|half-a-write|round-trip) \[extended\])$/.test(name));
    expect(failed).toBe('');
    expect(results.map(({ verdict }) => verdict)).toEqual(['ok', 'ok', 'ok', 'ok', 'ok']);
  });
});

test('each kind of bad input has its behaviour', async () => {
  const readme = await readFile(new URL('README.md', import.meta.url), 'utf8');
  const rows = readme.split('\n').filter((line) => /^\| .*`[a-z]+\//.test(line));
  expect(rows).toHaveLength(40);
  const named = rows.flatMap((row) => [...row.matchAll(/`([a-z]+\/[a-z0-9-]+)`/g)].map(([, id]) => id));
  expect(named.filter((id) => behaviours.every((behaviour) => behaviour.id !== id))).toEqual([]);
});

test('each behaviour says where the protocol has it, and no two say the same', () => {
  for (const { id, section, checklist, title } of behaviours) {
    expect(section, id).not.toBe('');
    expect(checklist, id).toMatch(/^1\.[1-7]$/);
    expect(title, id).not.toMatch(/\.$/);
  }
  expect(new Set(behaviours.map(({ title }) => title)).size).toBe(behaviours.length);
});
