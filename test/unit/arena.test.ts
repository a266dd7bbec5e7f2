import { describe, expect, test } from 'vitest';
import { Arena, type Slab, type SlabOwner } from '../../src/base/arena.ts';
import { GIB, KIB } from '../../src/base/units.ts';

const SLAB = 16 * KIB;

class Owner implements SlabOwner {
  readonly evicted: number[] = [];

  evict(slab: Slab): void {
    this.evicted.push(slab.index);
  }
}

function arena(slabs: number, dirty: number): Arena {
  return new Arena({ arenaBytes: slabs * SLAB, dirtyBytes: dirty * SLAB, slabBytes: SLAB });
}

/** A clean slab of which everything is current. */
function full(memory: Arena, owner: Owner): Slab {
  const slab = memory.takeClean(owner);
  slab.slotCount = 4;
  slab.currentCount = 4;
  return slab;
}

test('an arena may be larger than 4 GiB: of its memory only what is touched is taken', () => {
  const memory = new Arena({ arenaBytes: 5 * GIB, dirtyBytes: GIB });
  const owner = new Owner();
  let last = memory.takeClean(owner);
  while (last.index < memory.maxSlabs - 1) last = memory.takeClean(owner);
  last.put(Uint8Array.of(1, 2, 3), 0);
  expect([last.index, ...last.bytes.subarray(0, 4)]).toEqual([1279, 1, 2, 3, 0]);
});

