/**
 * The content of one simulated file: what a reader sees now (the page cache) and what is on the medium, with the writes
 * between them that were never synced.
 *
 * A power cut decides for each 512-byte sector of each such write on its own whether it reached the medium. A sector
 * holds the newest version that reached it and so all older writes to it as well (a page goes to the medium whole, with
 * all that was written to it before); the next version may have reached it in part (torn). The length of the file is metadata and is
 * decided apart: bytes kept beyond a lost length are lost, bytes lost below a kept length read as what was there before, or zero.
 *
 * A sync that fails parts the two for good: the kernel takes the pages that did not reach the medium for written. They are
 * forgotten: readers see them until the kernel drops them (at any time, without a power cut), and no later sync writes them,
 * unless the same page is written to again.
 */

export const SECTOR_BYTES = 512;
/** What the kernel writes, and forgets, as one. */
export const PAGE_BYTES = 4096;

interface UnsyncedWrite {
  readonly sequence: number;
  /** A direct write that was cut off: nothing of it is in the page cache. */
  readonly isDirect: boolean;
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
}

/** The part of a write that lies in one page whose sync failed. */
interface ForgottenPiece {
  readonly page: number;
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
}

/** Decides what a power cut leaves of what was never synced. `sequence` is a change's place in the order of all changes of the disk. */
export interface PowerCutFate {
  /** Whether this version of a sector reached the medium. */
  keepsSector(sequence: number, fileId: number, sector: number): boolean;
  /** How many leading bytes (0 to 511) of the first version that did not wholly reach the medium did. */
  tornBytes(): number;
  /** Whether the growth of a file by this write reached the medium. */
  keepsLength(sequence: number, fileId: number): boolean;
  /** Whether this change of a name (creation, rename, removal) reached the medium. */
  keepsName(sequence: number): boolean;
}

export class FileNode {
  readonly kind = 'file';
  readonly id: number;
  #current = new Uint8Array(0);
  #sizeBytes = 0;
  #durable = new Uint8Array(0);
  #durableSizeBytes = 0;
  #unsynced: UnsyncedWrite[] = [];
  /** Oldest first; none of them is on the medium, and no sync will bring it there. */
  #forgotten: ForgottenPiece[] = [];

