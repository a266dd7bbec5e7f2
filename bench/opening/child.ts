/**
 * What `main.ts` runs in a process of its own, so that time and memory are those of one volume alone:
 * `fill PATH RECORDS FLUSHED` writes records into the log, a flush behind each FLUSHED of them (0: none), and kills itself; `open PATH RECORDS`
 * opens the volume, checks what is in it (RECORDS 0: a mapped volume), and prints what opening took, as JSON.
 */
import type { LogFields } from '../../src/env/env.ts';
import { type Logger, openVolume } from '../../src/index.ts';
import { MIB } from '../../src/base/units.ts';
import { currentResidentBytes, peakResidentBytes } from '../process-io.ts';
import { BLOCK_BYTES, chunksFor, stampOf, stampedBlock } from './mapped-volume.ts';

export interface OpenResult {
  readonly openMs: number;
  readonly replayedRecords: number;
  readonly liveBlocks: number;
  /** Before the volume is opened, after, and the most there was in between. */
  readonly idleBytes: number;
  readonly openBytes: number;
  readonly peakBytes: number;
  /** Of reads at random, each of a leaf and a chunk of its own. */
  readonly readMs: number;
}

/** A region that is written again and again in sequence: slabs that are overwritten whole need no chunk. */
const REGION_BLOCKS = (64 * MIB) / BLOCK_BYTES;
const DEPTH = 32;

/** Nothing goes to a chunk because of its age: only a log that is written for less than five seconds holds so many records otherwise. */
const FILL_SETTINGS = { flushIntervalMs: 3_600_000 };

async function fill(path: string, records: number, flushed: number): Promise<never> {
  const volume = await openVolume(path, { settings: FILL_SETTINGS });
  let next = 0;
  const writer = async (): Promise<void> => {
    while (next < records) {
      const record = next;
      next += 1;
      await volume.write((record % REGION_BLOCKS) * BLOCK_BYTES, stampOf(record));
      if (flushed > 0 && next % flushed === 0) await volume.flush();
    }
  };
  await Promise.all(Array.from({ length: DEPTH }, writer));
  const { chunksWritten } = volume.stats();
  if (chunksWritten > 0) throw new Error(`${chunksWritten} chunks were written: the log does not hold all ${records} records`);
  process.kill(process.pid, 'SIGKILL');
  throw new Error('a killed process goes on');
}

async function measure(path: string, records: number): Promise<void> {
  let opened: LogFields = {};
  const logger: Logger = {
    log: (_level, event, fields = {}) => {
      if (event === 'volume-opened') opened = fields;
    },
  };
  const idleBytes = await currentResidentBytes(process.pid);
  const startMs = performance.now();
  const volume = await openVolume(path, { logger });
  const openMs = performance.now() - startMs;
  const openBytes = await currentResidentBytes(process.pid);
  const peakBytes = await peakResidentBytes(process.pid);
  const liveBlocks = volume.stats().liveBytes / BLOCK_BYTES;
  const readStartMs = performance.now();
  if (records > 0) await checkRecords(volume, records);
  else await checkStamps(volume);
  const result: OpenResult = { openMs, replayedRecords: Number(opened.replayedRecords), liveBlocks, idleBytes, openBytes, peakBytes, readMs: performance.now() - readStartMs };
  process.stdout.write(`${JSON.stringify(result)}\n`);
  await volume.close();
}

type Readable = Pick<Awaited<ReturnType<typeof openVolume>>, 'read' | 'sizeBytes'>;

async function expectBlock(volume: Readable, blockNumber: number, expected: Buffer): Promise<void> {
  const found = await volume.read(blockNumber * BLOCK_BYTES, BLOCK_BYTES);
  if (Buffer.compare(found, expected) !== 0) throw new Error(`block ${blockNumber} holds "${Buffer.from(found).toString('latin1', 0, 24)}...", expected "${expected.toString('latin1', 0, 24)}..."`);
}

async function checkStamps(volume: Readable): Promise<void> {
  const chunks = chunksFor(volume.sizeBytes / BLOCK_BYTES);
  const step = Math.max(1, Math.floor(chunks / 1000));
  for (let chunk = 1; chunk <= chunks; chunk += step) {
    const blockNumber = stampedBlock(chunk, { chunks, spread: 1 });
    await expectBlock(volume, blockNumber, stampOf(blockNumber));
  }
}

/** Of each block the newest record must be there. */
async function checkRecords(volume: Readable, records: number): Promise<void> {
  for (let record = Math.max(0, records - REGION_BLOCKS); record < records; record += 1) await expectBlock(volume, record % REGION_BLOCKS, stampOf(record));
}

const [verb, path, records, flushed] = process.argv.slice(2);
if (verb === 'fill') await fill(path, Number(records), Number(flushed));
else await measure(path, Number(records));
