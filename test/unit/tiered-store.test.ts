/** What is here of the bucket's objects, while they are fetched ahead, fetched behind the readers, and evicted. */
import { expect, test } from 'vitest';
import { KIB, MIB } from '../../src/base/units.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { TieredStore } from '../../src/store/tiered-store.ts';
import { SimMachine } from '../support/engine-harness.ts';

/** More than one request brings to who fetches behind the readers. */
const SIZE = MIB + 20 * KIB + 7;
const PIECE_BYTES = 4 * KIB;
const BUFFER_BYTES = MIB + 24 * KIB;

function bytesOf(key: string): Buffer {
  return Buffer.alloc(SIZE, `${key} and so on`);
}

/** A bucket of chunks, of which whole ones come after 50 ms, and parts after 5. */
class World {
  readonly machine = new SimMachine();
  readonly store: TieredStore;

  constructor({ spareBytes = 0, cacheBytes = 1e9 } = {}) {
    const { files, clock } = this.machine.env;
    this.store = new TieredStore({
      local: new DirectoryStore(files, '/v', spareBytes),
      files,
      clock,
      directory: '/v',
      remote: {
        getRange: async (key, target, offsetBytes) => {
          await clock.sleep(target.length === SIZE ? 50 : 5);
          bytesOf(key).copy(target, 0, offsetBytes, offsetBytes + target.length);
        },
      },
      shippedFolder: 'chunks/',
      cacheBytes,
      cacheTtlMs: 0,
      fetchBytes: PIECE_BYTES,
      readAheadBytes: 4 * BUFFER_BYTES,
      shipMemoryBytes: 0,
      shipConcurrency: 1,
      bufferBytes: BUFFER_BYTES,
      problemOf: () => Promise.resolve(null),
      onRotten: () => undefined,
    });
    this.store.mayEvict = () => true;
  }

  async run(keys: readonly string[], task: () => Promise<void>): Promise<void> {
    await this.machine.run(async () => {
      for (const folder of ['/v', '/v/chunks']) await this.machine.env.files.makeDirectory(folder);
      await this.store.attach(['chunks'], new Map(keys.map((key) => [key, SIZE])), () => true);
      await task();
      await this.store.close();
      expect(this.machine.env.simFiles.openPaths()).toEqual([]);
    });
  }

  async expectRead(key: string): Promise<void> {
    const object = await this.store.open(key);
    const target = Buffer.alloc(SIZE);
    await object.read(target, 0);
    expect(target.equals(bytesOf(key))).toBe(true);
    await object.close();
  }

  /** Bytes of whole objects that are here. */
  get hereBytes(): number {
    return this.machine.names('/v/chunks').filter((name) => !name.startsWith('.')).length * SIZE;
  }
}

test('who reads on in an object that was evicted neither reads nor changes what is written over its file', async () => {
  const world = new World({ spareBytes: 10 * SIZE, cacheBytes: 1.5 * SIZE });
  const { store } = world;
  await world.run(['chunks/a', 'chunks/c'], async () => {
    const reader = await store.open('chunks/a');
    const target = Buffer.alloc(SIZE);
    await reader.read(target, 0);
    await world.machine.process.sleep(20);
    expect(world.machine.names('/v/chunks')).toEqual(['a']); // all of it is here
    await world.expectRead('chunks/c');
    await world.machine.process.sleep(20);
    expect(world.machine.names('/v/chunks')).not.toContain('a');
    await store.settle();
    const staged = await store.stage('chunks/b', SIZE);
    await staged.append([bytesOf('chunks/b')]);
    await staged.seal();
    await store.publish([staged]);
    await reader.read(target, 0);
    expect(target.equals(bytesOf('chunks/a'))).toBe(true);
    // Whatever it takes for wrong it fetches anew.
    expect(reader.doubt?.(0, SIZE)).toBe(true);
    await reader.read(target, 0);
    expect(target.equals(bytesOf('chunks/a'))).toBe(true);
    await reader.close();
    await world.expectRead('chunks/b');
    await store.shipped('chunks/b', SIZE);
  });
});

test('what has come while parts of the same object are removed is not removed with them', async () => {
  const world = new World();
  await world.run(['chunks/a'], async () => {
    expect(world.store.fetchAhead('chunks/a')).toBe(true);
    const object = world.store.fetchWhole('chunks/a', () => undefined);
    await world.machine.process.sleep(7); // its first part is here
    world.machine.fault = ({ kind, path }) => (kind === 'remove' && path.includes('/.far-') ? { kind: 'slow', delayMs: 200 } : null);
    const room = world.store.makeRoom();
    await world.machine.process.sleep(1);
    world.store.mayEvict = () => false; // once is enough
    await Promise.all([object, room, world.machine.process.sleep(400)]);
    expect(world.store.cachedBytes).toBe(world.hereBytes);
    await world.expectRead('chunks/a');
    await world.machine.process.sleep(100);
    expect(world.store.cachedBytes).toBe(world.hereBytes);
  });
});
