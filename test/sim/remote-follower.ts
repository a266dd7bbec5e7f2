/**
 * A host that follows the volume of the others, in the worlds of volumes with a bucket: it reads all of it now and then, while that is written, taken over and made of the bucket. Rules:
 *
 * - what it reads in one request is the state after some prefix of the owner's history; never less than it read before;
 * - all that it ever read is of the history that goes on: no takeover leaves it out;
 * - after a look it has all that a drain had promised before the look began;
 * - nothing is put into the bucket by it, or removed there.
 */
import { VolumeError } from '../../src/base/errors.ts';
import { Arena } from '../../src/base/arena.ts';
import type { EngineSettings } from '../../src/base/settings-types.ts';
import type { RemoteAccess } from '../../src/volume/attach-remote.ts';
import { followVolume, openServed } from '../../src/volume/follow-volume.ts';
import { FollowedVolume } from '../../src/volume/followed-volume.ts';
import type { SimEnv } from './env.ts';
import { SimulationFailure } from './model.ts';
import type { SeededRandom } from './random.ts';
import { BLOCKS, BLOCK_BYTES, type Change, isPassing, patiently, prefixOf, wholeOf } from './remote-history.ts';
import { Host } from './remote-host.ts';

export interface FollowerWorld {
  readonly random: SeededRandom;
  readonly settings: EngineSettings;
  readonly slabBytes: number;
  readonly config: Parameters<typeof followVolume>[0]['config'];
  /** Starts a process on a host. */
  boot(host: Host): SimEnv;
  access(env: SimEnv, host: Host): RemoteAccess;
  /** Of the owner, as it is now. */
  history(): readonly Change[];
  /** A takeover is under way: whoever looks now must not be misled. */
  isChanging(): boolean;
  /** What drains have promised. */
  promised(): readonly Change[];
}

export class Follower {
  readonly #world: FollowerWorld;
  readonly #host = new Host('follower', []);
  #env: SimEnv;
  #volume: FollowedVolume | null = null;
  /** The longest that was read. */
  #read: readonly Change[] = [];
  #isOver = false;
  reads = 0;
  moves = 0;

  constructor(world: FollowerWorld) {
    this.#world = world;
    this.#env = world.boot(this.#host);
  }

  /** Reads until `stop`. */
  async run(): Promise<void> {
    const { random, config } = this.#world;
    await this.#patiently(() => followVolume({ env: this.#env, directory: '/data/v', access: this.#world.access(this.#env, this.#host), config, isPinned: false, onProgress: () => undefined }));
    await this.#open();
    while (!this.#isOver) {
      const isChanging = this.#world.isChanging();
      await this.#env.clock.sleep(random.unit() * (isChanging ? 5 : random.pick([20, 500])));
      if (random.chance(0.1)) await this.#restart();
      await this.#look({ asks: isChanging || random.chance(0.5), mayFail: true });
    }
  }

  stop(): void {
    this.#isOver = true;
  }

  /** When `run` has ended, no more requests fail, and nobody writes: it must have all that was drained. */
  async end(): Promise<void> {
    await this.#look({ asks: true, mayFail: false });
    await this.#volume?.close();
  }

  async #open(): Promise<void> {
    const { settings, slabBytes } = this.#world;
    const arena = new Arena({ arenaBytes: settings.arenaBytes, dirtyBytes: settings.dirtyBytes, slabBytes });
    const opened = await this.#patiently(() => openServed({ env: this.#env, directory: '/data/v', name: 'v', settings, arena, remotes: this.#world.access(this.#env, this.#host) }));
    if (!(opened instanceof FollowedVolume)) throw new SimulationFailure('what follows was opened as if it were its own');
    this.#volume = opened;
  }

  async #restart(): Promise<void> {
    this.moves += this.#volume?.following().moves ?? 0;
    if (this.#world.random.chance(0.5)) await this.#volume?.close();
    this.#host.process?.die();
    this.#volume = null;
    this.#env = this.#world.boot(this.#host);
    await this.#open();
  }

  #patiently<T>(task: () => Promise<T>): Promise<T> {
    return patiently(() => this.#env.clock, task);
  }

  async #look({ asks, mayFail }: { readonly asks: boolean; readonly mayFail: boolean }): Promise<void> {
    const volume = this.#volume;
    if (volume === null) return;
    const owed = asks ? this.#world.promised() : [];
    const target = Buffer.alloc(BLOCKS * BLOCK_BYTES);
    try {
      if (asks) await volume.refresh();
      await volume.read(0, target);
    } catch (error) {
      if (mayFail && isPassing(error)) return;
      throw error instanceof VolumeError ? new SimulationFailure(`a follower cannot read: ${error.message}`, { cause: error }) : error;
    }
    if ((volume.status().bucketRequests?.puts ?? 0) + (volume.status().bucketRequests?.deletes ?? 0) > 0) throw new SimulationFailure('a follower changed something in the bucket');
    this.reads += 1;
    const history = this.#world.history();
    const found = prefixOf(target, history, 'what a follower reads');
    if (wholeOf(found, history) < owed.length) throw new SimulationFailure(`a follower asked for the newest state, and read ${found.length} changes of ${history.length}; ${owed.length} had been promised before`);
    const last = this.#read.at(-1);
    const again = found[this.#read.length - 1];
    if (last !== undefined && (again?.id !== last.id || again.count < last.count)) throw new SimulationFailure(`a follower read up to change ${last.id} (${last.count} blocks of it), and later only ${found.length} changes of ${history.length}`);
    this.#read = found;
  }

  /** Whether a history has all that was ever read. */
  check(history: readonly Change[], when: string): void {
    const last = this.#read.at(-1);
    const same = history[this.#read.length - 1];
    if (last === undefined || (same?.id === last.id && same.count >= last.count)) return;
    throw new SimulationFailure(`${when} the history has ${history.length} changes, without change ${last.id} (${last.count} blocks of it), which a follower has read`);
  }
}
