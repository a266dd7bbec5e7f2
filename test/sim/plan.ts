/** What a world is made of, drawn from its seed: the volume, its settings, the machine, the clients and how often things go wrong. */
import { VOLUME_COMPRESSIONS } from '../../src/base/compression.ts';
import { DURABILITY_MODES, type Durability } from '../../src/base/durability.ts';
import { type EngineSettings, CHUNK_COMPRESSIONS, LOG_COMPRESSIONS, LOG_IO_MODES } from '../../src/base/settings-types.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import type { CreateOptions } from '../../src/volume/volume-info.ts';
import { POWER_CUT_MODES, type PowerCutMode } from './power-cut.ts';
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
  'compression',
] as const;
export type Operation = (typeof OPERATIONS)[number];

export interface Region {
  readonly firstBlock: number;
  readonly blockCount: number;
}

export interface VolumePlan {
  readonly create: CreateOptions;
  /** Groups of neighbouring blocks that requests go to; a large volume is mostly empty. */
  readonly regions: readonly Region[];
}

/** What else goes wrong in a life: each a part of all lives. */
export interface FaultPlan {
  /** Some calls fail: EIO, a full disk, a failed sync. */
  readonly errorChance: number;
  /** Some calls take long. */
  readonly slowChance: number;
  readonly slowMs: number;
  /** Only reads of chunks are slow, but many of them. */
  readonly slowReads: boolean;
  /** Some reads of chunks return rot. */
  readonly rotChance: number;
  /** Some reads of the log, of checkpoints or of chunks return rot while a volume is being opened. */
  readonly openingRotChance: number;
}

export interface WorldPlan {
  /** What kind of world this is: for the report of a failure. */
  readonly taste: Taste;
  /** One or more; they share the process and its memory. */
  readonly volumes: readonly VolumePlan[];
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
  /** Part of the lives in which each volume is scrubbed while clients use it, and of the scrubs that are given rot to read. */
  readonly scrubChance: number;
  readonly scrubRotChance: number;
  /** Part of the crashes at a call that count only the calls for one kind of file: checkpoints, the manifest, chunks. */
  readonly aimedCrashChance: number;
  /** What power cuts are like; more often what is in it more often. */
  readonly powerCutModes: readonly PowerCutMode[];
  /** Longest quiet time before a crash. */
  readonly quietMs: number;
  readonly faults: FaultPlan;
}

/**
 * Most worlds have a bit of everything. Some are made so that one rare thing happens often:
 * - `uniform`: records of one length: after a crash new ones lie exactly where old ones lay.
 * - `eager`: chunks that are durable long before the log is: what one has and the other lost must fit together.
 * - `seam`: both, with few records in a log file, so that runs of records that crashes cut off meet new ones.
 * - `idle`: clients that never flush and then are quiet: nothing but age makes their data durable.
 * - `failing`: a disk that fails at each life's turn, and a machine that lives on with what the page cache has.
 * - `merging`: parts of few blocks are written, with next to no memory and slow reads.
 * - `rewriting`: a few blocks are written again and again, so that slabs are merged; what overwrote their blocks is lost with the power.
 */
export const TASTES = ['usual', 'uniform', 'eager', 'seam', 'idle', 'merging', 'failing', 'rewriting'] as const;
export type Taste = (typeof TASTES)[number];
const TASTE_WEIGHTS: ReadonlyMap<Taste, number> = new Map([
  ['usual', 50],
  ['uniform', 10],
  ['eager', 10],
  ['seam', 12],
  ['idle', 8],
  ['merging', 10],
  ['failing', 10],
  ['rewriting', 10],
]);

