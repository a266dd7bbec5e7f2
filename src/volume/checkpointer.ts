/**
 * Checkpoints: the leaves, nodes and catalogue pages that changed since the last one, and a new root, as one immutable
 * object; then the manifest names it. It runs between commits, so that the map stands still for it. Nothing in memory
 * changes before the manifest is durable: a checkpoint that fails leaves all as it was.
 *
 * Afterwards chunks without a live block, and checkpoint objects without a page in use, are removed: no root refers to them (I5).
 */
import { assert } from '../base/assert.ts';
import { toVolumeError } from '../base/errors.ts';
import { checksum } from '../base/checksum.ts';
import { chunkKey } from '../chunk/chunk-reader.ts';
import type { Timer } from '../env/env.ts';
import { align8 } from '../format/bytes.ts';
import {
  CHECKPOINT_HEADER_BYTES,
  type CheckpointIdentity,
  type CheckpointObject,
  type IndexedReference,
  type NodeEntry,
  PAGE_FANOUT,
  type PageReference,
  encodeCataloguePage,
  encodeCheckpointFooter,
  encodeCheckpointHeader,
  encodeLeaf,
  encodeNode,
  encodeRoot,
} from '../format/checkpoint-layout.ts';
import type { Manifest } from '../format/manifest.ts';
import type { Leaf } from '../index/block-map.ts';
import type { CataloguePage } from '../index/chunk-catalogue.ts';
import type { StagedObject } from '../store/object-store.ts';
import { loadIfSound } from './load-checkpoint.ts';
import type { RootObjects } from './shipper-options.ts';
import type { VolumeCore } from './volume-core.ts';
import { checkpointKey } from './volume-files.ts';

/** Bytes gathered before they are written. */
const WRITE_BYTES = 1024 * 1024;
/** Leaves encoded before other work gets its turn. */
const LEAVES_PER_TURN = 64;
/** Old checkpoint objects may take this many times the bytes of the pages in use, and this much more, before pages move. */
const SLACK_FACTOR = 2;
const SLACK_BYTES = 4 * 1024 * 1024;
/** Chunks removed before waiting commits get their turn, and the pause until the next ones. */
const REMOVED_AT_ONCE = 256;
const REMOVAL_PAUSE_MS = 10;
/** Dead chunks, and the files of removed ones that are kept, may each take this part of the live bytes, or so many slabs. */
const UNUSED_PART = 1 / 16;
const UNUSED_SLABS = 17;
/** Leaves that one checkpoint moves out of an old object, so that their memory stays bounded. */
const MOVED_LEAVES_MAX = 4096;

/** The checkpoint objects in use, and where the nodes of the newest one stand. */
export interface CheckpointState {
  readonly nodes: Map<number, PageReference>;
  readonly objects: Map<number, CheckpointObject>;
  /** Chunks that had no live block when it was written. */
  readonly dead: readonly number[];
}

/** Appends pages to a staged object and says where each stands. */
export class PageWriter {
  readonly #object: StagedObject;
  readonly #identity: CheckpointIdentity;
  #parts: Uint8Array[] = [];
  #gathered = 0;
  #offset = 0;

  constructor(object: StagedObject, identity: CheckpointIdentity) {
    this.#object = object;
    this.#identity = identity;
    this.#push(encodeCheckpointHeader(identity));
  }

  get offset(): number {
    return this.#offset;
  }

  #push(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#offset += bytes.length;
    this.#gathered += bytes.length;
  }

  async page(bytes: Uint8Array): Promise<PageReference> {
    const { number, epoch } = this.#identity;
    const reference = { number, epoch, offset: this.#offset, length: bytes.length, checksum: checksum(bytes) };
    this.#push(bytes);
    const padding = align8(bytes.length) - bytes.length;
    if (padding > 0) this.#push(new Uint8Array(padding));
    if (this.#gathered >= WRITE_BYTES) await this.#write();
    return reference;
  }

  async finish(root: PageReference): Promise<void> {
    this.#push(encodeCheckpointFooter(this.#identity, root));
    await this.#write();
  }

  async #write(): Promise<void> {
    const parts = this.#parts;
    this.#parts = [];
    this.#gathered = 0;
    await this.#object.append(parts);
  }
}

