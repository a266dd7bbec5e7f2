/**
 * Worlds of a volume with a bucket: hosts that write, ship and die, that lose their disks, and that are taken over while they are at work; a network that loses, delays and
 * repeats. One seed is one world.
 *
 * The model is a history of changes, each of which stamps whole blocks. A host's history is that of the volume it was made of, and its own changes behind it. Rules:
 *
 * - a host that comes back on its own disk finds all that it was answered, or is told that it was fenced;
 * - a volume that is made of the bucket is the state after some prefix of its last writer's history, with all that a drain of that writer has promised before the claim;
 * - a drain that is answered is of the history that goes on: no later volume lacks it (two owners whose writes both count would break that);
 * - what rots on a disk never reaches the bucket, and is no rot of a volume whose bucket has it sound.
 */
import { VolumeError } from '../../src/base/errors.ts';
import type { EngineSettings, RemoteSettings, RetrySettings } from '../../src/base/settings-types.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { RetryingStore } from '../../src/store/retrying-store.ts';
import type { RemoteAccess } from '../../src/volume/attach-remote.ts';
import { createVolume } from '../../src/volume/create-volume.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import { problemOf } from '../../src/volume/verify-object.ts';
import { readManifest } from '../../src/volume/volume-files.ts';
import { restoreVolume } from '../../src/volume/restore-volume.ts';
import { SimEnv } from './env.ts';
import { makeArena } from './memory.ts';
import { SimulationFailure } from './model.ts';
import { drawPowerCut } from './power-cut.ts';
import { SimProcess } from './process.ts';
import { SeededRandom } from './random.ts';
import { realEngine } from './real-engine.ts';
import { Follower } from './remote-follower.ts';
import { BLOCKS, BLOCK_BYTES, type Change, Patience, compare, isPassing, prefixOf, stampOf, stateOf, wholeOf } from './remote-history.ts';
import { Host } from './remote-host.ts';
import { BucketTransport, NO_FAULTS, RemoteBucket, type RemoteFaults } from './remote-bucket.ts';
import { Scheduler } from './scheduler.ts';
import { Stream } from './remote-stream.ts';
import { NO_FAULTS as NO_FILE_FAULTS } from './faults.ts';
import { Trace } from './trace.ts';

const SLAB_BYTES = 64 * KIB;
const RETRIES: RetrySettings = { attempts: 4, delayMs: 20, throttledDelayMs: 40, delayMsMax: 200, attemptTimeoutMs: 400, callTimeoutMs: 3000 };
const CONFIG = { url: 's3://simulated', endpoint: 'memory', region: '', credentialsFile: '', caFile: '', singleWriter: false } as const;
/** In worlds of streams: the disk is slower than the network, now and then much. */
const SLOW_PROFILE = { name: 'slow', callMs: 1, syncMs: 5, inTurnMs: 0.01, stallChance: 0.01, stallMs: 300, refusesUncached: false } as const;
/** Behind this nothing that was fetched ahead and not read is in memory any more. */
const REST_MS = 70_000;
const PROFILE = { name: 'quick', callMs: 0.01, syncMs: 0.05, inTurnMs: 0.001, stallChance: 0, stallMs: 0, refusesUncached: false } as const;

export interface RemoteReport {
  readonly digest: string;
  readonly takeovers: number;
  readonly restarts: number;
  readonly drains: number;
  readonly fenced: number;
  readonly changes: number;
  readonly rotten: number;
  /** What a follower read, whole, and how often it moved on for that. */
  readonly followed: number;
  /** Of those who read in sequence. */
  readonly streamed: number;
}

