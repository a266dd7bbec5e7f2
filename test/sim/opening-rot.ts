/**
 * Rot in what an opening reads: of the log, of checkpoints, of chunks. Whoever opens a volume over it is told, with the name of a file, or has a
 * volume that is right; one that is served for reading alone may fail to read blocks, and never reads wrong ones.
 */
import { VolumeError } from '../../src/base/errors.ts';
import type { SimReadOnlyVolume } from './engine.ts';
import type { Fault, FaultPolicy, FileCall } from './faults.ts';
import type { VolumeState } from './life.ts';
import { SimulationFailure, type StateRange } from './model.ts';
import type { Obligation } from './obligations.ts';
import type { SeededRandom } from './random.ts';

/** Where a volume's mark stands: how far its log had been synced, whatever its last records say. */
export const MARK = '/log/synced';

/** How a file of a volume is named to whoever has to look at it. */
const NAMES_A_FILE = /log file \d|log\/\d|checkpoints\/k|chunks\/c|manifest/;
/** Or the chunk that a block was in, or that no file has it: several may have had it. */
const SAYS_WHAT_IS_LOST = /chunk \d+, which held block|was lost: no sound file has its last version/;
/** Blocks that nobody ever wrote, read through a volume that is open for reading. */
const EMPTY_CHECKS = 8;

export class OpeningRot implements FaultPolicy {
  readonly directory: string;
  /** Opens the volume as a server does: for reading, if it cannot be for writing. */
  readonly isServing: boolean;
  readonly #folder: string;
  readonly #fault: Fault = { kind: 'rot' };
  #countdown: number;
  #left: number;
  #isOpening = false;
  /** Reads of the log's files, and of its mark, that it struck since the opening began. */
  #logReads = 0;
  #markReads = 0;

  constructor(directory: string, random: SeededRandom) {
    this.directory = directory;
    this.isServing = random.chance(0.6);
    this.#folder = `${directory}/${random.pick(['log', 'log', 'checkpoints', 'chunks'])}/`;
    this.#countdown = random.skewed(1, 12) - 1;
    this.#left = random.pick([1, 1, 1, 3, 20]);
  }

  begin(): void {
    this.#isOpening = true;
    this.#logReads = 0;
    this.#markReads = 0;
  }

  end(): void {
    this.#isOpening = false;
  }

  decide(call: FileCall): Fault | null {
    if (!this.#isOpening || this.#left === 0 || call.kind !== 'read' || !call.path.startsWith(this.#folder)) return null;
    this.#countdown -= 1;
    if (this.#countdown >= 0) return null;
    this.#left -= 1;
    return this.#fault;
  }

  delivered(call: FileCall, fault: Fault): void {
    if (fault !== this.#fault) return;
    if (call.path === `${this.directory}${MARK}`) this.#markReads += 1;
    else if (call.path.startsWith(`${this.directory}/log/`)) this.#logReads += 1;
  }

  /** The log is read twice, and rot that strikes the second time looks like a log that changes. */
  excuses(error: unknown): boolean {
    return this.#logReads > 0 && error instanceof VolumeError && error.code === 'failed' && NAMES_A_FILE.test(error.message);
  }

  /**
   * Of what is owed, the part that cannot have gone unnoticed. A mark tells how far the log went when the volume was closed; it is a moment late while
   * the volume is open, and a power cut may take it. Then rot in a record that no later one calls durable looks like the torn end of a log, and takes what follows.
   */
  noticedLsn({ claims, isMarked }: Pick<VolumeState, 'claims' | 'isMarked'>, owed: Obligation): number {
    if (this.#logReads === 0 || (isMarked && this.#markReads === 0)) return owed.lsn;
    if (this.#logReads > 1) return 0; // the record that would tell may be rotten as well
    return Math.min(owed.lsn, claims.get(owed.lsn) ?? 0);
  }
}

/** Throws if an error that says that files are damaged does not say which. */
export function checkNamesFile(error: unknown, what: string): void {
  if (error instanceof VolumeError && error.code === 'corrupt' && !NAMES_A_FILE.test(error.message) && !SAYS_WHAT_IS_LOST.test(error.message)) throw new SimulationFailure(`${what} names no file: ${error.message}`);
}

/**
 * Reads each block that was ever written, and some others, through a volume that is open for reading: whatever can be read must be as in one state of
 * the volume, which is `leastLsn` or later. `failed` judges errors. Returns how many blocks cannot be read.
 */
export async function checkReadOnly({ model, directory }: Pick<VolumeState, 'model' | 'directory'>, volume: Pick<SimReadOnlyVolume, 'read'>, leastLsn: number, failed: (error: unknown) => void): Promise<number> {
  let states: readonly StateRange[] = [{ first: leastLsn, last: Math.max(leastLsn, model.lastLsn) }];
  let unreadable = 0;
  const blocks = new Set(model.touchedBlocks());
  for (let i = 0; i < EMPTY_CHECKS; i += 1) blocks.add(Math.floor((model.blockCount * i) / EMPTY_CHECKS));
  for (const block of [...blocks].toSorted((left, right) => left - right)) {
    const found = new Uint8Array(model.blockSizeBytes).fill(0xa5);
    try {
      await volume.read(block * model.blockSizeBytes, found);
    } catch (error) {
      checkNamesFile(error, 'a read of a volume that is open for reading');
      failed(error);
      unreadable += 1;
      continue;
    }
    const before = states;
    states = intersect(states, model.statesWith(block, found));
    if (states.length === 0) {
      const left = before.map(({ first, last }) => `LSN ${first} to ${last}`).join(', ');
      model.checkState(found, block * model.blockSizeBytes, before[0].first, `${directory} is served read-only, the blocks before this one as after ${left}`);
      throw new SimulationFailure(`${directory} is served read-only, and block ${block} is as in no state that the others are in (${left})`);
    }
  }
  return unreadable;
}

function intersect(left: readonly StateRange[], right: readonly StateRange[]): StateRange[] {
  const both = left.flatMap((a) => right.map((b) => ({ first: Math.max(a.first, b.first), last: Math.min(a.last, b.last) })));
  return both.filter(({ first, last }) => first <= last);
}