/** What a checkpoint wrote, to be taken over when it is durable. */
interface Outcome {
  readonly leaves: Map<Leaf, PageReference | null>;
  readonly nodes: Map<number, PageReference | null>;
  readonly pages: Map<CataloguePage, PageReference | null>;
  readonly objects: Map<number, CheckpointObject>;
  readonly objectBytes: number;
}

export class Checkpointer {
  readonly #core: VolumeCore;
  readonly #state: CheckpointState;
  #nextNumber: number;
  #chunksSince = 0;
  #timer: Timer | null = null;
  #requested = false;
  #stopped = false;
  /** The last attempt found no space. */
  #isPostponed = false;
  /** Pages of the newest checkpoint were found rotten: the next one is due though no chunk came, and writes these nodes as well. */
  #rewriteIsDue = false;
  readonly #rottenNodes = new Set<number>();
  /** Checkpoint objects that the newest root does not need. */
  #unused: CheckpointObject[] = [];
  /** Chunks without a live block as of the newest checkpoint. One that died since is still referred to by it. */
  #removable: number[];
  readonly #queue: (task: () => Promise<void>) => void;
  #removalTimer: Timer | null = null;

  /** `queue` runs a task when no commit is under way. */
  constructor(core: VolumeCore, state: CheckpointState, queue: (task: () => Promise<void>) => void) {
    this.#core = core;
    this.#state = state;
    this.#queue = queue;
    this.#removable = [...state.dead];
    this.#nextNumber = core.manifest.checkpoint.number + 1;
  }

  /** Whether the newest checkpoint says all that the chunks do. */
  get isCurrent(): boolean {
    return this.#core.manifest.checkpoint.lastChunk === this.#core.lastChunk;
  }

  /**
   * Pages of the newest checkpoint are rotten: the next `run` writes one though nothing changed, with these nodes, a new root, and the leaves and pages
   * of the catalogue that are marked for `rewrite`. Not while one is being written.
   */
  rewrite(nodes: Iterable<number>): void {
    for (const node of nodes) this.#rottenNodes.add(node);
    this.#rewriteIsDue = true;
  }

  /** The volume is open: chunks that it was recovered from, and dead ones that are still there, do not wait for the next change. */
  start(): void {
    if (this.isCurrent && this.#removable.length === 0) return;
    this.#timer ??= this.#core.env.clock.setTimer(this.#core.settings.checkpointIntervalMs, () => this.#timeIsUp());
  }

  /** Chunks were committed: cuts a checkpoint when it is time. */
  async chunksCommitted(chunkCount: number): Promise<void> {
    if (this.#stopped) return;
    this.#chunksSince += chunkCount;
    const { checkpointChunks, checkpointIntervalMs } = this.#core.settings;
    if (this.#requested || this.#chunksSince >= checkpointChunks || this.#core.map.isOverLimit || this.#isMuchDead) {
      await this.run();
      return;
    }
    this.#timer ??= this.#core.env.clock.setTimer(checkpointIntervalMs, () => this.#timeIsUp());
  }

  /** Bytes of dead chunks, or of spare files, that are no more than should be. */
  get #unusedLimit(): number {
    const { catalogue, blockSizeBytes, arena } = this.#core;
    return Math.max(UNUSED_SLABS * arena.slabBytes, catalogue.liveBlocks * blockSizeBytes * UNUSED_PART);
  }

  /** Whether chunks that died since the last checkpoint take so much space that it is time for the next one. */
  get #isMuchDead(): boolean {
    return !this.#isPostponed && this.#removable.length === 0 && this.#core.catalogue.deadBytes > this.#unusedLimit;
  }

