/**
 * The newest checkpoint, looked at page by page: what cannot be read is a finding, the rest counts. The leaves are read later,
 * when the map is walked.
 */
import { checksum } from '../base/checksum.ts';
import { align8, viewOf } from '../format/bytes.ts';
import {
  CHECKPOINT_FOOTER_BYTES,
  CHECKPOINT_HEADER_BYTES,
  type CatalogueEntry,
  type CheckpointIdentity,
  PAGE_FANOUT,
  type PageReference,
  type Root,
  decodeCataloguePage,
  decodeCheckpointFooter,
  decodeCheckpointHeader,
  decodeNode,
  decodeRoot,
  encodeCheckpointHeader,
} from '../format/checkpoint-layout.ts';
import type { Manifest } from '../format/manifest.ts';
import type { ObjectOpener, StoredObject } from '../store/object-store.ts';
import { BlockRanges, type Findings } from './inspect-findings.ts';
import { PageReader, readPage } from './load-checkpoint.ts';
import { checkpointKey } from './volume-files.ts';

export interface InspectedCheckpoint {
  /** Not null: nothing of the block map can be found, the other fields are empty; takes the blocks that are lost by it. */
  readonly lostRoot: BlockRanges | null;
  /** Where each leaf stands. */
  readonly leaves: ReadonlyMap<number, PageReference>;
  /** Nodes that cannot be read, so that the places of their leaves are not known: first leaf, and what takes the blocks lost by it. */
  readonly lostNodes: ReadonlyMap<number, BlockRanges>;
  /** What the catalogue says of each chunk; without those of damaged pages. */
  readonly catalogue: ReadonlyMap<number, CatalogueEntry>;
  readonly catalogueIsSound: boolean;
  /** Keys of the checkpoint objects that it consists of. */
  readonly keys: ReadonlySet<string>;
  /** Pages that were read: the root, nodes, and pages of the catalogue. */
  readonly pageCount: number;
}

/** The checksum of the header stands here in the footer. */
const FOOTER_HEADER_CRC_OFFSET = 28;
const HEADER_CRC_BYTES = 88;

export async function inspectCheckpoint(store: ObjectOpener, manifest: Manifest, findings: Findings): Promise<InspectedCheckpoint> {
  const leaves = new Map<number, PageReference>();
  const catalogue = new Map<number, CatalogueEntry>();
  const keys = new Set<string>();
  const lostNodes = new Map<number, BlockRanges>();
  if (manifest.checkpoint.number === 0) return { lostRoot: null, leaves, lostNodes, catalogue, catalogueIsSound: true, keys, pageCount: 0 };
  const root = await readRoot(store, manifest, findings);
  if (root instanceof BlockRanges) return { lostRoot: root, leaves, lostNodes, catalogue, catalogueIsSound: false, keys, pageCount: 1 };
  keys.add(checkpointKey(manifest.checkpoint.epoch, manifest.checkpoint.number));
  for (const { epoch, number } of root.objects) keys.add(checkpointKey(epoch, number));
  const used = new Map<number, number>();
  const count = ({ number, length }: PageReference): void => void used.set(number, (used.get(number) ?? 0) + align8(length));
  const pages = new PageReader(store);
  let catalogueIsSound = true;
  try {
    for (const { index, reference } of root.nodes) {
      count(reference);
      try {
        const { bytes, name } = await pages.read(reference);
        for (const entry of decodeNode(bytes, index, reference, name)) {
          leaves.set(index * PAGE_FANOUT + entry.place, entry.reference);
          count(entry.reference);
        }
      } catch (error) {
        lostNodes.set(index * PAGE_FANOUT, findings.failed(checkpointKey(reference.epoch, reference.number), error));
      }
    }
    for (const { index, reference } of root.catalogue) {
      count(reference);
      try {
        const { bytes, name } = await pages.read(reference);
        for (const entry of decodeCataloguePage(bytes, index, reference, name)) catalogue.set(index * PAGE_FANOUT + entry.place, entry);
      } catch (error) {
        findings.failed(checkpointKey(reference.epoch, reference.number), error);
        catalogueIsSound = false;
      }
    }
  } finally {
    await pages.close();
  }
  if (lostNodes.size === 0) reconcileObjects(root, used, manifest, findings);
  return { lostRoot: null, leaves, lostNodes, catalogue, catalogueIsSound, keys, pageCount: 1 + root.nodes.length + root.catalogue.length };
}

/** The root says how many bytes of each object are in use: those of the pages that were counted. */
function reconcileObjects(root: Root, used: ReadonlyMap<number, number>, manifest: Manifest, findings: Findings): void {
  const file = checkpointKey(manifest.checkpoint.epoch, manifest.checkpoint.number);
  const known = new Map(root.objects.map((object) => [object.number, object.liveBytes]));
  for (const number of new Set([...known.keys(), ...used.keys()])) {
    const [said, counted] = [known.get(number) ?? 0, used.get(number) ?? 0];
    if (said !== counted) findings.broken(file, null, `its root says that ${said} bytes of checkpoint ${number} are in use, counted ${counted}`);
  }
}

/** The root page; or, if it cannot be had, what takes the blocks that are lost by it. */
async function readRoot(store: ObjectOpener, manifest: Manifest, findings: Findings): Promise<Root | BlockRanges> {
  const { number, epoch } = manifest.checkpoint;
  const name = checkpointKey(epoch, number);
  let object: StoredObject;
  try {
    object = await store.open(name);
  } catch (error) {
    return findings.failed(name, error);
  }
  try {
    const identity: CheckpointIdentity = { ...manifest.checkpoint, volumeId: manifest.volumeId, blockSizeBytes: manifest.blockSizeBytes, sizeBytes: manifest.createdBytes };
    const badHeader = await checkHeader(object, identity, name, findings);
    const footer = new Uint8Array(CHECKPOINT_FOOTER_BYTES);
    await object.read(footer, Math.max(0, object.sizeBytes - CHECKPOINT_FOOTER_BYTES));
    const reference = decodeCheckpointFooter(footer, object.sizeBytes, { number, epoch }, name);
    // The footer has the header's checksum: it tells whose checkpoint this is when the header itself cannot.
    const wanted = checksum(encodeCheckpointHeader(identity).subarray(0, HEADER_CRC_BYTES));
    if (viewOf(footer).getUint32(FOOTER_HEADER_CRC_OFFSET, true) !== wanted) {
      return badHeader ?? findings.broken(name, object.sizeBytes - CHECKPOINT_FOOTER_BYTES + FOOTER_HEADER_CRC_OFFSET, 'header and footer are not of one object');
    }
    return decodeRoot(await readPage(object, reference, name), reference, name);
  } catch (error) {
    return findings.failed(name, error);
  } finally {
    await object.close();
  }
}

async function checkHeader(object: StoredObject, identity: CheckpointIdentity, name: string, findings: Findings): Promise<BlockRanges | null> {
  try {
    const header = new Uint8Array(CHECKPOINT_HEADER_BYTES);
    await object.read(header, 0);
    decodeCheckpointHeader(header, identity, name);
    return null;
  } catch (error) {
    return findings.failed(name, error);
  }
}
