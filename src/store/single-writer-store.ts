/**
 * A store that has no conditional writes, whose owner vouches that nobody else writes: a create looks first. Between the look and the write another one may
 * create the key, and nobody would know.
 */
import type { CallOptions, PutOutcome, RemoteObject, RemotePlace, RemoteStore, RequestCounters } from './remote-store.ts';

export class SingleWriterStore implements RemoteStore {
  readonly #inner: RemoteStore;

  constructor(inner: RemoteStore) {
    this.#inner = inner;
  }

  get place(): RemotePlace {
    return this.#inner.place;
  }

  get counters(): Readonly<RequestCounters> {
    return this.#inner.counters;
  }

  async putIfAbsent(key: string, parts: readonly Uint8Array[], options?: CallOptions): Promise<PutOutcome> {
    const sizeBytes = await this.#inner.head(key, options);
    if (sizeBytes === null) {
      await this.#inner.put(key, parts, options);
      return 'created';
    }
    // An earlier try of ours may have been lost on its way back.
    const there = await this.#inner.getWhole(key, sizeBytes, options);
    return Buffer.compare(there, Buffer.concat(parts)) === 0 ? 'created' : 'exists';
  }

  put(key: string, parts: readonly Uint8Array[], options?: CallOptions): Promise<void> {
    return this.#inner.put(key, parts, options);
  }

  getRange(key: string, target: Uint8Array, offsetBytes: number, options?: CallOptions): Promise<void> {
    return this.#inner.getRange(key, target, offsetBytes, options);
  }

  getWhole(key: string, maxBytes: number, options?: CallOptions): Promise<Uint8Array> {
    return this.#inner.getWhole(key, maxBytes, options);
  }

  head(key: string, options?: CallOptions): Promise<number | null> {
    return this.#inner.head(key, options);
  }

  list(prefix: string, startAfter?: string, options?: CallOptions): AsyncIterable<readonly RemoteObject[]> {
    return this.#inner.list(prefix, startAfter, options);
  }

  remove(keys: readonly string[], options?: CallOptions): Promise<void> {
    return this.#inner.remove(keys, options);
  }

  close(): void {
    this.#inner.close();
  }
}
