/** A real server over memory devices, on sockets of its own, for tests that need the network. */
import { NodeClock } from '../../src/env/node-env.ts';
import { hasPeerLeft } from '../../src/env/node-sockets.ts';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExportTable, ServerSettings } from '../../src/base/settings-types.ts';
import type { LogFields, Logger, LogLevel } from '../../src/env/env.ts';
import type { ListenAddress } from '../../src/server/listener.ts';
import { NbdServer } from '../../src/server/nbd-server.ts';
import { TlsCredentials } from '../../src/server/tls-credentials.ts';
import type { ReceivePath } from '../../src/server/transport.ts';
import { MemoryDevice, MemoryDirectory } from './memory-device.ts';
import type { NbdAddress } from './nbd-client.ts';
import { TEST_SETTINGS } from './session-driver.ts';

export interface LoggedEvent {
  readonly level: LogLevel;
  readonly event: string;
  readonly fields: LogFields;
}

export class MemoryLogger implements Logger {
  readonly events: LoggedEvent[] = [];
  #waiting: { event: string; resolve: (found: LoggedEvent) => void }[] = [];

  log(level: LogLevel, event: string, fields: LogFields = {}): void {
    const logged = { level, event, fields };
    this.events.push(logged);
    for (const waiting of this.#waiting.filter((candidate) => candidate.event === event)) waiting.resolve(logged);
    this.#waiting = this.#waiting.filter((candidate) => candidate.event !== event);
  }

  /** The first event of that name: one that was logged, or the next one. */
  first(event: string): Promise<LoggedEvent> {
    const found = this.events.find((candidate) => candidate.event === event);
    if (found !== undefined) return Promise.resolve(found);
    return new Promise((resolve) => void this.#waiting.push({ event, resolve }));
  }
}

export type Listening = 'ipv4' | 'ipv6' | 'unix';

export interface HarnessOptions {
  readonly listening?: Listening;
  readonly receivePath?: ReceivePath;
  readonly settings?: Partial<ServerSettings>;
  readonly devices?: readonly MemoryDevice[];
  readonly exports?: ExportTable;
}

export class ServerHarness {
  readonly server: NbdServer;
  readonly directory: MemoryDirectory;
  readonly device: MemoryDevice;
  readonly logger: MemoryLogger;
  readonly address: NbdAddress;
  readonly credentials: TlsCredentials | null;
  readonly #folder: string;

  private constructor(parts: { server: NbdServer; directory: MemoryDirectory; logger: MemoryLogger; address: NbdAddress; folder: string; credentials: TlsCredentials | null }) {
    this.server = parts.server;
    this.directory = parts.directory;
    this.device = parts.directory.devices[0];
    this.logger = parts.logger;
    this.address = parts.address;
    this.credentials = parts.credentials;
    this.#folder = parts.folder;
  }

  static async start(options: HarnessOptions = {}): Promise<ServerHarness> {
    const folder = await mkdtemp(join(tmpdir(), 'basalt-server-'));
    const directory = new MemoryDirectory(...(options.devices ?? [new MemoryDevice({ sizeBytes: 16 * 1024 * 1024 })]));
    const logger = new MemoryLogger();
    const settings = { ...TEST_SETTINGS, ...options.settings };
    const credentials = settings.tls === 'off' ? null : await TlsCredentials.load(settings);
    const server = new NbdServer({ directory, settings, logger, clock: new NodeClock(), credentials, exports: options.exports, receivePath: options.receivePath, peerPoll: hasPeerLeft });
    const wanted: Record<Listening, ListenAddress> = {
      ipv4: { kind: 'tcp', host: '127.0.0.1', port: 0 },
      ipv6: { kind: 'tcp', host: '::1', port: 0 },
      unix: { kind: 'unix', path: join(folder, 'nbd.sock') },
    };
    const { address } = await server.listen(wanted[options.listening ?? 'unix']);
    if (address.kind === 'fd') throw new Error('a descriptor was not asked for');
    const reached = address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port };
    return new ServerHarness({ server, directory, logger, address: reached, folder, credentials });
  }

  async stop(graceMs = 1000): Promise<void> {
    await this.server.stop({ graceMs });
    await rm(this.#folder, { recursive: true });
  }
}
