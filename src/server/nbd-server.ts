/** The NBD server: listeners, the connections they accept, and their end. */
import net from 'node:net';
import { assert } from '../base/assert.ts';
import { WaitList } from '../base/async.ts';
import type { ExportTable, ServerSettings } from '../base/settings-types.ts';
import type { Clock, Logger } from '../env/env.ts';
import { BufferPool, PIECE_BYTES } from '../session/buffer-pool.ts';
import { ReplyBudget } from '../session/reply-budget.ts';
import type { SessionResources } from '../session/host.ts';
import { PayloadBudget } from '../session/payload-budget.ts';
import { ThrottleTable } from '../session/throttle.ts';
import { TrafficTable } from '../session/traffic.ts';
import type { DeviceDirectory } from '../volume/block-device.ts';
import { countKeyOf, addressOf, ExportAccess } from './access.ts';
import { Connection, type ConnectionTls } from './connection.ts';
import { newCounts, type ServerCounts } from './counts.ts';
import { listen, type ListenAddress, type ListenerInfo } from './listener.ts';
import { NO_POLL, type PeerPoll } from './peer-look.ts';
import type { TlsCredentials } from './tls-credentials.ts';
import { TlsGate } from './tls-handshake.ts';
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
  readonly clock: Clock;
  /** Who may use which export; everybody all of them unless told otherwise. */
  readonly exports?: ExportTable;
  /** There if and only if `settings.tls` is not `off`. */
  readonly credentials?: TlsCredentials | null;
  /** `onread` unless told otherwise. */
  readonly receivePath?: ReceivePath;
  /** Whether the peer of a socket has left; without it that is seen of TCP sockets only, and a moment late. */
  readonly peerPoll?: PeerPoll;
}

export class NbdServer {
  readonly #options: NbdServerOptions;
  readonly #resources: SessionResources;
  readonly #servers: net.Server[] = [];
  readonly #connections = new Set<Connection>();
  /** Those that negotiate, the oldest first. */
  readonly #halfOpen = new Set<Connection>();
  readonly #perAddress = new Map<string, number>();
  readonly #access: ExportAccess;
  readonly #tls: ConnectionTls | null;
  readonly #counts = newCounts();
  readonly #ended = new WaitList();
  #progressTimer: NodeJS.Timeout | null = null;
  #connectionCount = 0;
  #stopping = false;

