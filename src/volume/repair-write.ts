/** The objects that a repair writes: chunks of what only the log has, and the checkpoint of the whole volume. */
import { VolumeError } from '../base/errors.ts';
import { chunkKey } from '../chunk/chunk-reader.ts';
import type { FileSystem } from '../env/env.ts';
import { type CatalogueEntry, type CheckpointIdentity, type IndexedReference, type NodeEntry, PAGE_FANOUT, type PageReference, type Run, encodeCataloguePage, encodeLeaf, encodeNode, encodeRoot } from '../format/checkpoint-layout.ts';
import { type ChunkIdentity, MAX_CHUNK_RANGES, encodeChunkHeader, encodeChunkTail } from '../format/chunk-layout.ts';
import { LEAF_BLOCKS } from '../index/block-map.ts';
import type { StagedObject } from '../store/object-store.ts';
import { PageWriter } from './checkpointer.ts';
import { walkMap } from './inspect-map.ts';
import type { Inspection } from './inspect.ts';
import { LoggedBlocks } from './logged-blocks.ts';
import { type RepairPlan, soundRuns } from './repair-plan.ts';
import { checkpointKey } from './volume-files.ts';

/** Bytes of blocks in a chunk: as in those of a running volume. */
const CHUNK_DATA_BYTES = 4 * 1024 * 1024;

/** A chunk as the catalogue has it. */
export interface ChunkFacts {
  readonly epoch: number;
  readonly blockCount: number;
  readonly objectBytes: number;
}

export interface RepairTarget {
  readonly files: FileSystem;
  readonly directory: string;
  /** What the objects are written under. */
  readonly epoch: number;
}

/** Writes what only the log has as one set of chunks; durable on return. Returns their facts and puts their blocks into the map. */
export async function writeLoggedBlocks(inspection: Inspection, plan: RepairPlan, target: RepairTarget): Promise<Map<number, ChunkFacts>> {
  const { manifest, chain, log, local: store, map } = inspection;
  const written = new Map<number, ChunkFacts>();
  const blocks = [...plan.logged.keys()].toSorted((a, b) => a - b);
  if (blocks.length === 0) return written;
  const perChunk = CHUNK_DATA_BYTES / manifest.blockSizeBytes;
  const parts = Math.ceil(blocks.length / perChunk);
  const source = new LoggedBlocks(target, manifest.blockSizeBytes);
  const staged: StagedObject[] = [];
  const release = map.hold();
  try {
    for (let part = 1; part <= parts; part += 1) {
      const numbers = blocks.slice((part - 1) * perChunk, part * perChunk);
      const chunkNumber = plan.largestChunk + part;
      const identity: ChunkIdentity = { volumeId: manifest.volumeId, blockSizeBytes: manifest.blockSizeBytes, epoch: target.epoch, chunkNumber, firstLsn: chain.lastLsn + 1, lastLsn: log.lastLsn, previousChunk: chain.lastChunk, part, parts };
      const object = await store.stage(chunkKey(target.epoch, chunkNumber));
      staged.push(object);
      const objectBytes = await writeChunk(object, identity, numbers, plan, source);
      await object.seal();
      written.set(chunkNumber, { epoch: target.epoch, blockCount: numbers.length, objectBytes });
      for (const [slot, blockNumber] of numbers.entries()) {
        await map.load(Math.floor(blockNumber / LEAF_BLOCKS));
        map.place(blockNumber, 1, chunkNumber, slot);
      }
    }
    await store.publish(staged);
  } finally {
    release();
    await source.close();
  }
  return written;
}

