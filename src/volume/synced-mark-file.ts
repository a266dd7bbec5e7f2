/** The file of the mark that says what had been synced (`format/synced-mark.ts`): an aid, so that no trouble with it is trouble with the volume. */
import { toVolumeError } from '../base/errors.ts';
import type { Env, File, FileSystem } from '../env/env.ts';
import { SYNCED_MARK_BYTES, type SyncedMark, decodeSyncedMark, encodeSyncedMark } from '../format/synced-mark.ts';
import type { Manifest } from '../format/manifest.ts';
import { isDamage } from './inspect-findings.ts';
import { LOG_FOLDER } from './volume-files.ts';

/** Path within the volume's directory. */
export const SYNCED_MARK_KEY = `${LOG_FOLDER}/synced`;

/** What a mark says of a volume: `foreign`, that it is another volume's. */
export type MarkSaid = Pick<SyncedMark, 'epoch' | 'lsn'> | 'nothing' | 'foreign';

/** Up to which LSN a volume had been synced, as its mark has it. Errors: `io-error`, but none of a disk that cannot read. */
export async function readSyncedMark(files: FileSystem, directory: string, manifest: Pick<Manifest, 'volumeId' | 'cut'>): Promise<MarkSaid> {
  const path = `${directory}/${SYNCED_MARK_KEY}`;
  if (!(await files.exists(path))) return 'nothing';
  let mark: SyncedMark | null;
  try {
    const file = await files.open(path, 'read');
    try {
      const bytes = new Uint8Array(SYNCED_MARK_BYTES);
      mark = decodeSyncedMark(bytes.subarray(0, await file.read(bytes, 0)));
    } finally {
      await file.close();
    }
  } catch (cause) {
    const error = toVolumeError(cause, `reading ${path}`);
    if (!isDamage(error)) throw error;
    return 'nothing';
  }
  if (mark === null) return 'nothing';
  if (Buffer.compare(mark.volumeId, manifest.volumeId) !== 0) return 'foreign';
  return mark.epoch < manifest.cut.epoch ? 'nothing' : { epoch: mark.epoch, lsn: mark.lsn };
}

/** The LSN of a mark; 0: it says nothing. */
export function markedLsn(said: MarkSaid): number {
  return typeof said === 'string' ? 0 : said.lsn;
}

/** Opens the file for writing, and makes it where it is missing; null where that cannot be. */
export async function openSyncedMark({ files, logger }: Pick<Env, 'files' | 'logger'>, directory: string, volume: string): Promise<File | null> {
  const path = `${directory}/${SYNCED_MARK_KEY}`;
  try {
    return await files.open(path, (await files.exists(path)) ? 'write' : 'create');
  } catch (error) {
    logger.log('warn', 'no-synced-mark', { volume, error: toVolumeError(error, `opening ${path}`) });
    return null;
  }
}

/** The file of a new volume: with its bytes there, marks find space on a disk that is full later. */
export async function createSyncedMark(files: FileSystem, directory: string, volumeId: Uint8Array): Promise<void> {
  const file = await files.open(`${directory}/${SYNCED_MARK_KEY}`, 'create');
  try {
    await file.write([encodeSyncedMark({ volumeId, epoch: 0, lsn: 0 })], 0);
  } finally {
    await file.close();
  }
}
