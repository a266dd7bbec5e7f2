/** Files that are made whole, and durable, before they get their name. */
import type { FileSystem } from '../env/env.ts';

/** Makes a file that is not there yet, and syncs it; not its directory. After a rejection it may be there in part. Errors: those of the file system. */
export async function writeNewFile(files: FileSystem, path: string, bytes: Uint8Array): Promise<void> {
  const file = await files.open(path, 'create');
  try {
    await file.write([bytes], 0);
    await file.sync();
  } finally {
    await file.close();
  }
}
