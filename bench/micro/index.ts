/** Where a block is: the map of what is in memory, and the map of what is stored. */
import { BlockMap, LEAF_BLOCKS, LOOKUP } from '../../src/index/block-map.ts';
import { NO_LOCATION, ResidentMap } from '../../src/index/resident-map.ts';
import { GIB } from '../../src/base/units.ts';
import { scramble, type MicroSuite, type MicroTask } from './suite.ts';

const LOOKUPS = 10_000;
/** 16 GiB in blocks of 4 KiB. */
const VOLUME_BLOCKS = 4 * 1024 * 1024;
/** Blocks of 160 MiB of memory. */
const RESIDENT_BLOCKS = 40 * 1024;

export function indexSuite(): MicroSuite {
  return { name: 'index', tasks: [...residentTasks(), ...blockMapTasks()] };
}

function residentTasks(): MicroTask[] {
  const map = new ResidentMap(RESIDENT_BLOCKS);
  const present = [...scramble(RESIDENT_BLOCKS)].map((value) => value % VOLUME_BLOCKS);
  for (const [location, blockNumber] of present.entries()) map.set(blockNumber, location);
  const wanted = present.slice(0, LOOKUPS);
  return [
    {
      name: 'find a block in memory',
      operations: LOOKUPS,
      bytes: 0,
      run: () => {
        for (const blockNumber of wanted) if (map.get(blockNumber) === NO_LOCATION) throw new Error('a block is lost');
      },
    },
    {
      name: 'miss a block that is not in memory',
      operations: LOOKUPS,
      bytes: 0,
      run: () => {
        for (let missing = VOLUME_BLOCKS; missing < VOLUME_BLOCKS + LOOKUPS; missing += 1) if (map.get(missing) !== NO_LOCATION) throw new Error('a block is invented');
      },
    },
    {
      name: 'move a block to another place in memory',
      operations: LOOKUPS,
      bytes: 0,
      run: () => {
        for (const [location, blockNumber] of wanted.entries()) map.set(blockNumber, location);
      },
    },
  ];
}

function newBlockMap(): BlockMap {
  return new BlockMap({ limitBytes: GIB, readLeaf: () => Promise.reject(new Error('no leaf is stored')), displaced: () => undefined });
}

function blockMapTasks(): MicroTask[] {
  const uniform = newBlockMap();
  for (let block = 0; block < VOLUME_BLOCKS; block += LEAF_BLOCKS) uniform.place(block, LEAF_BLOCKS, 1 + block / LEAF_BLOCKS, 0);
  const dense = newBlockMap();
  for (let block = 0; block < VOLUME_BLOCKS; block += 2) dense.place(block, 1, 1 + (block % 1000), block % LEAF_BLOCKS);
  const scattered = [...scramble(LOOKUPS)].map((value) => (value % (VOLUME_BLOCKS / 2)) * 2);
  const sorted = scattered.toSorted((left, right) => left - right);
  const findAll = (map: BlockMap) => (): void => {
    for (const block of scattered) if (map.lookup(block) !== LOOKUP.STORED) throw new Error('a block is lost');
  };
  let chunk = 0;
  return [
    { name: 'find a stored block, uniform leaves (16 GiB)', operations: LOOKUPS, bytes: 0, run: findAll(uniform) },
    { name: 'find a stored block, dense leaves (16 GiB)', operations: LOOKUPS, bytes: 0, run: findAll(dense) },
    {
      name: 'commit a chunk of scattered blocks, a block',
      operations: LOOKUPS,
      bytes: 0,
      run: () => {
        chunk += 1;
        for (const [slot, block] of sorted.entries()) dense.place(block, 1, chunk, slot % 1024);
      },
    },
    {
      name: 'commit a chunk of one run of 4 MiB',
      operations: 1,
      bytes: 0,
      run: () => {
        chunk += 1;
        uniform.place((chunk * LEAF_BLOCKS) % VOLUME_BLOCKS, LEAF_BLOCKS, chunk, 0);
      },
    },
  ];
}
