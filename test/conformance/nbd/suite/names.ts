/** Numbers of the protocol in words, for reports. */
const OPTION_REPLIES: Readonly<Record<number, string>> = { 1: 'ACK', 2: 'SERVER', 3: 'INFO', 4: 'META_CONTEXT' };
const OPTION_ERRORS = ['', 'UNSUP', 'POLICY', 'INVALID', 'PLATFORM', 'TLS_REQD', 'UNKNOWN', 'SHUTDOWN', 'BLOCK_SIZE_REQD', 'TOO_BIG', 'EXT_HEADER_REQD'];
const ERRORS: Readonly<Record<number, string>> = { 0: 'success', 1: 'EPERM', 5: 'EIO', 12: 'ENOMEM', 22: 'EINVAL', 28: 'ENOSPC', 75: 'EOVERFLOW', 95: 'ENOTSUP', 108: 'ESHUTDOWN' };
const COMMANDS = ['READ', 'WRITE', 'DISC', 'FLUSH', 'TRIM', 'CACHE', 'WRITE_ZEROES', 'BLOCK_STATUS', 'RESIZE'];

export function replyName(type: number): string {
  const error = type >= 2 ** 31 ? OPTION_ERRORS.at(type - 2 ** 31) : undefined;
  return error === undefined ? `NBD_REP_${OPTION_REPLIES[type] ?? type}` : `NBD_REP_ERR_${error}`;
}

export function errorName(error: number): string {
  return ERRORS[error] ?? `error ${error}`;
}

export function commandName(command: number): string {
  return COMMANDS.at(command) ?? `command ${command}`;
}
