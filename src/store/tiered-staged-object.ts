import { checksum } from '../base/checksum.ts';
import { toVolumeError } from '../base/errors.ts';
import type { StagedObject } from './object-store.ts';

/** An object on its way here, and how long it has become. */
export class TieredStagedObject implements StagedObject {
  readonly key: string;
  readonly inner: StagedObject;
  /** It can be checked by itself. */
  readonly #hasChecksums: boolean;
  readonly #makeRoom: () => Promise<void>;
  byteCount = 0;
  /** Of all bytes. */
  checksum = 0;

  constructor({ key, inner, hasChecksums, makeRoom }: { readonly key: string; readonly inner: StagedObject; readonly hasChecksums: boolean; readonly makeRoom: () => Promise<void> }) {
    this.key = key;
    this.inner = inner;
    this.#hasChecksums = hasChecksums;
    this.#makeRoom = makeRoom;
  }

  async append(parts: readonly Uint8Array[]): Promise<void> {
    await this.#orMakeRoom(() => this.inner.append(parts));
    this.#count(parts);
  }

  async appendUncached(parts: readonly Uint8Array[]): Promise<void> {
    await this.#orMakeRoom(() => this.inner.appendUncached(parts));
    this.#count(parts);
  }

  async #orMakeRoom(attempt: () => Promise<void>): Promise<void> {
    try {
      await attempt();
    } catch (error) {
      if (toVolumeError(error, 'storing').code === 'no-space') await this.#makeRoom();
      throw error;
    }
  }

  #count(parts: readonly Uint8Array[]): void {
    for (const part of parts) {
      this.byteCount += part.length;
      if (!this.#hasChecksums) this.checksum = checksum(part, this.checksum);
    }
  }

  seal(): Promise<void> {
    return this.#orMakeRoom(() => this.inner.seal());
  }

  abandon(): Promise<void> {
    return this.inner.abandon();
  }
}
