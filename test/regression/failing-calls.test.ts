/**
 * Any call of the file system may fail, once or for a while (EIO, a full disk), while clients are at work. The volume may
 * refuse them, but whatever it answered is there when it is opened again, nothing waits for ever, no memory stays taken.
 */
import { expect, test } from 'vitest';
import { Arena } from '../../src/base/arena.ts';
import { VolumeError } from '../../src/base/errors.ts';
import type { EngineSettings } from '../../src/base/settings-types.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { createVolume } from '../../src/volume/create-volume.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { SeededRandom } from '../sim/random.ts';
import { boot, type Machine, SETTINGS } from '../support/faulty-machine.ts';

const DIRECTORY = '/volume';
const SLAB_BYTES = 64 * KIB;
const BLOCK_BYTES = 4 * KIB;
const CLIENTS = 3;
const BLOCKS_PER_CLIENT = 48;
/** Blocks lie in many leaves of the block map. */
const STRIDE_BYTES = 700 * BLOCK_BYTES;
const ATTEMPTS = 100;

class World {
  readonly machine: Machine = boot();
  readonly random: SeededRandom;
  readonly settings: EngineSettings;
  readonly arena: Arena;
  /** What each block may hold: its last answered value, and those of unanswered or refused writes behind it. */
  readonly allowed = Array.from({ length: CLIENTS * BLOCKS_PER_CLIENT }, () => new Set([0]));
  #value = 0;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
    const { random } = this;
    const dirtySlabs = random.between(3, 6);
    this.settings = {
      ...SETTINGS,
      arenaBytes: SLAB_BYTES * (dirtySlabs + 2),
      dirtyBytes: SLAB_BYTES * dirtySlabs,
      indexBytes: 16 * KIB,
      chunkTableBytes: 16 * KIB,
      openChunkFiles: random.between(1, 4),
      logFileBytes: 128 * KIB,
      logFileCount: 3,
      logInlineBytes: random.pick([0, 16 * KIB]),
      batchBlocks: 8,
      flushBytes: random.pick([0, SLAB_BYTES]),
      flushIntervalMs: random.pick([20, 500]),
      checkpointChunks: random.pick([1, 4]),
      checkpointIntervalMs: 100,
      retryMs: 20,
    };
    this.arena = new Arena({ arenaBytes: this.settings.arenaBytes, dirtyBytes: this.settings.dirtyBytes, slabBytes: SLAB_BYTES });
  }

  async make(): Promise<void> {
    const create = { sizeBytes: 512 * MIB, blockSizeBytes: BLOCK_BYTES, durability: this.random.pick(['strict', 'batched', 'relaxed'] as const) };
    await createVolume({ env: this.machine.env, directory: DIRECTORY, settings: this.settings, create });
  }

  /** From some call on, calls fail: one, two, or many. */
  arm(): void {
    const { random, machine } = this;
    let countdown = random.between(0, 200);
    let length = random.pick([1, 1, 2, 30]);
    const isFull = random.chance(0.3);
    machine.faults.code = isFull ? 'ENOSPC' : 'EIO';
    machine.faults.matches = (call) => {
      // A lock is closed by the end of its process if not before; a full disk fails only what takes space.
      if (call.path.endsWith('/lock') || (isFull && !['write', 'create', 'rename'].includes(call.kind))) return false;
      countdown -= 1;
      if (countdown >= 0 || length === 0) return false;
      length -= 1;
      return true;
    };
  }

  /** Opens the volume; faults may be in the way for a while. */
  async open(): Promise<Volume> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await openVolume({ env: this.machine.env, directory: DIRECTORY, settings: this.settings, arena: this.arena });
      } catch (error) {
        if (!(error instanceof VolumeError) || error.code === 'corrupt' || attempt === ATTEMPTS) throw error;
        await this.machine.env.clock.sleep(5);
      }
    }
  }

  async check(volume: Volume, block: number): Promise<number> {
    const words = new Uint32Array(BLOCK_BYTES / 4);
    await volume.read(block * STRIDE_BYTES, new Uint8Array(words.buffer));
    expect(words.every((word) => word === words[0])).toBe(true);
    expect([...this.allowed[block]]).toContain(words[0]);
    return words[0];
  }

  async #change(volume: Volume, block: number, isTrim: boolean): Promise<void> {
    this.#value += 1;
    const value = isTrim ? 0 : this.#value;
    this.allowed[block].add(value);
    const bytes = new Uint8Array(new Uint32Array(BLOCK_BYTES / 4).fill(value).buffer);
    if (isTrim) await volume.trim(block * STRIDE_BYTES, BLOCK_BYTES, false);
    else await volume.write(block * STRIDE_BYTES, bytes, this.random.chance(0.1));
    this.allowed[block] = new Set([value]);
  }

  async client(volume: Volume, client: number): Promise<void> {
    const { random, machine } = this;
    for (let count = 0; count < 60; count += 1) {
      const block = client * BLOCKS_PER_CLIENT + random.below(BLOCKS_PER_CLIENT);
      const kind = random.unit();
      try {
        if (kind < 0.7) await this.#change(volume, block, kind < 0.1);
        else if (kind < 0.8) await volume.flush();
        else await this.check(volume, block);
      } catch (error) {
        if (!(error instanceof VolumeError)) throw error;
        expect(['corrupt', 'not-found']).not.toContain(error.code);
        await machine.env.clock.sleep(1);
      }
      if (random.chance(0.2)) await machine.env.clock.sleep(random.unit() * 20);
    }
  }

  async live(): Promise<void> {
    const { random, machine } = this;
    const failsInOpening = random.chance(0.3);
    if (failsInOpening) this.arm();
    const volume = await this.open();
    if (!failsInOpening) this.arm();
    const clients = Promise.all(Array.from({ length: CLIENTS }, (_, client) => this.client(volume, client)));
    if (random.chance(0.3)) await machine.env.clock.sleep(random.unit() * 300);
    else await clients;
    await volume.close().catch((error: unknown) => expect(error).toBeInstanceOf(VolumeError));
    await clients;
    machine.faults.code = null;
    expect(this.arena.stats()).toMatchObject({ dirtySlabs: 0, cleanSlabs: 0 });
    const again = await openVolume({ env: machine.env, directory: DIRECTORY, settings: this.settings, arena: this.arena });
    for (let block = 0; block < this.allowed.length; block += 1) this.allowed[block] = new Set([await this.check(again, block)]);
    await again.close();
  }
}

test.each(Array.from({ length: 25 }, (_, index) => index + 1))('calls that fail lose nothing that was answered (seed %i)', async (seed) => {
  const world = new World(seed);
  await world.machine.scheduler.drive(async () => {
    await world.make();
    for (let life = 0; life < 3; life += 1) await world.live();
  });
});
