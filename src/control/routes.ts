/** The routes of the control API, version 1, as one table. `openapi.json` describes them; a test holds the two together. */
import type { VolumeCompression } from '../base/compression.ts';
import type { Durability } from '../base/durability.ts';
import { VolumeError } from '../base/errors.ts';
import type { RequestStats } from '../base/request-stats.ts';
import type { ChunkCompression } from '../base/settings-types.ts';
import { KIB } from '../base/units.ts';
import type { LimitChanges, VolumeLimits } from '../base/volume-limits.ts';
import { type ChunkSpace, type CreateOptions, type FollowStatus, type ListedVolume, type OnProgress, type ScrubReport, type ShippingStatus, type UnreadableVolume, type VolumeInfo, type VolumeStatus, chunkSpaceOf } from '../volume/volume-info.ts';
import { ApiError } from './api-error.ts';
import { fieldsOf, flagField } from './body-fields.ts';
import type { EventFeed } from './events.ts';
import { EXPOSITION_TYPE } from './exposition.ts';
import { writeMetrics } from './metrics.ts';
import { compressionField, createVolume, durabilityField, refreshVolume, removeVolume, renameVolume, resizeVolume, setLabels, setLimits } from './volume-routes.ts';
import type { MemoryUse, ProcessUse, StatsAnswer, VolumeStatsAnswer } from './stats.ts';

/** The part of a `VolumeSet` that the API uses. */
export interface ControlledVolumes {
  describe(name: string): Promise<VolumeInfo>;
  describeAll(): Promise<ListedVolume[]>;
  /** Null if the volume is not open in this process. */
  statusOf(name: string): VolumeStatus | null;
  /** Names of those that are. */
  openNames(): readonly string[];
  setDurability(name: string, durability: Durability): Promise<void>;
  create(name: string, options: CreateOptions): Promise<VolumeInfo>;
  remove(name: string): Promise<void>;
  rename(name: string, target: string): Promise<void>;
  resize(name: string, sizeBytes: number, options: { readonly mayShrink: boolean }): Promise<void>;
  labelsOf(name: string): Promise<Readonly<Record<string, string>>>;
  setLabels(name: string, changes: Readonly<Record<string, string | null>>): Promise<Readonly<Record<string, string>>>;
  limitsOf(name: string): Promise<VolumeLimits>;
  setLimits(name: string, changes: LimitChanges): Promise<VolumeLimits>;
  /** Of a volume that is open. */
  limitsInForce(name: string): VolumeLimits;
  drain(name: string): Promise<VolumeStatus>;
  refresh(name: string): Promise<FollowStatus>;
  setCompression(name: string, compression: VolumeCompression): Promise<ChunkCompression>;
  scrub(name: string, options: { readonly bytesPerSecond: number | null; readonly onProgress: OnProgress; readonly signal: AbortSignal }): Promise<ScrubReport>;
}

/** How many clients met which end; the server counts them. */
export interface ClientCounts {
  readonly accepted: number;
  readonly turnedAway: number;
  readonly displaced: number;
  readonly handshakeTimeouts: number;
  readonly refused: number;
  readonly secured: number;
  readonly tlsFailed: number;
  readonly idle: number;
}

/** What the process that serves says of itself. */
export interface ServerInfo {
  readonly apiVersion: 1;
  readonly pid: number;
  /** Milliseconds since 1970. */
  readonly startedMs: number;
  readonly directory: string;
  /** URIs of the NBD listeners. */
  readonly listeners: readonly string[];
  /** NBD clients that are connected. */
  readonly connections: number;
  /** Of those, how many have no export yet. */
  readonly halfOpen: number;
  /** What became of clients since the server began. */
  readonly clients: ClientCounts;
}

/** A volume, with what only the process that has it open can say; null if it is not open. */
export interface VolumeDetails extends VolumeInfo {
  readonly live: VolumeStatus | null;
  /** What its chunks take; null: it is not open, and nobody has looked. */
  readonly space: ChunkSpace | null;
}

