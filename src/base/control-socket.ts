/** Names of the control socket's files in a directory of volumes. No volume may have one of them. */
export const CONTROL_SOCKET_NAME = 'control.sock';
/** Whoever serves the directory holds flock(2) on it; holds the number of that process. */
export const CONTROL_LOCK_NAME = '.control.lock';
/** Directories in which a socket is made ready begin with this. */
export const CONTROL_STAGE_PREFIX = '.control-';
