/** What tools look at of a volume that has a bucket: what is here, and behind it what the bucket alone has. */
import { VolumeError } from '../base/errors.ts';
import { CHUNK_FOLDER } from '../chunk/chunk-reader.ts';
import { BucketView, TieredView } from '../store/bucket-view.ts';
import { DirectoryStore } from '../store/directory-store.ts';
import type { RemoteStore } from '../store/remote-store.ts';
import { awayOf } from './attach-remote.ts';
import type { ToolOptions } from './check.ts';
import { type Inspection, type InspectOptions, inspectVolume } from './inspect.ts';
import { readFollowing } from './following.ts';
import { type RemoteConfig, readRemoteConfig } from './remote-config.ts';
import { fencedError, readRemoteState } from './remote-state.ts';
import { followsOther } from './volume-files.ts';

const READS_AT_ONCE = 8;

export interface OpenBucket {
  readonly config: RemoteConfig;
  readonly remote: RemoteStore;
}

/** Null: the volume has no bucket. Errors: `corrupt`, `unsupported` (it is only followed here, or this program opens no buckets), and those of the store. */
export async function openBucket({ env, directory, name, remotes }: ToolOptions): Promise<OpenBucket | null> {
  const config = await readRemoteConfig(env.files, directory);
  if (config === null && (await readFollowing(env.files, directory)) !== null) throw followsOther(name);
  if (config === null) return null;
  if (remotes === undefined) throw new VolumeError('unsupported', `volume ${name} has a bucket, ${config.url}, which this program cannot open`);
  return { config, remote: await remotes.open(config) };
}

/**
 * Runs `task` with what a look at the volume finds; the caller has its lock. Of one that has a bucket, damage here does not count where the bucket is sound: an opening
 * makes it anew from there. Errors: as `inspectVolume`; `fenced` (another host has the volume), and those of the store.
 */
export async function withInspection<T>(options: ToolOptions & Omit<InspectOptions, 'source'>, task: (inspection: Inspection) => Promise<T>): Promise<T> {
  const bucket = await openBucket(options);
  if (bucket === null) return task(await inspectVolume(options));
  try {
    return await task(await inspectTiers(options, bucket));
  } finally {
    bucket.remote.close();
  }
}

async function inspectTiers(options: ToolOptions & Omit<InspectOptions, 'source'>, { config, remote }: OpenBucket): Promise<Inspection> {
  const { env, directory, manifest } = options;
  const state = await readRemoteState(remote, manifest.volumeId);
  if (state.claim !== null && Buffer.from(state.claim.writer).toString('hex') !== config.writer) throw fencedError(state.claim);
  const local = new DirectoryStore(env.files, directory, 0);
  const here = new Set((await local.list(CHUNK_FOLDER).catch(() => [])).map((name) => `${CHUNK_FOLDER}/${name}`));
  const isAway = await awayOf({ local, manifest }, remote, state, here);
  const view = new BucketView(remote, new Map([...state.objects].filter(([key]) => here.has(key) || isAway(key))));
  const distrusted = new Map<string, string>();
  for (;;) {
    const store = new TieredView(local, view, new Set(distrusted.keys()));
    const inspection = await inspectVolume({ ...options, source: { store, readsAtOnce: READS_AT_ONCE, isDoubted: (key) => distrusted.has(key) && view.doubt(key), isAlone: false } });
    const doubtful = inspection.findings.list.filter(({ file }) => view.has(file) && !distrusted.has(file));
    if (doubtful.length === 0) {
      for (const [file, problem] of distrusted) if (!inspection.findings.list.some((finding) => finding.file === file)) inspection.findings.notes.push(`${file}: ${problem}; the bucket has it sound, and it is written anew from there when it is read, or scrubbed`);
      return inspection;
    }
    for (const { file, problem } of doubtful) distrusted.set(file, problem);
  }
}
