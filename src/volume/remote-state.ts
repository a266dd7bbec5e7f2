/**
 * What a volume's bucket says: who has claimed the volume, from which root it is recovered, which objects count.
 *
 * A writer claims the next epoch by putting a claim where none is; its keys carry the epoch. What it has put counts if no later claim was there
 * afterwards: so `Ownership.check` follows each put that somebody relies on, and a later claimer, who looks after its claim, sees all that was relied on.
 */
import { VolumeError } from '../base/errors.ts';
import { CHUNK_FOLDER, parseChunkName } from '../chunk/chunk-reader.ts';
import type { Clock } from '../env/env.ts';
import { hexOf } from '../format/bytes.ts';
import { CLAIM_BYTES, type Claim, EPOCH_FOLDER, ROOT_BYTES, ROOT_FOLDER, type RemoteRoot, claimKey, decodeClaim, decodeRoot, encodeClaim, parseClaimKey, parseRootKey, releaseKey } from '../format/remote-records.ts';
import type { Manifest } from '../format/manifest.ts';
import type { RemoteObject, RemoteReader, RemoteStore } from '../store/remote-store.ts';
import { CHECKPOINT_FOLDER, parseCheckpointName } from './volume-files.ts';

/** A bucket, as it was listed. */
export interface RemoteState {
  /** The newest claim; null: the volume was never opened for writing. */
  readonly claim: Claim | null;
  /** Its writer has shipped all and is gone. */
  readonly isReleased: boolean;
  /** The newest root; null: nothing was shipped. */
  readonly root: RemoteRoot | null;
  /** Chunks and checkpoints that count, by their sizes. */
  readonly objects: ReadonlyMap<string, number>;
  /** Those that do not: of writers that had lost their epoch. */
  readonly strangers: readonly string[];
  /** Keys of all roots. */
  readonly roots: readonly string[];
  /** When each root, chunk and checkpoint was put, by the store's clock. */
  readonly putMs: ReadonlyMap<string, number>;
  /** When an object of the newest claim's epoch was last put, by the store's clock. */
  readonly lastSignMs: number;
  /** Largest number of any chunk that is there, counting or not. */
  readonly largestChunk: number;
}

/** Errors: `corrupt` (a claim or root is damaged, or another volume's), `unsupported`, and those of the store. */
export async function readRemoteState(remote: RemoteReader, volumeId: Uint8Array | null): Promise<RemoteState> {
  const claims = await listAll(remote, `${EPOCH_FOLDER}/`);
  const epoch = claims.reduce((newest, { key }) => Math.max(newest, parseClaimKey(key) ?? 0), 0);
  const claim = epoch === 0 ? null : await readRecord(remote, claimKey(epoch), CLAIM_BYTES, decodeClaim);
  const { root, roots } = await readNewestRoot(remote);
  for (const [found, name] of [[claim?.volumeId, 'claim'], [root?.manifest.volumeId, 'root']] as const) {
    if (found === undefined || volumeId === null || Buffer.compare(found, volumeId) === 0) continue;
    const { bucket, prefix } = remote.place;
    throw new VolumeError('corrupt', `s3://${bucket}/${prefix} holds another volume: its ${name} is of volume ${hexOf(found)}, ours is ${hexOf(volumeId)}. Nothing was changed; choose another prefix`);
  }
  return { claim, isReleased: claims.some(({ key }) => key === releaseKey(epoch)), root, roots: roots.map(({ key }) => key), ...(await readObjects(remote, root, epoch, claims, roots)) };
}

async function listAll(remote: RemoteReader, prefix: string): Promise<RemoteObject[]> {
  const found: RemoteObject[] = [];
  for await (const page of remote.list(prefix)) found.push(...page);
  return found;
}

/** Bits that flip on the way do not flip again and again. */
const READS_MAX = 3;

/** One byte more than it may have is asked for, so that a longer one shows. */
async function readRecord<T>(remote: RemoteReader, key: string, byteCount: number, decode: (bytes: Uint8Array, name: string) => T): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    const bytes = await remote.getWhole(key, byteCount + 1);
    try {
      return decode(bytes, key);
    } catch (error) {
      if (attempt === READS_MAX || !(error instanceof VolumeError) || error.code !== 'corrupt') throw error;
    }
  }
}

async function readNewestRoot(remote: RemoteReader): Promise<{ readonly root: RemoteRoot | null; readonly roots: readonly RemoteObject[] }> {
  const roots = await listAll(remote, `${ROOT_FOLDER}/`);
  const keys = roots.flatMap(({ key }) => {
    const parsed = parseRootKey(key);
    return parsed === null ? [] : [{ key, ...parsed }];
  });
  const newest = keys.toSorted((a, b) => a.epoch - b.epoch || a.checkpoint - b.checkpoint).at(-1);
  return { root: newest === undefined ? null : await readRecord(remote, newest.key, ROOT_BYTES, decodeRoot), roots };
}

/** Whether a chunk counts beside a root: those of later epochs do, as they were shipped behind it. */
export function countsBeside(root: RemoteRoot | null, chunk: number, epoch: number): boolean {
  return root === null || epoch >= root.manifest.epoch || chunk <= root.fenceChunk;
}

