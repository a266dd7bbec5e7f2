/**
 * One world: a volume on a simulated machine, used by simulated clients through several lives, most of which end badly.
 * Whatever happens follows from the seed. After each crash the volume must equal the state after a prefix of its LSN
 * order that includes all that it owes (I1, I2).
 */
import type { Durability } from '../../src/base/durability.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { Client } from './client.ts';
import { SimDisk, UNLIMITED } from './disk.ts';
import type { EngineOptions, SimEngine, SimVolume } from './engine.ts';
import { SimEnv } from './env.ts';
import { CrashAtCall } from './faults.ts';
import { SimLocks } from './file-system.ts';
import { Life, noCounts, type WorldCounts, type WorldState } from './life.ts';
import { Model, SimulationFailure } from './model.ts';
import { Obligations, type Death } from './obligations.ts';
import { drawPlan, type WorldPlan } from './plan.ts';
import { drawPowerCut } from './power-cut.ts';
import { SimProcess } from './process.ts';
import { SeededRandom } from './random.ts';
import { Scheduler } from './scheduler.ts';
import type { IoProfile } from './timing.ts';
import { Trace } from './trace.ts';

const HOME = '/data';
const DIRECTORY = '/data/volume';
const EVENTS_SHOWN = 60;
/** Bytes of one read when the whole volume is checked. */
const CHECK_BYTES = 128 * 1024;
/** Reads of parts where nobody ever wrote. */
const EMPTY_CHECKS = 32;

export interface WorldOptions {
  readonly engine: SimEngine;
  readonly seed: number;
  /** Told every event as it happens. */
  readonly onEvent?: (line: string) => void;
  /** Changes the plan that the seed gave: for tests that want a certain kind of world. */
  readonly adjust?: (plan: WorldPlan) => WorldPlan;
}

export interface WorldReport {
  readonly seed: number;
  readonly digest: string;
  readonly events: number;
  readonly simulatedMs: number;
  readonly counts: WorldCounts;
}

/** Runs the world of a seed. Rejects with a SimulationFailure that says what went wrong, when, and what came before. */
export async function runWorld(options: WorldOptions): Promise<WorldReport> {
  const world = new World(options);
  try {
    return await world.run();
  } catch (error) {
    throw world.explain(error);
  }
}

/** How a life is to end. */
interface Ending {
  readonly death: Death;
  /** Where the crash falls: into the opening (or creation) of the volume, its use, its closing, or a quiet time after all clients have ended. */
  readonly stage: 'opening' | 'use' | 'closing' | 'quiet';
  /** Calls of the file system from the start of the stage to the crash; null: not at a certain call. */
  readonly atCall: number | null;
  /** Milliseconds from the start of the stage to the crash; null: not at a certain time. */
  readonly afterMs: number | null;
}

const NO_CRASH: Ending = { death: 'exit', stage: 'use', atCall: null, afterMs: null };

/** A booted process, and what makes it crash. */
interface Machine {
  readonly env: SimEnv;
  /** Starts the countdown to the crash. */
  readonly arm: () => void;
}

class World {
  readonly #seed: number;
  readonly #engine: SimEngine;
  readonly #random: SeededRandom;
  readonly #trace: Trace;
  readonly #scheduler: Scheduler;
  readonly #disk = new SimDisk();
  readonly #locks = new SimLocks();
  readonly #plan: WorldPlan;
  readonly #state: WorldState;
  /** The worst death since the volume was last open, and the time of the first. */
  #lastDeath: Death = 'exit';
  #deathMs = 0;
  #processCount = 0;

