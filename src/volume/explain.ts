/**
 * `basalt explain`: where the block at an offset stands, and how it got there. Nobody has the volume open meanwhile, so that a block
 * is empty, pending (in the log) or persisted (in a chunk); hot and cached ones there are only in a running server.
 */
import { checksum, formatChecksum } from '../base/checksum.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import { chunkKey } from '../chunk/chunk-reader.ts';
import { FrameReader } from '../chunk/frame-reader.ts';
import { extentOf, readSlots } from '../chunk/stored-blocks.ts';
import { PAGE_FANOUT, decodeLeaf } from '../format/checkpoint-layout.ts';
import { RECORD_CODEC } from '../format/log-record.ts';
import { LEAF_BLOCKS, LOST_CHUNK } from '../index/block-map.ts';
import { type ToolOptions, withLock } from './check.ts';
import type { InspectedSet } from './inspect-chunks.ts';
import { faultOf, isDamage } from './inspect-findings.ts';
import type { InspectedRecord } from './inspect-log.ts';
import type { Inspection } from './inspect.ts';
import { PageReader } from './load-checkpoint.ts';
import { readCompressed, readLogged } from './logged-blocks.ts';
import { doubtOf } from './open-read-only.ts';
import { withInspection } from './tool-source.ts';
import { checkpointKey, logKey, logPath, readManifest } from './volume-files.ts';

/** Something that befell the block. */
export interface ExplainStep {
  /** LSN of the record, or the last one of the set or checkpoint. */
  readonly lsn: number;
  /** Path within the volume's directory, and where in the file it stands. */
  readonly file: string;
  readonly offsetBytes: number | null;
  readonly what: string;
  /** What the block is from here on; null: no part of the volume's history. */
  readonly place: BlockPlace | null;
}

export type BlockPlace =
  | { readonly state: 'empty' }
  | { readonly state: 'lost' }
  | { readonly state: 'persisted'; readonly chunk: number; readonly slot: number }
  | { readonly state: 'pending'; readonly record: InspectedRecord; readonly index: number };

export interface BlockLocation {
  readonly file: string;
  /** Where the block's bytes begin. */
  readonly offsetBytes: number;
  /** Null for a block in the log. */
  readonly chunk: number | null;
  readonly slot: number | null;
  /** Of the record that has the block; of a chunk the first and last LSN of its records. */
  readonly lsn: number | null;
  readonly lsns: readonly [number, number] | null;
  /** Eight hexadecimal digits: as it is stored beside the block, and of the bytes that are there; null if they cannot be read. */
  readonly storedChecksum: string;
  readonly computedChecksum: string | null;
}

export interface ExplainReport {
  readonly volume: string;
  readonly offsetBytes: number;
  readonly blockNumber: number;
  readonly blockSizeBytes: number;
  readonly state: BlockPlace['state'];
  /** Whether a read gives the right bytes; never where a newer version may have stood in what is damaged. */
  readonly isReadable: boolean;
  /** Why the block may be older than it seems; null: what is told is what was written last. */
  readonly doubt: string | null;
  readonly location: BlockLocation | null;
  /** Why the block cannot be read, if so. */
  readonly problem: string | null;
  /** Oldest first. */
  readonly history: readonly ExplainStep[];
  /** Whether the volume is damaged, here or elsewhere. */
  readonly needsRepair: boolean;
}

/** Explains the block at `offsetBytes`. Errors: `not-found`, `in-use`, `invalid-argument`; `corrupt` if the manifest is damaged. */
export function explainBlock(options: ToolOptions & { readonly offsetBytes: number }): Promise<ExplainReport> {
  return withLock(options, async () => {
    const { env, directory, name, offsetBytes } = options;
    const manifest = await readManifest(env.files, directory);
    if (offsetBytes >= manifest.sizeBytes) throw new VolumeError('invalid-argument', `offset ${offsetBytes} is beyond the end of volume ${name}, which has ${manifest.sizeBytes} bytes`, { context: { offsetBytes, sizeBytes: manifest.sizeBytes } });
    return withInspection({ ...options, manifest, deep: false, uncertain: 'lost' }, (inspection) => explain(options, inspection));
  });
}

async function explain(options: ToolOptions & { readonly offsetBytes: number }, inspection: Inspection): Promise<ExplainReport> {
  const { name, offsetBytes } = options;
  const { manifest } = inspection;
  const blockNumber = Math.floor(offsetBytes / manifest.blockSizeBytes);
  const history = [await fromCheckpoint(inspection, blockNumber), ...(await fromSets(inspection, blockNumber)), ...fromLog(inspection, blockNumber)];
  const place = history.findLast((step) => step.place !== null)?.place ?? { state: 'empty' };
  const found = await locate(options, inspection, place, blockNumber);
  const doubt = doubtOf(inspection);
  const doubted = doubt === null ? found : { ...found, isReadable: false, problem: found.problem ?? `it may be older than it seems: ${doubt}` };
  return { volume: name, offsetBytes, blockNumber, blockSizeBytes: manifest.blockSizeBytes, state: place.state, ...doubted, doubt, history, needsRepair: inspection.findings.needRepair };
}

