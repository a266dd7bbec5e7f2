/**
 * One world: one or more volumes on a simulated machine, used by simulated clients through several lives, most of which end badly.
 * Whatever happens follows from the seed. After each crash each volume must equal the state after a prefix of its LSN
 * order that includes all that it owes (I1, I2).
 */
import type { Arena } from '../../src/base/arena.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { checkAll, checkMemory, isExcused } from './checks.ts';
import { Client } from './client.ts';
import { noCounts, type WorldCounts } from './counts.ts';
import { SimDisk, UNLIMITED } from './disk.ts';
import { NO_CRASH, addAll, ageLimit, crashFor, drawErrors, drawLife, drawLogSyncError, drawQuietMs, drawRot, drawSlowness, fullDisk, type DrawnLife, type Ending } from './ending.ts';
import type { EngineOptions, SimEngine, SimVolume } from './engine.ts';
import { SimEnv } from './env.ts';
import { Bursts, FirstFault, NO_FAULTS, type Fault, type FileCall } from './faults.ts';
import { SimLocks } from './file-system.ts';
import { Life, type VolumeState } from './life.ts';
import { makeArena } from './memory.ts';
import { Model, SimulationFailure, type AcceptedRecord } from './model.ts';
import { Obligations, type Death } from './obligations.ts';
import { drawPlan, type Taste, type VolumePlan, type WorldPlan } from './plan.ts';
import { drawPowerCut, type PowerCutMode } from './power-cut.ts';
import { SimProcess } from './process.ts';
import { SeededRandom } from './random.ts';
import { MARK, OpeningRot, checkNamesFile, checkReadOnly } from './opening-rot.ts';
import { Scheduler } from './scheduler.ts';
import { SCRUB_FAULTS, SCRUB_ROT, startScrubs } from './scrub-run.ts';
import { Trace } from './trace.ts';

const HOME = '/data';
const EVENTS_SHOWN = 60;
/** Openings that calls which fail may make fail, one after another. */
const OPEN_ATTEMPTS = 80;

export interface WorldOptions {
  readonly engine: SimEngine;
  readonly seed: number;
  /** Told every event as it happens. */
  readonly onEvent?: (line: string) => void;
  /** The kind of world, where it is not to be left to the seed. */
  readonly taste?: Taste;
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

interface LifePlan extends DrawnLife {
  readonly random: SeededRandom;
  /** Nothing goes wrong in it. */
  readonly isSound: boolean;
}

/** A booted process: its memory for blocks, what makes it crash, what else goes wrong with its calls. */
interface Machine {
  readonly env: SimEnv;
  readonly arena: Arena;
  readonly bursts: Bursts;
  /** Starts the countdown to the crash. */
  readonly arm: () => void;
  /** Who hears of faults with the files of each directory. */
  readonly lives: Map<string, Life>;
  hadFault: boolean;
  /** What strikes the opening of a volume; null: nothing does. */
  openingRot: OpeningRot | null;
  /** Calls may take longer than the profile of the disk says. */
  isSlow: boolean;
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
  readonly #volumes: readonly VolumeState[];
  readonly #counts = noCounts();
  #processCount = 0;

