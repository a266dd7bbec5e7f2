/**
 * Reading the log back: the longest unbroken run of records behind what the chunks hold. It ends at the first record that is
 * missing or invalid. Whether that is a torn tail (normal after a power cut) or damage is told by the records behind it:
 * if one of them, or the header of a later life, says that the missing record had been durable, it is damage.
 * Reading changes nothing, so that it can be interrupted and repeated. `recoverLog` refuses damage; `examineLog` describes it;
 * `rereadLog` goes through a log that was found sound once more, and writes again what may be unsynced of it.
 */
import { VolumeError } from '../base/errors.ts';
import type { File } from '../env/env.ts';
import { type DecodedRecord, GENERATIONS_PER_EPOCH, type HeaderFault, LOG_HEADER_BYTES, LOG_VERSION, type LogFileHeader, RECORD_CODEC, type RecordContext, decodeLogHeader, recordSeed } from '../format/log-record.ts';
import { LogFileReader, WindowBuffers } from './log-file-reader.ts';
import { type LifeRewrite, LogRewrite } from './log-rewrite.ts';
import type { LogLife } from './log-ring.ts';
import { type LogPlace, UnsyncedTail } from './unsynced-tail.ts';

/** A record that recovery hands on; `bytes`, which it was decoded from, are used again when `apply` has settled. */
export interface ReplayedRecord {
  readonly record: DecodedRecord;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Its blocks: part of `bytes`, or decoded. */
  readonly payload: Uint8Array;
  /** Where the record stands. */
  readonly fileIndex: number;
  readonly offsetBytes: number;
  /** About so many bytes up to here may be unsynced, as far as the records up to here tell. */
  readonly unsyncedBytes: number;
}

export interface LogRecoveryOptions {
  /** The ring's files in their order; null for one that is missing, which only `examineLog` takes. */
  readonly files: readonly (File | null)[];
  readonly volumeId: Uint8Array;
  readonly blockSizeBytes: number;
  /** Blocks in the volume: a record that reaches past them is invalid. */
  readonly volumeBlocks: number;
  /** The chunks hold all records up to here. */
  readonly chunkedLsn: number;
  /** Records of epochs before `cut.epoch` count only up to `cut.lsn`: the volume was opened without the later ones. */
  readonly cut: { readonly epoch: number; readonly lsn: number };
  /** Records up to here had been synced, as the mark says; 0: it says nothing. */
  readonly markedLsn: number;
  /** The last epoch that the manifest knows of: a life of a later one says that the manifest is an old one. Infinity: any may be there. */
  readonly lastEpoch: number;
  /** Nothing to wait for: recovery goes on in the same turn. A promise for each of 100,000 records takes as long as their checksums. */
  readonly apply: (replayed: ReplayedRecord) => Promise<void> | undefined;
  /** Told of whole records behind the end of the run, also dead ones. */
  readonly behind?: (replayed: ReplayedRecord) => void;
}

export interface LogExaminationOptions extends LogRecoveryOptions {
  /** The run goes on behind a record up to this LSN of which only blocks are damaged; 0: it ends there. */
  readonly bridgedLsn: number;
  /** Told of such records in place of `apply`; they have no payload. */
  readonly damaged: (replayed: ReplayedRecord) => void;
}

export interface LogRecovery {
  /** Last LSN of the unbroken run; `chunkedLsn` if there is nothing behind it. */
  readonly lastLsn: number;
  /** Lives with records behind `chunkedLsn`, oldest first. */
  readonly lives: readonly LogLife[];
  readonly records: number;
  /** Where the run ended, and why: for the operator. */
  readonly end: string;
  /** Records up to here are on the medium, as a later one or the cut says. */
  readonly durableLsn: number;
  /** The first record behind `chunkedLsn` that may not be, or one shortly before it. */
  readonly unsynced: LogPlace | null;
  /** What `rereadLog` goes through. */
  readonly found: readonly FoundLife[];
  readonly headlessStarts: readonly LifeStart[];
}

/** Records that had been synced are missing. `message` says where, and how that is known. */
export interface LogDamage {
  readonly message: string;
  readonly context: { readonly expectedLsn: number; readonly durableLsn: number; readonly [key: string]: number };
}

