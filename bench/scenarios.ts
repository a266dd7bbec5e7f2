/** The measurements of basalt alone: bytes that reach the disk for each byte of user data, and peak memory. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { GIB, MIB } from '../src/base/units.ts';
import { serverOptions, type CompareContext } from './compare.ts';
import { runFio, type Amount } from './fio.ts';
import type { Job } from './jobs.ts';
import { diskBytesWritten, peakResidentBytes } from './process-io.ts';
import { RunningServer } from './servers.ts';

export interface BytesResult {
  readonly name: string;
  readonly userBytes: number;
  /** When the last write was answered, and when the server had nothing left to write. */
  readonly diskBytesAtEnd: number;
  readonly diskBytesSettled: number;
}

export interface MemoryResult {
  readonly userBytes: number;
  readonly peakBytes: number;
  readonly limitBytes: number;
}

type Load = Pick<Job, 'pattern' | 'requestBytes' | 'depth' | 'flushEachWrite'>;

const BULK: Load = { pattern: 'write', requestBytes: 128 * 1024, depth: 16, flushEachWrite: false };
const RANDOM: Load = { pattern: 'randwrite', requestBytes: 4096, depth: 32, flushEachWrite: false };
const SYNCED: Load = { pattern: 'randwrite', requestBytes: 4096, depth: 1, flushEachWrite: true };

const MEMORY_LIMIT_BYTES = 400 * MIB;
/** Longer than basalt's flush interval: after so long without a write, nothing more is to come. */
const QUIET_MS = 7_000;
const SETTLE_TIMEOUT_MS = 60_000;

export async function measureBytes(context: CompareContext): Promise<BytesResult[]> {
  const scale = context.options.quick ? 4 : 1;
  const cases: [string, Load, number, number][] = [
    // Many times the log's ring: its first lap is dirtied, and counted, in any case.
    ['bulk sequential 128k', BULK, GIB, (4 * GIB) / scale],
    ['random 4k over 1 GiB', RANDOM, GIB, (256 * MIB) / scale],
    ['random 4k over 64 MiB', RANDOM, 64 * MIB, (256 * MIB) / scale],
    ['synced 4k over 64 MiB, depth 1', SYNCED, 64 * MIB, (32 * MIB) / scale],
  ];
  const results: BytesResult[] = [];
  for (const [index, [name, load, regionBytes, userBytes]] of cases.entries()) {
    const result = await onFreshServer(context, `bytes-${index}`, 2 * GIB, async (server) => {
      const before = await diskBytesWritten(server.pid);
      const written = await write(context, server, { load, regionBytes, amount: { bytes: userBytes } });
      const diskBytesAtEnd = (await diskBytesWritten(server.pid)) - before;
      const diskBytesSettled = (await settledBytesWritten(server.pid)) - before;
      return { name, userBytes: written, diskBytesAtEnd, diskBytesSettled };
    });
    context.progress(`bytes  ${name}  ${(result.diskBytesSettled / result.userBytes).toFixed(2)} bytes to disk a byte`);
    results.push(result);
  }
  return results;
}

/** 8 GiB into a 16 GiB volume: seven eighths in bulk, then random 4 KiB writes all over it, so that its map fills up. */
export async function measureMemory(context: CompareContext): Promise<MemoryResult> {
  const totalBytes = context.options.quick ? GIB : 8 * GIB;
  return onFreshServer(context, 'rss', 16 * GIB, async (server) => {
    const bulk = await write(context, server, { load: BULK, regionBytes: 16 * GIB, amount: { bytes: (totalBytes / 8) * 7 } });
    context.progress(`rss  bulk done, peak ${Math.round((await peakResidentBytes(server.pid)) / MIB)} MiB`);
    const random = await write(context, server, { load: RANDOM, regionBytes: 16 * GIB, amount: { bytes: totalBytes / 8 } });
    return { userBytes: bulk + random, peakBytes: await peakResidentBytes(server.pid), limitBytes: MEMORY_LIMIT_BYTES };
  });
}

async function onFreshServer<T>(context: CompareContext, name: string, sizeBytes: number, use: (server: RunningServer) => Promise<T>): Promise<T> {
  const server = await RunningServer.start({ ...serverOptions(context, 'basalt'), directory: join(context.directory, name), sizeBytes });
  context.started(server);
  try {
    return await use(server);
  } finally {
    await server.stop();
  }
}

interface WriteOptions {
  readonly load: Load;
  readonly regionBytes: number;
  readonly amount: Amount;
}

/** Returns the bytes written, as fio counted them. */
async function write(context: CompareContext, server: RunningServer, { load, regionBytes, amount }: WriteOptions): Promise<number> {
  const result = await runFio({ uri: server.uri, job: load, regionBytes, amount, reportPath: join(context.directory, 'fio.json') });
  return result.bytes;
}

async function settledBytesWritten(pid: number): Promise<number> {
  const deadline = performance.now() + SETTLE_TIMEOUT_MS;
  let bytes = await diskBytesWritten(pid);
  let since = performance.now();
  while (performance.now() - since < QUIET_MS && performance.now() < deadline) {
    await delay(250);
    const now = await diskBytesWritten(pid);
    if (now !== bytes) since = performance.now();
    bytes = now;
  }
  return bytes;
}