function placeIn(chunk: number, slot: number): BlockPlace {
  if (chunk === LOST_CHUNK) return { state: 'lost' };
  return chunk === 0 ? { state: 'empty' } : { state: 'persisted', chunk, slot };
}

function describePlace(place: BlockPlace): string {
  if (place.state === 'persisted') return `in slot ${place.slot} of chunk ${place.chunk}`;
  return place.state === 'lost' ? 'lost' : 'empty';
}

/** What the newest checkpoint has for the block. */
async function fromCheckpoint({ store, manifest, checkpoint, rebuilt, misplaced }: Inspection, blockNumber: number): Promise<ExplainStep> {
  const { number, epoch, lastLsn: lsn } = manifest.checkpoint;
  const leaf = Math.floor(blockNumber / LEAF_BLOCKS);
  const isIn = (run: { place: number; blockCount: number }): boolean => blockNumber >= leaf * LEAF_BLOCKS + run.place && blockNumber < leaf * LEAF_BLOCKS + run.place + run.blockCount;
  const reference = checkpoint.leaves.get(leaf);
  const file = reference === undefined ? checkpointKey(epoch, number) : checkpointKey(reference.epoch, reference.number);
  if (number === 0) return { lsn: 0, file: 'manifest', offsetBytes: 56, what: 'the volume begins empty: there is no checkpoint yet', place: { state: 'empty' } };
  const offsetBytes = reference?.offset ?? null;
  const runs = await readRuns();
  if (typeof runs === 'string') {
    const run = rebuilt?.runsOf(leaf).find(isIn);
    const place = run === undefined ? placeIn(0, 0) : placeIn(run.chunk, run.slot + blockNumber - leaf * LEAF_BLOCKS - run.place);
    return { lsn, file, offsetBytes, what: `checkpoint ${number}: the page of the block map cannot be read (${runs}); by the tables of the chunks the block is ${describePlace(place)}`, place };
  }
  const run = runs.find(isIn);
  if (run === undefined) return { lsn, file, offsetBytes, what: `checkpoint ${number}: ${reference === undefined ? `nothing is stored in leaf ${leaf}` : `leaf ${leaf} has no entry for the block`}: it is empty`, place: { state: 'empty' } };
  const place = misplaced.has(blockNumber) ? placeIn(LOST_CHUNK, 0) : placeIn(run.chunk, run.slot + blockNumber - leaf * LEAF_BLOCKS - run.place);
  return { lsn, file, offsetBytes, what: `checkpoint ${number}: leaf ${leaf} of the block map has the block ${describePlace(place)}`, place };

  /** The runs of the leaf, or why they cannot be had. */
  async function readRuns(): Promise<readonly { place: number; blockCount: number; chunk: number; slot: number }[] | string> {
    if (checkpoint.lostRoot !== null) return 'its root is damaged';
    if (checkpoint.lostNodes.has(leaf - (leaf % PAGE_FANOUT))) return 'the node above it is damaged';
    if (reference === undefined) return [];
    const pages = new PageReader(store);
    try {
      const { bytes, name } = await pages.read(reference);
      return decodeLeaf(bytes, leaf, reference, name);
    } catch (error) {
      return faultOf(file, error).problem;
    } finally {
      await pages.close();
    }
  }
}

/** What the sets of chunks behind the checkpoint did to the block. */
async function fromSets({ chain, manifest, readTables }: Inspection, blockNumber: number): Promise<ExplainStep[]> {
  const steps: ExplainStep[] = [];
  for (const set of chain.sets) {
    for (const { chunk, key } of set.chunks) {
      const tables = await readTables(chunk);
      const { ranges, blockNumbers } = tables;
      if (ranges.some((range) => isCovered(range, blockNumber))) steps.push({ lsn: set.lastLsn, file: key, offsetBytes: null, what: `chunk ${chunk} (${lsnsOf(set)}) empties the block`, place: { state: 'empty' } });
      const slot = blockNumbers.indexOf(blockNumber);
      if (slot >= 0) steps.push({ lsn: set.lastLsn, file: key, offsetBytes: extentOf(tables, slot, manifest.blockSizeBytes).offset, what: `chunk ${chunk} (${lsnsOf(set)}) has the block in slot ${slot}`, place: { state: 'persisted', chunk, slot } });
    }
  }
  return steps;
}

function lsnsOf({ firstLsn, lastLsn }: InspectedSet): string {
  return lastLsn < firstLsn ? `copied by compaction after LSN ${lastLsn}` : `LSN ${firstLsn} to ${lastLsn}`;
}

