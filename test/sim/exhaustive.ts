/**
 * A crash at every call of the script, before it, in its middle and behind it; for each, with every subset of the last few changes
 * that were not synced kept or lost. Each state is recovered and compared with the model: exhaustive where worlds sample.
 */
import { createHash } from 'node:crypto';
import type { Durability } from '../../src/base/durability.ts';
import type { LogIo } from '../../src/base/settings-types.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { checkAll } from './checks.ts';
import type { DirectoryNode, SimDisk } from './disk.ts';
import type { SimEngine } from './engine.ts';
import { CRASH_MOMENTS, HOME, bootOn, optionsOf, runScript, type CrashState } from './exhaustive-script.ts';
import { NO_FAULTS } from './faults.ts';
import type { PowerCutFate } from './file-node.ts';
import { SimulationFailure } from './model.ts';
import type { Death } from './obligations.ts';
import { makePayload } from './payload.ts';
import { SeededRandom } from './random.ts';
import { Scheduler } from './scheduler.ts';
import { Trace } from './trace.ts';

export interface ExhaustiveOptions {
  readonly engine: SimEngine;
  readonly durability: Durability;
  /** `buffered` if it is not given. */
  readonly logIo?: LogIo;
  /** Changes, the youngest ones, of which every subset is tried; what is older is kept, or lost as a whole. */
  readonly decided: number;
  /** Only every n-th call, from the `first` on. */
  readonly step?: number;
  readonly first?: number;
  readonly onProgress?: (call: number, calls: number, report: ExhaustiveReport) => void;
}

export interface ExhaustiveReport {
  /** Calls of the file system in the whole script. */
  calls: number;
  /** Crashes at a moment of a call. */
  crashes: number;
  /** Disks that these left, each subset one. */
  states: number;
  /** Those that differ in a byte, or in what is owed; each was recovered. */
  distinct: number;
  /** Those that were written to, cut off and recovered once more. */
  repeated: number;
}

/** How many of the distinct states live on for a while. */
const REPEATED_EVERY = 8;
const NO_CRASH_CALL = Number.MAX_SAFE_INTEGER;

/** Rejects with a SimulationFailure that says after which crash what was wrong. */
export async function crashEverywhere(options: ExhaustiveOptions): Promise<ExhaustiveReport> {
  const { engine, durability, logIo, step = 1, first = 1 } = options;
  const whole = await runScript(engine, durability, NO_CRASH_CALL, 'before', logIo);
  const run = new Exhaustive(options, whole.calls);
  for (let call = first; call <= whole.calls; call += step) {
    for (const moment of CRASH_MOMENTS) {
      const crash = await runScript(engine, durability, call, moment, logIo);
      if (!crash.crashed) throw new SimulationFailure(`the script has ${whole.calls} calls, but came to its end without call ${call}`);
      await run.judge(crash, `call ${call} of ${whole.calls}, crash ${moment} it`);
    }
    options.onProgress?.(call, whole.calls, run.report);
  }
  return run.report;
}

class Exhaustive {
  readonly report: ExhaustiveReport;
  readonly #engine: SimEngine;
  readonly #decided: number;
  readonly #seen = new Set<string>();

  constructor(options: ExhaustiveOptions, calls: number) {
    this.#engine = options.engine;
    this.#decided = options.decided;
    this.report = { calls, crashes: 0, states: 0, distinct: 0, repeated: 0 };
  }

  async judge(crash: CrashState, what: string): Promise<void> {
    this.report.crashes += 1;
    await this.#look(crash, crash.disk.clone(), 'process', `${what}, death of the process`);
    for (const { kept, text } of this.#subsets(crash.disk)) {
      const disk = crash.disk.clone();
      disk.cutPower(fateOf(kept));
      await this.#look(crash, disk, 'power', `${what}, power cut, ${text}`);
    }
  }

