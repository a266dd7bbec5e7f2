/** Giving a volume that nobody has open another name, or none any more. The caller keeps others in its process away. */
import { VolumeError } from '../base/errors.ts';
import type { Env } from '../env/env.ts';
import { hexOf } from '../format/bytes.ts';
import { lockVolume } from './volume-files.ts';

/** Deletes the volume `name` of `parent` with all its data. False if another process has it open. */
export async function removeVolume(env: Env, parent: string, name: string): Promise<boolean> {
  const lock = await lockVolume(env, `${parent}/${name}`);
  if (lock === null) return false;
  try {
    // Out of sight first: a deletion that is interrupted leaves no volume with half its files.
    const token = new Uint8Array(6);
    env.random.fill(token);
    const doomed = `${parent}/.deleting-${hexOf(token)}`;
    await env.files.rename(`${parent}/${name}`, doomed);
    await env.files.syncDirectory(parent);
    await env.files.removeTree(doomed);
    return true;
  } finally {
    await lock.release();
  }
}

/** Renames a volume of `parent`, durably. False if another process has it open. Errors: `already-exists`. */
export async function renameVolume(env: Env, parent: string, { source, target }: { readonly source: string; readonly target: string }): Promise<boolean> {
  const lock = await lockVolume(env, `${parent}/${source}`);
  if (lock === null) return false;
  try {
    // A rename would replace an empty directory without a word; of two that take the same name at once, the second finds the first one's files and fails.
    if (await env.files.exists(`${parent}/${target}`)) throw new VolumeError('already-exists', `${parent}/${target} exists already; choose another name, or delete or rename that first`);
    await env.files.rename(`${parent}/${source}`, `${parent}/${target}`);
    await env.files.syncDirectory(parent);
    return true;
  } finally {
    await lock.release();
  }
}
