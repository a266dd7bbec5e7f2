/**
 * Merging sealed slabs of which much was overwritten: what is still the newest version of a block moves together, and a slab's
 * memory is free without a chunk. Of blocks that are written again and again a set of chunks is made when the log or their age asks
 * for it, not whenever the slabs fill up.
 */
import { assert } from '../base/assert.ts';
import type { Slab } from '../base/arena.ts';
import type { VolumeCore } from './volume-core.ts';
import type { DirtySlab } from './write-path.ts';

/** Merges the run of neighbours that gives back most, and of those the one with least to copy. False if there is none that gives back a slab. */
export function mergeSparse(core: VolumeCore, sealed: DirtySlab[], writtenLsn: number): boolean {
  if (core.arena.dirtyRoom(core) === 0) return false;
  const run = bestRun(sealed, core.chunkBlocks, writtenLsn);
  if (run === null) return false;
  const sources = sealed.slice(run.start, run.end);
  sealed.splice(run.start, sources.length, merge(core, sources));
  return true;
}

interface Run {
  readonly start: number;
  readonly end: number;
  readonly freed: number;
  readonly slots: number;
}

function bestRun(sealed: readonly DirtySlab[], chunkBlocks: number, writtenLsn: number): Run | null {
  let best: Run | null = null;
  for (let start = 0; start < sealed.length; start += 1) {
    let slots = 0;
    let freed = -1;
    for (let end = start; end < sealed.length && isMergeable(sealed[end], writtenLsn); end += 1) {
      const { slab } = sealed[end];
      slots += slab?.currentCount ?? 0;
      if (slots > chunkBlocks) break;
      freed += slab === null ? 0 : 1;
      if (freed > 0 && (best === null || freed > best.freed || (freed === best.freed && slots < best.slots))) best = { start, end: end + 1, freed, slots };
    }
  }
  return best;
}

/** The log must have its records (what it has not written it still reads from the slab); zero marks in the index name their slab, so it stays. */
function isMergeable(dirty: DirtySlab, writtenLsn: number): boolean {
  return dirty.lastLsn <= writtenLsn && dirty.ranges.length === 0 && dirty.marks === 0;
}

/** What was overwritten is left behind: a set that has the merged slab must reach as far as the records that did it. */
function merge(core: VolumeCore, sources: readonly DirtySlab[]): DirtySlab {
  const target = core.arena.takeDirty(core);
  let coverLsn = 0;
  for (const source of sources) {
    coverLsn = Math.max(coverLsn, source.coverLsn, source.slab?.coverLsn ?? 0);
    if (source.slab === null) continue;
    moveCurrent(core, source.slab, target);
    core.arena.free(source.slab);
  }
  const [first, last] = [sources[0], sources[sources.length - 1]];
  return { slab: target, firstLsn: first.firstLsn, lastLsn: last.lastLsn, ranges: [], marks: 0, sinceMs: first.sinceMs, logBytes: first.logBytes, coverLsn };
}

function moveCurrent(core: VolumeCore, source: Slab, target: Slab): void {
  const { resident } = core;
  const isCurrent = (slot: number): boolean => slot < source.slotCount && resident.get(source.blockNumbers[slot]) === core.locationOf(source, slot);
  let moved = 0;
  for (let slot = 0; slot < source.slotCount; slot += 1) {
    const first = slot;
    while (isCurrent(slot)) slot += 1;
    if (slot === first) continue;
    moveSlots(core, source, first, slot, target);
    moved += slot - first;
  }
  assert(moved === source.currentCount, `slab ${source.index} holds ${moved} newest versions, not ${source.currentCount}`);
}

/** Neighbours move together. */
function moveSlots(core: VolumeCore, source: Slab, first: number, end: number, target: Slab): void {
  const { resident, blockSizeBytes } = core;
  target.put(source.bytes.subarray(first * blockSizeBytes, end * blockSizeBytes), target.slotCount * blockSizeBytes);
  for (let slot = first; slot < end; slot += 1) {
    const place = target.slotCount;
    target.blockNumbers[place] = source.blockNumbers[slot];
    target.lsns[place] = source.lsns[slot];
    target.checksums[place] = source.checksums[slot];
    target.live[place] = 1;
    target.slotCount += 1;
    target.liveCount += 1;
    target.currentCount += 1;
    resident.set(source.blockNumbers[slot], core.locationOf(target, place));
  }
}
