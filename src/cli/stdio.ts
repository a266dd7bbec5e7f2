/** Standard input as the connection of one client, the way inetd, systemd (Accept=yes) and libnbd's connect_command give it. */
import { fstatSync } from 'node:fs';
import { VolumeError } from '../base/errors.ts';

const STDIN = 0;
const STDERR = 2;

/** Throws `invalid-argument` if standard input is no socket: a pipe has one direction. */
export function checkStdio(): void {
  if (!fstatSync(STDIN).isSocket()) throw new VolumeError('invalid-argument', 'serve --stdio needs a socket as standard input; a terminal, a pipe or a file is none');
}

/** Whether standard error is the client's socket as well, as inetd has it: then not a word may be written there. */
export function isClientOnStderr(): boolean {
  const [client, errors] = [fstatSync(STDIN), fstatSync(STDERR)];
  return client.dev === errors.dev && client.ino === errors.ino;
}
