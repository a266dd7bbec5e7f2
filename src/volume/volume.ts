/** An open volume: admission of requests, and what they wait for. The work is done by the parts (see `volume-core.ts`). */
import { SerialQueue, deferred } from '../base/async.ts';
import type { VolumeCompression } from '../base/compression.ts';
import type { Durability } from '../base/durability.ts';
import { ExtentList } from '../base/extent-list.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { FileLock } from '../env/env.ts';
import type { LogWriter } from '../wal/log-writer.ts';
import type { Admission, BlockDevice, Completion, ReadLoan, ZeroOptions } from './block-device.ts';
import { type AttachedRemote, detachRemote } from './attach-remote.ts';
import { changeCompression } from './change-compression.ts';
import { changeDurability } from './change-durability.ts';
import type { Checkpointer } from './checkpointer.ts';
import type { Compactor } from './compactor.ts';
import type { Flusher } from './flusher.ts';
import { ExtentWalk } from './extent-walk.ts';
import type { LogWriting } from './log-way.ts';
import { ReadPath } from './read-path.ts';
import { RemoteFlush } from './remote-flush.ts';
import { type StoredRange, resizeVolume, storedIn } from './resize.ts';
import { type ScrubOptions, scrubOpen } from './scrub.ts';
import type { VolumeCore } from './volume-core.ts';
import type { ScrubReport, AtRisk, DataAtRisk, VolumeStats, VolumeStatus } from './volume-info.ts';
import { shippingOf, wearOf } from './volume-status.ts';
import { type EdgeBlock, type EdgeBlocks, NO_EDGES, type WritePath } from './write-path.ts';

/** Zeroes that keep their space take memory for each leaf: 100 MiB for a range of this size. An extended header can ask for any. */
const PROVISIONED_BYTES_MAX = 2 ** 40;
/** Of a range that is looked through. */
const EXTENTS_AT_ONCE = 4096;

export interface VolumeParts {
  readonly core: VolumeCore;
  readonly writes: WritePath;
  readonly flusher: Flusher;
  readonly checkpointer: Checkpointer;
  readonly compactor: Compactor;
  readonly log: LogWriter;
  readonly logWriting: LogWriting;
  readonly lock: FileLock;
  /** Closes the log's files. */
  readonly closeFiles: () => Promise<void>;
  readonly remote: AttachedRemote | null;
  readonly recoveredLsn: number;
}

export class Volume implements BlockDevice {
  readonly name: string;
  readonly blockSizeBytes: number;
  readonly readOnly = false;
  /** Last LSN of the state that the volume was opened with. */
  readonly recoveredLsn: number;
  readonly #parts: VolumeParts;
  readonly #core: VolumeCore;
  readonly #writes: WritePath;
  readonly #log: LogWriter;
  readonly #reads: ReadPath;
  readonly #walk: ExtentWalk;
  readonly #stopListening: (() => void)[];
  /** Null: flushes are for the disk here. */
  readonly #remoteFlush: RemoteFlush | null;
  readonly #resizes = new SerialQueue();
  #durability: Durability;
  #submitQueued = false;
  #closing: Promise<void> | null = null;

  constructor(parts: VolumeParts) {
    this.#parts = parts;
    this.#core = parts.core;
    this.#writes = parts.writes;
    this.#log = parts.log;
    this.#reads = new ReadPath(parts.core);
    this.#walk = new ExtentWalk(parts.core);
    this.name = parts.core.name;
    this.blockSizeBytes = parts.core.blockSizeBytes;
    this.recoveredLsn = parts.recoveredLsn;
    this.#durability = parts.core.manifest.durability;
    this.#remoteFlush = parts.remote?.access.settings.flushTarget === 'remote' ? RemoteFlush.of(parts.core, parts.flusher) : null;
    const { arena, room } = parts.core;
    this.#stopListening = [arena.onRoom(() => room.wake()), arena.onPressure(() => parts.flusher.makeRoom())];
  }

