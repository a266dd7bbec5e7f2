/** A folder of a volume that is missing: the tools gave the system's error, and no finding or advice. */
import { beforeAll, describe, expect, test } from 'vitest';
import { damageOf } from '../../src/volume/probe-volume.ts';
import { type VolumeFiles, check, machineWith, repair, sampleFiles, toolOptions, tryOpen } from '../support/damaged-volumes.ts';
import { type SimMachine, readAll, smallArena } from '../support/engine-harness.ts';
import { SAMPLE_SETTINGS, sampleStates } from '../support/make-sample.ts';
import { text } from '../support/text.ts';

let sample: VolumeFiles;
beforeAll(async () => {
  sample = await sampleFiles();
});

async function without(folder: string): Promise<SimMachine> {
  const machine = machineWith(sample);
  await machine.run(() => machine.env.files.removeTree(`/v/${folder}`));
  return machine;
}

describe.each(['chunks', 'checkpoints', 'log'])('without its folder %s a volume', (folder) => {
  test('is not opened, and whoever looks at it says what is missing and what to do', async () => {
    const machine = await without(folder);
    const missing = text(new RegExp(`${folder}.*(?:missing|not there|does not exist).*basalt repair v`, 'u'));
    await machine.run(async () => {
      expect(await tryOpen(machine)).toMatchObject({ code: 'corrupt', message: missing });
      expect(await damageOf({ ...toolOptions(machine), arena: smallArena(SAMPLE_SETTINGS) })).toEqual(missing);
      const { findings } = await check(machine);
      expect(findings).toContainEqual(expect.objectContaining({ file: folder, problem: text('is missing'), advice: 'run: basalt repair v', needsRepair: true }));
      expect(await repair(machine, { apply: false })).toMatchObject({ state: 'planned' });
      expect(await machine.env.files.exists(`/v/${folder}`)).toBe(false);
    });
  });

  test('is repaired, also if that is interrupted: it opens, and works', async () => {
    const machine = await without(folder);
    const { process } = machine;
    machine.fault = (call) => (call.kind === 'rename' && call.path.startsWith('/v/.manifest-new') ? { kind: 'crash', when: 'before' } : null);
    await machine.run(() => Promise.race([repair(machine).then(() => undefined), process.death]));
    expect(process.alive).toBe(false);
    machine.fault = () => null;
    machine.restart();
    await machine.run(async () => {
      expect(await repair(machine)).toMatchObject({ state: 'repaired' });
      const volume = await machine.open('/v');
      await volume.write(0, Buffer.alloc(4096, 'new'), true);
      await volume.close();
      const { findings } = await check(machine);
      expect(findings.filter(({ needsRepair }) => needsRepair)).toEqual([]);
    });
  });
});

test('without its checkpoints a volume has all of its content back, as no chunk was ever removed', async () => {
  const machine = await without('checkpoints');
  await machine.run(async () => {
    expect(await repair(machine)).toMatchObject({ state: 'repaired', lost: [], uncertain: [] });
    const volume = await machine.open('/v');
    expect((await readAll(volume)).equals(sampleStates().at(-1) ?? Buffer.alloc(0))).toBe(true);
    await volume.close();
  });
});
