/** An object on its way into a store whose objects are shipped: how long it has become, what it is checked by, and the copy that it is shipped from. */
import { checksum } from '../base/checksum.ts';
import { toVolumeError } from '../base/errors.ts';
import type { StagedObject } from './object-store.ts';
import type { ShipCopies, ShipCopy } from './ship-copies.ts';

export interface TieredStaging {
  readonly key: string;
  readonly inner: StagedObject;
  readonly hasChecksums: boolean;
  readonly makeRoom: () => Promise<void>;
  readonly copies: ShipCopies;
  readonly copy: ShipCopy | null;
}

/** An object on its way here, and how long it has become. */
export class TieredStagedObject implements StagedObject {
  readonly key: string;
  readonly inner: StagedObject;
  /** It can be checked by itself. */
  readonly #hasChecksums: boolean;
  readonly #makeRoom: () => Promise<void>;
  readonly #copies: ShipCopies;
  #copy: ShipCopy | null;
  byteCount = 0;
  /** Of all bytes. */
  checksum = 0;

  constructor({ key, inner, hasChecksums, makeRoom, copies, copy }: TieredStaging) {
    this.key = key;
    this.inner = inner;
    this.#hasChecksums = hasChecksums;
    this.#makeRoom = makeRoom;
    this.#copies = copies;
    this.#copy = copy;
  }

  get isCopied(): boolean {
    return this.#copy !== null;
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
    this.#copy?.append(parts);
    for (const part of parts) {
      this.byteCount += part.length;
      if (!this.#hasChecksums) this.checksum = checksum(part, this.checksum);
    }
  }

  seal(): Promise<void> {
    return this.#orMakeRoom(() => this.inner.seal());
  }

  /** It has its name, and waits to be shipped. */
  published(): void {
    if (this.#copy !== null) this.#copies.keep(this.key, this.#copy);
    this.#copy = null;
  }

  abandon(): Promise<void> {
    if (this.#copy !== null) this.#copies.abandon(this.#copy);
    this.#copy = null;
    return this.inner.abandon();
  }
}
