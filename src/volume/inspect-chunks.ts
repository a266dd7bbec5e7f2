/** The chunks of a volume, looked at one by one, and the chain of sets behind the checkpoint as far as it is sound. */
import { forEachLimited } from '../base/async.ts';
import { checksum, formatChecksum } from '../base/checksum.ts';
import { toVolumeError } from '../base/errors.ts';
import { CHUNK_FOLDER, type ChunkReaderOptions, chunkKey, parseChunkName, readChunkIdentity, readChunkTables } from '../chunk/chunk-reader.ts';
import { FrameReader } from '../chunk/frame-reader.ts';
import { extentOf, readSlots } from '../chunk/stored-blocks.ts';
import type { ChunkIdentity, ChunkTables } from '../format/chunk-layout.ts';
import type { Manifest } from '../format/manifest.ts';
import type { ObjectOpener, ObjectSource, StoredObject } from '../store/object-store.ts';
import { listFound } from './found-objects.ts';
import { type Fault, type Findings, type OnProgress, faultOf, isDamage } from './inspect-findings.ts';

export interface InspectedChunk {
  readonly chunk: number;
  readonly epoch: number;
  readonly key: string;
  readonly sizeBytes: number;
  /** Null: its header cannot be read. */
  readonly identity: ChunkIdentity | null;
  /** What is wrong with its header, footer or tables; null if nothing is. A block may fail its checksum all the same. */
  readonly fault: Fault | null;
  readonly blockCount: number;
  /** What a deep check found, ascending by slot. */
  readonly badBlocks: readonly BadBlock[];
}

/** A block that fails its checksum, or cannot be read at all. */
export interface BadBlock {
  readonly slot: number;
  readonly blockNumber: number;
  readonly offsetBytes: number;
  readonly problem: string;
  /** As the chunk's table has it. */
  readonly checksum: number;
}

/** Consecutive chunks that are durable only together. */
export interface InspectedSet {
  readonly previousChunk: number;
  readonly lastChunk: number;
  readonly firstLsn: number;
  readonly lastLsn: number;
  readonly parts: number;
  readonly chunks: readonly InspectedChunk[];
  /** All parts are there, and sound. */
  readonly isWhole: boolean;
}

export interface ChunkChain {
  /** Sets behind the checkpoint, in order, each going on where the one before it ends. */
  readonly sets: readonly InspectedSet[];
  /** Last chunk and last LSN of the chain. */
  readonly lastChunk: number;
  readonly lastLsn: number;
  /** Chunks behind the checkpoint that are not in the chain, though they were published once: something before them is damaged. */
  readonly unplaced: readonly InspectedChunk[];
  /** Those of them that damage keeps out of the chain; the others were being published when the process ended. */
  readonly cutOff: readonly InspectedChunk[];
}

/** Blocks that are read at once in a deep check. */
const READ_BYTES = 1024 * 1024;
/** The same while clients wait for their turn. */
const PACED_READ_BYTES = 256 * 1024;

export interface ChunkInspection {
  readonly store: ObjectOpener;
  readonly manifest: Manifest;
  /** Whether blocks are read, too; or of which chunks: those with records of that LSN or later ones. */
  readonly deep: boolean | { readonly fromLsn: number };
  /** Told of bytes that were read; the next ones are read when it resolves. */
  readonly pace?: (bytes: number) => Promise<void>;
  /** Told of tables that are sound. */
  readonly onTables?: (tables: ChunkTables) => void;
}

export function chunkExpectations({ volumeId, blockSizeBytes, spanBytes }: Manifest): Pick<ChunkReaderOptions, 'volumeId' | 'blockSizeBytes' | 'volumeBlocks'> {
  return { volumeId, blockSizeBytes, volumeBlocks: spanBytes / blockSizeBytes };
}