export interface LogExamination extends LogRecovery {
  readonly damage: LogDamage | null;
  /** Up to here records had been synced, as those behind the end say; 0: none says so of a missing one. */
  readonly claimedLsn: number;
  /** Files whose header is not valid, those that were never used left out. */
  readonly headers: readonly { readonly fileIndex: number; readonly fault: HeaderFault }[];
  /** Files whose header is valid. */
  readonly ownFiles: number;
  /** How it is known that the manifest is older than the log; null: it is not. */
  readonly newerLife: string | null;
  readonly newestEpoch: number;
}

const NO_PAYLOAD = new Uint8Array(0);

/** Where reading ended, and why. */
interface Stopped {
  readonly index: number;
  readonly offset: number;
  readonly end: string;
}

/** What a reading does beside handing records on. */
interface ReplayTask {
  readonly bridging?: Pick<LogExaminationOptions, 'bridgedLsn' | 'damaged'>;
  readonly rewrite?: LogRewrite;
  /** Those of files without a header, where they are known already. */
  readonly headlessStarts?: readonly LifeStart[];
  /** A life of this epoch is gone: what older ones have behind the chunks may be dead. */
  readonly lostEpoch?: number | null;
}

interface FoundFile {
  readonly fileIndex: number;
  readonly file: File;
  readonly sizeBytes: number;
}

interface FoundLife extends LogFileHeader, FoundFile {}

type LifeStart = Pick<LogFileHeader, 'generation' | 'firstLsn'>;

/** A file whose header cannot be read: which life its records are of is known from them alone. */
interface HeadlessFile extends FoundFile {
  readonly fault: HeaderFault;
}

function isFault(header: LogFileHeader | HeaderFault): header is HeaderFault {
  return 'fault' in header;
}

async function readLives(options: LogRecoveryOptions): Promise<{ readonly lives: FoundLife[]; readonly headless: HeadlessFile[] }> {
  const lives: FoundLife[] = [];
  const headless: HeadlessFile[] = [];
  for (const [fileIndex, file] of options.files.entries()) {
    if (file === null) continue;
    const sizeBytes = await file.sizeBytes();
    const bytes = new Uint8Array(LOG_HEADER_BYTES);
    const got = await file.read(bytes, 0);
    const header = decodeLogHeader(bytes.subarray(0, got), { volumeId: options.volumeId, blockSizeBytes: options.blockSizeBytes, fileIndex });
    if (!isFault(header)) lives.push({ ...header, file, sizeBytes });
    // A torn header is what a power cut leaves of a life that was never synced; its records and the later lives tell whether it was.
    else headless.push({ fileIndex, file, sizeBytes, fault: header });
  }
  return { lives: lives.toSorted((a, b) => a.generation - b.generation), headless };
}

/**
 * With an old manifest, from a backup say, the next epoch would be one that was used: its lives would have generations that are taken, and
 * what was written and flushed in them would be cut off as older than it is. Nor does it know the cut.
 */
function newerLife(lives: readonly FoundLife[], { lastEpoch }: LogRecoveryOptions): string | null {
  const newer = lives.find(({ epoch }) => epoch > lastEpoch);
  return newer === undefined ? null : `the manifest is older than log file ${newer.fileIndex}: it knows of epochs up to ${lastEpoch}, the file is of epoch ${newer.epoch}, at byte 56`;
}

/** Finds and replays the unbroken run of records behind `chunkedLsn`. Errors: `corrupt` for damage, and what `apply` rejects with. */
export async function recoverLog(options: LogRecoveryOptions): Promise<LogRecovery> {
  const { lives, headless } = await readLives(options);
  const foreign = headless.find(({ fault }) => fault.fault === 'foreign');
  if (foreign !== undefined) throw new VolumeError('corrupt', `log file ${foreign.fileIndex}: ${foreign.fault.detail}, at byte 0; nothing was changed`);
  const newer = newerLife(lives, options);
  if (newer !== null) throw new VolumeError('corrupt', `${newer}; nothing was changed`);
  const { damage, claimedLsn: _claimed, ...recovery } = await new Replay(options, lives, headless, {}).run();
  if (damage !== null) throw new VolumeError('corrupt', `the log is damaged: ${damage.message}; nothing was changed`, { context: damage.context });
  return recovery;
}

