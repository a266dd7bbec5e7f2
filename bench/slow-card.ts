/**
 * `make bench-slow-card`: basalt on a file system on an SD card, which is nbdkit with slow-card.c (20 MB/s of writes, 5 ms a flush) under
 * nbdfuse, a loop device and ext4. Needs root, nbdkit with its cc plugin, nbdkit's header, gcc, nbdfuse, fio.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { access, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { DURABILITY_MODES, type Durability } from '../src/base/durability.ts';
import { MIB } from '../src/base/units.ts';
import { NbdClient } from '../test/support/nbd-client.ts';
import { execute, runFio } from './fio.ts';
import type { Job } from './jobs.ts';
import { RunningServer } from './servers.ts';

const USAGE = `usage: make bench-slow-card ARGS="..."

  --rate BYTES      the card's write bandwidth a second (20000000)
  --flush-us N      microseconds of a flush (5000)
  --set KEY=VALUE   a setting of basalt; may be repeated

Each row says how many milliseconds a block of 4 KiB takes:
  synced     4 KiB at random, 64 in flight, each synced before it is answered (strict) or flushed behind its answer
  answered   128 MiB in sequence, until the last write was answered
  durable    the same, until a FLUSH behind it was answered
`;

const { values } = parseArgs({
  options: {
    rate: { type: 'string', default: '20000000' },
    'flush-us': { type: 'string', default: '5000' },
    set: { type: 'string', multiple: true, default: [] },
    help: { type: 'boolean', default: false },
  },
});

const BLOCK_BYTES = 4096;
const CARD_BYTES = 3072 * MIB;
const VOLUME_BYTES = 512 * MIB;
const SEQUENTIAL_BYTES = 128 * MIB;
const SYNCED_SECONDS = 6;
/** What a card gets by DESIGN 3.4: a small ring, and little that is dirty. */
const CARD_SETTINGS: readonly string[] = ['engine.log_file_bytes=16M', 'engine.log_file_count=4', 'engine.dirty_bytes=32M', 'engine.arena_bytes=64M', 'engine.flush_bytes=16M'];
const STEP_TIMEOUT_MS = 10_000;

/** A mounted card; `remove` takes it apart, whatever of it is there. */
class Card {
  readonly mountPath: string;
  readonly #directory: string;
  readonly #children: ChildProcess[] = [];
  #loop: string | null = null;
  #mounted = false;

  constructor(directory: string) {
    this.#directory = directory;
    this.mountPath = join(directory, 'card');
  }

  async insert(): Promise<void> {
    const socket = join(this.#directory, 'card.sock');
    const fuse = join(this.#directory, 'fuse');
    await mkdir(fuse);
    await mkdir(this.mountPath);
    const card = ['cc', resolve('bench/slow-card.c'), `image=${join(this.#directory, 'card.img')}`, `size=${CARD_BYTES}`, `rate=${values.rate}`, `flush-us=${values['flush-us']}`];
    await this.#run('nbdkit', ['--foreground', '--exit-with-parent', '--unix', socket, ...card], socket);
    await this.#run('nbdfuse', [fuse, '--unix', socket], join(fuse, 'nbd'));
    this.#loop = (await execute('losetup', ['--find', '--show', '--direct-io=on', join(fuse, 'nbd')])).trim();
    // The journal and the tables are made now, not behind the measurement's back.
    await execute('mkfs.ext4', ['-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0', this.#loop]);
    await execute('mount', [this.#loop, this.mountPath]);
    this.#mounted = true;
  }

  /** Starts a program that stays; resolves when `sign` is there. */
  async #run(program: string, args: readonly string[], sign: string): Promise<void> {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let complaint = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint = (complaint + text).slice(-2000)));
    child.on('error', (error) => (complaint += error.message));
    this.#children.push(child);
    const deadline = performance.now() + STEP_TIMEOUT_MS;
    while (!(await isThere(sign))) {
      if (child.exitCode !== null || performance.now() > deadline) throw new Error(`${program} did not start: ${complaint}`);
      await delay(50);
    }
  }

  async remove(): Promise<void> {
    if (this.#mounted) await execute('umount', [this.mountPath]);
    if (this.#loop !== null) await execute('losetup', ['--detach', this.#loop]);
    if (this.#children.length > 1) await execute('umount', [join(this.#directory, 'fuse')]);
    for (const child of this.#children) child.kill('SIGTERM');
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false; // not yet
  }
}

interface Row {
  readonly mode: Durability;
  readonly syncedMs: number;
  readonly answeredMs: number;
  readonly durableMs: number;
}

type FioJob = Pick<Job, 'pattern' | 'requestBytes' | 'depth' | 'flushEachWrite'>;

async function measure(mode: Durability, directory: string, mountPath: string): Promise<Row> {
  const data = join(mountPath, mode);
  const settings = [...CARD_SETTINGS, ...values.set].flatMap((setting) => ['--set', setting]);
  const server = await RunningServer.start({ name: 'basalt', directory: data, sizeBytes: VOLUME_BYTES, mode, basaltEntry: resolve('dist/cli/basalt.cjs'), serveOptions: settings });
  try {
    const reportPath = join(directory, 'fio.json');
    const small: FioJob = { pattern: 'randwrite', requestBytes: BLOCK_BYTES, depth: 64, flushEachWrite: mode !== 'strict' };
    const synced = await runFio({ uri: server.uri, job: small, regionBytes: VOLUME_BYTES / 2, amount: { seconds: SYNCED_SECONDS }, reportPath });
    await flush(join(data, 'nbd.sock'));
    const large: FioJob = { pattern: 'write', requestBytes: 128 * 1024, depth: 8, flushEachWrite: false };
    const startMs = performance.now();
    const sequential = await runFio({ uri: server.uri, job: large, regionBytes: VOLUME_BYTES / 2, amount: { bytes: SEQUENTIAL_BYTES }, reportPath });
    await flush(join(data, 'nbd.sock'));
    const blocks = SEQUENTIAL_BYTES / BLOCK_BYTES;
    return { mode, syncedMs: 1000 / synced.iops, answeredMs: (sequential.seconds * 1000) / blocks, durableMs: (performance.now() - startMs) / blocks };
  } finally {
    await server.stop();
    await rm(data, { recursive: true });
  }
}

async function flush(path: string): Promise<void> {
  const client = await NbdClient.open({ path }, 'bench');
  await client.flush();
  await client.close();
}

async function main(): Promise<void> {
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const directory = await mkdtemp(join(tmpdir(), 'basalt-card-'));
  const card = new Card(directory);
  try {
    await card.insert();
    process.stdout.write(`a card of ${values.rate} bytes and ${values['flush-us']} us a flush; ms a block of 4 KiB (the bandwidth alone: ${((BLOCK_BYTES * 1000) / Number(values.rate)).toFixed(3)})\n`);
    process.stdout.write('mode      synced  answered  durable\n');
    for (const mode of DURABILITY_MODES) {
      const { syncedMs, answeredMs, durableMs } = await measure(mode, directory, card.mountPath);
      const synced = mode === 'async' ? 'none'.padStart(6) : syncedMs.toFixed(3).padStart(6); // its FLUSH promises nothing
      process.stdout.write(`${mode.padEnd(8)}  ${synced}  ${answeredMs.toFixed(3).padStart(8)}  ${durableMs.toFixed(3).padStart(7)}\n`);
    }
  } finally {
    await card.remove();
    await rm(directory, { recursive: true });
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`bench-slow-card: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
