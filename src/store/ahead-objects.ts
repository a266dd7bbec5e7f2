/**
 * Whole objects of the bucket that are fetched before they are asked for, while a volume is read in sequence: one request each, several on their way, into a few buffers that are all the memory
 * this takes. Readers are served from the buffer while it holds the object. Behind them it is written into the directory, past the page cache, where the object is one as if it had been
 * written here: one at a time, and only what the disk has time for. A stream that comes faster than this disk writes takes the memory of what was read and still waits for that.
 * What fails here fails nobody: a reader who finds no bytes reads the object as everybody else does.
 */
import { assert } from '../base/assert.ts';
import { pageAligned } from '../base/aligned-memory.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import { type Clock, DIRECT_ALIGNMENT_BYTES, type Timer } from '../env/env.ts';
import type { DirectoryStore } from './directory-store.ts';
import type { StoredObject } from './object-store.ts';
import type { RemoteStore } from './remote-store.ts';

export interface AheadOptions {
  readonly local: DirectoryStore;
  readonly remote: Pick<RemoteStore, 'getRange'>;
  readonly clock: Pick<Clock, 'nowMs' | 'setTimer'>;
  /** Of all buffers together. */
  readonly memoryBytes: number;
  /** Of one of them: longer objects are not fetched ahead. */
  readonly objectBytes: number;
  /** Whether the directory should have the object. */
  readonly mayKeep: (key: string) => boolean;
  /** The directory has it. */
  readonly onKept: (key: string, sizeBytes: number) => void;
  /** Somebody reads it in memory: what is here of it is in use. */
  readonly onRead: (key: string) => void;
}

/** Of an object of which so much was read the rest is not waited for: blocks that died are never read. */
const READ_PART = 31 / 32;
/** What nobody has read for so long is not read ahead any more. */
const FORGOTTEN_MS = 30_000;

/** One object, fetched or on its way. */
class AheadObject {
  readonly key: string;
  readonly sizeBytes: number;
  /** The whole buffer; null: the bytes are not in memory (any more). */
  memory: Uint8Array | null;
  /** Settles when the bytes have come, or will not. */
  arrived: Promise<void> = Promise.resolve();
  /** It is being fetched or written: its memory is in use. */
  isBusy = false;
  hasArrived = false;
  /** Its bytes fail their check, or it was removed: it is not kept. */
  isUnwanted = false;
  readBytes = 0;
  lastUseMs: number;

  constructor(key: string, sizeBytes: number, memory: Uint8Array, nowMs: number) {
    this.key = key;
    this.sizeBytes = sizeBytes;
    this.memory = memory;
    this.lastUseMs = nowMs;
  }

  get bytes(): Uint8Array | null {
    return this.hasArrived && !this.isUnwanted ? (this.memory?.subarray(0, this.sizeBytes) ?? null) : null;
  }
}

export class AheadObjects {
  readonly #options: AheadOptions;
  readonly #objects = new Map<string, AheadObject>();
  readonly #free: Uint8Array[] = [];
  readonly #running = new Set<Promise<void>>();
  /** Objects that have come and wait to be written, the first one first. */
  readonly #toKeep = new Set<AheadObject>();
  /** One is being written, or the disk is left alone for a while. */
  #isKeeping = false;
  #resting: Timer | null = null;
  #buffersLeft: number;
  /** Null: there is nothing that could be forgotten. */
  #forgetting: Timer | null = null;
  #isClosed = false;

  constructor(options: AheadOptions) {
    this.#options = options;
    this.#buffersLeft = Math.floor(options.memoryBytes / options.objectBytes);
  }

  has(key: string): boolean {
    return this.#objects.has(key);
  }

