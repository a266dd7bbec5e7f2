/**
 * The rules for a volume one of whose files is damaged: opened and read whole, looked at by `check`, and repaired. Never a wrong read; never a
 * failure without a message that names the file. Broken rules come back as text.
 */
import { VolumeError } from '../../src/base/errors.ts';
import type { CheckReport } from '../../src/volume/check.ts';
import { type Content, type VolumeFiles, check, fileOf, flipped, machineWith, readContent, repair, sampleFiles, tryOpen, withFile } from './damaged-volumes.ts';
import { SAMPLE_FILES, type SamplePacking, sampleStates } from './make-sample.ts';

/** Log records that were synced must be there, or their loss must be told; what was not may end anywhere. */
export const STATES = sampleStates('synced');
/** A log of which nothing is left, not even the records that say what had been synced. */
export const OLDER_STATES = sampleStates('chunked');

export interface Subject {
  readonly name: string;
  readonly packing: SamplePacking;
}

/** What each byte of is changed: where a log or chunks are compressed all other files are the same, but for lengths of chunks. */
export const SUBJECTS: readonly Subject[] = [
  ...SAMPLE_FILES.map((name): Subject => ({ name, packing: 'nothing' })),
  { name: 'log/00.log', packing: 'log' },
  ...SAMPLE_FILES.filter((name) => name.startsWith('chunks/')).map((name): Subject => ({ name, packing: 'chunks' })),
];

/** Of this one all records are still in the log. */
export const NEWEST_CHUNK = 'chunks/c0000000003-e000002';

/** What became of the volumes that were looked at. */
export interface Counts {
  /** One file of each was changed. */
  changes: number;
  /** Not opened, with an error that names the file. */
  refused: number;
  /** Opened; some blocks are refused with an error that names the file, all others are right. */
  unreadable: number;
  /** Opened without unsynced records of the log, as after a power cut. */
  shorter: number;
  /** All of it is read as it was last; of these, `check` names the damage or notes it, or it stands in bytes that mean nothing. */
  harmless: number;
  unnoticed: number;
  repaired: number;
  /** Of the repaired ones, those that lost blocks, and said so. */
  lostByRepair: number;
}

export function noCounts(): Counts {
  return { changes: 0, refused: 0, unreadable: 0, shorter: 0, harmless: 0, unnoticed: 0, repaired: 0, lostByRepair: 0 };
}

export interface Outcome {
  readonly refused: VolumeError | null;
  readonly content: Content | null;
  readonly report: CheckReport;
  /** The rules that were broken: there must be none. */
  readonly broken: readonly string[];
}

function brokenOf(rules: readonly (readonly [boolean, string])[]): string[] {
  return rules.filter(([holds]) => !holds).map(([, rule]) => rule);
}

function areEqual(files: VolumeFiles, others: VolumeFiles): boolean {
  if (files.size !== others.size) return false;
  return [...files].every(([name, bytes]) => others.get(name)?.equals(bytes) === true);
}

export class DamagedSample {
  readonly counts = noCounts();
  readonly files: VolumeFiles;

  private constructor(files: VolumeFiles) {
    this.files = files;
  }

  static async make(packing: SamplePacking = 'nothing'): Promise<DamagedSample> {
    return new DamagedSample(await sampleFiles(1, packing));
  }

  /** Changes one byte of a file; another bit from byte to byte, and now and then all of them. Returns the broken rules. */
  async flip(name: string, at: number): Promise<string[]> {
    const mask = at % 9 === 8 ? 0xff : 1 << (at % 9);
    const outcome = await this.examine(withFile(this.files, name, flipped(fileOf(this.files, name), at, mask)), STATES);
    return problemsOf(name, outcome).map((problem) => `${name}, byte ${at} xor ${mask}: ${problem}`);
  }

