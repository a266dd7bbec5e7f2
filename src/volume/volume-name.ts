/** What a volume may be called: its directory and its export have the name. */
import { CONTROL_SOCKET_NAME } from '../base/control-socket.ts';
import { VolumeError } from '../base/errors.ts';

/** File names end here on Linux. */
const MAX_NAME_BYTES = 255;

/** Throws `invalid-argument` unless a volume can have this name. */
export function checkVolumeName(name: string): void {
  const problem = nameProblem(name);
  if (problem !== null) throw new VolumeError('invalid-argument', `volume name ${JSON.stringify(name)} ${problem}`);
}

/** Why no volume has this name; null if one may. */
export function nameProblem(name: string): string | null {
  if (name === '') return 'is empty';
  if (name.includes('/')) return 'has a "/" in it; volumes are not nested';
  if (name.includes('\0')) return 'has a NUL in it';
  if (name === CONTROL_SOCKET_NAME) return 'is that of the control socket';
  if (name.startsWith('.')) return 'begins with a dot; those names are basalt\'s own';
  const bytes = Buffer.byteLength(name);
  return bytes > MAX_NAME_BYTES ? `is ${bytes} bytes long; at most ${MAX_NAME_BYTES} are possible` : null;
}
