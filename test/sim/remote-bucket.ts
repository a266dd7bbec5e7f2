/**
 * A bucket in memory, with a network in front of it, all of it decided by a seed: latencies, requests and answers that are lost, effects that come after the client has
 * given up. Any number of clients (hosts) share one bucket. The real RetryingStore stands on its transport, so the simulator runs the code that
 * S3 runs.
 *
 * What travels to the bucket, and its effect there, goes by the bucket's clock: it happens although the client dies meanwhile. What travels back goes by the client's.
 */
import type { Clock } from '../../src/env/env.ts';
import { RULES, remoteError, type FailureRule, type RemoteError } from '../../src/store/remote-errors.ts';
import { newCounters, type PageRequest, type RemoteObject, type RemotePage, type RemotePlace, type RemoteTransport, type RequestCounters } from '../../src/store/remote-store.ts';
import type { SeededRandom } from './random.ts';
import type { Scheduler } from './scheduler.ts';

/** Chances in [0, 1] that a request meets each of these; the rest goes well. */
export interface RemoteFaults {
  /** Refused with a failure that passes (500), or with `slow down`: without an effect. */
  readonly failing: number;
  readonly throttling: number;
  /** Lost on the way there; nobody answers. */
  readonly lostRequest: number;
  /** It has its effect, and the answer is lost: a broken connection, or silence. */
  readonly lostAnswer: number;
  /** It arrives very late: most likely when its client has given it up, perhaps behind its next try. */
  readonly lateRequest: number;
  /** The body of a read ends early. */
  readonly cutBody: number;
  /** A read has one bit flipped, and nobody says so. */
  readonly flippedBit: number;
}

export const NO_FAULTS: RemoteFaults = { failing: 0, throttling: 0, lostRequest: 0, lostAnswer: 0, lateRequest: 0, cutBody: 0, flippedBit: 0 };

/** What the bucket makes of `If-None-Match: *`. `racy`: refused once an object has stood for a moment. */
export type ConditionBehaviour = 'full' | 'refused' | 'ignored' | 'racy';

export interface BucketOptions {
  /** The world's, not that of a process: it goes on when clients die. */
  readonly clock: Pick<Clock, 'nowMs' | 'setTimer'>;
  readonly random: SeededRandom;
  /** One way, drawn evenly. */
  readonly latencyMsMin: number;
  readonly latencyMsMax: number;
  readonly lateMsMax: number;
  readonly pageObjects: number;
  readonly conditions: ConditionBehaviour;
}

export interface StoredBytes {
  readonly bytes: Uint8Array;
  readonly sinceMs: number;
}

const RACY_MS = 50;
const WALL_START_MS = Date.UTC(2030, 0, 1);

/** The server's side: objects, and what may be done to them behind everybody's back. */
export class RemoteBucket {
  readonly objects = new Map<string, StoredBytes>();
  readonly options: BucketOptions;
  faults: RemoteFaults = NO_FAULTS;
  /** Nobody answers at all: the uplink is down. */
  isDown = false;
  /** Refuses every request with this: a bucket that was removed, credentials that have expired, a quota that is used up. */
  refusal: FailureRule | null = null;

  constructor(options: BucketOptions) {
    this.options = options;
  }

  put(key: string, bytes: Uint8Array): void {
    this.objects.set(key, { bytes, sinceMs: this.options.clock.nowMs() });
  }

  /** False: the key is taken, and the bucket heeds that. */
  putIfAbsent(key: string, bytes: Uint8Array): boolean {
    const there = this.objects.get(key);
    const { conditions, clock } = this.options;
    const isHeeded = conditions === 'full' || (conditions === 'racy' && there !== undefined && clock.nowMs() - there.sinceMs > RACY_MS);
    if (there !== undefined && isHeeded) return false;
    this.put(key, bytes);
    return true;
  }

  keysFrom(prefix: string, after: string): string[] {
    return [...this.objects.keys()].filter((key) => key.startsWith(prefix) && key > after).toSorted();
  }
}

/** The world's own time, which no process's death stops. */
export function schedulerClock(scheduler: Scheduler): Clock {
  const setTimer: Clock['setTimer'] = (delayMs, callback) => {
    const event = scheduler.after(delayMs, callback);
    return {
      cancel: () => {
        event.action = null;
      },
    };
  };
  const sleep = (delayMs: number): Promise<void> =>
    new Promise((resolve) => {
      setTimer(delayMs, resolve);
    });
  return { nowMs: () => scheduler.nowMs, wallMs: () => WALL_START_MS + Math.floor(scheduler.nowMs), setTimer, sleep, yield: () => sleep(0) };
}

