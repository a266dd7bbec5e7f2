/**
 * `make bench-slow-card`: basalt on a file system on an SD card, which is nbdkit with slow-card.c (20 MB/s of writes, 5 ms a flush) under
 * nbdfuse, a loop device and ext4, with the settings of config/jetson-sd.toml. Needs root, nbdkit with its cc plugin, nbdkit's header, gcc, nbdfuse, fio.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { DURABILITY_MODES, type Durability } from '../src/base/durability.ts';
import { KIB, MIB } from '../src/base/units.ts';
import { NbdClient } from '../test/support/nbd-client.ts';
import { Card } from './card.ts';
import { type Amount, type FioResult, execute, runFio } from './fio.ts';
import type { Job } from './jobs.ts';
import { RunningServer } from './servers.ts';

const USAGE = `usage: make bench-slow-card ARGS="..."

  --rate BYTES        the card's write bandwidth a second (20000000)
  --flush-us N        microseconds of a flush (5000)
  --compressible N    percent of each 512 bytes of data that are zero, the rest being random (50); 0: nothing compresses
  --mode MODE         only this durability mode; may be repeated
  --set KEY=VALUE     a setting of basalt; may be repeated

Each row says how many milliseconds a block of 4 KiB takes:
  hot        4 KiB at random within 8 MiB, 64 writes in flight, each synced before it is answered (strict), or flushed behind its
             answer (batched and relaxed: as many flushes are in flight). Such blocks overwrite each other in memory
  wide       the same within 256 MiB: every block goes to the log and soon to a chunk, too
  answered   128 MiB in sequence, until the last write was answered
  durable    the same, until a FLUSH behind it was answered
and, in brackets, how many KiB the card was given for it, and behind a / how many blocks shared a flush of the card.
The volume's log was written around before, as in a volume that is in use: a growing file costs journal writes.
`;

const { values } = parseArgs({
  options: {
    rate: { type: 'string', default: '20000000' },
    'flush-us': { type: 'string', default: '5000' },
    compressible: { type: 'string', default: '50' },
    mode: { type: 'string', multiple: true, default: [...DURABILITY_MODES] },
    set: { type: 'string', multiple: true, default: [] },
    help: { type: 'boolean', default: false },
  },
});

const BLOCK_BYTES = 4096;
const VOLUME_BYTES = 512 * MIB;
const HOT_BYTES = 8 * MIB;
const WIDE_BYTES = VOLUME_BYTES / 2;
const SEQUENTIAL_BYTES = 128 * MIB;
const SYNCED_SECONDS = 6;
/** That fio runs before it counts. */
const RAMP_SECONDS = 0.3;

/** What a block took, and what it gave the card to do. */
interface Figure {
  readonly ms: number;
  readonly cardKib: number;
  readonly blocksPerFlush: number;
}

type FioJob = Pick<Job, 'pattern' | 'requestBytes' | 'depth' | 'flushEachWrite'>;

const FIO_DATA = ['--refill_buffers=1', `--buffer_compress_percentage=${values.compressible}`, '--buffer_compress_chunk=512'];

/** A server on a volume of one durability mode on the card. */
class Bench {
  readonly #card: Card;
  readonly #directory: string;
  readonly #data: string;
  readonly #mode: Durability;

  constructor(card: Card, directory: string, mode: Durability) {
    this.#card = card;
    this.#directory = directory;
    this.#mode = mode;
    this.#data = join(card.mountPath, mode);
  }

