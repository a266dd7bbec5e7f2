/** The log on a real disk: appending as a turn does it, and replaying what is there. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checksum } from '../../src/base/checksum.ts';
import { LOG_WAYS } from '../../src/base/settings-types.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { buildSettings } from '../../src/config/settings.ts';
import type { File, LogLevel } from '../../src/env/env.ts';
import { NodeClock } from '../../src/env/node-env.ts';
import { NodeFileSystem } from '../../src/env/node-files.ts';
import { DirectLog } from '../../src/wal/direct-log.ts';
import type { LogFile } from '../../src/wal/log-options.ts';
import { recoverLog } from '../../src/wal/log-recovery.ts';
import { LogRing } from '../../src/wal/log-ring.ts';
import { LogWriter } from '../../src/wal/log-writer.ts';
import { MappedLog } from '../../src/wal/mapped-log.ts';
import type { MicroSuite, MicroTask } from './suite.ts';

const BLOCK_BYTES = 4 * KIB;
const FILE_BYTES = 64 * MIB;
/** Of the comparison of ways. */
const WAY_FILES = 3;
const WAY_FILE_BYTES = 16 * MIB;
const VOLUME_ID = new Uint8Array(16).fill(9);
const RECOVERED_RECORDS = 8_000;

export async function logSuite(): Promise<MicroSuite> {
  const directory = await mkdtemp(join(tmpdir(), 'basalt-micro-'));
  const files = new NodeFileSystem();
  const open = (name: string): Promise<File> => files.open(join(directory, name), 'create');
  const ring = await Promise.all([open('log-0'), open('log-1'), open('log-2'), open('log-3')]);
  const replayed = [await open('replayed')];
  await writeRecords(replayed);
  const ways = await openWays(directory);
  return {
    name: 'log',
    tasks: [...appendTasks(ring), ...ways.flatMap((way, index) => wayTasks(way, index)), recoveryTask(replayed)],
    close: async () => {
      for (const way of ways) await way.close();
      for (const file of [...ring, ...replayed]) await file.close();
      await rm(directory, { recursive: true });
    },
  };
}

/** One of the ways into a log whose files were written before: what a recycled log costs. */
interface Way {
  readonly name: string;
  readonly files: readonly LogFile[];
  readonly direct: DirectLog | null;
  close(): Promise<void>;
}

/** Each has files of its own. Ways that there are not here are missing. */
async function openWays(directory: string): Promise<Way[]> {
  const files = new NodeFileSystem();
  const logger = { log: (_level: LogLevel, event: string) => void process.stderr.write(`bench-micro: ${event}\n`) };
  const ways: Way[] = [];
  for (const name of LOG_WAYS) {
    const paths = Array.from({ length: WAY_FILES }, (_, index) => join(directory, `${name}-${index}`));
    const plainFiles = await Promise.all(paths.map((path) => writtenFile(files, path)));
    const options = { files, logger, volume: 'bench', paths, plainFiles, fileBytes: WAY_FILE_BYTES };
    const direct = name === 'direct' ? await DirectLog.open(options) : null;
    const mapped = name === 'mmap' ? await MappedLog.open(options) : null;
    const close = async (): Promise<void> => {
      for (const file of [direct, mapped, ...plainFiles]) await file?.close();
    };
    if (name === 'buffered' || direct !== null || mapped !== null) ways.push({ name, files: mapped?.files ?? plainFiles, direct, close });
    else await close();
  }
  return ways;
}

async function writtenFile(files: NodeFileSystem, path: string): Promise<File> {
  const file = await files.open(path, 'create');
  await file.write([Buffer.alloc(WAY_FILE_BYTES, 1)], 0);
  await file.sync();
  return file;
}

interface WriterOptions {
  readonly files: readonly LogFile[];
  readonly fileBytes: number;
  readonly direct: DirectLog | null;
  readonly epoch: number;
}

function newWriter({ files, fileBytes, direct, epoch }: WriterOptions): LogWriter {
  return new LogWriter({
    clock: new NodeClock(),
    files,
    direct,
    ring: new LogRing({ fileCount: files.length, fileBytes, epoch, lives: [], chunkedLsn: 0 }),
    volumeId: VOLUME_ID,
    blockSizeBytes: BLOCK_BYTES,
    epoch,
    lastLsn: 0,
    durability: direct === null ? 'relaxed' : 'strict',
    // Every write in the turn, every sync too: what is measured is the log, not the choice between it and the thread pool.
    settings: { ...buildSettings().engine, logInlineBytes: 64 * MIB, logInlineLatencyMs: 1000, logInlineSyncLatencyMs: 1000 },
    events: {
      written: () => undefined,
      durable: () => undefined,
      stalled: () => undefined,
      room: () => undefined,
      failed: (error) => {
        throw error;
      },
    },
  });
}

/** Appends records of one payload; the space is recycled at once, as if each had reached its chunk. */
class Appender {
  readonly #writer: LogWriter;
  readonly #payload: Uint8Array;
  readonly #checksums: Uint32Array;
  #block = 0;

