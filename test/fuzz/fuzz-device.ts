/**
 * A volume of one MiB in memory for the fuzzer: it complains of every call that no session may make, holds no byte of `FOREIGN_BIT`, and is as
 * new for each input at the price of what the last one changed.
 */
import { NO_LIMITS, type VolumeLimits } from '../../src/base/volume-limits.ts';
import { deferred, type Deferred } from '../../src/base/async.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { EXTENT, type Extent, type ExtentList } from '../../src/base/extent-list.ts';
import type { Admission, BlockDevice, Completion, DeviceDirectory, DeviceSummary, ReadLoan, ZeroOptions } from '../../src/volume/block-device.ts';

export const DEVICE_BYTES = 1 << 20;
export const BLOCK_BYTES = 4096;
/** Never set in a byte of the volume: a byte of a reply's data that has it comes from elsewhere. */
export const FOREIGN_BIT = 0x80;
/** What stands in memory that nobody has written. */
export const POISON = 0xdd;

const BLOCK_COUNT = DEVICE_BYTES / BLOCK_BYTES;
const FIRST_KINDS: readonly Extent[] = [EXTENT.EMPTY, EXTENT.PERSISTED, EXTENT.PERSISTED, EXTENT.EMPTY, EXTENT.PROVISIONED, EXTENT.CACHED, EXTENT.HOT, EXTENT.PENDING];

/** Something that must not happen, whatever the client sends. */
export class Finding extends Error {}

export interface DeviceSwitches {
  lends: boolean;
  cold: boolean;
  mapCold: boolean;
  partial: boolean;
  readsWait: boolean;
  /** Accepted requests end: before their call returns, at `submit`, when `settleAll` is called. */
  settles: 'at once' | 'at submit' | 'by hand';
  /** Accepted requests fail. */
  fails: boolean;
}

const failure = (): VolumeError => new VolumeError('io-error', 'the disk fails', { context: { blockNumber: 3 } });

