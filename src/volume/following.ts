/**
 * The file `following`, in the place of a manifest: the volume is another host's, and is read here from its bucket. It says where that is, as the file `remote` of its owner does, and
 * which state of it was served last (and is served until somebody asks for another, if it is pinned). JSON of one line.
 */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { Env, FileSystem } from '../env/env.ts';
import type { Manifest } from '../format/manifest.ts';
import { type RemoteRoot, decodeRoot, encodeRoot } from '../format/remote-records.ts';
import { writeNewFile } from '../store/new-file.ts';
import { type RemoteConfig, configOf, encodeRemoteConfig, readSmallText, remoteFields } from './remote-config.ts';
import { followingPath, readManifest } from './volume-files.ts';

export interface Following {
  /** Its writer is nobody: nothing is written there. */
  readonly config: RemoteConfig;
  readonly isPinned: boolean;
  /** The state: a root, and the last chunk of the chain behind it. */
  readonly root: RemoteRoot;
  readonly lastChunk: number;
}

export function encodeFollowing({ config, isPinned, root, lastChunk }: Following): Uint8Array {
  const base: unknown = JSON.parse(Buffer.from(encodeRemoteConfig(config)).toString('utf8'));
  const state = { isPinned, root: Buffer.from(encodeRoot(root)).toString('hex'), lastChunk };
  return Buffer.from(`${JSON.stringify(Object.assign({}, base, state))}\n`, 'utf8');
}

/** Errors: `corrupt`, `unsupported`. */
export function decodeFollowing(text: string, path: string): Following {
  const fields = remoteFields(text, path);
  const config = configOf(fields, path);
  const broken = (what: string): VolumeError => new VolumeError('corrupt', `${path}: ${what}; delete the volume here and follow ${config.url} anew: nothing is lost by that`);
  const [isPinned, root, lastChunk] = [fields.get('isPinned'), fields.get('root'), fields.get('lastChunk')];
  if (typeof isPinned !== 'boolean') throw broken('isPinned is missing');
  if (typeof lastChunk !== 'number' || !Number.isSafeInteger(lastChunk) || lastChunk < 0) throw broken('lastChunk is no number of a chunk');
  if (typeof root !== 'string' || !/^(?:[0-9a-f]{2})+$/.test(root)) throw broken('root is no hexadecimal text');
  try {
    return { config, isPinned, root: decodeRoot(Buffer.from(root, 'hex'), path), lastChunk };
  } catch (error) {
    throw error instanceof VolumeError && error.code === 'corrupt' ? broken(error.message) : error;
  }
}

/** Null: the volume is this host's own. Errors: `corrupt`, `unsupported`, `io-error`. */
export async function readFollowing(files: FileSystem, directory: string): Promise<Following | null> {
  const path = followingPath(directory);
  const text = await readSmallText(files, path);
  return text === null ? null : decodeFollowing(text, path);
}

/** Replaces it, durably. Errors: `no-space`, `io-error`. */
export async function writeFollowing({ files }: Pick<Env, 'files'>, directory: string, following: Following): Promise<void> {
  const path = followingPath(directory);
  const staged = `${directory}/.following-new`;
  try {
    // What an interrupted one left.
    if (await files.exists(staged)) await files.remove(staged);
    await writeNewFile(files, staged, encodeFollowing(following));
    await files.rename(staged, path);
    await files.syncDirectory(directory);
  } catch (error) {
    throw toVolumeError(error, `writing ${path}`);
  }
}

/** Writes it into the directory of a volume that is being made; synced, but not its directory. */
export function createFollowing(files: FileSystem, directory: string, following: Following): Promise<void> {
  return writeNewFile(files, followingPath(directory), encodeFollowing(following));
}

/** What is known of a volume without opening it: its manifest, or that of the state it followed last. Errors: as `readManifest`. */
export async function knownManifest(files: FileSystem, directory: string): Promise<{ readonly manifest: Manifest; readonly follows: string | null }> {
  const following = await readFollowing(files, directory);
  if (following !== null) return { manifest: following.root.manifest, follows: following.config.url };
  return { manifest: await readManifest(files, directory), follows: null };
}