export class RemoteWorld {
  readonly #seed: number;
  readonly #random: SeededRandom;
  readonly #trace: Trace;
  readonly #scheduler: Scheduler;
  readonly #bucket: RemoteBucket;
  readonly #settings: EngineSettings;
  readonly #remoteSettings: RemoteSettings;
  readonly #faults: RemoteFaults;
  /** What a drain has promised of the history that goes on. */
  #promised: readonly Change[] = [];
  #owner: Host;
  readonly #old: Host[] = [];
  #nextId = 1;
  /** A takeover is under way: both may be told that they own the volume, or that they do not. */
  #isChanging = false;
  #boots = 0;
  readonly #counts = { takeovers: 0, restarts: 0, drains: 0, fenced: 0, changes: 0, rotten: 0 };
  #follower: Follower | null = null;
  readonly #hasFollower: boolean;
  /** Null: nobody reads in sequence beside the others. */
  readonly #streamTaste: { readonly isDiskSlow: boolean } | null;
  readonly #streams: Stream[] = [];

  /** Worlds of odd seeds have somebody who follows the volume; in a quarter of all somebody reads in sequence, much ahead, past a small cache. */
  constructor(seed: number, onEvent: ((line: string) => void) | null = null) {
    this.#seed = seed;
    this.#hasFollower = seed % 2 === 1;
    this.#random = new SeededRandom(seed);
    this.#trace = new Trace(onEvent);
    this.#scheduler = new Scheduler((timeMs) => this.#trace.setTime(timeMs), { maxEvents: 3_000_000, maxTimeMs: 24 * 3600 * 1000 });
    const random = this.#random.derive('plan');
    const clock = {
      nowMs: () => this.#scheduler.nowMs,
      setTimer: (delayMs: number, callback: () => void) => {
        const event = this.#scheduler.after(delayMs, callback);
        return { cancel: () => void (event.action = null) };
      },
    };
    this.#bucket = new RemoteBucket({ clock, random: this.#random.derive('bucket'), latencyMsMin: 0.5, latencyMsMax: random.pick([2, 20, 100]), lateMsMax: random.pick([100, 5000]), pageObjects: random.between(1, 12), conditions: 'full' });
    const some = (): number => random.pick([0, 0, 0.02, 0.1]);
    const faults = random.chance(0.3) ? NO_FAULTS : { failing: some(), throttling: some(), lostRequest: some() / 2, lostAnswer: some(), lateRequest: some(), cutBody: some(), flippedBit: some() / 10 };
    const isDirty = seed % 4 === 1; // bits flip often enough to meet what is fetched ahead, and much is
    this.#faults = isDirty ? { ...faults, flippedBit: 0.04 } : faults;
    this.#settings = this.#drawSettings(random);
    const streams = seed % 8 === 2 || seed % 8 === 7 ? this.#random.derive('streams') : null;
    this.#streamTaste = streams === null ? null : { isDiskSlow: streams.chance(0.5) };
    const drawn: RemoteSettings = { cacheBytes: random.pick([0, 2, 8, 1000]) * SLAB_BYTES, fetchBytes: random.pick([4, 16, 64]) * KIB, readAheadBytes: (isDirty ? 4 : 1) * random.pick([isDirty ? 256 : 0, 256]) * KIB, shipConcurrency: random.between(1, 4), shipMemoryBytes: random.pick([0, 512]) * KIB, leaseMs: 60_000, retryMs: random.pick([10, 500]), flushTarget: random.pick(['local', 'remote'] as const), maxUnshippedBytes: random.pick([0, 0, 4, 16]) * SLAB_BYTES, ownerCheckMs: random.pick([100, 5000]), maxPutsPerHour: random.pick([0, 0, 3600]), cacheTtlMs: seed % 5 === 1 ? this.#random.derive('ttl').pick([100, 2000]) : 0, shipIntervalMs: random.pick([0, 50, 5000]), orphanGraceMs: random.pick([10_000, 1e9]), followIntervalMs: 1000, hotIntervalMs: seed % 2 === 1 ? this.#random.derive('hot').pick([0, 100]) : 0, pricePuts: 1, priceGets: 1, priceStored: 1, priceReceived: 1 };
    // Room for 1, 3 or 8 chunks in memory, and on the disk.
    this.#remoteSettings = streams === null ? drawn : { ...drawn, cacheBytes: streams.pick([0, 1, 2, 4]) * 80 * KIB, readAheadBytes: streams.pick([1, 3, 8]) * 136 * KIB, cacheTtlMs: streams.pick([0, 0, 50, 2000]) };
    this.#owner = new Host('host-1', []);
  }

  #drawSettings(random: SeededRandom): EngineSettings {
    return {
      arenaBytes: 12 * SLAB_BYTES,
      dirtyBytes: 8 * SLAB_BYTES,
      indexBytes: 16 * MIB,
      chunkTableBytes: MIB,
      openChunkFiles: 4,
      frameCacheBytes: random.pick([0, 64 * KIB]),
      logFileBytes: random.pick([512 * KIB, MIB]),
      eraseBlockBytes: 0,
      logFileCount: 3,
      logCompress: 'off',
      chunkCompress: random.pick(['off', 'lz4']),
      logIo: 'buffered',
      logInlineBytes: 256 * KIB,
      logInlineLatencyMs: 1000,
      logInlineSyncLatencyMs: 0,
      batchBlocks: 65_536,
      batchMs: 1000,
      asyncIntervalMs: 1000,
      flushBytes: random.pick([2, 6]) * SLAB_BYTES,
      flushIntervalMs: random.pick([50, 5000]),
      chunkConcurrency: 2,
      spareBytes: random.pick([0, 8 * SLAB_BYTES]),
      checkpointChunks: random.pick([1, 4, 16]),
      checkpointIntervalMs: random.pick([100, 10_000]),
      compactLivePercent: random.pick([0, 60]),
      compactSpacePercent: random.pick([130, 1_000_000]),
      compactBytesPerSecond: 64 * MIB,
      compactPauseMs: 20,
      scrubBytesPerSecond: 64 * MIB,
      retryMs: 10,
      idleCloseMs: 3_600_000,
    };
  }

