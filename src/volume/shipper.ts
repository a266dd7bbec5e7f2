/**
 * Shipping: what a volume with a bucket writes goes there in the background, chunks in the order of their numbers and several at a time, then the
 * checkpoints, then a root that refers to them. A set of chunks counts there once it is whole and those before it are; a root counts from its put on.
 *
 * Chunks that die before their turn are never shipped. What a root needs is pinned while the root is on its way: removed here or not, it is shipped.
 *
 * Objects that were removed here are removed from the bucket when two roots have been put since: a root that somebody reads from may be the last
 * but one. Before that it is made sure that nobody has claimed the volume: a claimer goes on from the newest root that it finds.
 */
import { assert } from '../base/assert.ts';
import { forEachLimited } from '../base/async.ts';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import { chunkNumberIn } from '../chunk/chunk-reader.ts';
import type { Timer } from '../env/env.ts';
import type { Manifest } from '../format/manifest.ts';
import { encodeRoot, rootKey } from '../format/remote-records.ts';
import { hasSameBytes } from '../store/same-bytes.ts';
import type { Lease } from '../store/ship-copies.ts';
import { HotNotes } from './hot-list.ts';
import { OrphanSweep } from './orphans.ts';
import { OwnerWatch } from './owner-watch.ts';
import { PutBudget } from './put-budget.ts';
import { estimateBill } from './remote-bill.ts';
import { hasSameSize } from './remote-state.ts';
import type { RootObjects, ShipperOptions } from './shipper-options.ts';
import { withScrubAdvice } from './volume-files.ts';
import type { ShippingStatus } from './volume-info.ts';

/** While there are writes something is put at least so many times a lease. */
const LEASE_PART = 2;
/** Where so much was written for each byte of the newest chunks the next ones will have many of the same blocks, ... */
const REWRITTEN_FACTOR = 1.5;
/** ... and no more than so many slabs wait for that. */
const REWRITTEN_SLABS_MAX = 64;
/** So often those who wait for the budget look whether somebody waits for them. */
const BUDGET_LOOK_MS = 1000;

interface Waiter {
  readonly isDone: () => boolean;
  readonly resolve: () => void;
  readonly reject: (error: VolumeError) => void;
}

export class Shipper {
  readonly #options: ShipperOptions;
  #root: Manifest;
  #isFirstRootPut = false;
  /** Something was put since the ownership was found to be ours. */
  #isUnchecked = false;
  #puts = 0;
  /** Last chunk that was removed before it was shipped: up to it the bucket has all once a root covers it. */
  #gapChunk: number;
  /** The newest checkpoint, if no root of it was put yet. */
  #wantedRoot: RootObjects | null = null;
  /**
   * The first one with another size than the last that was put. It goes before all that was written since, which would be read with the size before: so no
   * later one takes its place.
   */
  #resizedRoot: (RootObjects & { readonly needs: ReadonlySet<string> }) | null = null;
  #rootUnderWay: RootObjects | null = null;
  /** Removed from the volume since the last root but one, and since the last one. */
  #doomed: { readonly older: string[]; readonly newer: string[] } = { older: [], newer: [] };
  /** Shipped for the root under way; some of them may have been removed here since. */
  readonly #sent = new Set<string>();
  #running: Promise<void> | null = null;
  #timer: Timer | null = null;
  #trouble: VolumeError | null = null;
  #oldestMs: number | null = null;
  #isStopped = false;
  readonly #waiters = new Set<Waiter>();
  readonly #watch: OwnerWatch;
  readonly #budget: PutBudget;
  readonly #sweep: OrphanSweep;
  readonly #hot: HotNotes;
  readonly #startMs: number;
  /** Since when there is something to do. */
  #workSinceMs: number | null = null;
  #holdTimer: Timer | null = null;