/** What the volume holds before anybody writes. */
function firstContent(): Uint8Array {
  const data = new Uint8Array(DEVICE_BYTES);
  for (let block = 0; block < BLOCK_COUNT; block += 1) {
    if (FIRST_KINDS[block % FIRST_KINDS.length] >= EXTENT.DATA) data.fill(1 + (block % 0x7f), block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
  }
  return data;
}

export const FIRST_CONTENT = firstContent();
const ZEROES = new Uint8Array(DEVICE_BYTES);

/** Whether that range reads as zeroes before anybody writes. */
export function isZeroAtFirst(offsetBytes: number, lengthBytes: number): boolean {
  return Buffer.compare(FIRST_CONTENT.subarray(offsetBytes, offsetBytes + lengthBytes), ZEROES.subarray(0, lengthBytes)) === 0;
}

/** The bytes of a range by whole words, and what stands before and behind those. */
function wordsOf(bytes: Uint8Array): { readonly head: number; readonly words: Uint32Array; readonly tail: number } {
  const head = Math.min(bytes.length, (4 - (bytes.byteOffset & 3)) & 3);
  const count = (bytes.length - head) >> 2;
  return { head, words: count === 0 ? NO_WORDS : new Uint32Array(bytes.buffer, bytes.byteOffset + head, count), tail: head + count * 4 };
}

const NO_WORDS = new Uint32Array(0);
const FOREIGN_BITS = 0x8080_8080;

/** Where the first byte stands that is not of a volume; -1 if there is none. */
export function indexOfForeign(bytes: Uint8Array): number {
  const { head, words, tail } = wordsOf(bytes);
  let isClean = true;
  for (let at = 0; at < head; at += 1) isClean &&= (bytes[at] & FOREIGN_BIT) === 0;
  for (let at = 0; at < words.length && isClean; at += 1) isClean = (words[at] & FOREIGN_BITS) === 0;
  for (let at = tail; at < bytes.length; at += 1) isClean &&= (bytes[at] & FOREIGN_BIT) === 0;
  return isClean ? -1 : bytes.findIndex((byte) => (byte & FOREIGN_BIT) !== 0);
}

/** Makes bytes such as a volume may hold. */
export function clearForeign(bytes: Uint8Array): void {
  const { head, words, tail } = wordsOf(bytes);
  for (let at = 0; at < head; at += 1) bytes[at] &= ~FOREIGN_BIT;
  for (let at = 0; at < words.length; at += 1) words[at] &= ~FOREIGN_BITS;
  for (let at = tail; at < bytes.length; at += 1) bytes[at] &= ~FOREIGN_BIT;
}

export class FuzzDevice implements BlockDevice {
  readonly name: string;
  readonly sizeBytes = DEVICE_BYTES;
  readonly blockSizeBytes = BLOCK_BYTES;
  readonly readOnly: boolean;
  readonly data = FIRST_CONTENT.slice();
  readonly #kinds: Extent[] = [];
  readonly #dirty = new Set<number>();
  switches: DeviceSwitches = { lends: false, cold: false, mapCold: false, partial: false, readsWait: false, settles: 'at submit', fails: false };
  full = false;
  onLoan = 0;
  /** The first call that no session may make. */
  complaint: string | null = null;
  #waiting: Completion[] = [];
  #admitting: Deferred<void> | null = null;
  #reads: (() => void)[] = [];

  constructor(name: string, readOnly: boolean) {
    this.name = name;
    this.readOnly = readOnly;
    for (let block = 0; block < BLOCK_COUNT; block += 1) this.#kinds.push(FIRST_KINDS[block % FIRST_KINDS.length]);
  }

  reset(): void {
    for (const block of this.#dirty) {
      const at = block * BLOCK_BYTES;
      this.data.set(FIRST_CONTENT.subarray(at, at + BLOCK_BYTES), at);
      this.#kinds[block] = FIRST_KINDS[block % FIRST_KINDS.length];
    }
    this.#dirty.clear();
    this.full = false;
    this.complaint = null;
  }

  get isIdle(): boolean {
    return this.#waiting.length === 0 && this.#reads.length === 0 && this.#admitting === null && this.onLoan === 0;
  }

  settleAll(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const completion of waiting) completion.settle(this.switches.fails ? failure() : null);
  }

  makeRoom(fails = false): void {
    this.full = false;
    const admitting = this.#admitting;
    this.#admitting = null;
    if (fails) admitting?.reject(failure());
    else admitting?.resolve();
  }

  warm(): void {
    const reads = this.#reads;
    this.#reads = [];
    for (const read of reads) read();
  }

  readNow(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetStart: number): boolean {
    this.#check('readNow', offsetBytes, lengthBytes);
    if (targetStart + lengthBytes > target.length) this.#complain('readNow: the target is too small');
    if (this.switches.fails && !this.switches.cold) throw failure();
    if (this.switches.cold) {
      target.fill(POISON, targetStart, targetStart + Math.min(lengthBytes, BLOCK_BYTES)); // nothing of use
      return false;
    }
    target.set(this.data.subarray(offsetBytes, offsetBytes + lengthBytes), targetStart);
    return true;
  }

  lend(offsetBytes: number, lengthBytes: number): ReadLoan | null {
    this.#check('lend', offsetBytes, lengthBytes);
    if (!this.switches.lends || this.switches.cold) return null;
    this.onLoan += 1;
    const bytes = this.data.slice(offsetBytes, offsetBytes + lengthBytes);
    const middle = Math.ceil(lengthBytes / 3);
    let released = false;
    const release = (): void => {
      if (released) this.#complain('a loan was released twice');
      released = true;
      bytes.fill(POISON);
      this.onLoan -= 1;
    };
    return { parts: [bytes.subarray(0, middle), bytes.subarray(middle)], release };
  }

  async read(offsetBytes: number, target: Uint8Array, extents?: ExtentList): Promise<void> {
    this.#check('read', offsetBytes, target.length);
    await this.#wait();
    target.set(this.data.subarray(offsetBytes, offsetBytes + target.length));
    if (extents !== undefined) this.#addExtents(offsetBytes, target.length, extents);
  }

  extentsNow(offsetBytes: number, lengthBytes: number, extents: ExtentList): boolean {
    this.#check('extentsNow', offsetBytes, lengthBytes);
    if (this.switches.mapCold) {
      extents.add(1, EXTENT.EMPTY); // nothing of use
      return false;
    }
    this.#addExtents(offsetBytes, lengthBytes, extents);
    return true;
  }

  async extents(offsetBytes: number, lengthBytes: number, extents: ExtentList): Promise<void> {
    this.#check('extents', offsetBytes, lengthBytes);
    await this.#wait();
    this.#addExtents(offsetBytes, lengthBytes, extents);
  }

  async #wait(): Promise<void> {
    if (this.switches.readsWait) await new Promise<void>((resolve) => void this.#reads.push(resolve));
    if (this.switches.fails) throw failure();
  }

  #addExtents(offsetBytes: number, lengthBytes: number, extents: ExtentList): void {
    const end = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < end; ) {
      const block = Math.floor(at / BLOCK_BYTES);
      const next = Math.min(end, (block + 1) * BLOCK_BYTES);
      if (!extents.add(next - at, this.#kinds[block])) return;
      at = next;
    }
  }

  writeNow(offsetBytes: number, lengthBytes: number, source: Uint8Array, sourceStart: number, _fua: boolean, completion: Completion): Admission {
    this.#checkChange('writeNow', offsetBytes, lengthBytes);
    if (sourceStart + lengthBytes > source.length) this.#complain('writeNow: the source is too small');
    const refused = this.#admission(offsetBytes, lengthBytes);
    if (refused !== null) return refused;
    this.#store(offsetBytes, source.subarray(sourceStart, sourceStart + lengthBytes));
    this.#accept(completion);
    return 'accepted';
  }

  async write(offsetBytes: number, source: Uint8Array): Promise<void> {
    this.#checkChange('write', offsetBytes, source.length);
    await this.#wait();
    this.#store(offsetBytes, source); // late: `source` must still be what it was
  }

  zeroNow(offsetBytes: number, lengthBytes: number, { provisioned }: ZeroOptions, completion: Completion): Admission {
    this.#checkChange('zeroNow', offsetBytes, lengthBytes);
    const refused = this.#admission(offsetBytes, lengthBytes);
    if (refused !== null) return refused;
    this.#zero(offsetBytes, lengthBytes, provisioned);
    this.#accept(completion);
    return 'accepted';
  }

  async zero(offsetBytes: number, lengthBytes: number, { provisioned }: ZeroOptions): Promise<void> {
    this.#checkChange('zero', offsetBytes, lengthBytes);
    await this.#wait();
    this.#zero(offsetBytes, lengthBytes, provisioned);
  }

  trimNow(offsetBytes: number, lengthBytes: number, _fua: boolean, completion: Completion): Admission {
    this.#checkChange('trimNow', offsetBytes, lengthBytes);
    if (this.full) return 'full';
    const first = Math.ceil(offsetBytes / BLOCK_BYTES) * BLOCK_BYTES;
    const end = Math.floor((offsetBytes + lengthBytes) / BLOCK_BYTES) * BLOCK_BYTES;
    if (end > first) this.#zero(first, end - first, false);
    this.#accept(completion);
    return 'accepted';
  }

  trim(): Promise<void> {
    return Promise.reject(new Finding('sessions trim by trimNow'));
  }

  flushNow(completion: Completion): void {
    this.#accept(completion);
  }

  flush(): Promise<void> {
    return Promise.reject(new Finding('sessions flush by flushNow'));
  }

  async cache(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.#check('cache', offsetBytes, lengthBytes);
    await this.#wait();
  }

  submit(): void {
    if (this.switches.settles === 'at submit') this.settleAll();
  }

  whenAdmitting(): Promise<void> {
    this.#admitting ??= deferred<void>();
    return this.#admitting.promise;
  }

  #store(offsetBytes: number, source: Uint8Array): void {
    this.data.set(source, offsetBytes);
    this.#mark(offsetBytes, source.length, EXTENT.HOT);
  }

  #zero(offsetBytes: number, lengthBytes: number, provisioned: boolean): void {
    this.data.fill(0, offsetBytes, offsetBytes + lengthBytes);
    const whole = offsetBytes % BLOCK_BYTES === 0 && lengthBytes % BLOCK_BYTES === 0;
    this.#mark(offsetBytes, lengthBytes, whole ? (provisioned ? EXTENT.PROVISIONED : EXTENT.EMPTY) : EXTENT.HOT);
  }

  #mark(offsetBytes: number, lengthBytes: number, kind: Extent): void {
    const last = Math.floor((offsetBytes + lengthBytes - 1) / BLOCK_BYTES);
    for (let block = Math.floor(offsetBytes / BLOCK_BYTES); block <= last; block += 1) {
      this.#dirty.add(block);
      this.#kinds[block] = kind;
    }
  }

  #admission(offsetBytes: number, lengthBytes: number): Admission | null {
    if (this.full) return 'full';
    const cut = offsetBytes % BLOCK_BYTES !== 0 || lengthBytes % BLOCK_BYTES !== 0;
    return this.switches.partial && cut ? 'partial' : null;
  }

  #accept(completion: Completion): void {
    if (this.switches.settles === 'at once') completion.settle(this.switches.fails ? failure() : null);
    else this.#waiting.push(completion);
  }

  #check(call: string, offsetBytes: number, lengthBytes: number): void {
    const fits = Number.isInteger(offsetBytes) && Number.isInteger(lengthBytes) && offsetBytes >= 0 && lengthBytes > 0 && lengthBytes <= DEVICE_BYTES - offsetBytes;
    if (!fits) this.#complain(`${call} of ${lengthBytes} bytes at ${offsetBytes}`);
  }

  #checkChange(call: string, offsetBytes: number, lengthBytes: number): void {
    this.#check(call, offsetBytes, lengthBytes);
    if (this.readOnly) this.#complain(`${call} on a volume that is read-only`);
  }

  #complain(what: string): never {
    this.complaint ??= what;
    throw new Finding(what);
  }
}

export class FuzzDirectory implements DeviceDirectory {
  readonly devices: readonly FuzzDevice[];
  fails = false;
  holderCount = 0;

  constructor(devices: readonly FuzzDevice[]) {
    this.devices = devices;
  }

  async list(): Promise<DeviceSummary[]> {
    await Promise.resolve();
    if (this.fails) throw failure();
    return this.devices.map(({ name, sizeBytes }) => ({ name, sizeBytes, description: name === 'disk' ? 'the first' : '' }));
  }

  async acquire(name: string): Promise<BlockDevice> {
    await Promise.resolve();
    if (this.fails) throw failure();
    const device = this.devices.find((candidate) => candidate.name === name);
    if (device === undefined) throw new VolumeError('not-found', `there is no volume "${name}"`);
    this.holderCount += 1;
    return device;
  }

  /** What `limitsInForce` says. */
  limits: VolumeLimits = NO_LIMITS;

  limitsInForce(): VolumeLimits {
    return this.limits;
  }

  release(): void {
    if (this.holderCount < 1) throw new Finding('a volume was released more often than acquired');
    this.holderCount -= 1;
  }
}
