/**
 * A fixed script of one volume's life, to be crashed at every call of the file system: whole and partial writes, trims, zeroes,
 * flushes, chunks, checkpoints, a log that wraps, chunks that are removed, a kill, a proper end, and what recovery writes.
 */
import { Arena } from '../../src/base/arena.ts';
import type { Durability } from '../../src/base/durability.ts';
import type { EngineSettings, LogIo } from '../../src/base/settings-types.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { buildSettings } from '../../src/config/settings.ts';
import { SimDisk } from './disk.ts';
import type { EngineOptions, SimEngine } from './engine.ts';
import { SimEnv } from './env.ts';
import type { Fault, FaultPolicy } from './faults.ts';
import { SimLocks } from './file-system.ts';
import { noCounts } from './counts.ts';
import { Life, type VolumeState } from './life.ts';
import { Model, type ChangeRequest } from './model.ts';
import { Obligations } from './obligations.ts';
import { makePayload } from './payload.ts';
import { type WorldPlan, drawPlan } from './plan.ts';
import { SimProcess } from './process.ts';
import { SeededRandom } from './random.ts';
import { Scheduler } from './scheduler.ts';
import { IO_PROFILES, type IoProfile } from './timing.ts';
import { Trace } from './trace.ts';

export const HOME = '/data';
export const DIRECTORY = '/data/volume';
const BLOCK_BYTES = 4 * KIB;
/** Two leaves of the block map. */
const BLOCKS = 1100;
const SLAB_BYTES = 4 * BLOCK_BYTES;
const INSTANT: IoProfile = IO_PROFILES[IO_PROFILES.length - 1];

export type CrashMoment = 'before' | 'during' | 'after';
export const CRASH_MOMENTS: readonly CrashMoment[] = ['before', 'during', 'after'];

export const SCRIPT_SETTINGS: EngineSettings = {
  ...buildSettings().engine,
  arenaBytes: 8 * SLAB_BYTES,
  dirtyBytes: 4 * SLAB_BYTES,
  logFileBytes: 64 * KIB,
  logFileCount: 3,
  logInlineBytes: 8 * KIB,
  batchBlocks: 6,
  batchMs: 10_000,
  asyncIntervalMs: 10_000,
  flushBytes: 2 * SLAB_BYTES,
  flushIntervalMs: 60_000,
  checkpointChunks: 5,
  checkpointIntervalMs: 60_000,
  spareBytes: 2 * SLAB_BYTES,
  retryMs: 1,
  idleCloseMs: 60_000,
  chunkConcurrency: 2,
  indexBytes: MIB,
};

/** Modes in which the script's chunks are compressed. */
const COMPRESSING: ReadonlySet<Durability> = new Set(['batched', 'async']);

/** Counts all calls of all processes; the one with the number `target` (from 1) ends its process. */
class Countdown implements FaultPolicy {
  readonly #target: number;
  readonly #moment: CrashMoment;
  calls = 0;

  constructor(target: number, moment: CrashMoment) {
    this.#target = target;
    this.#moment = moment;
  }

  get fired(): boolean {
    return this.calls >= this.#target;
  }

  decide(): Fault | null {
    this.calls += 1;
    return this.calls === this.#target ? { kind: 'crash', when: this.#moment } : null;
  }
}

/** A process on a simulated disk. */
export interface Booted {
  readonly env: SimEnv;
  readonly arena: Arena;
}

export function bootOn(disk: SimDisk, engine: SimEngine, options: { readonly scheduler: Scheduler; readonly trace: Trace; readonly faults: FaultPolicy; readonly seed: number }): Booted {
  const { scheduler, trace, faults, seed } = options;
  const process = new SimProcess({ name: `process ${seed}`, scheduler, trace, random: new SeededRandom(seed) });
  const env = new SimEnv({ process, disk, locks: new SimLocks(), profile: INSTANT, faults, tasks: engine.tasks });
  return { env, arena: new Arena({ arenaBytes: SCRIPT_SETTINGS.arenaBytes, dirtyBytes: SCRIPT_SETTINGS.dirtyBytes, slabBytes: SLAB_BYTES }) };
}

export function optionsOf({ env, arena }: Booted, { settings }: WorldPlan): EngineOptions {
  return { env, directory: DIRECTORY, settings, arena };
}

/** What a crash leaves: the disk with what was not synced, what the volume had taken, and what it owes. */
export interface CrashState {
  readonly disk: SimDisk;
  readonly state: VolumeState;
  /** Whether the volume was there for sure. */
  readonly isCreated: boolean;
  /** Calls that the script made; all of them, when it came to its end. */
  readonly calls: number;
  readonly crashed: boolean;
}

/** Runs the script up to its `target`-th call of the file system. */
export async function runScript(engine: SimEngine, durability: Durability, target: number, moment: CrashMoment, logIo: LogIo = 'buffered'): Promise<CrashState> {
  const script = new Script(engine, durability, logIo, new Countdown(target, moment));
  return script.run();
}

class Script {
  readonly #engine: SimEngine;
  readonly #countdown: Countdown;
  readonly #disk = new SimDisk();
  readonly #trace = new Trace();
  readonly #scheduler = new Scheduler((timeMs) => this.#trace.setTime(timeMs));
  readonly #state: VolumeState;
  readonly #random = new SeededRandom(7);
  #boots = 0;
  #isCreated = false;

