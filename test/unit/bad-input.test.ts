/** Damaged files of a volume: what is wrong is named, or nothing is lost; no read ever gives other bytes; nothing is deleted. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { KIB } from '../../src/base/units.ts';
import { NO_CHECKPOINT, decodeManifest, encodeManifest } from '../../src/format/manifest.ts';
import { createVolume } from '../../src/volume/create-volume.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { VolumeSet } from '../../src/volume/volume-set.ts';
import { BLOCK_BYTES, Scratch, SimMachine, nodeEnv, pattern, readAll, smallArena, smallSettings, snapshot } from '../support/engine-harness.ts';
import { SAMPLE_BYTES, SAMPLE_FILES, SAMPLE_SETTINGS, makeSample, sampleStates } from '../support/make-sample.ts';
import { text } from '../support/text.ts';

/** Without the mark, which is harmless, whatever happens to it: `byte-flip.test.ts` holds that. */
const NAMED_FILES = SAMPLE_FILES.filter((name) => name !== 'log/synced');

let scratch: Scratch;
let copies = 0;
let mine: Map<string, Buffer>;
let other: Map<string, Buffer>;
beforeAll(async () => {
  scratch = new Scratch();
  await makeSample(`${scratch.path}/mine`, 1);
  await makeSample(`${scratch.path}/other`, 2);
  mine = snapshot(`${scratch.path}/mine`);
  other = snapshot(`${scratch.path}/other`);
});
afterAll(() => scratch.remove());

function freshCopy(): string {
  copies += 1;
  const directory = `${scratch.path}/copy-${copies}`;
  cpSync(`${scratch.path}/mine`, directory, { recursive: true });
  return directory;
}

function open(directory: string): Promise<Volume> {
  return openVolume({ env: nodeEnv(), directory, settings: SAMPLE_SETTINGS, arena: smallArena(SAMPLE_SETTINGS) });
}

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] ^= 0x04;
  return copy;
}

/** For comparing: buffers themselves take `toEqual` a second. */
function digests(files: ReadonlyMap<string, Buffer>): string[] {
  return [...files].map(([name, bytes]) => `${name}: ${createHash('sha256').update(bytes).digest('hex')}`).toSorted();
}

/** Every block is as one of the `states` has it, the same one for all; or it cannot be read, and the error says which. */
async function checkContent(volume: Volume, states: readonly Buffer[]): Promise<string[]> {
  const candidates = new Set(states);
  const unreadable: string[] = [];
  for (let offset = 0; offset < SAMPLE_BYTES; offset += BLOCK_BYTES) {
    const block = Buffer.alloc(BLOCK_BYTES, 0xee);
    try {
      await volume.read(offset, block);
    } catch (error) {
      if (!(error instanceof VolumeError) || error.code !== 'corrupt') throw error;
      unreadable.push(error.message);
      continue;
    }
    for (const state of candidates) if (!state.subarray(offset, offset + BLOCK_BYTES).equals(block)) candidates.delete(state);
    expect(candidates.size, `block ${offset / BLOCK_BYTES} has bytes that it never had`).toBeGreaterThan(0);
  }
  return unreadable;
}

/** What a message calls a file. */
function calledBy(name: string): RegExp {
  const [log, chunk] = [/^log\/0(\d)\.log$/.exec(name), /^chunks\/c0*(\d+)-/.exec(name)];
  const path = name.replaceAll('.', '\\.');
  if (log !== null) return new RegExp(`log file ${log[1]}|${path}`);
  return new RegExp(chunk === null ? path : `follows chunk ${chunk[1]}, |${path}`);
}

/** Opens a volume in a simulated machine; its refusal is an answer, too. */
async function tryOpen(machine: SimMachine): Promise<Volume | VolumeError> {
  try {
    return await machine.open('/v');
  } catch (error) {
    if (error instanceof VolumeError) return error;
    throw error;
  }
}

interface Outcome {
  readonly refused: VolumeError | null;
  readonly unreadable: readonly string[];
}