/**
 * Reads a log again that `recoverLog` found sound, from `rest` on (null: no record is needed again) or from the first record that may be
 * unsynced, whichever comes first, and hands its records to `apply`. Those that may be unsynced are written again where they stand, and synced
 * while others are read: durable on return. Errors: `failed` if the log is no longer what it was, those of the files, and what `apply` rejects with.
 */
export async function rereadLog(options: LogRecoveryOptions, recovery: LogRecovery, rest: LogPlace | null = null): Promise<void> {
  const { unsynced, durableLsn, found, headlessStarts, lastLsn } = recovery;
  const from = unsynced === null || (rest !== null && rest.lsn < unsynced.lsn) ? rest : unsynced;
  if (from === null) return;
  const rewrite = new LogRewrite(durableLsn);
  const replay = new Replay(options, found, [], { rewrite, headlessStarts });
  let stopped: Stopped;
  try {
    stopped = await replay.runFrom(from);
  } finally {
    await rewrite.idle();
  }
  await rewrite.end();
  // The kernel has dropped pages in between: the next opening finds what is on the disk.
  if (replay.lastLsn !== lastLsn) {
    throw new VolumeError('failed', `${stopped.end}; up to LSN ${lastLsn} the records were there a moment ago: the log changed while the volume was opened, as after a failed sync; open it again`, {
      context: { expectedLsn: lastLsn, foundLsn: replay.lastLsn },
    });
  }
}

/** The same for a log that may be damaged: as far as the run goes, and what is wrong. Errors: `io-error`, and what `apply` rejects with. */
export async function examineLog(options: LogExaminationOptions): Promise<LogExamination> {
  const { lives, headless } = await readLives(options);
  const ours = headless.filter(({ fault }) => fault.fault !== 'foreign');
  // Without looking at what it finds: records that are dead must not be handed on.
  const scout = new Replay({ ...options, apply: () => undefined, behind: () => undefined }, lives, ours, { bridging: { ...options, damaged: () => undefined } });
  const isGone = (wanted: number): boolean => wanted > 0 && lives.every(({ generation }) => generation !== wanted);
  if (lives.some(({ firstLsn, previousGeneration }) => firstLsn > options.chunkedLsn + 1 && isGone(previousGeneration))) await scout.run();
  const found = await new Replay(options, lives, ours, { bridging: options, lostEpoch: scout.lostEpoch }).run();
  return { ...found, newerLife: newerLife(lives, options), newestEpoch: Math.max(0, ...lives.map(({ epoch }) => epoch)), headers: headless.filter(({ fault }) => fault.fault !== 'unused'), ownFiles: lives.length };
}

class Replay {
  readonly #options: LogRecoveryOptions;
  readonly #lives: readonly FoundLife[];
  readonly #headless: readonly HeadlessFile[];
  readonly #kept: LogLife[] = [];
  /** The next LSN of the run that is being read. */
  #next: number;
  #records = 0;
  #damage: LogDamage | null = null;
  /** Epoch of a life that is gone, and whose LSNs older records took. */
  #lostEpoch: number | null = null;
  #claimedLsn = 0;
  readonly #task: ReplayTask;
  readonly #tail: UnsyncedTail;
  readonly #context: RecordContext;
  readonly #buffers = new WindowBuffers();
  /** The first record of each life whose header is not valid. */
  #headlessStarts: readonly LifeStart[];

  constructor(options: LogRecoveryOptions, lives: readonly FoundLife[], headless: readonly HeadlessFile[], task: ReplayTask) {
    this.#options = options;
    this.#task = task;
    this.#tail = new UnsyncedTail(options.cut.lsn);
    this.#context = { blockSizeBytes: options.blockSizeBytes, seed: recordSeed(options.volumeId) };
    this.#lives = lives;
    this.#headless = headless;
    this.#headlessStarts = task.headlessStarts ?? [];
    this.#next = options.chunkedLsn + 1;
  }

  /** Last LSN of the run so far. */
  get lastLsn(): number {
    return this.#next - 1;
  }

  get lostEpoch(): number | null {
    return this.#lostEpoch;
  }