  constructor(options: ShipperOptions) {
    this.#options = options;
    this.#root = options.base;
    this.#gapChunk = options.gapChunk;
    options.store.onPublished = () => this.#published();
    options.store.onDropped = (key) => {
      this.#gapChunk = Math.max(this.#gapChunk, chunkNumberIn(key) ?? 0);
      options.progressed();
    };
    this.#budget = new PutBudget(options.env.clock, options.settings.maxPutsPerHour);
    this.#startMs = options.env.clock.nowMs();
    const { store } = options;
    this.#sweep = new OrphanSweep({ clock: options.env.clock, graceMs: options.settings.orphanGraceMs, orphans: options.orphans, isInUse: (key) => store.isShipped(key) || store.unshipped.has(key) });
    this.#hot = new HotNotes({ env: options.env, volume: options.volume, volumeId: options.base.volumeId, store, remote: options.remote, intervalMs: options.settings.hotIntervalMs });
    this.#watch = new OwnerWatch({ clock: options.env.clock, intervalMs: options.settings.ownerCheckMs, check: () => this.#look() });
    this.#published();
  }

  get trouble(): VolumeError | null {
    return this.#trouble;
  }

  status(): ShippingStatus {
    const { store, env, remote, settings } = this.#options;
    const bucketBytes = store.shippedBytes;
    return {
      unshippedBytes: store.unshippedBytes,
      unshippedObjects: store.unshipped.size,
      ageMs: this.#oldestMs === null ? 0 : env.clock.nowMs() - this.#oldestMs,
      cachedBytes: store.cachedBytes,
      rootChunk: this.#root.checkpoint.lastChunk,
      rootLsn: this.#root.checkpoint.lastLsn,
      trouble: this.#trouble?.message ?? null,
      writers: 'free',
      bucketBytes,
      orphans: this.#sweep.count,
      prefetch: null,
      bill: estimateBill(settings, remote.counters, bucketBytes, env.clock.nowMs() - this.#startMs),
    };
  }

  /** Notes in the bucket which chunks are used. */
  async noteHot(): Promise<void> {
    this.#budget.take();
    await this.#hot.put();
  }

  /** A write was accepted: whether it counts is to be looked at in time. */
  wrote(): void {
    this.#watch.wrote();
  }

  /** The bucket does not know of the size that the volume has. */
  get isResizing(): boolean {
    return this.#resizedRoot !== null;
  }

  /** Whether a chunk that was shipped may go from here. Until the bucket knows the volume's size an opening goes by the last root, beside which later chunks may not count. */
  mayEvict(chunk: number): boolean {
    return !this.isResizing || chunk <= this.#root.checkpoint.lastChunk;
  }

  /** Whether space will be found on a full disk: something may go, now or once it was shipped. */
  get mayMakeRoom(): boolean {
    return !this.#isStopped && this.#options.store.mayMakeRoom;
  }

  async #look(): Promise<void> {
    try {
      await this.#check();
    } catch (cause) {
      const error = toVolumeError(cause, `looking whose volume ${this.#options.volume} is`);
      if (error.code === 'fenced') this.#lost(error);
    }
  }

  /** A checkpoint is durable here: the next root is of it. To be called before what it does not need is removed. */
  async checkpointed({ manifest, keys }: RootObjects): Promise<void> {
    const { store } = this.#options;
    // What the bucket has now is there until two more roots are.
    const root = { manifest, keys: new Set([...keys].filter((key) => !store.isShipped(key))), needs: keys };
    if (this.#resizedRoot !== null || hasSameSize(manifest, this.#root)) this.#wantedRoot = root;
    else {
      this.#resizedRoot = root;
      this.#wantedRoot = null;
    }
    await this.#pin();
    this.poke();
  }

  async #pin(): Promise<void> {
    await this.#options.store.pin(new Set([this.#rootUnderWay, this.#resizedRoot, this.#wantedRoot].flatMap((root) => [...(root?.keys ?? [])])));
  }

  #published(): void {
    if (this.#options.store.unshipped.size > 0) this.#oldestMs ??= this.#options.env.clock.nowMs();
    this.poke();
  }

  /** Whether the bucket has all that was published, and a root of the newest checkpoint. */
  get isDone(): boolean {
    return !this.#hasWork;
  }

