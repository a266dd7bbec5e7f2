/** `basalt show NAME` */
import type { Argv, Options } from 'yargs';
import { formatSize } from '../../base/units.ts';
import { describeLimits, hasLimits } from '../../base/volume-limits.ts';
import type { VolumeDetails } from '../../control/routes.ts';
import type { ChunkSpace, DataAtRisk, ShippingStatus, VolumeStatus } from '../../volume/volume-info.ts';
import type { CliContext } from '../context.ts';
import { describeLife, type DiskLife, estimateLife } from '../disk-life.ts';
import { DATA_FLAG, JSON_FLAG, readSettings, SETTINGS_FLAGS, type SettingsArguments } from '../flags.ts';
import { formatJson, formatTable } from '../output.ts';
import { describeState } from './follow.ts';

export const showFlags = { data: DATA_FLAG, ...SETTINGS_FLAGS, json: JSON_FLAG } as const satisfies Record<string, Options>;

/** A size, and its exact bytes where the short form hides them. */
function exactSize(bytes: number): string {
  return bytes < 1024 ? formatSize(bytes) : `${formatSize(bytes)} (${bytes} bytes)`;
}

/** `4.0 MiB, oldest 1.2 s` */
function describeRisk({ bytes, ageMs }: DataAtRisk): string {
  return bytes === 0 ? 'nothing' : `${formatSize(bytes)}, oldest ${(ageMs / 1000).toFixed(1)} s`;
}

/** What scrubs found since the volume was opened. */
function describeScrubs({ scrubs, scrubbedBytes, rottenFound, rottenRewritten }: VolumeStatus['stats']): [string, string][] {
  if (scrubbedBytes === 0) return [];
  return [['scrubbed', `${scrubs} times whole, ${formatSize(scrubbedBytes)}; rotten: ${rottenFound}, written anew: ${rottenRewritten}`]];
}

/** What lives in chunks, what it takes there, and what all chunks take. */
function describeSpace({ liveBytes, liveStoredBytes, storedChunkBytes, compressionRatio }: ChunkSpace): string {
  const ratio = compressionRatio !== null && liveStoredBytes < liveBytes ? `, compressed ${compressionRatio.toFixed(2)} : 1` : '';
  return `${formatSize(liveBytes)} in ${formatSize(storedChunkBytes)} of chunks${ratio}`;
}

const amount = (value: number): string => (value > 0 && value < 0.01 ? 'under 0.01' : value.toFixed(2));

/** `0.52 a month: 0.46 for space, 0.06 for requests` */
function describeBill({ bill: { storage, requests, transfer } }: ShippingStatus): string {
  if (requests === null || transfer === null) return `${amount(storage)} a month for space, by the prices of the settings`;
  return `about ${amount(storage + requests + transfer)} a month: ${amount(storage)} for space; as since it was opened, ${amount(requests)} for requests, ${amount(transfer)} for reading, by the prices of the settings`;
}

/** How far the bucket is behind. */
function describeShipping({ shipping, bucketRequests }: VolumeStatus): [string, string][] {
  if (shipping === null || bucketRequests === null) return [];
  const { unshippedBytes, unshippedObjects, ageMs, cachedBytes, rootLsn, trouble, writers, bucketBytes, orphans, prefetch } = shipping;
  const behind = unshippedObjects === 0 ? 'nothing' : `${formatSize(unshippedBytes)} in ${unshippedObjects} chunks, oldest ${(ageMs / 1000).toFixed(1)} s`;
  const lines: [string, string][] = [['not shipped', `${behind}; the bucket has all up to LSN ${rootLsn}, ${formatSize(cachedBytes)} of it are here, too`]];
  const { puts, gets, lists, deletes, sentBytes, receivedBytes } = bucketRequests;
  lines.push(['requests', `${puts} puts (${formatSize(sentBytes)}), ${gets} gets (${formatSize(receivedBytes)}), ${lists} lists, ${deletes} removals since it was opened`]);
  lines.push(['bucket', `${formatSize(bucketBytes)}; ${describeBill(shipping)}${orphans === 0 ? '' : `; ${orphans} objects that nothing refers to go by and by`}`]);
  if (prefetch !== null) lines.push(['prefetching', `${formatSize(prefetch.fetchedBytes)} of ${formatSize(prefetch.totalBytes)} are here`]);
  if (trouble !== null) lines.push(['not shipping', trouble]);
  if (writers !== 'free') lines.push(['writers', writers === 'slowed' ? 'slowed: near remote.max_unshipped_bytes' : 'paused until more is in the bucket: too much is not shipped, or the disk here is full']);
  return lines;
}