describe('the arena', () => {
  test('gives no more dirty slabs than allowed, and always has one for the cache', () => {
    const memory = arena(4, 4);
    const owner = new Owner();
    expect(memory.maxDirtySlabs).toBe(3);
    for (let i = 0; i < 3; i += 1) memory.takeDirty(owner);
    expect(memory.dirtyRoom(owner)).toBe(0);
    expect(() => memory.takeDirty(owner)).toThrow(/beyond the limit/);
    for (let i = 0; i < 5; i += 1) memory.takeClean(owner);
    expect(memory.stats()).toMatchObject({ slabs: 4, dirtySlabs: 3, cleanSlabs: 1, evictions: 4 });
  });

  test('takes back the clean slab that was used least recently, and tells its owner first', () => {
    const memory = arena(4, 3);
    const owner = new Owner();
    const slabs = [full(memory, owner), full(memory, owner), full(memory, owner), full(memory, owner)];
    memory.touch(slabs[0]);
    const next = memory.takeClean(owner);
    expect(owner.evicted).toEqual([slabs[1].index]);
    expect(next.index).toBe(slabs[1].index);
    expect([next.slotCount, next.liveCount]).toEqual([0, 0]);
  });

  test('takes back what is almost empty first, the emptiest before all, however recently it was used', () => {
    const memory = arena(4, 3);
    const owner = new Owner();
    const slabs = [full(memory, owner), full(memory, owner), full(memory, owner), full(memory, owner)];
    for (const slab of slabs) slab.slotCount = 16;
    for (const [slab, count] of [[slabs[0], 3], [slabs[1], 2], [slabs[2], 1], [slabs[3], 16]] as const) slab.currentCount = count;
    memory.touch(slabs[1]);
    memory.touch(slabs[2]);
    for (const index of [2, 1, 0, 3]) {
      const taken = memory.takeClean(owner);
      expect([taken.index, taken.currentCount]).toEqual([index, 0]);
      taken.slotCount = 16;
      taken.currentCount = 16;
      memory.touch(taken);
    }
  });

  test('names the sparsest clean slab of an owner when there is no other room, but none that is read', () => {
    const memory = arena(6, 3);
    const owner = new Owner();
    const other = new Owner();
    const slabs = [full(memory, owner), full(memory, other), full(memory, owner), full(memory, other), full(memory, other)];
    for (const [i, slab] of slabs.entries()) slab.currentCount = i + 1;
    expect(memory.sparsest(owner, 4)).toBeNull(); // one was never used
    memory.takeDirty(owner);
    expect(memory.sparsest(owner, 4)).toBe(slabs[0]);
    expect(memory.sparsest(owner, 0)).toBeNull();
    expect(memory.pin(slabs[0])).toBe(true);
    expect(memory.sparsest(owner, 4)).toBe(slabs[2]);
    expect(memory.sparsest(owner, 2)).toBeNull();
    memory.unpin(slabs[0]);
    memory.free(slabs[1]);
    expect(memory.sparsest(owner, 4)).toBeNull();
  });

  test('never takes back a dirty slab', () => {
    const memory = arena(3, 2);
    const owner = new Owner();
    const dirty = [memory.takeDirty(owner), memory.takeDirty(owner)];
    for (let i = 0; i < 10; i += 1) memory.takeClean(owner);
    expect(owner.evicted.every((index) => !dirty.some((slab) => slab.index === index))).toBe(true);
    memory.becomeClean(dirty[0]);
    expect(memory.dirtyRoom(owner)).toBe(1);
    expect(() => memory.becomeClean(dirty[0])).toThrow(/not dirty/);
  });

  test('keeps pinned slabs as they are, freed or not, and no more of them than the writers can spare', () => {
    const memory = arena(6, 3);
    const owner = new Owner();
    const [first, second, third] = [memory.takeClean(owner), memory.takeClean(owner), memory.takeClean(owner)];
    expect(memory.maxPinnedSlabs).toBe(2);
    expect([memory.pin(first), memory.pin(first), memory.pin(second), memory.pin(third)]).toEqual([true, true, true, false]);
    memory.free(first);
    for (let i = 0; i < 3; i += 1) expect([first, second]).not.toContain(memory.takeDirty(owner));
    for (let i = 0; i < 5; i += 1) expect([first, second]).not.toContain(memory.takeClean(owner));
    memory.unpin(first);
    expect(memory.stats().pinnedSlabs).toBe(2);
    memory.unpin(first);
    expect(memory.stats().pinnedSlabs).toBe(1);
    expect(memory.takeClean(owner)).toBe(first);
    memory.unpin(second);
    expect(() => memory.unpin(second)).toThrow(/unpinned twice/);
  });

  test('lends the dirty slabs of one owner to the others, and counts them again when they are taken back', () => {
    const memory = arena(6, 3);
    const [lender, other] = [new Owner(), new Owner()];
    for (let i = 0; i < 3; i += 1) memory.takeDirty(lender);
    expect([memory.dirtyRoom(lender), memory.dirtyRoom(other)]).toEqual([0, 0]);
    memory.lend(lender);
    memory.lend(lender);
    expect([memory.dirtyRoom(lender), memory.dirtyRoom(other)]).toEqual([0, 2]); // one slab is left for readers
    const slab = memory.takeDirty(other);
    memory.takeBack(lender);
    expect([memory.dirtyRoom(lender), memory.dirtyRoom(other)]).toEqual([0, 0]);
    for (const dirty of memory.slabs.filter(({ owner }) => owner === lender)) memory.becomeClean(dirty);
    memory.becomeClean(slab);
    expect([memory.dirtyRoom(lender), memory.dirtyRoom(other)]).toEqual([3, 3]);
  });

  test('says when there is room again, and who needs some', () => {
    const memory = arena(4, 2);
    const owner = new Owner();
    let rooms = 0;
    let pressure = 0;
    const stop = memory.onRoom(() => (rooms += 1));
    memory.onPressure(() => (pressure += 1));
    const slab = memory.takeDirty(owner);
    memory.requestRoom();
    memory.becomeClean(slab);
    memory.free(slab);
    expect([rooms, pressure]).toEqual([2, 1]);
    expect(() => memory.free(slab)).toThrow(/freed twice/);
    stop();
    memory.free(memory.takeDirty(owner));
    expect(rooms).toBe(2);
  });

  test('gives the memory of free slabs back once, and of no others', () => {
    const memory = arena(6, 3);
    const owner = new Owner();
    const [free, again, lent, dirty, clean] = [memory.takeDirty(owner), memory.takeDirty(owner), memory.takeClean(owner), memory.takeDirty(owner), memory.takeClean(owner)];
    const given: Buffer[] = [];
    const giveBack = (): boolean => memory.giveBackFree((bytes) => given.push(bytes));
    expect(giveBack()).toBe(false);
    expect(memory.pin(lent)).toBe(true);
    for (const slab of [free, again, lent]) memory.free(slab);
    expect([giveBack(), giveBack(), giveBack()]).toEqual([true, true, false]);
    expect(given).toEqual([free.bytes, again.bytes]);
    // What is taken again has memory again, and the last reader of a slab that is free makes it one to give back.
    expect(memory.takeDirty(owner)).toBe(again);
    memory.free(again);
    memory.unpin(lent);
    expect([giveBack(), giveBack(), giveBack()]).toEqual([true, true, false]);
    expect(given.slice(2)).toEqual([again.bytes, lent.bytes]);
    expect([dirty.state, clean.state]).toEqual(['dirty', 'clean']);
  });

  test('lies in one shared buffer, slab beside slab, none of them over another', () => {
    const memory = arena(4, 3);
    const owner = new Owner();
    const slabs = Array.from({ length: 4 }, () => memory.takeClean(owner));
    slabs.forEach((slab, index) => slab.put(new Uint8Array(SLAB).fill(index + 1), 0));
    slabs.forEach((slab, index) => expect(slab.bytes.every((byte) => byte === index + 1)).toBe(true));
    expect(new Set(slabs.map((slab) => slab.bytes.buffer)).size).toBe(1);
    expect(slabs[0].bytes.buffer).toBeInstanceOf(SharedArrayBuffer);
  });

  test('copies bytes of any alignment as they are', () => {
    const slab = arena(3, 2).takeClean(new Owner());
    const source = Uint8Array.from({ length: 300 }, (_, index) => index);
    for (let start = 0; start < 9; start += 1) {
      slab.put(source.subarray(start, start + 100), 50);
      expect([...slab.bytes.subarray(50, 150)]).toEqual([...source.subarray(start, start + 100)]);
    }
  });

  test('that is too small to work with is refused', () => {
    expect(() => arena(2, 2)).toThrow(/too small/);
  });
});
