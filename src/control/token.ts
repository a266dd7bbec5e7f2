/** The token that who comes over TCP must show: a secret in a file of its owner alone. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { open } from 'node:fs/promises';
import { VolumeError, toVolumeError } from '../base/errors.ts';
import { ApiError } from './api-error.ts';

/** As a random token of 128 bits has in any usual spelling. */
const MIN_TOKEN_CHARS = 22;
const MAX_TOKEN_BYTES = 4096;
const HINT = 'make one with: (umask 077; head -c 32 /dev/urandom | base64 > FILE)';

const digestOf = (text: string): Buffer => createHash('sha256').update(text).digest();

export class ControlToken {
  readonly #digest: Buffer;

  constructor(token: string) {
    this.#digest = digestOf(token);
  }

  /** Reads a token file. Rejects with `invalid-argument` if others may read it too, or what is in it is none; `io-error`. */
  static async read(path: string): Promise<ControlToken> {
    let text: string;
    let mode: number;
    try {
      const file = await open(path, 'r');
      try {
        ({ mode } = await file.stat());
        const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_TOKEN_BYTES));
        text = buffer.toString('utf8', 0, bytesRead).trim();
      } finally {
        await file.close();
      }
    } catch (error) {
      throw toVolumeError(error, 'reading the token of the control API (control.token_file)');
    }
    if ((mode & 0o077) !== 0) throw new VolumeError('invalid-argument', `token file ${path} may be read by others (mode ${(mode & 0o777).toString(8)}): chmod 600 ${path}`);
    if (text.length < MIN_TOKEN_CHARS || /[^\x21-\x7e]/.test(text)) throw new VolumeError('invalid-argument', `token file ${path} must hold one word of at least ${MIN_TOKEN_CHARS} characters; ${HINT}`);
    return new ControlToken(text);
  }

  /** Throws `no-token` or `wrong-token` unless the header `Authorization` shows it. In constant time: digests are compared, of one length. */
  check(authorization: string | undefined): void {
    const headers = { 'www-authenticate': 'Bearer realm="basalt"' };
    const shown = /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
    if (shown === undefined) throw new ApiError(401, 'no-token', 'over TCP a request must show the token of control.token_file: "Authorization: Bearer TOKEN"', headers);
    if (!timingSafeEqual(digestOf(shown), this.#digest)) throw new ApiError(401, 'wrong-token', 'this is not the token of control.token_file', headers);
  }
}
