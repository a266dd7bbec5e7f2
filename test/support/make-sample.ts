/**
 * Makes the small volumes that are kept in `volumes`, and says what is in them: `sample` has nothing but structures of version 1,
 * `sample-2` a log of version 2, `sample-3` chunks of version 2. Each is made once and must stay readable for ever; to make them again:
 *
 *     BASALT_WRITE_SAMPLE=1 npx vitest run test/unit/sample.test.ts
 *
 * It was copied away while it was open, as a killed process leaves it: a checkpoint, chunks that it covers, chunks behind it,
 * ranges of zeroes in both, and records in the log that are in no chunk.
 */
import { cpSync, readFileSync, rmSync } from 'node:fs';
import type { EngineSettings } from '../../src/base/settings-types.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { NodeFileSystem } from '../../src/env/node-files.ts';
import { NodeMemory } from '../../src/env/node-memory.ts';
import { decodeSyncedMark } from '../../src/format/synced-mark.ts';
import { createVolume } from '../../src/volume/create-volume.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { SeededRandom } from '../sim/random.ts';
import { BLOCK_BYTES, Scratch, smallArena, smallSettings } from './engine-harness.ts';
import { ManualClock, MemoryLogger, inlineWorkers } from './fake-world.ts';

/** All files of the sample that hold anything. */
export const SAMPLE_FILES = [
  'manifest',
  'checkpoints/k0000000001-e000001',
  'chunks/c0000000001-e000001',
  'chunks/c0000000002-e000002',
  'chunks/c0000000003-e000002',
  'log/00.log',
  'log/synced',
] as const;

export const SAMPLE_BYTES = MIB;
const AGE_MS = 1000;
/** From a sync to the mark. */
const MARK_MS = 50;

export const SAMPLE_SETTINGS: EngineSettings = smallSettings({ logFileBytes: 64 * KIB, flushIntervalMs: AGE_MS });

/** What of a sample is compressed. */
export type SamplePacking = 'nothing' | 'log' | 'chunks';

type Operation =
  | { readonly kind: 'write'; readonly offsetBytes: number; readonly text: string; readonly lengthBytes: number }
  | { readonly kind: 'zero' | 'trim'; readonly offsetBytes: number; readonly lengthBytes: number };

function write(blockNumber: number, blockCount: number, text: string): Operation {
  return { kind: 'write', offsetBytes: blockNumber * BLOCK_BYTES, text, lengthBytes: blockCount * BLOCK_BYTES };
}

function empty(kind: 'zero' | 'trim', blockNumber: number, blockCount: number): Operation {
  return { kind, offsetBytes: blockNumber * BLOCK_BYTES, lengthBytes: blockCount * BLOCK_BYTES };
}

/** What the checkpoint covers. */
const CHECKPOINTED: readonly Operation[] = [write(0, 3, 'first'), write(100, 2, 'second'), empty('zero', 40, 4), write(255, 1, 'last block')];
/** In chunks behind the checkpoint: one list a set. */
const CHUNKED: readonly (readonly Operation[])[] = [
  [write(1, 1, 'overwritten'), empty('trim', 100, 1), write(42, 1, 'in the middle of zeroes')],
  [{ kind: 'write', offsetBytes: 2 * BLOCK_BYTES + 100, text: 'part of a block', lengthBytes: 500 }],
];
/** In the log only: synced, and then what was never synced. */
const SYNCED: readonly Operation[] = [write(7, 2, 'in the log'), empty('zero', 255, 1)];
const UNSYNCED: readonly Operation[] = [write(8, 1, 'in the log again'), write(200, 1, 'the newest')];

function apply(content: Buffer, operation: Operation): void {
  const { offsetBytes, lengthBytes } = operation;
  if (operation.kind === 'write') content.fill(`${operation.text}, `, offsetBytes, offsetBytes + lengthBytes);
  else content.fill(0, offsetBytes, offsetBytes + lengthBytes);
}

/** What the volume holds: after all that was `since`, and then after each further record. The last one is what it holds undamaged. */
export function sampleStates(since: 'chunked' | 'synced' = 'synced'): Buffer[] {
  const content = Buffer.alloc(SAMPLE_BYTES);
  const stored = [...CHECKPOINTED, ...CHUNKED.flat(), ...(since === 'synced' ? SYNCED : [])];
  for (const operation of stored) apply(content, operation);
  const states = [Buffer.from(content)];
  for (const operation of since === 'synced' ? UNSYNCED : [...SYNCED, ...UNSYNCED]) {
    apply(content, operation);
    states.push(Buffer.from(content));
  }
  return states;
}

async function perform(volume: Volume, operations: readonly Operation[]): Promise<void> {
  for (const operation of operations) {
    const { offsetBytes, lengthBytes } = operation;
    if (operation.kind === 'write') await volume.write(offsetBytes, Buffer.alloc(lengthBytes, `${operation.text}, `), false);
    else if (operation.kind === 'zero') await volume.zero(offsetBytes, lengthBytes, { provisioned: true, fua: false });
    else await volume.trim(offsetBytes, lengthBytes, false);
  }
}

/** Whether a mark is there that says something. */
function isMarked(path: string): boolean {
  return (decodeSyncedMark(readFileSync(path))?.lsn ?? 0) > 0;
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 100_000 && !condition(); i += 1) await new Promise((resolve) => setImmediate(resolve));
  if (!condition()) throw new Error('what the sample waits for did not happen');
}

/** Makes the sample in `target`, which is replaced. `seed` gives it its volume id; all else is the same for every seed. */
export async function makeSample(target: string, seed = 1, packing: SamplePacking = 'nothing'): Promise<void> {
  const scratch = new Scratch();
  const directory = `${scratch.path}/sample`;
  const clock = new ManualClock();
  const env = { clock, files: new NodeFileSystem(), random: new SeededRandom(seed), workers: inlineWorkers, memory: new NodeMemory(), logger: new MemoryLogger() };
  const settings: EngineSettings = { ...SAMPLE_SETTINGS, logCompress: packing === 'log' ? 'lz4' : 'off', chunkCompress: packing === 'chunks' ? 'lz4' : 'off' };
  const open = (): Promise<Volume> => openVolume({ env, directory, settings, arena: smallArena(settings) });
  try {
    await createVolume({ env, directory, settings, create: { sizeBytes: SAMPLE_BYTES, blockSizeBytes: BLOCK_BYTES, durability: 'relaxed' } });
    const first = await open();
    await perform(first, CHECKPOINTED);
    await first.close();
    const second = await open();
    for (const [index, operations] of CHUNKED.entries()) {
      await perform(second, operations);
      clock.advance(AGE_MS);
      await until(() => second.stats().chunksWritten === index + 1);
    }
    await perform(second, SYNCED);
    await second.flush();
    clock.advance(MARK_MS);
    await until(() => isMarked(`${directory}/log/synced`));
    await perform(second, UNSYNCED);
    rmSync(target, { recursive: true, force: true });
    cpSync(directory, target, { recursive: true });
    await second.close();
  } finally {
    scratch.remove();
  }
}
