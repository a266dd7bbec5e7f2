/**
 * What a repair makes of a volume: the state after the longest prefix of its history that can still be told, as one new checkpoint.
 * Blocks of that state that are in no sound chunk are marked as lost. Nothing is written here.
 */
import { VolumeError } from '../base/errors.ts';
import { CHUNK_FOLDER, parseChunkName } from '../chunk/chunk-reader.ts';
import { hexOf } from '../format/bytes.ts';
import type { Run } from '../format/checkpoint-layout.ts';
import type { ZeroRange } from '../format/chunk-layout.ts';
import { LEAF_BLOCKS, LOST_CHUNK } from '../index/block-map.ts';
import { listFound } from './found-objects.ts';
import { doubtOfChain } from './inspect-chunks.ts';
import { type BlockRange, BlockRanges, countBlocks, formatRanges, subtractRanges } from './inspect-findings.ts';
import { blockRangesOf } from './inspect-losses.ts';
import { walkMap } from './inspect-map.ts';
import type { Inspection } from './inspect.ts';
import { type LoggedBlock, applyRecord, applyVersions } from './logged-blocks.ts';
import { CHECKPOINT_FOLDER, logKey } from './volume-files.ts';

export interface RepairPlan {
  /** Newest version of the blocks that the log's records brought; all else is in the inspection's map by now. */
  readonly logged: ReadonlyMap<number, LoggedBlock>;
  /** Ranges that the log's records emptied. */
  readonly ranges: readonly ZeroRange[];
  /** Blocks of each chunk that are in use. */
  readonly live: ReadonlyMap<number, number>;
  /** Chunk numbers go on behind this one. */
  readonly largestChunk: number;
  /** Files to keep aside, as paths within the volume's directory. */
  readonly keepAside: readonly string[];
  readonly renewLog: boolean;
  readonly lost: readonly BlockRange[];
  readonly uncertain: readonly BlockRange[];
  /** Blocks that get an older content back: what was written last stands behind damage of the log or of the chain of chunks. */
  readonly setBack: readonly BlockRange[];
  /** Blocks that no chunk has whole, and that come back from the log. */
  readonly restored: readonly BlockRange[];
  /** What is done, for people. */
  readonly steps: readonly string[];
}

/** The runs of a leaf as they are to be: what points at nothing readable is lost. */
export function soundRuns({ chunks, misplaced }: Inspection, leaf: number, runs: readonly Run[]): Run[] {
  const sound: Run[] = [];
  for (const run of runs) {
    const isLost = run.chunk !== 0 && chunks.get(run.chunk)?.fault !== null;
    if (misplaced.size === 0 || isLost) {
      // What is lost stands in no slot; these ascend so that neighbours make one run when the leaf is read again.
      sound.push(isLost ? { ...run, chunk: LOST_CHUNK, slot: run.place } : run);
      continue;
    }
    for (let i = 0; i < run.blockCount; i += 1) {
      const place = run.place + i;
      const isMisplaced = misplaced.has(leaf * LEAF_BLOCKS + place);
      const entry = isMisplaced ? { chunk: LOST_CHUNK, slot: place } : { chunk: run.chunk, slot: run.chunk === 0 ? 0 : run.slot + i };
      sound.push({ place, blockCount: 1, ...entry });
    }
  }
  return sound;
}

/** Makes the plan; the log's zeroes are put into the inspection's map. Errors: `corrupt` for a manifest that is of another volume. */
export async function planRepair(inspection: Inspection): Promise<RepairPlan> {
  refuseForeignManifest(inspection);
  const { chunks, manifest, chain, log, rebuilt } = inspection;
  const logged = new Map<number, LoggedBlock>();
  const ranges: ZeroRange[] = [];
  for (const record of log.records) {
    await applyRecord(inspection.map, record, logged);
    if (record.kind === 'zero') ranges.push({ blockNumber: record.blockNumber, blockCount: record.blockCount, provisioned: record.provisioned });
  }
  await applyVersions(inspection.map, inspection.restored, logged);
  for (const [blockNumber, { record }] of inspection.restored) if (record.kind === 'zero') ranges.push({ blockNumber, blockCount: 1, provisioned: record.provisioned });
  const restored = blockRangesOf(inspection.restored).list;
  const live = new Map<number, number>();
  const lost = new BlockRanges();
  await walkMap(inspection.map, (leaf, runs) => {
    for (const run of soundRuns(inspection, leaf, runs)) {
      for (let i = 0; i < run.blockCount; i += 1) {
        const blockNumber = leaf * LEAF_BLOCKS + run.place + i;
        if (run.chunk === 0 || logged.has(blockNumber)) continue;
        if (run.chunk === LOST_CHUNK) lost.add(blockNumber, 1);
        else live.set(run.chunk, (live.get(run.chunk) ?? 0) + 1);
      }
    }
  });
  const largestChunk = Math.max(manifest.checkpoint.lastChunk, ...chunks.keys());
  const keepAside = await filesToKeep(inspection, live);
  const setBack = await setBackBlocks(inspection);
  const plan = { logged, ranges, live, largestChunk, keepAside, renewLog: log.isDamaged, lost: lost.list, uncertain: subtractRanges(rebuilt?.uncertain.list ?? [], restored), setBack, restored };
  return { ...plan, steps: describe(inspection, plan, chain.sets.length) };
}

