/** A simulated machine with a bucket that its volumes are shipped to; volumes in other directories are those of other hosts. */
import type { Durability } from '../../src/base/durability.ts';
import type { RemoteSettings, RetrySettings } from '../../src/base/settings-types.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import type { RemoteAccess } from '../../src/volume/attach-remote.ts';
import { createVolume } from '../../src/volume/create-volume.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import { type Followed, followVolume, openServed } from '../../src/volume/follow-volume.ts';
import { FollowedVolume } from '../../src/volume/followed-volume.ts';
import type { RemoteConfig } from '../../src/volume/remote-config.ts';
import { restoreVolume, type Restored } from '../../src/volume/restore-volume.ts';
import type { Volume } from '../../src/volume/volume.ts';
import type { EngineSettings } from '../../src/base/settings-types.ts';
import { RetryingStore } from '../../src/store/retrying-store.ts';
import { SingleWriterStore } from '../../src/store/single-writer-store.ts';
import { SeededRandom } from '../sim/random.ts';
import { BucketTransport, type ConditionBehaviour, RemoteBucket } from '../sim/remote-bucket.ts';
import { BLOCK_BYTES, SimMachine, smallArena, smallSettings } from './engine-harness.ts';

export const RETRIES: RetrySettings = { attempts: 4, delayMs: 20, throttledDelayMs: 40, delayMsMax: 200, attemptTimeoutMs: 2000, callTimeoutMs: 10_000 };
export const REMOTE: RemoteSettings = { cacheBytes: 64 * MIB, cacheTtlMs: 0, fetchBytes: 16 * KIB, readAheadBytes: 256 * KIB, shipMemoryBytes: 512 * KIB, shipConcurrency: 4, leaseMs: 60_000, retryMs: 500, flushTarget: 'local', maxUnshippedBytes: 0, ownerCheckMs: 5000, maxPutsPerHour: 0, shipIntervalMs: 0, orphanGraceMs: 24 * 3_600_000, followIntervalMs: 10_000, hotIntervalMs: 0, pricePuts: 0.005, priceGets: 0.0004, priceStored: 0.023, priceReceived: 0.09 };
const CONFIG = { url: 's3://simulated', endpoint: 'memory', region: '', credentialsFile: '', caFile: '', singleWriter: false } as const;

export class RemoteMachine {
  readonly machine: SimMachine;
  readonly bucket: RemoteBucket;
  remoteSettings: RemoteSettings = REMOTE;
  /** Those of other places than that of `CONFIG`, by URL. */
  readonly #others = new Map<string, RemoteBucket>();
  readonly #newBucket: () => RemoteBucket;
  readonly #transports: BucketTransport[] = [];

  constructor(settings: EngineSettings = smallSettings(), seed = 1, conditions: ConditionBehaviour = 'full') {
    this.machine = new SimMachine(settings, seed);
    const { scheduler } = this.machine;
    const clock = {
      nowMs: () => scheduler.nowMs,
      setTimer: (delayMs: number, callback: () => void) => {
        const event = scheduler.after(delayMs, callback);
        return {
          cancel: () => {
            event.action = null;
          },
        };
      },
    };
    this.#newBucket = () => new RemoteBucket({ clock, random: new SeededRandom(seed), latencyMsMin: 1, latencyMsMax: 5, lateMsMax: 5000, pageObjects: 7, conditions });
    this.bucket = this.#newBucket();
  }

  run<T>(task: () => Promise<T>): Promise<T> {
    return this.machine.run(task);
  }

  /** That were sent so far, by all hosts. */
  get requests(): number {
    return this.#transports.reduce((sum, { counters: { puts, gets, lists, deletes } }) => sum + puts + gets + lists + deletes, 0);
  }

  access(host: string): RemoteAccess {
    const { env } = this.machine;
    return {
      host,
      settings: this.remoteSettings,
      open: ({ singleWriter, url }) => {
        const transport = new BucketTransport(this.#bucketAt(url), env.clock);
        this.#transports.push(transport);
        const store = new RetryingStore(transport, env, RETRIES);
        return Promise.resolve(singleWriter ? new SingleWriterStore(store) : store);
      },
    };
  }

  #bucketAt(url: string): RemoteBucket {
    if (url === CONFIG.url) return this.bucket;
    const bucket = this.#others.get(url) ?? this.#newBucket();
    this.#others.set(url, bucket);
    return bucket;
  }

  async create(directory: string, sizeBytes = 4 * MIB, durability: Durability = 'batched'): Promise<void> {
    const { env, settings } = this.machine;
    const remote: RemoteConfig = { ...CONFIG, writer: '0123456789abcdef0123456789abcdef' };
    await createVolume({ env, directory, settings, remote, create: { sizeBytes, blockSizeBytes: BLOCK_BYTES, durability } });
  }

  open(directory: string, host = 'first'): Promise<Volume> {
    const { env, settings } = this.machine;
    return openVolume({ env, directory, settings, arena: smallArena(settings), remotes: this.access(host) });
  }

  /** Makes a volume that follows the one in the bucket. */
  follow(directory: string, isPinned = false): Promise<Followed> {
    return followVolume({ env: this.machine.env, directory, access: this.access('reader'), config: CONFIG, isPinned, onProgress: () => undefined });
  }

  async openFollower(directory: string): Promise<FollowedVolume> {
    const { env, settings } = this.machine;
    const volume = await openServed({ env, directory, name: directory.slice(1), settings, arena: smallArena(settings), remotes: this.access('reader') });
    if (volume instanceof FollowedVolume) return volume;
    throw new Error(`${directory} follows nothing`);
  }

  /** Names of the chunks that are in a directory, in order. */
  chunksIn(directory: string): string[] {
    return this.machine.names(`${directory}/chunks`).filter((name) => name.startsWith('c'));
  }

  /** Changes one byte of a file. */
  rot(path: string, offsetBytes = 5000): void {
    const { disk } = this.machine;
    disk.write(disk.findFile(path), Uint8Array.of((this.machine.bytesOf(path)[offsetBytes] ?? 0) ^ 0x10), offsetBytes);
  }

  restore(directory: string, isForced = true, host = 'second', prefetches = false): Promise<Restored> {
    const { env, settings } = this.machine;
    return restoreVolume({ env, directory, settings, access: this.access(host), config: CONFIG, isForced, prefetches, onProgress: () => undefined });
  }
}