  constructor(options: WriterOptions, payloadBytes: number) {
    this.#writer = newWriter(options);
    this.#payload = new Uint8Array(payloadBytes).fill(0xa5);
    this.#checksums = Uint32Array.from({ length: payloadBytes / BLOCK_BYTES }, () => checksum(this.#payload.subarray(0, BLOCK_BYTES)));
  }

  /** One turn: `records` records, one write. */
  turn(records: number): void {
    for (let index = 0; index < records; index += 1) {
      this.#block = (this.#block + 7919) % 100_000;
      this.#writer.appendWrite(this.#block, this.#checksums.length, this.#payload, this.#checksums, 0);
    }
    this.#writer.writeOut();
  }

  checkWritten(): void {
    if (this.#writer.writtenLsn !== this.#writer.lastLsn) throw new Error('the records were not written in the turn');
  }

  recycle(): void {
    this.#writer.recycleTo(this.#writer.writtenLsn);
  }

  sync(): Promise<void> {
    return new Promise((resolve, reject) => this.#writer.force({ settle: (error) => (error === null ? resolve() : reject(error)) }));
  }
}

const append = (appender: Appender, records: number) => (): void => {
  appender.turn(records);
  appender.checkWritten();
  appender.recycle();
};

const appendAndSync = (appender: Appender, records: number) => async (): Promise<void> => {
  appender.turn(records);
  await appender.sync();
  appender.recycle();
};

/** One way in the mode that it is for; a direct write is a sync as well. */
function wayTasks({ name, files, direct }: Way, index: number): MicroTask[] {
  const options = { files, fileBytes: WAY_FILE_BYTES, direct };
  const small = new Appender({ ...options, epoch: 10 + 2 * index }, BLOCK_BYTES);
  const bulk = new Appender({ ...options, epoch: 11 + 2 * index }, 128 * KIB);
  const tasks = [
    { name: `recycled, ${name}: append 4 KiB, synced`, operations: 1, bytes: BLOCK_BYTES, run: appendAndSync(small, 1) },
    { name: `recycled, ${name}: append 128 KiB, synced`, operations: 1, bytes: 128 * KIB, run: appendAndSync(bulk, 1) },
  ];
  if (direct !== null) return tasks;
  return [
    { name: `recycled, ${name}: append 4 KiB, unsynced`, operations: 1, bytes: BLOCK_BYTES, run: append(small, 1) },
    { name: `recycled, ${name}: append 128 KiB, unsynced`, operations: 1, bytes: 128 * KIB, run: append(bulk, 1) },
    ...tasks,
  ];
}

function appendTasks(files: readonly File[]): MicroTask[] {
  const options = { files, fileBytes: FILE_BYTES, direct: null };
  const small = new Appender({ ...options, epoch: 1 }, BLOCK_BYTES);
  const bulk = new Appender({ ...options, epoch: 2 }, MIB);
  return [
    { name: 'append 4 KiB, one record a write, unsynced', operations: 1, bytes: BLOCK_BYTES, run: append(small, 1) },
    { name: 'append 4 KiB, 32 records a write, unsynced', operations: 32, bytes: 32 * BLOCK_BYTES, run: append(small, 32) },
    { name: 'append 1 MiB, one record a write, unsynced', operations: 1, bytes: MIB, run: append(bulk, 1) },
    { name: 'append 4 KiB, one record a write, synced', operations: 1, bytes: BLOCK_BYTES, run: appendAndSync(small, 1) },
    { name: 'append 4 KiB, 32 records a write, synced', operations: 32, bytes: 32 * BLOCK_BYTES, run: appendAndSync(small, 32) },
  ];
}

async function writeRecords(files: readonly File[]): Promise<void> {
  const appender = new Appender({ files, fileBytes: FILE_BYTES, direct: null, epoch: 1 }, BLOCK_BYTES);
  for (let index = 0; index < RECOVERED_RECORDS; index += 32) {
    appender.turn(32);
    appender.checkWritten();
  }
  await appender.sync();
}

function recoveryTask(files: readonly File[]): MicroTask {
  return {
    name: `recover ${RECOVERED_RECORDS} records of 4 KiB`,
    operations: RECOVERED_RECORDS,
    bytes: RECOVERED_RECORDS * BLOCK_BYTES,
    run: async () => {
      const options = { files, volumeId: VOLUME_ID, blockSizeBytes: BLOCK_BYTES, volumeBlocks: 200_000, chunkedLsn: 0, cut: { epoch: 0, lsn: 0 } };
      const recovery = await recoverLog({ ...options, cut: { epoch: 0, lsn: 0 }, markedLsn: 0, lastEpoch: Number.POSITIVE_INFINITY, apply: () => Promise.resolve() });
      if (recovery.records !== RECOVERED_RECORDS) throw new Error(`${recovery.records} records of ${RECOVERED_RECORDS} were recovered: ${recovery.end}`);
    },
  };
}
