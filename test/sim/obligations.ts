/**
 * What a volume owes its clients after a crash, as the first LSN that it may lose: kept apart for the death of the process
 * and for a power cut (DESIGN, "Durability modes" and I1).
 */
import type { VolumeCompression } from '../../src/base/compression.ts';
import type { Durability } from '../../src/base/durability.ts';

/** `exit`: closed properly. */
export type Death = 'exit' | 'process' | 'power';

/** All records up to `lsn` must be there, because `reason`. */
export interface Obligation {
  readonly lsn: number;
  readonly reason: string;
}

/** What may have been chosen: the last choice that is known, and those that were asked for since. They are made in the order in which they are asked for. */
class Choices<T> {
  #possible: T[];
  #before = 0;

  constructor(first: T) {
    this.#possible = [first];
  }

  /** The number is given to `answered`. */
  asked(choice: T): number {
    return this.#before + this.#possible.push(choice) - 1;
  }

  answered(change: number): void {
    const superseded = Math.max(0, change - this.#before);
    this.#possible = this.#possible.slice(superseded);
    this.#before += superseded;
  }

  /** False if it cannot be. */
  found(choice: T): boolean {
    if (!this.#possible.includes(choice)) return false;
    this.#before += this.#possible.length;
    this.#possible = [choice];
    return true;
  }
}

export interface ObligationOptions {
  /** The mode that the volume was made in. */
  readonly durability: Durability;
  readonly compression?: VolumeCompression;
  /** A write that was answered this long ago survives a power cut even without a flush; null: no such promise. It may depend on the write's mode. */
  readonly ageMs: number | null | ((durability: Durability) => number | null);
}

const NOTHING: Obligation = { lsn: 0, reason: 'a new volume' };

export class Obligations {
  readonly #options: ObligationOptions;
  #process: Obligation = NOTHING;
  #power: Obligation = NOTHING;
  /** Highest LSN of the answered writes. */
  #answeredLsn = 0;
  /** When `#answeredLsn` rose to what. */
  #answers: { readonly timeMs: number; readonly lsn: number; readonly durability: Durability }[] = [];
  readonly #modes: Choices<Durability>;
  readonly #compressions: Choices<VolumeCompression>;
  #ageRule = true;
  /** Whether the page cache still has all that was handed to the kernel. */
  #cacheIsSound = true;

  constructor(options: ObligationOptions) {
    this.#options = options;
    this.#modes = new Choices(options.durability);
    this.#compressions = new Choices(options.compression ?? 'default');
  }

  /** `durability` is the mode that the write was accepted in. */
  writeAnswered(answer: { readonly id: number; readonly lsn: number; readonly fua: boolean; readonly timeMs: number; readonly durability?: Durability }): void {
    const { id, lsn, fua, timeMs, durability = this.#options.durability } = answer;
    if (lsn > this.#answeredLsn) {
      this.#answeredLsn = lsn;
      this.#answers.push({ timeMs, lsn, durability });
    }
    if (durability === 'async') return;
    this.#oweAfterProcessCrash(lsn, `write ${id} was answered`);
    if (durability === 'strict') this.#oweAfterPowerCut(lsn, `write ${id} was answered in strict mode`);
    else if (fua) this.#oweAfterPowerCut(lsn, `write ${id} was answered with FUA`);
  }

  /** What a flush that is asked for now will make durable. */
  flushScope(): number {
    return this.#answeredLsn;
  }

  /** `durability` is the mode that it was asked in. */
  flushAnswered(scope: number, durability: Durability = this.#options.durability): void {
    if (durability === 'async') return;
    this.#oweAfterProcessCrash(scope, `a flush of LSN ${scope} was answered`);
    this.#oweAfterPowerCut(scope, `a flush of LSN ${scope} was answered`);
  }

  /** A change of the mode is asked for; the number is given to `changeAnswered`. */
  changeAsked(durability: Durability): number {
    return this.#modes.asked(durability);
  }

  /** Changes are made in the order in which they are asked for; what was answered before it was asked for is durable. */
  changeAnswered(change: number, scope: number): void {
    this.#oweAfterProcessCrash(scope, `a change of the mode after LSN ${scope} was answered`);
    this.#oweAfterPowerCut(scope, `a change of the mode after LSN ${scope} was answered`);
    this.#modes.answered(change);
  }

  compressionAsked(compression: VolumeCompression): number {
    return this.#compressions.asked(compression);
  }

  compressionAnswered(change: number): void {
    this.#compressions.answered(change);
  }

  /** The volume was opened and says this of itself; what it cannot be, or null. */
  strangeChoice({ durability, compression }: { readonly durability: Durability; readonly compression: VolumeCompression }): string | null {
    if (!this.#modes.found(durability)) return `in mode ${durability}`;
    return this.#compressions.found(compression) ? null : `with compression ${compression}`;
  }

  /** The volume itself says that all records up to `lsn` are durable. */
  declaredDurable(lsn: number): void {
    this.#oweAfterProcessCrash(lsn, `the volume said that LSN ${lsn} was durable`);
    this.#oweAfterPowerCut(lsn, `the volume said that LSN ${lsn} was durable`);
  }

  /** The volume was closed: all it took is durable, in every mode. */
  closed(lsn: number): void {
    this.#oweAfterProcessCrash(lsn, 'the volume was closed');
    this.#oweAfterPowerCut(lsn, 'the volume was closed');
  }

  /** The age rule does not hold while calls fail or take long. */
  suspendAgeRule(): void {
    this.#ageRule = false;
  }

  /**
   * A sync of the log failed: what it covered may be gone from the page cache at any time, so that from now on the death of the
   * process may take what a power cut may.
   */
  logSyncFailed(): void {
    this.#cacheIsSound = false;
    this.#ageRule = false;
  }

  /** What must be there after a crash at `timeMs`. */
  after(death: Death, timeMs: number): Obligation {
    const base = death === 'power' || !this.#cacheIsSound ? this.#power : this.#process;
    if (!this.#ageRule) return base;
    const old = this.#answers.findLast((answer) => {
      const ageMs = this.#ageOf(answer.durability);
      return ageMs !== null && answer.timeMs <= timeMs - ageMs && (death !== 'process' || answer.durability === 'async');
    });
    if (old === undefined || old.lsn <= base.lsn) return base;
    return { lsn: old.lsn, reason: `LSN ${old.lsn} was answered at ${old.timeMs.toFixed(3)} ms, more than ${this.#ageOf(old.durability)} ms before the crash` };
  }

  /**
   * The volume was opened again and has all records up to `lsn`. It read them from the kernel, so another crash of the
   * process cannot take them; after a power cut it read them from the medium, so no crash can. (Where a sync had failed before, the engine
   * must not take what it read for what is on the medium.)
   */
  recovered(lsn: number, death: Death): void {
    this.#answeredLsn = lsn;
    this.#answers = [];
    this.#ageRule = true;
    this.#cacheIsSound = true;
    this.#process = { lsn, reason: `LSN ${lsn} had been recovered before` };
    if (death === 'power') this.#power = { lsn, reason: `LSN ${lsn} had been recovered after a power cut` };
  }

  /** Rot took what was recorded behind `lsn`, and nobody could know. */
  rotted(lsn: number): void {
    const lost = { lsn, reason: `LSN ${lsn} is what rot had left` };
    if (this.#process.lsn > lsn) this.#process = lost;
    if (this.#power.lsn > lsn) this.#power = lost;
  }

  #ageOf(durability: Durability): number | null {
    const { ageMs } = this.#options;
    return typeof ageMs === 'function' ? ageMs(durability) : ageMs;
  }

  #oweAfterProcessCrash(lsn: number, reason: string): void {
    if (lsn > this.#process.lsn) this.#process = { lsn, reason };
  }

  #oweAfterPowerCut(lsn: number, reason: string): void {
    if (lsn > this.#power.lsn) this.#power = { lsn, reason };
  }
}
