/** Slabs: taken for new data, given back, and taken from the cache when memory is full. */
import { Arena, type SlabOwner } from '../../src/base/arena.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import type { MicroSuite } from './suite.ts';

const CYCLES = 100;
const BLOCK_BYTES = 4 * KIB;

export function arenaSuite(): MicroSuite {
  const arena = new Arena({ arenaBytes: 160 * MIB, dirtyBytes: 96 * MIB });
  const full = new Arena({ arenaBytes: 160 * MIB, dirtyBytes: 96 * MIB });
  const owner: SlabOwner = { evict: () => undefined };
  while (full.stats().cleanSlabs < full.maxSlabs) full.takeClean(owner);
  const block = new Uint8Array(BLOCK_BYTES).fill(7);
  return {
    name: 'arena',
    tasks: [
      {
        name: 'take a slab and give it back',
        operations: CYCLES,
        bytes: 0,
        run: () => {
          for (let cycle = 0; cycle < CYCLES; cycle += 1) arena.free(arena.takeDirty(owner));
        },
      },
      {
        name: 'take a slab from the cache (40 clean ones)',
        operations: CYCLES,
        bytes: 0,
        run: () => {
          for (let cycle = 0; cycle < CYCLES; cycle += 1) full.takeClean(owner);
        },
      },
      {
        name: 'fill a slab with 4 KiB blocks',
        operations: arena.slabBytes / BLOCK_BYTES,
        bytes: arena.slabBytes,
        run: () => {
          const slab = arena.takeDirty(owner);
          for (let at = 0; at < arena.slabBytes; at += BLOCK_BYTES) slab.bytes.set(block, at);
          arena.free(slab);
        },
      },
    ],
  };
}
