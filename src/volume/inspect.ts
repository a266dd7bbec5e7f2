/**
 * Looking at a volume that nobody has open: every structure, every reference, every record. Nothing is changed, and nothing ends the
 * look at the first thing that is wrong: what cannot be read is a finding, the rest is looked at all the same. `check.ts`,
 * `explain.ts` and `repair.ts` stand on it.
 */
import type { EngineSettings } from '../base/settings-types.ts';
import { chunkKey, readChunkTables } from '../chunk/chunk-reader.ts';
import type { Env } from '../env/env.ts';
import type { ChunkTables, ZeroRange } from '../format/chunk-layout.ts';
import { PAGE_FANOUT, type Run, decodeLeaf } from '../format/checkpoint-layout.ts';
import type { Manifest } from '../format/manifest.ts';
import { BlockMap, LEAF_BLOCKS } from '../index/block-map.ts';
import { ChunkCatalogue } from '../index/chunk-catalogue.ts';
import { DirectoryStore } from '../store/directory-store.ts';
import { type ObjectSource, readAgainInDoubt } from '../store/object-store.ts';
import { type ChunkContent, applySet } from './commit.ts';
import { findNewerObject, listFound, reportFolders } from './found-objects.ts';
import { type InspectedCheckpoint, inspectCheckpoint } from './inspect-checkpoint.ts';
import { type ChunkChain, type InspectedChunk, chunkExpectations, followChain, inspectChunks, lastGap } from './inspect-chunks.ts';
import { type BlockRanges, Findings, type OnProgress } from './inspect-findings.ts';
import { findInLog, oldestLsn } from './inspect-history.ts';
import { type InspectedLog, inspectLog, inspectOlderLog } from './inspect-log.ts';
import { type LossSources, reportLosses } from './inspect-losses.ts';
import { type InspectedLeaves, inspectLeaves, reconcileCatalogue } from './inspect-map.ts';
import { PageReader } from './load-checkpoint.ts';
import type { LoggedBlock } from './logged-blocks.ts';
import { type RebuiltLeaves, type UncertainChoice, rebuildLeaves } from './rebuild-leaves.ts';
import { CHECKPOINT_FOLDER, checkpointKey, manifestKey } from './volume-files.ts';

/** Where a manifest has its epoch. */
const EPOCH_OFFSET = 48;

export interface InspectOptions {
  readonly env: Env;
  /** The volume's directory. */
  readonly directory: string;
  readonly manifest: Manifest;
  readonly settings: EngineSettings;
  /** Read every block, too; or only those of chunks that are no older than the log: what is rotten there, the log may still have. */
  readonly deep: boolean | 'logged';
  /** For leaves that have to be put together again. */
  readonly uncertain: UncertainChoice;
  readonly onProgress: OnProgress;
  /** Where its objects are, of a volume that has a bucket; its directory, if it is not given. */
  readonly source?: InspectedSource;
}

/** Where objects are that do not all stand in the volume's directory. */
export interface InspectedSource {
  readonly store: ObjectSource;
  readonly readsAtOnce: number;
  /** Whether to read an object again that is damaged: bits flip on the way. */
  readonly isDoubted: (key: string) => boolean;
  /** The directory does not count, nor the log in it: what would a recovery make of the objects alone? */
  readonly isAlone: boolean;
}

export interface Inspection {
  readonly manifest: Manifest;
  readonly store: ObjectSource;
  /** Those that are in the directory. */
  readonly local: DirectoryStore;
  readonly findings: Findings;
  readonly checkpoint: InspectedCheckpoint;
  readonly chunks: ReadonlyMap<number, InspectedChunk>;
  readonly chain: ChunkChain;
  readonly log: InspectedLog;
  /** The volume as of the end of the chain, before the log; as far as it is known. */
  readonly map: BlockMap;
  readonly misplaced: ReadonlySet<number>;
  readonly rebuilt: RebuiltLeaves | null;
  /** Blocks that cannot be read, and in no record of the log either; blocks that only fail their checksum are not among them. */
  readonly lost: BlockRanges;
  /** Blocks that no sound chunk has, but the log, though they stand behind nothing that the chunks do not hold. */
  readonly restored: ReadonlyMap<number, LoggedBlock>;
  readonly readTables: (chunk: number) => Promise<ChunkTables>;
}

/**
 * Looks at a volume; the caller has its lock. Errors: `unsupported` for a newer format; `io-error` for a
 * system that fails otherwise than by a disk that cannot read.
 */
