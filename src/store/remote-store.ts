/**
 * A bucket of a remote object store, as basalt needs it: small binary objects under keys, that are written whole and read by ranges.
 *
 * Two interfaces. `RemoteTransport` is one attempt at one request: S3 (`s3-store.ts`), or a bucket in memory for tests and the simulator.
 * `RemoteStore` is what the engine sees: the same with retries, deadlines and what follows from lost answers (`retrying-store.ts`), which
 * are one code for all transports.
 *
 * Keys are relative to the prefix of the settings: segments of [a-z0-9._-] with single slashes between them, none of them `.` or `..`; no
 * object's key is the beginning of another's path (`a` and `a/b`), which some stores cannot hold.
 */
import { assert } from '../base/assert.ts';

/** How long a call may take, and what ends it early. */
export interface CallOptions {
  /** For the whole call with its retries; without it, that of the settings. A listing: for each page. */
  readonly timeoutMs?: number;
  /** Is tried until its time is over, however often that is: for who cannot come again, as a client's read. */
  readonly isPatient?: boolean;
  /** Ends the call with `closed`. An effect that is on its way may still happen. */
  readonly signal?: AbortSignal;
}

/** `exists`: the key was taken, by other bytes than those that were to be put. */
export type PutOutcome = 'created' | 'exists';

export interface RemoteObject {
  readonly key: string;
  readonly sizeBytes: number;
  /** By the store's clock, milliseconds since 1970. */
  readonly modifiedMs: number;
}

/** Requests that were sent, each try of them, since the store was opened; and the bytes of bodies. They are what the store's owner bills. */
export interface RequestCounters {
  puts: number;
  gets: number;
  lists: number;
  deletes: number;
  sentBytes: number;
  receivedBytes: number;
  /** Requests among the above that were a second or later try, and those that were answered with `slow down`. */
  retries: number;
  throttled: number;
}

export function newCounters(): RequestCounters {
  return { puts: 0, gets: 0, lists: 0, deletes: 0, sentBytes: 0, receivedBytes: 0, retries: 0, throttled: 0 };
}

/** Where a store is, for messages. */
export interface RemotePlace {
  readonly endpoint: string;
  readonly bucket: string;
  /** Empty, or ends with a slash. */
  readonly prefix: string;
}

/**
 * All calls reject with a `RemoteError`; its `failure` says whether trying again makes sense, and after what. Parts and targets are borrowed until the call
 * settles. A put is durable when it resolves.
 */
export interface RemoteStore {
  readonly place: RemotePlace;
  readonly counters: Readonly<RequestCounters>;
  /** Writes an object of `parts`, back to back, over whatever has its key. */
  put(key: string, parts: readonly Uint8Array[], options?: CallOptions): Promise<void>;
  /**
   * Writes an object only if its key is free; of several writers one is told `created`. When an answer was lost, the bytes that stand there decide whose object
   * it is: so they must say who wrote them. Rejects with `unsupported` where the store says that it cannot do this; a store that does
   * something else without saying so is found by `probe-conditional.ts`. After `unavailable` or `closed` the object may be there.
   */
  putIfAbsent(key: string, parts: readonly Uint8Array[], options?: CallOptions): Promise<PutOutcome>;
  /**
   * Fills `target` with the object's bytes from `offsetBytes`. Rejects with `not-found`, and with `corrupt` if the object ends before. The bytes are
   * those that the store sent, no more: whether they are right, checksums within the object say.
   */
  getRange(key: string, target: Uint8Array, offsetBytes: number, options?: CallOptions): Promise<void>;
  /** All bytes of an object of at most `maxBytes`. Rejects with `not-found`, and with `corrupt` if it is longer. */
  getWhole(key: string, maxBytes: number, options?: CallOptions): Promise<Uint8Array>;
  /** The object's size in bytes, or null if there is none. A bucket that is not there is an error. */
  head(key: string, options?: CallOptions): Promise<number | null>;
  /**
   * Objects whose keys begin with `prefix`, behind `startAfter`, in pages of the store's choosing. It may lag behind what was put and removed: what must
   * be right asks for the keys themselves.
   */
  list(prefix: string, startAfter?: string, options?: CallOptions): AsyncIterable<readonly RemoteObject[]>;
  /** Removes objects; those that are not there are removed already. */
  remove(keys: readonly string[], options?: CallOptions): Promise<void>;
  /** Ends the connections; calls that run fail. */
  close(): void;
}

/** What a bucket is to who changes nothing in it. */
export type RemoteReader = Pick<RemoteStore, 'place' | 'counters' | 'getRange' | 'getWhole' | 'head' | 'list' | 'close'>;

export interface RemotePage {
  readonly objects: readonly RemoteObject[];
  /** What the next page is asked for with, or null behind the last one. */
  readonly next: string | null;
}

export interface PageRequest {
  readonly prefix: string;
  readonly startAfter: string | undefined;
  /** `next` of the page before. */
  readonly token: string | undefined;
}

/**
 * One try at each. `signal` ends it: from then on it writes nothing into a target. Everything rejects with a `RemoteError`. It counts its
 * requests and bytes; retries are counted by who retries.
 */
export interface RemoteTransport {
  readonly place: RemotePlace;
  readonly counters: RequestCounters;
  put(key: string, body: Uint8Array, signal: AbortSignal): Promise<void>;
  /** Rejects with the failure `lost-condition` where the key is taken, or another write of it is under way. */
  putIfAbsent(key: string, body: Uint8Array, signal: AbortSignal): Promise<void>;
  getRange(key: string, target: Uint8Array, offsetBytes: number, signal: AbortSignal): Promise<void>;
  getWhole(key: string, maxBytes: number, signal: AbortSignal): Promise<Uint8Array>;
  /** Rejects with the failure `not-found` if there is no object. */
  head(key: string, signal: AbortSignal): Promise<number>;
  listPage(request: PageRequest, signal: AbortSignal): Promise<RemotePage>;
  /** Removes up to `REMOVE_KEYS_MAX` objects. */
  remove(keys: readonly string[], signal: AbortSignal): Promise<void>;
  close(): void;
}

/** S3 takes 1000 in one request; Swift removes one after another, and would reach the timeout. */
export const REMOVE_KEYS_MAX = 200;

const SEGMENT = '[a-z0-9_-][a-z0-9._-]{0,199}';
const KEY = new RegExp(`^${SEGMENT}(?:/${SEGMENT})*$`);
const KEY_LENGTH_MAX = 900;

/** Whether every store takes this for a key. */
export function isRemoteKey(key: string): boolean {
  return key.length <= KEY_LENGTH_MAX && KEY.test(key);
}

/** A key is made by us: a bad one is a mistake of ours. */
export function assertRemoteKey(key: string): void {
  assert(isRemoteKey(key), `${key} is no key of a remote object`);
}
