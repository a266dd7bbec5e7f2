/**
 * The Memory of env.ts: madvise(2) and malloc_trim(3) by way of `koffi`, an optional package. Of the advices MADV_DONTNEED is the one that
 * frees pages of the arena at once (they are private and anonymous): MADV_FREE leaves them resident until the system is short, MADV_REMOVE is refused.
 */
import { assert } from '../base/assert.ts';
import type { Memory } from './env.ts';
import { bindNative, type Koffi, type NativeCall } from './node-koffi.ts';

/** Of Linux, the same on every machine that is taken here. */
const MADV_DONTNEED = 4;

interface Calls {
  readonly madvise: NativeCall;
  readonly pageBytes: number;
}

export class NodeMemory implements Memory {
  /** Null: not possible here. Undefined: nobody has asked yet. */
  #calls: Calls | null | undefined;
  #trim: NativeCall | null | undefined;

  giveBack(bytes: Uint8Array): void {
    if (this.#calls === undefined) this.#calls = bindIfPossible(callsOf);
    if (this.#calls === null) return;
    // The kernel takes the rest of the last page along, whoever has it.
    assert(bytes.length % this.#calls.pageBytes === 0, `${bytes.length} bytes to give back are no whole pages`);
    // Where the first one begins within a page it refuses; then that is how it is with all of the arena.
    if (this.#calls.madvise(bytes, bytes.length, MADV_DONTNEED) !== 0) this.#calls = null;
  }

  trim(): void {
    // Of glibc alone.
    if (this.#trim === undefined) this.#trim = bindIfPossible((koffi) => koffi.load(null).func('malloc_trim', 'int', ['size_t']));
    this.#trim?.(0);
  }
}

function callsOf(koffi: Koffi): Calls {
  const library = koffi.load(null);
  const pageBytes = library.func('getpagesize', 'int', [])();
  assert(typeof pageBytes === 'number' && pageBytes > 0, 'a page has a size');
  return { madvise: library.func('madvise', 'int', ['void *', 'size_t', 'int']), pageBytes };
}

/** Null where the package or a function is missing. */
function bindIfPossible<T>(bind: (koffi: Koffi) => T): T | null {
  try {
    return bindNative('giving memory back', bind);
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || error.code !== 'ENOSYS') throw error;
    return null;
  }
}
