/** A BlockDevice in plain memory, for tests of everything that stands on one, with switches for what a real one does now and then. */
import { NO_LIMITS, type VolumeLimits } from '../../src/base/volume-limits.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { deferred, type Deferred } from '../../src/base/async.ts';
import { EXTENT, type Extent, type ExtentList } from '../../src/base/extent-list.ts';
import type { Admission, BlockDevice, Completion, DeviceDirectory, DeviceSummary, ReadLoan, ZeroOptions } from '../../src/volume/block-device.ts';

export interface MemoryDeviceOptions {
  readonly name?: string;
  readonly sizeBytes?: number;
  readonly blockSizeBytes?: number;
  readonly readOnly?: boolean;
  readonly description?: string;
}

/** When an accepted request ends: before its call returns, at the next `submit`, or when the test calls `settleAll`. */
export type SettleTime = 'at once' | 'at submit' | 'by hand';

export class MemoryDevice implements BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly description: string;
  readOnly: boolean;
  readonly data: Uint8Array;

  settleTime: SettleTime = 'at submit';
  /** Reads are lent, in two parts; `onLoan` says how many are. */
  lends = false;
  onLoan = 0;
  /** Kinds of blocks that their bytes do not tell: what is zero is empty, and what is not is persisted, if nothing else is said here. */
  readonly kinds = new Map<number, Extent>();
  /** The map must be read: `extentsNow` is false. */
  mapCold = false;
  /** Reads must wait: `readNow` is false, and `read` ends when `warm` is called, or at once if `readsWait` is off. */
  cold = false;
  readsWait = false;
  /** Writes and zeroes that cut a block are `partial`, as in the real engine. */
  partialBlocks = false;
  /** No room until `makeRoom`. */
  full = false;
  /** Room comes back within `submit`, as it does when a log write frees some. */
  roomAtSubmit = false;
  /** Calls of the data path throw this. */
  failure: VolumeError | null = null;
  /** Accepted requests end with this. */
  completionError: VolumeError | null = null;

  /** What was called, in order: `write 0+4096 fua`, `flush`, `submit`, ... */
  readonly calls: string[] = [];
  recordsCalls = true;
  #waiting: Completion[] = [];
  #admitting: Deferred<void> | null = null;
  #reads: Deferred<void> | null = null;

  constructor(options: MemoryDeviceOptions = {}) {
    this.name = options.name ?? 'disk';
    this.sizeBytes = options.sizeBytes ?? 1024 * 1024;
    this.blockSizeBytes = options.blockSizeBytes ?? 4096;
    this.readOnly = options.readOnly ?? false;
    this.description = options.description ?? '';
    this.data = new Uint8Array(this.sizeBytes);
  }

  /** Accepted requests that have not ended. */
  get pendingCount(): number {
    return this.#waiting.length;
  }

  settleAll(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const completion of waiting) completion.settle(this.completionError);
  }

  /** Ends the shortage; with an error, the volume takes no more writes. */
  makeRoom(error?: VolumeError): void {
    this.full = false;
    const admitting = this.#admitting;
    this.#admitting = null;
    if (error === undefined) admitting?.resolve();
    else admitting?.reject(error);
  }

  /** Lets all waiting reads go on, or fail. */
  warm(error?: VolumeError): void {
    const reads = this.#reads;
    this.#reads = null;
    if (error === undefined) reads?.resolve();
    else reads?.reject(error);
  }

  readNow(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetStart: number): boolean {
    this.#begin('readNow', offsetBytes, lengthBytes, false);
    if (this.cold) {
      target.fill(0xee, targetStart, targetStart + lengthBytes); // nothing of use, and nobody may see it
      return false;
    }
    target.set(this.data.subarray(offsetBytes, offsetBytes + lengthBytes), targetStart);
    return true;
  }

  lend(offsetBytes: number, lengthBytes: number): ReadLoan | null {
    if (!this.lends || this.cold) return null;
    this.#begin('lend', offsetBytes, lengthBytes, false);
    this.onLoan += 1;
    // What is lent stays as it is: the real engine writes elsewhere.
    const bytes = this.data.slice(offsetBytes, offsetBytes + lengthBytes);
    const middle = Math.ceil(lengthBytes / 3);
    let released = false;
    return {
      parts: [bytes.subarray(0, middle), bytes.subarray(middle)],
      release: () => {
        if (released) throw new Error('a loan was released twice');
        released = true;
        this.onLoan -= 1;
      },
    };
  }

  async read(offsetBytes: number, target: Uint8Array, extents?: ExtentList): Promise<void> {
    this.#begin('read', offsetBytes, target.length, false);
    await this.#wait();
    target.set(this.data.subarray(offsetBytes, offsetBytes + target.length));
    if (extents !== undefined) this.#addExtents(offsetBytes, target.length, extents);
  }

  extentsNow(offsetBytes: number, lengthBytes: number, extents: ExtentList): boolean {
    this.#begin('extentsNow', offsetBytes, lengthBytes, false);
    if (this.mapCold) {
      extents.add(1, EXTENT.EMPTY); // nothing of use, and nobody may see it
      return false;
    }
    this.#addExtents(offsetBytes, lengthBytes, extents);
    return true;
  }

  async extents(offsetBytes: number, lengthBytes: number, extents: ExtentList): Promise<void> {
    this.#begin('extents', offsetBytes, lengthBytes, false);
    await this.#wait();
    this.#addExtents(offsetBytes, lengthBytes, extents);
  }

  async #wait(): Promise<void> {
    if (!this.readsWait) return;
    this.#reads ??= deferred<void>();
    await this.#reads.promise;
  }

  #addExtents(offsetBytes: number, lengthBytes: number, extents: ExtentList): void {
    let at = offsetBytes;
    while (at < offsetBytes + lengthBytes) {
      const blockNumber = Math.floor(at / this.blockSizeBytes);
      const next = Math.min(offsetBytes + lengthBytes, (blockNumber + 1) * this.blockSizeBytes);
      const block = this.data.subarray(blockNumber * this.blockSizeBytes, (blockNumber + 1) * this.blockSizeBytes);
      const told = this.kinds.get(blockNumber);
      const kind = block.every((byte) => byte === 0) ? (told ?? EXTENT.EMPTY) : told === undefined || told < EXTENT.DATA ? EXTENT.PERSISTED : told;
      if (!extents.add(next - at, kind)) return;
      at = next;
    }
  }

  writeNow(offsetBytes: number, lengthBytes: number, source: Uint8Array, sourceStart: number, fua: boolean, completion: Completion): Admission {
    this.#begin('writeNow', offsetBytes, lengthBytes, fua);
    const refused = this.#admission(offsetBytes, lengthBytes);
    if (refused !== null) return refused;
    this.data.set(source.subarray(sourceStart, sourceStart + lengthBytes), offsetBytes);
    this.#accept(completion);
    return 'accepted';
  }

  async write(offsetBytes: number, source: Uint8Array, fua: boolean): Promise<void> {
    this.#begin('write', offsetBytes, source.length, fua);
    await Promise.resolve();
    this.data.set(source, offsetBytes); // late: `source` must still be what it was
    if (this.completionError !== null) throw this.completionError;
  }

  zeroNow(offsetBytes: number, lengthBytes: number, options: ZeroOptions, completion: Completion): Admission {
    this.#begin(options.provisioned ? 'zeroNow provisioned' : 'zeroNow', offsetBytes, lengthBytes, options.fua);
    const refused = this.#admission(offsetBytes, lengthBytes);
    if (refused !== null) return refused;
    this.data.fill(0, offsetBytes, offsetBytes + lengthBytes);
    this.#accept(completion);
    return 'accepted';
  }

  async zero(offsetBytes: number, lengthBytes: number, options: ZeroOptions): Promise<void> {
    this.#begin(options.provisioned ? 'zero provisioned' : 'zero', offsetBytes, lengthBytes, options.fua);
    await Promise.resolve();
    this.data.fill(0, offsetBytes, offsetBytes + lengthBytes);
  }

  trimNow(offsetBytes: number, lengthBytes: number, fua: boolean, completion: Completion): Admission {
    this.#begin('trimNow', offsetBytes, lengthBytes, fua);
    if (this.full) return 'full';
    const first = Math.ceil(offsetBytes / this.blockSizeBytes) * this.blockSizeBytes;
    const end = Math.floor((offsetBytes + lengthBytes) / this.blockSizeBytes) * this.blockSizeBytes;
    if (end > first) this.data.fill(0, first, end);
    this.#accept(completion);
    return 'accepted';
  }

  async trim(offsetBytes: number, lengthBytes: number, fua: boolean): Promise<void> {
    const ended = deferred<void>();
    this.trimNow(offsetBytes, lengthBytes, fua, { settle: (error) => (error === null ? ended.resolve() : ended.reject(error)) });
    this.submit();
    await ended.promise;
  }

  flushNow(completion: Completion): void {
    if (this.recordsCalls) this.calls.push('flush');
    if (this.failure !== null) throw this.failure;
    this.#accept(completion);
  }

  async flush(): Promise<void> {
    const ended = deferred<void>();
    this.flushNow({ settle: (error) => (error === null ? ended.resolve() : ended.reject(error)) });
    this.submit();
    await ended.promise;
  }

  async cache(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.#begin('cache', offsetBytes, lengthBytes, false);
    await Promise.resolve();
  }

  submit(): void {
    if (this.recordsCalls) this.calls.push('submit');
    if (this.roomAtSubmit) this.makeRoom();
    if (this.settleTime === 'at submit') this.settleAll();
  }

  /** Tells of the next time that room is made, like the real one: room that is there already is not announced again. */
  whenAdmitting(): Promise<void> {
    this.#admitting ??= deferred<void>();
    return this.#admitting.promise;
  }

  #begin(what: string, offsetBytes: number, lengthBytes: number, fua: boolean): void {
    if (this.recordsCalls) this.calls.push(`${what} ${offsetBytes}+${lengthBytes}${fua ? ' fua' : ''}`);
    if (this.failure !== null) throw this.failure;
    if (lengthBytes > this.sizeBytes - offsetBytes) throw new VolumeError('out-of-range', `no ${lengthBytes} bytes at ${offsetBytes}`);
  }

  #admission(offsetBytes: number, lengthBytes: number): Admission | null {
    if (this.full) return 'full';
    const cut = offsetBytes % this.blockSizeBytes !== 0 || lengthBytes % this.blockSizeBytes !== 0;
    return this.partialBlocks && cut ? 'partial' : null;
  }

  #accept(completion: Completion): void {
    if (this.settleTime === 'at once') completion.settle(this.completionError);
    else this.#waiting.push(completion);
  }
}

