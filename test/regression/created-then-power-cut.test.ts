/**
 * The process that makes a volume dies between the rename that gives the volume its name and the sync of that name. The
 * volume is there, is opened and used; nobody but its opening can make the name durable before a power cut takes it.
 */
import { expect, test } from 'vitest';
import { Arena } from '../../src/base/arena.ts';
import { SimDisk } from '../sim/disk.ts';
import type { EngineOptions } from '../sim/engine.ts';
import { SimEnv } from '../sim/env.ts';
import { NO_FAULTS, type FaultPolicy } from '../sim/faults.ts';
import { SimLocks } from '../sim/file-system.ts';
import { SimProcess } from '../sim/process.ts';
import { SeededRandom } from '../sim/random.ts';
import { realEngine } from '../sim/real-engine.ts';
import { Scheduler } from '../sim/scheduler.ts';
import { IO_PROFILES } from '../sim/timing.ts';
import { Trace } from '../sim/trace.ts';
import { SETTINGS } from '../support/faulty-machine.ts';

const KEEP_NOTHING = { keepsSector: () => false, tornBytes: () => 0, keepsLength: () => false, keepsName: () => false };
const DIES_BEFORE_THE_NAME_IS_SYNCED: FaultPolicy = {
  decide: (call) => (call.kind === 'sync-directory' && call.path === '/data' ? { kind: 'crash', when: 'before' } : null),
};

function optionsOf(env: SimEnv): EngineOptions {
  return { env, directory: '/data/volume', settings: SETTINGS, arena: new Arena({ arenaBytes: SETTINGS.arenaBytes, dirtyBytes: SETTINGS.dirtyBytes, slabBytes: 65_536 }) };
}

test('a volume whose creation was cut off behind the rename survives a power cut once it was opened', async () => {
  const scheduler = new Scheduler();
  const disk = new SimDisk();
  const locks = new SimLocks();
  const boot = (faults: FaultPolicy): SimEnv => {
    const process = new SimProcess({ name: 'process', scheduler, trace: new Trace(), random: new SeededRandom(1) });
    return new SimEnv({ process, disk, locks, profile: IO_PROFILES[0], faults, tasks: realEngine.tasks });
  };
  disk.makeDirectory('/data');
  disk.makeNamesDurable(disk.findDirectory('/'), disk.sequence);
  const observer = { accepted: () => undefined };
  const found = new Uint8Array(4096);
  await scheduler.drive(async () => {
    const creator = boot(DIES_BEFORE_THE_NAME_IS_SYNCED);
    const create = { sizeBytes: 1024 * 1024, blockSizeBytes: 4096, durability: 'batched' } as const;
    await Promise.race([realEngine.create(optionsOf(creator), create), creator.process.death]);
    expect(creator.process.alive).toBe(false);
    const user = boot(NO_FAULTS);
    const volume = await realEngine.open(optionsOf(user), observer);
    await volume.write(0, new Uint8Array(4096).fill(7), true);
    user.process.die();
    disk.cutPower(KEEP_NOTHING);
    const again = await realEngine.open(optionsOf(boot(NO_FAULTS)), observer);
    await again.read(0, found);
    await again.close();
  });
  expect(found.every((byte) => byte === 7)).toBe(true);
});
