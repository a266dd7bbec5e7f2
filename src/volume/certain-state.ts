/**
 * What a volume's bucket says to who only reads it: a state of the volume that is certain to be of the history that goes on. It is the newest root and the unbroken chain of chunks
 * behind it, as for a recovery, but without a claim that keeps others from going on meanwhile. It is certain if
 *
 * - the newest root is of the newest claim's epoch: the first thing that its owner put says which objects of earlier writers count;
 * - when all of it was read there was still no later claim: whoever claims the volume from then on looks afterwards, and finds all that was read here, or a newer root of it.
 *
 * So a later state is never behind an earlier one, and nothing is read that a takeover then leaves out.
 */
import { VolumeError } from '../base/errors.ts';
import { CHUNK_FOLDER, chunkNumberIn } from '../chunk/chunk-reader.ts';
import type { Clock } from '../env/env.ts';
import { type Claim, ROOT_FOLDER, type RemoteRoot, claimKey, parseRootKey, rootKey } from '../format/remote-records.ts';
import type { RemoteReader } from '../store/remote-store.ts';
import { readRemoteChain } from './remote-chain.ts';
import { type RemoteState, readRemoteState } from './remote-state.ts';
import { newestRoot } from './restore-volume.ts';
import type { OnProgress } from './volume-info.ts';

export interface CertainState {
  readonly root: RemoteRoot;
  /** Of the volume's owner. */
  readonly claim: Claim;
  /** Last chunk and LSN of the chain behind the root's checkpoint; the checkpoint's own if there is none. */
  readonly lastChunk: number;
  readonly lastLsn: number;
  /** The objects that the state may need, by their sizes. */
  readonly objects: ReadonlyMap<string, number>;
  /** When the last of it was put, by the store's clock. */
  readonly writtenMs: number;
  /** Keys of chunks behind the chain, which do not count yet. */
  readonly beyond: readonly string[];
}

/** An owner that writes may remove what was listed, or lose the volume, while it is looked at. */
const LOOKS_MAX = 5;
/** So long a state is looked for that stays while it is loaded. */
const LOAD_MS_MAX = 60_000;

/** Errors: `not-found` (nothing was shipped), `unavailable` (which objects count is not known before the new owner has put a root), `corrupt`, and those of the store. */
export async function readCertainState(remote: RemoteReader, url: string, volumeId: Uint8Array | null, onProgress: OnProgress): Promise<CertainState> {
  for (let look = 1; look <= LOOKS_MAX; look += 1) {
    const state = await readRemoteState(remote, volumeId);
    const root = newestRoot(state, url);
    const { claim } = state;
    // Claims are listed first: the owner of a newer root has come between.
    if (claim === null || claim.epoch < root.manifest.epoch) continue;
    if (claim.epoch > root.manifest.epoch) throw uncertain(url, claim);
    try {
      const found = await stateBehind(remote, state, { root, claim, lastChunk: null }, onProgress);
      if ((await remote.head(claimKey(claim.epoch + 1))) === null) return found;
    } catch (error) {
      // A chunk that was listed, and has been removed: a newer root goes without it.
      if (!(error instanceof VolumeError) || error.code !== 'not-found') throw error;
    }
  }
  throw overtaken(url);
}

function overtaken(url: string, cause?: VolumeError): VolumeError {
  return new VolumeError('unavailable', `the owner of ${url} goes on faster than it can be read here; try again`, cause === undefined ? {} : { cause });
}

/**
 * What `load` makes of the state that `read` finds. Where objects of it are missing that is read again: its owner may have gone on. Errors: those of `read` and `load`; what is missing
 * twice in the same state is damage; `unavailable`: its owner went on each time.
 */
export async function loadCertain<T>({ clock, url }: { readonly clock: Clock; readonly url: string }, read: () => Promise<CertainState>, load: (state: CertainState) => Promise<T>): Promise<T> {
  const untilMs = clock.nowMs() + LOAD_MS_MAX;
  for (let failed: CertainState | null = null; ; ) {
    const state = await read();
    try {
      return await load(state);
    } catch (error) {
      if (!(error instanceof VolumeError) || (error.code !== 'not-found' && error.code !== 'corrupt')) throw error;
      if (failed !== null && isSameState(state, failed)) throw error;
      if (clock.nowMs() > untilMs) throw overtaken(url, error);
      failed = state;
    }
  }
}

