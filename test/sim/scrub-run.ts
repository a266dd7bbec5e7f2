/**
 * One scrub of a volume that is being used. Rot may be put under it, into all that it reads of one chunk from some read on: it has to find that,
 * and nothing where there is none. What it writes anew is what stood there.
 */
import { VolumeError } from '../../src/base/errors.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { CHUNK_FOOTER_BYTES, CHUNK_HEADER_BYTES } from '../../src/format/chunk-layout.ts';
import type { RottenPlace, ScrubReport } from '../../src/volume/volume-info.ts';
import { currentScrub, withinScrub } from './context.ts';
import type { Fault, FaultPolicy, FileCall } from './faults.ts';
import type { Life } from './life.ts';
import { SimulationFailure } from './model.ts';
import type { SeededRandom } from './random.ts';

/** What a scrub is given to read in place of what is there. One object: it is told apart from the rot that strikes anybody. */
export const SCRUB_ROT: Fault = { kind: 'rot' };

/** Turns bits of what scrubs read. It goes by who reads: all that others read of the same chunk is as it was. */
export const SCRUB_FAULTS: FaultPolicy = {
  decide: (call) => currentScrub()?.decide(call) ?? null,
};

export class ScrubRun {
  readonly #life: Life;
  readonly #random: SeededRandom;
  readonly #ending = new AbortController();
  /** Reads of chunks until rot strikes; null: it never does. */
  #countdown: number | null;
  /**
   * It strikes, and counts, reads of blocks alone. Left to chance rot met blocks in 3 of 37 scrubs: one of five reads of a small chunk is of blocks, and these are not looked
   * at where the others met rot. Only where blocks are not compressed is it the scrub's own comparison that finds it; of compressed ones the frame's checksum does.
   */
  readonly #isForBlocks: boolean;
  /** Where the footer begins of the chunk that is being read; its tables end there. */
  #footerOffset = 0;
  /** The chunk that it struck. */
  #rottenPath: string | null = null;
  #isDone = false;
  readonly #isThere: (path: string) => boolean;

