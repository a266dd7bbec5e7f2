/**
 * The structures of a volume that clients write to. A page counts as rotten only if the newest checkpoint still refers to it when it was
 * read; what is compared with what is in memory is compared within one turn. What memory has is written anew: nodes and catalogue always,
 * leaves while they are resident, and the manifest.
 */
import { VolumeError } from '../base/errors.ts';
import type { ChunkTables } from '../format/chunk-layout.ts';
import { PAGE_FANOUT, type PageReference, type Run, decodeLeaf } from '../format/checkpoint-layout.ts';
import type { Manifest } from '../format/manifest.ts';
import { LEAF_BLOCKS, LOST_CHUNK } from '../index/block-map.ts';
import { MapCount } from '../index/map-count.ts';
import { type Turn, inTurn, replaceManifest } from './change-durability.ts';
import type { Checkpointer } from './checkpointer.ts';
import { isStillAt } from './commit.ts';
import { inspectCheckpoint } from './inspect-checkpoint.ts';
import type { InspectedChunk } from './inspect-chunks.ts';
import { type Fault, Findings, faultOf } from './inspect-findings.ts';
import { PageReader, loadIfSound } from './load-checkpoint.ts';
import { manifestsDiffer } from './scrub-still.ts';
import { NOTHING_SEEN, type PacedReading, type StructureReport, type Structures, structurePlace } from './scrub-structures.ts';
import type { VolumeCore } from './volume-core.ts';
import { CHECKPOINT_FOLDER, checkpointKey, manifestKey, readManifest } from './volume-files.ts';
import type { RottenPlace } from './volume-info.ts';

/** A checkpoint that ends while the pages of the one before are read begins that anew, so often. */
const ATTEMPTS_MAX = 5;
const LEAVES_PER_PROGRESS = 16;

export interface LiveUpkeep extends Turn {
  readonly checkpointer: Pick<Checkpointer, 'rewrite' | 'run'>;
}

/** A place that may be put right, and whether it was. */
interface Mendable {
  readonly place: RottenPlace;
  readonly isMended: () => boolean;
}

export class LiveStructures implements Structures {
  readonly neededChunks = [];
  readonly #core: VolumeCore;
  readonly #upkeep: LiveUpkeep;
  #found: Mendable[] = [];
  /** Whether the next checkpoint has something to put right. */
  #rewriteIsDue = false;
  readonly #rottenNodes = new Set<number>();
  #isRewritten = false;

  constructor(upkeep: LiveUpkeep) {
    this.#core = upkeep.core;
    this.#upkeep = upkeep;
  }

  async begin(reading: PacedReading): Promise<StructureReport> {
    await this.#lookAtManifest();
    const pages = await this.#lookAtCheckpoint(reading);
    const count = new MapCount(this.#core.map);
    try {
      const leafPages = await this.#lookAtLeaves(reading, count);
      const mappedBlocks = [...count.counts.values()].reduce((sum, blocks) => sum + blocks, 0);
      await this.#writeCheckpoint();
      const places = this.#found.map(({ place, isMended }) => ({ ...place, rewritten: isMended() ? 1 : 0 }));
      return { pages: pages + leafPages, mappedBlocks, places };
    } finally {
      count.end();
    }
  }

  #broken(fault: Fault & { readonly file: string }, isMended: () => boolean = () => false): void {
    this.#found.push({ place: structurePlace(fault), isMended });
  }

