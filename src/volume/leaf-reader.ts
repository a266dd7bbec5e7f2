/**
 * Leaves of the block map, read from checkpoints when they are needed. While some are being read they share what is open, and those that stand
 * side by side, as neighbours do that were written together, are read at once: a walk over the map reads it in pieces, not leaf by leaf.
 * When nobody reads nothing is open.
 */
import { toVolumeError } from '../base/errors.ts';
import { CHECKPOINT_FOOTER_BYTES, type PageReference, type Run, decodeLeaf } from '../format/checkpoint-layout.ts';
import { type ObjectStore, type StoredObject, readAgainInDoubt } from '../store/object-store.ts';
import { checkPage } from './load-checkpoint.ts';
import { checkpointKey } from './volume-files.ts';

/** Read at once. */
const SPAN_BYTES = 64 * 1024;
/** A page that begins so shortly behind the one before is read with what follows it. */
const GAP_BYTES = 4096;

interface Span {
  readonly start: number;
  readonly end: number;
  readonly bytes: Promise<Uint8Array>;
}

class OpenPages {
  readonly object: Promise<StoredObject>;
  users = 0;
  #span: Span | null = null;
  #lastEnd = -1;

  constructor(object: Promise<StoredObject>) {
    this.object = object;
  }

  /** `isAgain`: what was read of it before is not to be used. */
  async read(reference: PageReference, name: string, isAgain: boolean): Promise<Uint8Array> {
    const object = await this.object;
    if (isAgain) this.#span = null;
    checkPage(object, reference, name);
    const { offset, length } = reference;
    const end = offset + length;
    const isNext = this.#lastEnd >= 0 && offset >= this.#lastEnd && offset - this.#lastEnd <= GAP_BYTES;
    this.#lastEnd = end;
    if (isNext && !this.#hasSpan(offset, end)) this.#span = readSpan(object, offset, Math.max(end, Math.min(offset + SPAN_BYTES, object.sizeBytes - CHECKPOINT_FOOTER_BYTES)));
    const span = this.#hasSpan(offset, end) ? this.#span : null;
    if (span !== null) {
      // A place that the disk cannot read fails its own page only.
      const bytes = await span.bytes.catch(() => null);
      if (bytes !== null) return bytes.subarray(offset - span.start, end - span.start);
      if (this.#span === span) this.#span = null;
    }
    const bytes = new Uint8Array(length);
    await object.read(bytes, offset);
    return bytes;
  }

  #hasSpan(offset: number, end: number): boolean {
    return this.#span !== null && this.#span.start <= offset && this.#span.end >= end;
  }
}

function readSpan(object: StoredObject, start: number, end: number): Span {
  const read = async (): Promise<Uint8Array> => {
    const bytes = new Uint8Array(end - start);
    await object.read(bytes, start);
    return bytes;
  };
  return { start, end, bytes: read() };
}

export class LeafReader {
  readonly #store: Pick<ObjectStore, 'open'>;
  readonly #open = new Map<number, OpenPages>();

  constructor(store: Pick<ObjectStore, 'open'>) {
    this.#store = store;
  }

  /** Reads one leaf. Errors: `not-found`, `corrupt`, `io-error`. */
  async read(index: number, reference: PageReference): Promise<Run[]> {
    const name = checkpointKey(reference.epoch, reference.number);
    const pages = this.#open.get(reference.number) ?? this.#openPages(reference.number, name);
    pages.users += 1;
    try {
      return await readAgainInDoubt(await pages.object, async (isAgain) => decodeLeaf(await pages.read(reference, name, isAgain), index, reference, name));
    } catch (error) {
      throw toVolumeError(error, `reading leaf ${index} of the block map`);
    } finally {
      pages.users -= 1;
      if (pages.users === 0) await this.#close(reference.number, pages);
    }
  }

  #openPages(number: number, name: string): OpenPages {
    const pages = new OpenPages(this.#store.open(name));
    this.#open.set(number, pages);
    return pages;
  }

  /** A descriptor that was only read from has nothing to lose when its close fails; one that was not opened has told its readers. */
  async #close(number: number, pages: OpenPages): Promise<void> {
    this.#open.delete(number);
    await pages.object.then((object) => object.close()).catch(() => undefined);
  }
}
