/** Reading a checkpoint: the root, the nodes and the catalogue at once, leaves when they are needed. */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import {
  CHECKPOINT_FOOTER_BYTES,
  CHECKPOINT_HEADER_BYTES,
  PAGE_FANOUT,
  type PageReference,
  decodeCataloguePage,
  decodeCheckpointFooter,
  decodeCheckpointHeader,
  decodeNode,
  decodeRoot,
} from '../format/checkpoint-layout.ts';
import type { Manifest } from '../format/manifest.ts';
import type { BlockMap } from '../index/block-map.ts';
import type { ChunkCatalogue } from '../index/chunk-catalogue.ts';
import type { ObjectOpener, ObjectStore, StoredObject } from '../store/object-store.ts';
import type { CheckpointState } from './checkpointer.ts';
import { isDamage } from './inspect-findings.ts';
import { checkpointKey } from './volume-files.ts';
import type { OnProgress } from './volume-info.ts';

/** A page longer than this is refused before memory is taken for it: the longest there are is a node's. */
const MAX_PAGE_BYTES = 64 * 1024 * 1024;

/** Error: `corrupt`, if a page does not fit the object that it should be in. */
export function checkPage(object: StoredObject, reference: PageReference, name: string): void {
  const fits = reference.length <= MAX_PAGE_BYTES && reference.offset >= CHECKPOINT_HEADER_BYTES && reference.offset + reference.length <= object.sizeBytes - CHECKPOINT_FOOTER_BYTES;
  if (!fits) throw new VolumeError('corrupt', `${name}: a page at byte ${reference.offset}, ${reference.length} bytes, does not fit an object of ${object.sizeBytes} bytes`);
}

export async function readPage(object: StoredObject, reference: PageReference, name: string): Promise<Uint8Array> {
  checkPage(object, reference, name);
  const bytes = new Uint8Array(reference.length);
  await object.read(bytes, reference.offset);
  return bytes;
}

/** Checkpoint objects kept open while many pages are read from them. */
export class PageReader {
  readonly #store: ObjectOpener;
  readonly #open = new Map<number, StoredObject>();

  constructor(store: ObjectOpener) {
    this.#store = store;
  }

  async read(reference: PageReference): Promise<{ bytes: Uint8Array; name: string }> {
    const name = checkpointKey(reference.epoch, reference.number);
    let object = this.#open.get(reference.number);
    if (object === undefined) {
      object = await this.#store.open(name);
      this.#open.set(reference.number, object);
    }
    return { bytes: await readPage(object, reference, name), name };
  }

  /** Descriptors that were only read from have nothing to lose when their close fails. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#open.values()].map((object) => object.close()));
  }
}

/** Brings a leaf into memory, the map being held; the error, if its page is damaged. Rejects with anything else. */
export async function loadIfSound(map: BlockMap, index: number): Promise<VolumeError | null> {
  try {
    await map.load(index);
    return null;
  } catch (error) {
    if (error instanceof VolumeError && isDamage(error)) return error;
    throw error;
  }
}

/** Fills `map` and `catalogue` from the checkpoint that the manifest names; empty without one. */
export async function loadCheckpoint(store: ObjectStore, manifest: Manifest, map: BlockMap, catalogue: ChunkCatalogue, onProgress: OnProgress): Promise<CheckpointState> {
  const dead: number[] = [];
  const state: CheckpointState = { nodes: new Map(), objects: new Map(), dead };
  const { number, epoch, lastChunk, lastLsn } = manifest.checkpoint;
  if (number === 0) return state;
  const name = checkpointKey(epoch, number);
  const { volumeId, blockSizeBytes, createdBytes: sizeBytes } = manifest;
  const pages = new PageReader(store);
  try {
    const object = await store.open(name);
    try {
      const header = new Uint8Array(CHECKPOINT_HEADER_BYTES);
      await object.read(header, 0);
      decodeCheckpointHeader(header, { volumeId, blockSizeBytes, sizeBytes, epoch, number, lastChunk, lastLsn }, name);
      const footer = new Uint8Array(CHECKPOINT_FOOTER_BYTES);
      await object.read(footer, Math.max(0, object.sizeBytes - CHECKPOINT_FOOTER_BYTES));
      const reference = decodeCheckpointFooter(footer, object.sizeBytes, { number, epoch }, name);
      const root = decodeRoot(await readPage(object, reference, name), reference, name);
      for (const entry of root.objects) state.objects.set(entry.number, entry);
      for (const [done, node] of root.nodes.entries()) {
        onProgress({ task: 'block map', done, total: root.nodes.length });
        state.nodes.set(node.index, node.reference);
        const page = await pages.read(node.reference);
        for (const entry of decodeNode(page.bytes, node.index, node.reference, page.name)) map.addStored(node.index * PAGE_FANOUT + entry.place, entry.reference);
      }
      for (const { index, reference: at } of root.catalogue) {
        const page = await pages.read(at);
        catalogue.restore(index, at, decodeCataloguePage(page.bytes, index, at, page.name));
      }
      dead.push(...catalogue.deadChunks);
    } finally {
      await object.close();
    }
  } catch (error) {
    // A volume of which a part is missing is damaged; `not-found` would say that there is no volume.
    if (error instanceof VolumeError && error.code === 'not-found') throw new VolumeError('corrupt', `${error.message}; the block map needs it. Nothing was changed`, { cause: error });
    throw toVolumeError(error, `reading checkpoint ${name}`);
  } finally {
    await pages.close();
  }
  return state;
}
