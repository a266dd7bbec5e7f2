/**
 * Writing the end of the log again before it counts as durable. What recovery reads comes from the page cache, and that is no
 * proof: after a sync that failed in an earlier process the kernel takes the pages for written, a sync of ours would write
 * nothing and succeed, and the pages could go at any time. Bytes that were written again are dirty, so that the sync means them.
 *
 * Only the records that no later record calls durable are written again: at most what may be unsynced in the volume's mode.
 */
import { checksum } from '../base/checksum.ts';
import { VolumeError } from '../base/errors.ts';
import type { File } from '../env/env.ts';
import { LOG_HEADER_BYTES, decodeLogHeader, recordPrefixBytes } from '../format/log-record.ts';
import type { ReplayedRecord } from './log-recovery.ts';

/** Bytes that are read and written at a time; a longer record goes alone. */
const PIECE_BYTES = 1024 * 1024;

/** Records that lie together, of one life. */
interface Piece {
  readonly fileIndex: number;
  readonly generation: number;
  readonly offsetBytes: number;
  lengthBytes: number;
  lastLsn: number;
  /** Of their bytes, as they were replayed. */
  checksum: number;
}

export class LogRewrite {
  readonly #files: readonly File[];
  readonly #identity: { readonly volumeId: Uint8Array; readonly blockSizeBytes: number };
  /** Oldest first. */
  #pieces: Piece[] = [];
  #durableLsn: number;

  /** Records up to `durableLsn` are known to be on the medium. */
  constructor(files: readonly File[], identity: { readonly volumeId: Uint8Array; readonly blockSizeBytes: number }, durableLsn: number) {
    this.#files = files;
    this.#identity = identity;
    this.#durableLsn = durableLsn;
  }

  /** To be called with each record of the unbroken run, in order, while its bytes are at hand. */
  replayed({ record, bytes, fileIndex, offsetBytes }: ReplayedRecord): void {
    if (record.durableLsn > this.#durableLsn) {
      this.#durableLsn = record.durableLsn;
      this.#pieces = this.#pieces.filter(({ lastLsn }) => lastLsn > this.#durableLsn);
    }
    if (record.lsn <= this.#durableLsn) return;
    const part = bytes.subarray(record.payloadOffset - recordPrefixBytes(record.kind, record.blockCount), record.endOffset);
    const last = this.#pieces.at(-1);
    const follows = last !== undefined && last.fileIndex === fileIndex && last.generation === record.generation && last.offsetBytes + last.lengthBytes === offsetBytes;
    if (follows && last.lengthBytes + part.length <= PIECE_BYTES) {
      last.lengthBytes += part.length;
      last.lastLsn = record.lsn;
      last.checksum = checksum(part, last.checksum);
    } else {
      this.#pieces.push({ fileIndex, generation: record.generation, offsetBytes, lengthBytes: part.length, lastLsn: record.lsn, checksum: checksum(part) });
    }
  }

  /** Writes the records, and the headers of their lives, where they stand. Errors: `failed` if they are no longer what was replayed, `io-error`. */
  async run(): Promise<void> {
    const headers = new Set<number>();
    for (const piece of this.#pieces) {
      if (!headers.has(piece.fileIndex)) await this.#rewriteHeader(piece);
      headers.add(piece.fileIndex);
      const bytes = await this.#read(piece.fileIndex, piece.offsetBytes, piece.lengthBytes);
      if (checksum(bytes) !== piece.checksum) throw changed(piece.fileIndex, piece.offsetBytes);
      await this.#files[piece.fileIndex].write([bytes], piece.offsetBytes);
    }
  }

  async #rewriteHeader({ fileIndex, generation }: Piece): Promise<void> {
    const bytes = await this.#read(fileIndex, 0, LOG_HEADER_BYTES);
    const header = decodeLogHeader(bytes, { ...this.#identity, fileIndex });
    if ('fault' in header || header.generation !== generation) throw changed(fileIndex, 0);
    await this.#files[fileIndex].write([bytes], 0);
  }

  async #read(fileIndex: number, offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(lengthBytes);
    const got = await this.#files[fileIndex].read(bytes, offsetBytes);
    if (got !== lengthBytes) throw changed(fileIndex, offsetBytes);
    return bytes;
  }
}

/** The kernel has dropped pages in between: the next opening finds what is on the disk. */
function changed(fileIndex: number, offsetBytes: number): VolumeError {
  return new VolumeError('failed', `log file ${fileIndex}, byte ${offsetBytes}: the bytes changed while the volume was opened, as after a failed sync; nothing was changed, open it again`, {
    context: { fileIndex, offsetBytes },
  });
}