/** `wanted`: the taste, where it is not to be left to chance. */
export function drawPlan(random: SeededRandom, wanted?: Taste): WorldPlan {
  const drawn = random.weighted(TASTE_WEIGHTS);
  const taste = wanted ?? drawn;
  const volumes = drawVolumes(random, taste);
  const blockSizeBytes = Math.max(...volumes.map(({ create }) => create.blockSizeBytes));
  const { settings, slabBytes } = drawSettings(random, blockSizeBytes);
  const plan: WorldPlan = {
    taste,
    volumes,
    settings,
    slabBytes,
    profile: random.pick(IO_PROFILES),
    lives: random.between(3, 8),
    operationsPerLife: random.skewed(20, 400),
    clients: random.between(volumes.length, 6),
    weights: drawWeights(random),
    maxRequestBlocks: random.skewed(1, 32),
    hotChance: random.pick([0, 0.5, 0.9]),
    hotBlocks: random.pick([1, 3, 8]),
    fuaChance: random.pick([0, 0.1, 0.5]),
    promisedChance: random.pick([0, 0.2, 1]),
    thinkMs: random.pick([0, 0.1, 1, 20]),
    pauseMs: random.pick([1, 100, 5000]),
    shortLifeChance: 0.2,
    exitChance: 0.25,
    powerCutChance: random.pick([0.2, 0.5, 0.9]),
    crashInCreateChance: 0.1,
    crashInOpenChance: 0.25,
    quietCrashChance: 0.3,
    diskFullChance: random.chance(0.3) ? 0.4 : 0,
    secondOpenerChance: 0.05,
    ...drawScrubs(random.derive('scrubs')),
    aimedCrashChance: 0.25,
    powerCutModes: POWER_CUT_MODES,
    quietMs: 20_000,
    faults: drawFaults(random),
  };
  return { ...plan, ...changesFor(taste, plan, random) };
}

/** What a taste makes different. */
function changesFor(taste: Taste, plan: WorldPlan, random: SeededRandom): Partial<WorldPlan> {
  const { settings } = plan;
  const uniform = { weights: UNIFORM_WEIGHTS, maxRequestBlocks: 1, shortLifeChance: 0.5, exitChance: 0.1, lives: random.between(6, 12) };
  const eagerSettings = { ...settings, flushBytes: 0, flushIntervalMs: 5, batchBlocks: 1024, batchMs: 1000, asyncIntervalMs: 1000 };
  const eager = { shortLifeChance: 0.5, exitChance: 0.1, lives: random.between(6, 12), powerCutChance: 0.9, crashInOpenChance: 0.1, quietCrashChance: 0.5 };
  switch (taste) {
    case 'usual':
      return {};
    case 'uniform':
      return uniform;
    case 'eager':
      return { ...eager, settings: eagerSettings };
    case 'seam':
      return { ...uniform, ...eager, ...seam(eagerSettings, random) };
    case 'idle':
      return {
        settings: { ...settings, flushBytes: 64 * plan.slabBytes, flushIntervalMs: 60_000, asyncIntervalMs: random.pick([5, 100]), batchMs: random.pick([1, 20, 200]) },
        weights: new Map([...plan.weights, ['flush', 0]]),
        fuaChance: 0,
        operationsPerLife: random.skewed(4, 40),
        maxRequestBlocks: 2,
        lives: random.between(6, 12),
        exitChance: 0.1,
        quietCrashChance: 0.9,
        powerCutChance: 0.9,
        powerCutModes: [...POWER_CUT_MODES, ...Array<PowerCutMode>(12).fill('nothing-kept')],
        crashInOpenChance: 0.05,
      };
    case 'failing':
      return {
        settings: { ...settings, flushIntervalMs: random.pick([500, 60_000]), flushBytes: 16 * plan.slabBytes },
        weights: new Map([...plan.weights, ['flush', 10]]),
        operationsPerLife: random.skewed(10, 80),
        lives: random.between(6, 12),
        exitChance: 0.3,
        powerCutChance: 0.4,
        powerCutModes: [...POWER_CUT_MODES, ...Array<PowerCutMode>(6).fill('nothing-kept')],
        crashInOpenChance: 0.1,
        quietMs: 200,
        faults: { errorChance: 0.5, slowChance: 0, slowMs: 0, slowReads: false, rotChance: 0, openingRotChance: 0 },
      };
    case 'rewriting':
      return { ...eager, ...rewriting(plan, random) };
    case 'merging':
      return {
        settings: { ...settings, arenaBytes: 4 * plan.slabBytes, dirtyBytes: 3 * plan.slabBytes, flushBytes: 0, flushIntervalMs: 20 },
        weights: new Map<Operation, number>([['write bytes', 40], ['write blocks', 20], ['read', 5], ['trim', 2], ['flush', 1]]),
        maxRequestBlocks: random.pick([1, 2, 8]),
        hotChance: random.pick([0.3, 0.8]),
        hotBlocks: random.pick([1, 3, 8]),
        clients: random.between(Math.max(3, plan.volumes.length), 6),
        thinkMs: random.pick([0, 0.1]),
        operationsPerLife: random.between(200, 500),
        lives: 3,
        faults: { errorChance: 0, rotChance: 0, openingRotChance: 0, slowChance: 0.9, slowMs: random.pick([20, 200]), slowReads: true },
      };
  }
}

