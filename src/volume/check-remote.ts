/**
 * `basalt check --remote`: what would a recovery make of a volume's bucket? Every object that its newest root names is looked at, and the chunks behind it, by ranges or
 * (deep) as a whole; the disk here counts for nothing but advice. Changes nothing, here or there, so that the volume may be in use.
 */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import { CHUNK_FOLDER, parseChunkName, chunkNumberIn } from '../chunk/chunk-reader.ts';
import { ROOT_FOLDER, type RemoteRoot, rootKey } from '../format/remote-records.ts';
import { BucketView } from '../store/bucket-view.ts';
import { DirectoryStore } from '../store/directory-store.ts';
import type { RemoteStore } from '../store/remote-store.ts';
import type { CheckReport, ToolOptions } from './check.ts';
import { type Finding, isDamage } from './inspect-findings.ts';
import { type Inspection, inspectVolume } from './inspect.ts';
import { type RemoteChain, readRemoteChain } from './remote-chain.ts';
import { type RemoteState, readRemoteState } from './remote-state.ts';
import { openBucket } from './tool-source.ts';
import { problemOf } from './verify-object.ts';
import { CHECKPOINT_FOLDER, readManifest } from './volume-files.ts';

/** The bucket of a volume, as it was looked at. */
export interface BucketLook {
  readonly url: string;
  /** Epoch and checkpoint of the newest root. */
  readonly epoch: number;
  readonly checkpoint: number;
  /** Objects that count, and their bytes. */
  readonly objects: number;
  readonly bytes: number;
  /** Objects of writers that had lost the volume, and old roots. */
  readonly orphans: number;
  /** The last writer had shipped all, and said so. */
  readonly isReleased: boolean;
}

const READS_AT_ONCE = 8;
/** A server that ships meanwhile may remove what an older root named; bits may flip on the way. */
const LOOKS_MAX = 3;

export type CheckRemoteOptions = ToolOptions & { readonly deep: boolean };

/** Checks a volume's bucket. Errors: `unsupported` (it has none), and those of the store; damage is in the report. */
export async function checkRemote(options: CheckRemoteOptions): Promise<CheckReport> {
  const { env, directory, name } = options;
  try {
    const bucket = await openBucket(options);
    if (bucket === null) throw new VolumeError('unsupported', `volume ${name} has no bucket; check it without --remote`);
    const { remote, config } = bucket;
    try {
      const manifest = await readManifest(env.files, directory).catch(() => null); // the bucket has one of its own
      for (let look = 1; ; look += 1) {
        const state = await stateOrDamage(remote, manifest?.volumeId ?? null);
        const report = state instanceof VolumeError ? damagedBeginning(options, config.url, state) : await lookAt(options, remote, config.url, state);
        if (look === LOOKS_MAX || !isWorthAnotherLook(report)) return report;
      }
    } finally {
      remote.close();
    }
  } catch (error) {
    throw toVolumeError(error, `looking at the bucket of volume ${name}`);
  }
}

/** A damaged chunk was read again at once; the rest may have changed, or was read once. */
function isWorthAnotherLook({ findings }: CheckReport): boolean {
  return findings.some(({ file, problem }) => problem === 'is missing' || !file.startsWith(`${CHUNK_FOLDER}/`));
}

async function stateOrDamage(remote: RemoteStore, volumeId: Uint8Array | null): Promise<RemoteState | VolumeError> {
  try {
    return await readRemoteState(remote, volumeId);
  } catch (error) {
    if (error instanceof VolumeError && error.code === 'corrupt') return error;
    throw error;
  }
}

async function lookAt(options: CheckRemoteOptions, remote: RemoteStore, url: string, state: RemoteState): Promise<CheckReport> {
  const { onProgress, deep } = options;
  const { root } = state;
  if (root === null) return withoutRoot(options, url, state);
  const { manifest } = root;
  const chain = await chainOrDamage(remote, root, state, onProgress);
  const sizes = chain instanceof VolumeError ? state.objects : countingOf(state, root, chain);
  const view = new BucketView(remote, sizes);
  const source = { store: view, readsAtOnce: READS_AT_ONCE, isDoubted: (key: string) => view.doubt(key), isAlone: true };
  const inspection = await inspectVolume({ ...options, manifest, deep, uncertain: 'lost', source });
  const key = rootKey(manifest.epoch, manifest.checkpoint.number);
  const shortfall = chain instanceof VolumeError ? null : shortfallOf(state, root, chain);
  const { findings } = inspection;
  if (shortfall !== null && state.isReleased) findings.broken(key, null, `${shortfall}, though its last writer had shipped all`);
  else if (shortfall !== null) findings.notes.push(`${shortfall}; its writer ships several at a time, so that it may be on its way`);
  return reportOf(options, inspection, lookOf(url, state, root, sizes));
}

/** Which chunks are behind the root's checkpoint; the error, if a header of theirs is damaged: each of them is looked at then. */
async function chainOrDamage(remote: RemoteStore, { manifest }: RemoteRoot, { objects }: RemoteState, onProgress: ToolOptions['onProgress']): Promise<RemoteChain | VolumeError> {
  try {
    return await readRemoteChain(manifest, objects.keys(), (key, target) => remote.getRange(key, target, 0), onProgress);
  } catch (error) {
    const failure = toVolumeError(error, 'reading headers of chunks');
    if (isDamage(failure)) return failure;
    throw failure;
  }
}

