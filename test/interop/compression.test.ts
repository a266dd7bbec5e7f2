import { randomFillSync } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { ControlClient } from '../../src/control/control-client.ts';
import type { VolumeDetails } from '../../src/control/routes.ts';
import { at } from '../support/json-schema.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';
import { RealServer, basalt, basaltOk } from './real-server.ts';

let server: RealServer;
let client: NbdClient | null = null;

beforeEach(async () => {
  server = await RealServer.create();
});
afterEach(async () => {
  client?.socket.destroy();
  client = null;
  await server.dispose();
});

const data = (): readonly string[] => ['--data', server.dataDirectory];
/** Chunks are made soon, of little. */
const EAGER = ['--set', 'engine.flush_interval_ms=50ms'];

async function connect(): Promise<NbdClient> {
  client?.socket.destroy();
  client = await NbdClient.open({ path: server.socketPath }, 'demo');
  return client;
}

async function show(): Promise<unknown> {
  const value: unknown = JSON.parse(await basaltOk('show', 'demo', '--json', ...data()));
  return value;
}

/** What the server says, without a process for each question. */
function served(): Promise<VolumeDetails> {
  return new ControlClient(server.dataDirectory).volume('demo');
}

/** Waits until all that was written is in chunks; what they take then. */
async function stored(): Promise<{ readonly liveBytes: number; readonly liveStoredBytes: number }> {
  for (;;) {
    const { live, space } = await served();
    if (live?.atRisk.unchunked.bytes === 0 && space !== null) return space;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Two MiB of lines as logs have them, of prose, of noise, and of noise and zeroes in turns. */
function lines(): Buffer {
  const all = Array.from({ length: 20_000 }, (_, i) => JSON.stringify({ time: 1_790_000_000_000 + i * 137, level: ['info', 'warn', 'error'][(i * 7919) % 3], event: 'request', volume: `demo-${i % 17}`, elapsedMs: ((i * 2_654_435) % 9973) / 10, offset: ((i * 40_503) % 262_144) * 4096 }));
  return Buffer.alloc(2 * MIB, all.join('\n'));
}

function prose(): Buffer {
  const names = readdirSync(PROJECT_ROOT).filter((name) => name.endsWith('.md'));
  return Buffer.alloc(2 * MIB, Buffer.concat(names.map((name) => readFileSync(join(PROJECT_ROOT, name)))));
}

const noise = (): Buffer => randomFillSync(Buffer.alloc(2 * MIB));

function half(): Buffer {
  const bytes = noise();
  for (let start = 0; start < bytes.length; start += 1024) bytes.fill(0, start, start + 512);
  return bytes;
}

test('mixed data of a volume whose compression changes under a client comes back whole, and takes what it should', async () => {
  const words = await basaltOk('create', 'demo', '64M', '--compression', 'lz4', ...data());
  expect(words).toContain('created demo');
  await server.start(...EAGER);
  let nbd = await connect();
  const parts: Buffer[] = [];
  const add = async (bytes: Buffer): Promise<number> => {
    const before = await stored();
    await nbd.write(parts.length * 2 * MIB, bytes);
    parts.push(bytes);
    return ((await stored()).liveStoredBytes - before.liveStoredBytes) / bytes.length;
  };
  expect(await add(lines())).toBeLessThan(0.45);
  expect(await add(prose())).toBeLessThan(0.75);
  expect(await add(noise())).toBeGreaterThan(0.99);
  expect(await add(half())).toBeLessThan(0.6);
  expect((await served()).compression).toBe('lz4');
  expect(await basaltOk('compression', 'demo', 'none', ...data())).toBe('new chunks of demo are not compressed from now on; older ones follow as they are rewritten\n');
  expect(await add(lines())).toBeGreaterThan(0.99);
  server.process.signal('SIGKILL');
  await server.process.finished;
  expect(await show()).toMatchObject({ compression: 'none', chunkCompress: 'off', live: null });
  // Of a killed server, as nobody serves it: whoever does next goes by its settings.
  expect(JSON.parse(await basaltOk('compression', 'demo', 'default', '--json', ...data()))).toEqual({ name: 'demo', compression: 'default', chunkCompress: 'off', live: false });
  await server.start(...EAGER, '--set', 'engine.chunk_compress=lz4');
  nbd = await connect();
  expect(await served()).toMatchObject({ compression: 'default', chunkCompress: 'lz4' });
  expect(await add(lines())).toBeLessThan(0.45);
  const { liveBytes, liveStoredBytes } = await stored();
  expect(liveBytes).toBe(12 * MIB);
  expect((await served()).space?.compressionRatio).toBeCloseTo(liveBytes / liveStoredBytes, 5);
  await server.stop();
  const closed = await show();
  expect(closed).toMatchObject({ live: null, space: { liveBytes, liveStoredBytes } });
  expect(await basaltOk('show', 'demo', ...data())).toMatch(/^live in chunks +12 MiB in .* of chunks, compressed 1\.\d\d : 1$/m);
  await server.start('--set', 'engine.arena_bytes=32M', '--set', 'engine.dirty_bytes=16M', '--set', 'engine.flush_bytes=4M');
  const again = await connect();
  for (const [index, bytes] of parts.entries()) expect((await again.read(index * 2 * MIB, bytes.length)).equals(bytes), `part ${index}`).toBe(true);
  for (const block of [0, 1, 511, 512, 700, 1023, 2047, 2500, 3071]) expect((await again.read(block * 4096, 4096)).equals(Buffer.concat(parts).subarray(block * 4096, (block + 1) * 4096)), `block ${block}`).toBe(true);
  await server.stop();
  expect((await basalt('check', 'demo', '--deep', ...data())).status).toBe(0);
});

test('what is no compression, and a volume that is not there, end with their exit codes', async () => {
  await server.createVolume('demo', '16M');
  expect(await basalt('compression', 'demo', 'lzma', ...data())).toMatchObject({ status: 2, error: 'basalt: compression "lzma" is none of default, none, lz4; did you mean lz4?\n' });
  expect(await basalt('create', 'other', '16M', '--compression', 'off', ...data())).toMatchObject({ status: 2, error: 'basalt: compression "off" is none of default, none, lz4; did you mean none?\n' });
  expect((await basalt('compression', 'others', 'lz4', ...data())).status).toBe(1);
  await server.start();
  await connect();
  expect(await basalt('compression', 'demo', 'lz5', ...data())).toMatchObject({ status: 2 });
  expect(at(await show(), ['compression'])).toBe('default');
  expect(JSON.parse(await basaltOk('compression', 'demo', 'lz4', '--json', ...data()))).toEqual({ name: 'demo', compression: 'lz4', chunkCompress: 'lz4', live: true });
});
