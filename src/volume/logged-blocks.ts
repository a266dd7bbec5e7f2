/** Blocks that only the log has, of a volume that nobody writes to: where they stand, and reading them. */
import { checksum, formatChecksum } from '../base/checksum.ts';
import { VolumeError } from '../base/errors.ts';
import type { File, FileSystem } from '../env/env.ts';
import { viewOf } from '../format/bytes.ts';
import { RECORD_CODEC, RECORD_HEADER_BYTES, decodePayload } from '../format/log-record.ts';
import { type BlockMap, LEAF_BLOCKS, LOST_CHUNK } from '../index/block-map.ts';
import type { InspectedRecord } from './inspect-log.ts';
import { logPath } from './volume-files.ts';

/** A block that only the log has: the record, and the block's place in it. */
export interface LoggedBlock {
  readonly record: InspectedRecord;
  readonly index: number;
}

export interface LogDirectory {
  readonly files: FileSystem;
  readonly directory: string;
}

/** Applies a record of the log: blocks that it writes are in `logged` then, those that it empties, or has damaged, are so in the map. */
export async function applyRecord(map: BlockMap, record: InspectedRecord, logged: Map<number, LoggedBlock>): Promise<void> {
  const { blockNumber, blockCount, provisioned } = record;
  if (record.kind === 'write') {
    for (let index = 0; index < blockCount; index += 1) logged.set(blockNumber + index, { record, index });
    for (const index of record.bad) await lose(map, blockNumber + index, logged);
    return;
  }
  if (blockCount < logged.size) for (let i = 0; i < blockCount; i += 1) logged.delete(blockNumber + i);
  else for (const block of logged.keys()) if (block >= blockNumber && block < blockNumber + blockCount) logged.delete(block);
  const release = map.hold();
  try {
    for (const leaf of map.leavesIn(blockNumber, blockCount)) await map.load(leaf.index);
    if (provisioned) map.place(blockNumber, blockCount, 0, 0);
    else map.clear(blockNumber, blockCount);
  } finally {
    release();
  }
}

/** Applies last versions of single blocks that the log has, as `findInLog` found them. */
export async function applyVersions(map: BlockMap, versions: ReadonlyMap<number, LoggedBlock>, logged: Map<number, LoggedBlock>): Promise<void> {
  for (const [blockNumber, version] of versions) {
    if (version.record.kind === 'write') logged.set(blockNumber, version);
    else await applyRecord(map, { ...version.record, blockNumber, blockCount: 1 }, logged);
  }
}

/** The newest version of a block is damaged: no older one may be taken for it. */
async function lose(map: BlockMap, blockNumber: number, logged: Map<number, LoggedBlock>): Promise<void> {
  logged.delete(blockNumber);
  const release = map.hold();
  try {
    await map.load(Math.floor(blockNumber / LEAF_BLOCKS));
    // What is lost stands in no slot; these ascend so that neighbours make one run.
    map.place(blockNumber, 1, LOST_CHUNK, blockNumber % LEAF_BLOCKS);
  } finally {
    release();
  }
}

/** The blocks of a compressed record, whole; null if what stands there is no payload of it. */
export async function readCompressed(file: File, record: InspectedRecord, blockSizeBytes: number): Promise<Uint8Array | null> {
  const stored = new Uint8Array(record.storedBytes);
  await file.read(stored, record.payloadOffset);
  return decodePayload(stored, record, blockSizeBytes);
}

/** A block as the log has it, and the checksum that its record has for it: they need not agree. The bytes are null if they cannot be decoded. */
export async function readLogged(file: File, { record, index }: LoggedBlock, blockSizeBytes: number, decoded: (file: File, record: InspectedRecord) => Promise<Uint8Array | null>): Promise<{ readonly bytes: Uint8Array | null; readonly expected: number }> {
  let bytes: Uint8Array | null = new Uint8Array(blockSizeBytes);
  if (record.codec === RECORD_CODEC.NONE) await file.read(bytes, record.payloadOffset + index * blockSizeBytes);
  else bytes = (await decoded(file, record))?.slice(index * blockSizeBytes, (index + 1) * blockSizeBytes) ?? null;
  const entry = new Uint8Array(4);
  await file.read(entry, record.offsetBytes + RECORD_HEADER_BYTES + index * 4);
  return { bytes, expected: viewOf(entry).getUint32(0, true) };
}

/** The log's files, open while blocks are copied from them. */
export class LoggedBlocks {
  readonly #target: LogDirectory;
  readonly #blockSizeBytes: number;
  readonly #files = new Map<number, File>();
  /** The compressed record that was decoded last: its neighbours are asked for next. */
  #decoded: { readonly record: InspectedRecord; readonly payload: Promise<Uint8Array | null> } | null = null;

  constructor(target: LogDirectory, blockSizeBytes: number) {
    this.#target = target;
    this.#blockSizeBytes = blockSizeBytes;
  }

  /** A block, checked against the checksum that its record has for it. */
  async read(block: LoggedBlock): Promise<{ readonly bytes: Uint8Array; readonly checksum: number }> {
    const { record, index } = block;
    const { fileIndex } = record;
    let file = this.#files.get(fileIndex);
    if (file === undefined) {
      file = await this.#target.files.open(logPath(this.#target.directory, fileIndex), 'read');
      this.#files.set(fileIndex, file);
    }
    const { bytes, expected } = await readLogged(file, block, this.#blockSizeBytes, (from, whole) => this.#decode(from, whole));
    const computed = bytes === null ? null : checksum(bytes);
    if (bytes !== null && computed === expected) return { bytes, checksum: expected };
    const found = computed === null ? 'its record cannot be decoded' : `checksum ${formatChecksum(computed)}, expected ${formatChecksum(expected)}`;
    throw new VolumeError('corrupt', `log file ${fileIndex}: block ${record.blockNumber + index} changed while it was copied: ${found}; is somebody writing to the volume? Run the repair again`);
  }

  #decode(file: File, record: InspectedRecord): Promise<Uint8Array | null> {
    if (this.#decoded?.record === record) return this.#decoded.payload;
    const payload = readCompressed(file, record, this.#blockSizeBytes);
    this.#decoded = { record, payload };
    return payload;
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#files.values()].map((file) => file.close()));
  }
}
