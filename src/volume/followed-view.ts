/** One state of a followed volume, loaded for reading: its index, and the objects that it may need. It never changes; those who read hold it. */
import { VolumeError } from '../base/errors.ts';
import type { ExtentList } from '../base/extent-list.ts';
import type { ObjectStore, StagedObject, StoredObject } from '../store/object-store.ts';
import type { CertainState } from './certain-state.ts';
import { ExtentWalk } from './extent-walk.ts';
import { type LoadOptions, loadStored } from './load-stored.ts';
import { letGo } from './probe-volume.ts';
import { ReadPath } from './read-path.ts';
import type { VolumeCore } from './volume-core.ts';

/** Objects of one state, of all that are there or in the bucket. Nothing is put into it, or removed. */
export class StateObjects implements ObjectStore {
  readonly spareBytes = 0;
  readonly #store: Pick<ObjectStore, 'open'>;
  readonly #sizes: ReadonlyMap<string, number>;

  constructor(store: Pick<ObjectStore, 'open'>, sizes: ReadonlyMap<string, number>) {
    this.#store = store;
    this.#sizes = sizes;
  }

  open(key: string): Promise<StoredObject> {
    if (this.#sizes.has(key)) return this.#store.open(key);
    return Promise.reject(new VolumeError('not-found', `${key} is missing in the bucket`));
  }

  list(folder: string): Promise<string[]> {
    const names = [...this.#sizes.keys()].filter((key) => key.startsWith(`${folder}/`)).map((key) => key.slice(folder.length + 1));
    return Promise.resolve(names.toSorted());
  }

  stage(key: string): Promise<StagedObject> {
    return Promise.reject(new VolumeError('read-only', `${key}: nothing is written to a volume that is only followed`));
  }

  publish(): Promise<void> {
    return Promise.reject(new VolumeError('read-only', 'nothing is written to a volume that is only followed'));
  }

  remove(key: string): Promise<void> {
    return Promise.reject(new VolumeError('read-only', `${key}: nothing is removed from a volume that is only followed`));
  }

  settle(): Promise<void> {
    return Promise.resolve();
  }

  releaseSpace(): Promise<void> {
    return Promise.resolve();
  }
}

export class FollowedView {
  readonly state: CertainState;
  readonly core: VolumeCore;
  readonly #reads: ReadPath;
  readonly #walk: ExtentWalk;
  #users = 0;
  #whenUnused: (() => void) | null = null;

  private constructor(state: CertainState, core: VolumeCore) {
    this.state = state;
    this.core = core;
    this.#reads = new ReadPath(core);
    this.#walk = new ExtentWalk(core);
  }

  /** Loads a state. Errors: `corrupt` and `not-found`, also where its owner removed something meanwhile; `io-error`, and those of the store. */
  static async load(options: LoadOptions, store: Pick<ObjectStore, 'open'>, state: CertainState): Promise<FollowedView> {
    let core: VolumeCore | null = null;
    const made = (loaded: VolumeCore): void => {
      core = loaded;
    };
    try {
      const loaded = await loadStored(options, new StateObjects(store, state.objects), state.root.manifest, made);
      if (loaded.core.lastChunk !== state.lastChunk) throw new VolumeError('corrupt', `the chain of chunks ends at ${loaded.core.lastChunk}, expected ${state.lastChunk}`);
      return new FollowedView(state, loaded.core);
    } catch (error) {
      await letGo(core);
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.core.manifest.sizeBytes;
  }

  /** Runs `task`, while which the view stays. */
  async use<T>(task: (view: this) => Promise<T>): Promise<T> {
    this.#users += 1;
    try {
      return await task(this);
    } finally {
      this.#users -= 1;
      if (this.#users === 0) this.#whenUnused?.();
    }
  }

  readNow(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetStart: number): boolean {
    return this.#reads.readNow(offsetBytes, lengthBytes, target, targetStart);
  }

  read(offsetBytes: number, target: Uint8Array, extents?: ExtentList): Promise<void> {
    return this.#reads.read(offsetBytes, target, extents);
  }

  cache(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#reads.cache(offsetBytes, lengthBytes);
  }

  extentsNow(offsetBytes: number, lengthBytes: number, extents: ExtentList): boolean {
    return this.#walk.now(offsetBytes, lengthBytes, extents);
  }

  extents(offsetBytes: number, lengthBytes: number, extents: ExtentList): Promise<void> {
    return this.#walk.run(offsetBytes, lengthBytes, extents);
  }

  /** Nobody begins to read it any more. Resolves when those who did are through, and it is let go of. */
  async retire(): Promise<void> {
    if (this.#users > 0) {
      await new Promise<void>((resolve) => {
        this.#whenUnused = resolve;
      });
    }
    await letGo(this.core);
  }
}
