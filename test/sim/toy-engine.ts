/**
 * A small engine that keeps its promises, or breaks one of them as asked: the proof that a world can fail. It holds all
 * blocks in memory and appends each record to one file; a record carries the epoch of the opening that wrote it.
 */
import { checksum } from '../../src/base/checksum.ts';
import type { VolumeCompression } from '../../src/base/compression.ts';
import type { Durability } from '../../src/base/durability.ts';
import { VolumeError, systemCode, toVolumeError } from '../../src/base/errors.ts';
import { EXTENT, type ExtentList } from '../../src/base/extent-list.ts';
import type { Env, File, FileLock } from '../../src/env/env.ts';
import type { Admission, Completion, ZeroOptions } from '../../src/volume/block-device.ts';
import type { CreateOptions, VolumeObserver, VolumeStats } from '../../src/volume/volume-info.ts';
import type { EngineOptions, SimEngine, SimVolume } from './engine.ts';

export const TOY_FLAWS = [
  'flush without a sync',
  'flush joins a running sync',
  'answer before the write',
  'no checksum',
  'no epoch',
  'no directory sync',
  'merge with a stale block',
  'trim forgets a block',
  'no lock file',
] as const;
export type ToyFlaw = (typeof TOY_FLAWS)[number];

const HEADER_BYTES = 32;
const MAGIC = 0x796f7462;

interface Meta {
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly durability: Durability;
  readonly compression?: VolumeCompression;
  readonly epoch: number;
}

export function toyEngine(flaw: ToyFlaw | null): SimEngine {
  return {
    tasks: new Map(),
    create: (options, create) => createToy(options, create, flaw),
    open: (options, observer) => ToyVolume.open(options, observer, flaw),
    checkFiles: () => undefined,
  };
}

async function createToy({ env, directory }: EngineOptions, create: CreateOptions, flaw: ToyFlaw | null): Promise<void> {
  if (await env.files.exists(`${directory}/meta`)) throw new VolumeError('already-exists', 'the toy is there');
  if (await env.files.exists(directory)) await env.files.removeTree(directory);
  await env.files.makeDirectory(directory);
  const log = await env.files.open(`${directory}/log`, 'create');
  await log.close();
  await writeMeta({ env, directory, flaw }, { ...create, epoch: 0 });
  if (flaw !== 'no directory sync') await env.files.syncDirectory(directory.slice(0, directory.lastIndexOf('/')));
}

async function writeMeta({ env, directory, flaw }: { env: Env; directory: string; flaw: ToyFlaw | null }, meta: Meta): Promise<void> {
  const temporary = `${directory}/meta.new`;
  if (await env.files.exists(temporary)) await env.files.remove(temporary);
  const file = await env.files.open(temporary, 'create');
  await file.write([Buffer.from(JSON.stringify(meta))], 0);
  await file.sync();
  await file.close();
  await env.files.rename(temporary, `${directory}/meta`);
  if (flaw !== 'no directory sync') await env.files.syncDirectory(directory);
}

async function readAll(env: Env, path: string): Promise<Buffer> {
  let file: File;
  try {
    file = await env.files.open(path, 'read');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') throw new VolumeError('not-found', `${path} is not there`, { cause: error });
    throw error;
  }
  const bytes = Buffer.alloc(await file.sizeBytes());
  await file.read(bytes, 0);
  await file.close();
  return bytes;
}

function isMeta(value: unknown): value is Meta {
  return typeof value === 'object' && value !== null && 'epoch' in value && 'blockSizeBytes' in value;
}

interface Waiting {
  readonly completion: Completion;
  readonly fua: boolean;
}

class ToyVolume implements SimVolume {
  readonly name = 'toy';
  readonly readOnly = false;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly #env: Env;
  readonly #meta: Meta;
  readonly #flaw: ToyFlaw | null;
  readonly #observer: VolumeObserver;
  readonly #log: File;
  readonly #lock: FileLock | null;
  readonly #blocks: Uint8Array;
  readonly #parts: Uint8Array[] = [];
  #waiting: Waiting[] = [];
  #endBytes = 0;
  #runningSync: Promise<void> | null = null;
  readonly failure = null;
  lastLsn = 0;
  recoveredLsn = 0;
  durableLsn = 0;

  constructor(parts: { options: EngineOptions; meta: Meta; flaw: ToyFlaw | null; observer: VolumeObserver; log: File; lock: FileLock | null }) {
    this.#env = parts.options.env;
    this.#meta = parts.meta;
    this.#flaw = parts.flaw;
    this.#observer = parts.observer;
    this.#log = parts.log;
    this.#lock = parts.lock;
    this.sizeBytes = parts.meta.sizeBytes;
    this.blockSizeBytes = parts.meta.blockSizeBytes;
    this.#blocks = new Uint8Array(this.sizeBytes);
  }