/** Every chunk there is, by number, in order. `isDoubted`: whether to read one again that is damaged, as bits may flip on the way. */
export async function inspectChunks(inspection: ChunkInspection & { readonly store: ObjectSource; readonly findings: Findings; readonly readsAtOnce?: number; readonly isDoubted?: (key: string) => boolean; readonly onProgress: OnProgress }): Promise<Map<number, InspectedChunk>> {
  const { store, findings, readsAtOnce = 1, isDoubted = () => false, onProgress } = inspection;
  const found: { chunk: number; epoch: number }[] = [];
  for (const name of await listFound(store, CHUNK_FOLDER)) {
    const parsed = parseChunkName(name);
    if (parsed === null) findings.notes.push(`${CHUNK_FOLDER}/${name} is no file of basalt's; it is left alone`);
    else found.push(parsed);
  }
  found.sort((a, b) => a.chunk - b.chunk || a.epoch - b.epoch);
  const looks: InspectedChunk[] = [];
  let done = 0;
  await forEachLimited([...found.entries()], readsAtOnce, async ([index, { chunk, epoch }]) => {
    onProgress({ task: 'chunks', done, total: found.length });
    let look = await inspectChunk(inspection, chunk, epoch);
    while ((look.fault !== null || look.badBlocks.length > 0) && isDoubted(look.key)) look = await inspectChunk(inspection, chunk, epoch);
    looks[index] = look;
    done += 1;
  });
  const chunks = new Map<number, InspectedChunk>();
  for (const inspected of looks) {
    const { chunk, epoch } = inspected;
    const other = chunks.get(chunk);
    // Which of the two is right nobody can say: neither of them counts.
    const fault = other === undefined ? inspected.fault : { offsetBytes: null, problem: `chunk ${chunk} is there twice, of epochs ${other.epoch} and ${epoch}` };
    chunks.set(chunk, { ...inspected, fault });
  }
  onProgress({ task: 'chunks', done: found.length, total: found.length });
  return chunks;
}

/** Looks at one chunk. Throws what is no damage. */
export async function inspectChunk(inspection: Omit<ChunkInspection, 'store'> & { readonly store: ObjectOpener }, chunk: number, epoch: number): Promise<InspectedChunk> {
  const { store, manifest, deep, pace } = inspection;
  const key = chunkKey(epoch, chunk);
  let object: StoredObject;
  try {
    object = await store.open(key);
  } catch (error) {
    return { chunk, epoch, key, sizeBytes: 0, identity: null, fault: faultOf(key, error), blockCount: 0, badBlocks: [] };
  }
  let identity: ChunkIdentity | null = null;
  const { sizeBytes } = object;
  try {
    identity = await readChunkIdentity(object, manifest, chunk, key);
    const { tables, footer } = await readChunkTables(object, chunkExpectations(manifest), chunk, key);
    await pace?.(footer.tablesLength);
    const blockCount = tables.blockNumbers.length;
    if (identity.epoch !== epoch) {
      const fault = { offsetBytes: 32, problem: `is of epoch ${identity.epoch}, expected epoch ${epoch}` };
      return { chunk, epoch, key, sizeBytes, identity: null, fault, blockCount, badBlocks: [] };
    }
    inspection.onTables?.(tables);
    const isDeep = typeof deep === 'boolean' ? deep : identity.lastLsn >= deep.fromLsn;
    const badBlocks = isDeep ? await findBadBlocks(object, tables, { key, blockSizeBytes: manifest.blockSizeBytes, pace }) : [];
    return { chunk, epoch, key, sizeBytes, identity, fault: null, blockCount, badBlocks };
  } catch (error) {
    return { chunk, epoch, key, sizeBytes, identity, fault: faultOf(key, error), blockCount: 0, badBlocks: [] };
  } finally {
    await object.close();
  }
}

