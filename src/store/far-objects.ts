/**
 * Objects that are in the bucket and not here, read by ranges into a sparse file `.far-NAME` that keeps what was fetched. An object of which all was
 * fetched gets its own name: it is an object of the directory then, as if it had been written here.
 *
 * What has been fetched is known in memory only: after a restart such files are dropped. So they are never synced, and no bitmap of them can be wrong.
 */
import { assert } from '../base/assert.ts';
import { WaitList } from '../base/async.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { File, FileSystem } from '../env/env.ts';
import type { StoredObject } from './object-store.ts';
import type { RemoteStore } from './remote-store.ts';

export const FAR_PREFIX = '.far-';

/** Bytes of an object that have just come. */
interface Fetched {
  readonly start: number;
  readonly bytes: Uint8Array;
}

/** So often a piece is fetched anew because its bytes fail their check: a bit that flips on the way does not flip again and again. */
const DOUBTS_MAX = 3;

/** What one object's fetching and keeping goes by. */
export interface FarOptions {
  readonly files: FileSystem;
  /** The volume's directory. */
  readonly directory: string;
  readonly remote: Pick<RemoteStore, 'getRange'>;
  /** The unit of fetching and of what is known to be here. */
  readonly pieceBytes: number;
  /** Most that is fetched in one request. */
  readonly requestBytes: number;
  readonly readAhead: ReadAhead;
  /** So many bytes of an object came. */
  readonly onFetched: (key: string, bytes: number) => void;
  /** Of those who read, all objects of a volume together. */
  readonly demand: FetchDemand;
  /** Somebody reads an object. */
  readonly onRead: (key: string) => void;
  /** All of an object is here, in the file at `path`, which may still be read: what it resolves to is called when it is closed. */
  readonly onWhole: (key: string, path: string) => Promise<() => void>;
}

/**
 * How far to read ahead. While reads go on where the last one ended, in one object or from the beginning of the next, the window doubles up to
 * its limit; a read elsewhere puts it back to nothing.
 */
export class ReadAhead {
  readonly #limitBytes: number;
  readonly #leastBytes: number;
  #bytes = 0;
  #key = '';
  #end = 0;

  constructor(leastBytes: number, limitBytes: number) {
    this.#leastBytes = leastBytes;
    this.#limitBytes = limitBytes;
  }

  /** Bytes worth fetching behind a read that is about to happen. */
  next(key: string, offsetBytes: number, lengthBytes: number): number {
    const goesOn = key === this.#key ? offsetBytes === this.#end : this.#bytes > 0;
    this.#bytes = goesOn ? Math.min(this.#limitBytes, Math.max(this.#leastBytes, 2 * this.#bytes)) : 0;
    this.#key = key;
    this.#end = offsetBytes + lengthBytes;
    return this.#bytes;
  }
}

/** Readers that wait for something of the bucket; what is fetched for nobody waits behind them. */
export class FetchDemand {
  readonly #quiet = new WaitList();
  #waiting = 0;

