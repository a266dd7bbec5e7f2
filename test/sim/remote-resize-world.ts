/**
 * A volume with a bucket that is resized again and again, while its machine dies at any call, loses its disk, or is taken over. The model is a history of writes, trims and sizes in order. Rules:
 *
 * - a host that comes back on its own disk finds the state after all that it was answered, and perhaps what it was about;
 * - a volume that is made of the bucket is the state after some prefix of the history, its size with it: never an older size with newer data, or the other way round; what a smaller size
 *   cut off is zeroes in all that was larger later; and a drain is kept, or a flush that is for the bucket.
 */
import { VolumeError } from '../../src/base/errors.ts';
import { KIB } from '../../src/base/units.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, smallSettings } from '../support/engine-harness.ts';
import { REMOTE, RemoteMachine } from '../support/remote-machine.ts';
import { SimulationFailure } from './model.ts';
import { POWER_CUT_MODES, drawPowerCut } from './power-cut.ts';
import { SeededRandom } from './random.ts';
import { patiently } from './remote-history.ts';
import { NO_FAULTS, type RemoteFaults } from './remote-bucket.ts';

const MAX_BLOCKS = 300;
const LIVES = 8;
const OPERATIONS = 16;

export interface RemoteResizeCounts {
  crashes: number;
  grown: number;
  shrunk: number;
  /** Resizes that were refused, as the bucket did not know the last one yet. */
  refused: number;
  drains: number;
  /** Volumes that were made of the bucket; of these, with a size that was not the last one answered. */
  restored: number;
  older: number;
}

export function noRemoteResizeCounts(): RemoteResizeCounts {
  return { crashes: 0, grown: 0, shrunk: 0, refused: 0, drains: 0, restored: 0, older: 0 };
}

type Step =
  | { readonly kind: 'content'; readonly first: number; readonly contents: readonly number[] }
  | { readonly kind: 'size'; readonly blocks: number };

