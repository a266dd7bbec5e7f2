/** The statistics as Prometheus scrapes them, at `/metrics`. Names by its conventions: base units, `_total` for what only grows. */
import { OPERATIONS, type RequestStats } from '../base/request-stats.ts';
import type { VolumeLimits } from '../base/volume-limits.ts';
import type { VolumeStatus } from '../volume/volume-info.ts';
import { Exposition, type MetricType } from './exposition.ts';
import type { ServerInfo } from './routes.ts';
import type { StatsAnswer } from './stats.ts';

/** Bounds of latencies are powers of two microseconds, from 16 us to 67 s: the histograms are exact there. */
const FIRST_BOUND = 4;
const LAST_BOUND = 26;

/** What `writeMetrics` tells of. */
export interface MetricsSource {
  readonly server: ServerInfo;
  readonly stats: StatsAnswer;
  readonly requestsOf: (volume: string) => RequestStats | null;
}

type Row<T> = readonly [name: string, type: MetricType, help: string, value: (source: T) => number | null];

const seconds = (milliseconds: number): number => milliseconds / 1000;
const flag = (isSet: boolean): number => (isSet ? 1 : 0);
const WRITERS = { free: 0, slowed: 0.5, paused: 1 } as const;

/** Of each volume that is open. */
const VOLUME_ROWS: readonly Row<VolumeStatus>[] = [
  ['basalt_volume_failed', 'gauge', '1 when the volume takes no more writes until it is opened anew.', ({ failure }) => flag(failure !== null)],
  ['basalt_volume_read_only', 'gauge', '1 when the volume was opened for reading alone, for damage or want of space.', ({ readOnly, following }) => flag(readOnly !== null && following === null)],
  ['basalt_volume_unsynced_bytes', 'gauge', 'Data that a power cut would take now.', ({ atRisk }) => atRisk.unsynced.bytes],
  ['basalt_volume_unsynced_age_seconds', 'gauge', 'Age of the oldest data that is not synced.', ({ atRisk }) => seconds(atRisk.unsynced.ageMs)],
  ['basalt_volume_unchunked_bytes', 'gauge', 'Data that is in the log alone.', ({ atRisk }) => atRisk.unchunked.bytes],
  ['basalt_volume_unchunked_age_seconds', 'gauge', 'Age of the oldest data that is in the log alone.', ({ atRisk }) => seconds(atRisk.unchunked.ageMs)],
  ['basalt_volume_written_bytes_total', 'counter', 'Bytes that clients wrote.', ({ stats }) => stats.writtenBytes],
  ['basalt_volume_zeroed_bytes_total', 'counter', 'Bytes that clients trimmed or zeroed.', ({ stats }) => stats.zeroedBytes],
  ['basalt_volume_device_bytes_total', 'counter', 'Bytes written to the disk: log, chunks, checkpoints.', ({ wear }) => wear.deviceBytes],
  ['basalt_volume_log_bytes_total', 'counter', 'Bytes written to the log.', ({ stats }) => stats.logBytes],
  ['basalt_volume_log_writes_total', 'counter', 'Writes to the log.', ({ stats }) => stats.logWrites],
  ['basalt_volume_log_syncs_total', 'counter', 'Syncs of the log.', ({ stats }) => stats.logSyncs],
  ['basalt_volume_log_files', 'gauge', 'Files of the log.', ({ stats }) => stats.logFiles],
  ['basalt_volume_log_free_files', 'gauge', 'Files of the log that may be used anew.', ({ stats }) => stats.logFreeFiles],
  ['basalt_volume_chunk_bytes_total', 'counter', 'Bytes written to chunks.', ({ stats }) => stats.chunkBytes],
  ['basalt_volume_chunks_written_total', 'counter', 'Chunks written.', ({ stats }) => stats.chunksWritten],
  ['basalt_volume_chunks_removed_total', 'counter', 'Chunks removed.', ({ stats }) => stats.chunksRemoved],
  ['basalt_volume_compaction_bytes_total', 'counter', 'Of the bytes written to chunks, copies by compaction.', ({ stats }) => stats.compactionBytes],
  ['basalt_volume_compactions_total', 'counter', 'Chunks of copies by compaction.', ({ stats }) => stats.compactions],
  ['basalt_volume_checkpoint_bytes_total', 'counter', 'Bytes written to checkpoints.', ({ stats }) => stats.checkpointBytes],
  ['basalt_volume_checkpoints_total', 'counter', 'Checkpoints written.', ({ stats }) => stats.checkpoints],
  ['basalt_volume_live_bytes', 'gauge', 'Bytes of the blocks that live in chunks.', ({ stats }) => stats.liveBytes],
  ['basalt_volume_live_stored_bytes', 'gauge', 'What these take there: less where they are compressed.', ({ stats }) => stats.liveStoredBytes],
  ['basalt_volume_stored_chunk_bytes', 'gauge', 'Bytes of all chunks.', ({ stats }) => stats.storedChunkBytes],
  ['basalt_volume_spare_bytes', 'gauge', 'Bytes of removed chunks that are kept to be written again.', ({ stats }) => stats.spareBytes],
  ['basalt_volume_cache_hits_total', 'counter', 'Blocks that were read from memory.', ({ stats }) => stats.cacheHits],
  ['basalt_volume_cache_misses_total', 'counter', 'Blocks that were read from chunks.', ({ stats }) => stats.cacheMisses],
  ['basalt_volume_cache_evictions_total', 'counter', 'Blocks that were dropped from the cache for want of memory.', ({ stats }) => stats.cacheEvictions],
  ['basalt_volume_dirty_bytes', 'gauge', 'Memory that holds what waits for a chunk.', ({ stats }) => stats.dirtyBytes],
  ['basalt_volume_cached_bytes', 'gauge', 'Memory that is a cache of chunks.', ({ stats }) => stats.cachedBytes],
  ['basalt_volume_scrubs_total', 'counter', 'Scrubs that went through all there is.', ({ stats }) => stats.scrubs],
  ['basalt_volume_scrubbed_bytes_total', 'counter', 'Bytes that scrubs have read.', ({ stats }) => stats.scrubbedBytes],
  ['basalt_volume_rotten_found_total', 'counter', 'Places that scrubs found rotten.', ({ stats }) => stats.rottenFound],
  ['basalt_volume_rotten_rewritten_total', 'counter', 'Blocks and pages that scrubs wrote anew from memory.', ({ stats }) => stats.rottenRewritten],
  ['basalt_bucket_unshipped_bytes', 'gauge', 'Chunks that the bucket does not have.', ({ shipping }) => shipping?.unshippedBytes ?? null],
  ['basalt_bucket_unshipped_age_seconds', 'gauge', 'How long the oldest of them has waited.', ({ shipping }) => (shipping === null ? null : seconds(shipping.ageMs))],
  ['basalt_bucket_in_trouble', 'gauge', '1 when nothing could be shipped lately.', ({ shipping }) => (shipping === null ? null : flag(shipping.trouble !== null))],
  ['basalt_bucket_cached_bytes', 'gauge', 'Bytes here that are in the bucket as well.', ({ shipping }) => shipping?.cachedBytes ?? null],
  ['basalt_bucket_writers_paused', 'gauge', '1 when writers wait for the bucket, 0.5 when they are slowed.', ({ shipping }) => (shipping === null ? null : WRITERS[shipping.writers])],
  ['basalt_bucket_stored_bytes', 'gauge', 'Objects of the volume in the bucket.', ({ shipping }) => shipping?.bucketBytes ?? null],
  ['basalt_bucket_orphans', 'gauge', 'Objects in the bucket that nothing refers to, and old roots, that are not removed yet.', ({ shipping }) => shipping?.orphans ?? null],
  ['basalt_volume_followed_age_seconds', 'gauge', 'Age of the state that is served of a volume of another host, by its bucket.', ({ following }) => (following === null ? null : seconds(following.ageMs))],
  ['basalt_volume_followed_look_age_seconds', 'gauge', 'How long ago that state was the newest in the bucket; not of what is pinned.', ({ following }) => (following === null || following.isPinned ? null : seconds(following.lookAgeMs))],
  ['basalt_volume_followed_moves_total', 'counter', 'How often it moved on to a newer state.', ({ following }) => following?.moves ?? null],
  ['basalt_bucket_prefetch_left_bytes', 'gauge', 'Bytes that are to be fetched of the bucket before somebody asks for them.', ({ shipping }) => (shipping === null ? null : (shipping.prefetch?.totalBytes ?? 0) - (shipping.prefetch?.fetchedBytes ?? 0))],
  ['basalt_bucket_sent_bytes_total', 'counter', 'Bytes of bodies sent to the bucket.', ({ bucketRequests }) => bucketRequests?.sentBytes ?? null],
  ['basalt_bucket_received_bytes_total', 'counter', 'Bytes of bodies received from the bucket.', ({ bucketRequests }) => bucketRequests?.receivedBytes ?? null],
  ['basalt_bucket_retries_total', 'counter', 'Requests to the bucket that were a second or later try.', ({ bucketRequests }) => bucketRequests?.retries ?? null],
  ['basalt_bucket_throttled_total', 'counter', 'Requests that the bucket answered with "slow down".', ({ bucketRequests }) => bucketRequests?.throttled ?? null],
];

