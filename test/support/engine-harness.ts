/** Whole volumes in tests: with small memory and logs, in a temporary directory or on a simulated machine. */
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Arena } from '../../src/base/arena.ts';
import type { EngineSettings } from '../../src/base/settings-types.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import type { Env } from '../../src/env/env.ts';
import { NodeClock } from '../../src/env/node-env.ts';
import { NodeFileSystem } from '../../src/env/node-files.ts';
import { NodeMemory } from '../../src/env/node-memory.ts';
import { createVolume } from '../../src/volume/create-volume.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import type { CreateOptions } from '../../src/volume/volume-info.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { SimDisk } from '../sim/disk.ts';
import { SimEnv } from '../sim/env.ts';
import type { Fault, FileCall } from '../sim/faults.ts';
import { SimLocks } from '../sim/file-system.ts';
import { SimProcess } from '../sim/process.ts';
import { SeededRandom } from '../sim/random.ts';
import { realEngine } from '../sim/real-engine.ts';
import { Scheduler } from '../sim/scheduler.ts';
import { Trace } from '../sim/trace.ts';
import { inlineWorkers, MemoryLogger } from './fake-world.ts';

export const BLOCK_BYTES = 4096;
/** 16 blocks. */
export const SLAB_BYTES = 64 * KIB;

const HOUR_MS = 3_600_000;

/** Small memory and logs; nothing goes to chunks or checkpoints by itself but for want of room. */
export function smallSettings(changes: Partial<EngineSettings> = {}): EngineSettings {
  return {
    arenaBytes: 24 * SLAB_BYTES,
    dirtyBytes: 16 * SLAB_BYTES,
    indexBytes: 16 * MIB,
    chunkTableBytes: MIB,
    frameCacheBytes: 256 * KIB,
    openChunkFiles: 8,
    logFileBytes: MIB,
    eraseBlockBytes: 0,
    logFileCount: 3,
    logCompress: 'off',
    chunkCompress: 'off',
    logIo: 'buffered',
    logInlineBytes: 256 * KIB,
    logInlineLatencyMs: 1000,
    logInlineSyncLatencyMs: 0,
    batchBlocks: 65_536,
    batchMs: HOUR_MS,
    asyncIntervalMs: HOUR_MS,
    flushBytes: 12 * SLAB_BYTES,
    flushIntervalMs: HOUR_MS,
    chunkConcurrency: 2,
    spareBytes: 0,
    checkpointChunks: 1000,
    checkpointIntervalMs: HOUR_MS,
    compactLivePercent: 0,
    compactSpacePercent: 1_000_000,
    compactBytesPerSecond: MIB,
    compactPauseMs: HOUR_MS,
    scrubBytesPerSecond: 64 * MIB,
    retryMs: 10,
    idleCloseMs: HOUR_MS,
    ...changes,
  };
}

export function smallArena(settings: EngineSettings): Arena {
  return new Arena({ arenaBytes: settings.arenaBytes, dirtyBytes: settings.dirtyBytes, slabBytes: SLAB_BYTES });
}

/** `blockCount` blocks that nobody takes for zeroes or for one another. */
export function pattern(seed: number, blockCount = 1): Uint8Array {
  const bytes = new Uint8Array(blockCount * BLOCK_BYTES);
  new SeededRandom(seed).fill(bytes);
  return bytes;
}

/** The env of this machine, with the workers' tasks in this thread. */
export function nodeEnv(logger: MemoryLogger = new MemoryLogger()): Env {
  return { clock: new NodeClock(), files: new NodeFileSystem(), random: new SeededRandom(1), workers: inlineWorkers, memory: new NodeMemory(), logger };
}

/** A temporary directory that goes away with `remove`. */
export class Scratch {
  readonly path = mkdtempSync(join(tmpdir(), 'basalt-engine-'));

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Every file below a directory, by its relative path, and its bytes. */
export function snapshot(directory: string): Map<string, Buffer> {
  const found = new Map<string, Buffer>();
  if (!existsSync(directory)) return found;
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' }).toSorted()) {
    const path = join(directory, name);
    if (statSync(path).isFile()) found.set(name, readFileSync(path));
  }
  return found;
}

