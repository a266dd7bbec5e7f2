/**
 * The Mapping of env.ts: mmap(2) by way of `koffi`, an optional package. Memory is touched by memcpy(3) alone: no ArrayBuffer ever lies
 * over it that somebody could use after it is unmapped, which would be a crash; and a call takes 0.2 us.
 *
 * There is no msync(2) here. On Linux that is an fdatasync of the mapping's file, which covers what was written through mappings (the kernel
 * marks a page dirty at the first touch, and protects it again when it is written back), costs the same (4 KiB: 235 to 240 us both)
 * and tells of a failed write-back where that of plain writes is told of: at the descriptor that has them.
 *
 * A touch that the kernel cannot answer (no such page in the file, no space for a hole, a read that fails) is a SIGBUS, which ends the
 * process. So the pages are asked for first, by madvise(2), which answers EFAULT instead, and costs nothing: the copy would
 * fault them in one by one (4 KiB: 5.5 us with it, 5.1 without). Kernels before 5.14 cannot do that, and get no mapping.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { assert } from '../base/assert.ts';
import type { Mapping } from './env.ts';
import { bindNative, type Koffi, type NativeCall, systemError, systemErrorOf } from './node-koffi.ts';

/** Of Linux, the same on every machine that is taken here. */
const PROT_READ_AND_WRITE = 3;
const MAP_SHARED = 1;
const MADV_POPULATE_WRITE = 23;
const FAILED = -1;

interface Calls {
  readonly mmap: NativeCall;
  readonly munmap: NativeCall;
  readonly madvise: NativeCall;
  readonly memcpy: NativeCall;
  readonly pageBytes: number;
  readonly errno: () => number;
}

let loaded: Calls | null = null;

/** Loads the package when it is first needed: 6 ms. */
function calls(): Calls {
  loaded ??= bindNative('mappings', callsOf);
  return loaded;
}

function callsOf(koffi: Koffi): Calls {
  const library = koffi.load(null); // what this process has loaded: the C library, whatever its name is
  const pageBytes = library.func('getpagesize', 'int', [])();
  assert(typeof pageBytes === 'number' && pageBytes > 0, 'a page has a size');
  return {
    mmap: library.func('mmap', 'intptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'long']),
    munmap: library.func('munmap', 'int', ['uintptr_t', 'size_t']),
    madvise: library.func('madvise', 'int', ['uintptr_t', 'size_t', 'int']),
    memcpy: library.func('memcpy', 'uintptr_t', ['uintptr_t', 'const void *', 'size_t']),
    pageBytes,
    errno: () => koffi.errno(),
  };
}

/** The error of the call that failed just now. */
function lastError({ errno }: Calls, what: string): Error {
  return systemErrorOf(errno(), what);
}

/** Maps the first `lengthBytes` of a file. */
export function mapFile(path: string, lengthBytes: number): Mapping {
  const native = calls();
  const descriptor = openSync(path, constants.O_RDWR);
  try {
    const address = native.mmap(0, lengthBytes, PROT_READ_AND_WRITE, MAP_SHARED, descriptor, 0);
    if (typeof address !== 'number' || address === FAILED) throw lastError(native, `mmap ${path}`);
    const mapping = new NodeMapping({ native, path, address, lengthBytes });
    mapping.probe();
    return mapping;
  } finally {
    closeSync(descriptor); // a mapping holds its file itself
  }
}

interface NodeMappingOptions {
  readonly native: Calls;
  readonly path: string;
  readonly address: number;
  readonly lengthBytes: number;
}

class NodeMapping implements Mapping {
  readonly #options: NodeMappingOptions;
  #isOpen = true;

  constructor(options: NodeMappingOptions) {
    this.#options = options;
  }

  /** Unmaps it, and throws, where the kernel does not know how to be asked for pages: no page at all is asked for. */
  probe(): void {
    const { native, address, path } = this.#options;
    if (native.madvise(address, 0, MADV_POPULATE_WRITE) === 0) return;
    this.#unmap();
    throw systemError('ENOSYS', `mapping ${path} takes Linux 5.14 or later`);
  }

  copyNow(parts: readonly Uint8Array[], offsetBytes: number): void {
    const { native, address, lengthBytes } = this.#options;
    let total = 0;
    for (const part of parts) total += part.length;
    assert(this.#isOpen, 'a copy into a mapping that is gone');
    assert(Number.isSafeInteger(offsetBytes) && offsetBytes >= 0 && offsetBytes + total <= lengthBytes, 'a copy reaches beyond its mapping');
    if (total === 0) return;
    this.#populate(offsetBytes, total);
    let at = address + offsetBytes;
    for (const part of parts) {
      native.memcpy(at, part, part.length);
      at += part.length;
    }
  }

  /** The turn ends no copy but its own, so nobody copies now. */
  close(): Promise<void> {
    if (this.#isOpen) this.#unmap();
    return Promise.resolve();
  }

  /** Makes the pages present and writable. They are dirty then, as they are about to be. */
  #populate(offsetBytes: number, lengthBytes: number): void {
    const { native, address, path } = this.#options;
    const start = offsetBytes - (offsetBytes % native.pageBytes);
    const end = Math.ceil((offsetBytes + lengthBytes) / native.pageBytes) * native.pageBytes;
    if (native.madvise(address + start, end - start, MADV_POPULATE_WRITE) !== 0) throw lastError(native, `${path} has no pages for bytes ${start} to ${end}`);
  }

  #unmap(): void {
    const { native, address, lengthBytes, path } = this.#options;
    this.#isOpen = false;
    if (native.munmap(address, lengthBytes) !== 0) throw lastError(native, `munmap ${path}`);
  }
}

/** Why nothing can be mapped here (no koffi, another system); null if it can. A file system or an old kernel may refuse it all the same. */
export function mappingObstacle(): string | null {
  try {
    calls();
    return null;
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error)) throw error; // a broken assertion
    return error.message;
  }
}