function isCovered(range: { readonly blockNumber: number; readonly blockCount: number }, blockNumber: number): boolean {
  return blockNumber >= range.blockNumber && blockNumber < range.blockNumber + range.blockCount;
}

function fromLog({ log }: Inspection, blockNumber: number): ExplainStep[] {
  const steps: ExplainStep[] = [];
  const add = (record: InspectedRecord, counts: boolean): void => {
    if (!isCovered(record, blockNumber)) return;
    const { lsn, fileIndex, offsetBytes } = record;
    const place: BlockPlace = record.kind === 'write' ? { state: 'pending', record, index: blockNumber - record.blockNumber } : { state: 'empty' };
    const what = `the record of LSN ${lsn} ${record.kind === 'write' ? 'writes' : 'empties'} blocks ${record.blockNumber} to ${record.blockNumber + record.blockCount - 1}`;
    steps.push({ lsn, file: logKey(fileIndex), offsetBytes, what: counts ? what : `${what}, but stands behind damage of the log and does not count`, place: counts ? place : null });
  };
  for (const record of log.records) add(record, true);
  for (const record of log.behind) add(record, false);
  return steps;
}

type Located = Pick<ExplainReport, 'isReadable' | 'location' | 'problem'>;

async function locate(options: ToolOptions, inspection: Inspection, place: BlockPlace, blockNumber: number): Promise<Located> {
  if (place.state === 'empty') return { isReadable: true, location: null, problem: null };
  if (place.state === 'lost') return { isReadable: false, location: null, problem: 'the block is lost: no sound file has it; it can be read again once it is written or trimmed' };
  return place.state === 'pending' ? locateInLog(options, inspection, place.record, place.index) : locateInChunk(inspection, place.chunk, place.slot, blockNumber);
}

function compare(location: BlockLocation): Located {
  const { storedChecksum, computedChecksum, file, offsetBytes } = location;
  const isReadable = storedChecksum === computedChecksum;
  const problem = computedChecksum === null ? `${file} cannot be read at byte ${offsetBytes}` : `${file}: checksum ${computedChecksum}, expected ${storedChecksum}, at byte ${offsetBytes}`;
  return { isReadable, location, problem: isReadable ? null : problem };
}

async function locateInChunk({ store, manifest, chunks, checkpoint, readTables }: Inspection, chunk: number, slot: number, blockNumber: number): Promise<Located> {
  const inspected = chunks.get(chunk);
  const file = inspected?.key ?? chunkKey(checkpoint.catalogue.get(chunk)?.epoch ?? 0, chunk);
  const fault = inspected === undefined ? 'is missing' : (inspected.fault?.problem ?? null);
  if (fault !== null || inspected === undefined) return { isReadable: false, location: null, problem: `${file}, which has block ${blockNumber}: ${fault}` };
  const tables = await readTables(chunk);
  const bytes = new Uint8Array(manifest.blockSizeBytes);
  const object = await store.open(file);
  let computedChecksum: string | null = null;
  try {
    await readSlots({ object, tables, blockSizeBytes: manifest.blockSizeBytes, key: file, frames: new FrameReader(0) }, slot, bytes);
    computedChecksum = formatChecksum(checksum(bytes));
  } catch (error) {
    if (!isDamage(toVolumeError(error, `reading ${file}`))) throw error;
  } finally {
    await object.close();
  }
  const { identity } = inspected;
  const { offset } = extentOf(tables, slot, manifest.blockSizeBytes);
  return compare({ file, offsetBytes: offset, chunk, slot, lsn: null, lsns: identity === null ? null : [identity.firstLsn, identity.lastLsn], storedChecksum: formatChecksum(tables.checksums[slot]), computedChecksum });
}

async function locateInLog({ env, directory }: ToolOptions, { manifest }: Inspection, record: InspectedRecord, index: number): Promise<Located> {
  const { blockSizeBytes } = manifest;
  const file = await env.files.open(logPath(directory, record.fileIndex), 'read');
  let found: { readonly bytes: Uint8Array | null; readonly expected: number };
  try {
    found = await readLogged(file, { record, index }, blockSizeBytes, (from, whole) => readCompressed(from, whole, blockSizeBytes));
  } finally {
    await file.close();
  }
  const { bytes, expected } = found;
  // A compressed record has no place of its own for each block.
  const offsetBytes = record.payloadOffset + (record.codec === RECORD_CODEC.NONE ? index * blockSizeBytes : 0);
  const computedChecksum = bytes === null ? null : formatChecksum(checksum(bytes));
  return compare({ file: logKey(record.fileIndex), offsetBytes, chunk: null, slot: null, lsn: record.lsn, lsns: null, storedChecksum: formatChecksum(expected), computedChecksum });
}
