/** Sockets that systemd (or whoever speaks its protocol) has opened for this process: sd_listen_fds(3). */
import { VolumeError } from '../base/errors.ts';

/** The first descriptor that may be one. */
const FIRST_FD = 3;
const FDS_MAX = 1024;

const VARIABLES = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES'];

/**
 * Descriptors of the sockets that are for process `pid`; none if the variables are not there or mean another process. The variables are
 * taken out of `environment`, so that no child believes that they are meant for it. Throws `invalid-argument`.
 */
export function takeActivation(environment: Record<string, string | undefined>, pid: number): readonly number[] {
  const { LISTEN_PID: forPid, LISTEN_FDS: count } = environment;
  for (const name of VARIABLES) delete environment[name];
  if (forPid !== String(pid) || count === undefined) return [];
  if (!/^\d{1,4}$/.test(count) || Number(count) > FDS_MAX) throw new VolumeError('invalid-argument', `LISTEN_FDS=${count} is no number of sockets`);
  return Array.from({ length: Number(count) }, (_, index) => FIRST_FD + index);
}
