/** What the offline tools find wrong with a volume, said so that its operator can act. */
import { type VolumeError, toVolumeError } from '../base/errors.ts';

export type { OnProgress, Progress } from './volume-info.ts';

export interface BlockRange {
  readonly blockNumber: number;
  readonly blockCount: number;
}

export interface Finding {
  /** Path of the file within the volume's directory. */
  readonly file: string;
  /** Byte of the file; null where the file as a whole is meant. */
  readonly offsetBytes: number | null;
  /** What is there, and what was expected. */
  readonly problem: string;
  /** Blocks that cannot be read because of it, as far as that is known; in order. */
  readonly lost: readonly BlockRange[];
  /** What to do. */
  readonly advice: string;
  /** Whether it is for `repair` to deal with; otherwise the volume works and only these blocks fail. */
  readonly needsRepair: boolean;
}

export const REPAIR_ADVICE = 'run: basalt repair';
export const RESTORE_ADVICE = 'write these blocks again from a backup, or trim them; until then reading them fails';

/** Block ranges put together from blocks that come in any order. */
export class BlockRanges {
  #ranges: { blockNumber: number; blockCount: number }[] = [];
  #ordered = true;

  add(blockNumber: number, blockCount: number): void {
    const last = this.#ranges.at(-1);
    if (last !== undefined && last.blockNumber + last.blockCount === blockNumber) {
      last.blockCount += blockCount;
      return;
    }
    if (last !== undefined && blockNumber < last.blockNumber + last.blockCount) this.#ordered = false;
    this.#ranges.push({ blockNumber, blockCount });
  }

  addAll(ranges: readonly BlockRange[]): void {
    for (const range of ranges) this.add(range.blockNumber, range.blockCount);
  }

  /** The ranges in order, without overlap. */
  get list(): readonly BlockRange[] {
    if (!this.#ordered) this.#order();
    return this.#ranges;
  }

  get blockCount(): number {
    return countBlocks(this.list);
  }

  #order(): void {
    const sorted = this.#ranges.toSorted((a, b) => a.blockNumber - b.blockNumber);
    this.#ranges = [];
    for (const range of sorted) {
      const last = this.#ranges.at(-1);
      const end = last === undefined ? -1 : last.blockNumber + last.blockCount;
      if (last === undefined || range.blockNumber > end) this.#ranges.push({ ...range });
      else last.blockCount = Math.max(end, range.blockNumber + range.blockCount) - last.blockNumber;
    }
    this.#ordered = true;
  }
}

export function countBlocks(ranges: readonly BlockRange[]): number {
  return ranges.reduce((sum, range) => sum + range.blockCount, 0);
}

/** `blocks 5, 7 to 9 and 12 more` */
export function formatRanges(ranges: readonly BlockRange[], most = 8): string {
  const shown = ranges.slice(0, most).map(({ blockNumber, blockCount }) => (blockCount === 1 ? `${blockNumber}` : `${blockNumber} to ${blockNumber + blockCount - 1}`));
  const rest = countBlocks(ranges.slice(most));
  const count = countBlocks(ranges);
  return `block${count === 1 ? '' : 's'} ${shown.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

/** The parts of `ranges` that `cover` leaves; both are in order and without overlap. */
export function subtractRanges(ranges: readonly BlockRange[], cover: readonly BlockRange[]): BlockRange[] {
  const rest: BlockRange[] = [];
  let next = 0;
  for (const range of ranges) {
    const end = range.blockNumber + range.blockCount;
    let at = range.blockNumber;
    while (next < cover.length && cover[next].blockNumber + cover[next].blockCount <= at) next += 1;
    for (let i = next; i < cover.length && cover[i].blockNumber < end; i += 1) {
      if (cover[i].blockNumber > at) rest.push({ blockNumber: at, blockCount: cover[i].blockNumber - at });
      at = Math.max(at, cover[i].blockNumber + cover[i].blockCount);
    }
    if (at < end) rest.push({ blockNumber: at, blockCount: end - at });
  }
  return rest;
}

/** Findings as they are made, and what is only worth knowing. */
export class Findings {
  readonly #findings: { finding: Finding; lost: BlockRanges }[] = [];
  /** What an interrupted process left, files that nobody knows: harmless. */
  readonly notes: string[] = [];

  get list(): readonly Finding[] {
    return this.#findings.map(({ finding, lost }) => ({ ...finding, lost: lost.list }));
  }

  get needRepair(): boolean {
    return this.#findings.some(({ finding }) => finding.needsRepair);
  }

  /** Adds a finding that `repair` deals with. Blocks that turn out to be lost by it may be added to what is returned. */
  broken(file: string, offsetBytes: number | null, problem: string): BlockRanges {
    return this.#add({ file, offsetBytes, problem, lost: [], advice: REPAIR_ADVICE, needsRepair: true });
  }

  /** Adds a finding that leaves the volume usable but for some blocks. */
  unreadable(file: string, offsetBytes: number | null, problem: string): BlockRanges {
    return this.#add({ file, offsetBytes, problem, lost: [], advice: RESTORE_ADVICE, needsRepair: false });
  }

  #add(finding: Finding): BlockRanges {
    const lost = new BlockRanges();
    this.#findings.push({ finding, lost });
    return lost;
  }

  /**
   * Adds what made reading `file` fail. An error of the system, no space or no permission say, is no finding: it is thrown on,
   * because nothing can be said about the volume then. Only a disk that fails to read (EIO) is damage.
   */
  failed(file: string, error: unknown): BlockRanges {
    const { offsetBytes, problem } = faultOf(file, error);
    return this.broken(file, offsetBytes, problem);
  }
}

/** What is wrong with a file. */
export interface Fault {
  readonly offsetBytes: number | null;
  readonly problem: string;
  /** The disk did not read it: what stands there is not known to be wrong, and may be read another time. */
  readonly isUnread?: boolean;
}

/** The fault that an error of reading `file` stands for. Throws the error on if it is no damage. */
export function faultOf(file: string, error: unknown): Fault {
  const failure = toVolumeError(error, `reading ${file}`);
  if (!isDamage(failure)) throw failure;
  const { offsetBytes } = failure.context;
  return { offsetBytes: typeof offsetBytes === 'number' ? offsetBytes : null, problem: problemOf(failure, file), ...(failure.code === 'io-error' ? { isUnread: true } : {}) };
}

/** Whether an error says that what is stored is not as it should be. */
export function isDamage(error: VolumeError): boolean {
  if (error.code === 'corrupt' || error.code === 'not-found') return true;
  return error.code === 'io-error' && hasSystemCode(error.cause, 'EIO');
}

function hasSystemCode(cause: unknown, code: string): boolean {
  return typeof cause === 'object' && cause !== null && 'code' in cause && cause.code === code;
}

/** The message of an error without what the finding says anyway. */
function problemOf({ message, code }: VolumeError, file: string): string {
  if (code === 'not-found') return 'is missing';
  const bare = message.replace(/;? ?nothing was changed$/iu, '').replace(/\. $/u, '');
  return bare.startsWith(`${file}: `) ? bare.slice(file.length + 2) : bare;
}
