/** A control server over volumes that are only names, and HTTP spoken by hand. */
import { NO_LIMITS, type VolumeLimits } from '../../src/base/volume-limits.ts';
import net from 'node:net';
import type { VolumeCompression } from '../../src/base/compression.ts';
import type { Durability } from '../../src/base/durability.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { OPERATION } from '../../src/base/request-stats.ts';
import type { ChunkCompression } from '../../src/base/settings-types.ts';
import { buildSettings, type ControlSettings } from '../../src/config/settings.ts';
import { ControlServer } from '../../src/control/control-server.ts';
import { EventFeed } from '../../src/control/events.ts';
import type { ControlledVolumes } from '../../src/control/routes.ts';
import { ControlSocket } from '../../src/control/socket-file.ts';
import { ControlToken } from '../../src/control/token.ts';
import { NodeFileSystem } from '../../src/env/node-files.ts';
import { ThrottleTable } from '../../src/session/throttle.ts';
import { TrafficTable } from '../../src/session/traffic.ts';
import type { OnProgress, ScrubReport, VolumeInfo, VolumeStatus } from '../../src/volume/volume-info.ts';
import { FakeVolumes } from './cli-double.ts';
import { SimMachine, pattern } from './engine-harness.ts';
import { ManualClock, type MemoryLogger } from './fake-world.ts';

/** What a real volume says of itself. */
async function statusOfAVolume(): Promise<VolumeStatus> {
  const machine = new SimMachine();
  return machine.run(async () => {
    await machine.create('/v');
    const volume = await machine.open('/v');
    await volume.write(0, pattern(1, 3), false);
    const status = volume.status();
    await volume.close();
    return status;
  });
}

export const STATUS = await statusOfAVolume();

export const SCRUBBED: ScrubReport = {
  volume: 'a',
  isClean: false,
  chunks: 2,
  blocks: 9,
  pages: 4,
  mappedBlocks: 8,
  bytes: 40_000,
  rotten: [
    { file: 'chunks/c0000000001-e000001', chunk: 1, blockNumber: 3, offsetBytes: 4192, problem: 'checksum 1, expected 2', inUse: true, rewritten: 1 },
    { file: 'chunks/c0000000002-e000001', chunk: 2, blockNumber: null, offsetBytes: null, problem: 'is missing', inUse: null, rewritten: 0 },
    { file: 'checkpoints/k0000000001-e000001', chunk: null, blockNumber: null, offsetBytes: 96, problem: 'page checksum 1, expected 2', inUse: true, rewritten: 0 },
  ],
  rottenCount: 3,
  rewrittenCount: 1,
  elapsedMs: 17,
};

/** Resolves when `condition` holds. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** Volumes that are only names; the one called `open` is open. */
export class NamedVolumes extends FakeVolumes implements ControlledVolumes {
  readonly changes: [string, Durability | VolumeCompression][] = [];
  /** Thrown by the next calls. */
  trouble: VolumeError | null = null;
  /** What a look at a volume waits for. */
  gate: Promise<void> = Promise.resolve();
  looking = 0;
  mostLooking = 0;

  statusOf(name: string): VolumeStatus | null {
    return name === 'open' ? STATUS : null;
  }

  limitsInForce(name: string): VolumeLimits {
    return this.infos.get(name)?.limits ?? NO_LIMITS;
  }

  openNames(): readonly string[] {
    return ['open'];
  }

  override async describe(name: string): Promise<VolumeInfo> {
    this.looking += 1;
    this.mostLooking = Math.max(this.mostLooking, this.looking);
    await this.gate;
    this.looking -= 1;
    if (this.trouble !== null) throw this.trouble;
    return super.describe(name);
  }

  /** What a scrub waits for before it ends; told when it was ended early. */
  scrubGate: Promise<void> = Promise.resolve();
  readonly scrubs: [string, number | null][] = [];
  scrubsEnded = 0;

