/** Flags of the verbs about devices. */
import type { Options } from 'yargs';
import { VolumeError } from '../../base/errors.ts';
import { type NbdTarget, parseNbdUri } from '../../protocol/uri.ts';
import { UsageError } from '../context.ts';
import { once } from '../flags.ts';

function serverOf(value: string | readonly string[]): NbdTarget {
  const text = once('server')(value);
  try {
    const target = parseNbdUri(text);
    if (target.exportName === '') return target;
  } catch (error) {
    if (error instanceof VolumeError) throw new UsageError(`server: ${error.message}`, { flag: 'server' });
    throw error;
  }
  throw new UsageError(`server: "${text}" names an export; give the whole URI in place of the name instead`, { flag: 'server' });
}

export const SERVER_FLAG = { type: 'string', requiresArg: true, default: 'nbd://127.0.0.1:10809', coerce: serverOf, describe: 'where the server of a NAME listens: nbd://HOST:PORT or nbd+unix:///?socket=PATH' } as const satisfies Options;

/** For `coerce`: a whole number, given once. */
export function numberBetween(flag: string, least: number, most: number): (value: number | readonly number[]) => number {
  return (value) => {
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most) return value;
    throw new UsageError(`--${flag} takes one whole number from ${least} to ${most}`, { flag });
  };
}
