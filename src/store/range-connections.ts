/** The connections of one store over which ranges are read: kept open, a limited number, and first come, first served where all are busy. */
import { type Deferred, deferred } from '../base/async.ts';
import { RangeConnection, type RangeEndpoint, type TakeBody } from './range-connection.ts';
import type { RequestCounters } from './remote-store.ts';

export type RangeCounters = Pick<RequestCounters, 'gets' | 'receivedBytes'>;

function closedError(): Error {
  return Object.assign(new Error('the connections to the store were closed'), { code: 'ECONNABORTED' });
}

export class RangeConnections {
  readonly #endpoint: RangeEndpoint;
  readonly #connectionsMax: number;
  readonly #counters: RangeCounters;
  /** Those in use and those that rest, also closed ones until they are met: each has its one place in the limit. */
  readonly #open = new Set<RangeConnection>();
  /** The one used last is at the end. */
  readonly #free: RangeConnection[] = [];
  readonly #waiting = new Set<Deferred<RangeConnection>>();

  #isClosed = false;

  /** Counts each request as it is sent, and the bytes of bodies as they come. */
  constructor(endpoint: RangeEndpoint, connectionsMax: number, counters: RangeCounters) {
    this.#endpoint = endpoint;
    this.#connectionsMax = connectionsMax;
    this.#counters = counters;
  }

  /** As `RangeConnection.ask`, over a connection of its own for the time. */
  async ask(request: string, take: TakeBody, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      if (this.#isClosed) throw closedError();
      const connection = this.#takeFree() ?? (await this.#wait(signal));
      const { wasUsed } = connection;
      try {
        signal.throwIfAborted();
        this.#counters.gets += 1;
        await connection.ask(request, take, signal);
        return;
      } catch (error) {
        // The store has closed what rested, before it saw this request or as it did: what only reads can be asked again, over another.
        if (signal.aborted || !wasUsed || !connection.hasHeardNothing) throw error;
      } finally {
        this.#giveBack(connection);
      }
    }
  }

  /** Null: all are busy. */
  #takeFree(): RangeConnection | null {
    for (let free = this.#free.pop(); free !== undefined; free = this.#free.pop()) {
      if (!free.isClosed) return free;
      this.#open.delete(free);
    }
    return this.#open.size < this.#connectionsMax ? this.#connect() : null;
  }

  #connect(): RangeConnection {
    const connection = new RangeConnection(this.#endpoint, this.#counters);
    this.#open.add(connection);
    return connection;
  }

  #giveBack(connection: RangeConnection): void {
    // Its turn came as its caller left: not asked yet, it would keep the process from its end.
    if (!connection.wasUsed) connection.close();
    if (connection.isClosed) this.#open.delete(connection);
    const waiting = this.#waiting.values().next().value;
    if (waiting !== undefined) {
      this.#waiting.delete(waiting);
      waiting.resolve(connection.isClosed ? this.#connect() : connection);
    } else if (!connection.isClosed) {
      this.#free.push(connection);
    }
  }

  async #wait(signal: AbortSignal): Promise<RangeConnection> {
    const waiting = deferred<RangeConnection>();
    const onAbort = (): void => {
      if (this.#waiting.delete(waiting)) waiting.reject(signal.reason);
    };
    this.#waiting.add(waiting);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await waiting.promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** What runs or waits fails, and whatever is asked from now on. */
  close(): void {
    this.#isClosed = true;
    for (const waiting of this.#waiting) waiting.reject(closedError());
    this.#waiting.clear();
    for (const connection of this.#open) connection.close();
  }
}
