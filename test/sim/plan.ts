/** What a world is made of, drawn from its seed: the volume, its settings, the machine, the clients and how often things go wrong. */
import { DURABILITY_MODES } from '../../src/base/durability.ts';
import type { EngineSettings } from '../../src/base/settings-types.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import type { CreateOptions } from '../../src/volume/volume-info.ts';
import type { SeededRandom } from './random.ts';
import { IO_PROFILES, type IoProfile } from './timing.ts';

export const OPERATIONS = [
  'write blocks', // whole blocks
  'write bytes', // any alignment
  'write zeroes', // data that happens to be zero
  'zero',
  'zero provisioned',
  'trim',
  'trim much',
  'flush',
  'read',
  'read now',
  'cache',
  'pause',
  'durability',
] as const;
export type Operation = (typeof OPERATIONS)[number];

export interface Region {
  readonly firstBlock: number;
  readonly blockCount: number;
}

export interface WorldPlan {
  readonly create: CreateOptions;
  readonly settings: EngineSettings;
  readonly slabBytes: number;
  readonly profile: IoProfile;
  /** How often the volume is opened, used and left. */
  readonly lives: number;
  readonly operationsPerLife: number;
  readonly clients: number;
  readonly weights: ReadonlyMap<Operation, number>;
  readonly maxRequestBlocks: number;
  /** Part of the requests that go to the first few blocks, and how many these are. */
  readonly hotChance: number;
  readonly hotBlocks: number;
  /** Groups of neighbouring blocks that the other requests go to; a large volume is mostly empty. */
  readonly regions: readonly Region[];
  readonly fuaChance: number;
  /** Part of the requests that use the promised form of a call though they need not. */
  readonly promisedChance: number;
  /** Longest pause of a client between two requests. */
  readonly thinkMs: number;
  readonly pauseMs: number;
  /** Part of the lives that end after a few requests: their records lie where records that a crash cut off lay before. */
  readonly shortLifeChance: number;
  /** How a life ends: closed, or by a crash. */
  readonly exitChance: number;
  readonly powerCutChance: number;
  readonly crashInCreateChance: number;
  readonly crashInOpenChance: number;
  /** Part of the other crashes that come in a quiet time after all clients have ended. */
  readonly quietCrashChance: number;
  readonly diskFullChance: number;
  readonly secondOpenerChance: number;
}

export function drawPlan(random: SeededRandom): WorldPlan {
  const blockSizeBytes = random.chance(0.75) ? 4 * KIB : random.pick([8 * KIB, 16 * KIB, 64 * KIB]);
  const blockCount = drawBlockCount(random, blockSizeBytes);
  const profile = random.pick(IO_PROFILES);
  // Records of one length: after a crash new ones lie exactly where old ones lay.
  const isUniform = random.chance(0.25);
  const { settings, slabBytes } = drawSettings(random, blockSizeBytes);
  // Chunks that are durable long before the log is: what one has and the other lost must fit together.
  const isEager = random.chance(isUniform ? 0.6 : 0.1);
  return {
    create: { sizeBytes: blockCount * blockSizeBytes, blockSizeBytes, durability: random.pick(isEager ? LAZY_MODES : DURABILITY_MODES) },
    settings: isEager ? { ...settings, flushBytes: 0, flushIntervalMs: 5, batchBlocks: 1024, batchMs: 1000, asyncIntervalMs: 1000 } : settings,
    slabBytes,
    profile,
    lives: isEager || isUniform ? random.between(6, 12) : random.between(3, 8),
    operationsPerLife: random.skewed(20, 400),
    clients: random.between(1, 6),
    weights: isUniform ? UNIFORM_WEIGHTS : drawWeights(random),
    maxRequestBlocks: isUniform ? 1 : random.skewed(1, 32),
    hotChance: random.pick([0, 0.5, 0.9]),
    hotBlocks: random.pick([1, 3, 8]),
    regions: drawRegions(random, blockCount),
    fuaChance: random.pick([0, 0.1, 0.5]),
    promisedChance: random.pick([0, 0.2, 1]),
    thinkMs: random.pick([0, 0.1, 1, 20]),
    pauseMs: random.pick([1, 100, 5000]),
    shortLifeChance: isEager || isUniform ? 0.5 : 0.2,
    exitChance: isEager || isUniform ? 0.1 : 0.25,
    powerCutChance: isEager ? 0.9 : random.pick([0.2, 0.5, 0.9]),
    crashInCreateChance: 0.1,
    crashInOpenChance: isEager ? 0.1 : 0.25,
    quietCrashChance: isEager ? 0.5 : 0.3,
    diskFullChance: random.chance(0.3) ? 0.4 : 0,
    secondOpenerChance: 0.05,
  };
}