  async row(): Promise<string> {
    await this.#card.whileFast(async () => {
      // Opened anew each time: what is measured begins with nothing dirty.
      const filling: FioJob = { pattern: 'write', requestBytes: 128 * KIB, depth: 8, flushEachWrite: false };
      await this.#withServer((uri) => this.#fio(uri, filling, WIDE_BYTES, { bytes: WIDE_BYTES }), true);
      // What the log never synced is not left to the first syncs that are measured.
      await execute('sync', ['--file-system', this.#card.mountPath]);
    });
    try {
      const isStrict = this.#mode === 'strict';
      const small: FioJob = { pattern: 'randwrite', requestBytes: BLOCK_BYTES, depth: isStrict ? 64 : 128, flushEachWrite: !isStrict };
      // async mode's FLUSH promises nothing.
      const synced = async (regionBytes: number): Promise<string> => (this.#mode === 'async' ? 'none' : format(await this.#synced(small, regionBytes)));
      const columns = [await synced(HOT_BYTES), await synced(WIDE_BYTES), ...(await this.#sequential()).map(format)];
      return columns.map((column) => column.padStart(24)).join('');
    } finally {
      await rm(this.#data, { recursive: true });
    }
  }

  #synced(job: FioJob, regionBytes: number): Promise<Figure> {
    return this.#withServer(async (uri) => {
      let iops = 0;
      const figure = await this.#counted(async () => {
        ({ iops } = await this.#fio(uri, job, regionBytes, { seconds: SYNCED_SECONDS }));
        return iops * (SYNCED_SECONDS + RAMP_SECONDS);
      });
      // Without fio's start and end.
      return { ...figure, ms: 1000 / iops };
    });
  }

  async #sequential(): Promise<Figure[]> {
    const large: FioJob = { pattern: 'write', requestBytes: 128 * KIB, depth: 8, flushEachWrite: false };
    const blocks = SEQUENTIAL_BYTES / BLOCK_BYTES;
    return this.#withServer(async (uri) => {
      const figures: Figure[] = [];
      const durable = await this.#counted(async () => {
        const answered = await this.#counted(async () => {
          await this.#fio(uri, large, WIDE_BYTES, { bytes: SEQUENTIAL_BYTES });
          return blocks;
        });
        figures.push(answered);
        await flush(join(this.#data, 'nbd.sock'));
        return blocks;
      });
      return [...figures, durable];
    });
  }

  async #counted(work: () => Promise<number>): Promise<Figure> {
    const before = await this.#card.counts();
    const startMs = performance.now();
    const blocks = await work();
    const ms = performance.now() - startMs;
    const after = await this.#card.counts();
    return { ms: ms / blocks, cardKib: (after.bytes - before.bytes) / KIB / blocks, blocksPerFlush: blocks / Math.max(1, after.flushes - before.flushes) };
  }

  #fio(uri: string, job: FioJob, regionBytes: number, amount: Amount): Promise<FioResult> {
    return runFio({ uri, job, regionBytes, amount, reportPath: join(this.#directory, 'fio.json'), more: FIO_DATA });
  }

  async #withServer<T>(work: (uri: string) => Promise<T>, isNew = false): Promise<T> {
    const settings = ['--config', resolve('config/jetson-sd.toml'), ...values.set.flatMap((setting) => ['--set', setting])];
    const server = await RunningServer.start({ name: 'basalt', directory: this.#data, sizeBytes: VOLUME_BYTES, mode: this.#mode, basaltEntry: resolve('dist/cli/basalt.cjs'), serveOptions: settings, isNew });
    try {
      return await work(server.uri);
    } finally {
      await server.stop();
    }
  }
}

function format({ ms, cardKib, blocksPerFlush }: Figure): string {
  return `${ms.toFixed(3)} (${cardKib.toFixed(1)}/${blocksPerFlush.toFixed(0)})`;
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
  const modes = DURABILITY_MODES.filter((mode) => values.mode.includes(mode));
  if (modes.length === 0) throw new Error(`--mode ${values.mode.join(' ')}: no such mode; there are ${DURABILITY_MODES.join(', ')}`);
  const directory = await mkdtemp(join(tmpdir(), 'basalt-card-'));
  const card = new Card(directory, { sizeBytes: 3072 * MIB, rateBytes: values.rate, flushUs: values['flush-us'] });
  try {
    await card.insert();
    const alone = ((BLOCK_BYTES * 1000) / Number(values.rate)).toFixed(3);
    process.stdout.write(`a card of ${values.rate} bytes and ${values['flush-us']} us a flush; ms a block of 4 KiB (the bandwidth alone: ${alone}); data: ${values.compressible} % zero, the rest random\n`);
    process.stdout.write(`${'mode'.padEnd(8)}${['hot', 'wide', 'answered', 'durable'].map((title) => title.padStart(24)).join('')}\n`);
    for (const mode of modes) process.stdout.write(`${mode.padEnd(8)}${await new Bench(card, directory, mode).row()}\n`);
  } finally {
    await card.remove();
    await rm(directory, { recursive: true });
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`bench-slow-card: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
