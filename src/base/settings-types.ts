/**
 * The settings that components are given, as plain data. Their ranges, defaults and descriptions stand in one
 * table, `config/settings.ts`, which builds these objects; nothing below `config/` has a default of its own.
 */

import type { AddressRange } from './address-range.ts';

/** Whether the log's records are compressed; `auto`: while the disk is slower than compressing. */
export const LOG_COMPRESSIONS = ['off', 'lz4', 'auto'] as const;
export type LogCompression = (typeof LOG_COMPRESSIONS)[number];

/** Whether the blocks of chunks are compressed. */
export const CHUNK_COMPRESSIONS = ['off', 'lz4'] as const;
export type ChunkCompression = (typeof CHUNK_COMPRESSIONS)[number];

/**
 * How a log reaches the disk. `buffered`: plain writes and syncs. `direct`, in mode strict: writes past the page cache that are both. `mmap`:
 * small writes are copies into a shared mapping.
 */
export const LOG_WAYS = ['buffered', 'direct', 'mmap'] as const;
export type LogWay = (typeof LOG_WAYS)[number];

/** What a measurement chooses between when a volume is made. */
export const MEASURED_LOG_WAYS = ['buffered', 'direct'] as const;
export type MeasuredLogWay = (typeof MEASURED_LOG_WAYS)[number];

/** `auto`: as measured when the volume was made, and `buffered` where that was not. */
export const LOG_IO_MODES = [...LOG_WAYS, 'auto'] as const;
export type LogIo = (typeof LOG_IO_MODES)[number];

/** TLS for NBD clients: never; for exports that ask for it, and whoever wants it; before anything else. */
export const TLS_MODES = ['off', 'selective', 'forced'] as const;
export type TlsMode = (typeof TLS_MODES)[number];

/** Limits and policies of the volume engine. Bytes, milliseconds and counts as the names say. */
export interface EngineSettings {
  /** Memory for block data in all volumes together: dirty slabs and clean (cached) ones. */
  readonly arenaBytes: number;
  /** Of that, how much may be dirty (hot or pending) before writers wait. */
  readonly dirtyBytes: number;
  /** Resident block-map leaves of one volume; clean ones beyond it are dropped and read back when needed. */
  readonly indexBytes: number;
  /** Block tables of chunks kept in memory, one volume. */
  readonly chunkTableBytes: number;
  /** Unpacked frames of compressed chunks kept for small reads in sequence, one volume; and at most as much of buffers that wait to be read into. */
  readonly frameCacheBytes: number;
  /** Chunk files kept open, one volume. */
  readonly openChunkFiles: number;
  readonly logFileBytes: number;
  /** Erase block of the flash that volumes are made on: their log files are whole ones. A power of two; 0: log files are as asked for. */
  readonly eraseBlockBytes: number;
  readonly logFileCount: number;
  readonly logCompress: LogCompression;
  readonly chunkCompress: ChunkCompression;
  readonly logIo: LogIo;
  /** Largest log write done within the turn; a larger one goes through the thread pool. */
  readonly logInlineBytes: number;
  /** A log write in the turn that takes longer than this sends the next ones to the thread pool for a while. */
  readonly logInlineLatencyMs: number;
  /** Syncs as fast as this are done within the turn; 0 never does. */
  readonly logInlineSyncLatencyMs: number;
  /** batched mode: sync when this many blocks are unsynced... */
  readonly batchBlocks: number;
  /** ...or the oldest unsynced write is this old. */
  readonly batchMs: number;
  /** async mode: how often the log is written and synced. */
  readonly asyncIntervalMs: number;
  /** Sealed slabs beyond this are made into chunks at once. */
  readonly flushBytes: number;
  /** Data older than this is made into a chunk, however little it is. */
  readonly flushIntervalMs: number;
  /** Chunks built and written at the same time, one volume. */
  readonly chunkConcurrency: number;
  /** Files of removed chunks kept to be written again, one volume. */
  readonly spareBytes: number;
  /** A checkpoint is cut after this many chunks... */
  readonly checkpointChunks: number;
  /** ...or this long after the first change since the last one. */
  readonly checkpointIntervalMs: number;
  /** Chunks with less live data than this part of their bytes are rewritten... */
  readonly compactLivePercent: number;
  /** ...and others, too, while all chunks together take more than this, in percent of their live data. */
  readonly compactSpacePercent: number;
  /** Rewriting chunks writes no more than this in a second; where chunks take too much space, and a multiple of what writers write. */
  readonly compactBytesPerSecond: number;
  /** Pause between a change and the search for chunks to rewrite. */
  readonly compactPauseMs: number;
  /** Scrubbing reads no more than this in a second; a quarter of it while clients are at work. */
  readonly scrubBytesPerSecond: number;
  /** Pause before a failed write to the store or the log is tried again. */
  readonly retryMs: number;
  /** A volume that no client uses is closed after this time. */
  readonly idleCloseMs: number;
}