type Answer<T> = { readonly value: T } | { readonly error: RemoteError };

interface Call<T> {
  readonly doing: string;
  readonly key: string;
  readonly signal: AbortSignal;
  /** At the bucket; null: a failure of the client's. */
  readonly effect: () => Answer<T>;
  /** The answer has arrived, and the client still waits for it. */
  readonly onArrival?: (value: T) => void;
}

/** One client of a bucket. */
export class BucketTransport implements RemoteTransport {
  readonly place: RemotePlace = { endpoint: 'memory', bucket: 'simulated', prefix: '' };
  readonly counters: RequestCounters = newCounters();
  readonly #bucket: RemoteBucket;
  readonly #clock: Pick<Clock, 'setTimer'>;

  /** `clock`: the client's. */
  constructor(bucket: RemoteBucket, clock: Pick<Clock, 'setTimer'>) {
    this.#bucket = bucket;
    this.#clock = clock;
  }

  put(key: string, body: Uint8Array, signal: AbortSignal): Promise<void> {
    this.#countPut(body);
    const bytes = Uint8Array.from(body); // the caller may reuse its memory when the call settles, and this request may arrive later
    return this.#call({ doing: 'writing', key, signal, effect: () => ({ value: this.#bucket.put(key, bytes) }) });
  }

  putIfAbsent(key: string, body: Uint8Array, signal: AbortSignal): Promise<void> {
    this.#countPut(body);
    const bytes = Uint8Array.from(body);
    const effect = (): Answer<void> => {
      if (this.#bucket.options.conditions === 'refused') return this.#fail(RULES.unsupported, 'creating', key, 'NotImplemented');
      return this.#bucket.putIfAbsent(key, bytes) ? { value: undefined } : this.#fail(RULES.lostCondition, 'creating', key, 'PreconditionFailed');
    };
    return this.#call({ doing: 'creating', key, signal, effect });
  }

  #countPut(body: Uint8Array): void {
    this.counters.puts += 1;
    this.counters.sentBytes += body.length;
  }

  async getRange(key: string, target: Uint8Array, offsetBytes: number, signal: AbortSignal): Promise<void> {
    this.counters.gets += 1;
    const lastByte = offsetBytes + target.length;
    const effect = (): Answer<Uint8Array> => {
      const object = this.#bucket.objects.get(key);
      if (object === undefined) return this.#fail(RULES.notFound, 'reading', key, 'NoSuchKey');
      if (object.bytes.length < lastByte) return this.#fail(RULES.damaged, 'reading', key, 'too short');
      return { value: object.bytes.subarray(offsetBytes, lastByte) };
    };
    await this.#call({ doing: 'reading', key, signal, effect, onArrival: (bytes) => this.#receive(bytes, target, key) });
  }

  async getWhole(key: string, maxBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    this.counters.gets += 1;
    const effect = (): Answer<Uint8Array> => {
      const object = this.#bucket.objects.get(key);
      if (object === undefined) return this.#fail(RULES.notFound, 'reading', key, 'NoSuchKey');
      if (object.bytes.length > maxBytes) return this.#fail(RULES.damaged, 'reading', key, 'too long');
      return { value: object.bytes };
    };
    let target = new Uint8Array(0);
    const onArrival = (bytes: Uint8Array): void => {
      target = new Uint8Array(bytes.length);
      this.#receive(bytes, target, key);
    };
    await this.#call({ doing: 'reading', key, signal, effect, onArrival });
    return target;
  }

