/**
 * What people say of a volume, and the engine does not look at: labels, and limits for its clients. A file of its own beside the manifest, JSON so that it can be
 * read without us; replaced as a whole. It stays on its host: a bucket does not have it.
 */
import { SerialQueue } from '../base/async.ts';
import { VolumeError, systemCode, toVolumeError } from '../base/errors.ts';
import { changedLimits, checkLimits, hasLimits, LIMIT_NAMES, NO_LIMITS, type LimitChanges, type VolumeLimits } from '../base/volume-limits.ts';
import type { Env, FileSystem } from '../env/env.ts';

export const PROPERTIES_NAME = 'properties.json';
const NEW_PROPERTIES_NAME = '.properties-new';
/** Version 2 has limits; a file without any is of version 1, which older programs read. */
const VERSION = 2;
const MAX_FILE_BYTES = 256 * 1024;
const MAX_LABELS = 64;
const MAX_LABEL_BYTES = 1024;
const LABEL_KEY = /^[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$/;

export type Labels = Readonly<Record<string, string>>;

export interface VolumeProperties {
  readonly labels: Labels;
  readonly limits: VolumeLimits;
}

export const NO_PROPERTIES: VolumeProperties = { labels: {}, limits: NO_LIMITS };

/** Labels with some set, and others (null) taken away. Errors: as `checkLabels`, and for one that is to go and is not there. */
export function changedLabels(labels: Labels, changes: Readonly<Record<string, string | null>>): Labels {
  const changed = new Map(Object.entries(labels));
  for (const [key, value] of Object.entries(changes)) {
    if (value !== null) changed.set(key, value);
    else if (!changed.delete(key)) throw new VolumeError('invalid-argument', `there is no label ${JSON.stringify(key)}; there are: ${Object.keys(labels).join(', ') || 'none'}`);
  }
  const result = Object.fromEntries(changed);
  checkLabels(result);
  return result;
}

/** Throws `invalid-argument` unless these can be labels. */
export function checkLabels(labels: Labels): void {
  const entries = Object.entries(labels);
  if (entries.length > MAX_LABELS) throw new VolumeError('invalid-argument', `${entries.length} labels are more than ${MAX_LABELS}`);
  for (const [key, value] of entries) {
    if (!LABEL_KEY.test(key)) throw new VolumeError('invalid-argument', `label ${JSON.stringify(key)}: a key is of 1 to 63 letters, digits and . _ - /, and begins and ends with a letter or digit`);
    const bytes = Buffer.byteLength(value);
    // eslint-disable-next-line no-control-regex -- they would spoil every table that the label is shown in
    if (bytes > MAX_LABEL_BYTES || /[\u0000-\u001f\u007f]/.test(value)) throw new VolumeError('invalid-argument', `label ${key}: a value is one line of at most ${MAX_LABEL_BYTES} bytes`);
  }
}

/** The properties of volumes, by their directories. */
export class PropertyStore {
  readonly #env: Env;
  /** One change at a time: each reads the file that it then replaces. */
  readonly #changes = new SerialQueue();
  /** Limits as they were read or changed last, by directories. */
  readonly #limits = new Map<string, VolumeLimits>();

  constructor(env: Env) {
    this.#env = env;
  }

  /** Errors: `corrupt`, `unsupported`, `io-error`. */
  of(directory: string): Promise<VolumeProperties> {
    return readProperties(this.#env.files, directory);
  }

  /** The same for a look at a volume: properties that cannot be read are no reason to say nothing of the rest. */
  async ifSound(directory: string): Promise<VolumeProperties> {
    return this.of(directory).catch((error: unknown) => {
      this.#env.logger.log('warn', 'properties-unreadable', { directory, error: toVolumeError(error, `reading the labels and limits in ${directory}`) });
      return NO_PROPERTIES;
    });
  }

  /** Limits that were read or changed last; none before. */
  limitsInForce(directory: string): VolumeLimits {
    return this.#limits.get(directory) ?? NO_LIMITS;
  }

  /** Reads the limits of a volume that is being opened. */
  loadLimits(directory: string): Promise<void> {
    return this.#changes.run(async () => {
      this.#limits.set(directory, (await this.ifSound(directory)).limits);
    });
  }

  /** Changes limits; returns all of them, durable and in force. Errors: as `changedLimits`, `of`, `writeProperties`. */
  changeLimits(directory: string, changes: LimitChanges): Promise<VolumeLimits> {
    return this.#changes.run(async () => {
      const properties = await this.of(directory);
      const limits = changedLimits(properties.limits, changes);
      await writeProperties(this.#env, directory, { ...properties, limits });
      this.#limits.set(directory, limits);
      return limits;
    });
  }

  /** Sets labels, and takes those away that are null; returns all of them, durable. Errors: as `changedLabels`, `of`, `writeProperties`. */
  changeLabels(directory: string, changes: Readonly<Record<string, string | null>>): Promise<Labels> {
    return this.#changes.run(async () => {
      const properties = await this.of(directory);
      const labels = changedLabels(properties.labels, changes);
      await writeProperties(this.#env, directory, { ...properties, labels });
      return labels;
    });
  }
}