function drawBlockCount(random: SeededRandom, blockSizeBytes: number): number {
  const kind = random.unit();
  if (kind < 0.1) return random.between(1, 8);
  // Beyond what memory holds: many leaves of the block map, most of them absent.
  if (kind < 0.3) return random.skewed(2000, 1_000_000);
  return random.skewed(32, Math.max(64, (4 * MIB) / blockSizeBytes));
}

const LAZY_MODES = ['batched', 'relaxed', 'async'] as const;

/** Small volumes are used all over; of a large one some hundred blocks. */
function drawRegions(random: SeededRandom, blockCount: number): Region[] {
  if (blockCount <= 1024) return [{ firstBlock: 0, blockCount }];
  return Array.from({ length: random.between(1, 24) }, () => {
    const firstBlock = random.chance(0.2) ? 1024 * random.below(Math.ceil(blockCount / 1024)) : random.below(blockCount);
    return { firstBlock, blockCount: Math.min(random.skewed(1, 64), blockCount - firstBlock) };
  });
}

const UNIFORM_WEIGHTS: ReadonlyMap<Operation, number> = new Map([
  ['write blocks', 30],
  ['flush', 1],
  ['read now', 3],
]);

function drawWeights(random: SeededRandom): ReadonlyMap<Operation, number> {
  const usual: Readonly<Record<Operation, number>> = {
    'write blocks': 40,
    'write bytes': 15,
    'write zeroes': 3,
    zero: 3,
    'zero provisioned': 2,
    trim: 4,
    'trim much': 1,
    flush: 6,
    read: 10,
    'read now': 10,
    cache: 1,
    pause: 1,
    durability: 0,
  };
  // What changes the mode draws for itself: worlds that keep theirs are what they were without it.
  const own = random.derive('durability');
  const changes = own.chance(0.4) ? own.pick([0.3, 1, 4]) : 0;
  // Each world has its own taste: some hardly flush, some mostly trim.
  const tasted = OPERATIONS.filter((operation) => operation !== 'durability').map((operation): [Operation, number] => [operation, usual[operation] * random.pick([0.1, 1, 1, 1, 4])]);
  return new Map([...tasted, ['durability', changes]]);
}

function drawSettings(random: SeededRandom, blockSizeBytes: number): { readonly settings: EngineSettings; readonly slabBytes: number } {
  const slabBytes = Math.max(blockSizeBytes, random.pick([16 * KIB, 64 * KIB, 256 * KIB]));
  const dirtySlabs = random.between(3, 8);
  const settings: EngineSettings = {
    arenaBytes: slabBytes * (dirtySlabs + random.between(1, 6)),
    dirtyBytes: slabBytes * dirtySlabs,
    indexBytes: random.pick([64 * KIB, 16 * MIB]),
    chunkTableBytes: random.pick([16 * KIB, MIB]),
    openChunkFiles: random.between(1, 8),
    logFileBytes: random.pick([64 * KIB, 128 * KIB, 256 * KIB]) * Math.max(1, blockSizeBytes / (16 * KIB)),
    logFileCount: random.between(3, 5),
    logInlineBytes: random.pick([0, 16 * KIB, 256 * KIB]),
    logInlineLatencyMs: random.pick([0.5, 5]),
    logInlineSyncLatencyMs: random.pick([0, 0.5]),
    batchBlocks: random.pick([1, 8, 1024]),
    batchMs: random.pick([1, 20, 200]),
    asyncIntervalMs: random.pick([5, 100, 1000]),
    flushBytes: random.pick([0, slabBytes, 4 * slabBytes]),
    flushIntervalMs: random.pick([20, 500, 5000, 60_000]),
    chunkConcurrency: random.between(1, 3),
    spareBytes: random.pick([0, 2 * slabBytes, 100 * slabBytes]),
    checkpointChunks: random.pick([1, 4, 32]),
    checkpointIntervalMs: random.pick([50, 1000, 10_000]),
    compactLivePercent: random.pick([0, 50, 90, 90]),
    compactSpacePercent: random.pick([110, 110, 130, 1_000_000]),
    compactBytesPerSecond: random.pick([64 * KIB, 16 * MIB, 1024 * MIB]),
    compactPauseMs: random.pick([1, 20, 1000]),
    retryMs: random.pick([1, 50]),
    idleCloseMs: 60_000,
  };
  return { settings, slabBytes };
}