async function writeChunk(object: StagedObject, identity: ChunkIdentity, numbers: readonly number[], plan: RepairPlan, source: LoggedBlocks): Promise<number> {
  const header = encodeChunkHeader(identity);
  await object.append([header]);
  const checksums = new Uint32Array(numbers.length);
  for (const [slot, blockNumber] of numbers.entries()) {
    const place = plan.logged.get(blockNumber);
    if (place === undefined) throw new VolumeError('corrupt', `block ${blockNumber} is in no record of the log`);
    const block = await source.read(place);
    checksums[slot] = block.checksum;
    await object.append([block.bytes]);
  }
  // The new checkpoint says what the ranges did; they are here for whoever rebuilds the map from chunks once more.
  const ranges = identity.part === 1 ? plan.ranges.slice(0, MAX_CHUNK_RANGES) : [];
  const tail = encodeChunkTail(identity, header, { blockNumbers: Float64Array.from(numbers), checksums }, ranges);
  await object.append([tail]);
  return header.length + numbers.length * identity.blockSizeBytes + tail.length;
}

/** Writes the whole map as one checkpoint object; durable on return. */
export async function writeWholeCheckpoint(inspection: Inspection, identity: CheckpointIdentity, written: ReadonlyMap<number, ChunkFacts>): Promise<void> {
  const { local: store, map } = inspection;
  const object = await store.stage(checkpointKey(identity.epoch, identity.number));
  const writer = new PageWriter(object, identity);
  const live = new Map<number, number>();
  const nodes: IndexedReference[] = [];
  const used: PageReference[] = [];
  let node: { readonly index: number; readonly entries: NodeEntry[] } = { index: -1, entries: [] };
  const endNode = async (): Promise<void> => {
    if (node.entries.length === 0) return;
    const reference = await writer.page(encodeNode(node.index, node.entries));
    used.push(reference);
    nodes.push({ index: node.index, reference });
  };
  await walkMap(map, async (leaf, runs) => {
    const sound = runs.flatMap((run) => (written.has(run.chunk) ? [run] : soundRuns(inspection, leaf, [run])));
    if (sound.length === 0) return;
    countLive(live, sound);
    const index = Math.floor(leaf / PAGE_FANOUT);
    if (index !== node.index) {
      await endNode();
      node = { index, entries: [] };
    }
    const reference = await writer.page(encodeLeaf(leaf, sound));
    used.push(reference);
    node.entries.push({ place: leaf % PAGE_FANOUT, reference });
  });
  await endNode();
  const catalogue = await writeCatalogue(writer, inspection, written, live);
  used.push(...catalogue.map(({ reference }) => reference));
  const liveBytes = used.reduce((sum, { length }) => sum + Math.ceil(length / 8) * 8, 0);
  const objects = [{ number: identity.number, epoch: identity.epoch, objectBytes: writer.offset, liveBytes }];
  await writer.finish(await writer.page(encodeRoot(identity.number, { nodes, catalogue, objects })));
  await object.seal();
  await store.publish([object]);
}

function countLive(live: Map<number, number>, runs: readonly Run[]): void {
  for (const { chunk, blockCount } of runs) live.set(chunk, (live.get(chunk) ?? 0) + blockCount);
}

async function writeCatalogue(writer: PageWriter, { chunks }: Inspection, written: ReadonlyMap<number, ChunkFacts>, live: ReadonlyMap<number, number>): Promise<IndexedReference[]> {
  const pages = new Map<number, CatalogueEntry[]>();
  for (const chunk of [...chunks.keys(), ...written.keys()].toSorted((a, b) => a - b)) {
    const liveBlocks = live.get(chunk) ?? 0;
    const inspected = chunks.get(chunk);
    const facts = written.get(chunk) ?? (inspected === undefined ? undefined : { epoch: inspected.epoch, blockCount: inspected.blockCount, objectBytes: inspected.sizeBytes });
    if (liveBlocks === 0 || facts === undefined) continue;
    const index = Math.floor(chunk / PAGE_FANOUT);
    const entries = pages.get(index) ?? [];
    pages.set(index, entries);
    entries.push({ place: chunk % PAGE_FANOUT, liveBlocks, ...facts });
  }
  const references: IndexedReference[] = [];
  for (const [index, entries] of pages) references.push({ index, reference: await writer.page(encodeCataloguePage(index, entries)) });
  return references;
}
