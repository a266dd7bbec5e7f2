/** How lives end, and what goes wrong in them: drawn from the world's seed. */
import { CrashAtCall, type Burst, type Bursts, type FileCall } from './faults.ts';
import type { Death } from './obligations.ts';
import type { FaultPlan, WorldPlan } from './plan.ts';
import type { PowerCutMode } from './power-cut.ts';
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
  /** What a power cut that ends it is like, if that is not left to the plan. */
  readonly powerCutModes?: readonly PowerCutMode[];
}

export const NO_CRASH: Ending = { death: 'exit', stage: 'use', atCall: null, aim: '', afterMs: null };

export interface DrawnLife {
  readonly ending: Ending;
  readonly operationCount: number;
  /** What goes wrong with calls: as the plan says, nothing, or a sync of a log and nothing else. */
  readonly faults: 'plan' | 'none' | 'log sync';
}

/** What the `index`-th life is like. */
export function drawLife(random: SeededRandom, plan: WorldPlan, index: number): DrawnLife {
  if (plan.taste === 'seam' && random.chance(0.8)) return index % 2 === 0 ? burst(random, plan) : afterthought(random);
  if (plan.taste === 'failing' && random.chance(0.7)) return index % 2 === 0 ? failedSync(random, plan) : afterthought(random);
  const isShort = random.chance(plan.shortLifeChance);
  return { ending: drawEnding(random, plan), operationCount: isShort ? random.between(1, 6) : plan.operationsPerLife, faults: 'plan' };
}

/** Records that are in no chunk when the power fails, and holes in the log before the last ones. */
function burst(random: SeededRandom, plan: WorldPlan): DrawnLife {
  const ending: Ending = { death: 'power', stage: 'use', atCall: random.between(3, 16), aim: '/log/', afterMs: null, powerCutModes: ['one-lost', 'one-lost', 'some-changes', 'some-files'] };
  return { ending, operationCount: plan.operationsPerLife, faults: 'plan' };
}

/** A few records that take the places of lost ones; their chunks outlive their log. */
function afterthought(random: SeededRandom): DrawnLife {
  return { ending: { death: 'power', stage: 'quiet', atCall: null, aim: '', afterMs: null, powerCutModes: ['nothing-kept', 'nothing-kept', 'some-files'] }, operationCount: random.between(1, 5), faults: 'none' };
}

/** The machine lives on, and with it what the page cache has and the medium has not. */
function failedSync(random: SeededRandom, plan: WorldPlan): DrawnLife {
  const ending: Ending = random.chance(0.5) ? NO_CRASH : { death: 'process', stage: 'quiet', atCall: null, aim: '', afterMs: null };
  return { ending, operationCount: plan.operationsPerLife, faults: 'log sync' };
}

/** What crashes are aimed at: recovery, checkpoints, compaction and the ends of chunk sets are short, and crashes by chance seldom hit them. */
const AIMS = ['/checkpoints/', 'manifest', '/chunks/', '/log/', ' to '] as const;

function drawEnding(random: SeededRandom, plan: WorldPlan): Ending {
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
export function drawQuietMs(random: SeededRandom, ageMs: number | null, longestMs: number): number {
  if (ageMs !== null && ageMs < longestMs && random.chance(0.4)) return ageMs * (1 + random.unit());
  return random.skewed(1, longestMs) - 1;
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

/** From some call on nothing finds space below a directory. */
export function fullDisk(directory: string, random: SeededRandom): Burst {
  return { matches: (call) => call.path.startsWith(directory) && TAKES_SPACE.has(call.kind), fault: { kind: 'error', code: 'ENOSPC' }, countdown: random.skewed(1, 30) - 1, length: Number.MAX_SAFE_INTEGER };
}

/** One of the next syncs of a log fails. */
export function drawLogSyncError(random: SeededRandom): Burst {
  return { matches: (call) => call.kind === 'sync' && call.path.includes('/log/'), fault: { kind: 'error', code: 'EIO' }, countdown: random.skewed(1, 20) - 1, length: 1 };
}

/** Calls that take long: all of a kind for a while, or one in many. */
export function drawSlowness(random: SeededRandom, { slowMs, slowReads }: FaultPlan): Burst[] {
  const drawn = random.pick(['read', 'read', 'write', 'sync', 'any'] as const);
  const kind = slowReads ? 'read' : drawn;
  return Array.from({ length: slowReads ? 40 : random.between(1, 12) }, () => ({
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
  for (const one of drawn) bursts.add(one);
}