  constructor(options: WorldOptions) {
    this.#seed = options.seed;
    this.#engine = options.engine;
    this.#random = new SeededRandom(options.seed);
    this.#trace = new Trace(options.onEvent ?? null);
    this.#scheduler = new Scheduler((timeMs) => this.#trace.setTime(timeMs));
    const drawn = drawPlan(this.#random.derive('plan'));
    this.#plan = options.adjust?.(drawn) ?? drawn;
    const { sizeBytes, blockSizeBytes, durability } = this.#plan.create;
    this.#state = {
      plan: this.#plan,
      model: new Model({ blockCount: sizeBytes / blockSizeBytes, blockSizeBytes }),
      obligations: new Obligations({ durability, ageMs: (mode) => ageLimit(this.#plan, mode) }),
      counts: noCounts(),
      nextRequestId: 1,
    };
  }

  async run(): Promise<WorldReport> {
    await this.#scheduler.drive(() => this.#script());
    return {
      seed: this.#seed,
      digest: this.#trace.digest(),
      events: this.#trace.count,
      simulatedMs: this.#scheduler.nowMs,
      counts: this.#state.counts,
    };
  }

  explain(error: unknown): Error {
    const { create, profile } = this.#plan;
    const text = error instanceof SimulationFailure ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error);
    const volume = `${create.sizeBytes / create.blockSizeBytes} blocks of ${create.blockSizeBytes} bytes, ${create.durability}, ${profile.name} disk`;
    return new SimulationFailure(
      [
        `seed ${this.#seed} fails at ${this.#scheduler.nowMs.toFixed(3)} simulated ms (${volume}; last death: ${this.#lastDeath}):`,
        text,
        `the last events:`,
        ...this.#trace.last(EVENTS_SHOWN),
      ].join('\n'),
      { cause: error },
    );
  }

  async #script(): Promise<void> {
    this.#disk.makeDirectory(HOME);
    this.#disk.makeNamesDurable(this.#disk.findDirectory('/'), this.#disk.sequence);
    await this.#create();
    for (let life = 0; life < this.#plan.lives; life += 1) {
      const isShort = this.#random.chance(this.#plan.shortLifeChance);
      await this.#live(this.#drawEnding(), isShort ? this.#random.between(1, 6) : this.#plan.operationsPerLife);
    }
    await this.#live(NO_CRASH, Math.min(20, this.#plan.operationsPerLife));
    await this.#live(NO_CRASH, 0);
  }

  /** Makes the volume; at times only at the second attempt, because the first one crashes. */
  async #create(): Promise<void> {
    const random = this.#random.derive('create');
    if (random.chance(this.#plan.crashInCreateChance)) {
      const { env } = this.#boot({ death: random.pick<Death>(['process', 'power']), stage: 'opening', atCall: random.skewed(1, 40), afterMs: null });
      await Promise.race([this.#engine.create(this.#optionsOf(env), this.#plan.create), env.process.death]);
      if (!env.process.alive) this.#state.counts.earlyCrashes += 1;
      env.process.die(); // if it was done before the crash was due, the crash comes now
    }
    const { env } = this.#boot(NO_CRASH);
    if (!(await this.#isThere(env))) await this.#engine.create(this.#optionsOf(env), this.#plan.create);
    this.#leave(env.process);
  }

  /** After a crash a volume is there as a whole, or it is not there; nothing in between. */
  async #isThere(env: SimEnv): Promise<boolean> {
    try {
      const volume = await this.#engine.open(this.#optionsOf(env), { accepted: () => undefined });
      if (volume.recoveredLsn !== 0) throw new SimulationFailure(`a new volume begins with LSN ${volume.recoveredLsn}`);
      await volume.close();
      return true;
    } catch (error) {
      if (error instanceof VolumeError && error.code === 'not-found') return false;
      throw error;
    }
  }

  async #live(ending: Ending, operationCount: number): Promise<void> {
    const { env, arm } = this.#boot(ending);
    const life = new Life(this.#state, env);
    env.process.onDeath(() => this.#noteDurable(life));
    await Promise.race([this.#work(life, { operationCount, ending, arm }), life.failure, env.process.death]);
    this.#countWork(life);
    this.#disk.capacityBytes = UNLIMITED;
    if (!life.isOpen) this.#state.counts.earlyCrashes += 1;
    if (ending.death === 'exit') {
      this.#leave(env.process);
      this.#state.counts.exits += 1;
    } else env.process.die(); // if it was closed before the crash was due, the crash comes now
    if (ending.death === 'exit' ? this.#random.chance(0.3) : this.#random.chance(0.05)) this.#cutPower();
  }

  async #work(life: Life, { operationCount, ending, arm }: { operationCount: number; ending: Ending; arm: () => void }): Promise<void> {
    await this.#open(life);
    if (ending.stage === 'use') arm();
    const random = life.process.random.derive('clients');
    const clients = Array.from({ length: this.#plan.clients }, (_none, index) => new Client(life, random.derive(`client ${index}`)));
    if (operationCount > 0 && random.chance(this.#plan.diskFullChance)) this.#fillDisk(life);
    if (random.chance(this.#plan.secondOpenerChance)) await this.#openTwice(life);
    await Promise.all(clients.map((client) => client.run(Math.ceil(operationCount / clients.length))));
    if (random.chance(0.3)) await this.#checkAll(life.volume, this.#state.model.lastLsn, 'when all clients had ended');
    if (ending.stage === 'quiet') {
      await life.process.sleep(this.#drawQuietMs(random));
      life.process.die();
      return;
    }
    if (ending.stage === 'closing') arm();
    await this.#close(life);
    const left = life.env.simFiles.openPaths();
    if (left.length > 0) throw new SimulationFailure(`a closed volume still has files open: ${left.join(', ')}`);
  }

  async #open(life: Life): Promise<void> {
    const { model, obligations, counts } = this.#state;
    const volume = await this.#engine.open(this.#optionsOf(life.env), { accepted: (record) => life.accepted(record) });
    counts.opens += 1;
    const recovered = volume.recoveredLsn;
    this.#trace.event('recovered', this.#lastDeath, recovered, model.lastLsn);
    const owed = obligations.after(this.#lastDeath, this.#deathMs);
    if (recovered < owed.lsn) {
      throw new SimulationFailure(`recovery found only the records up to LSN ${recovered} of ${model.lastLsn}, but ${owed.lsn} must be there: ${owed.reason}`);
    }
    if (!obligations.modeFound(volume.durability)) throw new SimulationFailure(`the volume was opened in mode ${volume.durability}, which nobody asked for`);
    if (recovered > model.lastLsn) throw new SimulationFailure(`recovery found LSN ${recovered}, but only ${model.lastLsn} were ever given`);
    if (volume.lastLsn !== recovered) throw new SimulationFailure(`the volume was opened at LSN ${recovered}, but says that its last one is ${volume.lastLsn}`);
    if (recovered < model.lastLsn) counts.lossyRecoveries += 1;
    model.forgetAfter(recovered);
    obligations.recovered(recovered, this.#lastDeath);
    this.#lastDeath = 'exit';
    life.opened(volume);
    await this.#checkAll(volume, recovered, `after recovery to LSN ${recovered}`);
  }

  /** Closes the volume. While the disk is full that may fail; then nothing more is owed than after a crash of the process. */
  async #close(life: Life): Promise<void> {
    try {
      await life.volume.close();
      this.#state.obligations.closed(this.#state.model.lastLsn);
    } catch (error) {
      life.expectRefusal(error, 'closing the volume');
    }
  }

  /** Reads the whole volume, but for most of what nobody ever wrote to, and compares it with the model's state after `lsn`. */
  async #checkAll(volume: SimVolume, lsn: number, when: string): Promise<void> {
    const { model } = this.#state;
    const stepBlocks = Math.max(1, CHECK_BYTES / model.blockSizeBytes);
    const stepCount = Math.ceil(model.blockCount / stepBlocks);
    const steps = new Set<number>();
    for (const block of model.touchedBlocks()) steps.add(Math.floor(block / stepBlocks));
    for (let i = 0; i < Math.min(EMPTY_CHECKS, stepCount); i += 1) steps.add(stepCount <= EMPTY_CHECKS ? i : this.#random.below(stepCount));
    for (const step of [...steps].toSorted((left, right) => left - right)) {
      const first = step * stepBlocks;
      const found = new Uint8Array((Math.min(model.blockCount, first + stepBlocks) - first) * model.blockSizeBytes).fill(0xa5);
      await volume.read(first * model.blockSizeBytes, found);
      model.checkState(found, first * model.blockSizeBytes, lsn, when);
    }
  }

  /** Lets the disk run full for a while. */
  #fillDisk(life: Life): void {
    const { process } = life;
    const { random } = process;
    process.after(random.unit() * 50, () => {
      this.#disk.capacityBytes = this.#disk.usedBytes() + random.skewed(1, 512 * 1024) - 1;
      this.#trace.event('disk fills', HOME, this.#disk.capacityBytes);
      life.mayRefuseForSpace = true;
      this.#state.obligations.suspendAgeRule();
      process.after(random.skewed(1, 2000), () => {
        this.#disk.capacityBytes = UNLIMITED;
        this.#trace.event('disk has room', HOME);
      });
    });
  }

  /** While the volume is open, nobody else may open it (I7). */
  async #openTwice(life: Life): Promise<void> {
    const { env } = this.#boot(NO_CRASH);
    let outcome = 'was opened';
    try {
      await Promise.race([this.#engine.open(this.#optionsOf(env), { accepted: () => undefined }), life.process.death]);
    } catch (error) {
      if (!(error instanceof VolumeError)) throw error;
      outcome = error.code;
    }
    if (life.process.alive && outcome !== 'in-use') throw new SimulationFailure(`a second process tried to open the volume: ${outcome}`);
    env.process.die();
  }

  #drawEnding(): Ending {
    const random = this.#random;
    const { exitChance, powerCutChance, crashInOpenChance, operationsPerLife } = this.#plan;
    if (random.chance(exitChance)) return NO_CRASH;
    const death = random.chance(powerCutChance) ? 'power' : 'process';
    if (random.chance(crashInOpenChance)) return { death, stage: 'opening', atCall: random.skewed(1, 120), afterMs: null };
    const kind = random.unit();
    if (random.chance(this.#plan.quietCrashChance)) return { death, stage: 'quiet', atCall: null, afterMs: null };
    if (kind < 0.15) return { death, stage: 'closing', atCall: random.skewed(1, 100), afterMs: null };
    if (kind < 0.4) return { death, stage: 'use', atCall: null, afterMs: random.unit() * this.#plan.pauseMs };
    return { death, stage: 'use', atCall: random.skewed(1, 50 + 4 * operationsPerLife), afterMs: null };
  }

  /** From nothing to longer than anything in the engine waits for; often just longer than unsynced data may be old. */
  #drawQuietMs(random: SeededRandom): number {
    const ageMs = ageLimit(this.#plan);
    if (ageMs !== null && random.chance(0.4)) return ageMs * (1 + random.unit());
    return random.skewed(1, 20_000) - 1;
  }

  #boot(ending: Ending): Machine {
    this.#processCount += 1;
    const name = `process ${this.#processCount}`;
    const process = new SimProcess({ name, scheduler: this.#scheduler, trace: this.#trace, random: this.#random.derive(name) });
    this.#trace.event('boots', name, ending.atCall ?? 0, ending.afterMs ?? 0);
    const faults = new CrashAtCall(process.random.pick(['before', 'during', 'after'] as const));
    if (ending.death !== 'exit') process.onDeath(() => this.#crash(ending.death));
    const arm = (): void => {
      if (ending.atCall !== null) faults.arm(ending.atCall);
      if (ending.afterMs !== null) process.after(ending.afterMs, () => process.die());
    };
    if (ending.stage === 'opening') arm();
    const { profile } = this.#plan;
    return { env: new SimEnv({ process, disk: this.#disk, locks: this.#locks, profile, faults, tasks: this.#engine.tasks }), arm };
  }

  /** In the very moment of the crash, while the engine may be in the middle of a turn. */
  #crash(death: Death): void {
    if (this.#lastDeath === 'exit') this.#deathMs = this.#scheduler.nowMs;
    if (death === 'power') this.#cutPower();
    else {
      this.#state.counts.processCrashes += 1;
      if (this.#lastDeath === 'exit') this.#lastDeath = 'process';
    }
  }

  #cutPower(): void {
    this.#lastDeath = 'power';
    this.#state.counts.powerCuts += 1;
    const sequences = this.#disk.unsyncedSequences();
    this.#trace.event('power cut', HOME, sequences.length);
    this.#disk.cutPower(drawPowerCut(this.#random.derive(`power cut ${this.#state.counts.powerCuts}`), sequences));
  }

  #noteDurable(life: Life): void {
    if (life.isOpen) this.#state.obligations.declaredDurable(life.volume.durableLsn);
  }

  #countWork(life: Life): void {
    if (!life.isOpen) return;
    const stats = life.volume.stats();
    const { counts } = this.#state;
    counts.chunks += stats.chunksWritten;
    counts.checkpoints += stats.checkpoints;
    counts.logBytes += stats.logBytes;
  }

  /** A process ends of its own will. */
  #leave(process: SimProcess): void {
    this.#trace.event('exits', process.name);
    process.die();
  }

  #optionsOf(env: SimEnv): EngineOptions {
    return { env, directory: DIRECTORY, settings: this.#plan.settings, slabBytes: this.#plan.slabBytes };
  }
}

/** After this time an answered write survives (batched: a power cut; async: any crash) though nobody flushed. */
function ageLimit(plan: WorldPlan, durability: Durability = plan.create.durability): number | null {
  if (durability !== 'batched' && durability !== 'async') return null;
  const interval = durability === 'batched' ? plan.settings.batchMs : 2 * plan.settings.asyncIntervalMs;
  return interval + slowestMs(plan.profile);
}

/** A generous limit for a few log writes and syncs, one after another. */
function slowestMs(profile: IoProfile): number {
  return 50 + 20 * (profile.callMs + profile.syncMs) + 4 * profile.stallMs;
}