async function findBadBlocks(object: StoredObject, tables: ChunkTables, options: { readonly key: string; readonly blockSizeBytes: number; readonly pace: ChunkInspection['pace'] }): Promise<BadBlock[]> {
  const { key, blockSizeBytes, pace } = options;
  const most = Math.max(1, Math.floor((pace === undefined ? READ_BYTES : PACED_READ_BYTES) / blockSizeBytes));
  const buffer = new Uint8Array(most * blockSizeBytes);
  const bad: BadBlock[] = [];
  // Nothing is kept: what is on the disk is looked at.
  const source = { object, tables, blockSizeBytes, key, frames: new FrameReader(0) };
  const readOrFault = (slot: number, target: Uint8Array): Promise<string | null> => faultOfRead(() => readSlots(source, slot, target));
  for (let slot = 0; slot < tables.blockNumbers.length; ) {
    const run = Math.min(most, tables.blockNumbers.length - slot);
    const whole = await readOrFault(slot, buffer.subarray(0, run * blockSizeBytes));
    for (let i = 0; i < run; i += 1) {
      const bytes = buffer.subarray(i * blockSizeBytes, (i + 1) * blockSizeBytes);
      // A bad sector, or a bad frame, fails the reading of its neighbours, too: each is tried alone then.
      const fault = whole === null ? null : await readOrFault(slot + i, bytes);
      const problem = fault ?? checksumFault(bytes, tables.checksums[slot + i]);
      const { offset } = extentOf(tables, slot + i, blockSizeBytes);
      if (problem !== null) bad.push({ slot: slot + i, blockNumber: tables.blockNumbers[slot + i], offsetBytes: offset, problem, checksum: tables.checksums[slot + i] });
    }
    slot += run;
    await pace?.(run * blockSizeBytes);
  }
  return bad;
}

function checksumFault(bytes: Uint8Array, expected: number): string | null {
  const computed = checksum(bytes);
  return computed === expected ? null : `checksum ${formatChecksum(computed)}, expected ${formatChecksum(expected)}`;
}

/** Why the bytes cannot be read, or null. Throws what is no damage. */
async function faultOfRead(read: () => Promise<void>): Promise<string | null> {
  try {
    await read();
    return null;
  } catch (cause) {
    const error = toVolumeError(cause, 'reading a block');
    if (!isDamage(error)) throw error;
    return error.message;
  }
}

/** The sets that chunks belong to, as far as their headers tell. */
function gatherSets(chunks: Iterable<InspectedChunk>): InspectedSet[] {
  const sets = new Map<string, { identity: ChunkIdentity; chunks: InspectedChunk[] }>();
  for (const inspected of chunks) {
    const { identity, chunk, epoch } = inspected;
    if (identity === null) continue;
    const key = `${epoch}:${chunk - identity.part + 1}`;
    const set = sets.get(key) ?? { identity, chunks: [] };
    sets.set(key, set);
    set.chunks.push(inspected);
  }
  return [...sets.values()].map(({ identity, chunks: parts }) => ({
    previousChunk: identity.previousChunk,
    lastChunk: identity.chunkNumber - identity.part + identity.parts,
    firstLsn: identity.firstLsn,
    lastLsn: identity.lastLsn,
    parts: identity.parts,
    chunks: parts,
    isWhole: parts.length === identity.parts && parts.every((part, index) => isPart(part, identity, index + 1)),
  }));
}

function isPart({ identity, fault }: InspectedChunk, first: ChunkIdentity, part: number): boolean {
  if (identity === null || fault !== null || identity.part !== part) return false;
  return identity.parts === first.parts && identity.previousChunk === first.previousChunk && identity.firstLsn === first.firstLsn && identity.lastLsn === first.lastLsn;
}

