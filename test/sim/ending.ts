/** How lives end, and what goes wrong in them: drawn from the world's seed. */
import { CrashAtCall, type Burst, type Bursts, type FileCall } from './faults.ts';
import type { Death } from './obligations.ts';
import type { WorldPlan } from './plan.ts';
import type { SeededRandom } from './random.ts';
import { slowestMs } from './timing.ts';

/** How a life is to end. */
export interface Ending {
  readonly death: Death;
  /** Where the crash falls: into the opening (or creation) of a volume, its use, its closing, or a quiet time after all clients have ended. */
  readonly stage: 'opening' | 'use' | 'closing' | 'quiet';
  /** Calls of the file system from the start of the stage to the crash; null: not at a certain call. */
  readonly atCall: number | null;
  /** Only calls whose path has this in it are counted. */
  readonly aim: string;
  /** Milliseconds from the start of the stage to the crash; null: not at a certain time. */
  readonly afterMs: number | null;
}

export const NO_CRASH: Ending = { death: 'exit', stage: 'use', atCall: null, aim: '', afterMs: null };

/** What crashes are aimed at: recovery, checkpoints, compaction and the ends of chunk sets are short, and crashes by chance seldom hit them. */
const AIMS = ['/checkpoints/', 'manifest', '/chunks/', '/log/', ' to '] as const;

export function drawEnding(random: SeededRandom, plan: WorldPlan): Ending {
  if (random.chance(plan.exitChance)) return NO_CRASH;
  const death = random.chance(plan.powerCutChance) ? 'power' : 'process';
  const aim = random.chance(plan.aimedCrashChance) ? random.pick(AIMS) : '';
  if (random.chance(plan.crashInOpenChance)) return { death, stage: 'opening', atCall: random.skewed(1, aim === '' ? 120 : 20), aim, afterMs: null };
  const kind = random.unit();
  if (random.chance(plan.quietCrashChance)) return { death, stage: 'quiet', atCall: null, aim: '', afterMs: null };
  if (kind < 0.15) return { death, stage: 'closing', atCall: random.skewed(1, 100), aim: '', afterMs: null };
  if (kind < 0.4) return { death, stage: 'use', atCall: null, aim: '', afterMs: random.unit() * plan.pauseMs };
  return { death, stage: 'use', atCall: random.skewed(1, aim === '' ? 50 + 4 * plan.operationsPerLife : 40), aim, afterMs: null };
}

export function crashFor(ending: Ending, random: SeededRandom): CrashAtCall {
  return new CrashAtCall(random.pick(['before', 'during', 'after'] as const), (call) => call.path.includes(ending.aim));
}

/** From nothing to longer than anything in the engine waits for; often just longer than unsynced data may be old. */
export function drawQuietMs(random: SeededRandom, ageMs: number | null): number {
  if (ageMs !== null && random.chance(0.4)) return ageMs * (1 + random.unit());
  return random.skewed(1, 20_000) - 1;
}

/** After this time an answered write survives (batched: a power cut; async: any crash) though nobody flushed. */
export function ageLimit(plan: WorldPlan, durability: string): number | null {
  if (durability !== 'batched' && durability !== 'async') return null;
  const interval = durability === 'batched' ? plan.settings.batchMs : 2 * plan.settings.asyncIntervalMs;
  return interval + slowestMs(plan.profile);
}

/** Locks end with their process: nobody could take one again that was taken by a call that failed. */
function mayFail(call: FileCall): boolean {
  return !call.path.endsWith('/lock');
}

const TAKES_SPACE: ReadonlySet<string> = new Set(['write', 'create', 'rename', 'make-directory', 'sync']);

/** Bursts of failing calls below one of `directories`, each a short one that comes soon, or a long one. */
export function drawErrors(random: SeededRandom, directories: readonly string[]): Burst[] {
  return Array.from({ length: random.between(1, 2) }, () => {
    const directory = random.pick(directories);
    const kind = random.pick(['any', 'any', 'sync', 'write', 'read', 'log', 'full'] as const);
    const matches = (call: FileCall): boolean => {
      if (!mayFail(call) || !call.path.startsWith(directory)) return false;
      if (kind === 'any') return true;
      if (kind === 'log') return call.path.includes('/log/');
      if (kind === 'full') return TAKES_SPACE.has(call.kind);
      return kind === 'sync' ? call.kind === 'sync' || call.kind === 'sync-directory' : call.kind === kind;
    };
    return { matches, fault: { kind: 'error', code: kind === 'full' ? 'ENOSPC' : 'EIO' }, countdown: random.skewed(1, 200) - 1, length: random.pick([1, 1, 2, 30]) };
  });
}

/** Calls that take long: all of a kind for a while, or one in many. */
export function drawSlowness(random: SeededRandom, slowMs: number): Burst[] {
  const kind = random.pick(['read', 'read', 'write', 'sync', 'any'] as const);
  return Array.from({ length: random.between(1, 12) }, () => ({
    matches: (call: FileCall) => kind === 'any' || (call.kind === kind && (kind !== 'read' || call.path.includes('/chunks/'))),
    fault: { kind: 'slow' as const, delayMs: random.unit() * slowMs },
    countdown: random.skewed(1, 300) - 1,
    length: random.pick([1, 3, 20]),
  }));
}

/** Reads of chunks that return other bits than were written: now and then, so that the next attempt may succeed. */
export function drawRot(random: SeededRandom): Burst {
  return {
    matches: (call) => call.kind === 'read' && call.path.includes('/chunks/'),
    fault: { kind: 'rot' },
    countdown: random.skewed(1, 100) - 1,
    length: random.between(1, 5),
  };
}

export function addAll(bursts: Bursts, drawn: readonly Burst[]): void {
  for (const burst of drawn) bursts.add(burst);
}