  /** Starts what there is to do. */
  poke(): void {
    if (this.#running !== null || this.#isStopped || this.#timer !== null) return;
    if (!this.#hasWork) {
      this.#workSinceMs = null;
      this.#settleWaiters();
      return;
    }
    if (this.#isHeldBack()) return;
    this.#running = this.#run()
      .then(
        () => this.#ended(null),
        (error: unknown) => this.#ended(toVolumeError(error, `shipping volume ${this.#options.volume}`)),
      );
  }

  /**
   * Little waits for more of it, so that there are fewer objects, and blocks that are written again and again wait for their next version: most of their chunks die before their turn then, and
   * writers who wait for syncs have the disk and the processor to themselves. Somebody who waits for the bucket does not.
   */
  #isHeldBack(): boolean {
    const { env, store, settings, partialBytes } = this.#options;
    this.#holdTimer?.cancel();
    this.#holdTimer = null;
    const nowMs = env.clock.nowMs();
    this.#workSinceMs ??= nowMs;
    const mostBytes = partialBytes * (this.#options.rewriteFactor() >= REWRITTEN_FACTOR ? REWRITTEN_SLABS_MAX : 1);
    if (!this.#isFirstRootPut || this.#isUnchecked || this.isResizing || this.#isHurried || store.unshippedBytes >= mostBytes) return false;
    const waitMs = this.#workSinceMs + (settings.shipIntervalMs > 0 ? settings.shipIntervalMs : settings.leaseMs / LEASE_PART) - nowMs;
    if (waitMs <= 0) return false;
    this.#holdTimer = env.clock.setTimer(waitMs, () => this.poke());
    return true;
  }

  get #whyStopped(): VolumeError {
    return this.#options.ownership.lostTo ?? new VolumeError('closed', `volume ${this.#options.volume} ships no more`);
  }

  get #isHurried(): boolean {
    return this.#waiters.size > 0 || this.#options.isPressed();
  }

  /** Waits until a put is within the budget, unless somebody waits for it. Error: `closed`. */
  async #awaitBudget(): Promise<void> {
    for (let waitMs = this.#budget.waitMs; waitMs > 0 && !this.#isHurried; waitMs = this.#budget.waitMs) {
      if (this.#isStopped) throw this.#whyStopped;
      await this.#options.env.clock.sleep(Math.min(waitMs, BUDGET_LOOK_MS));
    }
    this.#budget.take();
  }

  get #hasWork(): boolean {
    return !this.#isFirstRootPut || this.#isUnchecked || this.isResizing || this.#wantedRoot !== null || this.#rootUnderWay !== null || this.#options.store.unshipped.size > 0;
  }