/** More memory than the blocks take that are written, and no syncs: chunks are made of merged slabs when they come of age. */
function rewriting(plan: WorldPlan, random: SeededRandom): Partial<WorldPlan> {
  const { slabBytes, settings } = plan;
  const slots = slabBytes / Math.max(...plan.volumes.map(({ create }) => create.blockSizeBytes));
  return {
    settings: {
      ...settings,
      arenaBytes: 16 * slabBytes,
      dirtyBytes: 12 * slabBytes,
      flushBytes: 2 * slabBytes,
      flushIntervalMs: random.pick([5, 20, 100]),
      logFileBytes: Math.max(settings.logFileBytes, 8 * slabBytes),
      batchBlocks: 65_536,
      batchMs: 5000,
      asyncIntervalMs: 5000,
    },
    weights: new Map<Operation, number>([['write blocks', 60], ['write bytes', 5], ['read now', 5], ['trim', 1]]),
    maxRequestBlocks: random.pick([1, 1, 3]),
    hotChance: random.pick([0.8, 0.98]),
    hotBlocks: Math.max(2, Math.floor(slots * random.pick([0.5, 1, 1.5]))),
    fuaChance: 0,
    thinkMs: random.pick([0, 0.1]),
    exitChance: 0.1,
    powerCutChance: 0.9,
    quietCrashChance: 0.5,
    quietMs: 200,
    diskFullChance: 0,
    faults: NO_FAULT_PLAN,
  };
}

/** Few records in a log file; bursts that a crash cuts, and then a few records more, whose chunks outlive them. */
function seam(settings: EngineSettings, random: SeededRandom): Partial<WorldPlan> {
  return {
    settings: { ...settings, logFileBytes: 64 * KIB, logFileCount: random.between(4, 6), flushIntervalMs: random.pick([10, 30]) },
    operationsPerLife: random.between(12, 40),
    lives: random.between(12, 24),
    profile: random.pick(IO_PROFILES.filter(({ name }) => name !== 'card')),
    thinkMs: random.pick([0, 0, 0.1]),
    fuaChance: 0,
    diskFullChance: 0,
    // Long enough for chunks, too short for a sync.
    quietMs: 80,
    faults: NO_FAULT_PLAN,
  };
}

export const NO_FAULT_PLAN: FaultPlan = { errorChance: 0, slowChance: 0, slowMs: 0, slowReads: false, rotChance: 0, openingRotChance: 0 };

/** Drawn apart: worlds without scrubs are what they were before there were any. */
function drawScrubs(random: SeededRandom): Pick<WorldPlan, 'scrubChance' | 'scrubRotChance'> {
  return { scrubChance: random.pick([0, 0, 0.1, 0.5]), scrubRotChance: random.pick([0, 0.3, 0.9]) };
}

function drawFaults(random: SeededRandom): FaultPlan {
  return {
    errorChance: random.pick([0, 0, 0.3]),
    slowChance: random.pick([0, 0.3]),
    slowMs: random.pick([10, 1000, 30_000]),
    slowReads: false,
    rotChance: random.pick([0, 0, 0, 0.3]),
    openingRotChance: random.derive('rot at opening').pick([0, 0, 0.4]),
  };
}

