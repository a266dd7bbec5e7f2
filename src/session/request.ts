/** One request that is under way. Requests are reused, so that none is made on the data path. */
import { assert } from '../base/assert.ts';
import type { VolumeError } from '../base/errors.ts';
import { IDENTITY_BYTES } from '../protocol/transmission.ts';
import { COOKIE_BYTES, copyCookie } from '../protocol/wire.ts';
import type { Completion } from '../volume/block-device.ts';

export interface RequestOwner {
  /** The request has ended; it may be reused. */
  requestEnded(request: Request, error: VolumeError | null): void;
}

export function copyIdentity(source: Uint8Array, identityAt: number, target: Uint8Array): void {
  copyCookie(source, identityAt, target, 0);
  copyCookie(source, identityAt + COOKIE_BYTES, target, COOKIE_BYTES);
}

export class Request implements Completion {
  /** Cookie and offset, as they came: what replies echo. */
  readonly identity = new Uint8Array(IDENTITY_BYTES);
  command = 0;
  offsetBytes = 0;
  lengthBytes = 0;
  /** When it arrived. */
  begunMs = 0;
  readonly #owner: RequestOwner;
  #pending = false;

  constructor(owner: RequestOwner) {
    this.#owner = owner;
  }

  begin(source: Uint8Array, identityAt: number, command: number, offsetBytes: number, lengthBytes: number, begunMs: number): void {
    assert(!this.#pending, 'a request is begun once');
    this.#pending = true;
    copyIdentity(source, identityAt, this.identity);
    this.command = command;
    this.offsetBytes = offsetBytes;
    this.lengthBytes = lengthBytes;
    this.begunMs = begunMs;
  }

  settle(error: VolumeError | null): void {
    this.end();
    this.#owner.requestEnded(this, error);
  }

  /** Ends the request without an answer by `requestEnded`. */
  end(): void {
    assert(this.#pending, 'a request is settled once');
    this.#pending = false;
  }
}
