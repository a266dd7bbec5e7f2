/**
 * A volume that is resized again and again while its machine dies at any call: its size is the one before or the one after, nothing below it is lost, and what
 * a smaller size cut off never comes back. One client, one request at a time; the worlds of `world.ts` look at all the rest.
 */
import { POWER_CUT_MODES, drawPowerCut } from './power-cut.ts';
import { SimulationFailure } from './model.ts';
import { SeededRandom } from './random.ts';
import { BLOCK_BYTES, SimMachine, smallSettings } from '../support/engine-harness.ts';
import { KIB } from '../../src/base/units.ts';
import type { Volume } from '../../src/volume/volume.ts';

const DIRECTORY = '/v';
/** More than one leaf of the block map. */
const MAX_BLOCKS = 1100;
const LIVES = 8;
const OPERATIONS = 20;

export interface ResizeCounts {
  crashes: number;
  grown: number;
  shrunk: number;
  /** Crashes in the middle of a resize, and those after which it had taken effect. */
  interrupted: number;
  effective: number;
}

export function noResizeCounts(): ResizeCounts {
  return { crashes: 0, grown: 0, shrunk: 0, interrupted: 0, effective: 0 };
}

/** 0: zeroes; else the number in the block's first bytes. */
type Content = number;

export class ResizeWorld {
  readonly counts = noResizeCounts();
  readonly #random: SeededRandom;
  readonly #machine: SimMachine;
  readonly #isStrict: boolean;
  /** What a block may hold after a crash; the last one is what it holds now. */
  readonly #blocks = new Map<number, Content[]>();
  #size: number;
  /** A resize that has not ended. */
  #pending: number | null = null;
  #nextSeed = 1;
  #countdown = Number.POSITIVE_INFINITY;
  /** Only calls for the manifest count. */
  #isAimed = false;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    this.#isStrict = this.#random.chance(0.3);
    this.#size = this.#random.between(4, 200);
    const flushIntervalMs = this.#random.pick([5, 50, 3_600_000]);
    this.#machine = new SimMachine(smallSettings({ logFileBytes: 256 * KIB, flushIntervalMs, flushBytes: this.#random.pick([0, 4, 12]) * 64 * KIB, checkpointChunks: this.#random.pick([1, 4, 1000]), compactLivePercent: this.#random.pick([0, 90]), compactPauseMs: 10 }), seed);
    this.#machine.fault = ({ path }) => {
      if (!this.#isAimed || path.includes('manifest')) this.#countdown -= 1;
      return this.#countdown === 0 ? { kind: 'crash', when: this.#random.pick(['before', 'during', 'after']) } : null;
    };
  }

  /** Throws a SimulationFailure if something is not as it must be. */
  async run(): Promise<ResizeCounts> {
    await this.#machine.run(() => this.#machine.create(DIRECTORY, { sizeBytes: this.#size * BLOCK_BYTES, durability: this.#isStrict ? 'strict' : this.#random.pick(['batched', 'relaxed', 'async']) }));
    for (let life = 0; life < LIVES; life += 1) {
      this.#isAimed = this.#random.chance(0.5);
      this.#countdown = this.#random.chance(0.8) ? this.#random.skewed(1, this.#isAimed ? 60 : 400) : Number.POSITIVE_INFINITY;
      const { process } = this.#machine;
      await this.#machine.run(() => Promise.race([this.#live(), process.death]));
      if (process.alive) continue;
      this.counts.crashes += 1;
      const isPowerCut = this.#random.chance(0.7);
      if (isPowerCut) this.#machine.disk.cutPower(drawPowerCut(this.#random, this.#machine.disk.unsyncedSequences(), this.#random.pick(POWER_CUT_MODES)));
      this.#machine.restart();
    }
    this.#countdown = Number.POSITIVE_INFINITY;
    await this.#machine.run(() => this.#live());
    return this.counts;
  }

  async #live(): Promise<void> {
    const volume = await this.#machine.open(DIRECTORY);
    await this.#checkAfterOpening(volume);
    for (let operation = 0; operation < OPERATIONS; operation += 1) await this.#operate(volume);
    if (this.#random.chance(0.5)) await this.#checkAll(volume);
    await volume.close();
    this.#settle();
  }

  async #checkAfterOpening(volume: Volume): Promise<void> {
    const size = volume.sizeBytes / BLOCK_BYTES;
    const allowed = this.#pending === null ? [this.#size] : [this.#size, this.#pending];
    if (!allowed.includes(size)) throw new SimulationFailure(`the volume has ${size} blocks, not ${allowed.join(' or ')}`);
    if (this.#pending !== null) {
      this.counts.interrupted += 1;
      if (size === this.#pending) this.counts.effective += 1;
      this.#resized(size);
    }
    await this.#checkAll(volume);
  }

  /** Each block is one of those that it may be, and from now on it is that. */
  async #checkAll(volume: Volume): Promise<void> {
    const bytes = new Uint8Array(this.#size * BLOCK_BYTES);
    await volume.read(0, bytes);
    for (let block = 0; block < this.#size; block += 1) {
      const part = bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
      const versions = this.#blocks.get(block) ?? [0];
      const found = versions.findLast((content) => holds(part, content));
      if (found === undefined) throw new SimulationFailure(`block ${block} of ${this.#size} is none of its versions ${versions.join(', ')}; it begins with ${Buffer.from(part.subarray(0, 8)).toString('hex')}`);
      // What stood before is not forgotten: a later crash may take this version, too, unless it is durable.
      this.#blocks.set(block, [...versions.slice(0, versions.lastIndexOf(found)), found]);
    }
  }

  async #operate(volume: Volume): Promise<void> {
    const kind = this.#random.weighted(new Map([['write', 10], ['trim', 2], ['flush', 2], ['resize', 5], ['read', 2]] as const));
    const first = this.#random.below(this.#size);
    const count = Math.min(this.#random.skewed(1, 40), this.#size - first);
    switch (kind) {
      case 'write': {
        const seed = this.#nextSeed;
        this.#nextSeed += count;
        const contents = Array.from({ length: count }, (_, index) => seed + index);
        const done = volume.write(first * BLOCK_BYTES, Buffer.concat(contents.map(contentOf)), false);
        await this.#change(first, contents, done);
        break;
      }
      case 'trim':
        await this.#change(first, Array<Content>(count).fill(0), volume.trim(first * BLOCK_BYTES, count * BLOCK_BYTES, false));
        break;
      case 'flush':
        await volume.flush();
        if (volume.durability !== 'async') this.#settle();
        break;
      case 'resize':
        await this.#resize(volume);
        break;
      case 'read':
        await this.#checkAll(volume);
    }
  }

  async #change(first: number, contents: readonly Content[], done: Promise<void>): Promise<void> {
    contents.forEach((content, index) => this.#blocks.set(first + index, [...(this.#blocks.get(first + index) ?? [0]), content]));
    await done;
    if (this.#isStrict) contents.forEach((content, index) => this.#blocks.set(first + index, [content]));
  }

  async #resize(volume: Volume): Promise<void> {
    const size = this.#random.chance(0.5) ? Math.min(MAX_BLOCKS, this.#size + this.#random.skewed(1, 500)) : this.#random.between(1, this.#size);
    this.#pending = size;
    if (size > this.#size) this.counts.grown += 1;
    else this.counts.shrunk += 1;
    await volume.resize(size * BLOCK_BYTES);
    if (volume.sizeBytes !== size * BLOCK_BYTES) throw new SimulationFailure(`the volume has ${volume.sizeBytes} bytes after it was given ${size} blocks`);
    this.#resized(size);
  }

  /** What is cut off is gone for good: whoever gets the space again finds zeroes. */
  #resized(size: number): void {
    for (const block of [...this.#blocks.keys()]) if (block >= size) this.#blocks.delete(block);
    this.#size = size;
    this.#pending = null;
  }

  /** All that was written is durable. */
  #settle(): void {
    for (const [block, versions] of this.#blocks) this.#blocks.set(block, versions.slice(-1));
  }
}

const ZEROES = new Uint8Array(BLOCK_BYTES);

function contentOf(content: Content): Uint8Array {
  if (content === 0) return ZEROES;
  const bytes = new Uint8Array(BLOCK_BYTES).fill(1 + (content % 255));
  new DataView(bytes.buffer).setUint32(0, content);
  return bytes;
}

function holds(part: Uint8Array, content: Content): boolean {
  const isNamed = new DataView(part.buffer, part.byteOffset).getUint32(0) === content;
  return isNamed && Buffer.compare(part, contentOf(content)) === 0;
}