/** A manifest that was copied from another volume would make all that is here look like damage. */
export function refuseForeignManifest({ manifest, chunks, checkpoint, log, findings }: Inspection): void {
  const identified = [...chunks.values()].some(({ identity }) => identity !== null) || log.ownFiles > 0 || (manifest.checkpoint.number > 0 && checkpoint.lostRoot === null);
  if (identified || !findings.needRepair) return;
  throw new VolumeError('corrupt', `no file here is of volume ${hexOf(manifest.volumeId)}, which the manifest names: it is another volume's, or all else is missing. Put the right manifest, or the files, back; nothing was changed`);
}

/** Everything that is not part of the volume afterwards, but for what is known to be of no use. */
async function filesToKeep({ local, chunks, chain, checkpoint, findings, log, manifest }: Inspection, live: ReadonlyMap<number, number>): Promise<string[]> {
  const keep: string[] = [];
  const placed = new Set(chain.sets.flatMap((set) => set.chunks.map(({ chunk }) => chunk)));
  for (const name of await listFound(local, CHUNK_FOLDER)) {
    const parsed = parseChunkName(name);
    if (parsed === null) continue;
    const inspected = chunks.get(parsed.chunk);
    const isSound = inspected?.fault === null;
    if (isSound && live.has(parsed.chunk)) continue;
    const known = checkpoint.catalogue.get(parsed.chunk)?.liveBlocks ?? 0;
    const isDead = checkpoint.lostRoot === null && checkpoint.catalogueIsSound && parsed.chunk <= manifest.checkpoint.lastChunk && known === 0;
    if (!(isSound && (isDead || placed.has(parsed.chunk)))) keep.push(`${CHUNK_FOLDER}/${name}`);
  }
  if (findings.list.some(({ file }) => file.startsWith(`${CHECKPOINT_FOLDER}/`))) {
    for (const name of await listFound(local, CHECKPOINT_FOLDER)) keep.push(`${CHECKPOINT_FOLDER}/${name}`);
  }
  if (log.isDamaged) for (let index = 0; index < manifest.logFileCount; index += 1) keep.push(logKey(index));
  return keep;
}

async function setBackBlocks({ log, chain, readTables }: Inspection): Promise<readonly BlockRange[]> {
  const setBack = new BlockRanges();
  for (const { blockNumber, blockCount } of log.behind) setBack.add(blockNumber, blockCount);
  for (const { chunk, fault, identity } of chain.unplaced) {
    // Records that the log has as well are not lost with their chunk.
    if (fault !== null || identity === null || identity.lastLsn <= log.lastLsn) continue;
    const { blockNumbers, ranges } = await readTables(chunk);
    for (const range of ranges) setBack.add(range.blockNumber, range.blockCount);
    for (const blockNumber of blockNumbers) setBack.add(blockNumber, 1);
  }
  return setBack.list;
}

function describe({ manifest, chain, log, rebuilt, checkpoint }: Inspection, plan: Omit<RepairPlan, 'steps'>, sets: number): string[] {
  const { number, lastLsn } = manifest.checkpoint;
  const steps: string[] = [];
  if (number === 0) steps.push('begin with the empty volume: there is no checkpoint yet');
  else if (checkpoint.lostRoot !== null) steps.push(`put the block map as of LSN ${lastLsn} together from the tables of the chunks: checkpoint ${number} cannot be read`);
  else if (rebuilt === null) steps.push(`take the block map of checkpoint ${number} (LSN ${lastLsn})`);
  else steps.push(`take the block map of checkpoint ${number} (LSN ${lastLsn}), and put what cannot be read of it together from the tables of the chunks`);
  if (sets > 0) steps.push(`apply the ${sets} sets of chunks behind it, up to chunk ${chain.lastChunk} (LSN ${chain.lastLsn})`);
  steps.push(log.records.length > 0 ? `apply the ${log.records.length} records of the log behind that, up to LSN ${log.lastLsn}` : `end with LSN ${log.lastLsn}: the log has no sound record behind that`);
  if (plan.setBack.length > 0 || log.missesRecords || doubtOfChain(chain, log.lastLsn) !== null) {
    const known = plan.setBack.length > 0 ? `at least ${formatRanges(plan.setBack)}` : 'which blocks is not known';
    steps.push(`stop there, though later records had been written: what stands between is damaged. What was written since is given up (${known}), and reads as it was at that point`);
  }
  if (plan.restored.length > 0) steps.push(`bring ${countBlocks(plan.restored)} blocks back that no chunk has whole: the log still has their last versions: ${formatRanges(plan.restored)}`);
  if (plan.lost.length > 0) steps.push(`mark ${countBlocks(plan.lost)} blocks as lost; reading them fails until they are written: ${formatRanges(plan.lost)}`);
  steps.push('write a new checkpoint that says all that, and the manifest that names it');
  if (plan.keepAside.length > 0) steps.push(`move ${plan.keepAside.length} files that have no place in it to kept-aside/, and delete none`);
  if (plan.renewLog) steps.push('begin the log anew');
  return steps;
}