  #timeIsUp(): void {
    this.#timer = null;
    this.#requested = true;
    this.#queue(() => this.run());
  }

  /**
   * No checkpoint begins from now on, nor a wait for one. A chunk set that is under way may still be committed; a checkpoint some
   * time after it would overwrite the manifest of whoever has the volume by then.
   */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#timer = null;
    this.#removalTimer?.cancel();
    this.#removalTimer = null;
  }

  /** Writes a checkpoint; nobody may commit a chunk meanwhile. A full disk only postpones it. Rejects with anything else. */
  async run(): Promise<void> {
    this.#requested = false;
    if (this.#stopped) return;
    try {
      if (!this.isCurrent || this.#rewriteIsDue) await this.#write();
      await this.#removeSome();
    } catch (cause) {
      const error = toVolumeError(cause, 'writing a checkpoint');
      if (error.code !== 'no-space') throw error;
      this.#core.env.logger.log('warn', 'checkpoint-postponed', { volume: this.#core.name, error });
      this.#isPostponed = true;
      this.#chunksSince = 0; // not again with the very next chunk
    }
  }

  /**
   * Writes a checkpoint with another size, in one manifest; nobody may commit a chunk meanwhile. Errors: `no-space`: nothing was changed; with any other the volume takes no
   * more writes.
   */
  async resize(sizes: Pick<Manifest, 'sizeBytes' | 'spanBytes'>): Promise<void> {
    try {
      await this.#write(sizes);
    } catch (cause) {
      const error = toVolumeError(cause, `writing a checkpoint of volume ${this.#core.name}`);
      if (error.code !== 'no-space') this.#core.fail(error);
      throw error;
    }
  }

  async #write(sizes: Partial<Pick<Manifest, 'sizeBytes' | 'spanBytes'>> = {}): Promise<void> {
    const { manifest, counters } = this.#core;
    const identity: CheckpointIdentity = {
      volumeId: manifest.volumeId,
      blockSizeBytes: manifest.blockSizeBytes,
      sizeBytes: manifest.createdBytes,
      epoch: manifest.epoch,
      number: this.#nextNumber,
      lastChunk: this.#core.lastChunk,
      lastLsn: this.#core.chunkedLsn,
    };
    this.#nextNumber += 1;
    const object = await this.#core.store.stage(checkpointKey(identity.epoch, identity.number));
    let outcome: Outcome;
    try {
      outcome = await this.#writePages(new PageWriter(object, identity), identity);
      await object.seal();
      await this.#core.store.publish([object]);
    } catch (cause) {
      const error = toVolumeError(cause, 'writing a checkpoint');
      // Said at once: giving the object up may take a failing disk a long time.
      if (error.code !== 'no-space') this.#core.fail(error);
      await object.abandon().catch(() => undefined); // the first error is the one to report; the lock's next owner cleans up
      throw error;
    }
    await this.#core.replaceManifest({ ...manifest, ...sizes, checkpoint: { number: identity.number, epoch: identity.epoch, lastChunk: identity.lastChunk, lastLsn: identity.lastLsn } });
    this.#takeOver(outcome);
    await this.#core.shipper?.checkpointed(this.rootObjects(true));
    this.#isPostponed = false;
    this.#rewriteIsDue = false;
    this.#rottenNodes.clear();
    counters.checkpoints += 1;
    counters.checkpointBytes += outcome.objectBytes;
    this.#chunksSince = 0;
    this.#timer?.cancel();
    this.#timer = null;
    this.#removable = [...this.#core.catalogue.deadChunks].filter((chunk) => chunk <= identity.lastChunk);
  }

  /** The newest checkpoint, with the objects that it refers to; `isFresh`: no set was committed since, so that chunks without a live block are none of them. */
  rootObjects(isFresh: boolean): RootObjects {
    const { manifest, catalogue } = this.#core;
    const keys = new Set<string>();
    for (const page of catalogue.pages()) {
      for (const { place, epoch, liveBlocks } of page.entries()) {
        const chunk = page.index * page.epochs.length + place;
        if (chunk <= manifest.checkpoint.lastChunk && (liveBlocks > 0 || !isFresh)) keys.add(chunkKey(epoch, chunk));
      }
    }
    for (const { epoch, number } of this.#state.objects.values()) keys.add(checkpointKey(epoch, number));
    return { manifest, keys };
  }

  async #writePages(writer: PageWriter, identity: CheckpointIdentity): Promise<Outcome> {
    const movedNodes = [...(await this.#selectOldPages()), ...this.#rottenNodes];
    const leaves = await this.#writeLeaves(writer);
    const nodes = await this.#writeNodes(writer, leaves, movedNodes);
    const pages = await this.#writeCatalogue(writer);
    const objects = this.#liveObjects({ leaves, nodes, pages }, identity);
    const root = await writer.page(encodeRoot(identity.number, { ...this.#rootReferences(nodes, pages), objects: [...objects.values()] }));
    await writer.finish(root);
    return { leaves, nodes, pages, objects, objectBytes: writer.offset };
  }

  /**
   * When old objects hold much that is not in use any more, pages of the oldest are written again, so that it can go.
   * Marks its leaves and catalogue pages as changed; returns its nodes.
   */
  async #selectOldPages(): Promise<number[]> {
    const objects = [...this.#state.objects.values()].toSorted((a, b) => a.number - b.number);
    const total = objects.reduce((sum, object) => sum + object.objectBytes, 0);
    const live = objects.reduce((sum, object) => sum + object.liveBytes, 0);
    const oldest = objects[0];
    if (oldest === undefined || total <= live * SLACK_FACTOR + SLACK_BYTES) return [];
    const { map, catalogue } = this.#core;
    const leaves = [...map.leaves()].filter((leaf) => leaf.reference?.number === oldest.number).slice(0, MOVED_LEAVES_MAX);
    const release = map.hold();
    try {
      for (const leaf of leaves) {
        const damage = await loadIfSound(map, leaf.index);
        // It stays where it is: its blocks cannot be read, and that is no reason to stop writing.
        if (damage === null) map.rewrite(leaf);
        else this.#core.env.logger.log('warn', 'leaf-unreadable', { volume: this.#core.name, error: damage });
      }
    } finally {
      release();
    }
    for (const page of catalogue.pages()) if (page.reference?.number === oldest.number) catalogue.rewrite(page);
    return [...this.#state.nodes].filter(([, reference]) => reference.number === oldest.number).map(([index]) => index);
  }

  async #writeLeaves(writer: PageWriter): Promise<Map<Leaf, PageReference | null>> {
    const { map, env } = this.#core;
    const written = new Map<Leaf, PageReference | null>();
    for (const leaf of map.dirtyLeaves) {
      written.set(leaf, leaf.mapped === 0 ? null : await writer.page(encodeLeaf(leaf.index, map.runsOf(leaf))));
      if (written.size % LEAVES_PER_TURN === 0) await env.clock.yield();
    }
    return written;
  }

  /** Nodes with a leaf that moved, and the `moved` ones. */
  async #writeNodes(writer: PageWriter, leaves: Outcome['leaves'], moved: readonly number[]): Promise<Map<number, PageReference | null>> {
    const { map, env } = this.#core;
    const changed = new Set<number>(moved);
    for (const leaf of leaves.keys()) changed.add(Math.floor(leaf.index / PAGE_FANOUT));
    const written = new Map<number, PageReference | null>();
    for (const index of changed) {
      const entries: NodeEntry[] = [];
      for (let place = 0; place < PAGE_FANOUT; place += 1) {
        const leaf = map.leaf(index * PAGE_FANOUT + place);
        if (leaf === undefined) continue;
        const reference = leaves.has(leaf) ? leaves.get(leaf) : leaf.reference;
        if (reference !== null && reference !== undefined) entries.push({ place, reference });
      }
      written.set(index, entries.length === 0 ? null : await writer.page(encodeNode(index, entries)));
      await env.clock.yield();
    }
    return written;
  }

  async #writeCatalogue(writer: PageWriter): Promise<Map<CataloguePage, PageReference | null>> {
    const written = new Map<CataloguePage, PageReference | null>();
    for (const page of this.#core.catalogue.dirtyPages) {
      const entries = page.entries();
      written.set(page, entries.length === 0 ? null : await writer.page(encodeCataloguePage(page.index, entries)));
    }
    return written;
  }

  #rootReferences(nodes: Outcome['nodes'], pages: Outcome['pages']): { nodes: IndexedReference[]; catalogue: IndexedReference[] } {
    const nodeReferences: IndexedReference[] = [];
    const catalogue: IndexedReference[] = [];
    for (const [index, reference] of new Map([...this.#state.nodes, ...nodes])) if (reference !== null) nodeReferences.push({ index, reference });
    for (const page of this.#core.catalogue.pages()) {
      const reference = pages.has(page) ? pages.get(page) : page.reference;
      if (reference !== null && reference !== undefined) catalogue.push({ index: page.index, reference });
    }
    return { nodes: nodeReferences, catalogue };
  }

  /** The objects that hold a page in use, by what moved: the cost follows the change. */
  #liveObjects({ leaves, nodes, pages }: Pick<Outcome, 'leaves' | 'nodes' | 'pages'>, identity: CheckpointIdentity): Map<number, CheckpointObject> {
    const objects = new Map(this.#state.objects);
    const add = (number: number, epoch: number, bytes: number): void => {
      const { objectBytes, liveBytes } = objects.get(number) ?? { objectBytes: 0, liveBytes: 0 };
      objects.set(number, { number, epoch, objectBytes, liveBytes: liveBytes + bytes });
    };
    const move = (source: PageReference | null | undefined, target: PageReference | null): void => {
      if (source !== null && source !== undefined) add(source.number, source.epoch, -align8(source.length));
      if (target !== null) add(target.number, target.epoch, align8(target.length));
    };
    for (const [leaf, reference] of leaves) move(leaf.reference, reference);
    for (const [index, reference] of nodes) move(this.#state.nodes.get(index), reference);
    for (const [page, reference] of pages) move(page.reference, reference);
    for (const object of objects.values()) {
      assert(object.liveBytes >= 0, `checkpoint ${object.number} has ${object.liveBytes} bytes in use`);
      if (object.liveBytes === 0) objects.delete(object.number);
    }
    // The newest object holds the root: it stays whatever else it holds. Its length without root and footer is near enough.
    const own = objects.get(identity.number)?.liveBytes ?? 0;
    objects.set(identity.number, { number: identity.number, epoch: identity.epoch, objectBytes: own + CHECKPOINT_HEADER_BYTES, liveBytes: own });
    return objects;
  }

  #takeOver(outcome: Outcome): void {
    const { map, catalogue } = this.#core;
    for (const [leaf, reference] of outcome.leaves) map.checkpointed(leaf, reference);
    for (const [index, reference] of outcome.nodes) {
      if (reference === null) this.#state.nodes.delete(index);
      else this.#state.nodes.set(index, reference);
    }
    for (const [page, reference] of outcome.pages) catalogue.checkpointed(page, reference);
    this.#unused.push(...[...this.#state.objects.values()].filter((object) => !outcome.objects.has(object.number)));
    this.#state.objects.clear();
    for (const [number, object] of outcome.objects) this.#state.objects.set(number, object);
    map.trimMemory();
  }

  /** Removes some of what no root refers to; the rest when commits had their turn: after a large trim there is much. */
  async #removeSome(): Promise<void> {
    const { store, catalogue, reader, counters, env } = this.#core;
    if (this.#stopped) return;
    for (const chunk of this.#removable.splice(0, REMOVED_AT_ONCE)) {
      const facts = catalogue.get(chunk);
      if (facts === undefined) continue;
      catalogue.leave(chunk);
      await reader.forget(chunk); // the space of a file that is open is not used again
      const isKept = store.spareBytes + facts.objectBytes <= this.#unusedLimit;
      await store.remove(chunkKey(facts.epoch, chunk), isKept ? facts.objectBytes : 0);
      void reader.forget(chunk); // a late reader may have opened it once more
      catalogue.remove(chunk);
      counters.chunksRemoved += 1;
    }
    for (const object of this.#unused.splice(0)) await store.remove(checkpointKey(object.epoch, object.number));
    // What lives may have become less.
    await store.releaseSpace(this.#unusedLimit);
    await store.settle(); // so that the next set need not make new files
    if (this.#removable.length === 0 || this.#stopped) return;
    this.#removalTimer ??= env.clock.setTimer(REMOVAL_PAUSE_MS, () => {
      this.#removalTimer = null;
      this.#queue(() => this.#removeSome());
    });
  }
}