  #receive(bytes: Uint8Array, target: Uint8Array, key: string): void {
    const { random } = this.#bucket.options;
    const { cutBody, flippedBit } = this.#bucket.faults;
    const isCut = cutBody > 0 && bytes.length > 0 && random.chance(cutBody);
    const length = isCut ? random.below(bytes.length) : bytes.length;
    target.set(bytes.subarray(0, length));
    this.counters.receivedBytes += length;
    if (isCut) throw this.#error(RULES.wrongAnswer, 'reading', key, 'cut');
    if (flippedBit > 0 && length > 0 && random.chance(flippedBit)) {
      const at = random.below(length);
      target[at] = (target[at] ?? 0) ^ (1 << random.below(8));
    }
  }

  head(key: string, signal: AbortSignal): Promise<number> {
    this.counters.gets += 1;
    const effect = (): Answer<number> => {
      const object = this.#bucket.objects.get(key);
      return object === undefined ? this.#fail(RULES.notFound, 'looking for', key, 'NoSuchKey') : { value: object.bytes.length };
    };
    return this.#call({ doing: 'looking for', key, signal, effect });
  }

  listPage({ prefix, startAfter, token }: PageRequest, signal: AbortSignal): Promise<RemotePage> {
    this.counters.lists += 1;
    const effect = (): Answer<RemotePage> => {
      const keys = this.#bucket.keysFrom(prefix, token ?? startAfter ?? '');
      const page = keys.slice(0, this.#bucket.options.pageObjects);
      const objects = page.map((key): RemoteObject => {
        const { bytes, sinceMs } = this.#bucket.objects.get(key) ?? { bytes: new Uint8Array(0), sinceMs: 0 };
        return { key, sizeBytes: bytes.length, modifiedMs: WALL_START_MS + Math.floor(sinceMs) };
      });
      return { value: { objects, next: keys.length > page.length ? (page.at(-1) ?? null) : null } };
    };
    return this.#call({ doing: 'listing', key: prefix, signal, effect });
  }

  remove(keys: readonly string[], signal: AbortSignal): Promise<void> {
    this.counters.deletes += 1;
    const names = [...keys];
    const effect = (): Answer<void> => {
      for (const key of names) this.#bucket.objects.delete(key);
      return { value: undefined };
    };
    return this.#call({ doing: 'removing', key: names[0] ?? '', signal, effect });
  }

  close(): void {
    // Nothing to close: what is under way arrives.
  }

  #error(rule: FailureRule, doing: string, key: string, word: string): RemoteError {
    return remoteError(rule, { doing, place: this.place, key }, word, word);
  }

  #fail(rule: FailureRule, doing: string, key: string, word: string): { readonly error: RemoteError } {
    return { error: this.#error(rule, doing, key, word) };
  }

  #call<T>(call: Call<T>): Promise<T> {
    const { clock } = this.#bucket.options;
    return new Promise((resolve, reject) => {
      let isOver = false;
      const settle = (act: () => void): void => {
        if (isOver) return;
        isOver = true;
        call.signal.removeEventListener('abort', onAbort);
        act();
      };
      const onAbort = (): void => settle(() => reject(this.#error(RULES.cancelled, call.doing, call.key, 'aborted')));
      if (call.signal.aborted) return onAbort();
      call.signal.addEventListener('abort', onAbort, { once: true });
      const arrive = (answer: Answer<T>): void =>
        settle(() => {
          if ('error' in answer) return reject(answer.error);
          try {
            call.onArrival?.(answer.value);
          } catch (error) {
            return reject(error instanceof Error ? error : new Error(String(error)));
          }
          resolve(answer.value);
        });
      const fate = this.#drawFate();
      if (fate === 'lost-request') return;
      clock.setTimer(this.#drawLatencyMs(fate === 'late'), () => {
        const answer = this.#serve(call, fate);
        if (answer !== null) this.#clock.setTimer(this.#drawLatencyMs(false), () => arrive(answer));
      });
    });
  }

  /** At the bucket. Null: nobody hears of it. */
  #serve<T>(call: Call<T>, fate: Fate): Answer<T> | null {
    if (this.#bucket.isDown) return null;
    const refuse = (rule: FailureRule, word: string): Answer<T> => this.#fail(rule, call.doing, call.key, word);
    if (this.#bucket.refusal !== null) return refuse(this.#bucket.refusal, 'refused');
    if (fate === 'failing') return refuse(RULES.transient, 'InternalError');
    if (fate === 'throttling') {
      this.counters.throttled += 1;
      return refuse(RULES.throttled, 'SlowDown');
    }
    const answer = call.effect();
    if (fate === 'silence') return null;
    return fate === 'broken-answer' ? refuse(RULES.transient, 'ECONNRESET') : answer;
  }

  #drawLatencyMs(isLate: boolean): number {
    const { random, latencyMsMin, latencyMsMax, lateMsMax } = this.#bucket.options;
    return latencyMsMin + random.unit() * ((isLate ? lateMsMax : latencyMsMax) - latencyMsMin);
  }

  #drawFate(): Fate {
    const { faults, options } = this.#bucket;
    const { random } = options;
    let rest = random.unit();
    const meets = (chance: number): boolean => {
      rest -= chance;
      return rest < 0;
    };
    if (meets(faults.failing)) return 'failing';
    if (meets(faults.throttling)) return 'throttling';
    if (meets(faults.lostRequest)) return 'lost-request';
    if (meets(faults.lateRequest)) return 'late';
    if (meets(faults.lostAnswer)) return random.chance(0.5) ? 'silence' : 'broken-answer';
    return 'well';
  }
}

type Fate = 'well' | 'failing' | 'throttling' | 'lost-request' | 'late' | 'silence' | 'broken-answer';