  async run(): Promise<RemoteReport> {
    try {
      await this.#scheduler.drive(() => this.#script());
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      throw new SimulationFailure([`remote seed ${this.#seed} fails at ${this.#scheduler.nowMs.toFixed(3)} simulated ms: ${text}`, 'the last events:', ...this.#trace.last(40)].join('\n'), { cause: error });
    }
    return { digest: this.#trace.digest(), ...this.#counts, followed: this.#follower?.reads ?? 0, streamed: this.#streams.reduce((sum, { reads }) => sum + reads, 0) };
  }

  async #script(): Promise<void> {
    const first = this.#boot(this.#owner);
    await createVolume({ env: first, directory: '/data/v', settings: this.#settings, remote: { ...CONFIG, writer: '00'.repeat(16) }, create: { sizeBytes: BLOCKS * BLOCK_BYTES, blockSizeBytes: BLOCK_BYTES, durability: 'batched' } });
    this.#owner.process?.die();
    await this.#reopen(this.#owner);
    await this.#owner.volume?.drain(); // before that there is nothing to be taken over
    const following = this.#startFollower();
    this.#bucket.faults = this.#faults;
    this.#startStream(this.#owner);
    const rounds = this.#random.between(3, 12);
    for (let round = 0; round < rounds; round += 1) {
      await this.#work(this.#owner);
      if (this.#streamTaste !== null && round % 4 === 3) await this.#owner.process?.sleep(REST_MS);
      await this.#disturb();
      this.#checkStreams();
    }
    this.#bucket.faults = NO_FAULTS;
    await this.#takeOver();
    await this.#owner.volume?.drain();
    this.#follower?.stop();
    await following;
    await this.#follower?.end();
    await this.#checkBucket(this.#owner);
    await this.#streams.at(-1)?.stop();
    this.#checkStreams();
    await this.#owner.volume?.close();
  }

  #startStream(host: Host): void {
    if (this.#streamTaste === null) return;
    const { process } = host;
    const mayFail = (): boolean => host !== this.#owner || this.#isChanging || host.isRotten || process !== host.process;
    this.#streams.push(new Stream({ host, random: this.#random.derive(`stream ${this.#streams.length}`), mayFail }));
  }

  #checkStreams(): void {
    for (const { failure } of this.#streams) if (failure !== null) throw failure;
  }

  /** Resolves when it is over; a failure of it ends the world. */
  #startFollower(): Promise<void> {
    if (!this.#hasFollower) return Promise.resolve();
    const random = this.#random.derive('follower');
    const remote = { ...this.#remoteSettings, followIntervalMs: random.pick([0, 50, 1000]), cacheBytes: random.pick([0, 2, 1000]) * SLAB_BYTES };
    this.#follower = new Follower({
      random,
      settings: this.#settings,
      slabBytes: SLAB_BYTES,
      config: CONFIG,
      boot: (host) => this.#boot(host),
      access: (env, host) => ({ ...this.#access(env, host), settings: remote }),
      history: () => this.#owner.history,
      promised: () => this.#promised,
      isChanging: () => this.#isChanging,
    });
    return this.#follower.run();
  }

  #boot(host: Host): SimEnv {
    this.#boots += 1;
    const name = `${host.name} process ${this.#boots}`;
    const process = new SimProcess({ name, scheduler: this.#scheduler, trace: this.#trace, random: this.#random.derive(name) });
    host.process = process;
    host.volume = null;
    return this.#envOf(host, process);
  }

  #envOf(host: Host, process: SimProcess): SimEnv {
    return new SimEnv({ process, disk: host.disk, locks: host.locks, profile: this.#streamTaste?.isDiskSlow === true ? SLOW_PROFILE : PROFILE, faults: NO_FILE_FAULTS, tasks: realEngine.tasks });
  }

  #access(env: SimEnv, host: Host): RemoteAccess {
    return {
      host: host.name,
      settings: this.#remoteSettings,
      open: () => Promise.resolve(new RetryingStore(new BucketTransport(this.#bucket, env.clock), env, RETRIES)),
    };
  }

  /** Opens a host's volume as it stands on its disk; the bucket may be out of reach for a while. */
  async #reopen(host: Host): Promise<void> {
    const env = this.#boot(host);
    const patience = new Patience();
    for (;;) {
      try {
        const arena = makeArena(env, { settings: this.#settings, slabBytes: SLAB_BYTES });
        host.volume = await openVolume({ env, directory: '/data/v', settings: this.#settings, arena, remotes: this.#access(env, host) });
        return;
      } catch (error) {
        patience.take(error);
        await env.clock.sleep(100);
      }
    }
  }

  async #work(host: Host): Promise<void> {
    const chance = this.#random.derive(`work ${this.#nextId}`);
    const changes = chance.between(1, 60);
    for (let index = 0; index < changes; index += 1) {
      const first = chance.below(BLOCKS);
      const count = Math.min(BLOCKS - first, chance.skewed(1, 40));
      if (!(await this.#change(host, first, count))) return;
      if (chance.chance(0.1)) await this.#read(host, chance);
      if (chance.chance(0.2)) await host.process?.sleep(chance.unit() * 200);
      if (chance.chance(0.05)) await this.#drain(host);
    }
  }

  /** False: the host has lost the volume. */
  async #change(host: Host, first: number, count: number): Promise<boolean> {
    const { volume } = host;
    if (volume === null) return false;
    const change = { id: this.#nextId, first, count };
    this.#nextId += 1;
    const bytes = Buffer.concat(Array.from({ length: count }, (_, index) => stampOf(change.id, first + index)));
    host.history.push(change);
    this.#counts.changes += 1;
    try {
      await volume.write(first * BLOCK_BYTES, bytes, false);
      host.answered = host.history.length;
      return true;
    } catch (error) {
      if (!(error instanceof VolumeError) || error.code !== 'fenced') throw error;
      host.history.pop();
      this.#counts.fenced += 1;
      if (host === this.#owner && !this.#isChanging) throw new SimulationFailure(`${host.name} owns the volume, and is told that it was fenced`);
      return false;
    }
  }

  async #read(host: Host, chance: SeededRandom): Promise<void> {
    const first = chance.below(BLOCKS);
    const count = Math.min(BLOCKS - first, chance.skewed(1, 64));
    const target = Buffer.alloc(count * BLOCK_BYTES);
    try {
      await host.volume?.read(first * BLOCK_BYTES, target);
    } catch (error) {
      if (!isPassing(error)) throw error; // the bucket cannot be reached now
      return;
    }
    compare(target, first, stateOf(host.history), `a read on ${host.name}`);
  }

  async #drain(host: Host): Promise<void> {
    const { volume } = host;
    if (volume === null) return;
    const scope = host.history.slice();
    try {
      // A flush that is for the bucket promises what a drain does.
      await (this.#remoteSettings.flushTarget === 'remote' && this.#random.chance(0.7) ? volume.flush() : volume.drain());
    } catch (error) {
      if (error instanceof VolumeError && error.code === 'fenced' && (host !== this.#owner || this.#isChanging)) return;
      if (error instanceof VolumeError && error.code === 'corrupt' && host.isRotten) return;
      throw error;
    }
    this.#counts.drains += 1;
    // An answer may have been late, and its host was taken over meanwhile: who did that looked after its claim, and has it.
    if (scope.length > this.#promised.length) this.#promised = scope;
    if (!this.#isChanging) this.#checkPromise();
  }

  #checkPromise(): void {
    const last = this.#promised.at(-1);
    if (last === undefined || this.#owner.history[this.#promised.length - 1]?.id === last.id) return;
    throw new SimulationFailure(`a drain was answered after ${this.#promised.length} changes, up to ${last.id}; the history that goes on has not all of them`);
  }

  async #disturb(): Promise<void> {
    const what = this.#random.pick(['restart', 'power', 'take over', 'take over alive', 'lose the disk', 'go on', 'old ones write', 'rot'] as const);
    this.#trace.event('disturbance', what);
    const host = this.#owner;
    switch (what) {
      case 'restart':
      case 'power':
        host.process?.die();
        // What is neither sound here nor in the bucket is damage: that is what the worlds of `make sim` are about.
        if (host.isRotten) return this.#takeOver();
        if (what === 'power') host.disk.cutPower(drawPowerCut(this.#random.derive(`power ${this.#nextId}`), host.disk.unsyncedSequences()));
        this.#counts.restarts += 1;
        await this.#comeBack(host, what === 'power');
        return;
      case 'take over':
      case 'lose the disk':
        host.process?.die();
        await this.#takeOver();
        return;
      case 'take over alive':
        this.#old.push(host);
        await Promise.all([this.#takeOver(), this.#goOn(host)]);
        return;
      case 'old ones write':
        for (const old of this.#old) await this.#goOn(old);
        return;
      case 'rot':
        this.#rot(host);
        return;
      case 'go on':
    }
  }

  /** A byte of an object changes on a host's disk. */
  #rot(host: Host): void {
    const random = this.#random.derive(`rot ${this.#nextId}`);
    const folder = random.pick(['chunks', 'chunks', 'checkpoints']);
    const names = [...host.disk.findDirectory(`/data/v/${folder}`).entries.keys()].filter((name) => !name.startsWith('.'));
    if (names.length === 0) return;
    // What waits to be shipped is the worst to rot.
    const waiting = names.filter((each) => !this.#bucket.objects.has(`${folder}/${each}`));
    const name = random.pick((waiting.length > 0 && random.chance(0.5) ? waiting : names).toSorted());
    const isThere = this.#bucket.objects.has(`${folder}/${name}`);
    // Nothing goes behind it any more, and writers would wait for that.
    if (!isThere && this.#remoteSettings.maxUnshippedBytes > 0) return;
    const node = host.disk.findFile(`/data/v/${folder}/${name}`);
    const at = random.below(node.sizeBytes);
    const byte = new Uint8Array(1);
    node.read(byte, at);
    host.disk.write(node, Uint8Array.of((byte[0] ?? 0) ^ (1 << random.below(8))), at);
    this.#counts.rotten += 1;
    if (!isThere) host.isRotten = true;
  }

  /** Nothing that was put there is damaged. */
  async #checkBucket(host: Host): Promise<void> {
    if (host.process === null) return;
    const env = this.#envOf(host, host.process);
    const manifest = await readManifest(env.files, '/data/v');
    for (const [key, { bytes }] of this.#bucket.objects) {
      const problem = await problemOf({ clock: env.clock, manifest }, key, bytes);
      if (problem !== null) throw new SimulationFailure(`the bucket was given ${problem}`);
    }
  }

  /** One that may have lost the volume goes on as if it had not. */
  async #goOn(host: Host): Promise<void> {
    const chance = this.#random.derive(`on ${this.#nextId}`);
    for (let index = 0; index < 20 && host.process?.alive === true; index += 1) {
      const first = chance.below(BLOCKS);
      if (!(await this.#change(host, first, Math.min(BLOCKS - first, chance.skewed(1, 40))))) return;
      if (chance.chance(0.2)) await this.#drain(host);
      await host.process.sleep(chance.unit() * 50);
    }
  }

  async #comeBack(host: Host, hadPowerCut: boolean): Promise<void> {
    await this.#reopen(host);
    const { volume } = host;
    if (volume === null) throw new SimulationFailure('a volume that was opened is not there');
    const found = await this.#readAll(host);
    const prefix = prefixOf(found, host.history, `${host.name} after its restart`);
    const length = wholeOf(prefix, host.history);
    const owed = hadPowerCut ? this.#promised.length : host.answered;
    if (length < owed) throw new SimulationFailure(`${host.name} came back with ${length} changes of ${host.history.length}, but ${owed} were owed`);
    host.history.splice(0, host.history.length, ...prefix);
    this.#follower?.check(host.history, `${host.name} came back:`);
    host.answered = length;
    this.#startStream(host);
  }

  /** Another host makes the volume of the bucket. */
  async #takeOver(): Promise<void> {
    this.#counts.takeovers += 1;
    const last = this.#owner;
    this.#isChanging = true;
    const host = new Host(`host-${this.#counts.takeovers + 1}`, []);
    const env = this.#boot(host);
    const patience = new Patience();
    for (;;) {
      try {
        await restoreVolume({ env, directory: '/data/v', settings: this.#settings, access: this.#access(env, host), config: CONFIG, isForced: true, prefetches: this.#hasFollower && this.#counts.takeovers % 2 === 0, onProgress: () => undefined });
        break;
      } catch (error) {
        patience.take(error, host.name);
        await env.clock.sleep(100);
      }
    }
    host.process?.die();
    await this.#reopen(host);
    const found = await this.#readAll(host);
    const prefix = prefixOf(found, last.history, `${host.name}, made of the bucket`);
    const length = wholeOf(prefix, last.history);
    const owed = this.#promised.length;
    if (length < owed) throw new SimulationFailure(`${host.name} was made of the bucket with ${length} changes of ${last.history.length}, but a drain had promised ${owed}`);
    this.#owner = host;
    this.#isChanging = false;
    host.history.push(...prefix);
    host.answered = length;
    this.#follower?.check(host.history, `${host.name} has taken over:`);
    this.#checkPromise();
    this.#startStream(host);
  }

  async #readAll(host: Host): Promise<Buffer> {
    const target = Buffer.alloc(BLOCKS * BLOCK_BYTES);
    const patience = new Patience();
    for (;;) {
      try {
        for (let at = 0; at < target.length; at += SLAB_BYTES) await host.volume?.read(at, target.subarray(at, at + SLAB_BYTES)); // so that chunks are fetched ahead
        return target;
      } catch (error) {
        patience.take(error);
        await host.process?.sleep(100);
      }
    }
  }
}
