/** The ways in which a simulated disk loses power: each picks, from the world's seed, what of the unsynced changes is kept. */
import { SECTOR_BYTES, type PowerCutFate } from './file-node.ts';
import type { SeededRandom } from './random.ts';

export const POWER_CUT_MODES = [
  'nothing-kept',
  'everything-kept',
  'prefix-kept', // all up to one moment
  'last-lost', // all but the youngest one to three changes
  'one-lost',
  'one-kept',
  'some-changes', // each write or change of a name on its own
  'some-sectors', // each sector of each write on its own
  'some-files',
] as const;
export type PowerCutMode = (typeof POWER_CUT_MODES)[number];

/** What a power cut does to one kind of change. */
type Keeps = (sequence: number, fileId: number) => boolean;

/**
 * Draws the fate of all changes that were not durable. `sequences` are theirs, in rising order. Contents, lengths and
 * names usually share their fate as the mode says; at times each follows a mode of its own.
 */
export function drawPowerCut(random: SeededRandom, sequences: readonly number[], mode: PowerCutMode = random.pick(POWER_CUT_MODES)): PowerCutFate {
  const contents = keeper(random, sequences, mode);
  const lengths = random.chance(0.7) ? contents : keeper(random, sequences, random.pick(POWER_CUT_MODES));
  const names = random.chance(0.5) ? contents : keeper(random, sequences, random.pick(POWER_CUT_MODES));
  const perSector = mode === 'some-sectors';
  const sectorChance = random.pick([0.05, 0.5, 0.95, 0.995]);
  const tearChance = random.chance(0.3) ? random.pick([0.1, 1]) : 0;
  return {
    keepsSector: (sequence, fileId) => (perSector ? random.chance(sectorChance) : contents(sequence, fileId)),
    tornBytes: () => (tearChance > 0 && random.chance(tearChance) ? random.below(SECTOR_BYTES) : 0),
    keepsLength: lengths,
    keepsName: (sequence) => names(sequence, 0),
  };
}

function keeper(random: SeededRandom, sequences: readonly number[], mode: PowerCutMode): Keeps {
  const anySequence = sequences.length === 0 ? 0 : random.pick(sequences);
  switch (mode) {
    case 'nothing-kept':
      return () => false;
    case 'everything-kept':
      return () => true;
    case 'prefix-kept':
      return (sequence) => sequence <= anySequence;
    case 'last-lost': {
      const firstLost = sequences[Math.max(0, sequences.length - random.between(1, 3))] ?? 0;
      return (sequence) => sequence < firstLost;
    }
    case 'one-lost':
      return (sequence) => sequence !== anySequence;
    case 'one-kept':
      return (sequence) => sequence === anySequence;
    case 'some-changes':
    case 'some-sectors':
      return coins(random, random.pick([0.1, 0.5, 0.9]), (sequence) => sequence);
    case 'some-files':
      return coins(random, 0.5, (_sequence, fileId) => fileId);
  }
}

/** Tosses one coin for each key and remembers it: a change has one fate however often it is asked for. */
function coins(random: SeededRandom, probability: number, keyOf: (sequence: number, fileId: number) => number): Keeps {
  const tossed = new Map<number, boolean>();
  return (sequence, fileId) => {
    const key = keyOf(sequence, fileId);
    let kept = tossed.get(key);
    if (kept === undefined) {
      kept = random.chance(probability);
      tossed.set(key, kept);
    }
    return kept;
  };
}