/** Opens a volume of which one file is damaged (null: missing), and holds it to the rules. */
function openDamaged(name: string, bytes: Buffer | null, states = sampleStates()): Promise<Outcome> {
  const machine = new SimMachine(SAMPLE_SETTINGS);
  const before = new Map(mine);
  if (bytes === null) before.delete(name);
  else before.set(name, bytes);
  machine.load('/v', before);
  return machine.run(async () => {
    const opened = await tryOpen(machine);
    if (!(opened instanceof VolumeError)) {
      const unreadable = await checkContent(opened, states);
      const unnamed = unreadable.find((message) => !calledBy(name).test(message));
      if (unnamed !== undefined) throw new Error(`a read failed without naming ${name}: ${unnamed}`);
      await opened.close();
      return { refused: null, unreadable };
    }
    expect(opened.message).toMatch(calledBy(name));
    expect(opened.code).toMatch(/^(?:corrupt|unsupported)$/);
    expect(digests(machine.snapshot('/v'))).toEqual(digests(before));
    // It is refused again, for the same reason, and its lock is free.
    expect(await tryOpen(machine)).toMatchObject({ code: opened.code, message: opened.message });
    return { refused: opened, unreadable: [] };
  });
}

function whole(name: string): Buffer {
  const bytes = mine.get(name);
  if (bytes === undefined) throw new Error(`the sample has no ${name}`);
  return bytes;
}

describe.each(NAMED_FILES)('a damaged %s', (name) => {
  test('with one bit flipped anywhere is named, or every block that can be read is right', async () => {
    const bytes = whole(name);
    const { length } = bytes;
    const positions = new Set([0, 9, 20, 33, 44, 63, 70, 89, 100, length - 1, length - 5, length - 20, length - 40, length - 64]);
    for (let i = 1; i < 16; i += 1) positions.add(Math.floor((length * i) / 16));
    let found = 0;
    for (const at of positions) {
      const { refused, unreadable } = await openDamaged(name, flipped(bytes, at));
      for (const message of [...(refused === null ? [] : [refused.message]), ...unreadable]) expect(message, `byte ${at}`).toMatch(/byte \d+/);
      if (refused !== null || unreadable.length > 0) found += 1;
    }
    expect(found).toBeGreaterThan(4);
  });

  test('that is cut anywhere is named, or every block that can be read is right', async () => {
    const bytes = whole(name);
    for (const kept of [0, 1, 63, 64, 95, 96, 512, 4096, 5000, Math.floor(bytes.length / 2), bytes.length - 64, bytes.length - 1]) {
      if (kept >= bytes.length || kept < 0) continue;
      // A log that ends before the first record that says what had been synced looks like one that was never written further.
      const { refused, unreadable } = await openDamaged(name, bytes.subarray(0, kept), sampleStates(name.startsWith('log') ? 'chunked' : 'synced'));
      expect(name.startsWith('log') || refused !== null || unreadable.length > 0, `${kept} bytes`).toBe(true);
    }
  });

  test('that is another volume\'s is named', async () => {
    const bytes = other.get(name) ?? Buffer.alloc(0);
    expect(bytes.length).toBe(whole(name).length);
    if (name === 'manifest') return; // it is whole: that the other files are not of its volume is what is found, below
    const { refused, unreadable } = await openDamaged(name, bytes);
    expect([refused?.message ?? '', ...unreadable].join('\n')).toMatch(/another volume/);
  });
});

describe('a missing file', () => {
  test.each(NAMED_FILES.filter((name) => name !== 'manifest' && !name.startsWith('chunks/c0000000003')))('%s is named', async (name) => {
    const { refused } = await openDamaged(name, null);
    expect(refused).toMatchObject({ code: 'corrupt', message: text(/missing/) });
  });

  test('a chunk whose records are still in the log is made again', async () => {
    expect(await openDamaged('chunks/c0000000003-e000002', null)).toEqual({ refused: null, unreadable: [] });
  });

  test('a manifest is named; without it and its copy there is no volume', async () => {
    const directory = freshCopy();
    rmSync(`${directory}/manifest`);
    await expect(open(directory)).rejects.toMatchObject({ code: 'corrupt', message: text('manifest is missing, its copy is there; basalt check') });
    rmSync(`${directory}/manifest-copy`);
    const before = snapshot(directory);
    await expect(open(directory)).rejects.toMatchObject({ code: 'not-found', message: text(`${directory}/manifest`) });
    expect(digests(snapshot(directory))).toEqual(digests(before));
  });

  test('a log file is named though nothing was ever in it', async () => {
    const { refused } = await openDamaged('log/02.log', null);
    expect(refused?.message).toMatch(/log\/02\.log is missing/);
  });
});