const REQUEST_ROWS: readonly Row<RequestStats>[] = [
  ['basalt_volume_clients', 'gauge', 'Clients that have the volume.', ({ clients }) => clients],
  ['basalt_volume_requests_in_flight', 'gauge', 'Requests that wait for the volume now.', ({ inFlight }) => inFlight],
  ['basalt_requests_refused_total', 'counter', 'Requests that were refused before the volume was asked.', ({ refused }) => refused],
  ['basalt_requests_throttled_total', 'counter', 'Requests that had to wait for a limit of the volume.', ({ throttled }) => throttled],
];

const PROCESS_ROWS: readonly Row<MetricsSource>[] = [
  ['process_resident_memory_bytes', 'gauge', 'Resident memory of the process.', ({ stats }) => stats.process.residentBytes],
  ['process_cpu_seconds_total', 'counter', 'Processor time of the process.', ({ stats }) => seconds(stats.process.userCpuMs + stats.process.systemCpuMs)],
  ['process_start_time_seconds', 'gauge', 'When the process began, in seconds since 1970.', ({ server }) => seconds(server.startedMs)],
  ['basalt_connections', 'gauge', 'NBD clients that are connected.', ({ server }) => server.connections],
  ['basalt_connections_half_open', 'gauge', 'Of these, how many have no export yet.', ({ server }) => server.halfOpen],
];

