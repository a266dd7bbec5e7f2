/** basalt as a library: volumes of this machine's file system, opened in this process and read and written by direct call. */
import { basename, resolve } from 'node:path';
import { VOLUME_COMPRESSIONS, isVolumeCompression, type VolumeCompression } from './base/compression.ts';
import { DURABILITY_MODES, isDurability, type Durability } from './base/durability.ts';
import { VolumeError } from './base/errors.ts';
import type { EngineSettings } from './base/settings-types.ts';
import { parseSize } from './base/units.ts';
import { workerEntry } from './chunk/worker-entry.ts';
import { checkRelations } from './config/cross-checks.ts';
import { buildSettings } from './config/settings.ts';
import type { Env, Logger } from './env/env.ts';
import { createNodeEnv } from './env/node-env.ts';
import { createVolume as createVolumeIn } from './volume/create-volume.ts';
import { openVolume as openVolumeIn } from './volume/open-volume.ts';
import type { AtRisk, VolumeStats } from './volume/volume-info.ts';
import type { Volume } from './volume/volume.ts';

export { VOLUME_COMPRESSIONS, type VolumeCompression } from './base/compression.ts';
export { DURABILITY_MODES, type Durability } from './base/durability.ts';
export { VolumeError, type ErrorCode, type ErrorContext } from './base/errors.ts';
export type { EngineSettings } from './base/settings-types.ts';
export type { LogFields, Logger, LogLevel } from './env/env.ts';
export type { AtRisk, DataAtRisk, VolumeStats } from './volume/volume-info.ts';

export interface CommonOptions {
  /** What differs from the defaults of `config/default.toml`. */
  readonly settings?: Partial<EngineSettings>;
  /** Receives the engine's events; without one they are dropped (failures reach the caller as errors all the same). */
  readonly logger?: Logger;
}

export interface CreateVolumeOptions extends CommonOptions {
  /** Bytes, or a text such as `10G`; a multiple of the block size. */
  readonly size: number | string;
  /** Power of two, 4096 (default) to 65536. */
  readonly blockSizeBytes?: number;
  /** `batched` unless given. */
  readonly durability?: Durability;
  /** Of new chunks; `default`, as `settings.chunkCompress` of whoever opens it says, unless given. */
  readonly compression?: VolumeCompression;
}

export type OpenVolumeOptions = CommonOptions;

export interface WriteOptions {
  /** Resolve only when the data is durable (force unit access). */
  readonly fua?: boolean;
}

export interface ZeroOptions extends WriteOptions {
  /** Keep the space provisioned: the range reads as zeroes but is not given back. */
  readonly provisioned?: boolean;
}

/**
 * An open volume. Offsets and lengths are bytes, of any alignment, within the volume; a call beyond it rejects with `out-of-range`. Calls may
 * overlap in time. A buffer that is handed in must not change until the call has settled. After `close` every call rejects with `closed`.
 */
export interface VolumeHandle {
  readonly name: string;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly durability: Durability;
  readonly compression: VolumeCompression;
  /** Resolves with a new buffer of `lengthBytes`. Rejects with `corrupt` rather than with bytes that fail their checksum. */
  read(offsetBytes: number, lengthBytes: number): Promise<Uint8Array>;
  /** Fills `target`, without a copy of its own. */
  readInto(offsetBytes: number, target: Uint8Array): Promise<void>;
  /** Resolves when the volume's durability mode says that it is written. */
  write(offsetBytes: number, source: Uint8Array, options?: WriteOptions): Promise<void>;
  /** The range reads as zeroes from now on. */
  zero(offsetBytes: number, lengthBytes: number, options?: ZeroOptions): Promise<void>;
  /** Gives the whole blocks inside the range back; they read as zeroes. */
  trim(offsetBytes: number, lengthBytes: number, options?: WriteOptions): Promise<void>;
  /** Every write that was answered before is durable on return (mode `async`: at once, and without that promise). */
  flush(): Promise<void>;
  /**
   * Changes the mode for all later writes, also after the volume is opened again; resolves when everything accepted before is durable.
   * Mode `async` loses up to an interval of answered writes in a crash, flushed or not. Rejects with `no-space`, `io-error`, `failed`.
   */
  setDurability(durability: Durability): Promise<void>;
  /**
   * Changes whether new chunks are compressed, also after the volume is opened again; older ones follow as they are rewritten. Rejects with `no-space`,
   * `io-error`, `failed`.
   */
  setCompression(compression: VolumeCompression): Promise<void>;
  /** What a power cut, or the loss of the log, would take now. */
  atRisk(): AtRisk;
  stats(): VolumeStats;
  /** Makes everything durable and lets go of the volume. */
  close(): Promise<void>;
}

const NO_LOGGER: Logger = { log: () => undefined };

function prepare(options: CommonOptions): { env: Env; settings: EngineSettings } {
  const defaults = buildSettings();
  const engine = { ...defaults.engine, ...options.settings };
  checkRelations({ ...defaults, engine });
  const env = createNodeEnv({ logger: options.logger ?? NO_LOGGER, workerEntry: workerEntry(), workerThreads: defaults.process.workerThreads });
  return { env, settings: engine };
}

