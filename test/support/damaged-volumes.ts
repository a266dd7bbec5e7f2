/** Copies of the sample volume with something wrong with them, on simulated machines. */
import { createHash } from 'node:crypto';
import { VolumeError } from '../../src/base/errors.ts';
import { type CheckReport, checkVolume } from '../../src/volume/check.ts';
import { type RepairOptions, type RepairReport, repairVolume } from '../../src/volume/repair.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, Scratch, SimMachine, snapshot } from './engine-harness.ts';
import { SAMPLE_BYTES, SAMPLE_SETTINGS, type SamplePacking, makeSample } from './make-sample.ts';

export type VolumeFiles = ReadonlyMap<string, Buffer>;

export const NO_PROGRESS = (): void => undefined;

/** The files of a sample volume; those of different seeds differ in their volume id alone. */
export async function sampleFiles(seed = 1, packing: SamplePacking = 'nothing'): Promise<VolumeFiles> {
  const scratch = new Scratch();
  try {
    await makeSample(`${scratch.path}/v`, seed, packing);
    return snapshot(`${scratch.path}/v`);
  } finally {
    scratch.remove();
  }
}

export function fileOf(files: VolumeFiles, name: string): Buffer {
  const bytes = files.get(name);
  if (bytes === undefined) throw new Error(`the sample has no ${name}`);
  return bytes;
}

/** The files with one of them replaced; null: without it. */
export function withFile(files: VolumeFiles, name: string, bytes: Buffer | null): VolumeFiles {
  const changed = new Map(files);
  if (bytes === null) changed.delete(name);
  else changed.set(name, bytes);
  return changed;
}

export function flipped(bytes: Buffer, at: number, mask = 0x04): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] ^= mask;
  return copy;
}

/** A simulated machine with the files as the volume `/v`. */
export function machineWith(files: VolumeFiles): SimMachine {
  const machine = new SimMachine(SAMPLE_SETTINGS);
  machine.load('/v', files);
  return machine;
}

export function toolOptions(machine: SimMachine) {
  return { env: machine.env, name: 'v', directory: '/v', settings: SAMPLE_SETTINGS, onProgress: NO_PROGRESS };
}

export function check(machine: SimMachine, deep = true): Promise<CheckReport> {
  return checkVolume({ ...toolOptions(machine), deep });
}

/** For comparing: buffers themselves take `toEqual` a second. */
export function digests(files: VolumeFiles): string[] {
  return [...files].map(([name, bytes]) => `${name}: ${createHash('sha256').update(bytes).digest('hex')}`).toSorted();
}

/** Opens the volume; its refusal is an answer, too. */
export async function tryOpen(machine: SimMachine): Promise<Volume | VolumeError> {
  try {
    return await machine.open('/v');
  } catch (error) {
    if (error instanceof VolumeError) return error;
    throw error;
  }
}

export interface Content {
  /** Numbers of the blocks that could not be read. */
  readonly unreadable: readonly number[];
  readonly messages: readonly string[];
  /** Those of the states that all blocks that could be read agree with. */
  readonly states: readonly Buffer[];
}

/** Reads all of a volume: at once, and where that fails, each half, down to single blocks. */
export async function readContent(volume: Pick<Volume, 'read'>, states: readonly Buffer[]): Promise<Content> {
  let agreeing = [...states];
  const unreadable: number[] = [];
  const messages: string[] = [];
  const read = async (start: number, end: number): Promise<void> => {
    const bytes = Buffer.alloc(end - start, 0xee);
    const message = await readProblem(volume, start, bytes);
    if (message === null) {
      agreeing = agreeing.filter((state) => state.subarray(start, end).equals(bytes));
    } else if (end - start === BLOCK_BYTES) {
      unreadable.push(start / BLOCK_BYTES);
      messages.push(message);
    } else {
      const before = unreadable.length;
      const middle = start + Math.ceil((end - start) / 2 / BLOCK_BYTES) * BLOCK_BYTES;
      await read(start, middle);
      await read(middle, end);
      if (unreadable.length === before) throw new Error(`bytes ${start} to ${end} can be read in halves, but not at once: ${message}`);
    }
  };
  await read(0, SAMPLE_BYTES);
  return { unreadable, messages, states: agreeing };
}

/** Why `target` could not be filled: a `corrupt` error's message; null if it was. */
async function readProblem(volume: Pick<Volume, 'read'>, offset: number, target: Buffer): Promise<string | null> {
  try {
    await volume.read(offset, target);
    return null;
  } catch (error) {
    if (!(error instanceof VolumeError) || error.code !== 'corrupt') throw error;
    return error.message;
  }
}

export function repair(machine: SimMachine, choice: Partial<Pick<RepairOptions, 'apply' | 'uncertain'>> = {}): Promise<RepairReport> {
  return repairVolume({ ...toolOptions(machine), apply: true, uncertain: 'lost', ...choice });
}

/** Makes all that was loaded survive a power cut. */
export async function makeDurable(machine: SimMachine): Promise<void> {
  const { files } = machine.env;
  for (const name of machine.snapshot('/v').keys()) {
    const file = await files.open(`/v/${name}`, 'write');
    await file.sync();
    await file.close();
  }
  for (const folder of ['/v/chunks', '/v/checkpoints', '/v/log', '/v', '/']) await files.syncDirectory(folder);
}

/** A volume of 4 MiB that `use` fills, opened and closed as often as it likes; its files afterwards. */
export async function filesAfter(use: (machine: SimMachine) => Promise<void>): Promise<VolumeFiles> {
  const machine = new SimMachine(SAMPLE_SETTINGS);
  await machine.run(async () => {
    await machine.create('/v');
    await use(machine);
  });
  return machine.snapshot('/v');
}