  /** In a turn in which nobody replaces it. */
  async #lookAtManifest(): Promise<void> {
    const { core } = this.#upkeep;
    await this.#inTurn(async () => {
      const fault = await manifestFault(core);
      if (fault === null) return;
      let isMended = false;
      this.#broken({ ...fault, file: manifestKey() }, () => isMended);
      if (fault.isForeign || core.failure !== null) return;
      await replaceManifest(core, core.manifest);
      isMended = true;
    });
  }

  /** Without it if chunks wait for a full disk, or the volume is closed: what was found rotten is reported all the same. */
  async #inTurn(task: () => Promise<void>): Promise<void> {
    try {
      await inTurn(this.#upkeep, task);
    } catch (error) {
      if (!(error instanceof VolumeError)) throw error;
      this.#core.env.logger.log('warn', 'scrub-incomplete', { volume: this.#core.name, error });
    }
  }

  /** Root, nodes and catalogue. Returns how many pages were read. */
  async #lookAtCheckpoint({ store }: PacedReading): Promise<number> {
    const { catalogue } = this.#core;
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
      const { manifest } = this.#core;
      const { number } = manifest.checkpoint;
      const findings = new Findings();
      const { pageCount, lostNodes, catalogueIsSound } = await inspectCheckpoint(store, manifest, findings);
      if (this.#core.manifest.checkpoint.number !== number) continue;
      if (findings.list.length === 0) return pageCount;
      for (const finding of findings.list) this.#broken(finding, () => this.#isRewritten);
      for (const firstLeaf of lostNodes.keys()) this.#rottenNodes.add(firstLeaf / PAGE_FANOUT);
      if (!catalogueIsSound) for (const page of catalogue.pages()) catalogue.rewrite(page);
      this.#rewriteIsDue = true;
      return pageCount;
    }
    return 0;
  }

  /** The leaves, on the disk and in memory, and the live counts when all were seen. Returns how many pages were read. */
  async #lookAtLeaves({ store, onProgress }: PacedReading, count: MapCount): Promise<number> {
    const pages = new PageReader(store);
    const indexes = count.unvisited();
    let [pageCount, isComplete] = [0, true];
    try {
      for (const [done, index] of indexes.entries()) {
        if (done % LEAVES_PER_PROGRESS === 0) onProgress({ task: `scrub of ${this.#core.name}, block map`, done, total: indexes.length });
        const { isPage, isKnown } = await this.#lookAtLeaf(pages, index, count);
        pageCount += isPage ? 1 : 0;
        isComplete &&= isKnown;
      }
      this.#reconcile(count, isComplete);
    } finally {
      await pages.close();
    }
    return pageCount;
  }

  async #lookAtLeaf(pages: PageReader, index: number, count: MapCount): Promise<{ readonly isPage: boolean; readonly isKnown: boolean }> {
    const { map } = this.#core;
    for (;;) {
      const leaf = map.leaf(index);
      const reference = leaf?.reference ?? null;
      if (leaf === undefined || reference === null) {
        const runs = leaf === undefined ? [] : map.runsOf(leaf);
        count.visit(index, runs);
        this.#compareWithCatalogue(index, null, runs);
        return { isPage: false, isKnown: true };
      }
      const page = await readRuns(pages, index, reference);
      // A checkpoint has moved it meanwhile.
      if (map.leaf(index) !== leaf || leaf.reference !== reference) continue;
      if ('problem' in page) {
        if (leaf.resident) {
          map.rewrite(leaf);
          this.#rewriteIsDue = true;
        }
        this.#broken(page, () => leaf.reference !== reference);
      }
      const runs = leaf.resident ? map.runsOf(leaf) : 'problem' in page ? null : page.runs;
      count.visit(index, runs);
      this.#compareWithCatalogue(index, reference, runs ?? []);
      return { isPage: true, isKnown: runs !== null };
    }
  }

  /** Whether the chunks and slots that a leaf names are there; in the turn in which it had these runs. */
  #compareWithCatalogue(index: number, reference: PageReference | null, runs: readonly Run[]): void {
    const { catalogue, volumeBlocks } = this.#core;
    const file = reference === null ? CHECKPOINT_FOLDER : checkpointKey(reference.epoch, reference.number);
    const broken = (problem: string): void => this.#broken({ file, offsetBytes: reference?.offset ?? null, problem });
    for (const { place, blockCount, chunk, slot } of runs) {
      const blockNumber = index * LEAF_BLOCKS + place;
      if (blockNumber + blockCount > volumeBlocks) broken(`leaf ${index} maps block ${blockNumber + blockCount - 1}, beyond the end of the volume`);
      if (chunk === 0 || chunk === LOST_CHUNK) continue;
      const facts = catalogue.get(chunk);
      if (facts === undefined) broken(`block ${blockNumber} is mapped to chunk ${chunk}, which the catalogue does not know`);
      else if (slot + blockCount > facts.blockCount) broken(`block ${blockNumber + blockCount - 1} is mapped to slot ${slot + blockCount - 1} of chunk ${chunk}, which has ${facts.blockCount}`);
    }
  }

  /** In the turn in which the last leaf was counted. */
  #reconcile({ counts }: MapCount, isComplete: boolean): void {
    const { catalogue, manifest } = this.#core;
    const file = checkpointKey(manifest.checkpoint.epoch, manifest.checkpoint.number);
    for (const page of catalogue.pages()) {
      for (const { place, liveBlocks } of page.entries()) {
        const chunk = page.index * PAGE_FANOUT + place;
        const counted = counts.get(chunk) ?? 0;
        const isWrong = isComplete ? counted !== liveBlocks : counted > liveBlocks;
        if (isWrong) this.#broken({ file, offsetBytes: null, problem: `the catalogue says that chunk ${chunk} has ${liveBlocks} live blocks, the block map refers to ${counted}` });
      }
    }
  }

  async #writeCheckpoint(): Promise<void> {
    const { checkpointer } = this.#upkeep;
    if (!this.#rewriteIsDue || this.#core.failure !== null) return;
    await this.#inTurn(async () => {
      checkpointer.rewrite(this.#rottenNodes);
      const { counters } = this.#core;
      const before = counters.checkpoints;
      try {
        await checkpointer.run();
        this.#isRewritten = counters.checkpoints > before;
      } catch (error) {
        // As for any other checkpoint.
        this.#core.fail(error instanceof VolumeError ? error : new VolumeError('io-error', 'writing a checkpoint failed', { cause: error }));
        throw error;
      }
    });
  }

  /** Whether the slots of a chunk that the map refers to hold the blocks that it means. */
  async compare({ chunk, epoch, key }: InspectedChunk, tables: ChunkTables | null): Promise<readonly RottenPlace[]> {
    const { map, catalogue } = this.#core;
    if (tables === null || (catalogue.get(chunk)?.liveBlocks ?? 0) === 0) return [];
    const { blockNumbers } = tables;
    const release = map.hold();
    try {
      for (const index of new Set(blockNumbers.map((blockNumber) => Math.floor(blockNumber / LEAF_BLOCKS)))) {
        // Told of by its page already.
        if ((await loadIfSound(map, index)) !== null) return [];
      }
      // In one turn from here on.
      const facts = catalogue.get(chunk);
      if (facts?.epoch !== epoch) return [];
      let right = 0;
      for (const [slot, blockNumber] of blockNumbers.entries()) right += isStillAt(map, blockNumber, chunk, slot) ? 1 : 0;
      if (right === facts.liveBlocks) return [];
      return [structurePlace({ file: key, offsetBytes: null, problem: `${facts.liveBlocks} blocks are mapped to it; ${right} of its slots hold the block that is mapped to them` })];
    } finally {
      release();
    }
  }

  end(): Promise<StructureReport> {
    return Promise.resolve(NOTHING_SEEN);
  }
}