/** The memory devices of a test, as a server sees them. Counts who holds what. */
export class MemoryDirectory implements DeviceDirectory {
  readonly devices: MemoryDevice[];
  readonly holders = new Map<string, number>();
  /** `acquire` and `list` end when this does. */
  gate: Promise<void> | null = null;
  /** `acquire` and `list` reject with this. */
  failure: VolumeError | null = null;

  constructor(...devices: MemoryDevice[]) {
    this.devices = devices;
  }

  holderCount(name: string): number {
    return this.holders.get(name) ?? 0;
  }

  async list(): Promise<DeviceSummary[]> {
    await this.gate;
    if (this.failure !== null) throw this.failure;
    return this.devices.map(({ name, sizeBytes, description }) => ({ name, sizeBytes, description }));
  }

  async acquire(name: string): Promise<BlockDevice> {
    await this.gate;
    if (this.failure !== null) throw this.failure;
    const device = this.devices.find((candidate) => candidate.name === name);
    if (device === undefined) throw new VolumeError('not-found', `there is no volume "${name}"`);
    this.holders.set(name, this.holderCount(name) + 1);
    return device;
  }

  /** What `limitsInForce` says. */
  limits: VolumeLimits = NO_LIMITS;

  limitsInForce(): VolumeLimits {
    return this.limits;
  }

  release(device: BlockDevice): void {
    const count = this.holderCount(device.name);
    if (count < 1) throw new Error(`volume "${device.name}" was released more often than acquired`);
    this.holders.set(device.name, count - 1);
  }
}