  /** Resolves when all that was published before, and the newest checkpoint, are in the bucket. Errors: `fenced`, `closed`, `corrupt` (something is rotten here, and cannot go). What can be tried again is. */
  drain(): Promise<void> {
    if (this.#isStopped) return Promise.reject(this.#whyStopped);
    return new Promise((resolve, reject) => {
      this.#waiters.add({ isDone: () => !this.#hasWork, resolve, reject });
      this.#tryNow();
    });
  }

  /** Resolves when the bucket has all chunks up to `chunk`: what of them is needed to make the volume of it. Errors: as `drain`. */
  chunksShipped(chunk: number): Promise<void> {
    if (this.#isStopped) return Promise.reject(this.#whyStopped);
    return new Promise((resolve, reject) => {
      this.#waiters.add({ isDone: () => this.#hasShipped(chunk), resolve, reject });
      if (this.#running === null) this.#settleWaiters();
      this.#tryNow();
    });
  }

  /** Chunks are in the bucket in an unbroken chain behind a root of the volume's size, and counted when it was looked last. */
  #hasShipped(chunk: number): boolean {
    if (!this.#isFirstRootPut || this.#isUnchecked || this.isResizing) return false;
    const { lastChunk } = this.#root.checkpoint;
    if (lastChunk >= chunk) return true;
    // A chain goes on from the root: nothing may be missing of it.
    if (this.#gapChunk > lastChunk) return false;
    for (const key of this.#options.store.unshipped.keys()) if ((chunkNumberIn(key) ?? 0) <= chunk) return false;
    return true;
  }

  #tryNow(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.poke();
  }

  /** Begins nothing new; resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#watch.stop();
    this.#cancelTimers();
    await this.#running;
    this.#rejectWaiters(new VolumeError('closed', `volume ${this.#options.volume} is closed; not all of it is shipped`));
  }

  #ended(error: VolumeError | null): void {
    this.#running = null;
    const { env, volume, settings } = this.#options;
    if (error === null) {
      if (this.#trouble !== null) env.logger.log('info', 'shipping-goes-on', { volume });
      this.#workSinceMs = null;
      this.#trouble = null;
      if (this.#options.store.unshipped.size === 0) this.#oldestMs = null;
      this.#settleWaiters();
      this.poke();
      return;
    }
    this.#giveUpResized(error);
    const isRotten = error.context.rotten === true && !this.#options.rotten(String(error.context.key));
    const trouble = isRotten ? withScrubAdvice(error, volume) : error;
    if (this.#trouble?.message !== trouble.message && (this.#trouble?.code !== trouble.code || isRotten)) env.logger.log('warn', 'shipping-stopped', { volume, error: trouble });
    this.#trouble = trouble;
    // It does not go by itself.
    if (isRotten) this.#rejectWaiters(trouble);
    if (error.code === 'fenced') {
      this.#lost(error);
      return;
    }
    if (this.#isStopped) return;
    this.#timer = env.clock.setTimer(settings.retryMs, () => this.#tryNow());
  }

  /** What it needs is rotten here, and may never go: the next checkpoint takes its place, though something was written since. */
  #giveUpResized(error: VolumeError): void {
    if (error.context.rotten !== true || this.#resizedRoot?.keys.has(String(error.context.key)) !== true) return;
    this.#wantedRoot ??= this.#resizedRoot;
    this.#resizedRoot = null;
  }

  /** Another host has the volume. */
  #lost(error: VolumeError): void {
    this.#trouble = error;
    this.#isStopped = true;
    this.#watch.stop();
    this.#cancelTimers();
    this.#options.fenced(error);
    this.#rejectWaiters(error);
  }

  #cancelTimers(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#holdTimer?.cancel();
    this.#holdTimer = null;
  }

  #rejectWaiters(error: VolumeError): void {
    for (const waiter of this.#waiters) waiter.reject(error);
    this.#waiters.clear();
  }

  #settleWaiters(): void {
    for (const waiter of this.#waiters) {
      if (!waiter.isDone()) continue;
      this.#waiters.delete(waiter);
      waiter.resolve();
    }
  }

  async #run(): Promise<void> {
    // Before anything else of this epoch: it says which objects of earlier ones count.
    if (!this.#isFirstRootPut) await this.#putRoot(this.#options.base, this.#options.baseFenceChunk);
    await this.#check();
    const resized = this.#resizedRoot;
    const wanted = resized ?? this.#wantedRoot;
    if (wanted === null) {
      await this.#shipAll([...this.#options.store.unshipped.keys()]);
      this.#forgetSent();
      await this.#check();
      return;
    }
    if (resized === null) this.#wantedRoot = null;
    this.#rootUnderWay = wanted;
    try {
      await this.#shipRoot(wanted);
      if (resized !== null && this.#resizedRoot === resized) this.#resizedRoot = null;
      this.#forgetSent();
    } catch (error) {
      // A newer one may have taken its place.
      if (resized === null && !this.isResizing) this.#wantedRoot ??= wanted;
      throw error;
    } finally {
      this.#rootUnderWay = null;
      await this.#pin();
    }
  }

  /** Chunks in order, checkpoints behind them. Returns those that are not here any more. */
  async #shipAll(keys: readonly string[]): Promise<readonly string[]> {
    const { shipConcurrency } = this.#options.settings;
    const ordered = keys.toSorted((a, b) => (chunkNumberIn(a) ?? Number.MAX_SAFE_INTEGER) - (chunkNumberIn(b) ?? Number.MAX_SAFE_INTEGER));
    const missing: string[] = [];
    // What is rotten here lets nothing behind it go: that would not count, and would be there for nothing.
    let sound: Promise<unknown> = Promise.resolve();
    await forEachLimited(ordered, shipConcurrency, async (key) => {
      const reading = sound.then(() => this.#options.store.leaseSound(key));
      sound = reading;
      const lease = await reading;
      if (lease === null) missing.push(key);
      else await this.#shipLeased(key, lease);
    });
    return missing;
  }

  async #shipRoot({ manifest, keys }: RootObjects): Promise<void> {
    const { store } = this.#options;
    // None of them will be needed by a later root; what this one needs goes behind the next.
    const isNeeded = (key: string): boolean => this.#resizedRoot?.needs.has(key) === true;
    const doomed = store.takeDoomed();
    store.returnDoomed(doomed.filter(isNeeded));
    this.#doomed.newer.push(...doomed.filter((key) => !isNeeded(key)));
    const missing = await this.#shipAll([...keys].filter((key) => !store.isShipped(key) && !this.#sent.has(key)));
    assert(missing.length === 0, `${missing.join(', ')} is needed by a root, and was removed before it was shipped`);
    await this.#putRoot(manifest, this.#options.fenceChunk);
    this.#forgetSent();
    if (this.#hot.isDue && this.#budget.waitMs === 0) await this.noteHot();
    await this.#removeDoomed();
  }

  /** What was shipped for a root that is put; some of it may be needed by the one that comes next, and be removed here. */
  #forgetSent(): void {
    for (const key of this.#sent) if (this.#resizedRoot?.keys.has(key) !== true) this.#sent.delete(key);
  }

  async #putRoot(manifest: Manifest, fenceChunk: number): Promise<void> {
    const { remote, ownership, env } = this.#options;
    const { epoch } = ownership;
    const root = { manifest: { ...manifest, epoch }, fenceChunk, timeMs: Math.max(0, Math.floor(env.clock.wallMs())) };
    const key = rootKey(epoch, manifest.checkpoint.number);
    // An earlier try of ours may have put it, with another time.
    this.#put();
    if ((await remote.head(key)) === null) {
      await this.#awaitBudget();
      await remote.putIfAbsent(key, [encodeRoot(root)]);
    }
    await this.#check();
    this.#isFirstRootPut = true;
    this.#sweep.rootPut(key);
    this.#root = root.manifest;
  }

  /** An object is about to be put. */
  #put(): void {
    this.#puts += 1;
    this.#isUnchecked = true;
  }