/** Whether new chunks of a volume are compressed: what it says of that, and what becomes of them. */
export interface CompressionAnswer {
  readonly name: string;
  readonly compression: VolumeCompression;
  readonly chunkCompress: ChunkCompression;
}

/** A volume in a list; of one whose manifest cannot be read there are only the name and why. */
export type ListedDetails = VolumeDetails | UnreadableVolume;

export interface ControlTargets {
  readonly volumes: ControlledVolumes;
  readonly server: () => ServerInfo;
  readonly traffic: ClientTraffic;
  readonly throttles: ClientLimits;
  /** Shared memory, and what the process takes, as of now. */
  readonly memory: () => MemoryUse;
  readonly process: () => ProcessUse;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  readonly events: EventFeed;
}

/** What clients asked of volumes: the server counts it. */
export interface ClientTraffic {
  /** Null: no client has had the volume. */
  find(volume: string): RequestStats | null;
  names(): readonly string[];
  /** There is no volume of that name any more. */
  forget(volume: string): void;
}

/** Who holds clients to the limits of volumes. */
export interface ClientLimits {
  changed(volume: string, limits: VolumeLimits): void;
  /** There is no volume of that name any more. */
  forget(volume: string): void;
}

export interface Call {
  readonly targets: ControlTargets;
  /** The value of `{name}` in the path. */
  readonly name: string;
  readonly body: unknown;
}

interface RouteBase {
  /** As OpenAPI writes it. */
  readonly path: string;
}

/** Answered with a text. */
export interface TextRoute extends RouteBase {
  readonly method: 'GET';
  readonly contentType: string;
  readonly runText: (call: Call) => Promise<string>;
}

/** Answered with one JSON value. */
export interface PlainRoute extends RouteBase {
  readonly method: 'GET' | 'PUT' | 'PATCH' | 'POST' | 'DELETE';
  /** 200 if it is not given. */
  readonly status?: 201;
  readonly run: (call: Call) => Promise<unknown>;
}

/** Takes its time: answered with lines of JSON, `{"progress":...}` now and then, at last `{"report":...}` or `{"error":...}`. */
export interface LongRoute extends RouteBase {
  readonly method: 'POST';
  readonly runLong: (call: Call, onProgress: OnProgress, signal: AbortSignal) => Promise<unknown>;
}

/** Answered with events, until the client goes. */
export interface EventRoute extends RouteBase {
  readonly method: 'GET';
  readonly streamsEvents: true;
}

export type Route = PlainRoute | LongRoute | TextRoute | EventRoute;