  constructor(options: WorldOptions) {
    this.#seed = options.seed;
    this.#engine = options.engine;
    this.#random = new SeededRandom(options.seed);
    this.#trace = new Trace(options.onEvent ?? null);
    this.#scheduler = new Scheduler((timeMs) => this.#trace.setTime(timeMs));
    const drawn = drawPlan(this.#random.derive('plan'), options.taste);
    this.#plan = options.adjust?.(drawn) ?? drawn;
    const ids = { next: 1 };
    this.#volumes = this.#plan.volumes.map((volume, index) => this.#stateOf(volume, `${HOME}/volume-${index + 1}`, ids));
  }

  #stateOf(volume: VolumePlan, directory: string, ids: { next: number }): VolumeState {
    const { sizeBytes, blockSizeBytes, durability, compression } = volume.create;
    return {
      plan: this.#plan,
      volume,
      directory,
      model: new Model({ blockCount: sizeBytes / blockSizeBytes, blockSizeBytes }),
      obligations: new Obligations({ durability, compression, ageMs: (mode) => ageLimit(this.#plan, mode) }),
      claims: new Map(),
      isMarked: false,
      counts: this.#counts,
      ids,
      lastDeath: 'exit',
      deathMs: 0,
    };
  }

  async run(): Promise<WorldReport> {
    await this.#scheduler.drive(() => this.#script());
    return {
      seed: this.#seed,
      digest: this.#trace.digest(),
      events: this.#trace.count,
      simulatedMs: this.#scheduler.nowMs,
      counts: this.#counts,
    };
  }

  explain(error: unknown): Error {
    const text = error instanceof SimulationFailure ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error);
    const volumes = this.#volumes.map(({ volume: { create }, directory, lastDeath }) => `${directory}: ${create.sizeBytes / create.blockSizeBytes} blocks of ${create.blockSizeBytes} bytes, ${create.durability}, last death: ${lastDeath}`);
    return new SimulationFailure(
      [
        `seed ${this.#seed} fails at ${this.#scheduler.nowMs.toFixed(3)} simulated ms (a world of taste ${this.#plan.taste}, ${this.#plan.profile.name} disk; ${volumes.join('; ')}):`,
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
    for (const state of this.#volumes) await this.#create(state);
    for (let index = 0; index < this.#plan.lives; index += 1) {
      await this.#live(drawLife(this.#random, this.#plan, index));
    }
    await this.#live({ ending: NO_CRASH, operationCount: Math.min(20, this.#plan.operationsPerLife), faults: 'none' }, true);
    await this.#live({ ending: NO_CRASH, operationCount: 0, faults: 'none' }, true);
    await this.#inspect();
  }

  /** Makes a volume; at times only at the second attempt, because the first one crashes, or its calls fail. */
  async #create(state: VolumeState): Promise<void> {
    const random = this.#random.derive(`create ${state.directory}`);
    if (random.chance(this.#plan.crashInCreateChance)) {
      const { env, arena } = this.#boot({ death: random.pick<Death>(['process', 'power']), stage: 'opening', atCall: random.skewed(1, 40), aim: '', afterMs: null });
      await Promise.race([this.#engine.create(this.#optionsOf(state, env, arena), state.volume.create), env.process.death]);
      if (!env.process.alive) this.#counts.earlyCrashes += 1;
      env.process.die(); // if it was done before the crash was due, the crash comes now
    }
    const machine = this.#boot(NO_CRASH);
    if (random.chance(this.#plan.faults.errorChance)) addAll(machine.bursts, drawErrors(random, [HOME]));
    const options = this.#optionsOf(state, machine.env, machine.arena);
    for (let attempt = 1; ; attempt += 1) {
      try {
        if (!(await this.#isThere(options))) await this.#engine.create(options, state.volume.create);
        break;
      } catch (error) {
        if (!machine.hadFault || attempt === OPEN_ATTEMPTS || !isExcused(error)) throw error;
      }
    }
    this.#leave(machine.env.process);
  }

  /** After a crash a volume is there as a whole, or it is not there; nothing in between. */
  async #isThere(options: EngineOptions): Promise<boolean> {
    try {
      const volume = await this.#engine.open(options, { accepted: () => undefined });
      if (volume.recoveredLsn !== 0) throw new SimulationFailure(`a new volume begins with LSN ${volume.recoveredLsn}`);
      await volume.close();
      return true;
    } catch (error) {
      if (error instanceof VolumeError && error.code === 'not-found') return false;
      throw error;
    }
  }

  /**
   * What a crash leaves is no damage: `basalt check --deep` finds nothing, however the life before ended. Its process has no part in the
   * numbers that worlds are drawn from: they are what they were without it.
   */
  async #inspect(): Promise<void> {
    if (this.#engine.inspect === undefined) return;
    this.#counts.inspections += 1;
    const { profile, settings } = this.#plan;
    const random = this.#random.derive(`inspection ${this.#counts.inspections}`);
    const process = new SimProcess({ name: 'inspection', scheduler: this.#scheduler, trace: this.#trace, random });
    const env = new SimEnv({ process, disk: this.#disk, locks: this.#locks, profile, faults: NO_FAULTS, tasks: this.#engine.tasks });
    for (const { directory, lastDeath } of this.#volumes) {
      const findings = await this.#engine.inspect({ env, directory, settings });
      if (findings.length > 0) throw new SimulationFailure(`check finds damage in ${directory} after ${lastDeath}: ${findings.join('; ')}`);
    }
    process.die();
  }

  /** `isSound`: nothing goes wrong in it, the disk does not run full either. */
  async #live({ ending, operationCount, faults }: DrawnLife, isSound = false): Promise<void> {
    await this.#inspect();
    const machine = this.#boot(ending);
    const { env } = machine;
    const random = env.process.random.derive('life');
    const lives = this.#volumes.map((state) => new Life(state, env));
    for (const life of lives) machine.lives.set(life.world.directory, life);
    if (faults === 'plan') this.#drawFaults(machine, random);
    if (faults === 'log sync') machine.bursts.add(drawLogSyncError(random));
    env.process.onDeath(() => lives.forEach((life) => this.#noteDurable(life)));
    await Promise.race([this.#work(lives, machine, { operationCount, ending, random, faults, isSound }), ...lives.map((life) => life.failure), env.process.death]);
    for (const life of lives) this.#countWork(life);
    this.#disk.capacityBytes = UNLIMITED;
    if (!lives.every((life) => life.isOpen)) this.#counts.earlyCrashes += 1;
    if (ending.death === 'exit') {
      this.#leave(env.process);
      this.#counts.exits += 1;
    } else env.process.die(); // if it was closed before the crash was due, the crash comes now
    if (ending.death === 'exit' ? this.#random.chance(0.3) : this.#random.chance(0.05)) this.#cutPower();
  }

  #drawFaults(machine: Machine, random: SeededRandom): void {
    const { bursts } = machine;
    const { errorChance, slowChance, rotChance, openingRotChance } = this.#plan.faults;
    const directories = this.#volumes.map(({ directory }) => directory);
    if (random.chance(errorChance)) addAll(bursts, drawErrors(random, directories));
    if (random.chance(slowChance)) {
      addAll(bursts, drawSlowness(random, this.#plan.faults));
      machine.isSlow = true;
    }
    if (random.chance(rotChance)) bursts.add(drawRot(random));
    const atOpening = random.derive('rot at opening');
    if (atOpening.chance(openingRotChance)) machine.openingRot = new OpeningRot(atOpening.pick(directories), atOpening);
  }

  async #work(lives: readonly Life[], machine: Machine, { operationCount, ending, random, faults, isSound }: LifePlan): Promise<void> {
    for (const life of lives) await this.#open(life, machine);
    if (ending.stage === 'use') machine.arm();
    const { process } = machine.env;
    const clients = Array.from({ length: Math.max(this.#plan.clients, lives.length) }, (_none, index) => new Client(lives[index % lives.length], random.derive(`client ${index}`)));
    if (!isSound && operationCount > 0 && random.chance(this.#plan.diskFullChance)) this.#fillDisk(lives, process);
    if (random.chance(this.#plan.secondOpenerChance)) await this.#openTwice(random.pick(lives));
    if (faults === 'plan' && random.chance(this.#plan.faults.errorChance)) this.#fillOne(lives, machine, random);
    this.#dropPages(process, random);
    const scrubs = startScrubs(lives, this.#plan.scrubChance, (path) => this.#disk.find(path) !== undefined);
    await Promise.all(clients.map((client) => client.run(Math.ceil(operationCount / clients.length))));
    for (const life of lives) if (random.chance(0.3)) await this.#checkAll(life, life.world.model.lastLsn, 'when all clients had ended');
    if (ending.stage === 'quiet') {
      const ageMs = random.pick(lives.map(({ world }) => ageLimit(this.#plan, world.volume.create.durability)));
      await process.sleep(drawQuietMs(random, ageMs, this.#plan.quietMs));
      process.die();
      return;
    }
    await scrubs.leave();
    if (ending.stage === 'closing') machine.arm();
    await Promise.all(lives.map((life) => this.#close(life)));
    await scrubs.ends;
    const left = machine.env.simFiles.openPaths();
    if (left.length > 0) throw new SimulationFailure(`closed volumes still have files open: ${left.join(', ')}`);
    checkMemory(machine.arena);
    if (isSound) for (const { directory } of this.#volumes) this.#engine.checkFiles(this.#disk, { directory, settings: this.#plan.settings });
  }

  /** Calls that fail may make several openings fail; each leaves nothing behind. */
  async #open(life: Life, machine: Machine): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        if (await this.#openOnce(life, machine)) return;
      } catch (error) {
        if (error instanceof SimulationFailure || attempt === OPEN_ATTEMPTS) throw error;
        if (machine.openingRot?.excuses(error) !== true) life.expectRefusal(error, 'opening the volume');
        checkNamesFile(error, 'opening the volume');
      }
      const open = machine.env.simFiles.openPaths().filter((path) => path.startsWith(life.world.directory));
      if (open.length > 0) throw new SimulationFailure(`an opening that failed left files open: ${open.join(', ')}`);
      await life.process.sleep(5);
    }
  }

  /** False: it could be opened for reading alone, was read, and is closed again. */
  async #openOnce(life: Life, machine: Machine): Promise<boolean> {
    const { world } = life;
    const { model, obligations, counts, lastDeath, deathMs } = world;
    const rot = machine.openingRot?.directory === world.directory ? machine.openingRot : null;
    const volume = await this.#openOver(life, machine, rot);
    if (volume === null) return false;
    counts.opens += 1;
    const recovered = volume.recoveredLsn;
    this.#trace.event('recovered', `${world.directory} after ${lastDeath}`, recovered, model.lastLsn);
    const owed = obligations.after(lastDeath, deathMs);
    if (recovered < (rot?.noticedLsn(world, owed) ?? owed.lsn)) {
      throw new SimulationFailure(`recovery of ${world.directory} found only the records up to LSN ${recovered} of ${model.lastLsn}, but ${owed.lsn} must be there: ${owed.reason}`);
    }
    if (recovered < owed.lsn) {
      counts.rottenEnds += 1;
      obligations.rotted(recovered);
    }
    if (recovered > model.lastLsn) throw new SimulationFailure(`recovery found LSN ${recovered}, but only ${model.lastLsn} were ever given`);
    if (volume.lastLsn !== recovered) throw new SimulationFailure(`the volume was opened at LSN ${recovered}, but says that its last one is ${volume.lastLsn}`);
    if (recovered < model.lastLsn) counts.lossyRecoveries += 1;
    model.forgetAfter(recovered);
    obligations.recovered(recovered, lastDeath);
    if (machine.isSlow) obligations.suspendAgeRule();
    world.lastDeath = 'exit';
    world.isMarked = false;
    life.opened(volume);
    await this.#checkAll(life, recovered, `after recovery to LSN ${recovered}`);
    return true;
  }

  /** Opens a volume over what may be rotten. Null: for reading alone; what can be read of it is right, and it is closed. */
  async #openOver(life: Life, { env, arena }: Machine, rot: OpeningRot | null): Promise<SimVolume | null> {
    const { world } = life;
    const options = this.#optionsOf(world, env, arena);
    const observer = { accepted: (record: AcceptedRecord) => life.accepted(record) };
    const startMs = this.#scheduler.nowMs;
    rot?.begin();
    try {
      if (rot?.isServing !== true || this.#engine.serve === undefined) return await this.#engine.open(options, observer);
      const volume = await this.#engine.serve(options, observer);
      if (!('reason' in volume)) return volume;
      world.counts.readOnlyOpenings += 1;
      this.#trace.event('served read-only', `${world.directory} after ${world.lastDeath}`, world.model.lastLsn);
      checkNamesFile(volume.reason, 'the reason for serving a volume read-only');
      const leastLsn = rot.noticedLsn(world, world.obligations.after(world.lastDeath, world.deathMs));
      world.counts.unreadableBlocks += await checkReadOnly(world, volume, leastLsn, (error) => life.expectUnreadable(error, 'a read of a volume that is open for reading', startMs));
      await volume.close();
      return null;
    } finally {
      rot?.end();
    }
  }

  /** Reads everything; parts of it may be out of reach while calls that read go wrong. */
  async #checkAll(life: Life, lsn: number, when: string): Promise<void> {
    const startMs = this.#scheduler.nowMs;
    try {
      await checkAll(life.world, life.volume, this.#random, lsn, when);
    } catch (error) {
      if (error instanceof SimulationFailure) throw error;
      life.expectUnreadable(error, `reading the volume ${when}`, startMs);
    }
  }

  /** Closes a volume. While the disk is full, or calls fail, that may fail; then nothing more is owed than after a crash of the process. */
  async #close(life: Life): Promise<void> {
    const { process, world } = life;
    life.checkFailure();
    life.isClosing = true;
    const lsn = world.model.lastLsn;
    try {
      await life.volume.close();
      if (!process.alive) return;
      world.obligations.closed(lsn);
      world.isMarked = life.hasMark;
    } catch (error) {
      life.expectRefusal(error, 'closing the volume');
    }
  }

  /** Lets the disk run full for a while. */
  #fillDisk(lives: readonly Life[], process: SimProcess): void {
    const { random } = process;
    process.after(random.unit() * 50, () => {
      this.#disk.capacityBytes = this.#disk.usedBytes() + random.skewed(1, 512 * 1024) - 1;
      this.#trace.event('disk fills', HOME, this.#disk.capacityBytes);
      for (const life of lives) {
        life.mayRefuseForSpace = true;
        life.world.obligations.suspendAgeRule();
      }
      process.after(random.skewed(1, 2000), () => {
        this.#disk.capacityBytes = UNLIMITED;
        this.#trace.event('disk has room', HOME);
      });
    });
  }

  /** The chunks of one volume find no space for the rest of the life; the others must go on, wherever there is memory that it can lend them. */
  #fillOne(lives: readonly Life[], { arena, bursts }: Machine, random: SeededRandom): void {
    if (lives.length === 1 || arena.maxSlabs - 1 - arena.maxDirtySlabs < 2) return;
    const life = random.pick(lives);
    bursts.add(fullDisk(`${life.world.directory}/chunks/`, random));
  }

  /** At some moment the kernel takes back pages whose sync failed. */
  #dropPages(process: SimProcess, random: SeededRandom): void {
    process.after(random.unit() * 200, () => this.#dropForgotten(random));
  }

  #dropForgotten(random: SeededRandom): void {
    const chance = random.pick([0, 0.3, 1]);
    if (this.#disk.dropForgotten(() => random.chance(chance))) this.#trace.event('pages dropped', HOME);
  }

  /** While a volume is open, nobody else may open it (I7). */
  async #openTwice(life: Life): Promise<void> {
    const { env, arena } = this.#boot(NO_CRASH);
    let outcome = 'was opened';
    try {
      await Promise.race([this.#engine.open(this.#optionsOf(life.world, env, arena), { accepted: () => undefined }), life.process.death]);
    } catch (error) {
      if (!(error instanceof VolumeError)) throw error;
      outcome = error.code;
    }
    if (life.process.alive && outcome !== 'in-use') throw new SimulationFailure(`a second process tried to open the volume: ${outcome}`);
    env.process.die();
  }

  #boot(ending: Ending): Machine {
    this.#processCount += 1;
    const name = `process ${this.#processCount}`;
    const process = new SimProcess({ name, scheduler: this.#scheduler, trace: this.#trace, random: this.#random.derive(name) });
    this.#trace.event('boots', name, ending.atCall ?? 0, ending.afterMs ?? 0);
    const crash = crashFor(ending, process.random);
    if (ending.death !== 'exit') process.onDeath(() => this.#crash(ending));
    const arm = (): void => {
      if (ending.atCall !== null) crash.arm(ending.atCall);
      if (ending.afterMs !== null) process.after(ending.afterMs, () => process.die());
    };
    if (ending.stage === 'opening') arm();
    const { profile } = this.#plan;
    const bursts = new Bursts((call, fault) => this.#delivered(machine, call, fault));
    const env = new SimEnv({ process, disk: this.#disk, locks: this.#locks, profile, faults: new FirstFault([crash, SCRUB_FAULTS, { decide: (call) => machine.openingRot?.decide(call) ?? null, delivered: (call, fault) => machine.openingRot?.delivered(call, fault) }, { decide: () => null, failed: ({ path }) => machine.lives.get(path.slice(0, -MARK.length))?.callFailed(path) }, bursts]), tasks: this.#engine.tasks });
    const machine: Machine = { env, arena: makeArena(env, this.#plan), bursts, arm, lives: new Map(), hadFault: false, openingRot: null, isSlow: false };
    this.#dropForgotten(process.random);
    return machine;
  }

  #delivered(machine: Machine, call: FileCall, fault: Fault): void {
    if (fault === SCRUB_ROT) return; // the scrub that asked for it knows
    machine.hadFault = true;
    for (const life of machine.lives.values()) life.memoryMayBeLost();
    for (const [directory, life] of machine.lives) if (call.path === directory || call.path.startsWith(`${directory}/`)) life.faultDelivered(call, fault);
  }

  /** In the very moment of the crash, while the engine may be in the middle of a turn. */
  #crash({ death, powerCutModes }: Ending): void {
    for (const state of this.#volumes) if (state.lastDeath === 'exit') state.deathMs = this.#scheduler.nowMs;
    if (death === 'power') this.#cutPower(powerCutModes);
    else {
      this.#counts.processCrashes += 1;
      for (const state of this.#volumes) if (state.lastDeath === 'exit') state.lastDeath = 'process';
    }
  }

  #cutPower(modes: readonly PowerCutMode[] = this.#plan.powerCutModes): void {
    for (const state of this.#volumes) {
      state.lastDeath = 'power';
      state.isMarked = false;
    }
    this.#counts.powerCuts += 1;
    const sequences = this.#disk.unsyncedSequences();
    this.#trace.event('power cut', HOME, sequences.length);
    const random = this.#random.derive(`power cut ${this.#counts.powerCuts}`);
    this.#disk.cutPower(drawPowerCut(random, sequences, random.pick(modes)));
  }

  #noteDurable(life: Life): void {
    if (life.isOpen) life.world.obligations.declaredDurable(life.volume.durableLsn);
  }

  #countWork(life: Life): void {
    if (!life.isOpen) return;
    const stats = life.volume.stats();
    this.#counts.chunks += stats.chunksWritten;
    if (stats.liveStoredBytes < stats.liveBytes) this.#counts.packedVolumes += 1;
    this.#counts.checkpoints += stats.checkpoints;
    this.#counts.logBytes += stats.logBytes;
  }

  /** A process ends of its own will. */
  #leave(process: SimProcess): void {
    this.#trace.event('exits', process.name);
    process.die();
  }

  #optionsOf(state: VolumeState, env: SimEnv, arena: Arena): EngineOptions {
    return { env, directory: state.directory, settings: this.#plan.settings, arena };
  }
}
