/** What can be said of a volume without opening it, and what its creator chooses. */
import type { VolumeCompression } from '../base/compression.ts';
import type { Durability } from '../base/durability.ts';
import type { ChunkCompression, EngineSettings, LogCompression, LogWay, MeasuredLogWay } from '../base/settings-types.ts';
import type { VolumeLimits } from '../base/volume-limits.ts';
import type { RequestCounters } from '../store/remote-store.ts';

export interface CreateOptions {
  /** A multiple of the block size, at most 2^53-1. */
  readonly sizeBytes: number;
  /** Power of two, 4096 to 65536. */
  readonly blockSizeBytes: number;
  readonly durability: Durability;
  /** `default` if it is not given. */
  readonly compression?: VolumeCompression;
  /** For its clients; none if it is not given. */
  readonly limits?: VolumeLimits;
  /** What of its log is to be other than the settings of this process say. */
  readonly log?: LogChoices;
}

/** The settings that a volume keeps from the moment when it is made, and the one that is measured for then. */
export type LogChoices = Partial<Pick<EngineSettings, 'logFileBytes' | 'logFileCount' | 'eraseBlockBytes' | 'logIo'>>;

export interface VolumeInfo {
  readonly name: string;
  /** 32 hexadecimal digits. */
  readonly id: string;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly durability: Durability;
  /** How often the volume was opened for writing. */
  readonly epoch: number;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
  /** Newest checkpoint: its number, the last chunk and the last LSN that it covers; 0 for none. */
  readonly checkpointNumber: number;
  readonly checkpointChunk: number;
  readonly checkpointLsn: number;
  readonly logFileBytes: number;
  readonly logFileCount: number;
  /** How the log is written as the settings of this process say. */
  readonly logWay: LogWay;
  /** The quickest way for mode strict, as measured when the volume was made; null: not measured. */
  readonly measuredLogWay: MeasuredLogWay | null;
  /** Whether the log is compressed, as the settings of this process say. */
  readonly logCompress: LogCompression;
  /** What the volume says of the blocks of new chunks, and what becomes of them by that and by the settings of this process. */
  readonly compression: VolumeCompression;
  readonly chunkCompress: ChunkCompression;
  /** What people say of it. */
  readonly labels: Readonly<Record<string, string>>;
  /** For its clients. */
  readonly limits: VolumeLimits;
  /** Bytes that the volume's files take. */
  readonly storedBytes: number;
  /** Where the volume is that it follows, of another host; null: it is this host's own. */
  readonly follows: string | null;
  /** Whether a process has it open now. */
  readonly open: boolean;
  /** What keeps it from being opened for writing, as far as that is known, and what to do about it; null: nothing that is known. */
  readonly damage: string | null;
  /** Whether that is known: the volume is open for writing, damage was found, or looked for. Else `damage` is null because nobody has looked. */
  readonly damageLookedFor: boolean;
}

/** A volume of which its damage is all that can be said. */
export interface UnreadableVolume {
  readonly name: string;
  readonly damage: string;
}

/** A volume in a list. */
export type ListedVolume = VolumeInfo | UnreadableVolume;

/** What a run of an open volume has done so far; plain counters. */
export interface VolumeStats {
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly zeroedBytes: number;
  readonly logBytes: number;
  readonly logWrites: number;
  readonly logSyncs: number;
  readonly logFiles: number;
  /** As of now: files of the log whose records are all in chunks. */
  readonly logFreeFiles: number;
  readonly chunkBytes: number;
  readonly chunksWritten: number;
  readonly chunksRemoved: number;
  /** Of `chunkBytes` and `chunksWritten`, what compaction wrote: copies of what was stored already. */
  readonly compactionBytes: number;
  readonly compactions: number;
  /** As of now: bytes of the blocks that live in chunks, what they take there (less where it is compressed), bytes of all chunks, and of the files kept to be written again. */
  readonly liveBytes: number;
  readonly liveStoredBytes: number;
  readonly storedChunkBytes: number;
  readonly spareBytes: number;
  readonly checkpointBytes: number;
  readonly checkpoints: number;
  readonly cacheHits: number;
  readonly cacheMisses: number;
  /** Blocks that were dropped from the cache because the memory was needed. */
  readonly cacheEvictions: number;
  /** As of now: memory of the arena that holds what waits for a chunk, and what is cached. */
  readonly dirtyBytes: number;
  readonly cachedBytes: number;
  /** Scrubs that went through all there is, and the bytes that scrubs have read. */
  readonly scrubs: number;
  readonly scrubbedBytes: number;
  /** What scrubs found rotten (blocks, chunks that cannot be read as a whole, pages, the manifest), and what was written anew from memory. */
  readonly rottenFound: number;
  readonly rottenRewritten: number;
}

