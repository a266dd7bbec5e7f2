/**
 * The file `remote` of a volume that has a bucket: where that is, as a JSON object of one line, and who we are. It is written when the volume is made and
 * never changed while it is open. There are no credentials in it: they are found by the store, or in the file that is named here.
 */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { FileSystem } from '../env/env.ts';
import { WRITER_BYTES } from '../format/remote-records.ts';
import type { RemoteStore } from '../store/remote-store.ts';
import { takeoverAdvice } from './volume-files.ts';

const REMOTE_NAME = 'remote';
const REMOTE_BYTES_MAX = 16 * 1024;

export interface RemoteConfig {
  /** `s3://bucket/prefix`. */
  readonly url: string;
  /** Empty: that of AWS for the region. */
  readonly endpoint: string;
  readonly region: string;
  /** Empty: as the SDK finds them. */
  readonly credentialsFile: string;
  /** Certificates to trust beside the system's; empty: none. */
  readonly caFile: string;
  /** The bucket cannot refuse a key that is taken: its owner vouches that there is one writer. */
  readonly singleWriter: boolean;
  /** Tells our claims from those of others: 32 hexadecimal digits. */
  readonly writer: string;
}

/** Opens a bucket; the program's, so that the engine does not know what it speaks. */
export type RemoteOpener = (config: RemoteConfig) => Promise<RemoteStore>;

const TEXTS = ['url', 'endpoint', 'region', 'credentialsFile', 'caFile', 'writer'] as const;

export function remotePath(directory: string): string {
  return `${directory}/${REMOTE_NAME}`;
}

export function encodeRemoteConfig(config: RemoteConfig): Uint8Array {
  return Buffer.from(`${JSON.stringify({ version: 1, ...config })}\n`, 'utf8');
}

/** Errors: `corrupt`, `unsupported`. */
export function decodeRemoteConfig(text: string, path: string): RemoteConfig {
  return configOf(remoteFields(text, path), path);
}

/** The members of such a file, its version checked. Errors: as `decodeRemoteConfig`. */
export function remoteFields(text: string, path: string): ReadonlyMap<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new VolumeError('corrupt', `${path} is not JSON; it says where the volume's bucket is. Nothing was changed`, { cause });
  }
  if (typeof parsed !== 'object' || parsed === null) throw new VolumeError('corrupt', `${path} is no JSON object; nothing was changed`);
  const fields = new Map<string, unknown>(Object.entries(parsed));
  if (fields.get('version') !== 1) throw new VolumeError('unsupported', `${path}: version ${String(fields.get('version'))}; this basalt reads version 1: use a newer one`);
  return fields;
}

/** Errors: `corrupt`. */
export function configOf(fields: ReadonlyMap<string, unknown>, path: string): RemoteConfig {
  const textOf = (name: (typeof TEXTS)[number]): string => {
    const value = fields.get(name);
    if (typeof value === 'string') return value;
    throw new VolumeError('corrupt', `${path}: ${name} is missing, or no text; nothing was changed`);
  };
  const config = {
    url: textOf('url'),
    endpoint: textOf('endpoint'),
    region: textOf('region'),
    credentialsFile: textOf('credentialsFile'),
    caFile: textOf('caFile'),
    singleWriter: fields.get('singleWriter') === true,
    writer: textOf('writer'),
  };
  if (!new RegExp(`^[0-9a-f]{${2 * WRITER_BYTES}}$`).test(config.writer)) throw new VolumeError('corrupt', `${path}: writer is not ${2 * WRITER_BYTES} hexadecimal digits; nothing was changed`);
  return config;
}

/** Null: the volume has no bucket. Errors: `corrupt`, `unsupported`, `io-error`. */
export async function readRemoteConfig(files: FileSystem, directory: string): Promise<RemoteConfig | null> {
  const path = remotePath(directory);
  const text = await readSmallText(files, path);
  return text === null ? null : decodeRemoteConfig(text, path);
}

/** Null: there is no such file. Errors: `io-error`. */
export async function readSmallText(files: FileSystem, path: string): Promise<string | null> {
  try {
    if (!(await files.exists(path))) return null;
    const file = await files.open(path, 'read');
    try {
      const bytes = new Uint8Array(REMOTE_BYTES_MAX);
      const got = await file.read(bytes, 0);
      return Buffer.from(bytes.buffer, 0, got).toString('utf8');
    } finally {
      await file.close();
    }
  } catch (error) {
    throw toVolumeError(error, `reading ${path}`);
  }
}

/** For tools that know of one tier only: what is here of a volume with a bucket is a part of it. Errors: `unsupported`. */
export async function refuseShipped(files: FileSystem, directory: string, name: string): Promise<void> {
  const config = await readRemoteConfig(files, directory);
  if (config === null) return;
  throw new VolumeError('unsupported', `volume ${name} has a bucket, ${config.url}, and a scrub of a closed volume reads what is here alone; serve it, and basalt scrub ${name} reads all of it, or: basalt check ${name} --deep`);
}

/** A repair goes by what is here; a volume that has a bucket is in two places. Errors: `unsupported`. */
export async function refuseRepair(files: FileSystem, directory: string, name: string): Promise<void> {
  const config = await readRemoteConfig(files, directory);
  if (config === null) return;
  throw new VolumeError('unsupported', `volume ${name} has a bucket, ${config.url}, and is not repaired here: an opening makes anew what the bucket has sound. If that does not help, look with ${takeoverAdvice(name)}`);
}

/** Writes the file of a volume that is being made; synced, but not its directory. */
export async function createRemoteConfig(files: FileSystem, directory: string, config: RemoteConfig): Promise<void> {
  const file = await files.open(remotePath(directory), 'create');
  try {
    await file.write([encodeRemoteConfig(config)], 0);
    await file.sync();
  } finally {
    await file.close();
  }
}
