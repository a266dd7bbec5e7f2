/** What the verbs need from the world; `main.ts` gives the real one, tests their own. */
import type { AttachedBy, ListedDevice, Supervised, SuperviseOptions } from '../attach/attach-tools.ts';
import type { AttachOptions, Rescued } from '../attach/attacher.ts';
import type { Device } from '../attach/devices.ts';
import type { VolumeCompression } from '../base/compression.ts';
import type { Durability } from '../base/durability.ts';
import type { ErrorContext } from '../base/errors.ts';
import type { ChunkCompression, EngineSettings } from '../base/settings-types.ts';
import type { LimitChanges, VolumeLimits } from '../base/volume-limits.ts';
import type { ProfileName } from '../config/profiles.ts';
import type { ProgramSettings, RemoteProgramSettings } from '../config/settings.ts';
import type { ListedDetails, VolumeDetails } from '../control/routes.ts';
import type { StatsAnswer, VolumeStatsAnswer } from '../control/stats.ts';
import type { LogLevel } from '../env/env.ts';
import type { NbdTarget } from '../protocol/uri.ts';
import type { CheckReport } from '../volume/check.ts';
import type { ExplainReport } from '../volume/explain.ts';
import type { Followed } from '../volume/follow-volume.ts';
import type { NewRemote } from '../volume/remote-volumes.ts';
import type { Restored } from '../volume/restore-volume.ts';
import type { CreateOptions, FollowStatus, ListedVolume, OnProgress, Probe, ScrubReport, ShippingStatus, VolumeInfo, VolumeStatus } from '../volume/volume-info.ts';
import type { CommandWords } from './completion/words.ts';
import type { DiskUse } from './disk-life.ts';
import type { Host } from './doctor/host.ts';
import type { Measured } from './choose-profile.ts';
import type { RepairOptions, RepairReport } from '../volume/repair.ts';

/** Standard output, standard error and the person in front of them. */
export interface Terminal {
  /** Whether somebody can answer a question. */
  readonly isInteractive: boolean;
  /** Of the terminal that standard output is; null: it is none. */
  size(): { readonly columns: number; readonly rows: number } | null;
  out(text: string): void;
  error(text: string): void;
  /** Asks on standard error and returns the line that was typed. */
  ask(question: string): Promise<string>;
}

/** How a volume is taken from its bucket. */
export interface TakingOptions {
  readonly isForced: boolean;
  readonly prefetches: boolean;
  readonly onProgress: OnProgress;
}

/** What may be asked of volumes with and without a server. */
export interface VolumeChanges {
  create(name: string, options: CreateOptions): Promise<VolumeInfo>;
  describe(name: string): Promise<VolumeInfo>;
  remove(name: string): Promise<void>;
  rename(name: string, target: string): Promise<void>;
  /** A smaller size needs `mayShrink`; without it the error says what would be lost, and has `needsConsent` in its context. */
  resize(name: string, sizeBytes: number, options: { readonly mayShrink: boolean }): Promise<void>;
  labelsOf(name: string): Promise<Readonly<Record<string, string>>>;
  setLabels(name: string, changes: Readonly<Record<string, string | null>>): Promise<Readonly<Record<string, string>>>;
  limitsOf(name: string): Promise<VolumeLimits>;
  setLimits(name: string, changes: LimitChanges): Promise<VolumeLimits>;
  refresh(name: string): Promise<FollowStatus>;
}

/** The part of `VolumeSet` that the verbs use. */
export interface VolumeManager extends VolumeChanges {
  create(name: string, options: CreateOptions, remote?: NewRemote): Promise<VolumeInfo>;
  openRemote(name: string, remote: NewRemote, options: TakingOptions): Promise<Restored>;
  takeOver(name: string, options: TakingOptions): Promise<Restored & { readonly keptAs: string }>;
  follow(name: string, remote: NewRemote, options: { readonly isPinned: boolean; readonly onProgress: OnProgress }): Promise<Followed>;
  drain(name: string): Promise<VolumeStatus>;
  describeAll(): Promise<ListedVolume[]>;
  probe(name: string): Promise<Probe | null>;
  setDurability(name: string, durability: Durability): Promise<void>;
  setCompression(name: string, compression: VolumeCompression): Promise<ChunkCompression>;
  close(): Promise<void>;
}

/** The part of the control API that the verbs use. */
export interface RunningServer extends VolumeChanges {
  volume(name: string): Promise<VolumeDetails>;
  volumes(): Promise<readonly ListedDetails[]>;
  stats(): Promise<StatsAnswer>;
  volumeStats(name: string): Promise<VolumeStatsAnswer>;
  setDurability(name: string, durability: Durability): Promise<void>;
  drain(name: string, onProgress: OnProgress): Promise<ShippingStatus | null>;
  setCompression(name: string, compression: VolumeCompression): Promise<ChunkCompression>;
  /** At `bytesPerSecond`; null: as the server's settings say. */
  scrub(name: string, bytesPerSecond: number | null, onProgress: OnProgress): Promise<ScrubReport>;
}

