/** Memory of simulated processes: that of their arena, of which they give back what they do not need. */
import { Arena } from '../../src/base/arena.ts';
import type { EngineSettings } from '../../src/base/settings-types.ts';
import type { Env, Memory } from '../../src/env/env.ts';
import { IdleMemory } from '../../src/volume/idle-memory.ts';
import type { SimProcess } from './process.ts';

/** Short enough for memory to be given back between two writes. */
const QUIET_MS = 20;

/** What is given back is lost, as the engine may not ask for it again: it may come back as it was, or as zeroes; here as neither. */
const LOST_BYTE = 0xdb;

export class SimMemory implements Memory {
  readonly #process: SimProcess;

  constructor(process: SimProcess) {
    this.#process = process;
  }

  giveBack(bytes: Uint8Array): void {
    this.#process.trace.event('memory', 'gives back', bytes.length);
    bytes.fill(LOST_BYTE);
  }

  trim(): void {
    this.#process.trace.event('memory', 'is trimmed');
  }
}

/** The arena of a process. */
export function makeArena(env: Env, { settings, slabBytes }: { readonly settings: EngineSettings; readonly slabBytes: number }): Arena {
  const arena = new Arena({ arenaBytes: settings.arenaBytes, dirtyBytes: settings.dirtyBytes, slabBytes });
  IdleMemory.watch({ env, arena, quietMs: QUIET_MS });
  return arena;
}
