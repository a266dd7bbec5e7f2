/** `basalt check`: looks at all of a volume that nobody has open, and reports everything that is wrong with it. Changes nothing. */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { EngineSettings } from '../base/settings-types.ts';
import type { Env } from '../env/env.ts';
import { type BlockRange, type Finding, type OnProgress, REPAIR_ADVICE, faultOf, isDamage } from './inspect-findings.ts';
import type { BucketLook } from './check-remote.ts';
import type { Inspection } from './inspect.ts';
import { takeLock } from './open-volume.ts';
import type { RemoteAccess } from './attach-remote.ts';
import { remotePath } from './remote-config.ts';
import { withInspection } from './tool-source.ts';
import { takeoverAdvice, manifestCopyKey, manifestKey, readManifest, readManifestCopy, repairPath } from './volume-files.ts';

export interface ToolOptions {
  readonly env: Env;
  readonly name: string;
  /** The volume's directory. */
  readonly directory: string;
  readonly settings: EngineSettings;
  /** For a volume that has a bucket. */
  readonly remotes?: RemoteAccess;
  readonly onProgress: OnProgress;
}

export interface CheckReport {
  readonly volume: string;
  /** Whether every block was read, too. */
  readonly deep: boolean;
  readonly isClean: boolean;
  readonly findings: readonly Finding[];
  /** What is worth knowing but does no harm. */
  readonly notes: readonly string[];
  /** Blocks that cannot be had back from anything that is there; blocks that fail their checksum are with their findings. */
  readonly lost: readonly BlockRange[];
  readonly chunks: number;
  readonly leaves: number;
  readonly logRecords: number;
  /** Null when the manifest cannot be read. */
  readonly lastLsn: number | null;
  readonly blockSizeBytes: number | null;
  /** Of a look at the bucket alone, unless its beginning is damaged; null: at what is here, and what is not here of it in the bucket. */
  readonly bucket: BucketLook | null;
}

/** Runs `task` while nobody else can open the volume. Errors: `not-found`, `in-use`, and what `task` rejects with. */
export async function withLock<T>({ env, directory, name }: ToolOptions, task: () => Promise<T>): Promise<T> {
  const lock = await takeLock(env, directory, name);
  try {
    return await task();
  } catch (error) {
    throw toVolumeError(error, `looking at volume ${name}`);
  } finally {
    await lock.release();
  }
}

/** Checks a volume. Errors: `not-found`, `in-use`, `unsupported`, `io-error` for a system that fails; damage is in the report. */
export function checkVolume(options: ToolOptions & { readonly deep: boolean }): Promise<CheckReport> {
  return withLock(options, async () => {
    const { env, directory, name, deep } = options;
    if (await env.files.exists(repairPath(directory))) return interrupted(name, deep);
    const manifest = await readManifest(env.files, directory).catch((error: unknown) => damageOf(error));
    const copy = await readManifestCopy(env.files, directory).catch((error: unknown) => damageOf(error));
    const hasBucket = await env.files.exists(remotePath(directory));
    if (manifest instanceof VolumeError) return withoutManifest(options, manifest, { isCopied: !(copy instanceof VolumeError), hasBucket });
    return withInspection({ ...options, manifest, uncertain: 'lost' }, (inspection) => {
      // A volume of a basalt that made no copies has none.
      if (copy instanceof VolumeError && copy.code === 'corrupt') inspection.findings.notes.push(`${copy.message}; the next opening for writing makes it anew`);
      return reportOf(options, inspection);
    });
  });
}

/** The error, if it says that the manifest is damaged; thrown on otherwise. */
function damageOf(error: unknown): VolumeError {
  const failure = toVolumeError(error, 'reading the manifest');
  if (isDamage(failure)) return failure;
  throw error;
}

async function reportOf({ env, directory, name: volume, deep }: ToolOptions & { readonly deep: boolean }, { findings, lost, chunks, checkpoint, log, manifest }: Inspection): Promise<CheckReport> {
  const { notes } = findings;
  const remedy = (await env.files.exists(remotePath(directory))) ? `run: ${takeoverAdvice(volume)}` : `${REPAIR_ADVICE} ${volume}`;
  const list = findings.list.map((finding) => (finding.advice === REPAIR_ADVICE ? { ...finding, advice: remedy } : finding));
  const { blockSizeBytes } = manifest;
  return { volume, deep, isClean: list.length === 0, findings: list, notes, lost: lost.list, chunks: chunks.size, leaves: checkpoint.leaves.size, logRecords: log.records.length, lastLsn: log.lastLsn, blockSizeBytes, bucket: null };
}

const NOTHING = { notes: [], lost: [], chunks: 0, leaves: 0, logRecords: 0, lastLsn: null, blockSizeBytes: null, bucket: null };

function withoutManifest({ name: volume, deep }: ToolOptions & { readonly deep: boolean }, error: VolumeError, { isCopied, hasBucket }: { readonly isCopied: boolean; readonly hasBucket: boolean }): CheckReport {
  const file = manifestKey();
  const noCopy = 'without it, and without a copy of it, nothing can be said of the other files, and the volume cannot be opened or repaired; put the manifest of a backup in its place (the other files may be newer than it) and check again';
  const ofFiles = isCopied ? `${REPAIR_ADVICE} ${volume}; it goes by the copy, ${manifestCopyKey()}, and says what of the other files is damaged` : noCopy;
  const advice = hasBucket ? `run: ${takeoverAdvice(volume)}` : ofFiles;
  return { ...NOTHING, volume, deep, isClean: false, findings: [{ file, ...faultOf(file, error), lost: [], advice, needsRepair: isCopied && !hasBucket }] };
}

function interrupted(volume: string, deep: boolean): CheckReport {
  const problem = 'a repair was interrupted; until it is finished the files do not fit together';
  return { ...NOTHING, volume, deep, isClean: false, findings: [{ file: 'repairing', offsetBytes: null, problem, lost: [], advice: `run: basalt repair ${volume} --yes`, needsRepair: true }] };
}