/** What a recovery would take: the checkpoint's objects, and the chain of chunks. */
function countingOf({ objects }: RemoteState, { manifest }: RemoteRoot, { keys }: RemoteChain): ReadonlyMap<string, number> {
  const chain = new Set(keys);
  return new Map([...objects].filter(([key]) => (chunkNumberIn(key) ?? 0) <= manifest.checkpoint.lastChunk || chain.has(key)));
}

/** Why a recovery would end before what the bucket has had; null: as far as can be told it would not. */
function shortfallOf({ objects, claim }: RemoteState, { fenceChunk }: RemoteRoot, { lastChunk }: RemoteChain): string | null {
  const behind = [...objects.keys()].filter((key) => (chunkNumberIn(key) ?? 0) > lastChunk);
  // Earlier writers may have died before their sets were whole.
  const cutOff = behind.filter((key) => parseChunkName(key.slice(CHUNK_FOLDER.length + 1))?.epoch === claim?.epoch);
  if (cutOff.length > 0) return `the chain of chunks ends at chunk ${lastChunk}: what ${cutOff.length} later ones, ${cutOff[0]} for one, follow is missing`;
  return lastChunk < fenceChunk ? `the chain of chunks ends at chunk ${lastChunk}; up to chunk ${fenceChunk} they are the volume's` : null;
}

function lookOf(url: string, { strangers, roots, isReleased }: RemoteState, { manifest }: RemoteRoot, sizes: ReadonlyMap<string, number>): BucketLook {
  const bytes = [...sizes.values()].reduce((sum, sizeBytes) => sum + sizeBytes, 0);
  return { url, epoch: manifest.epoch, checkpoint: manifest.checkpoint.number, objects: sizes.size, bytes, orphans: strangers.length + roots.length - 1, isReleased };
}

async function reportOf(options: CheckRemoteOptions, { findings, lost, chunks, checkpoint, chain, manifest }: Inspection, bucket: BucketLook): Promise<CheckReport> {
  const list: Finding[] = [];
  for (const finding of findings.list) list.push({ ...finding, needsRepair: false, advice: await adviceOn(options, bucket.url, finding, manifest) });
  const { name: volume, deep } = options;
  return { volume, deep, isClean: list.length === 0, findings: list, notes: findings.notes, lost: lost.list, chunks: chunks.size, leaves: checkpoint.leaves.size, logRecords: 0, lastLsn: chain.lastLsn, blockSizeBytes: manifest.blockSizeBytes, bucket };
}

/** What helps depends on what this host has. */
async function adviceOn({ env, directory, name }: CheckRemoteOptions, url: string, { file, problem, lost }: Finding, manifest: Inspection['manifest']): Promise<string> {
  const isMissing = problem === 'is missing';
  const local = new DirectoryStore(env.files, directory, 0);
  if (!file.startsWith(`${CHUNK_FOLDER}/`) && !file.startsWith(`${CHECKPOINT_FOLDER}/`)) return `where the volume is whole (basalt check ${name} looks at what is here), keep that, and make a new one in another prefix of it`;
  const copy = await local.open(file).catch(() => null);
  if (copy !== null) {
    try {
      const bytes = new Uint8Array(copy.sizeBytes);
      await copy.read(bytes, 0);
      const fault = await problemOf({ clock: env.clock, manifest }, file, bytes);
      if (fault === null) return isMissing ? `this host has it: serve the volume here, and drain it; what the bucket lacks is shipped again` : `this host has it, too: take ${url}/${file} out of the bucket, then serve the volume here and drain it; the copy here is shipped in its place`;
    } catch (error) {
      if (!isDamage(toVolumeError(error, `reading ${file}`))) throw error;
    } finally {
      await copy.close();
    }
  }
  const blocks = lost.length === 0 ? '' : '; write the blocks that are lost again from a backup, or trim them';
  return `this host has no sound copy of it: bring ${url}/${file} back from a version or a copy of the bucket, if there is one${blocks}`;
}

const NOTHING = { notes: [], lost: [], chunks: 0, leaves: 0, logRecords: 0, lastLsn: null, blockSizeBytes: null } as const;

function damagedBeginning({ name: volume, deep }: CheckRemoteOptions, url: string, error: VolumeError): CheckReport {
  const advice = `no volume can be made of the bucket before that; where ${volume} is whole (basalt check ${volume}), its server goes on, and its next checkpoint puts another root. Look at ${url}: is it the right one, who else writes there?`;
  const finding: Finding = { file: url, offsetBytes: null, problem: error.message, lost: [], advice, needsRepair: false };
  return { ...NOTHING, volume, deep, isClean: false, findings: [finding], bucket: null };
}

function withoutRoot({ name: volume, deep }: CheckRemoteOptions, url: string, { claim, objects }: RemoteState): CheckReport {
  const bucket: BucketLook = { url, epoch: 0, checkpoint: 0, objects: 0, bytes: 0, orphans: objects.size, isReleased: false };
  if (claim === null && objects.size === 0) return { ...NOTHING, volume, deep, isClean: true, findings: [], notes: ['nothing was shipped yet'], bucket };
  const problem = `there is no root, though the volume was claimed and ${objects.size} of its objects are there: without one no volume can be made of them`;
  const finding: Finding = { file: ROOT_FOLDER, offsetBytes: null, problem, lost: [], advice: `serve ${volume} where it is whole, and drain it: an opening puts a root`, needsRepair: false };
  return { ...NOTHING, volume, deep, isClean: false, findings: [finding], bucket };
}
