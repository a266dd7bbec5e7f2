/** The manifest that a repair goes by: the one that is there, or its copy where that cannot be read. */
import { type VolumeError, toVolumeError } from '../base/errors.ts';
import type { FileSystem } from '../env/env.ts';
import { readU64, viewOf } from '../format/bytes.ts';
import { CHECKPOINT_HEADER_BYTES } from '../format/checkpoint-layout.ts';
import { type CheckpointReference, type Manifest, encodeManifest } from '../format/manifest.ts';
import { DirectoryStore } from '../store/directory-store.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { listFound } from './found-objects.ts';
import { inspectCheckpoint } from './inspect-checkpoint.ts';
import { Findings, faultOf, isDamage } from './inspect-findings.ts';
import type { RepairMarker } from './repair-files.ts';
import { CHECKPOINT_FOLDER, checkpointKey, manifestKey, manifestPath, parseCheckpointName, readManifest, readManifestCopy } from './volume-files.ts';

/** Far more than a manifest has. */
const MAX_KEPT_BYTES = 64 * 1024;

export interface RepairRoot {
  readonly manifest: Manifest;
  /** Why the manifest itself cannot be read; null: it can, and is what `manifest` says. */
  readonly damage: VolumeError | null;
}

/** Errors: those of the manifest, if its copy cannot be read either. */
export async function readRoot(files: FileSystem, directory: string, marker: RepairMarker | null): Promise<RepairRoot> {
  try {
    return { manifest: await readManifest(files, directory), damage: null };
  } catch (cause) {
    const damage = toVolumeError(cause, `reading ${manifestPath(directory)}`);
    const copy = isDamage(damage) ? await readManifestCopy(files, directory).catch(() => null) : null;
    if (copy === null) throw damage;
    return { manifest: await caughtUp(new DirectoryStore(files, directory, 0), copy, marker), damage };
  }
}

/**
 * The copy may be older than the manifest was, and what an older checkpoint needs may have been removed. A newer one that is whole is the
 * volume's, whether the manifest had named it yet or not: it stands for chunks that are durable.
 */
async function caughtUp(store: ObjectStore, copy: Manifest, marker: RepairMarker | null): Promise<Manifest> {
  const found = (await listFound(store, CHECKPOINT_FOLDER)).map((name) => parseCheckpointName(name));
  const newer = found.filter((parsed) => parsed !== null).filter(({ number }) => number > copy.checkpoint.number);
  for (const { number, epoch } of newer.toSorted((a, b) => b.number - a.number || b.epoch - a.epoch)) {
    const checkpoint = await wholeCheckpoint(store, copy, number, epoch);
    if (checkpoint === null) continue;
    // The one that an interrupted repair wrote ends the history where that repair ended it.
    const isOfRepair = marker !== null && epoch >= marker.epoch;
    if (isOfRepair) return { ...copy, epoch: Math.max(copy.epoch, epoch), checkpoint, cut: { epoch, lsn: checkpoint.lastLsn } };
    // Where the opening of a later epoch cut the log off nobody knows: the copy stays one of its own epoch (`inspect-log.ts`).
    return { ...copy, checkpoint };
  }
  return copy;
}

/** What a checkpoint says of itself, if its root, nodes and catalogue can be read. */
async function wholeCheckpoint(store: ObjectStore, manifest: Manifest, number: number, epoch: number): Promise<CheckpointReference | null> {
  const key = checkpointKey(epoch, number);
  try {
    const object = await store.open(key);
    const header = new Uint8Array(CHECKPOINT_HEADER_BYTES);
    try {
      await object.read(header, 0);
    } finally {
      await object.close();
    }
    const view = viewOf(header);
    // All of the header is compared with what is taken from it here, and its checksum with what is expected.
    const checkpoint = { number, epoch, lastChunk: readU64(view, 48), lastLsn: readU64(view, 56) };
    const findings = new Findings();
    await inspectCheckpoint(store, { ...manifest, checkpoint }, findings);
    return findings.needRepair ? null : checkpoint;
  } catch (error) {
    if (!isDamage(toVolumeError(error, `reading ${key}`))) throw error;
    return null;
  }
}

/** The findings with that of the manifest, if it is damaged. */
export function addManifestFinding(findings: Findings, { damage }: RepairRoot): void {
  if (damage === null) return;
  const { offsetBytes, problem } = faultOf(manifestKey(), damage);
  findings.broken(manifestKey(), offsetBytes, problem);
}

/** The manifest's bytes as they are, to be kept; of one that is missing those of `manifest`. */
export async function manifestAsItIs(files: FileSystem, directory: string, manifest: Manifest): Promise<Uint8Array> {
  const path = manifestPath(directory);
  if (!(await files.exists(path))) return encodeManifest(manifest);
  const file = await files.open(path, 'read');
  try {
    const bytes = new Uint8Array(Math.min(await file.sizeBytes(), MAX_KEPT_BYTES));
    return bytes.subarray(0, await file.read(bytes, 0));
  } catch (error) {
    // What the disk cannot read cannot be kept either.
    if (!isDamage(toVolumeError(error, `reading ${path}`))) throw error;
    return encodeManifest(manifest);
  } finally {
    await file.close();
  }
}