async function readObjects(remote: RemoteReader, root: RemoteRoot | null, epoch: number, claims: readonly RemoteObject[], roots: readonly RemoteObject[]): Promise<Pick<RemoteState, 'objects' | 'strangers' | 'putMs' | 'lastSignMs' | 'largestChunk'>> {
  const putMs = new Map(roots.map(({ key, modifiedMs }) => [key, modifiedMs]));
  const objects = new Map<string, number>();
  const strangers: string[] = [];
  let lastSignMs = claims.find(({ key }) => key === claimKey(epoch))?.modifiedMs ?? 0;
  for (const { key, sizeBytes, modifiedMs } of await listAll(remote, `${CHECKPOINT_FOLDER}/`)) {
    const parsed = parseCheckpointName(key.slice(CHECKPOINT_FOLDER.length + 1));
    if (parsed === null) continue;
    putMs.set(key, modifiedMs);
    objects.set(key, sizeBytes);
    if (parsed.epoch === epoch) lastSignMs = Math.max(lastSignMs, modifiedMs);
  }
  const chunks = new Map<number, { readonly key: string; readonly epoch: number; readonly sizeBytes: number }>();
  for (const { key, sizeBytes, modifiedMs } of await listAll(remote, `${CHUNK_FOLDER}/`)) {
    const parsed = parseChunkName(key.slice(CHUNK_FOLDER.length + 1));
    if (parsed === null) continue;
    putMs.set(key, modifiedMs);
    if (parsed.epoch === epoch) lastSignMs = Math.max(lastSignMs, modifiedMs);
    // A later writer gave the number away again, so it had not seen the other one: that came too late.
    const other = chunks.get(parsed.chunk);
    const isLate = !countsBeside(root, parsed.chunk, parsed.epoch) || (other !== undefined && other.epoch > parsed.epoch);
    if (isLate) strangers.push(key);
    else {
      if (other !== undefined) strangers.push(other.key);
      chunks.set(parsed.chunk, { key, epoch: parsed.epoch, sizeBytes });
    }
  }
  for (const { key, sizeBytes } of chunks.values()) objects.set(key, sizeBytes);
  return { objects, strangers, putMs, lastSignMs, largestChunk: Math.max(0, ...chunks.keys()) };
}

/** Whether one manifest says of the size of the volume what another one does. */
export function hasSameSize(one: Manifest, other: Manifest): boolean {
  return one.sizeBytes === other.sizeBytes && one.spanBytes === other.spanBytes;
}

/** The right to write a volume, until somebody else claims it. */
export class Ownership {
  readonly epoch: number;
  readonly #remote: RemoteStore;
  #lostTo: VolumeError | null = null;

  private constructor(remote: RemoteStore, epoch: number) {
    this.#remote = remote;
    this.epoch = epoch;
  }

  /** Claims an epoch. Errors: `fenced` if it is somebody else's, and those of the store. */
  static async claim(remote: RemoteStore, claim: Claim): Promise<Ownership> {
    const outcome = await remote.putIfAbsent(claimKey(claim.epoch), [encodeClaim(claim)]);
    if (outcome === 'created') return new Ownership(remote, claim.epoch);
    throw await fencedBy(remote, claim.epoch);
  }

  /** Why the volume is lost, if it is known to be. */
  get lostTo(): VolumeError | null {
    return this.#lostTo;
  }

  /** Resolves if nobody has claimed the volume when it is called, so that all that was put before counts. Errors: `fenced`, and those of the store. */
  async check(): Promise<void> {
    if (this.#lostTo !== null) throw this.#lostTo;
    if ((await this.#remote.head(claimKey(this.epoch + 1))) === null) return;
    this.#lostTo = await fencedBy(this.#remote, this.epoch + 1);
    throw this.#lostTo;
  }

  /** Says that nobody need wait for the lease. All was shipped. */
  async release(): Promise<void> {
    await this.#remote.putIfAbsent(releaseKey(this.epoch), [new Uint8Array(0)]);
  }
}

async function fencedBy(remote: RemoteStore, epoch: number): Promise<VolumeError> {
  return fencedError(await readRecord(remote, claimKey(epoch), CLAIM_BYTES, decodeClaim));
}

export function fencedError({ host, epoch, timeMs }: Pick<Claim, 'host' | 'epoch' | 'timeMs'>): VolumeError {
  return new VolumeError('fenced', `${host === '' ? 'another host' : `host ${host}`} has taken this volume over (epoch ${epoch}): what is written here does not count any more. To have it back: basalt takeover`, { context: { host, epoch, timeMs } });
}

/** How much longer the newest writer is to be waited for, in milliseconds; 0: its lease is over. */
export function leaseLeftMs({ claim, isReleased, lastSignMs }: Pick<RemoteState, 'claim' | 'isReleased' | 'lastSignMs'>, clock: Pick<Clock, 'wallMs'>): number {
  if (claim === null || isReleased) return 0;
  return Math.max(0, lastSignMs + claim.leaseMs - clock.wallMs());
}
