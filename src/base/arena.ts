/**
 * Block memory: slabs of (normally) 4 MiB in one page-aligned SharedArrayBuffer, so that worker threads see them
 * without a copy. A slab is filled front to back; its slot table says which block each slot holds. A dirty slab's slots, and those of one
 * that is pinned, are never rewritten.
 *
 * Life of a slab: free -> dirty (a volume fills it, seals it, makes a chunk of it) -> clean (a cache of what is stored)
 * -> free. Clean slabs are taken back, least recently used first, whenever room is needed; dirty ones never are. Replies may be
 * sent right out of a slab: it is pinned meanwhile, and what it holds stays as it is even when it was freed.
 */
import { assert } from './assert.ts';

export const DEFAULT_SLAB_BYTES = 4 * 1024 * 1024;

/** Smallest unit that a slot holds; slot tables are made for it, larger blocks use a part of them. */
const SMALLEST_SLOT_BYTES = 4096;

export type SlabState = 'free' | 'dirty' | 'clean';

/** Who holds a slab; told when a clean one is taken back, and must then forget every slot of it. */
export interface SlabOwner {
  evict(slab: Slab): void;
}

/** `Buffer.fill` for any array of bytes: the one copy out of shared memory that goes at the speed of memory. */
const fillFrom: (this: Uint8Array, source: Uint8Array, start: number, end: number) => unknown = Reflect.get(Buffer.alloc(0), 'fill');

/** Copies `source`, which may be in shared memory, to `at` in `target`; see `Slab.get`. */
export function copyShared(source: Uint8Array, target: Uint8Array, at: number): void {
  fillFrom.call(target, source, at, at + source.length);
}

export class Slab {
  /** Place in the arena; part of a block's location. */
  readonly index: number;
  /** The slab's memory. Slot `n` is at `n * blockSizeBytes`. */
  readonly bytes: Buffer;
  /** Block number of each used slot. */
  readonly blockNumbers: Float64Array;
  /** LSN of the record that brought each used slot; kept while the slab is dirty. */
  readonly lsns: Float64Array;
  /** CRC-32 of each used slot. */
  readonly checksums: Uint32Array;
  /** 1 while no later slot or zero range of this slab covers the slot's block. */
  readonly live: Uint8Array;
  /** Slots in use, front to back. */
  slotCount = 0;
  liveCount = 0;
  /** Slots that are the newest version of their block in memory. */
  currentCount = 0;
  /** While dirty: LSN of the record that last took such a slot's place. */
  coverLsn = 0;
  state: SlabState = 'free';
  /** While dirty: its volume failed, so it stays as it is until that is closed, or it is lent (`Arena.lend`). */
  isStuck = false;
  owner: SlabOwner | null = null;
  /** Arena tick of the last hit, for the choice of what to take back. */
  lastUse = 0;
  /** Readers that still need its bytes (`Arena.pin`). */
  pins = 0;
  /** While free: its memory is with the system until it is taken. */
  isGivenBack = false;
  readonly #views: Uint8Array[] = [];
  #viewBytes = 0;

  constructor(index: number, bytes: Buffer) {
    const slots = Math.max(1, Math.floor(bytes.length / SMALLEST_SLOT_BYTES));
    this.index = index;
    this.bytes = bytes;
    this.blockNumbers = new Float64Array(new SharedArrayBuffer(slots * 8));
    this.lsns = new Float64Array(slots);
    this.checksums = new Uint32Array(new SharedArrayBuffer(slots * 4));
    this.live = new Uint8Array(new SharedArrayBuffer(slots));
  }

