/** One rotten byte of the manifest made the whole volume unreadable for ever, though all else was there: there was no second copy. */
import { beforeAll, describe, expect, test } from 'vitest';
import { MIB } from '../../src/base/units.ts';
import { checkVolume } from '../../src/volume/check.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import { type RepairReport, repairVolume } from '../../src/volume/repair.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { type VolumeFiles, fileOf, flipped, makeDurable, toolOptions, tryOpen, withFile } from '../support/damaged-volumes.ts';
import { BLOCK_BYTES, SimMachine, pattern, smallArena, smallSettings } from '../support/engine-harness.ts';
import { text } from '../support/text.ts';

const SETTINGS = smallSettings();
const COPY = 'manifest-copy';
/** As many opened volumes as `useVolume` makes. */
const LIVES = 4;

function options(machine: SimMachine) {
  return { ...toolOptions(machine), settings: SETTINGS };
}

function machineOf(files: VolumeFiles): SimMachine {
  const machine = new SimMachine(SETTINGS);
  machine.load('/v', files);
  return machine;
}

function repair(machine: SimMachine, apply = true): Promise<RepairReport> {
  return repairVolume({ ...options(machine), apply, uncertain: 'lost' });
}

/** Writes and flushes, in each life one block anew and one that all lives write; every second one is closed, the others are killed. */
async function useVolume(machine: SimMachine, flushed: (life: number) => void): Promise<void> {
  for (let life = 1; life <= LIVES; life += 1) {
    const volume = await machine.open('/v');
    await volume.write(0, pattern(life), false);
    await volume.write(life * BLOCK_BYTES, pattern(life), false);
    await volume.flush();
    flushed(life);
    if (life % 2 === 0) await volume.close();
    else machine.restart();
  }
}

async function usedVolume(): Promise<{ files: VolumeFiles; copies: readonly Buffer[] }> {
  const machine = new SimMachine(SETTINGS);
  const copies: Buffer[] = [];
  await machine.run(async () => {
    await machine.create('/v', { sizeBytes: 4 * MIB });
    await useVolume(machine, () => copies.push(machine.bytesOf(`/v/${COPY}`)));
  });
  return { files: machine.snapshot('/v'), copies };
}

async function expectContent(machine: SimMachine, lives: number): Promise<void> {
  const volume: Volume = await machine.open('/v');
  const found = Buffer.alloc(BLOCK_BYTES);
  for (let block = 0; block <= lives; block += 1) {
    await volume.read(block * BLOCK_BYTES, found);
    expect(found.equals(pattern(block === 0 ? lives : block)), `block ${block}`).toBe(true);
  }
  await volume.close();
  expect(await checkVolume({ ...options(machine), deep: true })).toMatchObject({ isClean: true, notes: [] });
}

let used: { files: VolumeFiles; copies: readonly Buffer[] };
let rotten: VolumeFiles;
beforeAll(async () => {
  used = await usedVolume();
  rotten = withFile(used.files, 'manifest', flipped(fileOf(used.files, 'manifest'), 77));
});

test('the copy is the manifest, byte for byte, after every opening and checkpoint', () => {
  expect(fileOf(used.files, COPY).equals(fileOf(used.files, 'manifest'))).toBe(true);
});

describe.each(['rotten', 'missing'])('a manifest that is %s', (how) => {
  const files = (): VolumeFiles => (how === 'rotten' ? rotten : withFile(used.files, 'manifest', null));

  test('is refused by an opening, and check and the plan of a repair say what can be done, changing nothing', async () => {
    const machine = machineOf(files());
    await machine.run(async () => {
      expect(await tryOpen(machine)).toMatchObject({ code: 'corrupt', message: text('basalt repair') });
      expect(await checkVolume({ ...options(machine), deep: false })).toMatchObject({ findings: [{ file: 'manifest', needsRepair: true, advice: text('basalt repair v') }] });
      const plan = await repair(machine, false);
      expect(plan).toMatchObject({ state: 'planned', lost: [], setBack: [] });
      expect(plan.steps[0]).toContain('manifest-copy');
    });
    expect(machine.snapshot('/v').get('manifest')).toEqual(files().get('manifest'));
  });

  test('is made anew from its copy by a repair: nothing is lost, and what was there is kept', async () => {
    const machine = machineOf(files());
    await machine.run(async () => {
      expect(await repair(machine)).toMatchObject({ state: 'repaired', lost: [], setBack: [], findings: [{ file: 'manifest' }] });
      const kept = machine.snapshot('/v').get('kept-aside/1/manifest');
      expect(kept).toEqual(files().get('manifest') ?? files().get(COPY));
      await expectContent(machine, LIVES);
    });
  });
});

