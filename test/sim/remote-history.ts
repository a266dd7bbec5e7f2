/** What the worlds of volumes with a bucket know: histories of changes, each of which stamps whole blocks with its number. */
import { VolumeError } from '../../src/base/errors.ts';
import { KIB } from '../../src/base/units.ts';
import type { Clock } from '../../src/env/env.ts';
import { SimulationFailure } from './model.ts';

export const BLOCK_BYTES = 4 * KIB;
export const BLOCKS = 256;

/** A change: which blocks carry its number from then on. */
export interface Change {
  readonly id: number;
  readonly first: number;
  readonly count: number;
}

export function stampOf(id: number, block: number): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES, (id * 31 + block) & 0xff);
  bytes.writeUInt32LE(id, 0);
  bytes.writeUInt32LE(block, 4);
  return bytes;
}

/**
 * The longest prefix of a history whose state the bytes are. A change may be of several records, of which the first ones count: so the last change
 * of it may be cut.
 */
export function prefixOf(found: Buffer, history: readonly Change[], when: string): readonly Change[] {
  const ids = idsOf(found, 0, when);
  for (let length = history.length; length >= 0; length -= 1) {
    const state = stateOf(history.slice(0, length));
    const next = history.at(length);
    let cut = 0;
    while (next !== undefined && cut < next.count && ids[next.first + cut] === next.id) cut += 1;
    if (next !== undefined) state.fill(next.id, next.first, next.first + cut);
    if (!ids.every((id, block) => id === state[block])) continue;
    return [...history.slice(0, length), ...(next === undefined || cut === 0 ? [] : [{ ...next, count: cut }])];
  }
  throw new SimulationFailure(`${when} is no state after a prefix of its history of ${history.length} changes: ${ids.join(' ')}; all of it is ${stateOf(history).join(' ')}`);
}

export function compare(found: Buffer, firstBlock: number, state: readonly number[], when: string): void {
  for (const [index, id] of idsOf(found, firstBlock, when).entries()) {
    if (id !== state[firstBlock + index]) throw new SimulationFailure(`${when}: block ${firstBlock + index} is of change ${id}, not ${state[firstBlock + index]}`);
  }
}

/** Which change each block is of; 0: none. */
export function idsOf(found: Buffer, firstBlock: number, when: string): number[] {
  return Array.from({ length: found.length / BLOCK_BYTES }, (_, index) => {
    const bytes = found.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
    const id = bytes.readUInt32LE(0);
    const isRight = id === 0 ? bytes.every((byte) => byte === 0) : bytes.equals(stampOf(id, firstBlock + index));
    if (!isRight) throw new SimulationFailure(`${when}: block ${firstBlock + index} is no block of change ${id}`);
    return id;
  });
}

/** How many changes of a history are there whole. */
export function wholeOf(prefix: readonly Change[], history: readonly Change[]): number {
  const last = prefix.at(-1);
  return last === undefined || last.count === history[prefix.length - 1]?.count ? prefix.length : prefix.length - 1;
}

export function stateOf(history: readonly Change[]): number[] {
  const state = Array.from({ length: BLOCKS }, () => 0);
  for (const { id, first, count } of history) state.fill(id, first, first + count);
  return state;
}

/** For who tries again, `self`: bits flip on the way, but not for ever; a claim of the last try may have been put late. */
export class Patience {
  #damaged = 0;

  take(error: unknown, self?: string): void {
    if (!isPassing(error) && !(self !== undefined && error instanceof VolumeError && error.code === 'fenced' && error.message.includes(`host ${self} has taken`))) throw error;
    if (error instanceof VolumeError && error.code === 'corrupt') this.#damaged += 1;
    if (this.#damaged > 40) throw new SimulationFailure(`it stays damaged: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** Does it until no trouble comes that goes by itself. `clock` is asked for at each try: that of a process which has died would never wake. */
export async function patiently<T>(clock: () => Pick<Clock, 'sleep'>, task: () => Promise<T>): Promise<T> {
  const patience = new Patience();
  for (;;) {
    try {
      return await task();
    } catch (error) {
      patience.take(error);
      await clock().sleep(100);
    }
  }
}

/** Trouble that goes: the bucket cannot be reached, or bits flip on the way. */
export function isPassing(error: unknown): boolean {
  return error instanceof VolumeError && (error.code === 'unavailable' || error.code === 'corrupt');
}
