/**
 * A volume that is open for reading alone: it is damaged, or its disk is full. No file of it is changed. What its files cannot tell
 * for certain fails to be read (`corrupt`); what can be read is the newest there was.
 */
import type { Durability } from '../base/durability.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { ExtentList } from '../base/extent-list.ts';
import type { FileLock } from '../env/env.ts';
import type { BlockDevice, Completion } from './block-device.ts';
import { ExtentWalk } from './extent-walk.ts';
import type { LoggedBlock, LoggedBlocks } from './logged-blocks.ts';
import { ReadOnlyDevice, readingStats, readingStatus } from './read-only-device.ts';
import { ReadPath } from './read-path.ts';
import { type ScrubOptions, scrubOpen } from './scrub.ts';
import type { VolumeCore } from './volume-core.ts';
import type { ScrubReport, VolumeStats, VolumeStatus } from './volume-info.ts';

export interface ReadOnlyParts {
  /** Its map stands for the volume before the log, but for what the log's records empty. */
  readonly core: VolumeCore;
  /** Newest version of the blocks that the log's records write. */
  readonly logged: ReadonlyMap<number, LoggedBlock>;
  readonly log: LoggedBlocks;
  readonly lock: FileLock;
  /** Why it takes no writes; says what to do. */
  readonly reason: VolumeError;
}

/** Bytes of a read that stand together: in chunks (null), or in a record. */
interface ReadPart {
  readonly start: number;
  end: number;
  readonly logged: LoggedBlock | null;
}

export class ReadOnlyVolume extends ReadOnlyDevice implements BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly durability: Durability;
  /** Why it takes no writes. */
  readonly reason: VolumeError;
  /** It never took any: opened again it may. */
  readonly failure = null;
  readonly #parts: ReadOnlyParts;
  readonly #core: VolumeCore;
  readonly #reads: ReadPath;
  readonly #walk: ExtentWalk;
  #closing: Promise<void> | null = null;

  constructor(parts: ReadOnlyParts) {
    super();
    const { core } = parts;
    this.#parts = parts;
    this.#core = core;
    this.#reads = new ReadPath(core);
    this.#walk = new ExtentWalk(core, parts.logged);
    this.name = core.name;
    this.sizeBytes = core.manifest.sizeBytes;
    this.blockSizeBytes = core.blockSizeBytes;
    this.durability = core.manifest.durability;
    this.reason = parts.reason;
  }

  stats(): VolumeStats {
    return readingStats(this.#core);
  }

  status(): VolumeStatus {
    return readingStatus(this.stats(), this.reason);
  }

  #checkRead(offsetBytes: number, lengthBytes: number): void {
    if (this.#closing !== null) throw new VolumeError('closed', `volume ${this.name} is closed`);
    if (offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= this.sizeBytes) return;
    throw new VolumeError('out-of-range', `${lengthBytes} bytes at ${offsetBytes} reach past the end of volume ${this.name} (${this.sizeBytes} bytes)`);
  }

  readNow(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetStart: number): boolean {
    this.#checkRead(offsetBytes, lengthBytes);
    const isStored = this.#partsOf(offsetBytes, lengthBytes).every(({ logged }) => logged === null);
    return isStored && this.#reads.readNow(offsetBytes, lengthBytes, target, targetStart);
  }

  /** Nobody is in a hurry here: what is read is copied. */
  lend(offsetBytes: number, lengthBytes: number): null {
    this.#checkRead(offsetBytes, lengthBytes);
    return null;
  }

  async read(offsetBytes: number, target: Uint8Array, extents?: ExtentList): Promise<void> {
    this.#checkRead(offsetBytes, target.length);
    // Nothing changes here: what stands where is the same before and after.
    if (extents !== undefined) await this.#walk.run(offsetBytes, target.length, extents);
    for (const { start, end, logged } of this.#partsOf(offsetBytes, target.length)) {
      const piece = target.subarray(start, end);
      if (logged === null) await this.#readStored(offsetBytes + start, piece);
      else await this.#readLogged(logged, (offsetBytes + start) % this.blockSizeBytes, piece);
    }
  }

  async #readStored(offsetBytes: number, target: Uint8Array): Promise<void> {
    try {
      await this.#reads.read(offsetBytes, target);
    } catch (error) {
      // No chunk is removed while the volume is read only: one that is not there is damage.
      if (!(error instanceof VolumeError) || error.code !== 'not-found') throw error;
      throw new VolumeError('corrupt', `${error.message}; basalt check ${this.name} says more`, { cause: error, context: error.context });
    }
  }

  async #readLogged(logged: LoggedBlock, startInBlock: number, target: Uint8Array): Promise<void> {
    try {
      const { bytes } = await this.#parts.log.read(logged);
      target.set(bytes.subarray(startInBlock, startInBlock + target.length));
    } catch (error) {
      throw toVolumeError(error, `reading the log of volume ${this.name}`);
    }
    this.#core.counters.readBytes += target.length;
  }

  extentsNow(offsetBytes: number, lengthBytes: number, extents: ExtentList): boolean {
    this.#checkRead(offsetBytes, lengthBytes);
    return this.#walk.now(offsetBytes, lengthBytes, extents);
  }

  async extents(offsetBytes: number, lengthBytes: number, extents: ExtentList): Promise<void> {
    this.#checkRead(offsetBytes, lengthBytes);
    await this.#walk.run(offsetBytes, lengthBytes, extents);
  }

  #partsOf(offsetBytes: number, lengthBytes: number): ReadPart[] {
    const { logged } = this.#parts;
    if (logged.size === 0) return [{ start: 0, end: lengthBytes, logged: null }];
    const parts: ReadPart[] = [];
    let start = 0;
    while (start < lengthBytes) {
      const blockNumber = Math.floor((offsetBytes + start) / this.blockSizeBytes);
      const end = Math.min(lengthBytes, (blockNumber + 1) * this.blockSizeBytes - offsetBytes);
      const block = logged.get(blockNumber) ?? null;
      const last = parts.at(-1);
      if (block === null && last?.logged === null) last.end = end;
      else parts.push({ start, end, logged: block });
      start = end;
    }
    return parts;
  }

  async cache(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.#checkRead(offsetBytes, lengthBytes);
    await this.#reads.cache(offsetBytes, lengthBytes);
  }

  /** Reads all that is stored once; nothing is written anew. */
  async scrub(options: ScrubOptions): Promise<ScrubReport> {
    this.#checkRead(0, 0);
    return scrubOpen(this.#core, null, options);
  }

  protected refusal(): VolumeError {
    if (this.#closing !== null) return new VolumeError('closed', `volume ${this.name} is closed`);
    return new VolumeError('read-only', `volume ${this.name} is open for reading alone: ${this.reason.message}`, { cause: this.reason });
  }

  /** Nothing was written. */
  flushNow(completion: Completion): void {
    this.#checkRead(0, 0);
    completion.settle(null);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { log, lock } = this.#parts;
    this.#core.closed = true;
    await this.#core.reader.close();
    await log.close();
    this.#core.releaseMemory();
    await lock.release();
    this.#core.env.logger.log('info', 'volume-closed', { volume: this.name, ...this.stats() });
  }
}