test.each([1, 2, 3])('nor is anything lost with a copy as old as life %i of 4, which a power cut may leave', async (life) => {
  const machine = machineOf(withFile(rotten, COPY, used.copies[life - 1]));
  await machine.run(async () => {
    expect(await repair(machine)).toMatchObject({ state: 'repaired', lost: [], setBack: [] });
    await expectContent(machine, LIVES);
  });
});

test('without a sound copy there is no repair, and nothing is changed', async () => {
  const files = withFile(rotten, COPY, flipped(fileOf(used.files, COPY), 78));
  const machine = machineOf(files);
  await machine.run(async () => {
    await expect(repair(machine)).rejects.toMatchObject({ code: 'corrupt', message: text('manifest') });
    expect(await checkVolume({ ...options(machine), deep: false })).toMatchObject({ findings: [{ file: 'manifest', needsRepair: false }] });
  });
  expect(machine.snapshot('/v').size).toBe(files.size);
});

test('a copy that cannot be written fails nothing, and is warned of once', async () => {
  const machine = new SimMachine(SETTINGS);
  machine.fault = (call) => (call.path === `/v/${COPY}` ? { kind: 'error', code: 'EIO' } : null);
  const { env } = machine;
  const warned: string[] = [];
  const logger = { log: (level: string, event: string): void => void (level === 'warn' && warned.push(event)) };
  await machine.run(async () => {
    await machine.create('/v', { sizeBytes: 4 * MIB });
    const volume = await openVolume({ env: { clock: env.clock, files: env.files, random: env.random, workers: env.workers, memory: env.memory, logger }, directory: '/v', settings: SETTINGS, arena: smallArena(SETTINGS) });
    await volume.write(0, pattern(1), true);
    await volume.close();
  });
  expect(warned).toEqual(['no-manifest-copy']);
  expect(machine.snapshot('/v').has('manifest')).toBe(true);
});

/** Opens, writes, flushes and closes the volume three times. */
async function threeSessions(machine: SimMachine, flushed: (life: number) => void): Promise<void> {
  for (let life = 1; life <= 3; life += 1) {
    const volume = await machine.open('/v');
    await volume.write(life * BLOCK_BYTES, pattern(life), false);
    await volume.flush();
    flushed(life);
    await volume.close();
  }
}

/** Breaks a byte of the manifest that a dead process left, and repairs; what was flushed must be there. */
async function rotAndRepair(machine: SimMachine, lives: number, what: string): Promise<void> {
  machine.disk.write(machine.disk.findFile('/v/manifest'), flipped(machine.bytesOf('/v/manifest'), 60), 0);
  expect(await repair(machine), what).toMatchObject({ lost: [], setBack: [] });
  const volume = await machine.open('/v');
  const found = Buffer.alloc(BLOCK_BYTES);
  for (let block = 1; block <= lives; block += 1) {
    await volume.read(block * BLOCK_BYTES, found);
    expect(found.equals(pattern(block)), `${what}, block ${block}`).toBe(true);
  }
  await volume.close();
}

/** Lets the process die at call `index` of `task`; false if it has fewer calls, or if the call is inside a write of the copy, which may tear it. */
async function killAt(machine: SimMachine, index: number, task: () => Promise<unknown>): Promise<boolean> {
  const { process } = machine;
  const first = machine.calls.length;
  machine.fault = (call) => (machine.calls.length === first + index + 1 ? { kind: 'crash', when: call.path === `/v/${COPY}` ? 'before' : 'during' } : null);
  await machine.run(() => Promise.race([task().then(() => undefined), process.death]));
  machine.fault = () => null;
  const isDead = !process.alive;
  if (isDead) machine.restart();
  return isDead;
}

test('a process that is killed at any call leaves a copy with which nothing that was flushed is lost, should the manifest rot then', async () => {
  let repairs = 0;
  for (let index = 0; ; index += 1) {
    const machine = new SimMachine(SETTINGS);
    await machine.run(() => machine.create('/v', { sizeBytes: 4 * MIB }));
    let lives = 0;
    const isDead = await killAt(machine, index, () => threeSessions(machine, (life) => void (lives = life)));
    if (!isDead) break;
    if ((machine.snapshot('/v').get(COPY)?.length ?? 0) === 0) continue; // the first opening had not got that far
    repairs += 1;
    await machine.run(() => rotAndRepair(machine, lives, `call ${index}`));
  }
  expect(repairs).toBeGreaterThan(50);
});

test('so does a repair that is killed at any call', async () => {
  const files = withFile(used.files, [...used.files.keys()].find((name) => name.startsWith('checkpoints/')) ?? '', null);
  let repairs = 0;
  for (let index = 0; ; index += 1) {
    const machine = machineOf(files);
    await machine.run(() => makeDurable(machine));
    if (!(await killAt(machine, index, () => repair(machine)))) break;
    repairs += 1;
    await machine.run(() => rotAndRepair(machine, LIVES, `call ${index}`));
  }
  expect(repairs).toBeGreaterThan(50);
});