/** Which state of another host's volume is served, and how old that is. */
function describeFollowing({ following, bucketRequests, readOnly }: VolumeStatus): [string, string][] {
  if (following === null) return [];
  const { owner, lookAgeMs, isPinned, moves, cachedBytes, trouble } = following;
  const look = isPinned ? 'pinned to that' : `${moves} moves since it was opened; ${(lookAgeMs / 1000).toFixed(1)} s ago it was the newest there was`;
  const lines: [string, string][] = [
    ['read-only', readOnly ?? ''],
    ['owner', owner === '' ? 'not named' : owner],
    ['state', `${describeState(following)}; ${look}`],
    ['kept here', `${formatSize(cachedBytes)} of its objects`],
  ];
  if (bucketRequests !== null) lines.push(['requests', `${bucketRequests.gets} gets (${formatSize(bucketRequests.receivedBytes)}), ${bucketRequests.lists} lists since it was opened`]);
  if (trouble !== null) lines.push(['not following', trouble]);
  return lines;
}

/** What is there to say of a volume that another host writes. */
function describeFollowed(info: VolumeDetails): string {
  return formatTable([
    ['name', info.name],
    ['follows', info.follows ?? ''],
    ['id', info.id],
    ['size', exactSize(info.sizeBytes)],
    ['block size', formatSize(info.blockSizeBytes)],
    ['stored', exactSize(info.storedBytes)],
    ...describeProperties(info),
    ...(info.live === null ? [['open now', 'no']] : describeFollowing(info.live)),
  ]);
}

function describeLive(status: VolumeStatus): [string, string][] {
  const { atRisk, wear, stats, failure, readOnly } = status;
  const scrubbed = describeScrubs(stats);
  if (readOnly !== null) return [...scrubbed, ['read-only', readOnly]];
  return [
    ['not synced', describeRisk(atRisk.unsynced)],
    ['not in a chunk', describeRisk(atRisk.unchunked)],
    ['wear', wear.factor === null ? 'nothing written since it was opened' : `${wear.factor.toFixed(2)} bytes to the device per byte written (${formatSize(wear.deviceBytes)} since it was opened)`],
    ...describeShipping(status),
    ...scrubbed,
    ...(failure === null ? [] : [['failed', failure] satisfies [string, string]]),
  ];
}

/** Files of 12 MiB are whole erase blocks on flash that erases 4 MiB at once, or less. */
function describeRing({ logFileCount, logFileBytes }: VolumeDetails): string {
  let eraseBlockBytes = 1;
  while (logFileBytes % (2 * eraseBlockBytes) === 0) eraseBlockBytes *= 2;
  return `${logFileCount} files of ${formatSize(logFileBytes)}, whole erase blocks of up to ${formatSize(eraseBlockBytes)}`;
}

/** How the log is written now, or would be; and what else there is to say of that. */
function describeLogWay({ logWay, measuredLogWay, live }: VolumeDetails): string {
  const now = live?.logWay ?? logWay;
  const refused = now === logWay ? '' : `; ${logWay} is asked for, and not possible here`;
  return `${now}${measuredLogWay === null ? '' : `; measured as best when the volume was made: ${measuredLogWay}`}${refused}`;
}