  constructor(options: NbdServerOptions) {
    const { settings, directory, clock, exports = new Map(), credentials = null } = options;
    assert((settings.tls === 'off') === (credentials === null), 'TLS has credentials, and no TLS has none');
    this.#options = options;
    this.#access = new ExportAccess(exports, settings.tls);
    this.#tls = credentials === null ? null : { credentials, gate: new TlsGate(settings.maxTlsHandshakes) };
    this.#resources = {
      settings,
      directory,
      pool: new BufferPool(settings.payloadBytes / IDLE_SHARE),
      budget: new PayloadBudget(settings.payloadBytes),
      replyBudget: new ReplyBudget(settings.replyBytes),
      scratch: new Uint8Array(PIECE_BYTES),
      traffic: new TrafficTable(() => performance.now()),
      throttles: new ThrottleTable(clock),
    };
  }

  /** Clients that are connected now. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Of those, how many negotiate. */
  get halfOpenCount(): number {
    return this.#halfOpen.size;
  }

  /** What became of clients so far. */
  get counts(): Readonly<ServerCounts> {
    return this.#counts;
  }

  /** What clients ask of volumes. */
  get traffic(): TrafficTable {
    return this.#resources.traffic;
  }

  /** The limits that hold for clients of volumes. */
  get throttles(): ThrottleTable {
    return this.#resources.throttles;
  }

  /** Memory that clients share: what is used of it, and the limits. Bytes. */
  memory(): { readonly bufferBytes: number; readonly idleBufferBytes: number; readonly replyBytes: number; readonly replyBytesMax: number; readonly payloadBytes: number; readonly payloadBytesMax: number } {
    const { pool, replyBudget, budget, settings } = this.#resources;
    return { bufferBytes: pool.leasedBytes, idleBufferBytes: pool.idleBytes, replyBytes: replyBudget.usedBytes, replyBytesMax: settings.replyBytes, payloadBytes: budget.usedBytes, payloadBytesMax: settings.payloadBytes };
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
    const { settings } = this.#options;
    const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true });
    const info = await listen(server, address, settings);
    server.on('connection', (accepted) => void this.#accept(accepted, info.name));
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

  /** Serves a client that is connected already, by a socket that nobody reads yet. Resolves when it has gone. */
  async serve(accepted: net.Socket, listener: string): Promise<void> {
    const connection = this.#accept(accepted, listener);
    while (connection !== null && this.#connections.has(connection)) await this.#ended.wait();
  }

  /** Makes room for one more client of an address where it takes the place of one that only negotiates. False: there is none. */
  #makeRoom(key: string | null): boolean {
    const { maxConnections, maxConnectionsPerAddress, maxHalfOpen } = this.#options.settings;
    const ofAddress = key === null ? 0 : (this.#perAddress.get(key) ?? 0);
    if (maxConnectionsPerAddress > 0 && ofAddress >= maxConnectionsPerAddress) return this.#displace((connection) => countKeyOf(connection.address) === key);
    if (this.#connections.size >= maxConnections || this.#halfOpen.size >= maxHalfOpen) return this.#displace(() => true);
    return true;
  }

  /** Drops the client among `candidates` that has negotiated longest without waiting for us. */
  #displace(candidates: (connection: Connection) => boolean): boolean {
    for (const connection of this.#halfOpen) {
      if (!connection.onlyNegotiates || !candidates(connection)) continue;
      this.#counts.displaced += 1;
      this.#forget(connection); // its socket closes in a moment, and then gives everything back
      connection.drop('negotiated too long, and others wait');
      return true;
    }
    return false;
  }

  #forget(connection: Connection): void {
    this.#halfOpen.delete(connection);
    const key = countKeyOf(connection.address);
    if (!this.#connections.delete(connection) || key === null) return;
    const left = (this.#perAddress.get(key) ?? 0) - 1;
    if (left > 0) this.#perAddress.set(key, left);
    else this.#perAddress.delete(key);
  }

  #accept(accepted: net.Socket, listener: string): Connection | null {
    const { settings, logger, receivePath = 'onread' } = this.#options;
    const key = countKeyOf(addressOf(accepted.remoteAddress));
    if (this.#stopping || !this.#makeRoom(key)) {
      this.#counts.turnedAway += 1;
      logger.log('warn', 'client-turned-away', { listener, peer: accepted.remoteAddress ?? 'unix', connectionCount: this.#connections.size, halfOpenCount: this.#halfOpen.size, stopping: this.#stopping });
      accepted.destroy();
      return null;
    }
    this.#connectionCount += 1;
    this.#counts.accepted += 1;
    if (key !== null) this.#perAddress.set(key, (this.#perAddress.get(key) ?? 0) + 1);
    const connection = this.#connect(accepted, listener, { receivePath, logger });
    this.#connections.add(connection);
    this.#halfOpen.add(connection);
    this.#progressTimer ??= this.#startProgressTimer(settings);
    return connection;
  }

  #connect(accepted: net.Socket, listener: string, { receivePath, logger }: { readonly receivePath: ReceivePath; readonly logger: Logger }): Connection {
    return new Connection({
      id: this.#connectionCount,
      accepted,
      listener,
      resources: this.#resources,
      receivePath,
      logger,
      access: this.#access,
      tls: this.#tls,
      counts: this.#counts,
      peerPoll: this.#options.peerPoll ?? NO_POLL,
      onNegotiated: (negotiated) => this.#halfOpen.delete(negotiated),
      onEnded: (ended) => {
        this.#forget(ended);
        this.#ended.wake();
      },
    });
  }

  #startProgressTimer({ payloadTimeoutMs, idleTimeoutMs }: ServerSettings): NodeJS.Timeout {
    const intervalMs = Math.min(payloadTimeoutMs, idleTimeoutMs === 0 ? payloadTimeoutMs : idleTimeoutMs) / CHECKS_PER_TIMEOUT;
    return setInterval(() => {
      for (const connection of this.#connections) connection.checkProgress(intervalMs);
    }, intervalMs).unref();
  }

  #dropAll(): void {
    for (const connection of this.#connections) connection.drop('server stopped');
  }
}
