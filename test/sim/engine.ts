/** The engine under test, as a world sees it: the real one, or a toy with a known flaw that shows that the checks can fail. */
import type { Arena } from '../../src/base/arena.ts';
import type { VolumeCompression } from '../../src/base/compression.ts';
import type { Durability } from '../../src/base/durability.ts';
import type { VolumeError } from '../../src/base/errors.ts';
import type { EngineSettings } from '../../src/base/settings-types.ts';
import type { Env } from '../../src/env/env.ts';
import type { BlockDevice } from '../../src/volume/block-device.ts';
import type { ScrubOptions } from '../../src/volume/scrub.ts';
import type { CreateOptions, ScrubReport, VolumeObserver, VolumeStats } from '../../src/volume/volume-info.ts';
import type { SimDisk } from './disk.ts';
import type { WorkerTask } from './env.ts';

export interface SimVolume extends BlockDevice {
  readonly durability: Durability;
  readonly compression: VolumeCompression;
  readonly lastLsn: number;
  readonly durableLsn: number;
  readonly recoveredLsn: number;
  /** Why it takes no more writes, for good; null while it does. */
  readonly failure: VolumeError | null;
  setDurability(durability: Durability): Promise<void>;
  setCompression(compression: VolumeCompression): Promise<void>;
  stats(): VolumeStats;
  /** The toy has none. */
  scrub?(options: ScrubOptions): Promise<ScrubReport>;
  close(): Promise<void>;
}

/** A volume that could not be opened for writing. */
export interface SimReadOnlyVolume extends BlockDevice {
  readonly reason: VolumeError;
  close(): Promise<void>;
}

export interface EngineOptions {
  readonly env: Env;
  readonly directory: string;
  readonly settings: EngineSettings;
  /** Block memory of the process, shared by its volumes. */
  readonly arena: Arena;
}

export interface SimEngine {
  readonly tasks: ReadonlyMap<string, WorkerTask>;
  create(options: EngineOptions, create: CreateOptions): Promise<void>;
  open(options: EngineOptions, observer: VolumeObserver): Promise<SimVolume>;
  /** Opens a volume as a server does: for reading, if it cannot be for writing. The toy has no such way. */
  serve?(options: EngineOptions, observer: VolumeObserver): Promise<SimVolume | SimReadOnlyVolume>;
  /** Throws unless the directory of a volume that was closed properly is as it should be. */
  checkFiles(disk: SimDisk, options: Pick<EngineOptions, 'directory' | 'settings'>): void;
  /** What `basalt check --deep` finds in a volume that nobody has open, a line each. The toy has no such tool. */
  inspect?(options: Pick<EngineOptions, 'env' | 'directory' | 'settings'>): Promise<readonly string[]>;
}
