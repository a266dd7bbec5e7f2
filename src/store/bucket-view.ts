/**
 * Objects as a tool reads them that looks at a volume: those of a bucket, or what is here with those of the bucket behind it. Nothing is written, here or there; what was fetched is
 * kept in memory, as long as there is room for it.
 */
import { VolumeError } from '../base/errors.ts';
import type { ObjectSource, StoredObject } from './object-store.ts';
import type { RemoteStore } from './remote-store.ts';

/** What is fetched of an object that is read in small parts: a header, tables, pages of a block map. */
const PIECE_BYTES = 256 * 1024;
const PIECES_MAX = 256;
/** So often an object is read anew because its bytes fail their check: a bit that flips on the way does not flip again and again. */
const DOUBTS_MAX = 2;

/** A bucket, as it was listed. */
export class BucketView implements ObjectSource {
  readonly #remote: Pick<RemoteStore, 'getRange'>;
  readonly #sizes: ReadonlyMap<string, number>;
  readonly #doubts = new Map<string, number>();
  /** By object and place, least recently used first. */
  readonly #pieces = new Map<string, Uint8Array>();

  /** `sizes`: of the objects that count, by their keys. */
  constructor(remote: Pick<RemoteStore, 'getRange'>, sizes: ReadonlyMap<string, number>) {
    this.#remote = remote;
    this.#sizes = sizes;
  }

  has(key: string): boolean {
    return this.#sizes.has(key);
  }

  list(folder: string): Promise<string[]> {
    const names = [...this.#sizes.keys()].filter((key) => key.startsWith(`${folder}/`)).map((key) => key.slice(folder.length + 1));
    return Promise.resolve(names.toSorted());
  }

  open(key: string): Promise<StoredObject> {
    const sizeBytes = this.#sizes.get(key);
    if (sizeBytes === undefined) return Promise.reject(new VolumeError('not-found', `${key} is not in the bucket`));
    return Promise.resolve({
      sizeBytes,
      read: (target, offsetBytes) => this.#read(key, sizeBytes, target, offsetBytes),
      doubt: () => this.doubt(key),
      close: () => Promise.resolve(),
    });
  }

  /** Bytes of an object fail their check. Whether to read them once more. */
  doubt(key: string): boolean {
    for (const name of this.#pieces.keys()) if (name.startsWith(`${key}:`)) this.#pieces.delete(name);
    const doubts = (this.#doubts.get(key) ?? 0) + 1;
    this.#doubts.set(key, doubts);
    return this.has(key) && doubts <= DOUBTS_MAX;
  }

  async #read(key: string, sizeBytes: number, target: Uint8Array, offsetBytes: number): Promise<void> {
    const end = offsetBytes + target.length;
    if (offsetBytes < 0 || end > sizeBytes) throw new VolumeError('corrupt', `${key}: ends at byte ${sizeBytes}, expected at least ${end}`);
    if (target.length >= PIECE_BYTES) return this.#remote.getRange(key, target, offsetBytes);
    for (let at = offsetBytes; at < end; ) {
      const start = at - (at % PIECE_BYTES);
      const piece = await this.#piece(key, start, Math.min(PIECE_BYTES, sizeBytes - start));
      const part = piece.subarray(at - start, Math.min(piece.length, end - start));
      target.set(part, at - offsetBytes);
      at += part.length;
    }
  }

  async #piece(key: string, start: number, lengthBytes: number): Promise<Uint8Array> {
    const name = `${key}:${start}`;
    const piece = this.#pieces.get(name) ?? new Uint8Array(lengthBytes);
    if (!this.#pieces.delete(name)) await this.#remote.getRange(key, piece, start);
    this.#pieces.set(name, piece);
    for (const oldest of this.#pieces.keys()) {
      if (this.#pieces.size <= PIECES_MAX) break;
      this.#pieces.delete(oldest);
    }
    return piece;
  }
}

/** What is here, and behind it what is in the bucket alone. */
export class TieredView implements ObjectSource {
  readonly #local: ObjectSource;
  readonly #bucket: BucketView;
  /** Read in the bucket though they are here. */
  readonly #distrusted: ReadonlySet<string>;

  constructor(local: ObjectSource, bucket: BucketView, distrusted: ReadonlySet<string>) {
    this.#local = local;
    this.#bucket = bucket;
    this.#distrusted = distrusted;
  }

  async list(folder: string): Promise<string[]> {
    return [...new Set([...(await this.#local.list(folder)), ...(await this.#bucket.list(folder))])].toSorted();
  }

  async open(key: string): Promise<StoredObject> {
    if (this.#distrusted.has(key)) return this.#bucket.open(key);
    try {
      return await this.#local.open(key);
    } catch (error) {
      if (error instanceof VolumeError && error.code === 'not-found' && this.#bucket.has(key)) return this.#bucket.open(key);
      throw error;
    }
  }
}
