/** Checks what a server says of volumes: another version of it may say something else. */
import { VOLUME_COMPRESSIONS } from '../base/compression.ts';
import { isDurability } from '../base/durability.ts';
import { CHUNK_COMPRESSIONS, LOG_COMPRESSIONS, LOG_WAYS } from '../base/settings-types.ts';
import type { FollowStatus, Progress, ScrubReport, ShippingStatus } from '../volume/volume-info.ts';
import { OPERATIONS } from '../base/request-stats.ts';
import type { VolumeLimits } from '../base/volume-limits.ts';
import type { CompressionAnswer, ListedDetails, VolumeDetails } from './routes.ts';
import type { StatsAnswer, VolumeStatsAnswer } from './stats.ts';

type Check = (value: unknown) => boolean;

const isNumber: Check = (value) => typeof value === 'number' && Number.isFinite(value);
const oneOf = (values: readonly string[]): Check => (value) => values.some((known) => known === value);
const isLogWay = oneOf(LOG_WAYS);
const isText: Check = (value) => typeof value === 'string';
const isFlag: Check = (value) => typeof value === 'boolean';
const orNull = (check: Check): Check => (value) => value === null || check(value);

/** Whether a value is an object with at least these members. */
function hasMembers(checks: Readonly<Record<string, Check>>): Check {
  return (value) => {
    if (typeof value !== 'object' || value === null) return false;
    const members = new Map<string, unknown>(Object.entries(value));
    return Object.entries(checks).every(([key, check]) => check(members.get(key)));
  };
}

const isLabelTable: Check = (value) => typeof value === 'object' && value !== null && Object.values(value).every(isText);
const isLimits = hasMembers({ operationsPerSecond: orNull(isNumber), burstOperations: orNull(isNumber), bytesPerSecond: orNull(isNumber), burstBytes: orNull(isNumber) });
const isRisk = hasMembers({ bytes: isNumber, ageMs: isNumber });
const isBucketRequests = hasMembers({ puts: isNumber, gets: isNumber, lists: isNumber, deletes: isNumber, sentBytes: isNumber, receivedBytes: isNumber, retries: isNumber, throttled: isNumber });
const isBill = hasMembers({ storage: isNumber, requests: orNull(isNumber), transfer: orNull(isNumber) });
const isShippingStatus = hasMembers({ unshippedBytes: isNumber, unshippedObjects: isNumber, ageMs: isNumber, cachedBytes: isNumber, rootChunk: isNumber, rootLsn: isNumber, trouble: orNull(isText), writers: oneOf(['free', 'slowed', 'paused']), bucketBytes: isNumber, orphans: isNumber, bill: isBill, prefetch: orNull(hasMembers({ fetchedBytes: isNumber, totalBytes: isNumber })) });
const isFollowing = hasMembers({ url: isText, owner: isText, epoch: isNumber, checkpoint: isNumber, chunk: isNumber, lsn: isNumber, writtenMs: isNumber, ageMs: isNumber, lookAgeMs: isNumber, isPinned: isFlag, moves: isNumber, cachedBytes: isNumber, trouble: orNull(isText) });
const isStatus = hasMembers({
  atRisk: hasMembers({ unsynced: isRisk, unchunked: isRisk }),
  wear: hasMembers({ deviceBytes: isNumber, userBytes: isNumber, factor: orNull(isNumber) }),
  stats: hasMembers({}),
  failure: orNull(isText),
  logWay: orNull(isLogWay),
  logCompressing: orNull(isFlag),
  readOnly: orNull(isText),
  shipping: orNull(isShippingStatus),
  bucketRequests: orNull(isBucketRequests),
  following: orNull(isFollowing),
});
const isSpace = hasMembers({ liveBytes: isNumber, liveStoredBytes: isNumber, storedChunkBytes: isNumber, compressionRatio: orNull(isNumber) });
const compressionChecks = { name: isText, compression: oneOf(VOLUME_COMPRESSIONS), chunkCompress: oneOf(CHUNK_COMPRESSIONS) };
const isDetails = hasMembers({
  ...compressionChecks,
  id: isText,
  sizeBytes: isNumber,
  blockSizeBytes: isNumber,
  durability: isDurability,
  epoch: isNumber,
  createdMs: isNumber,
  checkpointNumber: isNumber,
  checkpointChunk: isNumber,
  checkpointLsn: isNumber,
  logFileBytes: isNumber,
  logFileCount: isNumber,
  logWay: isLogWay,
  measuredLogWay: orNull(isLogWay),
  logCompress: oneOf(LOG_COMPRESSIONS),
  labels: isLabelTable,
  limits: isLimits,
  storedBytes: isNumber,
  follows: orNull(isText),
  open: isFlag,
  damage: orNull(isText),
  damageLookedFor: isFlag,
  live: orNull(isStatus),
  space: orNull(isSpace),
});

