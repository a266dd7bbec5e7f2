/** The verbs over volumes answer the same, whether a server runs in the directory or not. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { basalt, RealServer, type Finished } from './real-server.ts';

let server: RealServer;

beforeEach(async () => {
  server = await RealServer.create();
});
afterEach(async () => {
  await server.dispose();
});

/** Volumes are made without a measurement of the disk, which comes out as it does. */
const UNMEASURED = ['--set', 'engine.log_io=buffered'];

const SCRIPT: readonly (readonly string[])[] = [
  ['create', 'one', '16M', '--durability', 'strict', ...UNMEASURED],
  ['create', 'one', '16M'],
  ['create', 'two', '32M', '--block-size', '8192', '--iops', '500', '--set', 'engine.log_file_count=9', '--set', 'engine.erase_block_bytes=0', ...UNMEASURED],
  ['create', 'three', '5000'],
  ['create', 'three', '1M', '--bandwidth', '1K'],
  ['create', 'three/', '1M'],
  ['list'],
  ['show', 'one'],
  ['show', 'none'],
  ['label', 'one', 'owner=alice', 'tier=scratch'],
  ['label', 'one', 'tier-'],
  ['label', 'one'],
  ['label', 'none', 'a=b'],
  ['limit', 'one', '--bandwidth', '20M'],
  ['limit', 'two'],
  ['limit', 'one', '--iops-burst', '5'],
  ['limit', 'none', '--iops', '5'],
  ['durability', 'one', 'relaxed'],
  ['durability', 'none', 'relaxed'],
  ['rename', 'one', 'uno'],
  ['rename', 'one', 'uno'],
  ['rename', 'uno', 'two'],
  ['resize', 'uno', '48M'],
  ['resize', 'uno', '8M'],
  ['resize', 'uno', '8M', '--yes'],
  ['resize', 'uno', '12345'],
  ['resize', 'none', '8M'],
  ['show', 'uno'],
  ['scrub', 'uno'],
  ['drain', 'uno'],
  ['list'],
  ['delete', 'uno', '--yes'],
  ['delete', 'uno', '--yes'],
  ['list'],
];

/** Members that differ from one run to the next, or say which way was taken. */
const OWN = new Set(['id', 'createdMs', 'storedBytes', 'elapsedMs', 'epoch', 'live', 'open', 'damageLookedFor', 'checkpointNumber', 'checkpointChunk', 'checkpointLsn', 'pages', 'bytes', 'directory', 'disk', 'space']);

function withoutOwn(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutOwn);
  if (typeof value !== 'object' || value === null) return typeof value === 'string' ? value.replaceAll(server.dataDirectory, 'DATA') : value;
  return Object.fromEntries(Object.entries(value).flatMap(([key, member]) => (OWN.has(key) ? [] : [[key, withoutOwn(member)]])));
}

const parsed = (text: string): unknown => (text.trim() === '' ? null : withoutOwn(JSON.parse(text)));

interface Comparable {
  readonly verb: string;
  readonly status: Finished['status'];
  readonly out: unknown;
  readonly error: unknown;
}

async function runScript(): Promise<Comparable[]> {
  const answers: Comparable[] = [];
  for (const words of SCRIPT) {
    const { status, out, error } = await basalt(...words, '--json', '--data', server.dataDirectory);
    answers.push({ verb: words.join(' '), status, out: parsed(out), error: parsed(error) });
  }
  return answers;
}

describe('each verb', () => {
  test('answers the same with a server and without one', async () => {
    const without = await runScript();
    await basalt('delete', 'two', '--yes', '--data', server.dataDirectory);
    await server.start();
    expect(await runScript()).toEqual(without);
    expect(without.map(({ status }) => status)).toEqual([0, 1, 0, 2, 2, 2, 0, 0, 1, 0, 0, 0, 1, 0, 0, 2, 1, 0, 1, 0, 1, 1, 0, 2, 0, 2, 1, 0, 0, 1, 0, 0, 1, 0]);
  }, 300_000);
});
