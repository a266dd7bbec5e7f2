/** One request that is under way. Requests are reused, so that none is made on the data path. */
import { assert } from '../base/assert.ts';
import type { VolumeError } from '../base/errors.ts';
import { COOKIE_BYTES, copyCookie } from '../protocol/wire.ts';
import type { Completion } from '../volume/block-device.ts';

export interface RequestOwner {
  /** The request has ended; it may be reused. */
  requestEnded(request: Request, error: VolumeError | null): void;
}

export class Request implements Completion {
  readonly cookie = new Uint8Array(COOKIE_BYTES);
  command = 0;
  offsetBytes = 0;
  lengthBytes = 0;
  readonly #owner: RequestOwner;
  #pending = false;

  constructor(owner: RequestOwner) {
    this.#owner = owner;
  }

  begin(cookieSource: Uint8Array, cookieAt: number, command: number, offsetBytes: number, lengthBytes: number): void {
    assert(!this.#pending, 'a request is begun once');
    this.#pending = true;
    copyCookie(cookieSource, cookieAt, this.cookie, 0);
    this.command = command;
    this.offsetBytes = offsetBytes;
    this.lengthBytes = lengthBytes;
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
