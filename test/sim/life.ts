/** One life of a volume: from the start of the process that opens it to that process's end, with what its clients share. */
import { deferred } from '../../src/base/async.ts';
import type { Durability } from '../../src/base/durability.ts';
import { VolumeError, type ErrorCode } from '../../src/base/errors.ts';
import { currentRequest, currentScrub, withinRequest } from './context.ts';
import type { WorldCounts } from './counts.ts';
import type { SimVolume } from './engine.ts';
import type { SimEnv } from './env.ts';
import { SimulationFailure, describeRequest, type AcceptedRecord, type ChangeRequest, type Model } from './model.ts';
import type { FileCall, FileCallKind, Fault } from './faults.ts';
import { MARK } from './opening-rot.ts';
import type { Death, Obligations } from './obligations.ts';
import type { VolumePlan, WorldPlan } from './plan.ts';
import type { SimProcess } from './process.ts';
import { slowestMs } from './timing.ts';

/** One volume of a world, through all its lives. */
export interface VolumeState {
  readonly plan: WorldPlan;
  readonly volume: VolumePlan;
  readonly directory: string;
  readonly model: Model;
  readonly obligations: Obligations;
  /** By LSN: up to where a record calls those before it durable. */
  readonly claims: Map<number, number>;
  /** It was closed, and its mark says up to where it had been synced by then. */
  isMarked: boolean;
  readonly counts: WorldCounts;
  /** Of all volumes of the world: bytes that come up in the wrong one name their origin. */
  readonly ids: { next: number };
  /** The worst death since the volume was last open, and the time of the first. */
  lastDeath: Death;
  deathMs: number;
}

/** Stands for a request in what scrubs write. */
const SCRUB_ID = 0;
const READING: ReadonlySet<FileCallKind> = new Set(['open', 'map', 'read', 'size', 'close', 'exists', 'list']);

function rotCountOf(path: string): 'rottenChunkReads' | 'rottenLogReads' | 'rottenCheckpointReads' {
  if (path.includes('/log/')) return 'rottenLogReads';
  return path.includes('/checkpoints/') ? 'rottenCheckpointReads' : 'rottenChunkReads';
}

export class Life {
  readonly world: VolumeState;
  readonly env: SimEnv;
  readonly process: SimProcess;
  /** Changes that were asked for and not answered. */
  readonly pending = new Set<ChangeRequest>();
  /** While the disk is, or lately was, full, changes may be refused. */
  mayRefuseForSpace = false;
  /** From now on whoever still uses the volume may hear that it is closed. */
  isClosing = false;
  /** A mark that could not be written, or opened, is no trouble, and is not written any more. */
  hasMark = true;
  readonly #excuses = new Set<ErrorCode>();
  /** When a call that reads last went wrong. */
  #readFaultMs = Number.NEGATIVE_INFINITY;
  /** Events that had run when the engine heard of the failed sync of its log; null: there was none since the volume is open. */
  #logSyncFailedAt: number | null = null;
  #syncFailed = false;
  readonly #turn: (() => void)[] = [];
  readonly #failure = deferred<never>();
  #volume: SimVolume | null = null;

  constructor(world: VolumeState, env: SimEnv) {
    this.world = world;
    this.env = env;
    this.process = env.process;
    this.#failure.promise.catch(() => undefined); // the world looks at it when it comes to that
  }