export async function readAll(volume: Volume): Promise<Buffer> {
  const target = Buffer.alloc(volume.sizeBytes);
  await volume.read(0, target);
  return target;
}

/** A simulated machine that runs one engine at a time. */
export class SimMachine {
  readonly scheduler = new Scheduler((timeMs) => this.trace.setTime(timeMs));
  readonly trace = new Trace();
  readonly disk = new SimDisk();
  readonly settings: EngineSettings;
  /** Asked at every call of the file system. */
  fault: (call: FileCall) => Fault | null = () => null;
  /** Every call of the file system so far. */
  readonly calls: FileCall[] = [];
  readonly #locks = new SimLocks();
  readonly #random: SeededRandom;
  #boots = 0;
  process: SimProcess;
  env: SimEnv;

  constructor(settings: EngineSettings = smallSettings(), seed = 1) {
    this.settings = settings;
    this.#random = new SeededRandom(seed);
    ({ process: this.process, env: this.env } = this.#boot());
  }

  #boot(): { process: SimProcess; env: SimEnv } {
    this.#boots += 1;
    const process = new SimProcess({ name: `p${this.#boots}`, scheduler: this.scheduler, trace: this.trace, random: this.#random.derive(`p${this.#boots}`) });
    const decide = (call: FileCall): Fault | null => {
      this.calls.push(call);
      return this.fault(call);
    };
    const profile = { name: 'quick', callMs: 0.01, syncMs: 0.05, inTurnMs: 0.001, stallChance: 0, stallMs: 0, refusesUncached: false };
    return { process, env: new SimEnv({ process, disk: this.disk, locks: this.#locks, profile, faults: { decide }, tasks: realEngine.tasks }) };
  }

  /** kill -9, and a new process on the same disk. */
  restart(): void {
    this.process.die();
    ({ process: this.process, env: this.env } = this.#boot());
  }

  run<T>(task: () => Promise<T>): Promise<T> {
    return this.scheduler.drive(task);
  }

  async create(directory: string, create: Partial<CreateOptions> = {}): Promise<void> {
    await createVolume({
      env: this.env,
      directory,
      settings: this.settings,
      create: { sizeBytes: 4 * MIB, blockSizeBytes: BLOCK_BYTES, durability: 'relaxed', ...create },
    });
  }

  open(directory: string, settings: EngineSettings = this.settings, arena: Arena = smallArena(settings)): Promise<Volume> {
    return openVolume({ env: this.env, directory, settings, arena });
  }

  names(directory: string): string[] {
    return [...this.disk.findDirectory(directory).entries.keys()].toSorted();
  }

  /** Puts the files of a snapshot below `directory`, which is made. */
  load(directory: string, files: ReadonlyMap<string, Buffer>): void {
    const folders = new Set(['', 'chunks', 'checkpoints', 'log']);
    for (const folder of folders) this.disk.makeDirectory(`${directory}/${folder}`);
    for (const [name, bytes] of files) this.disk.write(this.disk.createFile(`${directory}/${name}`), bytes, 0);
  }

  /** As `snapshot`, of a simulated directory. */
  snapshot(directory: string): Map<string, Buffer> {
    const found = new Map<string, Buffer>();
    for (const [name, node] of this.disk.findDirectory(directory).entries) {
      if (node.kind === 'file') found.set(name, this.bytesOf(`${directory}/${name}`));
      else for (const [inner, bytes] of this.snapshot(`${directory}/${name}`)) found.set(`${name}/${inner}`, bytes);
    }
    return found;
  }

  bytesOf(path: string): Buffer {
    const node = this.disk.findFile(path);
    const bytes = Buffer.alloc(node.sizeBytes);
    node.read(bytes, 0);
    return bytes;
  }
}