export async function inspectVolume(options: InspectOptions): Promise<Inspection> {
  const { env, directory, manifest, deep, source, onProgress } = options;
  const local = new DirectoryStore(env.files, directory, 0);
  const store = source?.store ?? local;
  const isAlone = source?.isAlone === true;
  const findings = new Findings();
  if (!isAlone) await reportFolders(env.files, directory, findings);
  const checkpoint = await inspectCheckpoint(store, manifest, findings);
  const deepChunks = deep === 'logged' ? { fromLsn: await oldestLsn(env.files, directory, manifest) } : deep;
  const chunks = await inspectChunks({ ...source, store, manifest, findings, deep: deepChunks, onProgress });
  const readTables = (chunk: number): Promise<ChunkTables> => tablesOf(store, manifest, chunks, chunk);
  const volumeBlocks = manifest.spanBytes / manifest.blockSizeBytes;
  const leaves = await inspectLeaves({ store, checkpoint, chunks, volumeBlocks, readTables, findings, onProgress });
  const isComplete = checkpoint.lostRoot === null && checkpoint.lostNodes.size === 0 && leaves.damaged.size === 0;
  const file = checkpointKey(manifest.checkpoint.epoch, manifest.checkpoint.number);
  reconcileCatalogue(checkpoint, chunks, leaves.live, isComplete, findings, file);
  const chain = followChain(manifest, chunks, findings);
  const rebuilt = isComplete ? null : await rebuild(options, { checkpoint, chunks, leaves, readTables });
  const map = await buildMap({ store, checkpoint, chain, rebuilt, wanted: wantedLeaves(checkpoint, leaves, rebuilt, volumeBlocks), readTables, volumeBlocks, blockSizeBytes: manifest.blockSizeBytes, indexBytes: options.settings.indexBytes });
  const { log, restore } = isAlone ? withoutLog(chain) : await lookAtLog(options, store, chunks, chain, findings);
  const { lost, restored } = await reportLosses({ findings, checkpoint, chunks, chain, log, map, leaves, rebuilt, readTables, restore });
  if (!isAlone) await noteLeftovers(local, checkpoint, findings);
  return { manifest, store, local, findings, checkpoint, chunks, chain, log, map, misplaced: leaves.misplaced, rebuilt, lost, restored, readTables };
}

type LogLook = { readonly log: InspectedLog } & Pick<LossSources, 'restore'>;

async function lookAtLog({ env: { files }, directory, manifest }: InspectOptions, store: ObjectSource, chunks: ReadonlyMap<number, InspectedChunk>, chain: ChunkChain, findings: Findings): Promise<LogLook> {
  const newer = await findNewerObject(store, manifest.epoch);
  if (newer !== null) findings.broken(manifestKey(), EPOCH_OFFSET, newer.problem);
  const log =
    newer === null
      ? await inspectLog(files, directory, manifest, chain.lastLsn, findings)
      : await inspectOlderLog({ files, directory, manifest, newestEpoch: newer.epoch, knownLsn: lastLsnOf(chunks, manifest.epoch), chunkedLsn: chain.lastLsn, findings });
  return { log, restore: async (wanted) => newer === null ? findInLog({ files, directory, manifest, chunkedLsn: chain.lastLsn, log, wanted }) : new Map() };
}

/** A bucket has no log: what its chunks have is all. */
function withoutLog({ lastLsn }: ChunkChain): LogLook {
  const log: InspectedLog = { records: [], lastLsn, end: 'there is no log', isDamaged: false, isDoubtful: false, lost: [], missesRecords: false, behind: [], ownFiles: 0, newestEpoch: 0 };
  return { log, restore: () => Promise.resolve(new Map()) };
}

/** The last LSN of chunks that were made in `epoch` or before. */
function lastLsnOf(chunks: ReadonlyMap<number, InspectedChunk>, epoch: number): number {
  const older = [...chunks.values()].filter((chunk) => chunk.epoch <= epoch && chunk.fault === null);
  return older.reduce((last, { identity }) => Math.max(last, identity?.lastLsn ?? 0), 0);
}

async function tablesOf(store: ObjectSource, manifest: Manifest, chunks: ReadonlyMap<number, InspectedChunk>, chunk: number): Promise<ChunkTables> {
  const key = chunkKey(chunks.get(chunk)?.epoch ?? 0, chunk);
  const object = await store.open(key);
  try {
    return (await readAgainInDoubt(object, () => readChunkTables(object, chunkExpectations(manifest), chunk, key))).tables;
  } finally {
    await object.close();
  }
}

interface MapSources {
  readonly checkpoint: InspectedCheckpoint;
  readonly chunks: ReadonlyMap<number, InspectedChunk>;
  readonly leaves: InspectedLeaves;
  readonly readTables: Inspection['readTables'];
}