/** What looks at, and repairs, volumes that nobody has open. */
export interface VolumeTools {
  check(name: string, options: { readonly deep: boolean; readonly remote: boolean }, onProgress: OnProgress): Promise<CheckReport>;
  explain(name: string, options: { readonly offsetBytes: number }, onProgress: OnProgress): Promise<ExplainReport>;
  repair(name: string, options: Pick<RepairOptions, 'apply' | 'uncertain'>, onProgress: OnProgress): Promise<RepairReport>;
  scrub(name: string, options: { readonly bytesPerSecond: number | null }, onProgress: OnProgress): Promise<ScrubReport>;
  close(): Promise<void>;
}

/** Block devices of this machine. */
export interface DeviceTools {
  attach(options: AttachOptions): Promise<AttachedBy>;
  /** Stays until a signal comes or somebody detaches the device. */
  supervise(options: AttachOptions, supervision: Omit<SuperviseOptions, 'stop' | 'log'> & { readonly logLevel: LogLevel }): Promise<Supervised>;
  detach(what: string, server: NbdTarget): Promise<Device>;
  rescue(what: string, server: NbdTarget, mayLose: boolean): Promise<Rescued>;
  list(options: { readonly all: boolean }): Promise<readonly ListedDevice[]>;
}

export interface OpenVolumesOptions {
  readonly directory: string;
  readonly settings: EngineSettings;
  /** For volumes that have a bucket; none is opened without it. */
  readonly remote?: RemoteProgramSettings;
  /** Make the directory if it is missing (its parent must be there). */
  readonly makeDirectory?: boolean;
}

/** What `serve` was asked to do. */
export interface ServePlan {
  readonly directory: string;
  /** `HOST:PORT`, `[::1]:PORT`. */
  readonly addresses: readonly string[];
  /** Paths of unix sockets, or @NAME. */
  readonly sockets: readonly string[];
  /** Descriptors of sockets that listen already. */
  readonly activated: readonly number[];
  /** One client, on standard input, and nobody else. */
  readonly stdio: boolean;
  /** Volumes with a bucket are shipped whole before it ends. */
  readonly drain: boolean;
  readonly logLevel: LogLevel;
  readonly json: boolean;
  readonly settings: ProgramSettings;
}

/** What `pki` was asked for. */
export interface PkiPlan {
  readonly directory: string;
  /** Names and addresses of the server besides those of this machine. */
  readonly hosts: readonly string[];
  readonly clientName: string;
  readonly days: number;
}

export interface CliContext {
  readonly terminal: Terminal;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Opens a directory of volumes; the engine is loaded only then. */
  openVolumes(options: OpenVolumesOptions): Promise<VolumeManager>;
  /** The server that runs in a directory of volumes; null if none does. */
  findServer(directory: string): Promise<RunningServer | null>;
  /** The tools for a directory of volumes; the engine is loaded only then. */
  openTools(options: OpenVolumesOptions): Promise<VolumeTools>;
  /** The tools for block devices; what they need is loaded only then. */
  openAttach(): Promise<DeviceTools>;
  /** Serves until a signal comes; resolves with the exit code. */
  serve(plan: ServePlan): Promise<number>;
  readFile(path: string): Promise<string>;
  /** The text of a profile, as the package has it in `config/`. */
  readProfile(name: ProfileName): Promise<string>;
  /** Between two looks at something. */
  sleep(delayMs: number): Promise<void>;
  /** Makes certificates; resolves with the names of the files. */
  makePki(plan: PkiPlan): Promise<readonly string[]>;
  /** Writes a file that is not there yet. Rejects with `already-exists`. */
  writeNewFile(path: string, text: string): Promise<void>;
  /** Measures the disk below a directory: seconds, and up to 64 MiB of it meanwhile. */
  measureMachine(directory: string, onProgress: OnProgress): Promise<Measured>;
  /** What was written to the disk below a directory; null where that is not known. */
  diskUse(directory: string): Promise<DiskUse | null>;
  /** The machine, for `doctor`. */
  openHost(): Promise<Host>;
  /** Descriptors of the sockets that systemd has opened for this process; the variables that say so are gone afterwards. */
  takeActivation(): readonly number[];
}

/** What a verb is given besides the command line. */
export interface VerbParts {
  readonly context: CliContext;
  /** Tells the exit code of a verb that ends well but not with 0. */
  readonly exit: (code: number) => void;
  /** What a shell completes. */
  readonly words: () => Promise<CommandWords>;
}

/** Exit codes, as the README documents them. */
export const EXIT = { ok: 0, failure: 1, usage: 2 } as const;

/** Wrong usage of the command line: exit code 2. Everything else that fails is a `VolumeError`. */
export class UsageError extends Error {
  readonly context: ErrorContext;

  constructor(message: string, context: ErrorContext = {}) {
    super(message);
    this.name = 'UsageError';
    this.context = context;
  }
}