  /** The bytes of a slot. Views are kept: making one costs as much as the checksum of a block. */
  block(slot: number, blockSizeBytes: number): Uint8Array {
    if (this.#viewBytes !== blockSizeBytes) {
      this.#views.length = 0;
      this.#viewBytes = blockSizeBytes;
    }
    return (this.#views[slot] ??= this.bytes.subarray(slot * blockSizeBytes, (slot + 1) * blockSizeBytes));
  }

  /**
   * Copies `source` to `offset`. Not with `set`: into shared memory that copies byte by byte unless source and target
   * are equal mod 8, which a payload behind a 28-byte header never is (128 KiB: 55 us; `fill` with just the value 3.4 us).
   */
  put(source: Uint8Array, offset: number): void {
    this.bytes.fill(source, offset, offset + source.length);
  }

  /** Copies `lengthBytes` from `offset` to `target` at `at`: for the same reason not with `set` (4 KiB: 0.83 us against 1.1, or 2.7 where unequal mod 8). */
  get(offset: number, lengthBytes: number, target: Uint8Array, at: number): void {
    copyShared(this.bytes.subarray(offset, offset + lengthBytes), target, at);
  }
}

export interface ArenaOptions {
  /** All block memory. */
  readonly arenaBytes: number;
  /** The part of it that may be dirty. */
  readonly dirtyBytes: number;
  readonly slabBytes?: number;
}

/** A cached slab of which only this part is current goes first, however often that little is used: what it takes up is worth more. */
const EMPTY_PART = 8;

const WASM_PAGE_BYTES = 65536;
/** WebAssembly ends at 4 GiB; and each memory of it reserves gigabytes of addresses: not for a small one. */
const WASM_BYTES_MAX = 65536 * WASM_PAGE_BYTES;
const WASM_BYTES_MIN = 16 * 1024 * 1024;

/** What Node has and its types leave out. */
declare const WebAssembly: {
  readonly Memory: new (descriptor: { readonly initial: number; readonly maximum: number; readonly shared: boolean }) => { readonly buffer: ArrayBufferLike };
};

/**
 * Memory that is committed when it is first touched, page-aligned up to 4 GiB. A plain SharedArrayBuffer is not aligned (so that writes past
 * the page cache are refused, and go through it); of a growable one each view costs 50 ns more than of WebAssembly's.
 */
function blockMemory(bytes: number): SharedArrayBuffer {
  const pages = Math.ceil(bytes / WASM_PAGE_BYTES);
  if (bytes >= WASM_BYTES_MIN && bytes <= WASM_BYTES_MAX) {
    try {
      const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
      if (buffer instanceof SharedArrayBuffer) return buffer;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error; // the process may not reserve that much: the other way needs less
    }
  }
  // One that can grow ends at 4 GiB, too.
  return bytes <= WASM_BYTES_MAX ? new SharedArrayBuffer(bytes, { maxByteLength: bytes }) : new SharedArrayBuffer(bytes);
}

export interface ArenaStats {
  readonly slabBytes: number;
  readonly slabs: number;
  readonly dirtySlabs: number;
  readonly cleanSlabs: number;
  readonly pinnedSlabs: number;
  readonly evictions: number;
}

/** What an arena is used for now, in bytes. */
export interface ArenaUse {
  readonly arenaBytes: number;
  readonly dirtyBytes: number;
  readonly cachedBytes: number;
  readonly lentBytes: number;
}

export class Arena {
  readonly slabBytes: number;
  readonly maxSlabs: number;
  readonly maxDirtySlabs: number;
  /** Slabs pinned at a time: a client that does not take its replies must not hold the others' memory. */
  readonly maxPinnedSlabs: number;
  readonly slabs: Slab[] = [];
  readonly #buffer: SharedArrayBuffer;
  readonly #free: Slab[] = [];
  readonly #roomListeners = new Set<() => void>();
  readonly #pressureListeners = new Set<() => void>();
  readonly #lenders = new Set<SlabOwner>();
  #dirty = 0;
  #stuck = 0;
  #pinned = 0;
  #clean = 0;
  #evictions = 0;
  #tick = 0;

  constructor(options: ArenaOptions) {
    this.slabBytes = options.slabBytes ?? DEFAULT_SLAB_BYTES;
    this.maxSlabs = Math.floor(options.arenaBytes / this.slabBytes);
    this.maxDirtySlabs = Math.min(Math.floor(options.dirtyBytes / this.slabBytes), this.maxSlabs - 1);
    assert(this.maxDirtySlabs >= 2, `an arena of ${options.arenaBytes} bytes is too small for slabs of ${this.slabBytes}`);
    this.maxPinnedSlabs = this.maxSlabs - 1 - this.maxDirtySlabs;
    this.#buffer = blockMemory(this.maxSlabs * this.slabBytes);
  }