export const ROUTES: readonly Route[] = [
  { method: 'GET', path: '/v1/server', run: ({ targets }) => Promise.resolve(targets.server()) },
  { method: 'GET', path: '/v1/stats', run: ({ targets }) => Promise.resolve(allStats(targets)) },
  { method: 'GET', path: '/v1/events', streamsEvents: true },
  { method: 'GET', path: '/metrics', contentType: EXPOSITION_TYPE, runText: ({ targets }) => Promise.resolve(metrics(targets)) },
  { method: 'GET', path: '/v1/volumes', run: ({ targets }) => listVolumes(targets.volumes) },
  { method: 'POST', path: '/v1/volumes', status: 201, run: ({ targets, body }) => createVolume(targets.volumes, body) },
  { method: 'GET', path: '/v1/volumes/{name}', run: ({ targets, name }) => showVolume(targets.volumes, name) },
  { method: 'DELETE', path: '/v1/volumes/{name}', run: ({ targets, name }) => removeVolume(targets, name) },
  { method: 'PUT', path: '/v1/volumes/{name}/size', run: ({ targets, name, body }) => resizeVolume(targets.volumes, name, body) },
  { method: 'PUT', path: '/v1/volumes/{name}/name', run: ({ targets, name, body }) => renameVolume(targets, name, body) },
  { method: 'GET', path: '/v1/volumes/{name}/labels', run: async ({ targets, name }) => ({ name, labels: await targets.volumes.labelsOf(name) }) },
  { method: 'PATCH', path: '/v1/volumes/{name}/labels', run: ({ targets, name, body }) => setLabels(targets.volumes, name, body) },
  { method: 'GET', path: '/v1/volumes/{name}/limits', run: async ({ targets, name }) => ({ name, limits: await targets.volumes.limitsOf(name) }) },
  { method: 'PATCH', path: '/v1/volumes/{name}/limits', run: ({ targets, name, body }) => setLimits(targets, name, body) },
  { method: 'GET', path: '/v1/volumes/{name}/stats', run: ({ targets, name }) => volumeStats(targets, name) },
  { method: 'GET', path: '/v1/volumes/{name}/durability', run: ({ targets, name }) => showDurability(targets.volumes, name) },
  { method: 'PUT', path: '/v1/volumes/{name}/durability', run: ({ targets, name, body }) => changeDurability(targets.volumes, name, body) },
  { method: 'GET', path: '/v1/volumes/{name}/compression', run: ({ targets, name }) => showCompression(targets.volumes, name) },
  { method: 'PUT', path: '/v1/volumes/{name}/compression', run: ({ targets, name, body }) => changeCompression(targets.volumes, name, body) },
  { method: 'POST', path: '/v1/volumes/{name}/drain', runLong: ({ targets, name, body }, onProgress, signal) => drain(targets.volumes, name, body, { onProgress, signal }) },
  { method: 'POST', path: '/v1/volumes/{name}/refresh', run: ({ targets, name, body }) => refreshVolume(targets.volumes, name, body) },
  { method: 'POST', path: '/v1/volumes/{name}/scrub', runLong: ({ targets, name, body }, onProgress, signal) => scrub(targets.volumes, name, body, { onProgress, signal }) },
];

async function listVolumes(volumes: ControlledVolumes): Promise<{ readonly volumes: readonly ListedDetails[] }> {
  const infos = await volumes.describeAll();
  return { volumes: infos.map((info) => ('id' in info ? withStatus(info, volumes.statusOf(info.name)) : info)) };
}

async function showVolume(volumes: ControlledVolumes, name: string): Promise<VolumeDetails> {
  const info = await volumes.describe(name);
  return withStatus(info, volumes.statusOf(name));
}

function withStatus(info: VolumeInfo, live: VolumeStatus | null): VolumeDetails {
  return { ...info, live, space: live === null ? null : chunkSpaceOf(live.stats) };
}

function statsOf({ volumes, traffic }: ControlTargets, name: string): VolumeStatsAnswer {
  const live = volumes.statusOf(name);
  return { name, requests: traffic.find(name)?.snapshot() ?? null, limits: live === null ? null : volumes.limitsInForce(name), live };
}

function allStats(targets: ControlTargets): StatsAnswer {
  const { volumes, traffic, server, memory, process, nowMs } = targets;
  const names = [...new Set([...volumes.openNames(), ...traffic.names()])].toSorted();
  return { atMs: nowMs(), connections: server().connections, memory: memory(), process: process(), volumes: names.map((name) => statsOf(targets, name)) };
}

async function volumeStats(targets: ControlTargets, name: string): Promise<VolumeStatsAnswer> {
  await targets.volumes.describe(name); // one that is not there is told from one that is at rest
  return statsOf(targets, name);
}

function metrics(targets: ControlTargets): string {
  return writeMetrics({ server: targets.server(), stats: allStats(targets), requestsOf: (volume) => targets.traffic.find(volume) });
}

async function showDurability(volumes: ControlledVolumes, name: string): Promise<{ readonly name: string; readonly durability: Durability }> {
  const { durability } = await volumes.describe(name);
  return { name, durability };
}

async function changeDurability(volumes: ControlledVolumes, name: string, body: unknown): Promise<{ readonly name: string; readonly durability: Durability }> {
  const fields = fieldsOf(body, ['durability', 'acceptDataLoss']);
  const durability = durabilityField(fields.durability, flagField(fields, 'acceptDataLoss'));
  await volumes.setDurability(name, durability);
  return { name, durability };
}