  /** Buffers that are there, used or not. */
  get bufferCount(): number {
    return Math.floor(this.#options.memoryBytes / this.#options.objectBytes) - this.#buffersLeft;
  }

  /** Starts to fetch an object of the bucket that is not here. False: there is no memory for it now. */
  begin(key: string, sizeBytes: number): boolean {
    if (this.#isClosed || this.has(key) || sizeBytes > this.#options.objectBytes) return true;
    const memory = this.#takeBuffer();
    if (memory === null) return false;
    const object = new AheadObject(key, sizeBytes, memory, this.#options.clock.nowMs());
    this.#objects.set(key, object);
    this.#forgetting ??= this.#forgetLater();
    object.arrived = this.#get(object, memory.subarray(0, sizeBytes));
    this.#run(object, object.arrived, () => {
      if (object.bytes !== null) this.#toKeep.add(object);
    });
    return true;
  }

  /** Something that uses an object's memory. */
  #run(object: AheadObject, work: Promise<void>, onDone: () => void): void {
    object.isBusy = true;
    const running = work.finally(() => {
      object.isBusy = false;
      this.#running.delete(running);
      onDone();
      if (object.isUnwanted) this.#release(object);
      this.#keepNext();
    });
    this.#running.add(running);
  }

  #keepNext(): void {
    const next = this.#toKeep.values().next().value;
    if (next === undefined || this.#isKeeping || this.#isClosed) return;
    this.#toKeep.delete(next);
    this.#isKeeping = true;
    const { clock } = this.#options;
    const startMs = clock.nowMs();
    this.#run(next, this.#keep(next), () => {
      // More comes than this disk writes: it is left to others, the log among them, for half of the time.
      if (this.#toKeep.size > 0 && !this.#isClosed) this.#resting = clock.setTimer(clock.nowMs() - startMs, () => this.#keepOn());
      else this.#isKeeping = false;
    });
  }

  #keepOn(): void {
    this.#isKeeping = false;
    this.#keepNext();
  }

  #takeBuffer(): Uint8Array | null {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#buffersLeft > 0) {
      this.#buffersLeft -= 1;
      return pageAligned(this.#options.objectBytes);
    }
    const waits = (object: AheadObject): number => Number(this.#toKeep.has(object));
    const spent = [...this.#objects.values()].filter((object) => this.#isSpent(object)).toSorted((a, b) => waits(a) - waits(b) || a.lastUseMs - b.lastUseMs)[0];
    if (spent === undefined) return null;
    this.#release(spent);
    return this.#free.pop() ?? null;
  }

  /** What nobody reads any more goes, and when nothing is left all memory with it. */
  #forgetLater(): Timer {
    const { clock } = this.#options;
    return clock.setTimer(FORGOTTEN_MS, () => {
      for (const object of [...this.#objects.values()]) if (!object.isBusy && clock.nowMs() - object.lastUseMs >= FORGOTTEN_MS) this.#release(object);
      // What was dropped while it was on its way gives its memory back later.
      this.#forgetting = this.#objects.size === 0 && this.#running.size === 0 ? null : this.#forgetLater();
      if (this.#forgetting === null) this.#buffersLeft += this.#free.splice(0).length;
    });
  }

  #isSpent({ isBusy, readBytes, sizeBytes, lastUseMs }: AheadObject): boolean {
    return !isBusy && (readBytes >= sizeBytes * READ_PART || this.#options.clock.nowMs() - lastUseMs >= FORGOTTEN_MS);
  }

  /** From now on its readers go elsewhere. */
  #release(object: AheadObject): void {
    assert(!object.isBusy, `the memory of ${object.key} is in use`);
    if (this.#objects.get(object.key) === object) this.#objects.delete(object.key);
    this.#toKeep.delete(object);
    if (object.memory !== null) this.#free.push(object.memory);
    object.memory = null;
  }

  async #get(object: AheadObject, target: Uint8Array): Promise<void> {
    try {
      await this.#options.remote.getRange(object.key, target, 0);
      object.hasArrived = true;
    } catch (error) {
      toVolumeError(error, `fetching ${object.key}`); // a broken assertion is thrown on; else who reads it asks again, and is told
      object.isUnwanted = true;
    }
  }

  async #keep(object: AheadObject): Promise<void> {
    const { bytes, key } = object;
    if (bytes === null || !this.#options.mayKeep(key)) return;
    try {
      await this.#write(object, bytes);
    } catch (error) {
      toVolumeError(error, `keeping ${key}`); // it is served from memory, and fetched again; a broken assertion is thrown on
    }
  }

  async #write(object: AheadObject, bytes: Uint8Array): Promise<void> {
    const { local, mayKeep, onKept } = this.#options;
    const { key } = object;
    const isWanted = (): boolean => !object.isUnwanted && mayKeep(key);
    const staged = await local.stage(key, bytes.length);
    try {
      const aligned = bytes.length - (bytes.length % DIRECT_ALIGNMENT_BYTES);
      if (aligned > 0) await staged.appendUncached([bytes.subarray(0, aligned)]);
      if (aligned < bytes.length) await staged.append([bytes.subarray(aligned)]);
      await staged.seal();
      if (isWanted()) {
        await staged.rename();
        if (isWanted()) return onKept(key, bytes.length); // in the same turn: who removes it sees that it is here
        await local.remove(key); // it went meanwhile
      }
    } catch (error) {
      await staged.abandon().catch(() => undefined); // the first error counts; the next opening removes it
      throw error;
    }
    await staged.abandon();
  }

  /** An object that is on its way, or in memory, as one to read from; `elsewhere` opens it for the time when it is not any more. Null: it is none of these. */
  open(key: string, elsewhere: () => Promise<StoredObject>): StoredObject | null {
    const object = this.#objects.get(key);
    return object === undefined || object.isUnwanted ? null : new AheadReader(object, { elsewhere, onRead: () => this.#noteRead(object), drop: () => this.#drop(object) });
  }

  #noteRead(object: AheadObject): void {
    object.lastUseMs = this.#options.clock.nowMs();
    this.#options.onRead(object.key);
  }

  /** It is removed: what is on its way here of it is not kept. */
  forget(key: string): void {
    const object = this.#objects.get(key);
    if (object !== undefined) this.#drop(object);
  }

  #drop(object: AheadObject): void {
    object.isUnwanted = true;
    if (this.#objects.get(object.key) === object) this.#objects.delete(object.key);
    if (!object.isBusy) this.#release(object);
  }

  /** Nothing is fetched any more; resolves when nothing is under way. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#forgetting?.cancel();
    this.#resting?.cancel();
    await Promise.all(this.#running);
  }
}

interface ReaderNeeds {
  readonly elsewhere: () => Promise<StoredObject>;
  /** It was read in memory. */
  readonly onRead: () => void;
  /** The bytes are not what they should be. */
  readonly drop: () => void;
}

class AheadReader implements StoredObject {
  readonly #object: AheadObject;
  readonly #needs: ReaderNeeds;
  #opening: Promise<StoredObject> | null = null;
  #elsewhere: StoredObject | null = null;

  constructor(object: AheadObject, needs: ReaderNeeds) {
    this.#object = object;
    this.#needs = needs;
  }

  get sizeBytes(): number {
    return this.#object.sizeBytes;
  }

  async read(target: Uint8Array, offsetBytes: number): Promise<void> {
    const object = this.#object;
    const end = offsetBytes + target.length;
    if (end > object.sizeBytes) throw new VolumeError('corrupt', `${object.key}: ends at byte ${object.sizeBytes}, expected at least ${end}`);
    if (!object.hasArrived) await object.arrived;
    const { bytes } = object;
    if (bytes === null) return (await this.#other()).read(target, offsetBytes);
    target.set(bytes.subarray(offsetBytes, end));
    object.readBytes += target.length;
    this.#needs.onRead();
  }

  async #other(): Promise<StoredObject> {
    this.#opening ??= this.#needs.elsewhere().catch((error: unknown) => {
      this.#opening = null; // the next read tries again
      throw error;
    });
    this.#elsewhere = await this.#opening;
    return this.#elsewhere;
  }

  doubt(offsetBytes: number, lengthBytes: number): boolean {
    if (this.#elsewhere !== null) return this.#elsewhere.doubt?.(offsetBytes, lengthBytes) ?? false;
    if (this.#object.isUnwanted) return false;
    this.#needs.drop();
    return true;
  }

  async close(): Promise<void> {
    const opened = await this.#opening?.catch(() => null);
    await opened?.close();
  }
}
