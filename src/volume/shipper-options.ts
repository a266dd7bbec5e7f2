/** What shipping goes by, and what it is given. */
import type { VolumeError } from '../base/errors.ts';
import type { RemoteSettings } from '../base/settings-types.ts';
import type { Env } from '../env/env.ts';
import type { Manifest } from '../format/manifest.ts';
import type { RemoteStore } from '../store/remote-store.ts';
import type { TieredStore } from '../store/tiered-store.ts';
import type { Orphan } from './orphans.ts';
import type { Ownership } from './remote-state.ts';

export interface ShipperOptions {
  readonly env: Env;
  readonly volume: string;
  readonly store: TieredStore;
  readonly remote: RemoteStore;
  readonly ownership: Ownership;
  /** Chunks of earlier epochs count up to this number; beside the base up to the other one. */
  readonly fenceChunk: number;
  readonly baseFenceChunk: number;
  /** Up to this chunk some may be missing in the bucket that no root tells of yet. */
  readonly gapChunk: number;
  /** Of the newest root in the bucket; what it has under our epoch is put first of all. */
  readonly base: Manifest;
  /** The volume was lost to another host: it takes no more writes. */
  readonly fenced: (error: VolumeError) => void;
  /** Something was shipped. */
  readonly progressed: () => void;
  readonly settings: RemoteSettings;
  /** Of the bucket, as it was when it was claimed. */
  readonly orphans: readonly Orphan[];
  /** What is less than this waits for more. */
  readonly partialBytes: number;
  /** Writers wait for what is not shipped. */
  readonly isPressed: () => boolean;
  /** Bytes that were written for each byte of the newest chunks. */
  readonly rewriteFactor: () => number;
  /** An object is rotten here, and not in the bucket. True: something is being done about it. */
  readonly rotten: (key: string) => boolean;
}

/** What a root refers to. */
export interface RootObjects {
  readonly manifest: Manifest;
  /** Keys of the chunks that live in its checkpoint, and of the checkpoint objects in use; of one on its way, those that have to be shipped. */
  readonly keys: ReadonlySet<string>;
}