async function showCompression(volumes: ControlledVolumes, name: string): Promise<CompressionAnswer> {
  const { compression, chunkCompress } = await volumes.describe(name);
  return { name, compression, chunkCompress };
}

async function changeCompression(volumes: ControlledVolumes, name: string, body: unknown): Promise<CompressionAnswer> {
  const compression = compressionField(fieldsOf(body, ['compression']).compression);
  const chunkCompress = await volumes.setCompression(name, compression);
  return { name, compression, chunkCompress };
}

/** How often a client hears that its drain is not over. */
const DRAIN_NEWS_MS = 1000;

/** Ends early when the client goes; the shipping goes on. */
async function drain(volumes: ControlledVolumes, name: string, body: unknown, { onProgress, signal }: { readonly onProgress: OnProgress; readonly signal: AbortSignal }): Promise<{ readonly shipping: ShippingStatus | null }> {
  fieldsOf(body, []);
  let most = 0;
  const tell = (): void => {
    const shipping = volumes.statusOf(name)?.shipping ?? null;
    if (shipping === null || signal.aborted) return;
    most = Math.max(most, shipping.unshippedBytes);
    onProgress({ task: shipping.trouble === null ? 'shipping' : 'waiting for the bucket', done: most - shipping.unshippedBytes, total: most });
  };
  const news = setInterval(tell, DRAIN_NEWS_MS);
  try {
    const { shipping } = await volumes.drain(name);
    return { shipping };
  } finally {
    clearInterval(news);
  }
}

/** The slowest scrub that makes sense. */
const MIN_SCRUB_RATE = 64 * KIB;

async function scrub(volumes: ControlledVolumes, name: string, body: unknown, options: { readonly onProgress: OnProgress; readonly signal: AbortSignal }): Promise<ScrubReport> {
  const { bytesPerSecond = null } = fieldsOf(body, ['bytesPerSecond']);
  if (bytesPerSecond !== null && !(typeof bytesPerSecond === 'number' && bytesPerSecond >= MIN_SCRUB_RATE && Number.isSafeInteger(bytesPerSecond))) {
    throw new VolumeError('invalid-argument', `"bytesPerSecond" must be null (as the settings say) or a whole number from ${MIN_SCRUB_RATE}`);
  }
  return volumes.scrub(name, { bytesPerSecond, ...options });
}

/** A route that was found, and the name in its path. */
export interface Match {
  readonly route: Route;
  readonly name: string;
}

/** The route of a request. Throws `no-such-route`, `wrong-method`, `bad-request`. */
export function findRoute(method: string, url: string): Match {
  const [path, ...query] = url.split('?');
  const found = ROUTES.flatMap((route) => {
    const name = nameIn(route.path, path);
    return name === null ? [] : [{ route, name }];
  });
  if (found.length === 0) {
    const paths = [...new Set(ROUTES.map((route) => route.path))];
    throw new ApiError(404, 'no-such-route', `there is no ${path}; there are ${paths.join(', ')}`);
  }
  const match = found.find(({ route }) => route.method === method);
  if (match === undefined) {
    const allow = found.map(({ route }) => route.method).join(', ');
    throw new ApiError(405, 'wrong-method', `${path} takes ${allow}, not ${method}`, { allow });
  }
  if (query.length > 0) throw new ApiError(400, 'bad-request', `${path} takes no query (what follows the "?")`);
  return { route: match.route, name: decoded(match.name) };
}

/** The part of `path` that stands for `{name}` in `pattern`, '' if that has none; null if they do not match. */
function nameIn(pattern: string, path: string): string | null {
  const [head, tail] = pattern.split('{name}');
  if (tail === undefined) return path === head ? '' : null;
  if (!path.startsWith(head) || !path.endsWith(tail) || path.length <= head.length + tail.length) return null;
  const name = path.slice(head.length, path.length - tail.length);
  return name.includes('/') ? null : name;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new ApiError(400, 'bad-request', `${text} in the path is not percent-encoded UTF-8`);
  }
}