  async run(): Promise<LogRecovery & Pick<LogExamination, 'damage' | 'claimedLsn'>> {
    this.#headlessStarts = await this.#findHeadlessStarts();
    const wanted = this.#options.chunkedLsn + 1;
    const start = this.#lives.findLastIndex((life) => life.firstLsn <= wanted);
    let stopped: Stopped = { index: 0, offset: 0, end: 'no log file begins at or before the first record that is needed' };
    if (start >= 0) {
      this.#next = this.#lives[start].firstLsn;
      stopped = await this.#replayFrom(start, LOG_HEADER_BYTES);
    }
    // Records up to `chunkedLsn` may be missing here without harm: the chunks have them.
    this.#next = Math.max(this.#next, wanted);
    await this.#lookForDamage(stopped);
    const { durableLsn, place } = this.#tail;
    return { lastLsn: this.lastLsn, lives: this.#kept, records: this.#records, end: stopped.end, durableLsn, unsynced: place, found: this.#lives, headlessStarts: this.#headlessStarts, damage: this.#damage, claimedLsn: this.#claimedLsn };
  }

  /** The same from a record on that `run` found, without looking behind the end of the run. */
  runFrom({ generation, offsetBytes, lsn }: LogPlace): Promise<Stopped> {
    this.#next = lsn;
    return this.#replayFrom(
      this.#lives.findIndex((life) => life.generation === generation),
      offsetBytes,
    );
  }

  /** The records from one in life `start` on, which has the LSN `#next`, and those of the lives that continue it. */
  async #replayFrom(start: number, startOffset: number): Promise<Stopped> {
    let index = start;
    let from = startOffset;
    for (;;) {
      const { offset, end } = await this.#replayLife(index, from);
      // Of several lives that begin with the next record the newest counts: the others were cut off. So were lives between.
      const following = this.#lives.findLastIndex((candidate) => candidate.firstLsn === this.#next);
      if (following <= index) return { index, offset, end };
      if (!this.#follows(following, index)) return { index, offset, end: this.#missingBefore(following) };
      index = following;
      from = LOG_HEADER_BYTES;
    }
  }

  /**
   * Whether a life that begins where another one ends was begun behind it: else the other one's records are dead ones with the LSNs of a life in
   * between that is gone. One whose records the chunks hold may be gone.
   */
  #follows(following: number, index: number): boolean {
    const { firstLsn, previousGeneration } = this.#lives[following];
    // Of the last epoch a power cut may have taken a life that was never synced. What is older was found, and made durable, by an opening since.
    if (Math.floor(previousGeneration / GENERATIONS_PER_EPOCH) >= this.#options.cut.epoch) return true;
    return previousGeneration === 0 || previousGeneration === this.#lives[index].generation || firstLsn <= this.#options.chunkedLsn + 1;
  }