/** The damaged files, opened: what is said, and what is on the disk afterwards but for the manifest. */
async function refusal(files: ReadonlyMap<string, Buffer>): Promise<VolumeError> {
  const machine = new SimMachine(SAMPLE_SETTINGS);
  machine.load('/v', files);
  return machine.run(async () => {
    const opened = await tryOpen(machine);
    if (!(opened instanceof VolumeError)) throw new Error('the volume was opened');
    const after = machine.snapshot('/v');
    after.set('manifest', files.get('manifest') ?? Buffer.alloc(0));
    expect(digests(after)).toEqual(digests(files));
    return opened;
  });
}

describe('a volume is refused, and nothing of it is deleted', () => {
  test('when its manifest is another volume\'s', async () => {
    const error = await refusal(new Map([...mine, ['manifest', other.get('manifest') ?? Buffer.alloc(0)]]));
    expect(error).toMatchObject({ code: 'corrupt', message: text('another volume') });
  });

  test('when its manifest is another volume\'s, one that knows of no checkpoint', async () => {
    const manifest = decodeManifest(other.get('manifest') ?? Buffer.alloc(0), 'manifest');
    const error = await refusal(new Map([...mine, ['manifest', Buffer.from(encodeManifest({ ...manifest, checkpoint: NO_CHECKPOINT }))]]));
    expect(error).toMatchObject({ code: 'corrupt', message: text('another volume') });
  });

  test('when its manifest says that it had more records synced than there are', async () => {
    const manifest = decodeManifest(whole('manifest'), 'manifest');
    const error = await refusal(new Map([...mine, ['manifest', Buffer.from(encodeManifest({ ...manifest, cut: { epoch: 2, lsn: 1000 } }))]]));
    expect(error).toMatchObject({ code: 'corrupt', message: text(/the log is damaged: log file 0, byte \d+, expected LSN 13.*up to LSN 1000 had been synced/) });
  });

  test('when a chunk has the name of another', async () => {
    const files = new Map(mine);
    files.set('chunks/c0000000004-e000002', whole('chunks/c0000000003-e000002'));
    files.delete('chunks/c0000000003-e000002');
    expect((await refusal(files)).message).toMatch(/c0000000004-e000002: chunk number 3, expected 4, at byte 40/);
  });

  test('when a chunk is there twice', async () => {
    const error = await refusal(new Map([...mine, ['chunks/c0000000001-e000002', whole('chunks/c0000000001-e000001')]]));
    expect(error.message).toMatch(/chunk 1 is there twice, of epochs 1 and 2/);
  });
});

test('a file that nobody knows is left alone, and logged', async () => {
  const directory = freshCopy();
  writeFileSync(`${directory}/chunks/notes.txt`, 'mine');
  const volume = await open(directory);
  expect(await checkContent(volume, sampleStates())).toEqual([]);
  await volume.close();
  expect(readFileSync(`${directory}/chunks/notes.txt`, 'utf8')).toBe('mine');
});