  constructor(engine: SimEngine, durability: Durability, logIo: LogIo, countdown: Countdown) {
    this.#engine = engine;
    this.#countdown = countdown;
    const create = { sizeBytes: BLOCKS * BLOCK_BYTES, blockSizeBytes: BLOCK_BYTES, durability };
    this.#state = {
      plan: { ...drawPlan(new SeededRandom(1)), settings: { ...SCRIPT_SETTINGS, logIo, chunkCompress: COMPRESSING.has(durability) ? 'lz4' : 'off' }, profile: INSTANT },
      volume: { create, regions: [] },
      directory: DIRECTORY,
      model: new Model({ blockCount: BLOCKS, blockSizeBytes: BLOCK_BYTES }),
      obligations: new Obligations({ durability, ageMs: null }),
      claims: new Map(),
      isMarked: false,
      counts: noCounts(),
      ids: { next: 1 },
      lastDeath: 'exit',
      deathMs: 0,
    };
  }

  async run(): Promise<CrashState> {
    this.#disk.makeDirectory(HOME);
    this.#disk.makeNamesDurable(this.#disk.findDirectory('/'), this.#disk.sequence);
    await this.#scheduler.drive(() => this.#all());
    return { disk: this.#disk, state: this.#state, isCreated: this.#isCreated, calls: this.#countdown.calls, crashed: this.#countdown.fired };
  }

  async #all(): Promise<void> {
    const parts = [() => this.#create(), () => this.#live(26, false), () => this.#live(22, true), () => this.#live(14, true)];
    for (const part of parts) {
      await part();
      if (this.#countdown.fired) return;
    }
  }

  #boot(): Booted {
    this.#boots += 1;
    return bootOn(this.#disk, this.#engine, { scheduler: this.#scheduler, trace: this.#trace, faults: this.#countdown, seed: this.#boots });
  }

  async #create(): Promise<void> {
    const booted = this.#boot();
    const create = async (): Promise<void> => {
      await this.#engine.create(optionsOf(booted, this.#state.plan), this.#state.volume.create);
      this.#isCreated = true;
    };
    await Promise.race([create(), booted.env.process.death]);
    booted.env.process.die();
  }

  /** One life of some rounds; it ends with `close`, or with the death of the process. */
  async #live(rounds: number, isClosed: boolean): Promise<void> {
    const booted = this.#boot();
    const life = new Life(this.#state, booted.env);
    const { obligations } = this.#state;
    booted.env.process.onDeath(() => {
      if (life.isOpen) obligations.declaredDurable(life.volume.durableLsn);
    });
    await Promise.race([this.#work(life, booted, rounds, isClosed), life.failure, booted.env.process.death]);
    booted.env.process.die();
  }

  async #work(life: Life, booted: Booted, rounds: number, isClosed: boolean): Promise<void> {
    const { model, obligations } = this.#state;
    const volume = await this.#engine.open(optionsOf(booted, this.#state.plan), { accepted: (record) => life.accepted(record) });
    obligations.recovered(volume.recoveredLsn, this.#state.lastDeath);
    model.forgetAfter(volume.recoveredLsn);
    life.opened(volume);
    for (let round = 0; round < rounds; round += 1) await this.#round(life, round);
    if (!isClosed) return;
    await volume.close();
    obligations.closed(model.lastLsn);
  }

  async #round(life: Life, round: number): Promise<void> {
    const { volume, process } = life;
    const random = this.#random;
    const block = random.chance(0.7) ? random.below(12) : 1020 + random.below(40);
    const at = block * BLOCK_BYTES;
    await this.#change(life, 'write', at, BLOCK_BYTES * random.between(1, 3), round % 9 === 4);
    if (round % 4 === 1) await this.#change(life, 'write', at + 512 * random.below(8), 700 + random.below(5000), false);
    if (round % 7 === 3) await this.#change(life, 'trim', at, 6 * BLOCK_BYTES, false);
    if (round % 11 === 6) await this.#change(life, 'zero', at + 512, 3 * BLOCK_BYTES, false);
    if (round % 13 === 12) await this.#change(life, 'trim', 0, 1024 * BLOCK_BYTES, false);
    if (round % 5 === 2) {
      const scope = this.#state.obligations.flushScope();
      await volume.flush();
      life.check(() => life.flushed(scope)); // a process that dies within the call answers nothing
    }
    await process.sleep(0.1); // what goes on in the background goes on
  }

  async #change(life: Life, kind: ChangeRequest['kind'], offsetBytes: number, lengthBytes: number, fua: boolean): Promise<void> {
    const { ids, model } = this.#state;
    const id = ids.next;
    ids.next += 1;
    const payload = kind === 'write' ? makePayload('stamped', id, offsetBytes, lengthBytes) : null;
    const request: ChangeRequest = { id, kind, offsetBytes, lengthBytes, fua, payload, covered: [], askedAtLsn: model.lastLsn, lsn: 0 };
    life.pending.add(request);
    await life.within(request, () => {
      if (payload !== null) return life.volume.write(offsetBytes, payload.slice(), fua);
      return kind === 'trim' ? life.volume.trim(offsetBytes, lengthBytes, fua) : life.volume.zero(offsetBytes, lengthBytes, { provisioned: false, fua });
    });
    life.answered(request);
  }
}
