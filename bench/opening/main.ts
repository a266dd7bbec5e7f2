/**
 * `make bench-open`: how long opening takes and how much memory, for a volume of 25 million stored blocks, and for one that was killed with
 * 100,000 records in its log. The process's start is not counted; the files are in the page cache, as they are when they were made just now.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { MIB } from '../../src/base/units.ts';
import { workerEntry } from '../../src/chunk/worker-entry.ts';
import { createNodeEnv } from '../../src/env/node-env.ts';
import { createVolume } from '../../src/index.ts';
import { numberAt } from '../json.ts';
import { peakResidentBytes } from '../process-io.ts';
import { EXPORT_NAME, RunningServer } from '../servers.ts';
import type { OpenResult } from './child.ts';
import { BLOCK_BYTES, type MappedShape, chunksFor, makeMappedVolume } from './mapped-volume.ts';

const USAGE = `usage: make bench-open ARGS="..."

  --blocks N     stored blocks of 4 KiB (25000000); 0: skip
  --extents N    extents of a volume of 1 TiB, whose map is told after an opening (1048576); 0: skip; needs nbdinfo
  --records N    records in the log of the killed volume (100000); 0: skip
  --rounds N     each volume is opened so often, the slowest counts (3)
  --dir PATH     directory to make the volumes in, about 1.3 GB; they are removed (the system's one for temporary files)
  --node=WORDS   options of the processes, such as --node=--cpu-prof

Exits with 1 when a figure misses its limit: 2 s and 256 MiB for the blocks, 3 s for the extents, 1 s for the records.
`;

const { values } = parseArgs({
  options: {
    blocks: { type: 'string', default: '25000000' },
    extents: { type: 'string', default: '1048576' },
    records: { type: 'string', default: '100000' },
    rounds: { type: 'string', default: '3' },
    dir: { type: 'string' },
    node: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
});

const LIMITS = { blocksMs: 2000, blocksBytes: 256 * MIB, recordsMs: 1000, mapMs: 3000 };
/** Two MiB, half of a leaf. */
const RAGGED_SPREAD = 512;
const FLUSHED_EVERY = 1000;
/** A record of one block takes 4096 bytes and a header; ring files half as large again. */
const LOG_FILES = 8;

function child(words: readonly string[]): { program: string; args: string[] } {
  const options = values.node.split(' ').filter((word) => word !== '');
  return { program: process.execPath, args: [...options, join(dirname(fileURLToPath(import.meta.url)), 'child.js'), ...words] };
}

async function openOnce(path: string, records: number): Promise<OpenResult> {
  const { program, args } = child(['open', path, String(records)]);
  const { stdout } = await promisify(execFile)(program, args, { env: { ...process.env, UV_THREADPOOL_SIZE: '16' } });
  const result: unknown = JSON.parse(stdout);
  const figure = (name: keyof OpenResult): number => numberAt(result, [name]);
  return {
    openMs: figure('openMs'),
    replayedRecords: figure('replayedRecords'),
    liveBlocks: figure('liveBlocks'),
    idleBytes: figure('idleBytes'),
    openBytes: figure('openBytes'),
    peakBytes: figure('peakBytes'),
    readMs: figure('readMs'),
  };
}

const mib = (bytes: number): string => `${(bytes / MIB).toFixed(0)} MiB`;

function say({ openMs, idleBytes, openBytes, peakBytes }: OpenResult, rest: string): void {
  process.stdout.write(`  ${openMs.toFixed(0).padStart(5)} ms; resident ${mib(idleBytes)} before, ${mib(openBytes)} after, ${mib(peakBytes)} at most; ${rest}\n`);
}

async function makeMapped(path: string, shape: MappedShape): Promise<void> {
  const env = createNodeEnv({ logger: { log: () => undefined }, workerEntry: workerEntry(), workerThreads: 1 });
  await makeMappedVolume(env, path, shape);
  await env.workers.close();
}

/** The names of the limits that were missed. */
async function benchBlocks(directory: string, blocks: number): Promise<string[]> {
  const path = join(directory, 'mapped');
  const chunks = chunksFor(blocks);
  await makeMapped(path, { chunks, spread: 1 });
  const results: OpenResult[] = [];
  process.stdout.write(`${chunks * 1024} stored blocks in ${chunks} chunks, no two neighbours in one:\n`);
  for (let round = 0; round < Number(values.rounds); round += 1) {
    const result = await openOnce(path, 0);
    if (result.liveBlocks !== chunks * 1024) throw new Error(`${result.liveBlocks} blocks are stored, expected ${chunks * 1024}`);
    say(result, `then 1000 reads of 4 KiB, each from another leaf and chunk, in ${result.readMs.toFixed(0)} ms`);
    results.push(result);
  }
  await rm(path, { recursive: true });
  const slowest = Math.max(...results.map(({ openMs }) => openMs));
  const largest = Math.max(...results.map(({ peakBytes }) => peakBytes));
  return [
    ...(slowest > LIMITS.blocksMs ? [`opening took more than ${LIMITS.blocksMs} ms`] : []),
    ...(largest > LIMITS.blocksBytes ? [`opening took more than ${mib(LIMITS.blocksBytes)}`] : []),
  ];
}