/** What the settings say, of `auto` what becomes of it now, and what the volume says for itself. */
function describeCompression({ logCompress, compression, chunkCompress, live }: VolumeDetails): string {
  const isCompressing = live?.logCompressing ?? null;
  const now = logCompress !== 'auto' || isCompressing === null ? '' : isCompressing ? ', at work now as the disk is slow' : ', not at work now';
  return `log: ${logCompress}${now}; new chunks: ${compression === 'default' ? `${chunkCompress}, as the settings say` : `${compression}, as the volume says`}`;
}

/** What people said of it. */
function describeProperties({ labels, limits }: VolumeDetails): [string, string][] {
  const lines: [string, string][] = [];
  if (Object.keys(labels).length > 0) lines.push(['labels', Object.entries(labels).map(([key, value]) => `${key}=${value}`).join(', ')]);
  if (hasLimits(limits)) lines.push(['limits', describeLimits(limits)]);
  return lines;
}

export function describeVolume(info: VolumeDetails, disk: DiskLife | null): string {
  if (info.follows !== null) return describeFollowed(info);
  const checkpoint =
    info.checkpointNumber === 0 ? 'none yet' : `${info.checkpointNumber} (up to chunk ${info.checkpointChunk}, LSN ${info.checkpointLsn})`;
  return formatTable([
    ['name', info.name],
    ['id', info.id],
    ['size', exactSize(info.sizeBytes)],
    ['block size', formatSize(info.blockSizeBytes)],
    ['durability', info.durability],
    ['stored', exactSize(info.storedBytes)],
    ['log', describeRing(info)],
    ['log writes', describeLogWay(info)],
    ['compressed', describeCompression(info)],
    ['checkpoint', checkpoint],
    ['opened', `${info.epoch} times for writing; open now: ${info.open ? 'yes' : 'no'}`],
    ...describeProperties(info),
    ['created', new Date(info.createdMs).toISOString()],
    ...(info.space === null ? [] : [['live in chunks', describeSpace(info.space)] satisfies [string, string]]),
    ...(info.live === null ? [] : describeLive(info.live)),
    ...(disk === null ? [] : describeLife(disk)),
    ...(info.damage === null || info.live?.readOnly === info.damage ? [] : [['damaged', info.damage] satisfies [string, string]]),
  ]);
}

/** What the server that runs in the directory says of a volume, or else what its files say. */
async function lookUp(context: CliContext, directory: string, name: string): Promise<VolumeDetails> {
  const server = await context.findServer(directory);
  if (server !== null) return server.volume(name);
  const { settings } = await readSettings(context);
  const volumes = await context.openVolumes({ directory, settings: settings.engine });
  try {
    const info = await volumes.describe(name);
    // A volume that another process has open tells its damage there.
    const probe = await volumes.probe(name);
    return { ...info, damage: info.damage ?? probe?.damage ?? null, damageLookedFor: info.damageLookedFor || !info.open, live: null, space: probe?.space ?? null };
  } finally {
    await volumes.close();
  }
}

/** Of the disk below the directory; null where nothing is known of it. */
async function lifeOf(context: CliContext, directory: string, parsed: SettingsArguments): Promise<DiskLife | null> {
  const { settings } = await readSettings(context, parsed);
  const use = await context.diskUse(directory);
  return use === null ? null : estimateLife(use, settings.process.diskEnduranceBytes);
}

export function addShow(program: Argv, context: CliContext): Argv {
  return program.command(
    'show <name>',
    'show what is known of a volume',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .options(showFlags)
        .example('$0 show demo', 'size, mode, space taken, compression, last checkpoint, damage; while it is served: data at risk, wear')
        .example('$0 show demo --set process.disk_endurance_bytes=30T', 'and how long a card lasts that takes 30 TiB'),
    async (parsed) => {
      const details = await lookUp(context, parsed.data, parsed.name);
      const disk = await lifeOf(context, parsed.data, parsed);
      context.terminal.out(parsed.json ? formatJson({ ...details, disk }) : describeVolume(details, disk));
    },
  );
}