/**
 * Makes a volume in the directory `path`, which must not exist (its parent must). Durable on return.
 * Rejects with `invalid-argument`, `already-exists`, `not-found`, `no-space`, `io-error`.
 */
export async function createVolume(path: string, options: CreateVolumeOptions): Promise<void> {
  const { env, settings } = prepare(options);
  const { size, blockSizeBytes = 4096, durability = 'batched', compression = 'default' } = options;
  checkCompression(compression);
  const sizeBytes = typeof size === 'number' ? size : parseSize(size);
  await createVolumeIn({ env, directory: resolve(path), settings, create: { sizeBytes, blockSizeBytes, durability, compression } });
}

/**
 * Opens the volume in the directory `path` for reading and writing, and recovers it if its last user was killed. Nobody else can open it
 * until `close`. Rejects with `not-found`, `in-use`, `corrupt`, `unsupported`, `no-space`, `io-error`.
 */
export async function openVolume(path: string, options: OpenVolumeOptions = {}): Promise<VolumeHandle> {
  const { env, settings } = prepare(options);
  const directory = resolve(path);
  return new OpenedVolume(await openVolumeIn({ env, directory, settings, name: basename(directory) }), env);
}

class OpenedVolume implements VolumeHandle {
  readonly name: string;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly #volume: Volume;
  readonly #env: Env;

  constructor(volume: Volume, env: Env) {
    this.name = volume.name;
    this.sizeBytes = volume.sizeBytes;
    this.blockSizeBytes = volume.blockSizeBytes;
    this.#volume = volume;
    this.#env = env;
  }

  get durability(): Durability {
    return this.#volume.durability;
  }

  get compression(): VolumeCompression {
    return this.#volume.compression;
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
    checkRange(offsetBytes, lengthBytes, this.sizeBytes);
    const target = new Uint8Array(lengthBytes);
    await this.readInto(offsetBytes, target);
    return target;
  }

  async readInto(offsetBytes: number, target: Uint8Array): Promise<void> {
    checkRange(offsetBytes, target.length, this.sizeBytes);
    if (target.length > 0) await this.#volume.read(offsetBytes, target);
  }

  async write(offsetBytes: number, source: Uint8Array, { fua = false }: WriteOptions = {}): Promise<void> {
    checkRange(offsetBytes, source.length, this.sizeBytes);
    if (source.length > 0) await this.#volume.write(offsetBytes, source, fua);
  }

  async zero(offsetBytes: number, lengthBytes: number, { provisioned = false, fua = false }: ZeroOptions = {}): Promise<void> {
    checkRange(offsetBytes, lengthBytes, this.sizeBytes);
    if (lengthBytes > 0) await this.#volume.zero(offsetBytes, lengthBytes, { provisioned, fua });
  }

  async trim(offsetBytes: number, lengthBytes: number, { fua = false }: WriteOptions = {}): Promise<void> {
    checkRange(offsetBytes, lengthBytes, this.sizeBytes);
    if (lengthBytes > 0) await this.#volume.trim(offsetBytes, lengthBytes, fua);
  }

  flush(): Promise<void> {
    return this.#volume.flush();
  }

  async setDurability(durability: Durability): Promise<void> {
    if (!isDurability(durability)) throw new VolumeError('invalid-argument', `durability ${JSON.stringify(durability)} is none of ${DURABILITY_MODES.join(', ')}`);
    await this.#volume.setDurability(durability);
  }

  async setCompression(compression: VolumeCompression): Promise<void> {
    checkCompression(compression);
    await this.#volume.setCompression(compression);
  }

  atRisk(): AtRisk {
    return this.#volume.atRisk();
  }

  stats(): VolumeStats {
    return this.#volume.stats();
  }

  async close(): Promise<void> {
    try {
      await this.#volume.close();
    } finally {
      await this.#env.workers.close();
    }
  }
}

function checkCompression(compression: VolumeCompression): void {
  if (!isVolumeCompression(compression)) throw new VolumeError('invalid-argument', `compression ${JSON.stringify(compression)} is none of ${VOLUME_COMPRESSIONS.join(', ')}`);
}

/** Offsets of the library come from anywhere: the engine below takes safe integers for granted. */
function checkRange(offsetBytes: number, lengthBytes: number, sizeBytes: number): void {
  if (!Number.isSafeInteger(offsetBytes) || !Number.isSafeInteger(lengthBytes) || offsetBytes < 0 || lengthBytes < 0) {
    throw new VolumeError('out-of-range', `offset ${offsetBytes} and length ${lengthBytes} must be whole numbers from 0`);
  }
  if (offsetBytes > sizeBytes || lengthBytes > sizeBytes - offsetBytes) {
    throw new VolumeError('out-of-range', `${lengthBytes} bytes at ${offsetBytes} reach past the end of the volume (${sizeBytes} bytes)`);
  }
}