/** A block stored, 2 MiB less one block that nobody wrote, and so on: two extents for each of them, two blocks in each leaf. */
async function benchMap(directory: string, extents: number): Promise<string[]> {
  const path = join(directory, 'data', EXPORT_NAME);
  const chunks = chunksFor(extents / 2);
  await mkdir(dirname(path));
  await makeMapped(path, { chunks, spread: RAGGED_SPREAD });
  const stored = chunks * 1024;
  const expected = stored * 2;
  process.stdout.write(`nbdinfo --map of ${expected} extents in ${chunks * RAGGED_SPREAD} leaves, a server that has just opened the volume:\n`);
  const tooSlow: string[] = [];
  for (let round = 0; round < Number(values.rounds); round += 1) {
    const { ms, lines, residentBytes } = await mapOnce(directory, stored * RAGGED_SPREAD * BLOCK_BYTES);
    if (lines !== expected) throw new Error(`nbdinfo told ${lines} extents, expected ${expected}`);
    process.stdout.write(`  ${ms.toFixed(0).padStart(5)} ms, all of nbdinfo's time in it; server resident ${mib(residentBytes)} at most\n`);
    if (ms > LIMITS.mapMs) tooSlow.push(`a map took more than ${LIMITS.mapMs} ms`);
  }
  await rm(dirname(path), { recursive: true });
  return tooSlow;
}

async function mapOnce(directory: string, sizeBytes: number): Promise<{ readonly ms: number; readonly lines: number; readonly residentBytes: number }> {
  const server = await RunningServer.start({ name: 'basalt', directory, sizeBytes, mode: 'batched', basaltEntry: resolve('dist/cli/basalt.cjs'), isNew: false });
  try {
    const startMs = performance.now();
    const { stdout } = await promisify(execFile)('nbdinfo', ['--map', server.uri], { maxBuffer: 256 * MIB });
    return { ms: performance.now() - startMs, lines: stdout.split('\n').length - 1, residentBytes: await peakResidentBytes(server.pid) };
  } finally {
    await server.stop();
  }
}

/** What no later record calls durable is written again and synced by recovery: without flushes that is most of it. */
async function benchRecords(directory: string, records: number, flushed: number): Promise<string[]> {
  const path = join(directory, 'killed');
  const results: OpenResult[] = [];
  process.stdout.write(`kill -9 with ${records} records of 4 KiB in the log, ${flushed === 0 ? 'never flushed' : `flushed every ${flushed}`}:\n`);
  for (let round = 0; round < Number(values.rounds); round += 1) {
    const logFileBytes = Math.ceil((records * (BLOCK_BYTES + 64) * 1.7) / LOG_FILES / MIB) * MIB;
    await createVolume(path, { size: '8G', blockSizeBytes: BLOCK_BYTES, settings: { logFileBytes, logFileCount: LOG_FILES } });
    await fillAndDie(path, records, flushed);
    const result = await openOnce(path, records);
    if (result.replayedRecords !== records) throw new Error(`${result.replayedRecords} records were replayed, expected ${records}`);
    say(result, 'all read back');
    results.push(result);
    await rm(path, { recursive: true });
  }
  return Math.max(...results.map(({ openMs }) => openMs)) > LIMITS.recordsMs ? [`recovery took more than ${LIMITS.recordsMs} ms`] : [];
}

async function fillAndDie(path: string, records: number, flushed: number): Promise<void> {
  const { program, args } = child(['fill', path, String(records), String(flushed)]);
  const filler = spawn(program, args, { stdio: 'inherit' });
  const how = await new Promise((settle) => filler.once('exit', (code, signal) => settle(signal ?? code)));
  if (how !== 'SIGKILL') throw new Error(`the writing process ended with ${String(how)}, not by the kill`);
}

async function main(): Promise<void> {
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  if (values.dir !== undefined) await mkdir(values.dir, { recursive: true });
  const directory = await mkdtemp(join(values.dir ?? tmpdir(), 'basalt-open-'));
  try {
    const [blocks, records] = [Number(values.blocks), Number(values.records)];
    const missed = blocks > 0 ? await benchBlocks(directory, blocks) : [];
    if (Number(values.extents) > 0) missed.push(...(await benchMap(directory, Number(values.extents))));
    for (const flushed of records > 0 ? [FLUSHED_EVERY, 0] : []) missed.push(...(await benchRecords(directory, records, flushed)));
    for (const line of missed) process.stdout.write(`MISSED: ${line}\n`);
    if (missed.length > 0) process.exitCode = 1;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

await main();