  /** Opens and reads a volume that is damaged, and holds it and the tools to the rules. */
  async examine(files: VolumeFiles, states: readonly Buffer[]): Promise<Outcome> {
    const checked = machineWith(files);
    const report = await checked.run(() => check(checked));
    const isUnchanged = areEqual(checked.snapshot('/v'), files);
    const machine = machineWith(files);
    const outcome = await machine.run(async () => {
      const opened = await tryOpen(machine);
      if (opened instanceof VolumeError) return { refused: opened, content: null };
      const content = await readContent(opened, states);
      await opened.close();
      return { refused: null, content };
    });
    const { refused, content } = outcome;
    this.#count(outcome, report, states);
    const rules = [
      [isUnchanged, 'a check changes nothing'],
      [content === null || content.states.length > 0, 'what can be read is of one moment'],
      [refused === null || report.findings.length > 0, `check finds why the volume is not opened: ${refused?.message}`],
      [!report.isClean || content?.unreadable.length === 0, 'check finds what cannot be read'],
    ] as const;
    const repairRules = report.findings.some(({ needsRepair }) => needsRepair) ? await this.#examineRepair(files) : [];
    return { refused, content, report, broken: [...brokenOf(rules), ...repairRules] };
  }

  #count({ refused, content }: Pick<Outcome, 'refused' | 'content'>, report: CheckReport, states: readonly Buffer[]): void {
    const { counts } = this;
    counts.changes += 1;
    if (refused !== null) counts.refused += 1;
    else if (content !== null && content.unreadable.length > 0) counts.unreadable += 1;
    else if (content !== null && !content.states.includes(states[states.length - 1])) counts.shorter += 1;
    else {
      counts.harmless += 1;
      if (report.isClean && report.notes.length === 0) counts.unnoticed += 1;
    }
  }

  /** After a repair the volume opens; what it reads is of one moment, or lost and told to be. Returns the rules that were broken. */
  #examineRepair(files: VolumeFiles): Promise<string[]> {
    const machine = machineWith(files);
    return machine.run(async () => {
      const report = await repair(machine).catch((error: unknown) => {
        if (error instanceof VolumeError) return error;
        throw error;
      });
      if (report instanceof VolumeError) return brokenOf([[report.code === 'corrupt' && report.message.includes('manifest'), `only a manifest that is not this volume's cannot be repaired: ${report.message}`]]);
      const volume = await machine.open('/v');
      const content = await readContent(volume, OLDER_STATES);
      await volume.close();
      const lost = report.lost.flatMap(({ blockNumber, blockCount }) => Array.from({ length: blockCount }, (_, index) => blockNumber + index));
      this.counts.repaired += 1;
      if (lost.length > 0) this.counts.lostByRepair += 1;
      const after = await check(machine);
      return brokenOf([
        [report.state === 'repaired', 'a repair says that it was done'],
        [content.states.length > 0, 'what can be read after a repair is of one moment'],
        [content.unreadable.join() === lost.join(), `a repair says what is lost: ${lost.join()}; unreadable: ${content.unreadable.join()}`],
        [!after.findings.some(({ needsRepair }) => needsRepair), 'after a repair there is nothing to repair'],
      ]);
    });
  }
}

function nameIn(name: string): RegExp {
  return name.startsWith('log/') ? /log file 0|log\/00\.log/u : new RegExp(name.replaceAll('.', '\\.'), 'u');
}

/** The rules of a damaged file `name` that were broken. */
export function problemsOf(name: string, { refused, content, report, broken }: Outcome): string[] {
  const messages = [...(refused === null ? [] : [refused.message]), ...(content?.messages ?? [])];
  // Of a chunk in the middle of the chain it is the one behind it that cannot be placed.
  const follows = /^chunks\/c0*(\d+)-/u.exec(name)?.[1] ?? 'none';
  const wanted = new RegExp(`${nameIn(name).source}|follows chunk ${follows},`, 'u');
  const unnamed = messages.filter((message) => !wanted.test(message)).map((message) => `an error does not name the file: ${message}`);
  const elsewhere = report.findings.filter(({ file }) => file !== name && file !== NEWEST_CHUNK).map(({ file }) => `a finding names ${file}`);
  return [...broken, ...unnamed, ...elsewhere];
}