describe('a volume that is open in another process', () => {
  test('is refused, and can be opened as soon as that process is dead, however it died', async () => {
    const directory = freshCopy();
    const holder = spawn('flock', ['-F', '-x', `${directory}/lock`, 'sh', '-c', 'echo held; exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(holder.stdout, 'data');
    const before = snapshot(directory);
    await expect(open(directory)).rejects.toMatchObject({ code: 'in-use', message: text('another process') });
    expect(digests(snapshot(directory))).toEqual(digests(before));
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    const volume = await open(directory);
    await expect(open(directory)).rejects.toMatchObject({ code: 'in-use' });
    await volume.close();
  });
});

describe('making a volume', () => {
  const settings = smallSettings();
  const create = (directory: string, changes: { sizeBytes?: number; blockSizeBytes?: number } = {}): Promise<void> =>
    createVolume({ env: nodeEnv(), directory, settings, create: { sizeBytes: 64 * KIB, blockSizeBytes: BLOCK_BYTES, durability: 'strict', ...changes } });

  test.each([
    ['a size that is no multiple of the block size', { sizeBytes: 4097 }, /not a multiple.*nearest are 4096 and 8192/],
    ['no size', { sizeBytes: 0 }, /not a positive whole number/],
    ['a negative size', { sizeBytes: -4096 }, /not a positive whole number/],
    ['half a byte', { sizeBytes: 4096.5 }, /not a positive whole number/],
    ['more than can be counted', { sizeBytes: 2 ** 60 }, /below 2\^53/],
    ['a block size that is no power of two', { blockSizeBytes: 5000 }, /block size 5000/],
    ['a block size that is too small', { blockSizeBytes: 512 }, /4096 to 65536/],
    ['a block size that is too large', { blockSizeBytes: 131072 }, /4096 to 65536/],
  ])('with %s is refused, and nothing is made', async (_, changes, message) => {
    const parent = new Scratch();
    await expect(create(`${parent.path}/v`, changes)).rejects.toMatchObject({ code: 'invalid-argument', message: text(message) });
    expect(await nodeEnv().files.list(parent.path)).toEqual([]);
    parent.remove();
  });

  test('under a name that is taken is refused, and what is there stays as it is', async () => {
    const parent = new Scratch();
    await create(`${parent.path}/v`);
    const before = snapshot(parent.path);
    await expect(create(`${parent.path}/v`)).rejects.toMatchObject({ code: 'already-exists' });
    expect(digests(snapshot(parent.path))).toEqual(digests(before));
    parent.remove();
  });

  test('in a directory that is not there is refused', async () => {
    await expect(create(`${scratch.path}/nowhere/v`)).rejects.toMatchObject({ code: 'not-found' });
  });

  test('with a log ring that no volume can have is refused', async () => {
    const parent = new Scratch();
    const tooFew = createVolume({ env: nodeEnv(), directory: `${parent.path}/v`, settings: smallSettings({ logFileCount: 2 }), create: { sizeBytes: 64 * KIB, blockSizeBytes: BLOCK_BYTES, durability: 'strict' } });
    await expect(tooFew).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(await nodeEnv().files.list(parent.path)).toEqual([]);
    parent.remove();
  });

  test.each([
    ['with a slash', 'a/b', /"\/"/],
    ['with a NUL', 'a\0b', /NUL/],
    ['that is empty', '', /empty/],
    ['that begins with a dot', '..', /dot/],
    ['that is too long', 'x'.repeat(256), /256 bytes/],
    ['whose bytes are too many', '\u00e9'.repeat(128), /256 bytes/],
  ])('under a name %s is refused', async (_, name, message) => {
    const parent = new Scratch();
    const volumes = new VolumeSet({ env: nodeEnv(), directory: parent.path, settings: { ...settings, arenaBytes: 32 * 4 * 1024 * KIB, dirtyBytes: 16 * 4 * 1024 * KIB } });
    for (const attempt of [
      () => volumes.create(name, { sizeBytes: 64 * KIB, blockSizeBytes: BLOCK_BYTES, durability: 'strict' }),
      () => volumes.describe(name),
      () => volumes.acquire(name),
      () => volumes.remove(name),
    ]) {
      await expect(attempt()).rejects.toMatchObject({ code: 'invalid-argument', message: text(message) });
    }
    expect(await nodeEnv().files.list(parent.path)).toEqual([]);
    parent.remove();
  });
});

test('an opening that failed leaves the volume as useful as it was', async () => {
  const directory = freshCopy();
  const chunk = readFileSync(`${directory}/chunks/c0000000002-e000002`);
  writeFileSync(`${directory}/chunks/c0000000002-e000002`, flipped(chunk, 41));
  await expect(open(directory)).rejects.toMatchObject({ code: 'corrupt' });
  writeFileSync(`${directory}/chunks/c0000000002-e000002`, chunk);
  const volume = await open(directory);
  expect((await readAll(volume)).equals(sampleStates().at(-1) ?? Buffer.alloc(0))).toBe(true);
  await volume.write(0, pattern(5), false);
  await volume.close();
});
