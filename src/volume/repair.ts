/**
 * `basalt repair`: makes a volume that is damaged open again, as its state after the longest prefix of its history that can still be
 * told. Nothing is deleted: what has no place in it is moved aside.
 *
 * It may be killed at any point and run again. From its first change to its last the file `repairing` stands in the volume's
 * directory, and nobody opens the volume. New objects are written beside the old ones; the manifest switches over to them, in
 * one rename. Before it all old files are in their places, and a new run begins anew; after it only files are moved.
 */
import { VolumeError } from '../base/errors.ts';
import { CHUNK_FOLDER, parseChunkName } from '../chunk/chunk-reader.ts';
import type { Env, FileSystem } from '../env/env.ts';
import type { Manifest } from '../format/manifest.ts';
import { DirectoryStore } from '../store/directory-store.ts';
import { type ToolOptions, withLock } from './check.ts';
import { listFound, makeFolders } from './found-objects.ts';
import type { BlockRange, Finding } from './inspect-findings.ts';
import { type Inspection, inspectVolume } from './inspect.ts';
import { type RepairRoot, addManifestFinding, manifestAsItIs, readRoot } from './repair-manifest.ts';
import { type RepairPlan, planRepair } from './repair-plan.ts';
import { type RepairMarker, createMissingLogFiles, keepAside, nextFolder, readMarker, removeMarker, writeKept, writeMarker } from './repair-files.ts';
import { writeLoggedBlocks, writeWholeCheckpoint } from './repair-write.ts';
import type { UncertainChoice } from './rebuild-leaves.ts';
import { refuseRepair } from './remote-config.ts';
import { CHECKPOINT_FOLDER, OBJECT_FOLDERS, manifestCopyKey, parseCheckpointName, writeManifest } from './volume-files.ts';

export interface RepairOptions extends ToolOptions {
  /** False: only report what would be done. */
  readonly apply: boolean;
  /** What becomes of blocks whose last version cannot be told for certain; null: ask. */
  readonly uncertain: UncertainChoice | null;
}

/**
 * - `sound`: there is nothing to repair.
 * - `planned`: this is what would be done.
 * - `choice-needed`: nothing was done; somebody must say what becomes of the uncertain blocks.
 * - `repaired`: it was done, and the volume opens.
 */
export type RepairState = 'sound' | 'planned' | 'choice-needed' | 'repaired';

export interface RepairReport {
  readonly volume: string;
  readonly state: RepairState;
  readonly findings: readonly Finding[];
  /** What is (or would be) done, in order. */
  readonly steps: readonly string[];
  /** Blocks that cannot be read afterwards, until they are written. */
  readonly lost: readonly BlockRange[];
  /** Blocks that have a stored version of which nobody can say whether it was the last; with `lost` they are among those. */
  readonly uncertain: readonly BlockRange[];
  /** Blocks that get an older content back, as far as they are known. */
  readonly setBack: readonly BlockRange[];
  /** Blocks that no chunk has whole, and that come back from the log. */
  readonly restored: readonly BlockRange[];
  /** Files that are kept aside, and where, as paths within the volume's directory. */
  readonly keptAside: readonly string[];
  readonly folder: string | null;
  readonly blockSizeBytes: number;
}

/**
 * Repairs a volume, or says what a repair would do. Errors: `not-found`, `in-use`; `corrupt` and `unsupported` when neither the manifest
 * nor its copy can be read or is another volume's; `no-space`, `io-error`: run it again when the cause is gone.
 */
export function repairVolume(options: RepairOptions): Promise<RepairReport> {
  return withLock(options, async () => {
    const { env, directory, name, apply } = options;
    await refuseRepair(env.files, directory, name);
    const marker = await readMarker(env.files, directory);
    const root = await readRoot(env.files, directory, marker);
    const { manifest } = root;
    if (marker !== null && !apply) return unfinished(options, manifest, marker);
    if (marker !== null) await makeFolders(env.files, directory);
    if (marker !== null && manifest.checkpoint.epoch >= marker.epoch) {
      if (root.damage !== null) await writeManifest(env, directory, manifest);
      await finish(options, manifest, marker);
      return unfinished(options, manifest, marker);
    }
    if (marker !== null) await discardOwn(env, directory, marker);
    return planAndApply(options, root, marker);
  });
}

/** A repair that was interrupted, and (with `apply`) has been finished now. */
function unfinished({ name, apply }: RepairOptions, { blockSizeBytes }: Manifest, marker: RepairMarker): RepairReport {
  const step = apply ? 'finished the repair that had been interrupted' : 'finish the repair that was interrupted';
  return { volume: name, state: apply ? 'repaired' : 'planned', findings: [], steps: [step], lost: [], uncertain: [], setBack: [], restored: [], keptAside: marker.keep, folder: marker.folder, blockSizeBytes };
}