/** What lives in chunks, and what it takes. */
export interface ChunkSpace {
  readonly liveBytes: number;
  readonly liveStoredBytes: number;
  readonly storedChunkBytes: number;
  /** Of the first two: 1 where nothing is compressed; null where nothing lives in chunks. */
  readonly compressionRatio: number | null;
}

export function chunkSpaceOf({ liveBytes, liveStoredBytes, storedChunkBytes }: Omit<ChunkSpace, 'compressionRatio'>): ChunkSpace {
  return { liveBytes, liveStoredBytes, storedChunkBytes, compressionRatio: liveStoredBytes === 0 ? null : liveBytes / liveStoredBytes };
}

/** What is found in a volume that is not open. */
export interface Probe {
  /** What keeps it from being opened for writing, and what to do about it; null: nothing. */
  readonly damage: string | null;
  /** Null: that could not be told. */
  readonly space: ChunkSpace | null;
}

/** Data that a certain loss would take, were it to come now. */
export interface DataAtRisk {
  /** A range of zeroes counts as one block, however long it is. */
  readonly bytes: number;
  /** How long ago the oldest of it was written, or read from the log when the volume was opened; 0 if there is none. */
  readonly ageMs: number;
}

export interface AtRisk {
  /** Accepted and not synced: what a power cut can take (mode async: of this, a killed process what is not written yet). */
  readonly unsynced: DataAtRisk;
  /** In the log and not yet in a chunk: what the loss of the log's files would take. */
  readonly unchunked: DataAtRisk;
}

/** What was written to the device since the volume was opened. */
export interface Wear {
  /** Log, chunks and checkpoints. The kernel may merge what is overwritten at once: the device sees at most this. */
  readonly deviceBytes: number;
  readonly userBytes: number;
  /** Device bytes per user byte; null before the first write. */
  readonly factor: number | null;
}

/** What only the process that has a volume open knows of it. */
export interface VolumeStatus {
  readonly atRisk: AtRisk;
  readonly wear: Wear;
  readonly stats: VolumeStats;
  /** Why it takes no more writes until it is opened anew; null while it does. */
  readonly failure: string | null;
  /** How the log is written: as asked for, or `buffered` where the machine cannot do that. Null: it was opened for reading alone. */
  readonly logWay: LogWay | null;
  /** Whether records of the log are compressed now: `auto` does it while the disk is slow. Null: it was opened for reading alone. */
  readonly logCompressing: boolean | null;
  /** Why it was opened for reading alone; null if it was opened for writing. */
  readonly readOnly: string | null;
  /** How far its bucket is behind; null: it has none, or was opened for reading alone. */
  readonly shipping: ShippingStatus | null;
  /** Requests to its bucket since it was opened; null: it has none, or was opened for reading alone without it. */
  readonly bucketRequests: Readonly<RequestCounters> | null;
  /** Which state of a volume that another host writes is served; null: it is this host's own. */
  readonly following: FollowStatus | null;
}

