/** What compressed chunks cost and give: two servers of basalt that differ in `engine.chunk_compress`, measured in turns. */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MIB } from '../src/base/units.ts';
import { ControlClient } from '../src/control/control-client.ts';
import { NbdClient } from '../test/support/nbd-client.ts';
import { type CompareContext, median, runOne, serverOptions } from './compare.ts';
import { JOBS, type Job } from './jobs.ts';
import { EXPORT_NAME, RunningServer } from './servers.ts';

/** Part of their bytes that blocks of a kind of data take in chunks. */
export interface SpaceResult {
  readonly name: string;
  readonly userBytes: number;
  readonly part: number;
}

/** Compressed against uncompressed, in one job. */
export interface CostResult {
  readonly name: string;
  readonly plainIops: number;
  readonly packedIops: number;
  /** One of each round. */
  readonly ratios: readonly number[];
  /** Of the server's processor time for a request, median. */
  readonly processorRatio: number;
  readonly least: number;
}

export interface CompressionResult {
  readonly space: readonly SpaceResult[];
  readonly costs: readonly CostResult[];
}

/** Text may take this part of its bytes. */
export const TEXT_PART_MAX = 0.45;

/** Small against what is read: nearly every block comes from a chunk. */
const MEMORY = ['engine.arena_bytes=48M', 'engine.dirty_bytes=24M', 'engine.flush_bytes=8M', 'engine.flush_interval_ms=200ms'];
interface Task {
  readonly job: string;
  readonly name: string;
  readonly least: number;
  /** Options of fio. */
  readonly more: readonly string[];
}

/**
 * Reads meet what was filled in; the writes come last, as they take its place. fio begins with noise in its buffers. Unless it is told not to, it stamps them with the time at each use
 * (16 bytes in each 512), so that after some uses LZ4 saves up to 9 percent of them: nearly noise. The first writes of noise meet text, later ones noise.
 */
const TASKS: readonly Task[] = [
  { job: 'randread-4k-q1', name: 'randread-4k-q1, text', least: 0.6, more: [] },
  { job: 'randread-4k-q32', name: 'randread-4k-q32, text', least: 0.6, more: [] },
  { job: 'write-128k-q16', name: 'write-128k-q16, noise with stamps', least: 0.97, more: [] },
  { job: 'write-128k-q16', name: 'write-128k-q16, noise', least: 0.97, more: ['--scramble_buffers=0'] },
];
const WRITE_BYTES = MIB;
const WRITES_AT_ONCE = 8;
const SETTLE_TIMEOUT_MS = 120_000;

interface Side {
  readonly compression: 'off' | 'lz4';
  readonly directory: string;
  readonly server: RunningServer;
  /** Bytes that its blocks take in chunks. */
  storedBytes: number;
}

export async function measureCompression(context: CompareContext): Promise<CompressionResult> {
  const halfBytes = (context.options.quick ? 64 : 256) * MIB;
  const sides: Side[] = [];
  try {
    for (const compression of ['off', 'lz4'] as const) sides.push(await startSide(context, compression, 2 * halfBytes));
    const [plain, packed] = sides;
    const space: SpaceResult[] = [];
    const kinds = [['lines of JSON', jsonLines()], ['sources and documents', await projectText()]] as const;
    for (const [index, [name, text]] of kinds.entries()) {
      for (const side of sides) {
        const part = await fillWith(side, index * halfBytes, halfBytes, text);
        context.progress(`compression  ${name}, ${side.compression}: ${(100 * part).toFixed(1)} % of its bytes`);
        if (side === packed) space.push({ name, userBytes: halfBytes, part });
      }
    }
    for (const { server } of sides) server.pause();
    const costs: CostResult[] = [];
    for (const task of TASKS) costs.push(await measureCost(context, task, { plain, packed, regionBytes: 2 * halfBytes }));
    return { space, costs };
  } finally {
    for (const { server } of sides) await server.stop();
  }
}

async function startSide(context: CompareContext, compression: Side['compression'], sizeBytes: number): Promise<Side> {
  const directory = join(context.directory, `compression-${compression}`);
  const options = serverOptions(context, 'basalt');
  const settings = [...MEMORY, `engine.chunk_compress=${compression}`].flatMap((setting) => ['--set', setting]);
  const server = await RunningServer.start({ ...options, sizeBytes, serveOptions: [...options.serveOptions, ...settings], directory });
  context.started(server);
  return { compression, directory, server, storedBytes: 0 };
}

