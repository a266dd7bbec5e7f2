/** The one map from the engine's error codes to the errors of NBD replies. */
import type { ErrorCode } from '../base/errors.ts';
import { NBD_EINVAL, NBD_EIO, NBD_ENOSPC, NBD_EPERM, NBD_ESHUTDOWN } from '../protocol/constants.ts';

const ERRNO: Readonly<Record<ErrorCode, number>> = {
  'invalid-argument': NBD_EINVAL,
  'out-of-range': NBD_EINVAL, // a write past the end is ENOSPC, but it never gets as far as the device
  'not-found': NBD_EIO, // an object or file behind the volume is gone
  'already-exists': NBD_EIO,
  'in-use': NBD_EIO,
  'read-only': NBD_EPERM,
  'no-space': NBD_ENOSPC,
  'io-error': NBD_EIO,
  corrupt: NBD_EIO,
  failed: NBD_EIO,
  closed: NBD_ESHUTDOWN,
  limit: NBD_EIO, // not ENOMEM: a READ must never end with it
  denied: NBD_EIO, // not EPERM: that says that the export is read-only
  unavailable: NBD_EIO,
  fenced: NBD_EIO,
  unsupported: NBD_EINVAL, // not ENOTSUP: that is the answer to FAST_ZERO alone
};

/** The NBD error of an engine error. */
export function nbdErrorOf(code: ErrorCode): number {
  return ERRNO[code];
}
