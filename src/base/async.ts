/** Small tools for asynchronous code: a promise with its resolvers, a lock, a wait list. */

export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

/** A promise and its resolvers (Node 20 has no `Promise.withResolvers`). */
export function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((resolvePromise, rejectPromise) => {
    resolve = resolvePromise;
    reject = rejectPromise;
  });
  return { promise, resolve, reject };
}

/** Runs tasks one after another, in the order they were handed in. A task that fails fails only its own caller. */
export class SerialQueue {
  #tail: Promise<unknown> = Promise.resolve();

  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(task);
    this.#tail = result.catch(() => undefined); // the caller has `result`; the queue goes on
    return result;
  }

  /** Settles when all tasks handed in so far have ended. */
  async idle(): Promise<void> {
    await this.#tail;
  }
}

/** A condition that several callers wait for; `wake` releases all that wait now. */
export class WaitList {
  #waiting: Deferred<void> | null = null;

  wait(): Promise<void> {
    this.#waiting ??= deferred<void>();
    return this.#waiting.promise;
  }

  wake(): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.resolve();
  }
}

/** Runs `task` on each item, at most `limit` at a time. Rejects with the first failure, after those that run have ended. */
export async function forEachLimited<T>(items: readonly T[], limit: number, task: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  let failed = false;
  const worker = async (): Promise<void> => {
    while (next < items.length && !failed) {
      const item = items[next];
      next += 1;
      await task(item).catch((error: unknown) => {
        failed = true;
        throw error;
      });
    }
  };
  const results = await Promise.allSettled(Array.from({ length: Math.min(limit, items.length) }, worker));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/**
 * Listeners of AbortSignals, any number of them a signal: Node warns of a leak from the eleventh on, and a signal that ends a hundred calls
 * is none.
 */
export class AbortListeners {
  readonly #listeners = new Map<AbortSignal, Set<() => void>>();

  /** Calls `listener` when `signal` aborts, in that turn; what is returned ends that. A signal that has aborted already is not looked at. */
  add(signal: AbortSignal, listener: () => void): () => void {
    const listeners = this.#listeners.get(signal) ?? this.#watch(signal);
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#unwatch(signal, listeners);
    };
  }

  readonly #onAbort = (event: Event): void => {
    const signal = event.target;
    if (!(signal instanceof AbortSignal)) return;
    for (const listener of this.#listeners.get(signal) ?? []) listener();
  };

  #watch(signal: AbortSignal): Set<() => void> {
    const listeners = new Set<() => void>();
    this.#listeners.set(signal, listeners);
    signal.addEventListener('abort', this.#onAbort);
    return listeners;
  }

  #unwatch(signal: AbortSignal, listeners: Set<() => void>): void {
    if (this.#listeners.get(signal) !== listeners) return;
    this.#listeners.delete(signal);
    signal.removeEventListener('abort', this.#onAbort);
  }
}