  #subsets(disk: SimDisk): { readonly kept: ReadonlySet<number>; readonly text: string }[] {
    const sequences = [...new Set(disk.unsyncedSequences())];
    const older = sequences.slice(0, -this.#decided);
    const young = sequences.slice(-this.#decided);
    const subsets: { readonly kept: ReadonlySet<number>; readonly text: string }[] = [];
    for (let mask = 0; mask < 1 << young.length; mask += 1) {
      const chosen = young.filter((_sequence, index) => (mask >> index) % 2 === 1);
      subsets.push({ kept: new Set([...older, ...chosen]), text: `kept ${chosen.join(' ') || 'none'} of ${young.join(' ') || 'none'}, and all ${older.length} older changes` });
    }
    if (older.length > 0) {
      subsets.push({ kept: new Set(), text: 'all lost' }, { kept: new Set(young), text: `all ${older.length} older changes lost, ${young.join(' ')} kept` });
    }
    return subsets;
  }

  async #look(crash: CrashState, disk: SimDisk, death: Death, what: string): Promise<void> {
    this.report.states += 1;
    const owed = crash.state.obligations.after(death, 0);
    const key = `${digestOf(disk)} ${owed.lsn} ${crash.state.model.lastLsn} ${crash.isCreated}`;
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.report.distinct += 1;
    const recovery = new Recovery(this.#engine, crash, disk);
    try {
      await recovery.run(owed.lsn, owed.reason, this.report.distinct % REPEATED_EVERY === 0);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      throw new SimulationFailure([`${what}: ${text}`, ...recovery.trace.last(40)].join('\n'), { cause: error });
    }
    if (recovery.isRepeated) this.report.repeated += 1;
  }
}

class Recovery {
  readonly trace = new Trace();
  readonly #scheduler = new Scheduler((timeMs) => this.trace.setTime(timeMs));
  readonly #engine: SimEngine;
  readonly #crash: CrashState;
  readonly #disk: SimDisk;
  #boots = 100;
  isRepeated = false;

  constructor(engine: SimEngine, crash: CrashState, disk: SimDisk) {
    this.#engine = engine;
    this.#crash = crash;
    this.#disk = disk;
  }

  run(owedLsn: number, reason: string, isRepeated: boolean): Promise<void> {
    return this.#scheduler.drive(async () => {
      const lsn = await this.#recover(owedLsn, reason, isRepeated);
      if (lsn === null || !isRepeated) return;
      this.isRepeated = true;
      this.#disk.cutPower(fateOf(new Set()));
      await this.#recover(lsn + 1, 'a write was flushed after the first recovery', false, true);
    });
  }

  /** Opens and checks the volume; with `goesOn` it is written to. Returns the LSN that it was recovered to; null: it is not there, and need not be. */
  async #recover(owedLsn: number, reason: string, goesOn: boolean, isSecond = false): Promise<number | null> {
    const { state, isCreated } = this.#crash;
    this.#boots += 1;
    const booted = bootOn(this.#disk, this.#engine, { scheduler: this.#scheduler, trace: this.trace, faults: NO_FAULTS, seed: this.#boots });
    const { process } = booted.env;
    try {
      const volume = await this.#engine.open(optionsOf(booted, state.plan), { accepted: () => undefined });
      const recovered = volume.recoveredLsn;
      if (recovered < owedLsn) throw new SimulationFailure(`recovery found only the records up to LSN ${recovered}, but ${owedLsn} must be there: ${reason}`);
      if (isSecond) await this.#checkSecond(volume.read.bind(volume));
      else {
        if (recovered > state.model.lastLsn) throw new SimulationFailure(`recovery found LSN ${recovered}, but only ${state.model.lastLsn} were ever given`);
        await checkAll(state, volume, new SeededRandom(1), recovered, `after recovery to LSN ${recovered}`);
      }
      if (goesOn) {
        await volume.write(0, secondPayload(state.model.blockSizeBytes), true);
        if (state.volume.create.durability === 'async') await volume.close(); // nothing less makes it durable there and then
      }
      return recovered;
    } catch (error) {
      if (!isCreated && error instanceof VolumeError && error.code === 'not-found') return null;
      throw error;
    } finally {
      process.die();
    }
  }

  async #checkSecond(read: (offsetBytes: number, target: Uint8Array) => Promise<void>): Promise<void> {
    const expected = secondPayload(this.#crash.state.model.blockSizeBytes);
    const found = new Uint8Array(expected.length);
    await read(0, found);
    if (Buffer.compare(found, expected) !== 0) throw new SimulationFailure('what was written and flushed after the first recovery is not there after the second');
  }
}

function secondPayload(blockSizeBytes: number): Uint8Array {
  return makePayload('noisy', 1_000_000, 0, blockSizeBytes);
}

function fateOf(kept: ReadonlySet<number>): PowerCutFate {
  const keeps = (sequence: number): boolean => kept.has(sequence);
  return { keepsSector: keeps, tornBytes: () => 0, keepsLength: keeps, keepsName: keeps };
}

/** Names and contents of all files: disks with equal digests recover alike. */
function digestOf(disk: SimDisk): string {
  const hash = createHash('sha1');
  const walk = (directory: DirectoryNode, path: string): void => {
    for (const [name, node] of [...directory.entries].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
      hash.update(`${path}/${name} `);
      if (node.kind === 'directory') walk(node, `${path}/${name}`);
      else {
        const bytes = new Uint8Array(node.sizeBytes);
        node.read(bytes, 0);
        hash.update(`${bytes.length} `).update(bytes);
      }
    }
  };
  walk(disk.findDirectory(HOME), '');
  return hash.digest('base64');
}

