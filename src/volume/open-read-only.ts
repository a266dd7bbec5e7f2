/**
 * Opening a volume for reading alone, when it cannot be opened for writing because it is damaged, or its disk fails or is full. It changes
 * no file. The rule: a block is served where its newest version is known for certain, and fails to be read where it is not; a volume of
 * which any block might be older than its files say is not opened at all.
 */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { Manifest } from '../format/manifest.ts';
import { ChunkCatalogue, type ChunkFacts } from '../index/chunk-catalogue.ts';
import { type InspectedChunk, doubtOfChain, lastGap } from './inspect-chunks.ts';
import { isDamage } from './inspect-findings.ts';
import { summarizeRecord } from './inspect-log.ts';
import { type Inspection, inspectVolume } from './inspect.ts';
import { type LoadOptions, makeCore } from './load-stored.ts';
import { type LoggedBlock, LoggedBlocks, applyRecord, applyVersions } from './logged-blocks.ts';
import { type OpenVolumeOptions, openVolume, takeLock } from './open-volume.ts';
import { letGo, loadForReading } from './probe-volume.ts';
import { ReadOnlyVolume } from './read-only-volume.ts';
import { readRemoteConfig } from './remote-config.ts';
import { refuseForeignManifest } from './repair-plan.ts';
import type { VolumeCore } from './volume-core.ts';
import { readManifest, refuseWhileRepairing } from './volume-files.ts';
import type { Volume } from './volume.ts';

/**
 * Opens a volume for writing if that can be, else for reading. Errors: as `openVolume`; `corrupt` where nothing that is read could be
 * known to be right, saying why.
 */
export async function openForServing(options: OpenVolumeOptions & { readonly name: string }): Promise<Volume | ReadOnlyVolume> {
  try {
    return await openVolume(options);
  } catch (error) {
    if (!(error instanceof VolumeError) || !(error.code === 'no-space' || (error.code !== 'not-found' && isDamage(error)))) throw error;
    // What is here of one that has a bucket is a part of it.
    if ((await readRemoteConfig(options.env.files, options.directory)) !== null) throw error;
    const volume = await openReadOnly(options, error);
    options.env.logger.log('warn', 'volume-read-only', { volume: options.name, error });
    return volume;
  }
}

/** Opens a volume for reading after opening it for writing failed with `cause`. Changes nothing. Errors: as `openForServing`. */
export async function openReadOnly(options: OpenVolumeOptions & { readonly name: string }, cause: VolumeError): Promise<ReadOnlyVolume> {
  const { env, directory, name } = options;
  const lock = await takeLock(env, directory, name);
  const opening = new ReadOnlyOpening(options);
  try {
    const manifest = await readManifest(env.files, directory);
    await refuseWhileRepairing(env.files, directory, name);
    const { core, logged } = cause.code === 'no-space' ? await opening.loadSound(manifest) : await opening.loadDamaged(manifest, cause);
    const log = new LoggedBlocks({ files: env.files, directory }, manifest.blockSizeBytes);
    return new ReadOnlyVolume({ core, logged, log, lock, reason: withConsequence(cause, name) });
  } catch (error) {
    await opening.undo();
    await lock.release();
    if (error instanceof Undecided) throw new VolumeError('corrupt', `${cause.message}. It is not opened for reading either: ${error.message}`, { cause, context: cause.context });
    // What kept it from being opened for writing is the reason to tell, if reading failed over the same.
    throw error instanceof VolumeError && error.code === 'corrupt' ? cause : toVolumeError(error, `opening volume ${name} for reading`);
  }
}

function withConsequence(cause: VolumeError, name: string): VolumeError {
  if (cause.code === 'corrupt') return cause;
  const consequence = cause.code === 'no-space' ? 'until then it can be read only' : `it can be read only, as far as the disk can be read; basalt check ${name} says more`;
  return new VolumeError(cause.code, `${cause.message}; ${consequence}`, { cause, context: cause.context });
}

/** Nobody can say which blocks are as they were last. */
class Undecided extends Error {}

/** The volume before the log, and what the log has. */
interface Loaded {
  readonly core: VolumeCore;
  readonly logged: ReadonlyMap<number, LoggedBlock>;
}

