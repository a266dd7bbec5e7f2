/** The log on a real disk: appending as a turn does it, and replaying what is there. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checksum } from '../../src/base/checksum.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { buildSettings } from '../../src/config/settings.ts';
import type { File } from '../../src/env/env.ts';
import { NodeClock } from '../../src/env/node-env.ts';
import { NodeFileSystem } from '../../src/env/node-files.ts';
import { recoverLog } from '../../src/wal/log-recovery.ts';
import { LogRing } from '../../src/wal/log-ring.ts';
import { LogWriter } from '../../src/wal/log-writer.ts';
import type { MicroSuite, MicroTask } from './suite.ts';

const BLOCK_BYTES = 4 * KIB;
const FILE_BYTES = 64 * MIB;
const VOLUME_ID = new Uint8Array(16).fill(9);
const RECOVERED_RECORDS = 8_000;

export async function logSuite(): Promise<MicroSuite> {
  const directory = await mkdtemp(join(tmpdir(), 'basalt-micro-'));
  const files = new NodeFileSystem();
  const open = (name: string): Promise<File> => files.open(join(directory, name), 'create');
  const ring = await Promise.all([open('log-0'), open('log-1'), open('log-2'), open('log-3')]);
  const replayed = [await open('replayed')];
  await writeRecords(replayed);
  return {
    name: 'log',
    tasks: [...appendTasks(ring), recoveryTask(replayed)],
    close: async () => {
      for (const file of [...ring, ...replayed]) await file.close();
      await rm(directory, { recursive: true });
    },
  };
}

function newWriter(files: readonly File[], epoch: number): LogWriter {
  return new LogWriter({
    clock: new NodeClock(),
    files,
    direct: null,
    ring: new LogRing({ fileCount: files.length, fileBytes: FILE_BYTES, epoch, lives: [], chunkedLsn: 0 }),
    volumeId: VOLUME_ID,
    blockSizeBytes: BLOCK_BYTES,
    epoch,
    lastLsn: 0,
    durability: 'relaxed',
    // Every write in the turn, every sync too: what is measured is the log, not the choice between it and the thread pool.
    settings: { ...buildSettings().engine, logInlineBytes: 64 * MIB, logInlineLatencyMs: 1000, logInlineSyncLatencyMs: 1000 },
    events: {
      written: () => undefined,
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

  constructor(files: readonly File[], epoch: number, payloadBytes: number) {
    this.#writer = newWriter(files, epoch);
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
    if (this.#writer.writtenLsn !== this.#writer.lastLsn) throw new Error('the records were not written in the turn');
  }

  recycle(): void {
    this.#writer.recycleTo(this.#writer.writtenLsn);
  }

  sync(): Promise<void> {
    return new Promise((resolve, reject) => this.#writer.force({ settle: (error) => (error === null ? resolve() : reject(error)) }));
  }
}

function appendTasks(files: readonly File[]): MicroTask[] {
  const small = new Appender(files, 1, BLOCK_BYTES);
  const bulk = new Appender(files, 2, MIB);
  const append = (appender: Appender, records: number) => (): void => {
    appender.turn(records);
    appender.recycle();
  };
  const appendAndSync = (appender: Appender, records: number) => async (): Promise<void> => {
    appender.turn(records);
    await appender.sync();
    appender.recycle();
  };
  return [
    { name: 'append 4 KiB, one record a write, unsynced', operations: 1, bytes: BLOCK_BYTES, run: append(small, 1) },
    { name: 'append 4 KiB, 32 records a write, unsynced', operations: 32, bytes: 32 * BLOCK_BYTES, run: append(small, 32) },
    { name: 'append 1 MiB, one record a write, unsynced', operations: 1, bytes: MIB, run: append(bulk, 1) },
    { name: 'append 4 KiB, one record a write, synced', operations: 1, bytes: BLOCK_BYTES, run: appendAndSync(small, 1) },
    { name: 'append 4 KiB, 32 records a write, synced', operations: 32, bytes: 32 * BLOCK_BYTES, run: appendAndSync(small, 32) },
  ];
}

async function writeRecords(files: readonly File[]): Promise<void> {
  const appender = new Appender(files, 1, BLOCK_BYTES);
  for (let index = 0; index < RECOVERED_RECORDS; index += 32) appender.turn(32);
  await appender.sync();
}

function recoveryTask(files: readonly File[]): MicroTask {
  return {
    name: `recover ${RECOVERED_RECORDS} records of 4 KiB`,
    operations: RECOVERED_RECORDS,
    bytes: RECOVERED_RECORDS * BLOCK_BYTES,
    run: async () => {
      const options = { files, volumeId: VOLUME_ID, blockSizeBytes: BLOCK_BYTES, volumeBlocks: 200_000, chunkedLsn: 0, cut: { epoch: 0, lsn: 0 } };
      const recovery = await recoverLog({ ...options, cut: { epoch: 0, lsn: 0 }, apply: () => Promise.resolve() });
      if (recovery.records !== RECOVERED_RECORDS) throw new Error(`${recovery.records} records of ${RECOVERED_RECORDS} were recovered: ${recovery.end}`);
    },
  };
}
