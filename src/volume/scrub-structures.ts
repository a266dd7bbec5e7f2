/** What a scrub looks at besides the chunks: the manifest, the pages of the checkpoint, and whether map, catalogue and chunks fit together. */
import type { ChunkTables } from '../format/chunk-layout.ts';
import type { ObjectOpener, StoredObject } from '../store/object-store.ts';
import type { InspectedChunk } from './inspect-chunks.ts';
import type { Finding } from './inspect-findings.ts';
import type { OnProgress, RottenPlace } from './volume-info.ts';

/** Reading at the scrub's rate. */
export interface PacedReading {
  readonly store: ObjectOpener;
  readonly onProgress: OnProgress;
}

/** What was looked at, and what is wrong with it. */
export interface StructureReport {
  readonly pages: number;
  readonly mappedBlocks: number;
  readonly places: readonly RottenPlace[];
}

export const NOTHING_SEEN: StructureReport = { pages: 0, mappedBlocks: 0, places: [] };

/** The structures of a volume, as far as they are looked at before, beside and after its chunks. */
export interface Structures {
  begin(reading: PacedReading): Promise<StructureReport>;
  /** Chunks that the checkpoint needs, whether they are there or not; after `begin`. Empty where the volume knows them itself. */
  readonly neededChunks: readonly { readonly chunk: number; readonly epoch: number }[];
  /** A chunk was read; `tables` are null if they are not sound. */
  compare(chunk: InspectedChunk, tables: ChunkTables | null): Promise<readonly RottenPlace[]>;
  end(reading: PacedReading): Promise<StructureReport>;
}

/** A place in the block map, the catalogue or the manifest. */
export function structurePlace({ file, offsetBytes, problem }: Pick<Finding, 'file' | 'offsetBytes' | 'problem'>): RottenPlace {
  return { file, chunk: null, blockNumber: null, offsetBytes, problem, inUse: true, rewritten: 0 };
}

/** A store whose objects are read at a rate. */
export function pacedStore(store: ObjectOpener, pace: (bytes: number) => Promise<void>): ObjectOpener {
  return {
    open: async (key) => {
      const object = await store.open(key);
      const paced: StoredObject = {
        sizeBytes: object.sizeBytes,
        read: async (target, offsetBytes) => {
          await object.read(target, offsetBytes);
          await pace(target.length);
        },
        close: () => object.close(),
      };
      return paced;
    },
  };
}