  async during<T>(fetching: Promise<T>): Promise<T> {
    this.#waiting += 1;
    try {
      return await fetching;
    } finally {
      this.#waiting -= 1;
      if (this.#waiting === 0) this.#quiet.wake();
    }
  }

  /** Resolves when nobody waits. */
  async idle(): Promise<void> {
    while (this.#waiting > 0) await this.#quiet.wait();
  }
}

/** The part of an object of the bucket that is here; shared by all who have it open. */
export class FarFile {
  readonly key: string;
  readonly sizeBytes: number;
  readonly #options: FarOptions;
  readonly #isHere: Uint8Array;
  readonly #fetching = new Map<number, Promise<Fetched>>();
  /** How often pieces were fetched anew. */
  readonly #doubts = new Map<number, number>();
  #missing: number;
  #file: Promise<File> | null = null;
  #settling: Promise<void> = Promise.resolve();
  #onClosed: () => void = () => undefined;
  #users = 0;
  #isDropped = false;
  /** All of it is in the directory: dropped, and yet kept. */
  #isRetired = false;

  constructor(key: string, sizeBytes: number, options: FarOptions) {
    this.key = key;
    this.sizeBytes = sizeBytes;
    this.#options = options;
    this.#missing = Math.ceil(sizeBytes / options.pieceBytes);
    this.#isHere = new Uint8Array(this.#missing);
  }

  /** Where the fetched bytes are kept. */
  get path(): string {
    const slash = this.key.indexOf('/');
    return `${this.#options.directory}/${this.key.slice(0, slash)}/${FAR_PREFIX}${this.key.slice(slash + 1)}`;
  }

  get isInUse(): boolean {
    return this.#users > 0;
  }

  open(): StoredObject {
    this.#users += 1;
    let isOpen = true;
    return {
      sizeBytes: this.sizeBytes,
      read: (target, offsetBytes) => {
        assert(isOpen, `${this.key} is read after its close`);
        return this.#read(target, offsetBytes);
      },
      doubt: (offsetBytes, lengthBytes) => this.#doubt(offsetBytes, lengthBytes),
      close: async () => {
        assert(isOpen, `${this.key} is closed twice`);
        isOpen = false;
        this.#users -= 1;
        if (this.#isDropped && this.#users === 0) await this.#close();
      },
    };
  }

  /** Forgets what is here and removes its file, at once for new readers; the last of those that have it open lets go of the memory. */
  async drop(): Promise<void> {
    if (this.#isDropped) return;
    this.#isDropped = true;
    const hadFile = this.#file !== null;
    if (this.#users === 0) await this.#close();
    if (hadFile) await this.#options.files.remove(this.path).catch(() => undefined); // it may have got its own name meanwhile; else the next opening removes it
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#fetching.values());
    await this.#settling;
    await this.#closeFile();
  }

  async #closeFile(): Promise<void> {
    const file = await this.#file?.catch(() => null);
    this.#file = null;
    await file?.close().catch(() => undefined); // what it holds can be fetched again
    const onClosed = this.#onClosed;
    this.#onClosed = () => undefined;
    onClosed();
  }

  /** Fetches what is missing, a request at a time and while nobody waits for one of his own; `onFetched` is told how far it is, in bytes. False: it was dropped, or is not kept here. */
  async fetchAll(onFetched: (bytes: number) => void): Promise<boolean> {
    const { pieceBytes, requestBytes, demand } = this.#options;
    const most = Math.max(1, Math.floor(requestBytes / pieceBytes));
    this.#users += 1;
    try {
      for (let piece = 0; piece < this.#isHere.length && !this.#isDropped; piece += most) {
        await demand.idle();
        const end = Math.min(this.#isHere.length, piece + most);
        await Promise.all(this.#want(piece, end - 1));
        onFetched(Math.min(this.sizeBytes, end * pieceBytes) - piece * pieceBytes);
      }
      await this.#settling;
      return this.#missing === 0 && (!this.#isDropped || this.#isRetired);
    } finally {
      this.#users -= 1;
      if (this.#isDropped && this.#users === 0) await this.#close();
    }
  }

  async #read(target: Uint8Array, offsetBytes: number): Promise<void> {
    const end = offsetBytes + target.length;
    if (end > this.sizeBytes) throw new VolumeError('corrupt', `${this.key}: ends at byte ${this.sizeBytes}, expected at least ${end}`);
    if (target.length === 0) return;
    const { pieceBytes, readAhead, onRead, demand } = this.#options;
    onRead(this.key);
    const first = Math.floor(offsetBytes / pieceBytes);
    const last = Math.floor((end - 1) / pieceBytes);
    const aheadBytes = readAhead.next(this.key, offsetBytes, target.length);
    const waits = this.#want(first, last);
    const furthest = Math.min(this.#isHere.length - 1, Math.floor((end - 1 + aheadBytes) / pieceBytes));
    // Nobody waits for what is read ahead: who reads it later finds that it failed.
    for (const ahead of this.#want(last + 1, furthest)) ahead.catch(() => undefined);
    await this.#fill(target, offsetBytes, waits.length === 0 ? [] : await demand.during(Promise.all(waits)));
  }

  /** From what has just come, and the rest from the file: on a full disk nothing is kept, and is served all the same. */
  async #fill(target: Uint8Array, offsetBytes: number, fetched: readonly Fetched[]): Promise<void> {
    const end = offsetBytes + target.length;
    let at = offsetBytes;
    for (const { start, bytes } of fetched.toSorted((a, b) => a.start - b.start)) {
      const from = Math.max(at, start);
      const to = Math.min(end, start + bytes.length);
      if (to <= from) continue;
      await this.#readKept(target.subarray(at - offsetBytes, from - offsetBytes), at);
      target.set(bytes.subarray(from - start, to - start), from - offsetBytes);
      at = to;
    }
    await this.#readKept(target.subarray(at - offsetBytes), at);
  }

  async #readKept(target: Uint8Array, offsetBytes: number): Promise<void> {
    if (target.length === 0) return;
    const file = await this.#openFile();
    const got = await file.read(target, offsetBytes).catch((error: unknown) => {
      throw toVolumeError(error, `reading ${this.path}`);
    });
    if (got !== target.length) throw new VolumeError('io-error', `${this.path} ends at byte ${offsetBytes + got}, expected at least ${offsetBytes + target.length}`);
  }

  /** Starts to fetch those of the pieces that are neither here nor on their way; all that are to be waited for. */
  #want(first: number, last: number): Promise<Fetched>[] {
    const { pieceBytes, requestBytes } = this.#options;
    const most = Math.max(1, Math.floor(requestBytes / pieceBytes));
    const waits = new Set<Promise<Fetched>>();
    for (let piece = first; piece <= last; ) {
      if (this.#isHere[piece] === 1) {
        piece += 1;
        continue;
      }
      const known = this.#fetching.get(piece);
      if (known !== undefined) {
        waits.add(known);
        piece += 1;
        continue;
      }
      let end = piece + 1;
      while (end <= last && end - piece < most && this.#isHere[end] === 0 && !this.#fetching.has(end)) end += 1;
      waits.add(this.#startFetching(piece, end));
      piece = end;
    }
    return [...waits];
  }

  #startFetching(first: number, end: number): Promise<Fetched> {
    const fetching = this.#fetch(first, end).finally(() => {
      for (let piece = first; piece < end; piece += 1) this.#fetching.delete(piece);
    });
    for (let piece = first; piece < end; piece += 1) this.#fetching.set(piece, fetching);
    return fetching;
  }

  async #fetch(first: number, end: number): Promise<Fetched> {
    const { pieceBytes, remote } = this.#options;
    const start = first * pieceBytes;
    const bytes = new Uint8Array(Math.min(end * pieceBytes, this.sizeBytes) - start);
    // A bucket that cannot be reached for a while is no reason to fail a client's read.
    await remote.getRange(this.key, bytes, start, { isPatient: true });
    await this.#keep(first, end, bytes).catch((error: unknown) => void toVolumeError(error, `keeping ${this.key}`)); // it is served without being kept, and fetched again; a broken assertion ends the process
    return { start, bytes };
  }

  async #keep(first: number, end: number, bytes: Uint8Array): Promise<void> {
    const { pieceBytes, onFetched } = this.#options;
    const file = await this.#openFile();
    await file.write([bytes], first * pieceBytes);
    if (this.#isDropped) return;
    for (let piece = first; piece < end; piece += 1) {
      if (this.#isHere[piece] === 1) continue;
      this.#isHere[piece] = 1;
      this.#missing -= 1;
    }
    onFetched(this.key, bytes.length);
    if (this.#missing === 0 && !this.#isDropped) this.#settling = this.#becomeWhole(file); // nobody waits for the disk
  }

  async #becomeWhole(file: File): Promise<void> {
    try {
      await file.sync();
      if (this.#isDropped) return; // another one may be at the same path
      this.#onClosed = await this.#options.onWhole(this.key, this.path);
      await this.#retire();
    } catch (error) {
      toVolumeError(error, `making ${this.key} whole`); // a broken assertion is thrown on
      // It stays what it was, a copy that goes with the process: no reader is worse off.
    }
  }

  /** New readers open the object of the directory: the last of those that have this one open lets go of the file. */
  async #retire(): Promise<void> {
    if (this.#isDropped) return; // who dropped it closes it
    this.#isRetired = true;
    this.#isDropped = true;
    if (this.#users > 0) return;
    await this.#closeFile();
  }

  /** Bytes that were read are not what they should be: those of the bucket may be. False: they were fetched again often enough. */
  #doubt(offsetBytes: number, lengthBytes: number): boolean {
    const { pieceBytes } = this.#options;
    const last = Math.floor((offsetBytes + Math.max(1, lengthBytes) - 1) / pieceBytes);
    let mayHelp = false;
    for (let piece = Math.floor(offsetBytes / pieceBytes); piece <= last; piece += 1) {
      const doubts = this.#doubts.get(piece) ?? 0;
      if (doubts === DOUBTS_MAX) continue;
      this.#doubts.set(piece, doubts + 1);
      mayHelp = true;
      if (this.#isHere[piece] === 0) continue;
      this.#isHere[piece] = 0;
      this.#missing += 1;
    }
    return mayHelp;
  }

  #openFile(): Promise<File> {
    this.#file ??= this.#options.files.open(this.path, 'create').catch((error: unknown) => {
      this.#file = null;
      throw toVolumeError(error, `making ${this.path}`);
    });
    return this.#file;
  }
}