/** All metrics, in the text format. */
export function writeMetrics(source: MetricsSource): string {
  const text = new Exposition();
  for (const [name, type, help, value] of PROCESS_ROWS) text.family(name, type, help).sample(value(source) ?? 0);
  writeServer(text, source);
  const live = source.stats.volumes.flatMap(({ name, live: status }) => (status === null ? [] : [[name, status] as const]));
  writeRows(text, VOLUME_ROWS, live);
  writeBuckets(text, live);
  const asked = source.stats.volumes.flatMap(({ name }) => {
    const requests = source.requestsOf(name);
    return requests === null ? [] : [[name, requests] as const];
  });
  writeRows(text, REQUEST_ROWS, asked);
  writeRows(text, LIMIT_ROWS, source.stats.volumes.flatMap(({ name, limits }) => (limits === null ? [] : [[name, limits] as const])));
  writeOperations(text, asked);
  return text.toString();
}

const LIMIT_ROWS: readonly Row<VolumeLimits>[] = [
  ['basalt_volume_limit_requests_per_second', 'gauge', 'Limit of requests a second; absent: none.', ({ operationsPerSecond }) => operationsPerSecond],
  ['basalt_volume_limit_bytes_per_second', 'gauge', 'Limit of bytes a second; absent: none.', ({ bytesPerSecond }) => bytesPerSecond],
];