  /** Notes the damage; returns what it is. */
  #missingBefore(following: number): string {
    const { fileIndex, firstLsn, previousGeneration } = this.#lives[following];
    const what = `log file ${fileIndex}, byte 72, goes on behind life ${previousGeneration} of another file, which is gone`;
    this.#lostEpoch = Math.floor(previousGeneration / GENERATIONS_PER_EPOCH);
    this.#damage = { message: `${what}, with records up to LSN ${firstLsn - 1}. Synced records are missing`, context: { expectedLsn: this.#options.chunkedLsn + 1, durableLsn: firstLsn - 1, fileIndex, offsetBytes: 72 } };
    this.#claimedLsn = firstLsn - 1;
    return what;
  }

  async #findHeadlessStarts(): Promise<LifeStart[]> {
    const starts = new Map<number, number>();
    for (const found of this.#headless) {
      const reader = new LogFileReader(found, this.#context, this.#buffers);
      try {
        for (let at = await reader.nextCandidate(LOG_HEADER_BYTES); at >= 0; ) {
          const isWhole = (await reader.recordAt(at)) === 'valid';
          const { generation, lsn } = reader.record;
          if (isWhole) starts.set(generation, Math.min(lsn, starts.get(generation) ?? lsn));
          at = await reader.nextCandidate(isWhole ? reader.endOffset : at + 8);
        }
      } finally {
        await reader.end();
      }
    }
    return [...starts].map(([generation, firstLsn]) => ({ generation, firstLsn }));
  }

  /**
   * Last LSN that counts in a life: where a later life begins, or the volume was opened without what follows, it is dead. That holds for a later
   * life whose header is damaged, too: else what was dead would come back in the place of its records, and nothing would be missing.
   */
  #endOf(index: number): number {
    const { epoch, generation } = this.#lives[index];
    const { cut } = this.#options;
    let last = epoch < cut.epoch ? cut.lsn : Number.MAX_SAFE_INTEGER;
    if (epoch < (this.#task.lostEpoch ?? 0)) last = Math.min(last, this.#options.chunkedLsn);
    for (const later of this.#lives.slice(index + 1)) last = Math.min(last, later.firstLsn - 1);
    for (const later of this.#headlessStarts) if (later.generation > generation) last = Math.min(last, later.firstLsn - 1);
    return last;
  }

  async #replayLife(index: number, offset: number): Promise<{ offset: number; end: string }> {
    const life = this.#lives[index];
    const rewriting = this.#task.rewrite?.life(life, life.file) ?? null;
    const reader = new LogFileReader(life, this.#context, this.#buffers, rewriting);
    let ended: { offset: number; end: string };
    try {
      ended = await this.#replayRecords(reader, { life, offset, lastLsn: this.#endOf(index), rewriting });
    } finally {
      await reader.end();
    }
    rewriting?.end();
    return ended;
  }

  async #replayRecords(reader: LogFileReader, { life, offset: start, lastLsn, rewriting }: { life: FoundLife; offset: number; lastLsn: number; rewriting: LifeRewrite | null }): Promise<{ offset: number; end: string }> {
    const { chunkedLsn } = this.#options;
    let offset = start;
    for (;;) {
      const isDead = this.#next > lastLsn;
      const outcome = isDead ? 'invalid' : reader.recordAt(offset);
      const isWhole = (typeof outcome === 'string' ? outcome : await outcome) === 'valid';
      const isBridged = !isDead && !isWhole && this.#bridges(reader);
      const reason = isDead ? 'what follows was cut off earlier' : this.#recordFault(reader, life, isWhole || isBridged);
      if (reason !== null) {
        const resumed = this.#next <= Math.min(chunkedLsn, lastLsn) ? await this.#resumeBehind(reader, life, offset, lastLsn) : -1;
        if (resumed < 0) {
          this.#keep(life);
          return { offset, end: `log file ${life.fileIndex}, byte ${offset}, expected LSN ${this.#next}: ${reason}` };
        }
        offset = resumed;
        continue;
      }
      const { record } = reader;
      const end = reader.endOffset;
      if (isBridged) {
        if (record.lsn > chunkedLsn) this.#task.bridging?.damaged(this.#handedOn(reader, NO_PAYLOAD, life.fileIndex, offset));
      } else if (record.lsn > chunkedLsn) {
        this.#tail.note(record, offset, end - offset);
        rewriting?.sound(record.lsn, offset, end);
        const applied = this.#options.apply(this.#handedOn(reader, reader.payload, life.fileIndex, offset));
        if (applied !== undefined) await applied;
        this.#records += 1;
      }
      this.#next = record.lsn + 1;
      offset = end;
    }
  }

  #handedOn({ record, bytes, view }: LogFileReader, payload: Uint8Array, fileIndex: number, offsetBytes: number): ReplayedRecord {
    return { record, bytes, view, payload, fileIndex, offsetBytes, unsyncedBytes: this.#tail.bytes };
  }

  /** Whether the run goes on behind a record though blocks of it are damaged: it is known which. */
  #bridges(reader: LogFileReader): boolean {
    return reader.hasBadPayload && reader.record.lsn <= (this.#task.bridging?.bridgedLsn ?? 0);
  }

  /** Why the record that was looked at is not the next of the run, or null if it is. */
  #recordFault(reader: LogFileReader, life: FoundLife, isWhole: boolean): string | null {
    if (!isWhole) return reader.record.reason;
    const { record } = reader;
    if (record.generation !== life.generation) return `record of generation ${record.generation}, not ${life.generation}`;
    if (record.codec !== RECORD_CODEC.NONE && life.version !== LOG_VERSION.COMPRESSED) return 'compressed record in a log of version 1';
    if (record.lsn !== this.#next) return `record has LSN ${record.lsn}`;
    if (record.blockNumber + record.blockCount > this.#options.volumeBlocks) return 'record reaches past the end of the volume';
    return null;
  }

  /**
   * Among records that the chunks hold anyway one may be missing: it was never synced, its chunk was. The run goes on
   * at a later record that is no later than the first one needed. Returns its offset, or -1.
   */
  async #resumeBehind(reader: LogFileReader, life: FoundLife, offset: number, lastLsn: number): Promise<number> {
    let at = await reader.nextCandidate(offset + 8);
    while (at >= 0) {
      const valid = (await reader.recordAt(at)) === 'valid' && reader.record.generation === life.generation;
      if (valid && reader.record.lsn > Math.min(this.#options.chunkedLsn + 1, lastLsn)) return -1;
      if (valid && reader.record.lsn > this.#next) {
        this.#next = reader.record.lsn;
        return at;
      }
      at = await reader.nextCandidate(at + 8);
    }
    return -1;
  }

  #keep(life: FoundLife): void {
    if (this.#next - 1 <= this.#options.chunkedLsn || this.#next <= life.firstLsn) return;
    const { fileIndex, generation, firstLsn, previousGeneration } = life;
    this.#kept.push({ fileIndex, generation, firstLsn, previousGeneration, lastLsn: this.#next - 1 });
  }

  /** Reads on behind the end of the run: a record there that calls the missing one durable means damage. */
  async #lookForDamage({ end, ...stopped }: Stopped): Promise<void> {
    const { cut } = this.#options;
    if (cut.lsn >= this.#next) this.#damaged(end, `the manifest, written when the volume was opened in epoch ${cut.epoch},`, { expectedLsn: this.#next, durableLsn: cut.lsn });
    for (let index = stopped.index; index < this.#lives.length; index += 1) {
      const life = this.#lives[index];
      const from = index === stopped.index ? stopped.offset : 0;
      if (from === 0) this.#checkClaim(life.durableLsn, life.fileIndex, 0, end);
      await this.#checkRecords(life, Math.max(from, LOG_HEADER_BYTES), life.generation, end);
    }
    for (const found of this.#headless) await this.#checkRecords(found, LOG_HEADER_BYTES, null, `${end}; the header of log file ${found.fileIndex}, byte 0, is not valid: ${found.fault.detail}`);
    this.#checkMark({ end, ...stopped });
  }

  /** What is not told by records behind them, of the last ones. */
  #checkMark({ end, index, offset }: Stopped): void {
    const { markedLsn } = this.#options;
    if (markedLsn < this.#next) return;
    const life = this.#lives.at(index);
    // Without any life a log begins with the first file.
    const fileIndex = life?.fileIndex ?? 0;
    const where = life === undefined ? `${end}: log file ${fileIndex}, byte 0, is none` : end;
    this.#damaged(where, "the mark beside the log's files", { expectedLsn: this.#next, durableLsn: markedLsn, fileIndex, offsetBytes: offset });
  }

  /** Looks at the records of one life; without a header that of the first record is meant. */
  async #checkRecords(found: FoundFile, from: number, life: number | null, end: string): Promise<void> {
    const reader = new LogFileReader(found, this.#context, this.#buffers);
    try {
      await this.#checkRecordsOf(reader, found, from, life, end);
    } finally {
      await reader.end();
    }
  }

  async #checkRecordsOf(reader: LogFileReader, found: FoundFile, from: number, life: number | null, end: string): Promise<void> {
    let generation = life;
    let at = await reader.nextCandidate(from);
    while (at >= 0) {
      const whole = (await reader.recordAt(at)) === 'valid';
      if (whole) generation ??= reader.record.generation;
      const valid = whole && reader.record.generation === generation;
      if (valid) {
        this.#checkClaim(reader.record.durableLsn, found.fileIndex, at, end);
        this.#options.behind?.(this.#handedOn(reader, reader.payload, found.fileIndex, at));
      }
      at = await reader.nextCandidate(valid ? reader.endOffset : at + 8);
    }
  }

  #checkClaim(durableLsn: number, fileIndex: number, offset: number, end: string): void {
    if (durableLsn < this.#next) return;
    this.#damaged(end, `log file ${fileIndex}, byte ${offset},`, { expectedLsn: this.#next, durableLsn, fileIndex, offsetBytes: offset });
  }

  /** Records are missing that had been synced; `witness` says so. The first one that does is told of. */
  #damaged(end: string, witness: string, context: LogDamage['context']): void {
    this.#claimedLsn = Math.max(this.#claimedLsn, context.durableLsn);
    this.#damage ??= { message: `${end}; but ${witness} says that records up to LSN ${context.durableLsn} had been synced. Synced records are missing`, context };
  }
}