  async scrub(name: string, { bytesPerSecond, onProgress, signal }: { readonly bytesPerSecond: number | null; readonly onProgress: OnProgress; readonly signal: AbortSignal }): Promise<ScrubReport> {
    await super.describe(name);
    this.scrubs.push([name, bytesPerSecond]);
    onProgress({ task: 'scrub', done: 1, total: 2 });
    const ended = new Promise<never>((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        this.scrubsEnded += 1;
        reject(new VolumeError('closed', 'the scrub was ended early'));
      });
    });
    await Promise.race([this.scrubGate, ended]);
    if (this.trouble !== null) throw this.trouble;
    return SCRUBBED;
  }

  override async setDurability(name: string, durability: Durability): Promise<void> {
    await super.setDurability(name, durability);
    this.changes.push([name, durability]);
  }

  override async setCompression(name: string, compression: VolumeCompression): Promise<ChunkCompression> {
    const chunkCompress = await super.setCompression(name, compression);
    this.changes.push([name, compression]);
    return chunkCompress;
  }
}

export const MEMORY = { arenaBytes: 64e6, dirtyBytes: 8e6, cachedBytes: 4e6, lentBytes: 0, bufferBytes: 1000, idleBufferBytes: 2000, replyBytes: 3, replyBytesMax: 1e6, payloadBytes: 4, payloadBytesMax: 2e6 };

/** Of the volume that is open, and of one that was and is no more. */
export function someTraffic(): TrafficTable {
  const table = new TrafficTable(() => 0);
  table.of('größe & Co').refused = 3;
  const stats = table.of('open');
  stats.begun();
  stats.bytes[OPERATION.READ] = 8192;
  stats.errors[OPERATION.WRITE] = 1;
  stats.latencies[OPERATION.READ].record(0.064, 1);
  stats.latencies[OPERATION.READ].record(0.065, 1);
  return table;
}

export interface ControlWorld {
  readonly directory: string;
  readonly volumes: NamedVolumes;
  readonly logger: MemoryLogger;
  readonly traffic: TrafficTable;
  readonly settings?: Partial<ControlSettings>;
  readonly events?: EventFeed;
  /** What who comes over TCP, at a port of its own, must show. */
  readonly token?: string;
}

export async function startControl({ directory, volumes, logger, traffic, settings = {}, events = new EventFeed(), token }: ControlWorld): Promise<ControlServer> {
  const socket = await ControlSocket.claim(new NodeFileSystem(), directory);
  const info = { apiVersion: 1, pid: process.pid, startedMs: 1_790_000_000_000, directory, listeners: ['nbd://127.0.0.1:10809/'], connections: 2, halfOpen: 1, clients: { accepted: 9, turnedAway: 1, displaced: 2, handshakeTimeouts: 3, refused: 4, secured: 5, tlsFailed: 6, idle: 7 } } as const;
  const targets = { volumes, server: () => info, traffic, throttles: new ThrottleTable(new ManualClock()), memory: () => MEMORY, process: () => ({ residentBytes: 1e8, userCpuMs: 1.5, systemCpuMs: 0.5 }), nowMs: () => 5000.5, events };
  return ControlServer.start({ socket, targets, settings: { ...buildSettings().control, ...settings }, logger, tcp: token === undefined ? null : { host: '127.0.0.1', port: 0, token: new ControlToken(token) } });
}

/** Sends bytes as they are; resolves with all that comes back until the other side closes. */
export function exchangeRaw(target: string | net.TcpNetConnectOpts, bytes: string | readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(typeof target === 'string' ? { path: target } : target);
    let answer = '';
    socket.setEncoding('utf8').on('data', (part: string) => void (answer += part));
    socket.on('close', () => resolve(answer));
    socket.on('error', (error: NodeJS.ErrnoException) => (error.code === 'EPIPE' || error.code === 'ECONNRESET' ? undefined : reject(error)));
    for (const part of typeof bytes === 'string' ? [bytes] : bytes) socket.write(part);
  });
}

export interface Answer {
  readonly status: number;
  readonly head: string;
  readonly body: unknown;
}

export function parse(answer: string): Answer {
  const split = answer.indexOf('\r\n\r\n');
  const body: unknown = JSON.parse(answer.slice(split + 4));
  return { status: Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]), head: answer.slice(0, split), body };
}

export async function askOver(socketPath: string, method: string, path: string, body: string | null = null): Promise<Answer> {
  const length = body === null ? '' : `Content-Length: ${Buffer.byteLength(body)}\r\n`;
  return parse(await exchangeRaw(socketPath, `${method} ${path} HTTP/1.1\r\nHost: basalt\r\nConnection: close\r\n${length}\r\n${body ?? ''}`));
}
