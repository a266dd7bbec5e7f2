/**
 * A volume that another host writes, read from its bucket. No claim, no lease, nothing is written there. What is served is one state of the volume at a time (`certain-state.ts`), loaded
 * aside (`followed-view.ts`) and taken over in one turn: a request that began on the state before ends on it. Where that state's objects have been removed meanwhile it moves on,
 * and the request begins anew; never are two states mixed in one answer.
 */
import { VolumeError, toVolumeError } from '../base/errors.ts';
import type { ExtentList } from '../base/extent-list.ts';
import type { Durability } from '../base/durability.ts';
import type { FileLock, Timer } from '../env/env.ts';
import type { RemoteReader } from '../store/remote-store.ts';
import type { TieredStore } from '../store/tiered-store.ts';
import { chunkNumberIn } from '../chunk/chunk-reader.ts';
import type { BlockDevice, Completion } from './block-device.ts';
import { type CertainState, hasNews, isSameState, loadCertain, readCertainState } from './certain-state.ts';
import { FollowedView } from './followed-view.ts';
import { type Following, writeFollowing } from './following.ts';
import type { LoadOptions } from './load-stored.ts';
import { ReadOnlyDevice, readingStats, readingStatus } from './read-only-device.ts';
import { problemOf } from './verify-object.ts';
import type { FollowStatus, VolumeStats, VolumeStatus } from './volume-info.ts';

export interface FollowedParts {
  readonly options: LoadOptions;
  readonly lock: FileLock;
  readonly remote: RemoteReader;
  readonly store: TieredStore;
  readonly following: Following;
  readonly view: FollowedView;
  /** How often it is looked for a newer state; 0: when somebody asks. */
  readonly intervalMs: number;
}

/** So often a request begins anew at least because objects have gone, and so long: an owner that rewrites much removes them faster than some states are read. */
const ATTEMPTS_MIN = 8;
/** Who reads what has gone waits so long for a state that can be read, too: an owner that begins needs some time. */
const PATIENCE_MS = 30_000;
const PAUSE_MS = 1000;

export class FollowedVolume extends ReadOnlyDevice implements BlockDevice {
  readonly name: string;
  readonly blockSizeBytes: number;
  readonly durability: Durability;
  readonly failure = null;
  /** Why it takes no writes. */
  readonly reason: VolumeError;
  readonly #parts: FollowedParts;
  readonly #following: Following;
  #view: FollowedView;
  /** The newest that is known of the bucket. */
  #seen: CertainState;
  /** States that somebody reads still. */
  readonly #retiring = new Set<Promise<void>>();
  #looking: Promise<void> | null = null;
  #nextLook: Promise<void> | null = null;
  #timer: Timer | null = null;
  /** When the state that is served was the newest. */
  #lookedMs: number;
  #moves = 0;
  #trouble: VolumeError | null = null;
  #closing: Promise<void> | null = null;

  constructor(parts: FollowedParts) {
    super();
    const { view, following, options, store } = parts;
    this.#parts = parts;
    this.#following = following;
    this.#view = view;
    this.#seen = view.state;
    this.name = options.name;
    this.blockSizeBytes = view.core.blockSizeBytes;
    this.durability = view.core.manifest.durability;
    this.reason = new VolumeError('read-only', `it is followed: the host that has it writes ${following.config.url}, and here it is read`);
    this.#lookedMs = options.env.clock.nowMs();
    store.onEvict = (key) => {
      const chunk = chunkNumberIn(key);
      if (chunk !== null) void this.#view.core.reader.forget(chunk);
    };
    this.#scheduleLook();
  }

  get sizeBytes(): number {
    return this.#view.sizeBytes;
  }

