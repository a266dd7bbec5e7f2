/** The structures of a volume whose files stand still, as nobody has it open or it is open for reading alone: looked at as `check` does. */
import { chunkKey, readChunkTables } from '../chunk/chunk-reader.ts';
import type { FileSystem } from '../env/env.ts';
import type { ChunkTables } from '../format/chunk-layout.ts';
import { type Manifest, encodeManifest } from '../format/manifest.ts';
import type { ObjectOpener } from '../store/object-store.ts';
import { type InspectedCheckpoint, inspectCheckpoint } from './inspect-checkpoint.ts';
import { type InspectedChunk, chunkExpectations } from './inspect-chunks.ts';
import { Findings, faultOf } from './inspect-findings.ts';
import { inspectLeaves, reconcileCatalogue } from './inspect-map.ts';
import { NOTHING_SEEN, type PacedReading, type StructureReport, type Structures, structurePlace } from './scrub-structures.ts';
import { checkpointKey, manifestKey, readManifest } from './volume-files.ts';
import type { RottenPlace } from './volume-info.ts';

export class StillStructures implements Structures {
  readonly #files: FileSystem;
  readonly #directory: string;
  readonly #manifest: Manifest;
  readonly #chunks = new Map<number, InspectedChunk>();
  #checkpoint: InspectedCheckpoint | null = null;

  /** `manifest` is that of the volume, as it was read. */
  constructor(files: FileSystem, directory: string, manifest: Manifest) {
    this.#files = files;
    this.#directory = directory;
    this.#manifest = manifest;
  }

  /** Chunks that the catalogue says the block map refers to, whether they are there or not; after `begin`. */
  get neededChunks(): { readonly chunk: number; readonly epoch: number }[] {
    const catalogue = this.#checkpoint?.catalogue ?? [];
    return [...catalogue].filter(([, { liveBlocks }]) => liveBlocks > 0).map(([chunk, { epoch }]) => ({ chunk, epoch }));
  }

  async begin({ store }: PacedReading): Promise<StructureReport> {
    const findings = new Findings();
    const found = await this.#manifestFault();
    if (found !== null) findings.broken(manifestKey(), found.offsetBytes, found.problem);
    this.#checkpoint = await inspectCheckpoint(store, this.#manifest, findings);
    return { pages: this.#checkpoint.pageCount, mappedBlocks: 0, places: findings.list.map(structurePlace) };
  }

  async #manifestFault(): Promise<ReturnType<typeof faultOf> | null> {
    try {
      const read = await readManifest(this.#files, this.#directory);
      return manifestsDiffer(read, this.#manifest) ? { offsetBytes: null, problem: 'is not the manifest that the volume was opened with' } : null;
    } catch (error) {
      return faultOf(manifestKey(), error);
    }
  }

  compare(chunk: InspectedChunk): Promise<readonly RottenPlace[]> {
    this.#chunks.set(chunk.chunk, chunk);
    return Promise.resolve([]);
  }

  async end({ store, onProgress }: PacedReading): Promise<StructureReport> {
    const [checkpoint, manifest, chunks] = [this.#checkpoint, this.#manifest, this.#chunks];
    if (checkpoint === null) return NOTHING_SEEN;
    const findings = new Findings();
    const readTables = (chunk: number): Promise<ChunkTables> => tablesOf(store, manifest, chunks.get(chunk)?.epoch ?? 0, chunk);
    const volumeBlocks = manifest.spanBytes / manifest.blockSizeBytes;
    const leaves = await inspectLeaves({ store, checkpoint, chunks, volumeBlocks, readTables, findings, onProgress });
    const isComplete = checkpoint.lostRoot === null && checkpoint.lostNodes.size === 0 && leaves.damaged.size === 0;
    reconcileCatalogue(checkpoint, chunks, leaves.live, isComplete, findings, checkpointKey(manifest.checkpoint.epoch, manifest.checkpoint.number));
    const mappedBlocks = [...leaves.live.values()].reduce((sum, count) => sum + count, 0);
    return { pages: checkpoint.leaves.size, mappedBlocks, places: findings.list.map(structurePlace) };
  }
}

async function tablesOf(store: ObjectOpener, manifest: Manifest, epoch: number, chunk: number): Promise<ChunkTables> {
  const key = chunkKey(epoch, chunk);
  const object = await store.open(key);
  try {
    return (await readChunkTables(object, chunkExpectations(manifest), chunk, key)).tables;
  } finally {
    await object.close();
  }
}

export function manifestsDiffer(one: Manifest, other: Manifest): boolean {
  return Buffer.compare(encodeManifest(one), encodeManifest(other)) !== 0;
}