function jsonLines(): Buffer {
  const levels = ['info', 'warn', 'error'];
  const lines = Array.from({ length: 100_000 }, (_, i) =>
    JSON.stringify({ time: 1_790_000_000_000 + i * 137, level: levels[(i * 7919) % 3], event: 'request', volume: `demo-${i % 17}`, elapsedMs: ((i * 2_654_435) % 9973) / 10, offset: ((i * 40_503) % 262_144) * 4096 }),
  );
  return Buffer.from(lines.join('\n'));
}

/** This project's own: as a user's code and notes are. */
async function projectText(): Promise<Buffer> {
  const folders = ['src', 'test', 'bench', '.'];
  const found = await Promise.all(folders.map(async (folder) => (await readdir(folder, { recursive: folder !== '.' })).map((name) => join(folder, name))));
  const names = found.flat().filter((name) => name.endsWith('.ts') || name.endsWith('.md'));
  return Buffer.concat(await Promise.all(names.toSorted().map((name) => readFile(name))));
}

/** Writes `text` again and again over a range, and waits until it is in chunks; returns what part of its bytes it takes there. */
async function fillWith(side: Side, offsetBytes: number, lengthBytes: number, text: Buffer): Promise<number> {
  const client = await NbdClient.open({ path: join(side.directory, 'nbd.sock') }, EXPORT_NAME);
  const writer = async (first: number): Promise<void> => {
    for (let at = first; at < lengthBytes; at += WRITES_AT_ONCE * WRITE_BYTES) {
      // Each piece begins elsewhere in the text, so that frames do not meet the same text at the same place.
      const start = Math.floor(at * 1.37) % text.length;
      await client.write(offsetBytes + at, Buffer.alloc(WRITE_BYTES, Buffer.concat([text.subarray(start), text.subarray(0, start)])));
    }
  };
  await Promise.all(Array.from({ length: WRITES_AT_ONCE }, (_, index) => writer(index * WRITE_BYTES)));
  await client.flush();
  const before = side.storedBytes;
  // While a client has the volume: one that nobody uses is closed after a while.
  side.storedBytes = await settledBytes(side.directory);
  client.socket.destroy();
  return (side.storedBytes - before) / lengthBytes;
}

/** Bytes that live blocks take in chunks, when all of them are in chunks. */
async function settledBytes(directory: string): Promise<number> {
  const control = new ControlClient(join(directory, 'data'));
  const deadline = performance.now() + SETTLE_TIMEOUT_MS;
  for (;;) {
    const { live, space } = await control.volume(EXPORT_NAME);
    if (live === null || space === null) throw new Error('the volume is not open, though it is in use');
    if (live.atRisk.unchunked.bytes === 0) return space.liveStoredBytes;
    if (performance.now() > deadline) throw new Error(`${live.atRisk.unchunked.bytes} bytes are in no chunk after ${SETTLE_TIMEOUT_MS / 1000} s`);
    await delay(50);
  }
}

interface Pair {
  readonly plain: Side;
  readonly packed: Side;
  readonly regionBytes: number;
}

async function measureCost(context: CompareContext, task: Task, { plain, packed, regionBytes }: Pair): Promise<CostResult> {
  const job: Job | undefined = JOBS.find(({ name }) => name === task.job);
  if (job === undefined) throw new Error(`there is no job ${task.job}`);
  const over = { ...context, options: { ...context.options, regionBytes } };
  const ratios: number[] = [];
  const processorRatios: number[] = [];
  const iops: Record<Side['compression'], number[]> = { off: [], lz4: [] };
  for (let round = 0; round < context.options.rounds; round += 1) {
    const used = { off: 0, lz4: 0 };
    for (const { compression, server } of round % 2 === 0 ? [plain, packed] : [packed, plain]) {
      const { result, processorUs } = await runOne(over, job, server, task.more);
      iops[compression].push(result.iops);
      used[compression] = processorUs;
      context.progress(`compression  round ${round + 1}/${context.options.rounds}  ${task.name}  ${compression}  ${Math.round(result.iops)} IOPS`);
    }
    ratios.push((iops.lz4.at(-1) ?? Number.NaN) / (iops.off.at(-1) ?? Number.NaN));
    processorRatios.push(used.lz4 / used.off);
  }
  return { name: task.name, plainIops: median(iops.off), packedIops: median(iops.lz4), ratios, processorRatio: median(processorRatios), least: task.least };
}