  stats(): VolumeStats {
    return readingStats(this.#view.core);
  }

  status(): VolumeStatus {
    return { ...readingStatus(this.stats(), this.reason), bucketRequests: { ...this.#parts.remote.counters }, following: this.following() };
  }

  following(): FollowStatus {
    const { options, store } = this.#parts;
    const { clock } = options.env;
    const { root, lastChunk, lastLsn, writtenMs } = this.#view.state;
    return {
      url: this.#following.config.url,
      owner: this.#seen.claim.host,
      epoch: root.manifest.epoch,
      checkpoint: root.manifest.checkpoint.number,
      chunk: lastChunk,
      lsn: lastLsn,
      writtenMs,
      ageMs: Math.max(0, clock.wallMs() - writtenMs),
      lookAgeMs: clock.nowMs() - this.#lookedMs,
      isPinned: this.#following.isPinned,
      moves: this.#moves,
      cachedBytes: store.cachedBytes,
      trouble: this.#trouble?.message ?? null,
    };
  }

  protected refusal(): VolumeError {
    if (this.#closing !== null) return new VolumeError('closed', `volume ${this.name} is closed`);
    return new VolumeError('read-only', `volume ${this.name} is open for reading alone: ${this.reason.message}`, { cause: this.reason });
  }

  #checkRead(offsetBytes: number, lengthBytes: number): void {
    if (this.#closing !== null) throw new VolumeError('closed', `volume ${this.name} is closed`);
    if (offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= this.sizeBytes) return;
    throw new VolumeError('out-of-range', `${lengthBytes} bytes at ${offsetBytes} reach past the end of volume ${this.name} (${this.sizeBytes} bytes)`);
  }

  readNow(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetStart: number): boolean {
    this.#checkRead(offsetBytes, lengthBytes);
    return this.#view.readNow(offsetBytes, lengthBytes, target, targetStart);
  }

  /** The memory of a state goes with it: what is read is copied. */
  lend(offsetBytes: number, lengthBytes: number): null {
    this.#checkRead(offsetBytes, lengthBytes);
    return null;
  }

  read(offsetBytes: number, target: Uint8Array, extents?: ExtentList): Promise<void> {
    return this.#onView(offsetBytes, target.length, (view) => {
      extents?.clear();
      return view.read(offsetBytes, target, extents);
    });
  }

  extentsNow(offsetBytes: number, lengthBytes: number, extents: ExtentList): boolean {
    this.#checkRead(offsetBytes, lengthBytes);
    return this.#view.extentsNow(offsetBytes, lengthBytes, extents);
  }

  extents(offsetBytes: number, lengthBytes: number, extents: ExtentList): Promise<void> {
    return this.#onView(offsetBytes, lengthBytes, (view) => {
      extents.clear();
      return view.extents(offsetBytes, lengthBytes, extents);
    });
  }

  cache(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#onView(offsetBytes, lengthBytes, (view) => view.cache(offsetBytes, lengthBytes));
  }

  scrub(): Promise<never> {
    return Promise.reject(new VolumeError('unsupported', `volume ${this.name} is only followed here; on the host that has it basalt check --remote looks at its bucket, and basalt scrub at the rest`));
  }

  /** Nothing was written. */
  flushNow(completion: Completion): void {
    this.#checkRead(0, 0);
    completion.settle(null);
  }

  /** Runs `task` on the state of this moment; on a newer one if objects of that have gone. A smaller size may have come with it. */
  async #onView(offsetBytes: number, lengthBytes: number, task: (view: FollowedView) => Promise<void>): Promise<void> {
    const { clock } = this.#parts.options.env;
    const untilMs = clock.nowMs() + PATIENCE_MS;
    for (let attempt = 1; ; attempt += 1) {
      this.#checkRead(offsetBytes, lengthBytes);
      const view = this.#view;
      try {
        return await view.use(task);
      } catch (error) {
        if (!(error instanceof VolumeError) || error.code !== 'not-found' || this.#closing !== null || (attempt >= ATTEMPTS_MIN && clock.nowMs() > untilMs)) throw error;
        await this.#leave(view, error);
      }
    }
  }

  /** An object of a state has gone: resolves when there is a newer one. */
  async #leave(view: FollowedView, missing: VolumeError): Promise<void> {
    if (this.#view !== view) return;
    if (this.#following.isPinned) {
      throw new VolumeError('not-found', `volume ${this.name} is pinned to the state up to LSN ${view.state.lastLsn}, of which its owner has removed something since (${missing.message}); basalt refresh ${this.name} moves it on to the newest one`, { cause: missing });
    }
    const { clock } = this.#parts.options.env;
    for (const untilMs = clock.nowMs() + PATIENCE_MS; ; ) {
      try {
        await this.#look();
        break;
      } catch (error) {
        if (!(error instanceof VolumeError) || error.code !== 'unavailable' || clock.nowMs() > untilMs || this.#closing !== null) throw error;
        await clock.sleep(PAUSE_MS);
      }
    }
    if (this.#view !== view) return;
    throw new VolumeError('corrupt', `${missing.message}, and the newest state of the volume needs it; on the host that has it basalt check --remote says more`, { cause: missing, context: missing.context });
  }

  /** Moves on to the newest state that the bucket has at the call; what is pinned is pinned to that. Errors: those of `readCertainState`, and of loading it. */
  async refresh(): Promise<FollowStatus> {
    await this.#look();
    return this.following();
  }

  /** A look that begins behind this call. */
  #look(): Promise<void> {
    // Who waited for the end of another look may come when its files are somebody else's.
    if (this.#closing !== null) return Promise.reject(new VolumeError('closed', `volume ${this.name} is closed`));
    if (this.#looking === null) {
      this.#looking = this.#lookNow().finally(() => {
        this.#looking = null;
      });
      return this.#looking;
    }
    this.#nextLook ??= this.#looking
      .catch(() => undefined) // told to who waits for that one
      .then(() => {
        this.#nextLook = null;
        return this.#look();
      });
    return this.#nextLook;
  }