/** One volume most of the time. */
function drawVolumes(random: SeededRandom, taste: Taste): VolumePlan[] {
  const count = taste === 'seam' ? 1 : random.pick([1, 1, 1, 2, 3]);
  return Array.from({ length: count }, () => drawVolume(random, taste));
}

function drawVolume(random: SeededRandom, taste: Taste): VolumePlan {
  const usualBytes = random.chance(0.75) ? 4 * KIB : random.pick([8 * KIB, 16 * KIB, 64 * KIB]);
  const blockSizeBytes = taste === 'seam' ? random.pick([8 * KIB, 16 * KIB]) : usualBytes;
  const blockCount = drawBlockCount(random, blockSizeBytes);
  const modes = taste === 'eager' || taste === 'seam' || taste === 'rewriting' ? LAZY_MODES : taste === 'idle' ? AGE_MODES : DURABILITY_MODES;
  // Drawn apart, as what changes it is: worlds that change nothing are what they were before a volume had a say in it.
  const compression = random.derive('compression of a volume').pick(['default', 'default', ...VOLUME_COMPRESSIONS] as const);
  return { create: { sizeBytes: blockCount * blockSizeBytes, blockSizeBytes, durability: random.pick<Durability>(modes), compression }, regions: drawRegions(random, blockCount) };
}

function drawBlockCount(random: SeededRandom, blockSizeBytes: number): number {
  const kind = random.unit();
  if (kind < 0.1) return random.between(1, 8);
  // Beyond what memory holds: many leaves of the block map, most of them absent.
  if (kind < 0.3) return random.skewed(2000, 1_000_000);
  return random.skewed(32, Math.max(64, (4 * MIB) / blockSizeBytes));
}

const LAZY_MODES = ['batched', 'relaxed', 'async'] as const;
/** Modes that make data durable by its age. */
const AGE_MODES = ['batched', 'async'] as const;

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
    compression: 0,
  };
  // What changes the mode, or compression, draws for itself: worlds that keep theirs are what they were without it.
  const changes = (['durability', 'compression'] as const).map((operation): [Operation, number] => {
    const own = random.derive(operation);
    return [operation, own.chance(0.4) ? own.pick([0.3, 1, 4]) : 0];
  });
  // Each world has its own taste: some hardly flush, some mostly trim.
  const tasted = OPERATIONS.filter((operation) => operation !== 'durability' && operation !== 'compression').map((operation): [Operation, number] => [operation, usual[operation] * random.pick([0.1, 1, 1, 1, 4])]);
  return new Map([...tasted, ...changes]);
}

function drawSettings(random: SeededRandom, blockSizeBytes: number): { readonly settings: EngineSettings; readonly slabBytes: number } {
  const slabBytes = Math.max(blockSizeBytes, random.pick([16 * KIB, 64 * KIB, 256 * KIB]));
  const dirtySlabs = random.between(3, 8);
  const settings: EngineSettings = {
    arenaBytes: slabBytes * (dirtySlabs + random.between(1, 6)),
    dirtyBytes: slabBytes * dirtySlabs,
    indexBytes: random.pick([64 * KIB, 16 * MIB]),
    chunkTableBytes: random.pick([16 * KIB, MIB]),
    frameCacheBytes: random.derive('frame cache').pick([0, 64 * KIB, MIB]),
    openChunkFiles: random.between(1, 8),
    logFileBytes: random.pick([64 * KIB, 128 * KIB, 256 * KIB]) * Math.max(1, blockSizeBytes / (16 * KIB)),
    logFileCount: random.between(3, 5),
    eraseBlockBytes: 0,
    // Drawn apart: worlds are otherwise what they were before there was a choice.
    logCompress: random.derive('log compress').pick(LOG_COMPRESSIONS),
    chunkCompress: random.derive('chunk compress').pick(CHUNK_COMPRESSIONS),
    logIo: random.derive('log io').pick(LOG_IO_MODES),
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
    scrubBytesPerSecond: 32 * MIB,
    retryMs: random.pick([1, 50]),
    idleCloseMs: 60_000,
  };
  return { settings, slabBytes };
}