  /** A slab for new data; there must be room (`dirtyRoom`). */
  takeDirty(owner: SlabOwner): Slab {
    assert(this.#dirty < this.#unpinnedDirtyLimit, 'a dirty slab is taken beyond the limit');
    const slab = this.#takeAny();
    slab.state = 'dirty';
    slab.owner = owner;
    slab.currentCount = 0;
    slab.coverLsn = 0;
    this.#dirty += 1;
    this.#tick += 1;
    return slab;
  }

  /** Slabs that may be dirty, without those of failed and lending volumes: these are lost to the cache first, and to writers only then. */
  get dirtyLimit(): number {
    return Math.min(this.maxDirtySlabs, this.maxSlabs - 1 - this.#stuck);
  }

  /** The same for this moment: pinned slabs cannot be taken back. */
  get #unpinnedDirtyLimit(): number {
    return Math.min(this.dirtyLimit, this.maxSlabs - 1 - this.#stuck - this.#pinned);
  }

  /** How many dirty slabs `owner` can take now. */
  dirtyRoom(owner: SlabOwner): number {
    return this.#lenders.has(owner) ? 0 : Math.max(0, this.#unpinnedDirtyLimit - this.#dirty);
  }

  /** Keeps the bytes of a slab as they are until `unpin`, whatever becomes of it. False if too many are kept already. */
  pin(slab: Slab): boolean {
    if (slab.pins === 0) {
      // One slab must be left for `takeClean`; and what failed volumes hold is enough of a burden on the writers.
      if (this.#pinned >= this.maxPinnedSlabs - this.#stuck || this.#dirty + this.#stuck + this.#pinned + 1 >= this.maxSlabs) return false;
      this.#pinned += 1;
    }
    slab.pins += 1;
    return true;
  }

  unpin(slab: Slab): void {
    assert(slab.pins > 0, `slab ${slab.index} is unpinned twice`);
    slab.pins -= 1;
    if (slab.pins > 0) return;
    this.#pinned -= 1;
    if (slab.state === 'free') this.#free.push(slab);
    this.#announceRoom();
  }

  /** The dirty slabs of `owner` will not become clean any more: other owners need not wait for that. Readers still use them. */
  giveUp(owner: SlabOwner): void {
    for (const slab of this.slabs) {
      if (slab.owner !== owner || slab.state !== 'dirty' || slab.isStuck) continue;
      slab.isStuck = true;
      this.#dirty -= 1;
      this.#stuck += 1;
    }
    this.#announceRoom();
  }

  /**
   * As `giveUp`, until `takeBack`: the disk of `owner` is full, and others need room. It takes no more slabs meanwhile, or it
   * would have all of them in the end. Where nothing would be left for the others they wait with it.
   */
  lend(owner: SlabOwner): void {
    // Once only: two others that wait would wake each other for ever.
    if (this.#lenders.has(owner) || this.maxSlabs - 1 - this.#stuck - this.#dirty < 1) return;
    this.#lenders.add(owner);
    this.giveUp(owner);
  }

  /** The disk of `owner` has space again, or `owner` goes. There may be more dirty slabs than the limit for a while. */
  takeBack(owner: SlabOwner): void {
    if (!this.#lenders.delete(owner)) return;
    for (const slab of this.slabs) {
      if (slab.owner !== owner || !slab.isStuck) continue;
      slab.isStuck = false;
      this.#stuck -= 1;
      this.#dirty += 1;
    }
    this.#announceRoom();
  }

  /** Lets all who wait for room ask again: somebody may lend theirs now. */
  askAgain(): void {
    this.#announceRoom();
  }

  #leaveDirty(slab: Slab): void {
    if (slab.isStuck) this.#stuck -= 1;
    else this.#dirty -= 1;
    slab.isStuck = false;
  }

  /** A slab for copies of stored blocks. There always is one: the limit of dirty slabs is below the number of slabs. */
  takeClean(owner: SlabOwner): Slab {
    const slab = this.#takeAny();
    slab.state = 'clean';
    slab.owner = owner;
    slab.currentCount = 0;
    slab.lastUse = ++this.#tick;
    this.#clean += 1;
    return slab;
  }

  /** What a dirty slab holds is stored now: it becomes a cache. */
  becomeClean(slab: Slab): void {
    assert(slab.state === 'dirty', `slab ${slab.index} is ${slab.state}, not dirty`);
    slab.state = 'clean';
    slab.lastUse = ++this.#tick;
    this.#leaveDirty(slab);
    this.#clean += 1;
    this.#announceRoom();
  }

  /** Gives a slab back; nobody may refer to its slots any more. */
  free(slab: Slab): void {
    assert(slab.state !== 'free', `slab ${slab.index} is freed twice`);
    if (slab.state === 'dirty') this.#leaveDirty(slab);
    else this.#clean -= 1;
    slab.state = 'free';
    slab.owner = null;
    slab.slotCount = 0;
    slab.liveCount = 0;
    if (slab.pins > 0) return; // its last reader gives it back
    this.#free.push(slab);
    this.#announceRoom();
  }

  /** Changes whenever a slab is taken, becomes clean or is read from. */
  get uses(): number {
    return this.#tick;
  }

  /** Hands the memory of one free slab that still has some to `giveBack`, which may change it; false if there is none. Those that readers need are not free yet. */
  giveBackFree(giveBack: (bytes: Buffer) => void): boolean {
    const slab = this.#free.find(({ isGivenBack }) => !isGivenBack);
    if (slab === undefined) return false;
    assert(slab.state === 'free' && slab.pins === 0, `slab ${slab.index} is given back while somebody uses it`);
    slab.isGivenBack = true;
    giveBack(slab.bytes);
    return true;
  }

  /**
   * Of the clean slabs of `owner` that nobody reads the one with the fewest current slots, if these are no more than `most`: its owner may
   * move them together and fill up the rest. Null also while there are slabs that nobody has to give up.
   */
  sparsest(owner: SlabOwner, most: number): Slab | null {
    if (this.#free.length > 0 || this.slabs.length < this.maxSlabs) return null;
    let found: Slab | null = null;
    for (const slab of this.slabs) {
      if (slab.state !== 'clean' || slab.owner !== owner || slab.pins > 0 || slab.currentCount > most) continue;
      if (found === null || slab.currentCount < found.currentCount) found = slab;
    }
    return found;
  }

  /** Marks a clean slab as used just now. */
  touch(slab: Slab): void {
    slab.lastUse = ++this.#tick;
  }

  /** Calls `listener` when a slab may have become available. Returns what ends it. */
  onRoom(listener: () => void): () => void {
    this.#roomListeners.add(listener);
    return () => this.#roomListeners.delete(listener);
  }

  /** Asks all owners of dirty slabs to make them clean soon: somebody needs room. */
  requestRoom(): void {
    for (const listener of this.#pressureListeners) listener();
  }

  /** Calls `listener` at each `requestRoom`. Returns what ends it. */
  onPressure(listener: () => void): () => void {
    this.#pressureListeners.add(listener);
    return () => this.#pressureListeners.delete(listener);
  }

  stats(): ArenaStats {
    return { slabBytes: this.slabBytes, slabs: this.slabs.length, dirtySlabs: this.#dirty + this.#stuck, cleanSlabs: this.#clean, pinnedSlabs: this.#pinned, evictions: this.#evictions };
  }

  use(): ArenaUse {
    const { slabBytes, maxSlabs } = this;
    return { arenaBytes: maxSlabs * slabBytes, dirtyBytes: (this.#dirty + this.#stuck) * slabBytes, cachedBytes: this.#clean * slabBytes, lentBytes: this.#pinned * slabBytes };
  }

  #announceRoom(): void {
    for (const listener of this.#roomListeners) listener();
  }

  #takeAny(): Slab {
    const free = this.#free.pop();
    if (free !== undefined) {
      free.isGivenBack = false;
      return free;
    }
    if (this.slabs.length < this.maxSlabs) return this.#addSlab();
    const victim = this.#victim();
    assert(victim !== null && victim.owner !== null, 'no slab is free and none is clean');
    victim.owner.evict(victim);
    this.#evictions += 1;
    this.#clean -= 1;
    victim.owner = null;
    victim.slotCount = 0;
    victim.liveCount = 0;
    return victim;
  }

  #addSlab(): Slab {
    const index = this.slabs.length;
    const slab = new Slab(index, Buffer.from(this.#buffer, index * this.slabBytes, this.slabBytes));
    this.slabs.push(slab);
    return slab;
  }

  /** The clean slab that is taken back: one that is almost empty, else the least recently used. */
  #victim(): Slab | null {
    let oldest: Slab | null = null;
    let emptiest: Slab | null = null;
    for (const slab of this.slabs) {
      if (slab.state !== 'clean' || slab.pins > 0) continue;
      if (oldest === null || slab.lastUse < oldest.lastUse) oldest = slab;
      if (slab.currentCount * EMPTY_PART <= slab.slotCount && (emptiest === null || slab.currentCount < emptiest.currentCount)) emptiest = slab;
    }
    return emptiest ?? oldest;
  }
}
