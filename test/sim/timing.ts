/** How long simulated calls take: most a little, some much longer, as the profile of the simulated device says. */
import type { SeededRandom } from './random.ts';

/** Milliseconds. */
export interface IoProfile {
  readonly name: string;
  readonly callMs: number;
  readonly syncMs: number;
  /** A call in the turn (a plain write into the page cache). */
  readonly inTurnMs: number;
  /** How often a call is slow, and how slow at most. */
  readonly stallChance: number;
  readonly stallMs: number;
  /** The file system has no writes past the page cache but durable ones (`direct`). */
  readonly refusesUncached: boolean;
}

export const IO_PROFILES: readonly IoProfile[] = [
  { name: 'ssd', callMs: 0.1, syncMs: 0.3, inTurnMs: 0.01, stallChance: 0.002, stallMs: 20, refusesUncached: false },
  { name: 'busy', callMs: 2, syncMs: 10, inTurnMs: 0.05, stallChance: 0.02, stallMs: 50, refusesUncached: true },
  { name: 'card', callMs: 5, syncMs: 40, inTurnMs: 0.5, stallChance: 0.03, stallMs: 1500, refusesUncached: false },
  { name: 'instant', callMs: 0, syncMs: 0, inTurnMs: 0, stallChance: 0, stallMs: 0, refusesUncached: false },
];

export function drawCallMs(random: SeededRandom, profile: IoProfile, kind: 'call' | 'sync' | 'in-turn'): number {
  const typical = kind === 'call' ? profile.callMs : kind === 'sync' ? profile.syncMs : profile.inTurnMs;
  if (profile.stallChance > 0 && random.chance(profile.stallChance)) return random.unit() * profile.stallMs;
  return random.unit() * 2 * typical;
}

/** A generous limit for a few log writes and syncs, one after another. */
export function slowestMs(profile: IoProfile): number {
  return 50 + 20 * (profile.callMs + profile.syncMs) + 4 * profile.stallMs;
}