/** The properties of the volume in `directory`; none if it has no such file. Errors: `corrupt`, `unsupported`, `io-error`. */
export async function readProperties(files: FileSystem, directory: string): Promise<VolumeProperties> {
  const path = `${directory}/${PROPERTIES_NAME}`;
  try {
    const file = await files.open(path, 'read');
    try {
      const bytes = new Uint8Array(Math.min(await file.sizeBytes(), MAX_FILE_BYTES));
      const length = await file.read(bytes, 0);
      return decodeProperties(new TextDecoder().decode(bytes.subarray(0, length)), path);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return NO_PROPERTIES;
    throw toVolumeError(error, `reading ${path}`);
  }
}

/** Replaces them; durable on return. The caller has checked them. Errors: `no-space`, `io-error`. */
export async function writeProperties(env: Pick<Env, 'files'>, directory: string, properties: VolumeProperties): Promise<void> {
  const { files } = env;
  const path = `${directory}/${PROPERTIES_NAME}`;
  const staged = `${directory}/${NEW_PROPERTIES_NAME}`;
  try {
    // What an interrupted one left.
    if (await files.exists(staged)) await files.remove(staged);
    const file = await files.open(staged, 'create');
    try {
      await file.write([encodeProperties(properties)], 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await files.rename(staged, path);
    await files.syncDirectory(directory);
  } catch (error) {
    throw toVolumeError(error, `writing ${path}`);
  }
}

export function encodeProperties({ labels, limits }: VolumeProperties): Uint8Array {
  const sorted = Object.fromEntries(Object.entries(labels).toSorted(([first], [second]) => (first < second ? -1 : 1)));
  const value = hasLimits(limits) ? { version: VERSION, labels: sorted, limits } : { version: 1, labels: sorted };
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
}

export function decodeProperties(text: string, path: string): VolumeProperties {
  const broken = (what: string): VolumeError => new VolumeError('corrupt', `${path}: ${what}; mend it, or delete the file: labels and limits are all that is lost`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw broken('is not JSON');
  }
  if (typeof value !== 'object' || value === null || !('version' in value) || !('labels' in value)) throw broken('has no version and no labels');
  if (value.version !== VERSION && value.version !== 1) throw new VolumeError('unsupported', `${path}: version ${JSON.stringify(value.version)}; this basalt reads versions up to ${VERSION}: use a newer one`);
  const labels: Record<string, string> = {};
  if (typeof value.labels !== 'object' || value.labels === null) throw broken('its labels are no object');
  for (const [key, label] of Object.entries(value.labels)) {
    if (typeof label !== 'string') throw broken(`label ${JSON.stringify(key)} is no text`);
    labels[key] = label;
  }
  const limits = value.version === 1 ? NO_LIMITS : decodeLimits('limits' in value ? value.limits : null, broken);
  try {
    checkLabels(labels);
    checkLimits(limits);
  } catch (error) {
    throw error instanceof VolumeError ? broken(error.message) : error;
  }
  return { labels, limits };
}

function decodeLimits(value: unknown, broken: (what: string) => VolumeError): VolumeLimits {
  if (typeof value !== 'object' || value === null) throw broken('has no limits');
  const members = new Map<string, unknown>(Object.entries(value));
  const limits: Record<keyof VolumeLimits, number | null> = { ...NO_LIMITS };
  for (const name of LIMIT_NAMES) {
    const limit = members.get(name);
    if (typeof limit !== 'number' && limit !== null) throw broken(`its limit ${name} is no number`);
    limits[name] = limit;
  }
  return limits;
}