  static async open(options: EngineOptions, observer: VolumeObserver, flaw: ToyFlaw | null): Promise<ToyVolume> {
    const { env, directory } = options;
    const old: unknown = JSON.parse((await readAll(env, `${directory}/meta`)).toString());
    if (!isMeta(old)) throw new VolumeError('corrupt', 'the toy has no meta data');
    const lock = flaw === 'no lock file' ? null : await env.files.lock(`${directory}/lock`);
    if (lock === null && flaw !== 'no lock file') throw new VolumeError('in-use', 'the toy is in use');
    const meta = { ...old, epoch: old.epoch + 1 };
    await writeMeta({ env, directory, flaw }, meta);
    const log = await env.files.open(`${directory}/log`, 'write');
    const volume = new ToyVolume({ options, meta, flaw, observer, log, lock });
    volume.#replay(await readAll(env, `${directory}/log`));
    return volume;
  }

  #replay(log: Buffer): void {
    let epoch = 0;
    for (let at = 0; at + HEADER_BYTES <= log.length; ) {
      const header = log.subarray(at, at + HEADER_BYTES);
      const payload = log.subarray(at + HEADER_BYTES, at + HEADER_BYTES + header.readUInt32LE(20));
      const isZero = payload.length === 0;
      const isValid =
        header.readUInt32LE(0) === MAGIC &&
        header.readUInt32LE(8) === this.lastLsn + 1 &&
        (header.readUInt32LE(4) >= epoch || this.#flaw === 'no epoch') &&
        (header.readUInt32LE(24) === checksum(payload, checksum(header.subarray(0, 24))) || this.#flaw === 'no checksum');
      if (!isValid) break;
      epoch = header.readUInt32LE(4);
      this.lastLsn += 1;
      const start = header.readUInt32LE(12) * this.blockSizeBytes;
      if (isZero) this.#blocks.fill(0, start, start + header.readUInt32LE(16) * this.blockSizeBytes);
      else this.#blocks.set(payload, start);
      at += HEADER_BYTES + payload.length;
      this.#endBytes = at;
    }
    this.recoveredLsn = this.lastLsn;
  }

  readNow(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetStart: number): boolean {
    target.set(this.#blocks.subarray(offsetBytes, offsetBytes + lengthBytes), targetStart);
    return true;
  }

  lend(): null {
    return null; // a memory that is overwritten in place has nothing to lend
  }

  async read(offsetBytes: number, target: Uint8Array, extents?: ExtentList): Promise<void> {
    await this.#env.clock.yield();
    this.readNow(offsetBytes, target.length, target, 0);
    if (extents !== undefined) this.extentsNow(offsetBytes, target.length, extents);
  }

  /** It does not know; that there is data is never wrong. */
  extentsNow(_offsetBytes: number, lengthBytes: number, extents: ExtentList): boolean {
    extents.add(lengthBytes, EXTENT.PERSISTED);
    return true;
  }

  async extents(offsetBytes: number, lengthBytes: number, extents: ExtentList): Promise<void> {
    await this.#env.clock.yield();
    this.extentsNow(offsetBytes, lengthBytes, extents);
  }

  writeNow(offsetBytes: number, lengthBytes: number, source: Uint8Array, sourceStart: number, fua: boolean, completion: Completion): Admission {
    if (offsetBytes % this.blockSizeBytes !== 0 || lengthBytes % this.blockSizeBytes !== 0) return 'partial';
    this.#append(offsetBytes, source.slice(sourceStart, sourceStart + lengthBytes), lengthBytes);
    this.#await(completion, fua);
    return 'accepted';
  }

  async write(offsetBytes: number, source: Uint8Array, fua: boolean): Promise<void> {
    const first = Math.floor(offsetBytes / this.blockSizeBytes) * this.blockSizeBytes;
    const end = Math.ceil((offsetBytes + source.length) / this.blockSizeBytes) * this.blockSizeBytes;
    const stale = this.#blocks.slice(first, end);
    await this.#env.clock.yield(); // as if the block had to be read from somewhere
    const merged = this.#flaw === 'merge with a stale block' ? stale : this.#blocks.slice(first, end);
    merged.set(source, offsetBytes - first);
    this.#append(first, merged, merged.length);
    await this.#finish(fua);
  }

  zeroNow(offsetBytes: number, lengthBytes: number, options: ZeroOptions, completion: Completion): Admission {
    if (offsetBytes % this.blockSizeBytes !== 0 || lengthBytes % this.blockSizeBytes !== 0) return 'partial';
    this.#append(offsetBytes, null, lengthBytes);
    this.#await(completion, options.fua);
    return 'accepted';
  }

  zero(offsetBytes: number, lengthBytes: number, options: ZeroOptions): Promise<void> {
    return this.write(offsetBytes, new Uint8Array(lengthBytes), options.fua);
  }

  trimNow(offsetBytes: number, lengthBytes: number, fua: boolean, completion: Completion): Admission {
    this.#trim(offsetBytes, lengthBytes);
    this.#await(completion, fua);
    return 'accepted';
  }

  async trim(offsetBytes: number, lengthBytes: number, fua: boolean): Promise<void> {
    this.#trim(offsetBytes, lengthBytes);
    await this.#finish(fua);
  }

  flushNow(completion: Completion): void {
    this.submit();
    if (this.#flaw === 'flush without a sync') completion.settle(null);
    else void this.#settleAfterSync([completion]);
  }

  async flush(): Promise<void> {
    this.submit();
    if (this.#flaw !== 'flush without a sync') await this.#sync();
  }

  cache(): Promise<void> {
    return Promise.resolve();
  }

  submit(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    if (this.#flaw === 'answer before the write') for (const { completion } of waiting) completion.settle(null);
    if (this.#parts.length > 0) {
      const bytes = Buffer.concat(this.#parts.splice(0));
      this.#log.writeNow([bytes], this.#endBytes);
      this.#endBytes += bytes.length;
    }
    if (this.#flaw === 'answer before the write') return;
    const mustSync = (fua: boolean): boolean => fua || this.#meta.durability === 'strict';
    for (const { completion, fua } of waiting) if (!mustSync(fua)) completion.settle(null);
    const late = waiting.filter(({ fua }) => mustSync(fua));
    if (late.length > 0) void this.#settleAfterSync(late.map(({ completion }) => completion));
  }

  whenAdmitting(): Promise<void> {
    return Promise.resolve();
  }

  get durability(): Durability {
    return this.#meta.durability;
  }

  setDurability(): Promise<void> {
    return Promise.reject(new VolumeError('unsupported', 'the toy keeps its mode'));
  }

  get compression(): VolumeCompression {
    return this.#meta.compression ?? 'default';
  }

  setCompression(): Promise<void> {
    return Promise.reject(new VolumeError('unsupported', 'the toy has no chunks'));
  }

  stats(): VolumeStats {
    return {
      readBytes: 0,
      writtenBytes: 0,
      zeroedBytes: 0,
      logBytes: this.#endBytes,
      logWrites: 0,
      logSyncs: 0,
      logFiles: 0,
      logFreeFiles: 0,
      chunkBytes: 0,
      chunksWritten: 0,
      chunksRemoved: 0,
      compactionBytes: 0,
      compactions: 0,
      liveBytes: 0,
      liveStoredBytes: 0,
      storedChunkBytes: 0,
      spareBytes: 0,
      checkpointBytes: 0,
      checkpoints: 0,
      cacheHits: 0,
      cacheMisses: 0,
      cacheEvictions: 0,
      dirtyBytes: 0,
      cachedBytes: 0,
      scrubs: 0,
      scrubbedBytes: 0,
      rottenFound: 0,
      rottenRewritten: 0,
    };
  }

  async close(): Promise<void> {
    this.submit();
    await this.#sync();
    await this.#log.close();
    await this.#lock?.release();
  }

  #append(offsetBytes: number, payload: Uint8Array | null, lengthBytes: number): void {
    this.lastLsn += 1;
    const header = Buffer.alloc(HEADER_BYTES);
    const blockNumber = offsetBytes / this.blockSizeBytes;
    const blockCount = lengthBytes / this.blockSizeBytes;
    const bytes = payload ?? new Uint8Array(0);
    for (const [index, word] of [MAGIC, this.#meta.epoch, this.lastLsn, blockNumber, blockCount, bytes.length].entries()) header.writeUInt32LE(word, index * 4);
    header.writeUInt32LE(checksum(bytes, checksum(header.subarray(0, 24))), 24);
    this.#parts.push(header, bytes);
    if (payload === null) this.#blocks.fill(0, offsetBytes, offsetBytes + lengthBytes);
    else this.#blocks.set(payload, offsetBytes);
    this.#observer.accepted({ kind: payload === null ? 'zero' : 'write', lsn: this.lastLsn, blockNumber, blockCount });
  }

  #trim(offsetBytes: number, lengthBytes: number): void {
    const start = Math.ceil(offsetBytes / this.blockSizeBytes) * this.blockSizeBytes;
    const end = Math.floor((offsetBytes + lengthBytes) / this.blockSizeBytes) * this.blockSizeBytes;
    if (end <= start) return;
    const kept = this.#blocks.slice(end - this.blockSizeBytes, end);
    this.#append(start, null, end - start);
    if (this.#flaw === 'trim forgets a block') this.#blocks.set(kept, end - this.blockSizeBytes);
  }

  #await(completion: Completion, fua: boolean): void {
    this.#waiting.push({ completion, fua });
  }

  async #finish(fua: boolean): Promise<void> {
    this.submit();
    if (fua || this.#meta.durability === 'strict') await this.#sync();
  }

  async #settleAfterSync(completions: readonly Completion[]): Promise<void> {
    let failure: VolumeError | null = null;
    try {
      await this.#sync();
    } catch (error) {
      failure = toVolumeError(error, 'the sync of the toy');
    }
    for (const completion of completions) completion.settle(failure);
  }

  async #sync(): Promise<void> {
    if (this.#flaw === 'flush joins a running sync' && this.#runningSync !== null) return this.#runningSync;
    const lsn = this.lastLsn;
    this.#runningSync = this.#log.sync();
    await this.#runningSync;
    this.#runningSync = null;
    this.durableLsn = Math.max(this.durableLsn, lsn);
  }
}