  /** It may change: `resize`. */
  get sizeBytes(): number {
    return this.#core.manifest.sizeBytes;
  }

  get durability(): Durability {
    return this.#durability;
  }

  get compression(): VolumeCompression {
    return this.#core.manifest.compression;
  }

  /** LSN of the newest accepted record. */
  get lastLsn(): number {
    return this.#log.lastLsn;
  }

  get durableLsn(): number {
    return this.#log.durableLsn;
  }

  /** Why the volume takes no more writes, for good; null while it does. */
  get failure(): VolumeError | null {
    return this.#core.failure;
  }

  stats(): VolumeStats {
    const { counters, catalogue, store } = this.#core;
    const space = { liveBytes: catalogue.liveBlocks * this.blockSizeBytes, liveStoredBytes: catalogue.liveStoredBytes, storedChunkBytes: catalogue.objectBytes, spareBytes: store.spareBytes };
    return { ...counters, ...this.#log.stats, ...space, ...this.#core.memory };
  }

  /** What a power cut, or the loss of the log, would take now. */
  atRisk(): AtRisk {
    const nowMs = this.#core.env.clock.nowMs();
    const risk = ({ blockCount, sinceMs }: { readonly blockCount: number; readonly sinceMs: number }): DataAtRisk =>
      ({ bytes: blockCount * this.blockSizeBytes, ageMs: Math.max(0, nowMs - sinceMs) });
    return { unsynced: risk(this.#log.unsynced), unchunked: risk(this.#parts.flusher.unchunked) };
  }

  status(): VolumeStatus {
    const { remote } = this.#parts;
    const stats = this.stats();
    return { atRisk: this.atRisk(), wear: wearOf(stats), stats, failure: this.failure?.message ?? null, logWay: this.#parts.logWriting.wayIn(this.#durability), logCompressing: this.#log.isCompressing, readOnly: null, shipping: shippingOf(this.#core, this.#log), bucketRequests: remote === null ? null : { ...remote.remote.counters }, following: null };
  }

  /**
   * Changes the mode. On return it stands in the manifest and holds for all later writes, and everything accepted before is
   * durable. Errors: as `changeDurability`, `closed`, `failed`.
   */
  async setDurability(durability: Durability): Promise<void> {
    const { core, flusher } = this.#parts;
    await changeDurability({
      core,
      flusher,
      durability,
      check: () => this.#checkWritable(),
      apply: (waiter) => {
        this.#durability = durability;
        this.#log.setDurability(durability, waiter);
      },
    });
    core.env.logger.log('info', 'durability-changed', { volume: this.name, durability });
  }

  /**
   * Changes whether new chunks are compressed. On return it stands in the manifest and holds for every chunk that is begun from now on; older ones
   * follow as compaction rewrites them. Errors: as `changeCompression`, `closed`, `failed`.
   */
  async setCompression(compression: VolumeCompression): Promise<void> {
    const { core, flusher, compactor } = this.#parts;
    await changeCompression({ core, flusher, check: () => this.#checkWritable() }, compression);
    compactor.formChanged();
    core.env.logger.log('info', 'compression-changed', { volume: this.name, compression, chunkCompress: core.chunkCompress });
  }

  /** Makes it larger, or cuts off its end; see `resizeVolume`. Requests that reach past the end are refused from that moment on. */
  async resize(sizeBytes: number): Promise<void> {
    const { core, flusher, checkpointer } = this.#parts;
    const trim = (offsetBytes: number, lengthBytes: number): Promise<void> =>
      this.#admitted((completion) => {
        this.#checkWritable();
        return this.#trim(offsetBytes, lengthBytes, false, completion);
      }, () => Promise.resolve());
    const trimDurably = async (offsetBytes: number, lengthBytes: number): Promise<void> => {
      await trim(offsetBytes, lengthBytes);
      await this.#forceLog();
    };
    await this.#resizes.run(() => resizeVolume({ core, flusher, sizeBytes, check: () => this.#checkWritable(), trim, trimDurably, makeChunks: () => flusher.drain(), checkpoint: (sizes) => checkpointer.resize(sizes) }));
  }

  /** What stands from a byte on to the end. Errors: as `extents`. */
  storedBehind(offsetBytes: number): Promise<StoredRange> {
    return storedIn(offsetBytes, this.sizeBytes, async (start, lengthBytes) => {
      const extents = new ExtentList('content', EXTENTS_AT_ONCE);
      await this.extents(start, lengthBytes, extents);
      return extents;
    });
  }

  /** Everything accepted so far is durable on return, in any mode. */
  #forceLog(): Promise<void> {
    return new Promise<void>((resolve, reject) => this.#log.force({ settle: (error) => (error === null ? resolve() : reject(error)) }));
  }

  /** Reads all that is stored once; see `scrubOpen`. */
  async scrub(options: ScrubOptions): Promise<ScrubReport> {
    this.#checkOpen();
    const { flusher, checkpointer } = this.#parts;
    return scrubOpen(this.#core, { device: this, flusher, checkpointer }, options);
  }

  /** The largest write that can fit at once; what failed volumes hold of the arena makes it smaller. */
  get #maxBlocksAtOnce(): number {
    const { arena, chunkBlocks } = this.#core;
    return Math.max(1, Math.min(this.#log.maxBlocksAtOnce, (arena.dirtyLimit - 1) * chunkBlocks));
  }

  #checkRange(offsetBytes: number, lengthBytes: number): void {
    if (offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= this.sizeBytes) return;
    throw new VolumeError('out-of-range', `${lengthBytes} bytes at ${offsetBytes} reach past the end of volume ${this.name} (${this.sizeBytes} bytes)`);
  }

  #checkOpen(): void {
    if (this.#closing !== null) throw new VolumeError('closed', `volume ${this.name} is closed`);
  }

  #checkWritable(): void {
    this.#checkOpen();
    const trouble = this.#core.failure ?? this.#log.trouble;
    if (trouble !== null && !this.#core.waitsForBucket(trouble)) throw trouble;
  }

  readNow(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetStart: number): boolean {
    this.#checkOpen();
    this.#checkRange(offsetBytes, lengthBytes);
    return this.#reads.readNow(offsetBytes, lengthBytes, target, targetStart);
  }

  lend(offsetBytes: number, lengthBytes: number): ReadLoan | null {
    this.#checkOpen();
    this.#checkRange(offsetBytes, lengthBytes);
    return this.#reads.lend(offsetBytes, lengthBytes);
  }

  async read(offsetBytes: number, target: Uint8Array, extents?: ExtentList): Promise<void> {
    this.#checkOpen();
    this.#checkRange(offsetBytes, target.length);
    await this.#reads.read(offsetBytes, target, extents);
  }

  extentsNow(offsetBytes: number, lengthBytes: number, extents: ExtentList): boolean {
    this.#checkOpen();
    this.#checkRange(offsetBytes, lengthBytes);
    return this.#walk.now(offsetBytes, lengthBytes, extents);
  }

  async extents(offsetBytes: number, lengthBytes: number, extents: ExtentList): Promise<void> {
    this.#checkOpen();
    this.#checkRange(offsetBytes, lengthBytes);
    await this.#walk.run(offsetBytes, lengthBytes, extents);
  }

  async cache(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.#checkOpen();
    this.#checkRange(offsetBytes, lengthBytes);
    await this.#reads.cache(offsetBytes, lengthBytes);
  }

  writeNow(offsetBytes: number, lengthBytes: number, source: Uint8Array, sourceStart: number, fua: boolean, completion: Completion): Admission {
    return this.#tryWrite(offsetBytes, lengthBytes, source, sourceStart, fua, completion, NO_EDGES);
  }

  #blocksTouched(offsetBytes: number, lengthBytes: number): number {
    return Math.floor((offsetBytes + lengthBytes - 1) / this.blockSizeBytes) - Math.floor(offsetBytes / this.blockSizeBytes) + 1;
  }

  #tryWrite(offsetBytes: number, lengthBytes: number, source: Uint8Array, sourceStart: number, fua: boolean, completion: Completion, edges: EdgeBlocks): Admission {
    this.#checkWritable();
    this.#checkRange(offsetBytes, lengthBytes);
    const blockCount = this.#blocksTouched(offsetBytes, lengthBytes);
    if (blockCount > this.#maxBlocksAtOnce) return 'partial';
    // A volume whose disk is full may just have lent its memory, and less fits at once than before: nobody would wake who waited for more.
    if (!this.#hasRoom(blockCount, blockCount)) return blockCount > this.#maxBlocksAtOnce ? 'partial' : 'full';
    if (!this.#writes.prepareWrite(offsetBytes, lengthBytes, edges)) return 'partial';
    const lsn = this.#writes.write(offsetBytes, lengthBytes, source, sourceStart);
    this.#core.counters.writtenBytes += lengthBytes;
    this.#acknowledge(lsn, fua, completion);
    return 'accepted';
  }

  /** Whether `slots` blocks and records for `blocks` fit; if not, what is dirty is hurried, and a full disk is an error. */
  #hasRoom(slots: number, blocks: number): boolean {
    // What takes no space goes on.
    if (slots > 0 && this.#core.pressure?.admits() === false) return false;
    if (this.#writes.hasRoom(slots) && this.#log.hasRoom(blocks)) return true;
    const stall = this.#core.storeStall;
    if (stall !== null && !this.#core.waitsForBucket(stall)) throw stall;
    this.#writes.checkMemory(slots);
    this.#core.arena.requestRoom();
    // A volume whose disk is full lends its memory within the call.
    return this.#writes.hasRoom(slots) && this.#log.hasRoom(blocks);
  }

  /** Settles a request whose last record is `lsn` when the durability mode allows it. */
  #acknowledge(lsn: number, fua: boolean, completion: Completion): void {
    this.#core.shipper?.wrote();
    if (this.#durability === 'async' || lsn === 0) completion.settle(null);
    else if (fua && this.#remoteFlush !== null) this.#remoteFlush.add(completion);
    else if (fua || this.#durability === 'strict') this.#log.whenDurable(lsn, completion);
    else this.#log.whenWritten(lsn, completion);
  }

  async write(offsetBytes: number, source: Uint8Array, fua: boolean): Promise<void> {
    this.#checkWritable();
    this.#checkRange(offsetBytes, source.length);
    // What can never fit at once goes in parts; each of them changes the volume at once.
    let done = 0;
    while (done < source.length) {
      const most = Math.max(1, this.#maxBlocksAtOnce - 1) * this.blockSizeBytes;
      // A cut within a block would make two records of it, and between them a block that is half new.
      const length = Math.min(source.length - done, most - ((offsetBytes + done) % this.blockSizeBytes));
      if (await this.#writePart(offsetBytes + done, source.subarray(done, done + length), fua)) done += length;
    }
  }

  /** False if what fits at once became less while it waited for room: nothing was written. */
  async #writePart(offsetBytes: number, source: Uint8Array, fua: boolean): Promise<boolean> {
    const edges = new Map<number, EdgeBlock>();
    let fits = true;
    await this.#admitted(
      (completion) => {
        fits = this.#blocksTouched(offsetBytes, source.length) <= this.#maxBlocksAtOnce;
        if (fits) return this.#tryWrite(offsetBytes, source.length, source, 0, fua, completion, edges);
        completion.settle(null);
        return 'accepted';
      },
      () => this.#readEdges(offsetBytes, source.length, edges),
    );
    return fits;
  }

  /** Repeats `attempt` until it is accepted, waiting for room or reading what it needs in between; resolves when it is settled. */
  async #admitted(attempt: (completion: Completion) => Admission, readEdges: () => Promise<void>): Promise<void> {
    const settled = deferred<void>();
    const completion: Completion = { settle: (error) => (error === null ? settled.resolve() : settled.reject(error)) };
    let admission = attempt(completion);
    while (admission !== 'accepted') {
      // Called in this turn: room that comes back in the next one is not missed.
      if (admission === 'full') await this.whenAdmitting();
      // What was read for the attempt stays in memory until it was made.
      const release = this.#core.map.hold();
      try {
        if (admission === 'partial') await readEdges();
        admission = attempt(completion);
      } finally {
        release();
      }
    }
    this.#submitSoon();
    await settled.promise;
  }

  /** Reads the blocks at both ends of a range from their chunks, if they are stored. */
  async #readEdges(offsetBytes: number, lengthBytes: number, edges: Map<number, EdgeBlock>): Promise<void> {
    edges.clear();
    const last = offsetBytes + lengthBytes - 1;
    for (const blockNumber of new Set([Math.floor(offsetBytes / this.blockSizeBytes), Math.floor(last / this.blockSizeBytes)])) {
      const edge = await this.#reads.readEdge(blockNumber);
      if (edge !== null) edges.set(blockNumber, edge);
    }
  }

  zeroNow(offsetBytes: number, lengthBytes: number, options: ZeroOptions, completion: Completion): Admission {
    return this.#tryZero(offsetBytes, lengthBytes, options, completion, NO_EDGES);
  }

  #tryZero(offsetBytes: number, lengthBytes: number, options: ZeroOptions, completion: Completion, edges: EdgeBlocks): Admission {
    this.#checkWritable();
    this.#checkRange(offsetBytes, lengthBytes);
    if (options.provisioned && lengthBytes > PROVISIONED_BYTES_MAX) {
      throw new VolumeError('no-space', `${lengthBytes} bytes of zeroes cannot keep their space: at most ${PROVISIONED_BYTES_MAX} at once`);
    }
    // At most the blocks at both ends take slots; with the range between them that is three records.
    if (!this.#hasRoom(2, 3)) return 'full';
    if (!this.#writes.prepareWrite(offsetBytes, lengthBytes, edges)) return 'partial';
    const lsn = this.#writes.zeroBytes(offsetBytes, lengthBytes, options.provisioned);
    this.#core.counters.zeroedBytes += lengthBytes;
    this.#acknowledge(lsn, options.fua, completion);
    return 'accepted';
  }

  async zero(offsetBytes: number, lengthBytes: number, options: ZeroOptions): Promise<void> {
    const edges = new Map<number, EdgeBlock>();
    await this.#admitted(
      (completion) => this.#tryZero(offsetBytes, lengthBytes, options, completion, edges),
      () => this.#readEdges(offsetBytes, lengthBytes, edges),
    );
  }

  trimNow(offsetBytes: number, lengthBytes: number, fua: boolean, completion: Completion): Admission {
    this.#checkWritable();
    this.#checkRange(offsetBytes, lengthBytes);
    return this.#trim(offsetBytes, lengthBytes, fua, completion);
  }

  /** Also behind the end. */
  #trim(offsetBytes: number, lengthBytes: number, fua: boolean, completion: Completion): Admission {
    const first = Math.ceil(offsetBytes / this.blockSizeBytes);
    const blockCount = Math.floor((offsetBytes + lengthBytes) / this.blockSizeBytes) - first;
    if (blockCount > 0 && !this.#hasRoom(0, 1)) return 'full';
    const lsn = blockCount > 0 ? this.#writes.zero(first, blockCount, false) : 0;
    this.#core.counters.zeroedBytes += Math.max(0, blockCount) * this.blockSizeBytes;
    this.#acknowledge(lsn, fua, completion);
    return 'accepted';
  }

  async trim(offsetBytes: number, lengthBytes: number, fua: boolean): Promise<void> {
    await this.#admitted((completion) => this.trimNow(offsetBytes, lengthBytes, fua, completion), () => Promise.resolve());
  }

  flushNow(completion: Completion): void {
    this.#checkOpen();
    // Reads go on after a failure, but nothing can be promised any more.
    if (this.#core.failure !== null) throw this.#core.failure;
    if (this.#durability === 'async') completion.settle(null);
    else if (this.#remoteFlush !== null) this.#remoteFlush.add(completion);
    // What was answered is with the kernel, so it is no newer than `writtenLsn`; the log knows what async mode answered before.
    else this.#log.flush(completion);
  }

  async flush(): Promise<void> {
    const settled = new Promise<void>((resolve, reject) => this.flushNow({ settle: (error) => (error === null ? resolve() : reject(error)) }));
    this.#submitSoon();
    await settled;
  }

  submit(): void {
    this.#log.submit();
    // Only now: while a request is applied nothing may be written, lest the log stall in the middle of it.
    this.#writes.releaseSuperseded();
    this.#parts.flusher.poke();
  }

  /** One `submit` for all promised calls of this turn. */
  #submitSoon(): void {
    if (this.#submitQueued) return;
    this.#submitQueued = true;
    queueMicrotask(() => {
      this.#submitQueued = false;
      this.submit();
    });
  }

  async whenAdmitting(): Promise<void> {
    this.#checkWritable();
    const stall = this.#core.storeStall;
    if (stall !== null && !this.#core.waitsForBucket(stall)) throw stall;
    await this.#core.room.wait();
    this.#checkWritable();
  }

  /**
   * Makes everything accepted so far durable in the bucket: a root that says it all. Errors: `unsupported` (there is no bucket), `fenced`, and what
   * keeps chunks from being made here. While the bucket cannot be reached it waits. After the last one before it is closed nothing is compacted any more.
   */
  async drain({ isLast = false } = {}): Promise<void> {
    const { core, flusher, checkpointer, compactor } = this.#parts;
    this.#checkWritable();
    if (core.shipper === null) throw new VolumeError('unsupported', `volume ${this.name} has no bucket; there is nothing to drain to`);
    if (isLast) await compactor.stop();
    await this.#forceLog();
    await flusher.drain();
    await flusher.serial.run(() => checkpointer.run());
    await core.shipper.drain();
  }

  /** Makes everything durable, in chunks if the disk has room, and closes. Later calls fail with `closed`. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { core, flusher, checkpointer, compactor, closeFiles, lock, remote } = this.#parts;
    let failure: VolumeError | null = null;
    await compactor.stop();
    try {
      await this.#forceLog();
      await flusher.drain();
      await flusher.serial.run(() => checkpointer.run());
    } catch (error) {
      failure = toVolumeError(error, `closing volume ${this.name}`);
      core.env.logger.log('warn', 'close-incomplete', { volume: this.name, error: failure });
    }
    checkpointer.stop();
    for (const stop of this.#stopListening) stop();
    await flusher.stop();
    if (remote !== null) await detachRemote(core, remote);
    await core.releaseSpace();
    core.closed = true;
    await this.#log.close();
    await core.reader.close();
    try {
      await closeFiles();
    } catch (error) {
      // The lock must go all the same: nobody could ever open the volume again.
      failure ??= toVolumeError(error, `closing the log of volume ${this.name}`);
    }
    core.room.wake();
    core.releaseMemory();
    await lock.release();
    core.env.logger.log('info', 'volume-closed', { volume: this.name, ...this.stats() });
    // A full disk only keeps data from becoming chunks: it is safe in the log. Anything else the caller must know.
    if (failure !== null && (failure.code !== 'no-space' || this.#log.durableLsn < this.#log.lastLsn)) throw failure;
  }
}