/** Follows the chain from the checkpoint on, as recovery does. */
export function followChain(manifest: Manifest, chunks: ReadonlyMap<number, InspectedChunk>, findings: Findings): ChunkChain {
  let { lastChunk, lastLsn } = manifest.checkpoint;
  const gathered = gatherSets([...chunks.values()].filter(({ chunk }) => chunk > manifest.checkpoint.lastChunk));
  const passed = new Set<number>();
  const sets: InspectedSet[] = [];
  for (;;) {
    passed.add(lastChunk);
    const next = gathered.filter((set) => set.previousChunk === lastChunk && set.isWhole);
    const [set] = next;
    if (next.length > 1) findings.broken(next[1].chunks[0].key, 64, `follows chunk ${lastChunk}, as ${set.chunks[0].key} does; one set of chunks can`);
    if (next.length !== 1) break;
    if (set.firstLsn !== lastLsn + 1) {
      findings.broken(set.chunks[0].key, 48, `begins with LSN ${set.firstLsn}, expected LSN ${lastLsn + 1}`);
      break;
    }
    sets.push(set);
    ({ lastChunk, lastLsn } = set);
  }
  const placed = new Set(sets.flatMap((set) => set.chunks.map(({ chunk }) => chunk)));
  const unplaced = [...chunks.values()].filter(({ chunk }) => chunk > manifest.checkpoint.lastChunk && !placed.has(chunk));
  const interrupted = noteUnplaced(gathered, unplaced, passed, findings);
  return { sets, lastChunk, lastLsn, unplaced, cutOff: unplaced.filter(({ chunk }) => !interrupted.has(chunk)) };
}

/** Returns the chunks that were being published when the process ended. */
function noteUnplaced(gathered: readonly InspectedSet[], unplaced: readonly InspectedChunk[], passed: ReadonlySet<number>, findings: Findings): Set<number> {
  const interrupted = new Set<number>();
  for (const set of gathered) {
    const { key, chunk } = set.chunks[0];
    if (!unplaced.some((other) => other.chunk === chunk)) continue;
    if (!passed.has(set.previousChunk)) findings.broken(key, 64, `follows chunk ${set.previousChunk}, which is missing or not whole`);
    else if (!set.isWhole && set.chunks.every(({ fault }) => fault === null)) {
      findings.notes.push(`${key} and what belongs to it were being published when the process ended; their records are in the log`);
      for (const part of set.chunks) interrupted.add(part.chunk);
    }
  }
  return interrupted;
}

/** What stands in chunks behind damage must be in the log as well. */
export function doubtOfChain({ cutOff, unplaced }: ChunkChain, lastLsn: number): string | null {
  if (cutOff.length === 0) return null;
  let knownChunk = 0;
  let knownLsn = 0;
  for (const { identity } of unplaced) {
    if (identity === null) continue;
    knownChunk = Math.max(knownChunk, identity.chunkNumber - identity.part + identity.parts);
    knownLsn = Math.max(knownLsn, identity.lastLsn);
  }
  // Chunks stand in the order of their LSNs: one whose header cannot be read ends no later than a known one behind it.
  const unknown = cutOff.find(({ chunk }) => chunk > knownChunk);
  if (unknown !== undefined) return `which blocks ${chunkKey(unknown.epoch, unknown.chunk)} has is not known, so that any block may be older than it was`;
  return knownLsn <= lastLsn ? null : `${chunkKey(cutOff[0].epoch, cutOff[0].chunk)} and what follows has records up to LSN ${knownLsn}, the log up to LSN ${lastLsn} alone, so that any block may be older than it was`;
}

/**
 * Of the chunks up to `lastChunk`: the last one of which it is not certain that all that came after it is still there. 0: nothing
 * ever went away.
 */
export function lastGap(chunks: ReadonlyMap<number, InspectedChunk>, lastChunk: number): number {
  const ends = new Map(gatherSets(chunks.values()).filter(({ isWhole }) => isWhole).map((set) => [set.lastChunk, set.previousChunk]));
  let at = lastChunk;
  for (;;) {
    const previous = ends.get(at);
    if (at === 0 || previous === undefined) return at;
    at = previous;
  }
}
