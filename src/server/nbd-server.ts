/** The NBD server: listeners, the connections they accept, and their end. */
import net from 'node:net';
import { WaitList } from '../base/async.ts';
import type { ServerSettings } from '../base/settings-types.ts';
import type { Logger } from '../env/env.ts';
import { BufferPool, PIECE_BYTES } from '../session/buffer-pool.ts';
import { ReplyBudget } from '../session/reply-budget.ts';
import type { SessionResources } from '../session/host.ts';
import { PayloadBudget } from '../session/payload-budget.ts';
import type { DeviceDirectory } from '../volume/block-device.ts';
import { Connection } from './connection.ts';
import { listen, type ListenAddress, type ListenerInfo } from './listener.ts';
import type { ReceivePath } from './transport.ts';

/** Idle buffers that are kept for reuse, as a share of the memory that payloads may take. */
const IDLE_SHARE = 4;
/** Looks at stalled clients in the time after which one is dropped. */
const CHECKS_PER_TIMEOUT = 8;

/** While stopping: how often clients are dropped that have all their answers and keep their side open. */
const LINGER_MS = 1000;

export interface NbdServerOptions {
  readonly directory: DeviceDirectory;
  readonly settings: ServerSettings;
  readonly logger: Logger;
  /** `onread` unless told otherwise. */
  readonly receivePath?: ReceivePath;
}

export class NbdServer {
  readonly #options: NbdServerOptions;
  readonly #resources: SessionResources;
  readonly #servers: net.Server[] = [];
  readonly #connections = new Set<Connection>();
  readonly #ended = new WaitList();
  #progressTimer: NodeJS.Timeout | null = null;
  #connectionCount = 0;
  #stopping = false;

  constructor(options: NbdServerOptions) {
    const { settings, directory } = options;
    this.#options = options;
    this.#resources = {
      settings,
      directory,
      pool: new BufferPool(settings.payloadBytes / IDLE_SHARE),
      budget: new PayloadBudget(settings.payloadBytes),
      replyBudget: new ReplyBudget(settings.replyBytes),
      scratch: new Uint8Array(PIECE_BYTES),
    };
  }

  /** Clients that are connected now. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Bytes of buffers that connections hold now. */
  get bufferBytes(): number {
    return this.#resources.pool.leasedBytes;
  }

  /** Bytes of replies that clients have not taken. */
  get replyBytes(): number {
    return this.#resources.replyBudget.usedBytes;
  }

  /** Starts to accept clients at `address`. Rejects with `in-use` or `io-error`. */
  async listen(address: ListenAddress): Promise<ListenerInfo> {
    const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true });
    const info = await listen(server, address);
    server.on('connection', (accepted) => this.#accept(accepted, info.name));
    server.on('error', (error) => this.#options.logger.log('error', 'listener-failed', { listener: info.name, message: error.message }));
    this.#servers.push(server);
    return info;
  }

  /**
   * Stops: no new clients; what the connected ones ask for from now on is refused, what is under way is finished, for `graceMs` at most;
   * then they are cut off. On return no volume is used any more, and the files of unix sockets are gone.
   */
  async stop({ graceMs }: { readonly graceMs: number }): Promise<void> {
    this.#stopping = true;
    for (const server of this.#servers.splice(0)) server.close();
    for (const connection of this.#connections) connection.session.shutdown();
    const deadline = setTimeout(() => this.#dropAll(), graceMs);
    const impatience = setInterval(() => this.#dropLingering(), LINGER_MS);
    // Requests that are in the sockets already get their refusal: one turn to read them, one to answer.
    for (let turn = 0; turn < 2; turn += 1) await new Promise((resolve) => void setImmediate(resolve));
    for (const connection of this.#connections) connection.session.leaveIfIdle();
    while (this.#connections.size > 0) {
      // Clients that only negotiate have nothing to lose: they have as long as the others need.
      if (![...this.#connections].some(({ session }) => session.inTransmission)) this.#dropAll();
      await this.#ended.wait();
    }
    clearTimeout(deadline);
    clearInterval(impatience);
    if (this.#progressTimer !== null) clearInterval(this.#progressTimer);
    this.#progressTimer = null;
  }

  /** A client that has its last answer and does not close does not hold up the end. */
  #dropLingering(): void {
    for (const connection of this.#connections) if (connection.onlyLingers) connection.drop('server stopped');
  }

  #accept(accepted: net.Socket, listener: string): void {
    const { settings, logger, receivePath = 'onread' } = this.#options;
    if (this.#stopping || this.#connections.size >= settings.maxConnections) {
      logger.log('warn', 'client-turned-away', { listener, connectionCount: this.#connections.size, stopping: this.#stopping });
      accepted.destroy();
      return;
    }
    this.#connectionCount += 1;
    const connection = new Connection({
      id: this.#connectionCount,
      accepted,
      listener,
      resources: this.#resources,
      receivePath,
      logger,
      onEnded: (ended) => {
        this.#connections.delete(ended);
        this.#ended.wake();
      },
    });
    this.#connections.add(connection);
    this.#progressTimer ??= this.#startProgressTimer();
  }

  #startProgressTimer(): NodeJS.Timeout {
    const intervalMs = this.#options.settings.payloadTimeoutMs / CHECKS_PER_TIMEOUT;
    return setInterval(() => {
      for (const connection of this.#connections) connection.checkProgress(intervalMs);
    }, intervalMs).unref();
  }

  #dropAll(): void {
    for (const connection of this.#connections) connection.drop('server stopped');
  }
}