async function planAndApply(options: RepairOptions, root: RepairRoot, marker: RepairMarker | null): Promise<RepairReport> {
  const { env, directory, name, apply } = options;
  const { manifest } = root;
  const inspection = await inspectVolume({ ...options, manifest, deep: 'logged', uncertain: options.uncertain ?? 'lost' });
  const { findings } = inspection;
  const isSound = !findings.needRepair && marker === null && root.damage === null;
  const plan = isSound ? null : await planRepair(inspection);
  // Not before the plan: a damaged manifest says nothing against its copy.
  addManifestFinding(findings, root);
  const found = { volume: name, findings: findings.list, blockSizeBytes: manifest.blockSizeBytes };
  if (plan === null) return { ...found, state: 'sound', steps: [], lost: [], uncertain: [], setBack: [], restored: [], keptAside: [], folder: null };
  const folder = marker?.folder ?? (await nextFolder(env.files, directory));
  const { lost, uncertain, setBack, restored } = plan;
  const steps = root.damage === null ? plan.steps : [`go by ${manifestCopyKey()}, and put a new manifest in the place of the one that cannot be read`, ...plan.steps];
  const report = { ...found, steps, lost, uncertain, setBack, restored, keptAside: plan.keepAside, folder };
  if (!apply) return { ...report, state: 'planned' };
  if (uncertain.length > 0 && options.uncertain === null) return { ...report, state: 'choice-needed' };
  // What an interrupted repair had written counts from the first one on.
  const epoch = await freshEpoch(inspection);
  const next: RepairMarker = { epoch: marker?.epoch ?? epoch, folder, keep: plan.keepAside };
  const done: RepairReport = { ...report, state: 'repaired' };
  await writeMarker(env.files, directory, next);
  await makeFolders(env.files, directory);
  await writeKept(env.files, directory, folder, await manifestAsItIs(env.files, directory, manifest), done);
  const switched = await switchOver(options, inspection, plan, epoch);
  await finish(options, switched, next);
  return done;
}

/** An epoch that nothing here is of: the manifest may be older than the rest. */
async function freshEpoch({ store, manifest, log, chunks }: Inspection): Promise<number> {
  const checkpoints = (await listFound(store, CHECKPOINT_FOLDER)).map((name) => parseCheckpointName(name)?.epoch ?? 0);
  let newest = Math.max(manifest.epoch, log.newestEpoch);
  for (const epoch of [...checkpoints, ...[...chunks.values()].map((chunk) => chunk.epoch)]) newest = Math.max(newest, epoch);
  return newest + 1;
}

/** Writes the new objects and the manifest that names them; returns it. */
async function switchOver({ env, directory }: RepairOptions, inspection: Inspection, plan: RepairPlan, epoch: number): Promise<Manifest> {
  const { files } = env;
  const { manifest, log } = inspection;
  await writeManifest(env, directory, { ...manifest, epoch });
  await new DirectoryStore(files, directory, 0).prepare(OBJECT_FOLDERS);
  const written = await writeLoggedBlocks(inspection, plan, { files, directory, epoch });
  const number = (await largestCheckpoint(inspection)) + 1;
  const lastChunk = Math.max(plan.largestChunk, ...written.keys());
  const { volumeId, blockSizeBytes, createdBytes: sizeBytes } = manifest;
  await writeWholeCheckpoint(inspection, { volumeId, blockSizeBytes, sizeBytes, epoch, number, lastChunk, lastLsn: log.lastLsn }, written);
  const switched: Manifest = { ...manifest, epoch, checkpoint: { number, epoch, lastChunk, lastLsn: log.lastLsn }, cut: { epoch, lsn: log.lastLsn } };
  await writeManifest(env, directory, switched);
  return switched;
}

async function largestCheckpoint({ store, manifest }: Inspection): Promise<number> {
  const numbers = (await listFound(store, CHECKPOINT_FOLDER)).map((name) => parseCheckpointName(name)?.number ?? 0);
  return Math.max(manifest.checkpoint.number, ...numbers);
}

/** What is left to do once the manifest names the new checkpoint. */
async function finish({ env, directory }: RepairOptions, manifest: Manifest, marker: RepairMarker): Promise<void> {
  await keepAside(env.files, directory, marker);
  await createMissingLogFiles(env.files, directory, manifest.logFileCount);
  await removeMarker(env.files, directory);
}

/** Removes what an interrupted repair wrote: copies of what is still there. Nobody else can have written in its epochs. */
async function discardOwn({ files }: Env, directory: string, marker: RepairMarker): Promise<void> {
  await discard(files, directory, CHUNK_FOLDER, (name) => (parseChunkName(name)?.epoch ?? 0) >= marker.epoch);
  await discard(files, directory, CHECKPOINT_FOLDER, (name) => (parseCheckpointName(name)?.epoch ?? 0) >= marker.epoch);
}

async function discard(files: FileSystem, directory: string, folder: string, isOwn: (name: string) => boolean): Promise<void> {
  for (const name of await files.list(`${directory}/${folder}`)) if (isOwn(name)) await files.remove(`${directory}/${folder}/${name}`);
}

/** Tells a report whose repair was not done for want of a choice. */
export function choiceError(name: string, blocks: number): VolumeError {
  return new VolumeError('invalid-argument', `repair ${name}: of ${blocks} blocks a version is stored that may not be the last one; say what becomes of them: --uncertain restore (take that version) or --uncertain lost (reading them fails until they are written)`);
}