class ReadOnlyOpening {
  readonly #options: LoadOptions;
  #core: VolumeCore | null = null;

  constructor(options: LoadOptions) {
    this.#options = options;
  }

  async undo(): Promise<void> {
    await letGo(this.#core);
  }

  /** Loads a volume that is not damaged, as an opening for writing does. */
  async loadSound(manifest: Manifest): Promise<Loaded> {
    const logged = new Map<number, LoggedBlock>();
    const made = (core: VolumeCore): void => {
      this.#core = core;
    };
    const core = await loadForReading(this.#options, manifest, made, ({ map }, replayed) => applyRecord(map, summarizeRecord(replayed), logged));
    return { core, logged };
  }

  /** Loads what is certain of a volume that was not opened because of `cause`. Throws `Undecided` where nothing is. */
  async loadDamaged(manifest: Manifest, cause: VolumeError): Promise<Loaded> {
    const inspection = await inspectVolume({ ...this.#options, manifest, deep: false, uncertain: 'lost', onProgress: this.#options.onProgress ?? (() => undefined) });
    refuseForeignManifest(inspection);
    const doubt = doubtOf(inspection);
    // Damage that kept it from being opened was named there; another cause says nothing of it.
    const [first] = cause.code === 'corrupt' ? [] : inspection.findings.list;
    if (doubt !== null) throw new Undecided(first === undefined ? doubt : `${doubt} (${first.file}: ${first.problem})`);
    const { local: store, map, log, chunks } = inspection;
    const logged = new Map<number, LoggedBlock>();
    for (const record of log.records) await applyRecord(map, record, logged);
    await applyVersions(map, inspection.restored, logged);
    const catalogue = new ChunkCatalogue(manifest.blockSizeBytes);
    for (const chunk of chunks.values()) {
      const facts = isTrusted(inspection, chunk) ? { epoch: chunk.epoch, blockCount: chunk.blockCount, objectBytes: chunk.sizeBytes } : factsOfUnread(inspection, chunk);
      if (facts !== undefined) catalogue.add(chunk.chunk, facts);
    }
    this.#core = makeCore(this.#options, { store, manifest, map, catalogue });
    return { core: this.#core, logged };
  }
}

/** Whether a chunk is the one that the map means; blocks of others cannot be read. */
function isTrusted({ checkpoint, chain, manifest }: Inspection, { chunk, epoch, fault, blockCount, sizeBytes }: InspectedChunk): boolean {
  if (fault !== null) return false;
  if (chunk > manifest.checkpoint.lastChunk) return !chain.unplaced.some((other) => other.chunk === chunk);
  const said = checkpoint.catalogue.get(chunk);
  if (said === undefined) return !checkpoint.catalogueIsSound;
  return said.epoch === epoch && said.blockCount === blockCount && said.objectBytes === sizeBytes;
}

/** What the checkpoint says of a chunk that the disk did not read during the opening. Who reads it later finds it as it is, and each of its blocks is checked then. */
function factsOfUnread({ checkpoint, manifest }: Inspection, { chunk, epoch, fault }: InspectedChunk): Omit<ChunkFacts, 'liveBlocks'> | undefined {
  if (fault?.isUnread !== true || chunk > manifest.checkpoint.lastChunk || !checkpoint.catalogueIsSound) return undefined;
  const said = checkpoint.catalogue.get(chunk);
  return said?.epoch === epoch ? said : undefined;
}

/** Why any block might be older than it seems; null if it is known of each whether it is. */
export function doubtOf({ log, chain, checkpoint, rebuilt, chunks, manifest }: Inspection): string | null {
  if (log.missesRecords) return 'which blocks the missing records of the log wrote is not known, so that any block may be older than it was';
  if (log.isDoubtful) return 'the newest records may have stood where the log cannot be read, so that any block may be older than it was';
  const cutOff = doubtOfChain(chain, log.lastLsn);
  if (cutOff !== null) return cutOff;
  // The catalogue proves which of the versions found is the last one; without it only a history without gaps does.
  const isProven = rebuilt === null || checkpoint.catalogueIsSound || lastGap(chunks, manifest.checkpoint.lastChunk) === 0;
  return isProven ? null : 'neither the block map nor the catalogue of the chunks can be read, so that nobody can say which version of a block was its last';
}
