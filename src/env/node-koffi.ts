/** The one door of `koffi`, an optional package: calls into the C library that this process has loaded. */
import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';

/** Machines whose addresses are exact as numbers, whose off_t is a long, and whose bytes are little-endian. */
const MACHINES: ReadonlySet<string> = new Set(['x64', 'arm64']);

export type NativeCall = (...values: readonly (number | Uint8Array)[]) => unknown;

/** The part of koffi that is used; that it does what it says here is tested. */
export interface Koffi {
  load(path: null): { func(name: string, result: string, parameters: readonly string[]): NativeCall };
  errno(): number;
}

function isKoffi(value: unknown): value is Koffi {
  return typeof value === 'object' && value !== null && 'load' in value && typeof value.load === 'function' && 'errno' in value && typeof value.errno === 'function';
}

export function systemError(code: string, what: string, cause?: unknown): Error {
  return Object.assign(new Error(`${code}: ${what}`, { cause }), { code });
}

/** The error for a number of errno(3). */
export function systemErrorOf(errno: number, what: string): Error {
  return systemError(getSystemErrorName(-errno), what);
}

/**
 * What `bind` makes of the C library. Throws `ENOSYS`, with `what` as the things that need the package, where it is missing, this is no
 * machine for it, or the library has no such function.
 */
export function bindNative<T>(what: string, bind: (koffi: Koffi) => T): T {
  if (process.platform !== 'linux' || !MACHINES.has(process.arch)) throw systemError('ENOSYS', `no ${what} on ${process.platform} ${process.arch}`);
  try {
    const koffi: unknown = createRequire(import.meta.url)('koffi');
    if (!isKoffi(koffi)) throw new Error('it is not the koffi that is known');
    return bind(koffi);
  } catch (cause) {
    // Whatever goes wrong with it, the package is optional.
    throw systemError('ENOSYS', `${what} need the package koffi, which is not installed, or does not load here`, cause);
  }
}
