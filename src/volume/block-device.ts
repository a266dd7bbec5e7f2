/**
 * The engine as the NBD session, the library and the tools see it. The `...Now` calls are the data path: they do their
 * work within the turn, allocate nothing and answer through a Completion; the promised ones are for everything that
 * must wait (for the disk, for room). All offsets and lengths are bytes, of any alignment.
 */
import type { VolumeError } from '../base/errors.ts';
import type { ExtentList } from '../base/extent-list.ts';
import type { VolumeLimits } from '../base/volume-limits.ts';

/** The bytes of a read, in order, borrowed until `release`, which is called exactly once. */
export interface ReadLoan {
  readonly parts: readonly Uint8Array[];
  release(): void;
}

/** Receives the end of one request, exactly once; may be called before the call that it was given to returns. */
export interface Completion {
  settle(error: VolumeError | null): void;
}

/**
 * What became of a `...Now` call.
 * - `accepted`: taken; the completion is (or will be) settled. Nothing of `source` is needed any more.
 * - `partial`: part of a block must be read first: nothing was done, call the promised form.
 * - `full`: no room now: nothing was done; call again after `whenAdmitting()`.
 */
export type Admission = 'accepted' | 'partial' | 'full';

export interface ZeroOptions {
  /** Keep the space provisioned (NBD_CMD_FLAG_NO_HOLE): the range reads as zeroes but is not reported as a hole. */
  readonly provisioned: boolean;
  /** Complete only when durable. */
  readonly fua: boolean;
}

export interface BlockDevice {
  readonly name: string;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly readOnly: boolean;

  /**
   * Copies `lengthBytes` at `offsetBytes` into `target` at `targetStart` if all of it is in memory or known to be zero.
   * False if some of it must be read from the store: then `target` holds nothing of use and `read` is the way.
   * Throws `out-of-range`.
   */
  readNow(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetStart: number): boolean;
  /**
   * The same without a copy: the bytes themselves, on loan. They stay as they were at the call, whatever is written meanwhile.
   * Null where that is not possible or does not pay; then `readNow` is the way. Throws `out-of-range`.
   */
  lend(offsetBytes: number, lengthBytes: number): ReadLoan | null;
  /**
   * Fills `target`. Rejects with `out-of-range`, `io-error`, `corrupt`, `closed`. `extents`, which is empty, takes what stood where at the
   * moment that is read, as far as it has room: of the extents that read as zeroes `target` has zeroes as well.
   */
  read(offsetBytes: number, target: Uint8Array, extents?: ExtentList): Promise<void>;

  /**
   * Appends to `extents` what stands where, from `offsetBytes` on: all of the range, or as much of it as the list has room for, at least one
   * byte. False if the block map must be read for it, or there is so much that it should not be done within one turn: then the list
   * holds nothing of use and `extents` is the way. Throws `out-of-range`, `closed`.
   */
  extentsNow(offsetBytes: number, lengthBytes: number, extents: ExtentList): boolean;
  /**
   * The same for any case, in time that follows what is there and not the length. Of a long range it may tell a part alone, and what is written
   * meanwhile may be in it or not. Rejects with `out-of-range`, `io-error`, `corrupt`, `closed`.
   */
  extents(offsetBytes: number, lengthBytes: number, extents: ExtentList): Promise<void>;

  /**
   * Takes `lengthBytes` of `source` from `sourceStart`. Its completion is settled as the durability mode promises, at
   * the next `submit()` at the earliest; with `fua` when it is durable. Throws `out-of-range`, `read-only`, `failed`, `no-space`, `closed`.
   */
  writeNow(offsetBytes: number, lengthBytes: number, source: Uint8Array, sourceStart: number, fua: boolean, completion: Completion): Admission;
  /** The same for any case; waits for room. `source` is borrowed until it settles. */
  write(offsetBytes: number, source: Uint8Array, fua: boolean): Promise<void>;

  /** Makes a range read as zeroes, exactly. */
  zeroNow(offsetBytes: number, lengthBytes: number, options: ZeroOptions, completion: Completion): Admission;
  zero(offsetBytes: number, lengthBytes: number, options: ZeroOptions): Promise<void>;
  /** Gives the whole blocks inside a range back; they read as zeroes. Never `partial`. */
  trimNow(offsetBytes: number, lengthBytes: number, fua: boolean, completion: Completion): Admission;
  trim(offsetBytes: number, lengthBytes: number, fua: boolean): Promise<void>;

  /** Settles when every write that was settled before the call is durable (async mode: at once). */
  flushNow(completion: Completion): void;
  flush(): Promise<void>;

  /** Brings a range into memory as far as there is room. A hint. */
  cache(offsetBytes: number, lengthBytes: number): Promise<void>;

  /** Ends the turn: hands the records of all calls since the last one to the log in one write. */
  submit(): void;
  /** Resolves when `full` is worth another try. Rejects when the volume can take no more writes. */
  whenAdmitting(): Promise<void>;
}

/** One line of a listing of volumes. */
export interface DeviceSummary {
  readonly name: string;
  readonly sizeBytes: number;
  readonly description: string;
}

/** The volumes that a server offers. */
export interface DeviceDirectory {
  /** All volumes, sorted by name. */
  list(): Promise<DeviceSummary[]>;
  /**
   * Opens a volume, or gives the one instance that is open already. Each `acquire` is paired with one `release`.
   * Rejects with `not-found`, `in-use`, `corrupt`, ...
   */
  acquire(name: string): Promise<BlockDevice>;
  release(device: BlockDevice): void;
  /** The limits for clients of a volume that is open. */
  limitsInForce(name: string): VolumeLimits;
}