  /** A put that was given up, in an outage say, may have had its effect later. Errors: those of the bucket. */
  async #isThere(key: string, bytes: Uint8Array): Promise<boolean> {
    const { remote } = this.#options;
    if ((await remote.head(key)) !== bytes.length) return false;
    // Where it is not clear, it is looked at again with the next try.
    const isSame = await hasSameBytes(() => remote.getWhole(key, bytes.length), bytes);
    if (isSame === null) throw new VolumeError('unavailable', `${key} of volume ${this.#options.volume} is in the bucket already, and is read differently each time; it is tried again`);
    return isSame;
  }

  /** What was put before this call counts. */
  async #check(): Promise<void> {
    const looked = this.#watch.looks();
    const puts = this.#puts;
    await this.#options.ownership.check();
    looked();
    if (puts === this.#puts) this.#isUnchecked = false;
  }

  /** What cannot be removed now is tried again behind the next root. */
  async #removeDoomed(): Promise<void> {
    const { older, newer } = this.#doomed;
    this.#doomed = { older: newer, newer: [] };
    const orphans = this.#sweep.due();
    if (older.length + orphans.length === 0) return;
    try {
      await this.#options.remote.remove([...older, ...orphans]);
      this.#sweep.forget(orphans);
    } catch (error) {
      this.#doomed.older.push(...older);
      this.#options.env.logger.log('warn', 'remote-removal-postponed', { volume: this.#options.volume, objects: older.length + orphans.length, error: toVolumeError(error, 'removing objects') });
    }
  }

  async #shipLeased(key: string, lease: Lease): Promise<void> {
    let isShipped = false;
    try {
      await this.#ship(key, lease.bytes);
      isShipped = true;
    } finally {
      // A request that was given up may still be on its way out.
      lease.release(isShipped);
    }
  }

  async #ship(key: string, bytes: Uint8Array): Promise<void> {
    const { store, remote, volume } = this.#options;
    await this.#awaitBudget();
    this.#put();
    const outcome = await remote.putIfAbsent(key, [bytes]);
    if (outcome === 'exists' && !(await this.#isThere(key, bytes))) throw new VolumeError('corrupt', `${key} of volume ${volume} is in the bucket already, with other bytes; nothing was overwritten`, { context: { key } });
    this.#sent.add(key);
    await store.shipped(key, bytes.length);
    this.#options.progressed();
  }
}
