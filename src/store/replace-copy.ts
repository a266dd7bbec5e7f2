/** Makes the copy here of an object of the bucket anew. */
import { toVolumeError } from '../base/errors.ts';
import type { FileSystem } from '../env/env.ts';
import { FAR_PREFIX } from './far-objects.ts';
import { writeNewFile } from './new-file.ts';
import type { RemoteStore } from './remote-store.ts';

export interface ReplaceOptions {
  readonly files: FileSystem;
  /** The volume's directory. */
  readonly directory: string;
  readonly remote: Pick<RemoteStore, 'getRange'>;
  /** What is wrong with the bytes of an object; null: it is what was written. */
  readonly problemOf: (key: string, bytes: Uint8Array) => Promise<string | null>;
}

/**
 * False: the bucket's is not sound, or it cannot be kept, or `isWanted` says that it went meanwhile; then what is here is as it was. Errors: those of the bucket.
 */
export async function replaceFromBucket({ files, directory, remote, problemOf }: ReplaceOptions, key: string, sizeBytes: number, isWanted: () => boolean): Promise<boolean> {
  const bytes = new Uint8Array(sizeBytes);
  await remote.getRange(key, bytes, 0);
  if ((await problemOf(key, bytes)) !== null) return false;
  const slash = key.indexOf('/');
  const path = `${directory}/${key.slice(0, slash)}/${FAR_PREFIX}heal-${key.slice(slash + 1)}`;
  try {
    await writeNewFile(files, path, bytes);
    if (isWanted()) {
      await files.rename(path, `${directory}/${key}`);
      return true;
    }
  } catch (error) {
    toVolumeError(error, `writing ${path}`); // a broken assertion is thrown on; else what is read comes from the bucket
  }
  await files.remove(path).catch(() => undefined); // the next opening removes it
  return false;
}