async function readRuns(pages: PageReader, index: number, reference: PageReference): Promise<{ readonly runs: readonly Run[] } | (Fault & { readonly file: string })> {
  const file = checkpointKey(reference.epoch, reference.number);
  try {
    const { bytes, name } = await pages.read(reference);
    return { runs: decodeLeaf(bytes, index, reference, name) };
  } catch (error) {
    return { ...faultOf(file, error), file };
  }
}

/** What is wrong with the manifest on the disk. One of another volume, or of a later opening, is not replaced: somebody else put it there. */
async function manifestFault({ env, directory, manifest, manifestInDoubt }: VolumeCore): Promise<(Fault & { readonly isForeign: boolean }) | null> {
  let read: Manifest;
  try {
    read = await readManifest(env.files, directory);
  } catch (error) {
    return { ...faultOf(manifestKey(), error), isForeign: false };
  }
  if (!manifestsDiffer(read, manifest)) return null;
  // No rot: the volume has failed over it, and says so.
  if (manifestInDoubt !== null && !manifestsDiffer(read, manifestInDoubt)) return null;
  const isForeign = Buffer.compare(read.volumeId, manifest.volumeId) !== 0 || read.epoch > manifest.epoch;
  return { offsetBytes: null, problem: `is another one than this volume has: of epoch ${read.epoch} and checkpoint ${read.checkpoint.number}, expected epoch ${manifest.epoch} and checkpoint ${manifest.checkpoint.number}`, isForeign };
}
