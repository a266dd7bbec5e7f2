/** What stands where in a range of a volume: neighbouring extents, each with its kind. Filled by a device, read by whoever asked it. */
import { assert } from './assert.ts';

/**
 * Kinds of an extent. EMPTY was never written or was trimmed; PROVISIONED was made zero and keeps its space; both read as zeroes. The others
 * are data: DATA where it was not asked which, else the state of its blocks (DESIGN 2).
 */
export const EXTENT = { EMPTY: 0, PROVISIONED: 1, DATA: 2, HOT: 3, PENDING: 4, PERSISTED: 5, CACHED: 6 } as const;
export type Extent = (typeof EXTENT)[keyof typeof EXTENT];

/** How far kinds are told apart: data and zeroes; what takes space and what does not; both of these; the states of data as well. */
export type ExtentDetail = 'content' | 'space' | 'allocation' | 'state';

const FIRST_CAPACITY = 64;

/** Folds a kind to what `detail` tells apart. */
function fold(extent: Extent, detail: ExtentDetail): Extent {
  if (detail === 'state') return extent;
  if (extent >= EXTENT.DATA) return EXTENT.DATA;
  if (detail === 'space' && extent === EXTENT.PROVISIONED) return EXTENT.DATA;
  return detail === 'content' ? EXTENT.EMPTY : extent;
}

/** Extents in order, equal neighbours merged, of which there are no more than `limit`. */
export class ExtentList {
  #detail: ExtentDetail = 'content';
  #limit = 1;
  #count = 0;
  #totalBytes = 0;
  #lengths = new Float64Array(FIRST_CAPACITY);
  #kinds: Extent[] = [];

  constructor(detail: ExtentDetail, limit: number) {
    this.begin(detail, limit);
  }

  /** Empties the list for another use. */
  begin(detail: ExtentDetail, limit: number): void {
    assert(limit > 0, 'a list of extents has room for one');
    this.#detail = detail;
    this.#limit = limit;
    this.clear();
  }

  clear(): void {
    this.#count = 0;
    this.#totalBytes = 0;
  }

  /** Whether the states of data are told apart: finding them out takes time. */
  get wantsStates(): boolean {
    return this.#detail === 'state';
  }

  get count(): number {
    return this.#count;
  }

  /** Bytes of all extents together. */
  get totalBytes(): number {
    return this.#totalBytes;
  }

  /** Appends to the range; false if the list is full, and this is not in it. */
  add(lengthBytes: number, extent: Extent): boolean {
    const kind = fold(extent, this.#detail);
    const last = this.#count - 1;
    if (last >= 0 && this.#kinds[last] === kind) {
      this.#lengths[last] += lengthBytes;
    } else {
      if (this.#count === this.#limit) return false;
      if (this.#count === this.#lengths.length) this.#grow();
      this.#lengths[this.#count] = lengthBytes;
      this.#kinds[this.#count] = kind;
      this.#count += 1;
    }
    this.#totalBytes += lengthBytes;
    return true;
  }

  lengthAt(index: number): number {
    return this.#lengths[index];
  }

  kindAt(index: number): Extent {
    return this.#kinds[index];
  }

  isZeroAt(index: number): boolean {
    return this.#kinds[index] < EXTENT.DATA;
  }

  #grow(): void {
    const lengths = new Float64Array(this.#lengths.length * 2);
    lengths.set(this.#lengths);
    this.#lengths = lengths;
  }
}
