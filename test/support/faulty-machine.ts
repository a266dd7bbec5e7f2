/** A simulated process whose file system fails on demand, for tests of what the engine makes of that. */
import { Arena } from '../../src/base/arena.ts';
import type { EngineSettings } from '../../src/base/settings-types.ts';
import { KIB } from '../../src/base/units.ts';
import { buildSettings } from '../../src/config/settings.ts';
import { SimDisk } from '../sim/disk.ts';
import { SimEnv } from '../sim/env.ts';
import type { Fault, FaultPolicy, FileCall } from '../sim/faults.ts';
import { SimLocks } from '../sim/file-system.ts';
import { SimProcess } from '../sim/process.ts';
import { SeededRandom } from '../sim/random.ts';
import { realEngine } from '../sim/real-engine.ts';
import { Scheduler } from '../sim/scheduler.ts';
import { IO_PROFILES } from '../sim/timing.ts';
import { Trace } from '../sim/trace.ts';

const SLAB_BYTES = 64 * KIB;
export const SETTINGS: EngineSettings = {
  ...buildSettings().engine,
  arenaBytes: 8 * SLAB_BYTES,
  dirtyBytes: 4 * SLAB_BYTES,
  checkpointIntervalMs: 1000,
  retryMs: 50,
};

/** Fails the calls that `matches` says, with `code`, while there is one. */
export class Failing implements FaultPolicy {
  code: string | null = null;
  matches: (call: FileCall) => boolean = () => false;

  decide(call: FileCall): Fault | null {
    return this.code !== null && this.matches(call) ? { kind: 'error', code: this.code } : null;
  }
}

export interface Machine {
  readonly env: SimEnv;
  readonly scheduler: Scheduler;
  readonly faults: Failing;
  readonly arena: Arena;
}

export function boot(): Machine {
  const trace = new Trace();
  const scheduler = new Scheduler((timeMs) => trace.setTime(timeMs));
  const process = new SimProcess({ name: 'process', scheduler, trace, random: new SeededRandom(1) });
  const faults = new Failing();
  const profile = IO_PROFILES[0];
  const env = new SimEnv({ process, disk: new SimDisk(), locks: new SimLocks(), profile, faults, tasks: realEngine.tasks });
  return { env, scheduler, faults, arena: new Arena({ arenaBytes: SETTINGS.arenaBytes, dirtyBytes: SETTINGS.dirtyBytes, slabBytes: SLAB_BYTES }) };
}