  /** `isThere`: whether the disk has a file of that name now. */
  constructor(life: Life, random: SeededRandom, isThere: (path: string) => boolean) {
    this.#life = life;
    this.#isThere = isThere;
    this.#random = random;
    this.#countdown = random.chance(life.world.plan.scrubRotChance) ? random.skewed(1, 30) : null;
    const aim = random.derive('rot of blocks');
    this.#isForBlocks = aim.chance(0.5);
    if (this.#isForBlocks && this.#countdown !== null) this.#countdown = aim.skewed(1, 8);
  }

  /** Ends it early, or lets it come to its end. */
  leave(): void {
    if (this.#random.chance(0.5)) this.#ending.abort();
  }

  /** Called within the turn in which a call begins that this scrub asked for. */
  decide(call: FileCall): Fault | null {
    if (this.#countdown === null || this.#isDone || call.kind !== 'read' || !call.path.startsWith(`${this.#life.world.directory}/chunks/`)) return null;
    if (this.#isForBlocks && !this.#isOfBlocks(call)) return null;
    if (this.#rottenPath === null) {
      this.#countdown -= 1;
      if (this.#countdown > 0) return null;
      this.#rottenPath = call.path;
    }
    return call.path === this.#rottenPath ? SCRUB_ROT : null;
  }

  #isOfBlocks({ offsetBytes, lengthBytes }: FileCall): boolean {
    const isFooter = lengthBytes === CHUNK_FOOTER_BYTES;
    if (isFooter) this.#footerOffset = offsetBytes;
    return offsetBytes >= CHUNK_HEADER_BYTES && !isFooter && offsetBytes + lengthBytes !== this.#footerOffset;
  }

  /** It writes a block anew: whatever that sets off in the engine is nobody's scrub, and reads what is there. */
  rescues(): void {
    this.#countdown = null;
  }

  /** Waits for a moment, scrubs, and checks what comes of it. */
  async run(): Promise<void> {
    const { process, volume, world } = this.#life;
    await process.sleep(this.#random.unit() * this.#random.pick([1, 50, 1000]));
    if (this.#ending.signal.aborted || volume.scrub === undefined) return;
    const bytesPerSecond = this.#random.pick([64 * KIB, MIB, 64 * MIB]);
    const startMs = process.scheduler.nowMs;
    process.trace.event('scrub', world.directory, bytesPerSecond);
    try {
      const { signal } = this.#ending;
      const report = await withinScrub(this, () => volume.scrub?.({ bytesPerSecond, onProgress: () => undefined, signal }));
      if (report !== undefined && process.alive) this.#judge(report, startMs);
    } catch (error) {
      this.#expectFailure(error, startMs);
    } finally {
      this.#isDone = true;
    }
  }

  #judge(report: ScrubReport, startMs: number): void {
    const { counts } = this.#life.world;
    const { rottenCount, chunks, rewrittenCount } = report;
    this.#life.process.trace.event('scrubbed', this.#life.world.directory, chunks, rottenCount);
    counts.scrubs += 1;
    counts.rescuedBlocks += rewrittenCount;
    if (report.isClean !== (rottenCount === 0)) throw new SimulationFailure(`a scrub that found ${rottenCount} rotten places says that all is ${report.isClean ? 'clean' : 'not clean'}`);
    const strange = report.rotten.find((place) => !this.#isCaused(place, startMs));
    if (strange !== undefined) throw new SimulationFailure(`a scrub finds ${strange.file} rotten (${strange.problem}), and nothing was wrong with what it read of it`);
    if (this.#rottenPath === null) return;
    const isFound = report.rotten.some((place) => this.#rottenPath?.endsWith(`/${place.file}`) === true && (place.blockNumber !== null || !this.#isForBlocks));
    // A chunk that was removed while it was being read is nobody's any more, and left out: its file goes first.
    if (!isFound && this.#isThere(this.#rottenPath)) throw new SimulationFailure(`a scrub read rot in ${this.#rottenPath} and finds ${rottenCount} rotten places, not there`);
    if (!isFound) return;
    counts.rottenScrubs += 1;
    if (this.#isForBlocks) counts.rottenBlockScrubs += 1;
  }

  #isCaused(place: RottenPlace, startMs: number): boolean {
    return this.#rottenPath?.endsWith(`/${place.file}`) === true || this.#life.mayBeUnreadable(startMs);
  }

  #expectFailure(error: unknown, startMs: number): void {
    const { process, world } = this.#life;
    if (error instanceof SimulationFailure) throw error;
    if (!process.alive) return;
    if (error instanceof VolumeError && error.code === 'closed' && (this.#ending.signal.aborted || this.#life.isClosing)) {
      world.counts.endedScrubs += 1;
      return;
    }
    this.#life.expectUnreadable(error, 'a scrub', startMs);
  }
}

/** Some volumes are scrubbed meanwhile. `leave` ends some of the scrubs and waits for most; the others have the volume closed under them. */
export function startScrubs(lives: readonly Life[], scrubChance: number, isThere: (path: string) => boolean): { readonly leave: () => Promise<void>; readonly ends: Promise<unknown> } {
  const runs: { readonly run: ScrubRun; readonly end: Promise<void>; readonly isAwaited: boolean }[] = [];
  for (const life of lives) {
    const random = life.process.random.derive(`scrub of ${life.world.directory}`);
    if (!random.chance(scrubChance) || life.volume.scrub === undefined) continue;
    const run = new ScrubRun(life, random, isThere);
    const end = run.run().catch((error: unknown) => life.fail(error));
    runs.push({ run, end, isAwaited: random.chance(0.7) });
  }
  const leave = async (): Promise<void> => {
    for (const { run } of runs) run.leave();
    await Promise.all(runs.filter(({ isAwaited }) => isAwaited).map(({ end }) => end));
  };
  return { leave, ends: Promise.all(runs.map(({ end }) => end)) };
}