/** What a FLUSH, and a write with FUA, wait for: the disk here, or the bucket. */
export const FLUSH_TARGETS = ['local', 'remote'] as const;
export type FlushTarget = (typeof FLUSH_TARGETS)[number];

/** Prices of a store, in whatever currency. */
export interface RemotePrices {
  /** Of 1000 requests that write or list, and of 1000 that read. */
  readonly pricePuts: number;
  readonly priceGets: number;
  /** Of a GiB that is stored for a month, and of one that is read. */
  readonly priceStored: number;
  readonly priceReceived: number;
}

/** What a volume's bucket may cost, and how long things may take. */
export interface RemoteSettings extends RemotePrices {
  /** Objects here that are in the bucket as well, one volume. */
  readonly cacheBytes: number;
  /** Those of them that were not read for so long go from here; 0: for want of room alone. */
  readonly cacheTtlMs: number;
  /** The unit in which objects of the bucket are fetched. */
  readonly fetchBytes: number;
  /** Memory for what is fetched ahead while reads are sequential. */
  readonly readAheadBytes: number;
  /** Memory for copies of chunks that wait to be shipped. */
  readonly shipMemoryBytes: number;
  /** Objects on their way to the bucket at a time, one volume. */
  readonly shipConcurrency: number;
  /** Nobody takes a volume over without force before its writer gave no sign of life for so long. */
  readonly leaseMs: number;
  /** Pause before a failed shipment is tried again. */
  readonly retryMs: number;
  readonly flushTarget: FlushTarget;
  /** Chunks here that are not in the bucket: near this writers are slowed, at this they wait; 0: as much as the disk takes. */
  readonly maxUnshippedBytes: number;
  /** While there are writes it is made sure so often that nobody has taken the volume over. */
  readonly ownerCheckMs: number;
  /** Objects that are put in an hour, on the average; 0: as many as there are. */
  readonly maxPutsPerHour: number;
  /** Less than a slab waits so long for more of it; 0: as long as the lease allows. */
  readonly shipIntervalMs: number;
  /** Objects that nothing refers to are removed when they are so old. */
  readonly orphanGraceMs: number;
  /** So often it is noted in the bucket which chunks are used; 0: never. */
  readonly hotIntervalMs: number;
  /** How often a volume of another host that is followed looks for a newer state; 0: when somebody asks. */
  readonly followIntervalMs: number;
}