  async #lookNow(): Promise<void> {
    const { clock, logger } = this.#parts.options.env;
    this.#timer?.cancel();
    try {
      if (this.#retiring.size === 0) await this.#parts.store.retain(this.#view.state.objects);
      const beganMs = clock.nowMs();
      await this.#moveOn();
      this.#lookedMs = beganMs;
      if (this.#trouble !== null) logger.log('info', 'followed-again', { volume: this.name });
      this.#trouble = null;
    } catch (cause) {
      const error = toVolumeError(cause, `looking for a newer state of volume ${this.name}`);
      if (this.#trouble?.code !== error.code && this.#closing === null) logger.log('warn', 'not-followed', { volume: this.name, error });
      this.#trouble = error;
      throw error;
    } finally {
      this.#scheduleLook();
    }
  }

  async #moveOn(): Promise<void> {
    const { remote, options, store } = this.#parts;
    const { url } = this.#following.config;
    if (!(await hasNews(remote, this.#seen))) return;
    const view = this.#view;
    const read = (): Promise<CertainState> => readCertainState(remote, url, view.core.manifest.volumeId, () => undefined);
    await loadCertain({ clock: options.env.clock, url }, read, async (state) => {
      const { state: served } = view;
      if (state.lastLsn < served.lastLsn) throw new VolumeError('unavailable', `${url} tells of LSN ${state.lastLsn}, and had LSN ${served.lastLsn} before; nothing was changed. Was an older copy of the bucket put in its place?`);
      if (isSameState(state, served)) {
        this.#seen = state;
        return;
      }
      store.extend(state.objects);
      const next = await FollowedView.load({ ...options, counters: view.core.counters }, store, state);
      // Before it is served: behind a crash an opening that cannot tell what the newest state is goes back to this one, and to none before it.
      await keepState(options, { ...this.#following, root: state.root, lastChunk: state.lastChunk }, next);
      this.#take(next);
    });
  }

  /** From now on requests are answered from this state. */
  #take(view: FollowedView): void {
    const before = this.#view;
    const { logger } = this.#parts.options.env;
    this.#view = view;
    this.#parts.store.problemOf = (key, bytes) => problemOf({ clock: view.core.env.clock, manifest: view.core.manifest }, key, bytes);
    this.#seen = view.state;
    this.#moves += 1;
    logger.log('debug', 'moved-on', { volume: this.name, epoch: view.state.root.manifest.epoch, chunk: view.state.lastChunk, lsn: view.state.lastLsn });
    const retiring = before
      .retire()
      .catch((error: unknown) => logger.log('warn', 'state-not-let-go', { volume: this.name, error }))
      .finally(() => this.#retiring.delete(retiring));
    this.#retiring.add(retiring);
  }

  #scheduleLook(): void {
    const { options, intervalMs } = this.#parts;
    if (intervalMs === 0 || this.#following.isPinned || this.#closing !== null) return;
    this.#timer?.cancel();
    const look = (): void => void this.#look().catch((error: unknown) => void toVolumeError(error, 'looking for a newer state')); // trouble is told by `status` and in the log; a broken assertion ends the process
    this.#timer = options.env.clock.setTimer(intervalMs, look);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { options, remote, store, lock } = this.#parts;
    const { logger } = options.env;
    this.#timer?.cancel();
    // What is being fetched may wait for a bucket that cannot be reached, and nobody reads any more.
    remote.close();
    await this.#looking?.catch(() => undefined); // told by `status`
    await Promise.all([this.#view.retire(), ...this.#retiring]);
    await store.close();
    await lock.release();
    logger.log('info', 'volume-closed', { volume: this.name, ...this.stats() });
  }
}

/** Notes which state is about to be served; lets go of it if that fails. Errors: `no-space`, `io-error`. */
export async function keepState({ env, directory }: LoadOptions, following: Following, view: FollowedView): Promise<void> {
  try {
    await writeFollowing(env, directory, following);
  } catch (error) {
    await view.retire();
    throw error;
  }
}