function writeRows<T>(text: Exposition, rows: readonly Row<T>[], volumes: readonly (readonly [string, T])[]): void {
  for (const [name, type, help, valueOf] of rows) {
    const family = text.family(name, type, help);
    for (const [volume, source] of volumes) {
      const value = valueOf(source);
      if (value !== null) family.sample(value, { volume });
    }
  }
}

function writeServer(text: Exposition, { server, stats: { memory } }: MetricsSource): void {
  const clients = text.family('basalt_clients_total', 'counter', 'What became of clients.');
  for (const [outcome, count] of Object.entries<number>({ ...server.clients })) clients.sample(count, { outcome: outcome.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`) });
  const used = text.family('basalt_memory_bytes', 'gauge', 'Memory that volumes and clients share, by its use.');
  const uses: Record<string, number> = { dirty: memory.dirtyBytes, cached: memory.cachedBytes, lent: memory.lentBytes, buffers: memory.bufferBytes, idle_buffers: memory.idleBufferBytes, replies: memory.replyBytes, payloads: memory.payloadBytes };
  for (const [use, bytes] of Object.entries(uses)) used.sample(bytes, { use });
  const limits = text.family('basalt_memory_limit_bytes', 'gauge', 'Limits of that memory; arena is dirty and cached together.');
  for (const [use, bytes] of Object.entries({ arena: memory.arenaBytes, replies: memory.replyBytesMax, payloads: memory.payloadBytesMax })) limits.sample(bytes, { use });
}

function writeBuckets(text: Exposition, live: readonly (readonly [string, VolumeStatus])[]): void {
  const family = text.family('basalt_bucket_requests_total', 'counter', 'Requests to the bucket, each try of them.');
  for (const [volume, { bucketRequests }] of live) {
    if (bucketRequests === null) continue;
    const { puts, gets, lists, deletes } = bucketRequests;
    for (const [kind, count] of Object.entries({ put: puts, get: gets, list: lists, delete: deletes })) family.sample(count, { volume, kind });
  }
}

function writeOperations(text: Exposition, asked: readonly (readonly [string, RequestStats])[]): void {
  const bytes = text.family('basalt_request_bytes_total', 'counter', 'Bytes of the ranges of requests that were answered well.');
  for (const [volume, stats] of asked) OPERATIONS.forEach((operation, index) => bytes.sample(stats.bytes[index], { volume, operation }));
  const errors = text.family('basalt_request_errors_total', 'counter', 'Requests that the volume answered with an error.');
  for (const [volume, stats] of asked) OPERATIONS.forEach((operation, index) => errors.sample(stats.errors[index], { volume, operation }));
  const duration = text.family('basalt_request_duration_seconds', 'histogram', 'From the arrival of a request until its answer is with the socket.');
  for (const [volume, stats] of asked) {
    OPERATIONS.forEach((operation, index) => {
      const latency = stats.latencies[index];
      for (let exponent = FIRST_BOUND; exponent <= LAST_BOUND; exponent += 1) {
        duration.sample(latency.countUpTo(exponent), { volume, operation, le: String(2 ** exponent / 1e6) }, '_bucket');
      }
      duration.sample(latency.count, { volume, operation, le: '+Inf' }, '_bucket');
      duration.sample(seconds(latency.sumMs), { volume, operation }, '_sum');
      duration.sample(latency.count, { volume, operation }, '_count');
    });
  }
}
