/**
 * A RemoteStore over a transport: retries, deadlines, and what follows from an answer that was lost. A write whose answer is lost may have happened. For a
 * plain put that is harmless (the same bytes go to the same key again). A create that is tried again may meet its own object: so before it
 * says `exists` it reads what stands there, and bytes that are its own are its own creation.
 */
import { AbortListeners } from '../base/async.ts';
import { VolumeError } from '../base/errors.ts';
import type { RetrySettings } from '../base/settings-types.ts';
import { RULES, RemoteError, remoteError, type RemoteRequest } from './remote-errors.ts';
import {
  REMOVE_KEYS_MAX,
  assertRemoteKey,
  type CallOptions,
  type PutOutcome,
  type RemoteObject,
  type RemotePage,
  type RemotePlace,
  type RemoteStore,
  type RemoteTransport,
  type RequestCounters,
} from './remote-store.ts';
import { retry, type Attempt, type RetryWorld } from './retry.ts';

function joinParts(parts: readonly Uint8Array[]): Uint8Array {
  const only = parts[0];
  return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts);
}

function isEqual(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0;
}

export class RetryingStore implements RemoteStore {
  readonly #transport: RemoteTransport;
  readonly #world: RetryWorld;
  readonly #settings: RetrySettings;
  /** Ends what runs when the store is closed. */
  readonly #closing = new AbortController();
  readonly #listeners = new AbortListeners();

  constructor(transport: RemoteTransport, world: RetryWorld, settings: RetrySettings) {
    this.#transport = transport;
    this.#world = world;
    this.#settings = settings;
  }

  get place(): RemotePlace {
    return this.#transport.place;
  }

  get counters(): Readonly<RequestCounters> {
    return this.#transport.counters;
  }

  put(key: string, parts: readonly Uint8Array[], options: CallOptions = {}): Promise<void> {
    assertRemoteKey(key);
    const body = joinParts(parts);
    return this.#retry('writing', key, options, ({ signal }) => this.#transport.put(key, body, signal));
  }

  async putIfAbsent(key: string, parts: readonly Uint8Array[], options: CallOptions = {}): Promise<PutOutcome> {
    assertRemoteKey(key);
    const body = joinParts(parts);
    // Whether a try before this one may have written the object although it failed.
    let mayBeOurs = false;
    return this.#retry('creating', key, options, async ({ signal }) => {
      const wasTried = mayBeOurs;
      mayBeOurs = true;
      try {
        await this.#transport.putIfAbsent(key, body, signal);
        return 'created';
      } catch (error) {
        if (!(error instanceof RemoteError) || error.failure !== 'lost-condition') throw error;
        // Refused by a store that goes on with another's write (409) says nothing yet about what will stand there.
        const isTaken = error.word === 'PreconditionFailed';
        if (isTaken && !wasTried) return 'exists';
        return await this.#whoseIsIt(key, body, signal);
      }
    });
  }

  /** Whether what stands at `key` is `body`. */
  async #whoseIsIt(key: string, body: Uint8Array, signal: AbortSignal): Promise<PutOutcome> {
    try {
      return isEqual(await this.#transport.getWhole(key, body.length, signal), body) ? 'created' : 'exists';
    } catch (error) {
      if (!(error instanceof RemoteError)) throw error;
      if (error.failure === 'damaged') return 'exists'; // longer than ours
      if (error.failure !== 'not-found') throw error;
      throw remoteError(RULES.transient, this.#request('creating', key), 'conflict', 'another write of it is under way, or it was just removed');
    }
  }

  getRange(key: string, target: Uint8Array, offsetBytes: number, options: CallOptions = {}): Promise<void> {
    assertRemoteKey(key);
    if (target.length === 0) return Promise.resolve();
    const doing = `reading ${target.length} bytes at byte ${offsetBytes} of`;
    return this.#retry(doing, key, options, ({ signal }) => this.#transport.getRange(key, target, offsetBytes, signal));
  }

  getWhole(key: string, maxBytes: number, options: CallOptions = {}): Promise<Uint8Array> {
    assertRemoteKey(key);
    return this.#retry('reading', key, options, ({ signal }) => this.#transport.getWhole(key, maxBytes, signal));
  }

  async head(key: string, options: CallOptions = {}): Promise<number | null> {
    assertRemoteKey(key);
    try {
      return await this.#retry('looking for', key, options, ({ signal }) => this.#transport.head(key, signal));
    } catch (error) {
      if (error instanceof RemoteError && error.failure === 'not-found') return null;
      throw error;
    }
  }

  async *list(prefix: string, startAfter?: string, options: CallOptions = {}): AsyncGenerator<readonly RemoteObject[]> {
    let token: string | undefined;
    do {
      const request = { prefix, startAfter, token };
      const page: RemotePage = await this.#retry('listing', prefix, options, ({ signal }) => this.#transport.listPage(request, signal));
      if (page.objects.length > 0) yield page.objects;
      if (page.next !== null && page.next === token) {
        throw remoteError(RULES.wrongAnswer, this.#request('listing', prefix), 'same page', 'the store names the page that it gave as the next one');
      }
      token = page.next ?? undefined;
    } while (token !== undefined);
  }

  async remove(keys: readonly string[], options: CallOptions = {}): Promise<void> {
    for (const key of keys) assertRemoteKey(key);
    for (let from = 0; from < keys.length; from += REMOVE_KEYS_MAX) {
      const some = keys.slice(from, from + REMOVE_KEYS_MAX);
      const first = some[0] ?? '';
      await this.#retry(some.length === 1 ? 'removing' : `removing ${some.length} objects, the first one`, first, options, ({ signal }) => this.#transport.remove(some, signal));
    }
  }

  close(): void {
    this.#closing.abort();
    this.#transport.close();
  }

  #request(doing: string, key: string): RemoteRequest {
    return { doing, place: this.place, key };
  }

  #retry<T>(doing: string, key: string, options: CallOptions, run: (attempt: Attempt) => Promise<T>): Promise<T> {
    if (this.#closing.signal.aborted) return Promise.reject(new VolumeError('closed', `the store at ${this.place.endpoint} was closed`));
    const closing = this.#closing.signal;
    return retry(this.#world, this.#settings, {
      request: this.#request(doing, key),
      timeoutMs: options.timeoutMs ?? null,
      isPatient: options.isPatient ?? false,
      signals: options.signal === undefined ? [closing] : [options.signal, closing],
      listeners: this.#listeners,
      run,
      onRetry: () => {
        this.#transport.counters.retries += 1;
      },
    });
  }
}
