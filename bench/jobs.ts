/** The fio jobs of the benchmark, what each server guarantees with an answer, and the floors that basalt must reach. */
import type { Durability } from '../src/base/durability.ts';

export const PEERS = ['memory', 'file', 'qemu'] as const;
export type Peer = (typeof PEERS)[number];
export type ServerName = 'basalt' | Peer;

export const SERVER_TITLES: Readonly<Record<ServerName, string>> = {
  basalt: 'basalt',
  memory: 'nbdkit memory',
  file: 'nbdkit file',
  qemu: 'qemu-nbd',
};

/** basalt's IOPS divided by `peer`'s must be at least `ratio`. */
export interface Floor {
  readonly peer: Peer;
  readonly ratio: number;
}

export interface Job {
  readonly name: string;
  readonly pattern: 'randread' | 'randwrite' | 'read' | 'write';
  readonly requestBytes: number;
  readonly depth: number;
  /** A FLUSH after each write (fio's `fsync=1`): the only jobs in which every server but the volatile one syncs. */
  readonly flushEachWrite: boolean;
  readonly floor: Floor | null;
}

function fioJob(name: string, pattern: Job['pattern'], kib: number, depth: number, floor: Floor | null): Job {
  return { name, pattern, requestBytes: kib * 1024, depth, flushEachWrite: name.startsWith('fsync'), floor };
}

export const JOBS: readonly Job[] = [
  fioJob('randread-4k-q1', 'randread', 4, 1, null),
  fioJob('randread-4k-q32', 'randread', 4, 32, { peer: 'memory', ratio: 1 }),
  fioJob('randwrite-4k-q1', 'randwrite', 4, 1, null),
  fioJob('randwrite-4k-q32', 'randwrite', 4, 32, { peer: 'file', ratio: 0.9 }),
  fioJob('read-128k-q16', 'read', 128, 16, { peer: 'file', ratio: 0.8 }),
  fioJob('write-128k-q16', 'write', 128, 16, { peer: 'file', ratio: 0.5 }),
  fioJob('write-1m-q4', 'write', 1024, 4, { peer: 'file', ratio: 0.5 }),
  fioJob('fsync-4k-q1', 'randwrite', 4, 1, { peer: 'file', ratio: 0.8 }),
  fioJob('fsync-4k-q32', 'randwrite', 4, 32, { peer: 'file', ratio: 1.2 }),
];

/** Over TLS, against `nbdkit --tls=require`, which keeps its data in memory. */
export const TLS_JOBS: readonly Job[] = [
  fioJob('tls-read-128k-q16', 'read', 128, 16, { peer: 'memory', ratio: 0.8 }),
  fioJob('tls-randread-4k-q32', 'randread', 4, 32, { peer: 'memory', ratio: 1 }),
];

/**
 * What an answered write of a job has reached, so that no unsynced figure stands beside a synced one unnamed:
 * `synced` on the disk; `unsynced` with the kernel (survives the process, not a power cut); `volatile` in the
 * memory of the process; `read` for jobs that write nothing.
 */
export type Guarantee = 'synced' | 'unsynced' | 'volatile' | 'read';

export const GUARANTEE_MARKS: Readonly<Record<Guarantee, string>> = { synced: 's', unsynced: 'u', volatile: 'v', read: ' ' };

export function guaranteeOf(job: Job, server: ServerName, mode: Durability): Guarantee {
  if (job.pattern === 'read' || job.pattern === 'randread') return 'read';
  if (server === 'memory' || (server === 'basalt' && mode === 'async')) return 'volatile';
  if (job.flushEachWrite || (server === 'basalt' && mode === 'strict')) return 'synced';
  return 'unsynced';
}