export class RemoteResizeWorld {
  readonly counts = noRemoteResizeCounts();
  readonly #random: SeededRandom;
  readonly #world: RemoteMachine;
  readonly #faults: RemoteFaults;
  /** All there was, answered; and behind that at most one step that was not. */
  #history: Step[];
  #answered = 1;
  #promised = 1;
  #nextContent = 1;
  #directory = '/host-1';
  #hosts = 1;
  #countdown = Number.POSITIVE_INFINITY;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    const random = this.#random;
    const settings = smallSettings({ logFileBytes: 256 * KIB, flushIntervalMs: random.pick([5, 50, 3_600_000]), flushBytes: random.pick([0, 4, 12]) * 64 * KIB, checkpointChunks: random.pick([1, 4, 1000]), compactLivePercent: random.pick([0, 90]), compactPauseMs: 10 });
    this.#world = new RemoteMachine(settings, seed);
    this.#world.remoteSettings = { ...REMOTE, cacheBytes: random.pick([0, 2, 1000]) * 64 * KIB, leaseMs: random.pick([100, 60_000]), retryMs: random.pick([10, 500]), shipConcurrency: random.between(1, 4), ownerCheckMs: 100, flushTarget: random.pick(['local', 'remote'] as const) };
    const some = (): number => random.pick([0, 0.02, 0.1]);
    this.#faults = random.chance(0.5) ? NO_FAULTS : { failing: some(), throttling: 0, lostRequest: some() / 2, lostAnswer: some(), lateRequest: some(), cutBody: some(), flippedBit: 0 };
    this.#history = [{ kind: 'size', blocks: random.between(4, 200) }];
    this.#world.machine.fault = () => {
      this.#countdown -= 1;
      return this.#countdown === 0 ? { kind: 'crash', when: random.pick(['before', 'during', 'after']) } : null;
    };
  }

  /** Throws a SimulationFailure if something is not as it must be. */
  async run(): Promise<RemoteResizeCounts> {
    const { machine } = this.#world;
    await this.#world.run(async () => {
      await this.#world.create(this.#directory, stateOf(this.#history).length * BLOCK_BYTES, 'strict');
      const volume = await this.#world.open(this.#directory);
      await volume.drain();
      await volume.close();
    });
    this.#world.bucket.faults = this.#faults;
    for (let life = 0; life < LIVES; life += 1) {
      this.#countdown = this.#random.chance(0.8) ? this.#random.skewed(1, 600) : Number.POSITIVE_INFINITY;
      const { process } = machine;
      await machine.run(() => Promise.race([this.#live(), process.death]));
      this.#countdown = Number.POSITIVE_INFINITY;
      if (!process.alive) {
        this.counts.crashes += 1;
        if (this.#random.chance(0.5)) machine.disk.cutPower(drawPowerCut(this.#random, machine.disk.unsyncedSequences(), this.#random.pick(POWER_CUT_MODES)));
        machine.restart();
      }
      if (this.#random.chance(0.5)) await machine.run(() => this.#restore());
    }
    this.#world.bucket.faults = NO_FAULTS;
    await machine.run(() => this.#live());
    await machine.run(() => this.#restore());
    return this.counts;
  }

  async #live(): Promise<void> {
    const volume = await this.#patiently(() => this.#world.open(this.#directory, this.#directory));
    await this.#check(volume, this.#answered, 'a host that came back');
    for (let operation = 0; operation < OPERATIONS; operation += 1) await this.#operate(volume);
    if (this.#random.chance(0.3)) await this.#drain(volume);
    await volume.close();
  }

  /** Another host makes the volume of the bucket. */
  async #restore(): Promise<void> {
    const before = stateOf(this.#history.slice(0, this.#answered)).length;
    this.#hosts += 1;
    const directory = `/host-${this.#hosts}`;
    await this.#patiently(() => this.#world.restore(directory, true, directory));
    this.#directory = directory;
    const volume = await this.#patiently(() => this.#world.open(directory, directory));
    this.counts.restored += 1;
    await this.#check(volume, this.#promised, 'a volume made of the bucket');
    if (stateOf(this.#history).length !== before) this.counts.older += 1;
    await volume.close();
  }

  #patiently<T>(task: () => Promise<T>): Promise<T> {
    return patiently(() => this.#world.machine.env.clock, task);
  }

  /** The volume is the state after a prefix of at least so many steps; from now on that is its history. */
  async #check(volume: Volume, owed: number, when: string): Promise<void> {
    const found = await this.#patiently(() => contentOf(volume));
    for (let length = this.#history.length; length >= owed; length -= 1) {
      const next = this.#history.at(length);
      const prefix = this.#history.slice(0, length);
      // A step of many blocks may be of several records, of which the first ones count.
      const cuts = next?.kind === 'content' ? next.contents.length : 1;
      for (let cut = cuts - 1; cut >= 0; cut -= 1) {
        const candidate = next?.kind === 'content' && cut > 0 ? [...prefix, { ...next, contents: next.contents.slice(0, cut) }] : prefix;
        if (!isSame(stateOf(candidate), found)) continue;
        this.#history = candidate;
        this.#answered = candidate.length;
        return;
      }
    }
    const all = stateOf(this.#history);
    throw new SimulationFailure(`${when} is no state after ${owed} to ${this.#history.length} steps: ${found.length} blocks, ${found.join(' ')}; after all of them it is ${all.length} blocks, ${all.join(' ')}; the last steps: ${JSON.stringify(this.#history.slice(-6))}`);
  }

  async #operate(volume: Volume): Promise<void> {
    const kind = this.#random.weighted(new Map([['write', 10], ['trim', 2], ['resize', 6], ['drain', 2], ['pause', 3], ['read', 2]] as const));
    const size = volume.sizeBytes / BLOCK_BYTES;
    const first = this.#random.below(size);
    const count = Math.min(this.#random.skewed(1, 40), size - first);
    switch (kind) {
      case 'write': {
        const contents = Array.from({ length: count }, (_, index) => this.#nextContent + index);
        this.#nextContent += count;
        await this.#take({ kind: 'content', first, contents }, () => volume.write(first * BLOCK_BYTES, Buffer.concat(contents.map(bytesOf)), false));
        break;
      }
      case 'trim':
        await this.#take({ kind: 'content', first, contents: Array<number>(count).fill(0) }, () => volume.trim(first * BLOCK_BYTES, count * BLOCK_BYTES, false));
        break;
      case 'resize':
        await this.#resize(volume, size);
        break;
      case 'drain':
        await this.#drain(volume);
        break;
      case 'pause':
        await this.#world.machine.env.clock.sleep(this.#random.unit() * 300);
        break;
      case 'read':
        if (!isSame(stateOf(this.#history), await this.#patiently(() => contentOf(volume)))) throw new SimulationFailure('a read is not what was written last');
    }
  }

  async #take(step: Step, act: () => Promise<void>): Promise<void> {
    this.#history.push(step);
    await act();
    this.#answered = this.#history.length;
  }

  async #resize(volume: Volume, before: number): Promise<void> {
    const blocks = this.#random.chance(0.5) ? Math.min(MAX_BLOCKS, before + this.#random.skewed(1, 200)) : this.#random.between(1, before);
    try {
      await this.#take({ kind: 'size', blocks }, () => volume.resize(blocks * BLOCK_BYTES));
      if (blocks > before) this.counts.grown += 1;
      else this.counts.shrunk += 1;
    } catch (error) {
      if (!(error instanceof VolumeError) || error.code !== 'unavailable') throw error;
      this.#history.pop();
      this.counts.refused += 1;
    }
  }

  async #drain(volume: Volume): Promise<void> {
    const { length } = this.#history;
    // A flush that is for the bucket promises what a drain does.
    await (this.#world.remoteSettings.flushTarget === 'remote' && this.#random.chance(0.7) ? volume.flush() : volume.drain());
    this.counts.drains += 1;
    this.#promised = Math.max(this.#promised, length);
  }
}

/** What each block holds, as many as there are; 0: zeroes. */
function stateOf(history: readonly Step[]): number[] {
  const state: number[] = [];
  for (const step of history) {
    if (step.kind === 'content') for (const [index, content] of step.contents.entries()) state[step.first + index] = content;
    else {
      const { length } = state;
      state.length = step.blocks;
      if (length < step.blocks) state.fill(0, length);
    }
  }
  return state;
}

function isSame(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((content, index) => content === other[index]);
}

const ZEROES = new Uint8Array(BLOCK_BYTES);

function bytesOf(content: number): Uint8Array {
  if (content === 0) return ZEROES;
  const bytes = new Uint8Array(BLOCK_BYTES).fill(1 + (content % 255));
  new DataView(bytes.buffer).setUint32(0, content);
  return bytes;
}

async function contentOf(volume: Volume): Promise<number[]> {
  const bytes = new Uint8Array(volume.sizeBytes);
  await volume.read(0, bytes);
  return Array.from({ length: bytes.length / BLOCK_BYTES }, (_, block) => {
    const part = bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
    const content = new DataView(part.buffer, part.byteOffset).getUint32(0);
    if (Buffer.compare(part, bytesOf(content)) !== 0) throw new SimulationFailure(`block ${block} is none that was written; it begins with ${Buffer.from(part.subarray(0, 8)).toString('hex')}`);
    return content;
  });
}
