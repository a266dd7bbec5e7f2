/**
 * Writing the end of the log again before it counts as durable. What recovery reads comes from the page cache, and that is no
 * proof: after a sync that failed in an earlier process the kernel takes the pages for written, a sync of ours would write
 * nothing and succeed, and the pages could go at any time. Bytes that were written again are dirty, so that the sync means them.
 *
 * Only the records that no later record calls durable are written again: at most what may be unsynced in the volume's mode.
 */
import { forEachLimited } from '../base/async.ts';
import { checksum } from '../base/checksum.ts';
import { VolumeError } from '../base/errors.ts';
import type { File } from '../env/env.ts';
import { LOG_HEADER_BYTES, decodeLogHeader, recordPrefixBytes } from '../format/log-record.ts';
import type { ReplayedRecord } from './log-recovery.ts';

/** Bytes that are read and written at a time; a longer record goes alone. */
const PIECE_BYTES = 1024 * 1024;
const FILES_AT_ONCE = 3;

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

  /**
   * Writes the records, and the headers of their lives, where they stand, and syncs their files: durable on return. One file is synced
   * while the next ones are written. Errors: `failed` if they are no longer what was replayed, `io-error`.
   */
  async run(): Promise<void> {
    const lives = new Map<number, Piece[]>();
    for (const piece of this.#pieces) {
      const pieces = lives.get(piece.fileIndex) ?? [];
      lives.set(piece.fileIndex, pieces);
      pieces.push(piece);
    }
    await forEachLimited([...lives.values()], FILES_AT_ONCE, (pieces) => this.#rewriteLife(pieces));
  }

  async #rewriteLife(pieces: readonly Piece[]): Promise<void> {
    const [{ fileIndex, generation }] = pieces;
    const file = this.#files[fileIndex];
    const buffer = new Uint8Array(Math.max(LOG_HEADER_BYTES, ...pieces.map(({ lengthBytes }) => lengthBytes)));
    const headerBytes = await this.#read(fileIndex, 0, buffer.subarray(0, LOG_HEADER_BYTES));
    const header = decodeLogHeader(headerBytes, { ...this.#identity, fileIndex });
    if ('fault' in header || header.generation !== generation) throw changed(fileIndex, 0);
    await file.write([headerBytes], 0);
    for (const piece of pieces) {
      const bytes = await this.#read(fileIndex, piece.offsetBytes, buffer.subarray(0, piece.lengthBytes));
      if (checksum(bytes) !== piece.checksum) throw changed(fileIndex, piece.offsetBytes);
      await file.write([bytes], piece.offsetBytes);
    }
    await file.sync();
  }

  async #read(fileIndex: number, offsetBytes: number, target: Uint8Array): Promise<Uint8Array> {
    const got = await this.#files[fileIndex].read(target, offsetBytes);
    if (got !== target.length) throw changed(fileIndex, offsetBytes);
    return target;
  }
}

/** The kernel has dropped pages in between: the next opening finds what is on the disk. */
function changed(fileIndex: number, offsetBytes: number): VolumeError {
  return new VolumeError('failed', `log file ${fileIndex}, byte ${offsetBytes}: the bytes changed while the volume was opened, as after a failed sync; nothing was changed, open it again`, {
    context: { fileIndex, offsetBytes },
  });
}