const isCompression = hasMembers(compressionChecks);

export function isCompressionAnswer(value: unknown): value is CompressionAnswer {
  return isCompression(value);
}

const isUnreadable = hasMembers({ name: isText, damage: isText });

/** Whether a value is an answer to the question for all volumes. */
export function isVolumeList(value: unknown): value is { readonly volumes: readonly ListedDetails[] } {
  if (typeof value !== 'object' || value === null || !('volumes' in value) || !Array.isArray(value.volumes)) return false;
  return value.volumes.every((volume: unknown) => isDetails(volume) || isUnreadable(volume));
}

export function isFollowStatus(value: unknown): value is FollowStatus {
  return isFollowing(value);
}

export function isShipping(value: unknown): value is ShippingStatus {
  return isShippingStatus(value);
}

const isPlace = hasMembers({ file: isText, chunk: orNull(isNumber), blockNumber: orNull(isNumber), offsetBytes: orNull(isNumber), problem: isText, inUse: orNull(isFlag), rewritten: isNumber });
const isReport = hasMembers({
  volume: isText,
  isClean: isFlag,
  chunks: isNumber,
  blocks: isNumber,
  pages: isNumber,
  mappedBlocks: isNumber,
  bytes: isNumber,
  rotten: (value) => Array.isArray(value) && value.every(isPlace),
  rottenCount: isNumber,
  rewrittenCount: isNumber,
  elapsedMs: isNumber,
});

export function isScrubReport(value: unknown): value is ScrubReport {
  return isReport(value);
}

const isTaskProgress = hasMembers({ task: isText, done: isNumber, total: isNumber });

export function isProgress(value: unknown): value is Progress {
  return isTaskProgress(value);
}

const listOf = (check: Check): Check => (value) => Array.isArray(value) && value.every(check);
const isBucket: Check = (value) => Array.isArray(value) && value.length === 2 && value.every(isNumber);
const isOperation = hasMembers({
  count: isNumber,
  bytes: isNumber,
  errors: isNumber,
  latency: hasMembers({ count: isNumber, sumMs: isNumber, maxMs: isNumber, p50Ms: orNull(isNumber), p99Ms: orNull(isNumber), p999Ms: orNull(isNumber) }),
  buckets: listOf(isBucket),
});
const isRequests = hasMembers({
  clients: isNumber,
  inFlight: isNumber,
  inFlightMax: isNumber,
  refused: isNumber,
  throttled: isNumber,
  operations: hasMembers(Object.fromEntries(OPERATIONS.map((operation) => [operation, isOperation]))),
});
const isOneStats = hasMembers({ name: isText, requests: orNull(isRequests), limits: orNull(isLimits), live: orNull(isStatus) });
const isMemory = hasMembers({ arenaBytes: isNumber, dirtyBytes: isNumber, cachedBytes: isNumber, lentBytes: isNumber, bufferBytes: isNumber, idleBufferBytes: isNumber, replyBytes: isNumber, replyBytesMax: isNumber, payloadBytes: isNumber, payloadBytesMax: isNumber });
const isAllStats = hasMembers({
  atMs: isNumber,
  connections: isNumber,
  memory: isMemory,
  process: hasMembers({ residentBytes: isNumber, userCpuMs: isNumber, systemCpuMs: isNumber }),
  volumes: listOf(isOneStats),
});

export function isLabels(value: unknown): value is Readonly<Record<string, string>> {
  return isLabelTable(value);
}

export function isVolumeLimits(value: unknown): value is VolumeLimits {
  return isLimits(value);
}

export function isStats(value: unknown): value is StatsAnswer {
  return isAllStats(value);
}

export function isVolumeStats(value: unknown): value is VolumeStatsAnswer {
  return isOneStats(value);
}

export function isVolumeDetails(value: unknown): value is VolumeDetails {
  return isDetails(value);
}
