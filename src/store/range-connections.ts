/** The connections of one store over which ranges are read: kept open, a limited number, and first come, first served where all are busy. */
import { type Deferred, deferred } from '../base/async.ts';
import { RangeConnection, type RangeEndpoint, type TakeBody } from './range-connection.ts';

export class RangeConnections {
  readonly #endpoint: RangeEndpoint;
  readonly #connectionsMax: number;
  readonly #open = new Set<RangeConnection>();
  /** The one used last is at the end. */
  readonly #free: RangeConnection[] = [];
  readonly #waiting = new Set<Deferred<RangeConnection>>();

  constructor(endpoint: RangeEndpoint, connectionsMax: number) {
    this.#endpoint = endpoint;
    this.#connectionsMax = connectionsMax;
  }

  /** As `RangeConnection.ask`, over a connection of its own for the time. `onSend` is called each time that the request is sent. */
  async ask(request: string, take: TakeBody, signal: AbortSignal, onSend: () => void): Promise<void> {
    for (;;) {
      const connection = this.#takeFree() ?? (await this.#wait(signal));
      const { wasUsed } = connection;
      try {
        signal.throwIfAborted();
        onSend();
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
    for (let free = this.#free.pop(); free !== undefined; free = this.#free.pop()) if (!free.isClosed) return free;
    return this.#open.size < this.#connectionsMax ? this.#connect() : null;
  }

  #connect(): RangeConnection {
    const connection = new RangeConnection(this.#endpoint, (closed) => this.#open.delete(closed));
    this.#open.add(connection);
    return connection;
  }

  #giveBack(connection: RangeConnection): void {
    if (connection.isClosed) this.#open.delete(connection);
    const waiting = this.#waiting.values().next().value;
    if (waiting === undefined) {
      if (!connection.isClosed) this.#free.push(connection);
      return;
    }
    this.#waiting.delete(waiting);
    waiting.resolve(connection.isClosed ? this.#connect() : connection);
  }

  async #wait(signal: AbortSignal): Promise<RangeConnection> {
    signal.throwIfAborted();
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

  /** What runs fails. */
  close(): void {
    for (const connection of this.#open) connection.close();
  }
}
