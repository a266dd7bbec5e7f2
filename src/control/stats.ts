/** What the server tells of its work: the answers of the routes for statistics. `metrics.ts` says the same to Prometheus. */
import type { RequestSnapshot } from '../base/request-stats.ts';
import type { VolumeLimits } from '../base/volume-limits.ts';
import type { VolumeStatus } from '../volume/volume-info.ts';

/** Memory that all volumes and all clients share; bytes as of now. */
export interface MemoryUse {
  /** Block data: its limit, what waits for chunks, what is cached, and of both what is on its way to clients. */
  readonly arenaBytes: number;
  readonly dirtyBytes: number;
  readonly cachedBytes: number;
  readonly lentBytes: number;
  /** Buffers of connections: in use, and kept for the next one. */
  readonly bufferBytes: number;
  readonly idleBufferBytes: number;
  /** Replies that clients have not taken, and their limit. */
  readonly replyBytes: number;
  readonly replyBytesMax: number;
  /** Large payloads that have not arrived whole, and their limit. */
  readonly payloadBytes: number;
  readonly payloadBytesMax: number;
}

/** What the process takes of the machine. */
export interface ProcessUse {
  readonly residentBytes: number;
  /** Since it began. */
  readonly userCpuMs: number;
  readonly systemCpuMs: number;
}

export interface VolumeStatsAnswer {
  readonly name: string;
  /** Since the server began; null: no client has had it. */
  readonly requests: RequestSnapshot | null;
  /** Those in force; null: it is not open. */
  readonly limits: VolumeLimits | null;
  /** Since it was opened; null: it is not open. */
  readonly live: VolumeStatus | null;
}

export interface StatsAnswer {
  /** Milliseconds that never jump: for the time between two answers. */
  readonly atMs: number;
  readonly connections: number;
  readonly memory: MemoryUse;
  readonly process: ProcessUse;
  /** Those that are open, or were used by clients since the server began; by name. */
  readonly volumes: readonly VolumeStatsAnswer[];
}
