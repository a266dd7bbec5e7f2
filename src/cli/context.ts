/** What the verbs need from the world; `main.ts` gives the real one, tests their own. */
import type { VolumeCompression } from '../base/compression.ts';
import type { Durability } from '../base/durability.ts';
import type { ErrorContext } from '../base/errors.ts';
import type { ChunkCompression, EngineSettings } from '../base/settings-types.ts';
import type { ProgramSettings, RemoteProgramSettings } from '../config/settings.ts';
import type { ListedDetails, VolumeDetails } from '../control/routes.ts';
import type { LogLevel } from '../env/env.ts';
import type { CheckReport } from '../volume/check.ts';
import type { ExplainReport } from '../volume/explain.ts';
import type { NewRemote } from '../volume/remote-volumes.ts';
import type { Restored } from '../volume/restore-volume.ts';
import type { CreateOptions, ListedVolume, OnProgress, Probe, ScrubReport, ShippingStatus, VolumeInfo, VolumeStatus } from '../volume/volume-info.ts';
import type { RepairOptions, RepairReport } from '../volume/repair.ts';

/** Standard output, standard error and the person in front of them. */
export interface Terminal {
  /** Whether somebody can answer a question. */
  readonly isInteractive: boolean;
  out(text: string): void;
  error(text: string): void;
  /** Asks on standard error and returns the line that was typed. */
  ask(question: string): Promise<string>;
}

/** How a volume is taken from its bucket. */
export interface TakingOptions {
  readonly isForced: boolean;
  readonly onProgress: OnProgress;
}

/** The part of `VolumeSet` that the verbs use. */
export interface VolumeManager {
  create(name: string, options: CreateOptions, remote?: NewRemote): Promise<VolumeInfo>;
  openRemote(name: string, remote: NewRemote, options: TakingOptions): Promise<Restored>;
  takeOver(name: string, options: TakingOptions): Promise<Restored & { readonly keptAs: string }>;
  drain(name: string): Promise<VolumeStatus>;
  describe(name: string): Promise<VolumeInfo>;
  describeAll(): Promise<ListedVolume[]>;
  probe(name: string): Promise<Probe | null>;
  remove(name: string): Promise<void>;
  setDurability(name: string, durability: Durability): Promise<void>;
  setCompression(name: string, compression: VolumeCompression): Promise<ChunkCompression>;
  close(): Promise<void>;
}

/** The part of the control API that the verbs use. */
export interface RunningServer {
  volume(name: string): Promise<VolumeDetails>;
  volumes(): Promise<readonly ListedDetails[]>;
  setDurability(name: string, durability: Durability): Promise<void>;
  drain(name: string, onProgress: OnProgress): Promise<ShippingStatus | null>;
  setCompression(name: string, compression: VolumeCompression): Promise<ChunkCompression>;
  /** At `bytesPerSecond`; null: as the server's settings say. */
  scrub(name: string, bytesPerSecond: number | null, onProgress: OnProgress): Promise<ScrubReport>;
}

/** What looks at, and repairs, volumes that nobody has open. */
export interface VolumeTools {
  check(name: string, options: { readonly deep: boolean }, onProgress: OnProgress): Promise<CheckReport>;
  explain(name: string, options: { readonly offsetBytes: number }, onProgress: OnProgress): Promise<ExplainReport>;
  repair(name: string, options: Pick<RepairOptions, 'apply' | 'uncertain'>, onProgress: OnProgress): Promise<RepairReport>;
  scrub(name: string, options: { readonly bytesPerSecond: number | null }, onProgress: OnProgress): Promise<ScrubReport>;
  close(): Promise<void>;
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
  /** Serves until a signal comes; resolves with the exit code. */
  serve(plan: ServePlan): Promise<number>;
  readFile(path: string): Promise<string>;
  /** Makes certificates; resolves with the names of the files. */
  makePki(plan: PkiPlan): Promise<readonly string[]>;
  /** Descriptors of the sockets that systemd has opened for this process; the variables that say so are gone afterwards. */
  takeActivation(): readonly number[];
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