/** Limits of the NBD server. */
export interface ServerSettings {
  readonly maxConnections: number;
  /** Of those, how many from one address (IPv6: from one /64); unix sockets have none. 0: no limit of its own. */
  readonly maxConnectionsPerAddress: number;
  /** Clients that negotiate at a time; one more takes the place of the one that has been at it longest. */
  readonly maxHalfOpen: number;
  /** A client must enter transmission within this time. */
  readonly handshakeTimeoutMs: number;
  /** Options one client may send. */
  readonly maxOptions: number;
  /** Longest option data read; a longer one closes the connection. */
  readonly maxOptionBytes: number;
  /** Requests of one connection that are not answered yet; beyond it the socket is paused. */
  readonly maxRequestsInFlight: number;
  /** Reply bytes of one connection that the client has not taken yet; beyond it the socket is paused. */
  readonly maxReplyBytes: number;
  /** Memory for replies that clients have not taken yet, all connections together; beyond it only small reads go on. */
  readonly replyBytes: number;
  /** Largest READ or WRITE; advertised as the maximum block size. */
  readonly maxRequestBytes: number;
  /** Memory for write payloads that have not arrived whole, all connections together. */
  readonly payloadBytes: number;
  /** A client that stops in the middle of a request is dropped after this time. */
  readonly payloadTimeoutMs: number;
  /** A client with an export that asks for nothing is closed after this time; 0: never. */
  readonly idleTimeoutMs: number;
  /** Volume served for the export name ""; empty: the only volume there is. */
  readonly defaultExport: string;
  readonly tls: TlsMode;
  /** Directory of server-cert.pem, server-key.pem, ca-cert.pem and ca-crl.pem; empty: none. */
  readonly tlsCertificates: string;
  /** File of lines `user:hex`; empty: none. */
  readonly tlsPskFile: string;
  /** Whether a client must show a certificate that ca-cert.pem vouches for (or know a key of the PSK file). */
  readonly tlsVerifyPeer: boolean;
  readonly tlsHandshakeTimeoutMs: number;
  /** TLS handshakes under way; others wait. */
  readonly maxTlsHandshakes: number;
  /** Permissions of unix sockets, octal. */
  readonly socketMode: string;
  /** `user`, `user:group` or `:group`, names or numbers; empty: whoever runs the server. */
  readonly socketOwner: string;
}

/** Who may use an export, and how. */
export interface ExportSettings {
  readonly readOnly: boolean;
  /** Where its clients may come from; `unix` is a unix socket. Null: from anywhere. */
  readonly allow: readonly (AddressRange | 'unix')[] | null;
  readonly tlsRequired: boolean;
  /** Names of which a client must have proved one by its certificate or its key. Null: none is asked for. */
  readonly tlsNames: readonly string[] | null;
}

/** By export name; `*` is for all that have none of their own. */
export type ExportTable = ReadonlyMap<string, ExportSettings>;

/** Every setting, grouped by who takes it. */
export interface Settings {
  readonly engine: EngineSettings;
  readonly server: ServerSettings;
}

/** How calls of a remote store are tried again. */
export interface RetrySettings {
  /** Tries of one call, the first one included. */
  readonly attempts: number;
  /** Limit of the delay before the second try; it doubles with each, up to `delayMsMax`. After `slow down` it begins at `throttledDelayMs`. */
  readonly delayMs: number;
  readonly throttledDelayMs: number;
  readonly delayMsMax: number;
  /** One try, and a call with all its tries. */
  readonly attemptTimeoutMs: number;
  readonly callTimeoutMs: number;
}

/** Checksums of the SDK beside those that basalt's own objects carry. Not every store takes them. */
export const S3_CHECKSUMS = ['off', 'crc32'] as const;
export type S3Checksums = (typeof S3_CHECKSUMS)[number];

/** A bucket of an S3-compatible store, and how it is spoken to. */
export interface S3Settings {
  /** `https://host:port`; null: Amazon's own, of the region. */
  readonly endpoint: string | null;
  readonly region: string;
  readonly bucket: string;
  /** All keys stand below it; empty, or segments with slashes between them. */
  readonly prefix: string;
  /** A file as `~/.aws/credentials` is, and the section of it that counts; null: where the SDK looks (environment, its files, the instance). */
  readonly credentialsFile: string | null;
  readonly profile: string;
  /** The bucket in the path, not in the host's name; null: with an endpoint of one's own. */
  readonly pathStyle: boolean | null;
  /** PEM: the authorities that the endpoint's certificate may come from, in place of those that Node knows. */
  readonly caFile: string | null;
  /** Connections at a time; calls beyond it wait. */
  readonly socketsMax: number;
  readonly connectTimeoutMs: number;
  readonly checksums: S3Checksums;
  readonly retries: RetrySettings;
}
