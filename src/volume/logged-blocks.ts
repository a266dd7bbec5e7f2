/** Blocks that only the log has, of a volume that nobody writes to: where they stand, and reading them. */
import { checksum, formatChecksum } from '../base/checksum.ts';
import { VolumeError } from '../base/errors.ts';
import type { File, FileSystem } from '../env/env.ts';
import { viewOf } from '../format/bytes.ts';
import { RECORD_HEADER_BYTES } from '../format/log-record.ts';
import type { BlockMap } from '../index/block-map.ts';
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

/** Applies a record of the log: blocks that it writes are in `logged` then, those that it empties are so in the map. */
export async function applyRecord(map: BlockMap, record: InspectedRecord, logged: Map<number, LoggedBlock>): Promise<void> {
  const { blockNumber, blockCount, provisioned } = record;
  if (record.kind === 'write') {
    for (let index = 0; index < blockCount; index += 1) logged.set(blockNumber + index, { record, index });
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

/** The log's files, open while blocks are copied from them. */
export class LoggedBlocks {
  readonly #target: LogDirectory;
  readonly #blockSizeBytes: number;
  readonly #files = new Map<number, File>();

  constructor(target: LogDirectory, blockSizeBytes: number) {
    this.#target = target;
    this.#blockSizeBytes = blockSizeBytes;
  }

  /** A block, checked against the checksum that its record has for it. */
  async read({ record, index }: LoggedBlock): Promise<{ readonly bytes: Uint8Array; readonly checksum: number }> {
    const { fileIndex, offsetBytes, payloadOffset } = record;
    let file = this.#files.get(fileIndex);
    if (file === undefined) {
      file = await this.#target.files.open(logPath(this.#target.directory, fileIndex), 'read');
      this.#files.set(fileIndex, file);
    }
    const bytes = new Uint8Array(this.#blockSizeBytes);
    const entry = new Uint8Array(4);
    await file.read(bytes, payloadOffset + index * this.#blockSizeBytes);
    await file.read(entry, offsetBytes + RECORD_HEADER_BYTES + index * 4);
    const [computed, expected] = [checksum(bytes), viewOf(entry).getUint32(0, true)];
    if (computed === expected) return { bytes, checksum: computed };
    throw new VolumeError('corrupt', `log file ${fileIndex}: block ${record.blockNumber + index} changed while it was copied: checksum ${formatChecksum(computed)}, expected ${formatChecksum(expected)}; is somebody writing to the volume? Run the repair again`);
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#files.values()].map((file) => file.close()));
  }
}
