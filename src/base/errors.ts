/**
 * The one error type for failures that are expected: bad input, a full or failing disk, damage.
 * A mistake of our own is an assertion instead (`assert.ts`).
 */
import { AssertionFailure } from './assert.ts';

/** Stable codes. Scripts and the NBD errno table depend on them: never rename one. */
export type ErrorCode =
  | 'invalid-argument' // the caller asked for something that cannot be (size, name, range)
  | 'out-of-range' // a request reaches past the end of the volume
  | 'not-found' // no such volume, object or file
  | 'already-exists' // a volume or object of that name is there
  | 'in-use' // another process (or another handle of this one) has the volume open
  | 'read-only' // the volume was opened, or has become, read-only
  | 'no-space' // the disk is full; the request can be tried again when space is back
  | 'io-error' // the operating system failed a call
  | 'corrupt' // stored bytes fail their check
  | 'failed' // a sync failed: the volume takes no more writes until its process is started anew
  | 'closed' // the volume was closed
  | 'limit' // a limit of the settings was reached
  | 'denied' // the remote store refuses us: key, signature, permission, clock, certificate; somebody must change something
  | 'unavailable' // the remote store cannot be reached, or is too busy; the request can be tried again
  | 'fenced' // another host has taken the volume over: what this one writes does not count any more
  | 'unsupported'; // this build, host or format version cannot do it

/** Values that help the reader of a log or of `--json` output: numbers, names, offsets. */
export type ErrorContext = Readonly<Record<string, string | number | boolean | null>>;

export interface VolumeErrorOptions extends ErrorOptions {
  readonly context?: ErrorContext;
}

/** An expected failure. `message` carries the numbers and says what can be done; `code` never changes. */
export class VolumeError extends Error {
  readonly code: ErrorCode;
  readonly context: ErrorContext;

  constructor(code: ErrorCode, message: string, options: VolumeErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'VolumeError';
    this.code = code;
    this.context = options.context ?? {};
  }
}

/** The operating system's own code (`ENOENT`, `ENOSPC`, ...) of an error, if it has one. */
export function systemCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

const REFUSALS: ReadonlySet<string | undefined> = new Set(['EINVAL', 'ENOTSUP', 'EOPNOTSUPP']);

/** Whether a kernel says that it does not do such a call here (O_DIRECT, on some file systems): that is no failure of the disk. */
export function isRefusal(error: unknown): boolean {
  return REFUSALS.has(systemCode(error));
}

const NO_SPACE_CODES: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/**
 * Turns whatever an operation threw into a VolumeError; one that is one already passes unchanged. A broken assertion is thrown
 * on: it is no failure of the operation, and ends the process.
 */
export function toVolumeError(error: unknown, what: string): VolumeError {
  if (error instanceof AssertionFailure) throw error;
  if (error instanceof VolumeError) return error;
  const code = systemCode(error);
  const text = error instanceof Error ? error.message : String(error);
  if (code !== undefined && NO_SPACE_CODES.has(code)) {
    return new VolumeError('no-space', `${what}: no space left on the device (${code}); free some and try again`, { cause: error });
  }
  return new VolumeError('io-error', `${what}: ${text}`, { cause: error });
}