/** Of a volume that is read from the bucket where another host ships it. */
export interface FollowStatus {
  readonly url: string;
  /** The host that has the volume, as it calls itself. */
  readonly owner: string;
  /** The state that is served: epoch and checkpoint of its root, last chunk and LSN. */
  readonly epoch: number;
  readonly checkpoint: number;
  readonly chunk: number;
  readonly lsn: number;
  /** When the last of it was put, in milliseconds since 1970 by the bucket's clock, and how long ago that is by the clock here. */
  readonly writtenMs: number;
  readonly ageMs: number;
  /** How long ago it was the newest that the bucket had. */
  readonly lookAgeMs: number;
  /** It stays at this state until somebody asks for a newer one. */
  readonly isPinned: boolean;
  /** How often it moved on to a newer state since it was opened. */
  readonly moves: number;
  /** Of its objects, what is kept here. */
  readonly cachedBytes: number;
  /** Why it did not move on lately; null: all is well. */
  readonly trouble: string | null;
}

/** What a bucket costs in a month, by the prices of the settings. Null: the volume was opened just now. */
export interface RemoteBill {
  readonly storage: number;
  readonly requests: number | null;
  readonly transfer: number | null;
}

export interface ShippingStatus {
  /** Chunks that the bucket does not have. */
  readonly unshippedBytes: number;
  readonly unshippedObjects: number;
  /** How long the oldest of them has been waiting; 0 if there is none. */
  readonly ageMs: number;
  /** Bytes here that are in the bucket as well. */
  readonly cachedBytes: number;
  /** Of the newest root that was put: last chunk and LSN that it covers. */
  readonly rootChunk: number;
  readonly rootLsn: number;
  /** Why nothing was shipped lately; null: all is well. */
  readonly trouble: string | null;
  /** Whether writers wait for the bucket: because too much is not shipped, or because the disk here is full. */
  readonly writers: 'free' | 'slowed' | 'paused';
  /** Objects of the volume in the bucket. */
  readonly bucketBytes: number;
  /** Objects there that nothing refers to, and old roots, that are not removed yet. */
  readonly orphans: number;
  /** By the month. */
  readonly bill: RemoteBill;
  /** How far the fetching of what is likely to be needed is; null: it is not wanted, or over. */
  readonly prefetch: PrefetchStatus | null;
}

export interface PrefetchStatus {
  readonly fetchedBytes: number;
  readonly totalBytes: number;
}

/** How far a tool is. */
export interface Progress {
  readonly task: string;
  readonly done: number;
  readonly total: number;
}

export type OnProgress = (progress: Progress) => void;

/** Told how far the opening of a volume is, until that has ended. */
export interface OpeningWatch {
  readonly onProgress: OnProgress;
  end(): void;
}

/** Something that is not as it was written. */
export interface RottenPlace {
  /** Path of the file within the volume's directory. */
  readonly file: string;
  /** Number of the chunk; null: it is in the block map, the catalogue of the chunks, or the manifest. */
  readonly chunk: number | null;
  /** Null: header, tables or footer, so that no block of the chunk can be told from it; or not in a chunk. */
  readonly blockNumber: number | null;
  readonly offsetBytes: number | null;
  readonly problem: string;
  /** Whether the volume needs it; null when that could not be told. */
  readonly inUse: boolean | null;
  /** Blocks, or pages of the block map, that were written anew, so that the volume needs their rotten copies no more. */
  readonly rewritten: number;
}

export interface ScrubReport {
  readonly volume: string;
  readonly isClean: boolean;
  readonly chunks: number;
  readonly blocks: number;
  /** Pages of the checkpoint that were read: its root, nodes, leaves, and the catalogue of the chunks. The manifest was read, too. */
  readonly pages: number;
  /** Entries of the block map that were compared with the catalogue and the chunks. */
  readonly mappedBlocks: number;
  readonly bytes: number;
  /** The first thousand of what was found, and how many there are. */
  readonly rotten: readonly RottenPlace[];
  readonly rottenCount: number;
  readonly rewrittenCount: number;
  readonly elapsedMs: number;
}

/** Told of each record as it takes its place in the volume's order; the simulator's model listens here. */
export interface VolumeObserver {
  /** `kind`: block data, or a range that reads as zeroes from now on. Several records may carry one request. */
  accepted(record: { readonly kind: 'write' | 'zero'; readonly lsn: number; readonly blockNumber: number; readonly blockCount: number }): void;
}