  constructor(id: number) {
    this.id = id;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** A copy that goes its own way. */
  clone(): FileNode {
    const copy = new FileNode(this.id);
    copy.#current = this.#current.slice();
    copy.#sizeBytes = this.#sizeBytes;
    copy.#durable = this.#durable.slice();
    copy.#durableSizeBytes = this.#durableSizeBytes;
    copy.#unsynced = [...this.#unsynced];
    copy.#forgotten = [...this.#forgotten];
    return copy;
  }

  get unsyncedSequences(): number[] {
    return this.#unsynced.map((write) => write.sequence);
  }

  /** Takes a copy of `bytes`; on return they are with the kernel. */
  write(bytes: Uint8Array, offsetBytes: number, sequence: number, isDirect = false): void {
    if (bytes.length === 0) return;
    const copy = new Uint8Array(bytes);
    this.#current = put(this.#current, copy, offsetBytes);
    this.#sizeBytes = Math.max(this.#sizeBytes, offsetBytes + copy.length);
    this.#unsynced.push({ sequence, isDirect, offsetBytes, bytes: copy });
  }

  /**
   * Before a direct write. The kernel would write back what stands in the way and forget it, but nobody should have to trust that of every file
   * system: there may be no unsynced plain write. Pages whose sync failed are dropped; the write covers them whole.
   */
  beginDirectWrite(bytes: Uint8Array, offsetBytes: number): void {
    if (this.#unsynced.some(({ isDirect }) => !isDirect)) throw new Error('a file is written directly while plain writes to it are not synced');
    this.dropPages(bytes, offsetBytes);
  }

  /** The kernel drops what its cache has of pages that are written past it. */
  dropPages(bytes: Uint8Array, offsetBytes: number): void {
    const first = Math.floor(offsetBytes / PAGE_BYTES);
    const end = Math.ceil((offsetBytes + bytes.length) / PAGE_BYTES);
    this.dropForgotten((page) => page >= first && page < end);
  }

  /** Returns the bytes read; fewer than asked for at the end of the file. */
  read(target: Uint8Array, offsetBytes: number): number {
    const length = Math.max(0, Math.min(target.length, this.#sizeBytes - offsetBytes));
    target.set(this.#current.subarray(offsetBytes, offsetBytes + length));
    return length;
  }

  /** The end of a sync that began at `sequence`: all writes up to it are on the medium; younger ones may be, or not. */
  makeDurable(sequence: number): void {
    let synced = 0;
    for (const write of this.#unsynced) {
      if (write.sequence > sequence) break;
      this.#reviveForgotten((page) => isPageOf(write, page));
      this.#durable = put(this.#durable, write.bytes, write.offsetBytes);
      this.#durableSizeBytes = Math.max(this.#durableSizeBytes, write.offsetBytes + write.bytes.length);
      synced += 1;
    }
    this.#unsynced = synced === this.#unsynced.length ? [] : this.#unsynced.slice(synced);
  }

  /** The end of a sync that began at `sequence` and failed: of the pages that it covers only those that `reaches` says are on the medium. */
  failSync(sequence: number, reaches: (page: number) => boolean): void {
    const covered = this.#unsynced.filter((write) => write.sequence <= sequence);
    this.#unsynced = this.#unsynced.slice(covered.length);
    const fates = new Map<number, boolean>();
    for (const write of covered) {
      for (const piece of piecesOf(write)) {
        const reached = fates.get(piece.page) ?? reaches(piece.page);
        fates.set(piece.page, reached);
        if (!reached) {
          this.#forgotten.push(piece);
          continue;
        }
        this.#reviveForgotten((page) => page === piece.page);
        this.#durable = put(this.#durable, piece.bytes, piece.offsetBytes);
        this.#durableSizeBytes = Math.max(this.#durableSizeBytes, piece.offsetBytes + piece.bytes.length);
      }
    }
  }

  get hasForgotten(): boolean {
    return this.#forgotten.length > 0;
  }

  /** The kernel drops pages whose sync failed, those that `drops` says: the next reader finds what is on the medium. */
  dropForgotten(drops: (page: number) => boolean): void {
    const dropped = new Set<number>();
    for (const { page } of this.#forgotten) {
      // A page that was written to again is dirty: it stays.
      if (!dropped.has(page) && !this.#unsynced.some((write) => isPageOf(write, page)) && drops(page)) dropped.add(page);
    }
    this.#forgotten = this.#forgotten.filter(({ page }) => !dropped.has(page));
    for (const page of dropped) {
      const start = page * PAGE_BYTES;
      const end = Math.min(start + PAGE_BYTES, this.#sizeBytes);
      this.#current.fill(0, start, end);
      this.#current.set(this.#durable.subarray(Math.min(start, this.#durableSizeBytes), Math.min(end, this.#durableSizeBytes)), start);
    }
  }

  /** Pages go to the medium whole: with a younger write to the same page goes what was forgotten of it. */
  #reviveForgotten(isRevived: (page: number) => boolean): void {
    if (this.#forgotten.length === 0) return;
    for (const { page, offsetBytes, bytes } of this.#forgotten) {
      if (!isRevived(page)) continue;
      this.#durable = put(this.#durable, bytes, offsetBytes);
      this.#durableSizeBytes = Math.max(this.#durableSizeBytes, offsetBytes + bytes.length);
    }
    this.#forgotten = this.#forgotten.filter(({ page }) => !isRevived(page));
  }

  /** The power fails: from now on a reader sees what is on the medium. */
  cutPower(fate: PowerCutFate): void {
    const reached = this.#reachedSectors(fate);
    const sectorsOfPage = PAGE_BYTES / SECTOR_BYTES;
    const reachedPages = new Set([...reached.keys()].map((sector) => Math.floor(sector / sectorsOfPage)));
    this.#reviveForgotten((page) => reachedPages.has(page));
    this.#forgotten = [];
    const torn = new Set<number>();
    let sizeBytes = this.#durableSizeBytes;
    for (const [index, write] of this.#unsynced.entries()) {
      const endBytes = write.offsetBytes + write.bytes.length;
      if (endBytes > sizeBytes && fate.keepsLength(write.sequence, this.id)) sizeBytes = endBytes;
      for (const sector of sectorsOf(write)) {
        const newest = reached.get(sector) ?? -1;
        if (index <= newest) this.#applySector(write, sector, SECTOR_BYTES);
        else if (!torn.has(sector)) {
          torn.add(sector); // only the version after the newest one can be torn; later ones never began to be written
          this.#applySector(write, sector, fate.tornBytes());
        }
      }
    }
    this.#durableSizeBytes = sizeBytes;
    this.#durable.fill(0, sizeBytes);
    this.#durable = put(this.#durable, new Uint8Array(0), sizeBytes);
    this.#current = this.#durable.slice();
    this.#sizeBytes = sizeBytes;
    this.#unsynced = [];
  }

  /** For each sector the index of the newest unsynced write to it that reached the medium. */
  #reachedSectors(fate: PowerCutFate): Map<number, number> {
    const reached = new Map<number, number>();
    for (const [index, write] of this.#unsynced.entries()) {
      for (const sector of sectorsOf(write)) {
        if (fate.keepsSector(write.sequence, this.id, sector)) reached.set(sector, index);
      }
    }
    return reached;
  }

  /** Puts the part of a write that lies in the first `limitBytes` of a sector on the medium. */
  #applySector(write: UnsyncedWrite, sector: number, limitBytes: number): void {
    const start = Math.max(write.offsetBytes, sector * SECTOR_BYTES);
    const end = Math.min(write.offsetBytes + write.bytes.length, sector * SECTOR_BYTES + limitBytes);
    if (end <= start) return;
    this.#durable = put(this.#durable, write.bytes.subarray(start - write.offsetBytes, end - write.offsetBytes), start);
  }
}

function isPageOf(write: UnsyncedWrite, page: number): boolean {
  return write.offsetBytes < (page + 1) * PAGE_BYTES && write.offsetBytes + write.bytes.length > page * PAGE_BYTES;
}

function* piecesOf(write: UnsyncedWrite): Generator<ForgottenPiece> {
  const endBytes = write.offsetBytes + write.bytes.length;
  for (let offset = write.offsetBytes; offset < endBytes; ) {
    const page = Math.floor(offset / PAGE_BYTES);
    const end = Math.min(endBytes, (page + 1) * PAGE_BYTES);
    yield { page, offsetBytes: offset, bytes: write.bytes.subarray(offset - write.offsetBytes, end - write.offsetBytes) };
    offset = end;
  }
}

function* sectorsOf(write: UnsyncedWrite): Generator<number> {
  const last = Math.floor((write.offsetBytes + write.bytes.length - 1) / SECTOR_BYTES);
  for (let sector = Math.floor(write.offsetBytes / SECTOR_BYTES); sector <= last; sector += 1) yield sector;
}

/** `buffer` with `bytes` at `offsetBytes`, grown with zeroes where that is needed. */
function put(buffer: Uint8Array<ArrayBuffer>, bytes: Uint8Array, offsetBytes: number): Uint8Array<ArrayBuffer> {
  const endBytes = offsetBytes + bytes.length;
  let target = buffer;
  if (endBytes > buffer.length) {
    target = new Uint8Array(Math.max(endBytes, Math.min(2 * buffer.length, buffer.length + (1 << 20))));
    target.set(buffer);
  }
  target.set(bytes, offsetBytes);
  return target;
}