  get volume(): SimVolume {
    if (this.#volume === null) throw new Error('the volume is not open');
    return this.#volume;
  }

  get isOpen(): boolean {
    return this.#volume !== null;
  }

  opened(volume: SimVolume): void {
    const strange = this.world.obligations.strangeChoice(volume);
    if (strange !== null) throw new SimulationFailure(`the volume was opened ${strange}, which nobody asked for`);
    this.#volume = volume;
    this.#logSyncFailedAt = null;
    this.#syncFailed = false;
  }

  /** A call failed without a fault. A mark whose file a power cut has emptied finds no space on a full disk. */
  callFailed(path: string): void {
    if (path === `${this.world.directory}${MARK}`) this.hasMark = false;
  }

  /** The engine hears that a call for a file of this volume went wrong: from now on it may refuse what it is asked. */
  faultDelivered(call: FileCall, fault: Fault): void {
    const { counts, obligations } = this.world;
    counts.failedCalls += 1;
    if (READING.has(call.kind)) this.#readFaultMs = this.process.scheduler.nowMs;
    if (fault.kind === 'rot') {
      counts[rotCountOf(call.path)] += 1;
      this.#excuses.add('corrupt');
      return;
    }
    if (call.path === `${this.world.directory}${MARK}`) this.hasMark = false;
    for (const code of ['io-error', 'failed', 'no-space'] as const) this.#excuses.add(code);
    obligations.suspendAgeRule();
    if (call.kind !== 'sync' && call.kind !== 'sync-directory') return;
    counts.failedSyncs += 1;
    if (fault.kind === 'error' && fault.code !== 'ENOSPC') this.#syncFailed = true;
    if (!call.path.startsWith(`${this.world.directory}/log/`)) return;
    obligations.logSyncFailed();
    this.#syncFailed = true;
    this.#logSyncFailedAt ??= this.process.scheduler.eventsRun;
  }

  /** A volume of this process, maybe this one, is in trouble: it may keep all memory that they share. */
  memoryMayBeLost(): void {
    this.#excuses.add('limit');
  }

  /** After a failed sync the volume must have said so by the time that all is quiet (I4). */
  checkFailure(): void {
    if (this.volume.failure !== null) this.world.counts.failedVolumes += 1;
    else if (this.#syncFailed) throw new SimulationFailure('a sync failed, and the volume goes on as if nothing had happened');
  }

  /** After a failed sync of its log nothing is promised any more (I4). */
  #checkPromise(what: string): void {
    if (this.#logSyncFailedAt === null || this.process.scheduler.eventsRun <= this.#logSyncFailedAt) return;
    throw new SimulationFailure(`${what} is answered after a sync of the log had failed`);
  }

  /** Rejects when a check failed inside a callback of the engine. */
  get failure(): Promise<never> {
    return this.#failure.promise;
  }

  /** Ends the world with what went wrong beside its script. */
  fail(error: unknown): void {
    if (this.process.alive) this.#failure.reject(error);
  }

  /** Runs a check inside a callback of the engine: a failure goes to the world, never through the engine, which might take it for its own. */
  check(action: () => void): void {
    if (!this.process.alive) return;
    try {
      action();
    } catch (error) {
      this.#failure.reject(error);
    }
  }

  /** Runs `action`, a call of the engine, so that the records that come of it are known to be those of `request`. */
  within<T>(request: ChangeRequest, action: () => T): T {
    return withinRequest(request, action);
  }

  /** The engine's observer. */
  accepted(record: AcceptedRecord): void {
    this.check(() => {
      const { model, counts } = this.world;
      counts.records += 1;
      const request = this.#rescueOf(record) ?? this.#requestOf(record);
      this.process.trace.event(`accepts ${record.kind}`, `request ${request.id}`, record.lsn, record.blockNumber, record.blockCount);
      model.accept(record, request);
      this.world.claims.set(record.lsn, this.volume.durableLsn);
      request.durability = this.volume.durability;
    });
  }

  /** A change is answered: checks that it was carried out and notes what the volume owes from now on. */
  answered(request: ChangeRequest): void {
    if (!this.process.alive) return;
    this.#checkPromise(describeRequest(request));
    if (!this.pending.delete(request)) throw new SimulationFailure(`request ${describeRequest(request)} is answered twice`);
    const { model, obligations } = this.world;
    model.complete(request);
    this.process.trace.event('answered', `request ${request.id}`, request.lsn);
    obligations.writeAnswered({ id: request.id, lsn: request.lsn, fua: request.fua, timeMs: this.process.scheduler.nowMs, durability: request.durability });
  }

  /** A change was refused: right while the disk is full, and a failure of the engine otherwise. */
  refused(request: ChangeRequest, error: unknown): void {
    if (!this.process.alive) return;
    this.pending.delete(request);
    this.process.trace.event('refused', `request ${request.id}`);
    this.expectRefusal(error, `request ${describeRequest(request)}`);
  }

  /** A flush is answered that was asked for in mode `durability`. */
  flushed(scope: number, durability: Durability = this.volume.durability): void {
    this.#checkPromise(`a flush of LSN ${scope}`);
    this.world.obligations.flushAnswered(scope, durability);
  }

  /** A change of the mode is answered. */
  modeChanged(change: number, scope: number): void {
    this.#checkPromise(`a change of the mode after LSN ${scope}`);
    this.world.obligations.changeAnswered(change, scope);
  }

  /** A change of compression is answered. */
  compressionChanged(change: number): void {
    this.world.obligations.compressionAnswered(change);
    this.world.counts.compressionChanges += 1;
  }

  /** Throws unless `error` is one that the world caused: the disk is full, calls failed. */
  expectRefusal(error: unknown, what: string): void {
    if (!this.process.alive) return;
    if (error instanceof SimulationFailure) throw error;
    if (this.mayRefuseForSpace && error instanceof VolumeError && error.code === 'no-space') {
      this.world.counts.refusedForSpace += 1;
      return;
    }
    if (error instanceof VolumeError && this.#excuses.has(error.code)) {
      this.world.counts.refusedForFaults += 1;
      return;
    }
    const text = error instanceof VolumeError ? `${error.code}: ${error.message}` : String(error);
    throw new SimulationFailure(`${what} failed with ${text}`, { cause: error });
  }

  /** The same for a read that began at `sinceMs`: it fails only if a call that reads went wrong since, or shortly before (I4: good blocks stay readable). */
  expectUnreadable(error: unknown, what: string, sinceMs: number): void {
    if (!this.process.alive) return;
    if (this.mayBeUnreadable(sinceMs)) this.expectRefusal(error, what);
    else {
      const text = error instanceof VolumeError ? `${error.code}: ${error.message}` : String(error);
      throw new SimulationFailure(`${what} failed with ${text}, though no call that reads went wrong`, { cause: error });
    }
  }

  /** Whether a call that reads went wrong since `sinceMs`, or shortly before. */
  mayBeUnreadable(sinceMs: number): boolean {
    return this.#readFaultMs >= sinceMs - this.world.plan.faults.slowMs - slowestMs(this.world.plan.profile);
  }

  /** Adds a call to the turn that is being gathered; all calls of a turn are handed to the log with one `submit`. */
  inTurn(action: () => void): void {
    this.#turn.push(action);
    if (this.#turn.length > 1) return;
    const waitMs = this.process.random.chance(0.5) ? 0 : this.process.random.unit() * 0.2;
    this.process.after(waitMs, () => {
      for (const call of this.#turn.splice(0)) {
        if (this.process.alive) call();
      }
      if (this.process.alive) this.volume.submit();
    });
  }

  /** A block that a scrub writes anew, with what it holds already; null: no scrub does. */
  #rescueOf({ kind, lsn, blockNumber, blockCount }: AcceptedRecord): ChangeRequest | null {
    const scrub = currentScrub();
    if (scrub === null) return null;
    if (kind !== 'write' || blockCount !== 1) throw new SimulationFailure(`a scrub makes record ${lsn} (${kind} of ${blockCount} blocks)`);
    scrub.rescues();
    const { model } = this.world;
    const { blockSizeBytes } = model;
    const payload = model.newest(blockNumber).bytes ?? new Uint8Array(blockSizeBytes);
    return { id: SCRUB_ID, kind, offsetBytes: blockNumber * blockSizeBytes, lengthBytes: blockSizeBytes, fua: false, payload, covered: [], askedAtLsn: model.lastLsn, lsn: 0 };
  }

  /** The engine's own async context says whose record it is; where it lost that, the only pending request that fits. */
  #requestOf(record: AcceptedRecord): ChangeRequest {
    const own = currentRequest();
    if (own !== null && this.pending.has(own) && this.#fits(record, own)) return own;
    const fitting = [...this.pending].filter((request) => this.#fits(record, request));
    if (fitting.length === 1) return fitting[0];
    const { kind, lsn, blockNumber, blockCount } = record;
    const text = `record ${lsn} (${kind} of ${blockCount} blocks from ${blockNumber})`;
    if (fitting.length === 0) throw new SimulationFailure(`${text} belongs to no request: ${[...this.pending].map(describeRequest).join(', ')}`);
    throw new SimulationFailure(`${text} belongs to any of ${fitting.map(describeRequest).join(', ')}: the order cannot be known`);
  }

  #fits(record: AcceptedRecord, request: ChangeRequest): boolean {
    const blocks = this.world.model.blocksOf(request);
    const end = record.blockNumber + record.blockCount;
    if (record.blockNumber < blocks.first || end > blocks.end) return false;
    return !request.covered.some((range) => record.blockNumber < range.end && end > range.first);
  }
}