/** A state that was certain, as far as it is still there. Errors: `not-found` (its owner has gone on, and has removed some of it), and those of the store. */
export async function readKnownState(remote: RemoteReader, url: string, { root, lastChunk }: { readonly root: RemoteRoot; readonly lastChunk: number }, onProgress: OnProgress): Promise<CertainState> {
  const state = await readRemoteState(remote, root.manifest.volumeId);
  const claim = state.claim ?? { volumeId: root.manifest.volumeId, epoch: root.manifest.epoch, writer: new Uint8Array(0), timeMs: root.timeMs, leaseMs: 0, host: '' };
  const found = await stateBehind(remote, state, { root, claim, lastChunk }, onProgress);
  if (found.lastChunk === lastChunk) return found;
  throw new VolumeError('not-found', `${url}: of the state up to chunk ${lastChunk} there is nothing any more behind chunk ${found.lastChunk}; its owner has gone on since`);
}

/** `lastChunk`: where the chain ends; null: as far as it goes. */
async function stateBehind(remote: RemoteReader, state: RemoteState, { root, claim, lastChunk }: { readonly root: RemoteRoot; readonly claim: Claim; readonly lastChunk: number | null }, onProgress: OnProgress): Promise<CertainState> {
  const { manifest } = root;
  const chain = await readRemoteChain(manifest, state.objects.keys(), (key, target) => remote.getRange(key, target, 0), onProgress, lastChunk ?? undefined);
  const keys = new Set(chain.keys);
  const isBehind = (key: string): boolean => (chunkNumberIn(key) ?? 0) > manifest.checkpoint.lastChunk;
  const objects = new Map([...state.objects].filter(([key]) => !isBehind(key) || keys.has(key)));
  const putMs = [rootKey(manifest.epoch, manifest.checkpoint.number), ...chain.keys].map((key) => state.putMs.get(key) ?? 0);
  const beyond = [...state.objects.keys(), ...state.strangers].filter((key) => (chunkNumberIn(key) ?? 0) > chain.lastChunk);
  return { root, claim, lastChunk: chain.lastChunk, lastLsn: chain.lastLsn, objects, writtenMs: Math.max(...putMs) || root.timeMs, beyond: beyond.toSorted() };
}

function uncertain(url: string, { host, epoch }: Claim): VolumeError {
  const who = host === '' ? 'another host' : `host ${host}`;
  return new VolumeError('unavailable', `${who} has claimed ${url} (epoch ${epoch}) and is opening it: which objects count is known when it has put its first root. If that host is gone for good, basalt open-remote or takeover finishes it`, { context: { host, epoch } });
}

/** Whether the bucket has something that `seen` does not know of: three small requests. */
export async function hasNews(remote: RemoteReader, { root, claim, lastChunk, beyond }: CertainState): Promise<boolean> {
  if ((await remote.head(claimKey(claim.epoch + 1))) !== null) return true;
  const { epoch, checkpoint } = root.manifest;
  for await (const page of remote.list(`${ROOT_FOLDER}/`, rootKey(epoch, checkpoint.number))) if (page.some(({ key }) => parseRootKey(key) !== null)) return true;
  const later: string[] = [];
  const from = `${CHUNK_FOLDER}/c${String(lastChunk + 1).padStart(10, '0')}`;
  for await (const page of remote.list(`${CHUNK_FOLDER}/`, from)) later.push(...page.flatMap(({ key }) => (chunkNumberIn(key) === null ? [] : [key])));
  return later.toSorted().join() !== beyond.join();
}

/** Whether two states are the same one. */
export function isSameState(one: CertainState, other: CertainState): boolean {
  return one.root.manifest.epoch === other.root.manifest.epoch && one.root.manifest.checkpoint.number === other.root.manifest.checkpoint.number && one.lastChunk === other.lastChunk;
}