function rebuild({ manifest, uncertain }: InspectOptions, { checkpoint, chunks, leaves, readTables }: MapSources): Promise<RebuiltLeaves> {
  const { lastChunk } = manifest.checkpoint;
  const unexplained = new Map<number, number>();
  for (const [chunk, { liveBlocks }] of checkpoint.catalogue) unexplained.set(chunk, liveBlocks - (leaves.live.get(chunk) ?? 0));
  return rebuildLeaves({
    isWanted: (leaf) => checkpoint.lostRoot !== null || leaves.damaged.has(leaf) || checkpoint.lostNodes.has(leaf - (leaf % PAGE_FANOUT)),
    chunks: [...chunks.values()].filter(({ chunk, fault }) => chunk <= lastChunk && fault === null).map(({ chunk }) => chunk),
    readTables,
    unexplained: checkpoint.catalogueIsSound ? unexplained : null,
    lastGap: lastGap(chunks, lastChunk),
    volumeBlocks: manifest.spanBytes / manifest.blockSizeBytes,
    uncertain,
  });
}

interface BuildMapOptions {
  readonly store: ObjectSource;
  readonly checkpoint: InspectedCheckpoint;
  readonly chain: ChunkChain;
  readonly rebuilt: RebuiltLeaves | null;
  /** The leaves that `rebuilt` stands for. */
  readonly wanted: ReadonlySet<number>;
  readonly volumeBlocks: number;
  readonly blockSizeBytes: number;
  readonly readTables: Inspection['readTables'];
  readonly indexBytes: number;
}

/** The map as of the end of the chain: the checkpoint's leaves, those put together again, and the sets behind it. */
async function buildMap({ store, checkpoint, chain, rebuilt, wanted, readTables, volumeBlocks, blockSizeBytes, indexBytes }: BuildMapOptions): Promise<BlockMap> {
  const map = new BlockMap({
    limitBytes: indexBytes,
    displaced: () => undefined, // the catalogue is counted anew when it is needed
    readLeaf: async (index, reference) => {
      const pages = new PageReader(store);
      try {
        const { bytes, name } = await pages.read(reference);
        return cutRuns(decodeLeaf(bytes, index, reference, name), index, volumeBlocks);
      } finally {
        await pages.close();
      }
    },
  });
  for (const [index, reference] of checkpoint.leaves) if (!wanted.has(index)) map.addStored(index, reference);
  for (const index of wanted) for (const run of rebuilt?.runsOf(index) ?? []) map.place(index * LEAF_BLOCKS + run.place, run.blockCount, run.chunk, run.slot);
  const sink = new ChunkCatalogue(blockSizeBytes);
  for (const set of chain.sets) {
    const contents: ChunkContent[] = [];
    const ranges: ZeroRange[] = [];
    for (const { chunk, epoch, sizeBytes } of set.chunks) {
      const tables = await readTables(chunk);
      contents.push({ chunk, epoch, objectBytes: sizeBytes, blockNumbers: tables.blockNumbers });
      ranges.push(...tables.ranges);
    }
    await applySet(map, sink, ranges, contents);
  }
  return map;
}

/** What a leaf says of blocks beyond the end of the volume, a finding of its own, is left out. */
function cutRuns(runs: readonly Run[], leaf: number, volumeBlocks: number): Run[] {
  const end = volumeBlocks - leaf * LEAF_BLOCKS;
  return runs.filter(({ place }) => place < end).map((run) => ({ ...run, blockCount: Math.min(run.blockCount, end - run.place) }));
}

/** The leaves that were put together again, or found to have been empty. */
function wantedLeaves(checkpoint: InspectedCheckpoint, leaves: InspectedLeaves, rebuilt: RebuiltLeaves | null, volumeBlocks: number): Set<number> {
  const wanted = new Set([...leaves.damaged.keys(), ...(rebuilt?.leaves ?? [])]);
  for (const first of checkpoint.lostNodes.keys()) {
    const end = Math.min(first + PAGE_FANOUT, Math.ceil(volumeBlocks / LEAF_BLOCKS));
    for (let leaf = first; leaf < end; leaf += 1) wanted.add(leaf);
  }
  return wanted;
}

/** Files that an interrupted process left. */
async function noteLeftovers(store: ObjectSource, checkpoint: InspectedCheckpoint, findings: Findings): Promise<void> {
  for (const name of await listFound(store, CHECKPOINT_FOLDER)) {
    const key = `${CHECKPOINT_FOLDER}/${name}`;
    if (!checkpoint.keys.has(key) && checkpoint.lostRoot === null) findings.notes.push(`${key} belongs to no checkpoint that counts; the next opening removes it`);
  }
}
