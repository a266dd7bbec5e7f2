/**
 * A manifest that is older than the other files, as from a backup: the next epoch would be one that was used, and what was written and
 * flushed in it would be cut off at the opening after that, without a word.
 */
import { expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { MIB } from '../../src/base/units.ts';
import { checkVolume } from '../../src/volume/check.ts';
import { openForServing } from '../../src/volume/open-read-only.ts';
import { damageOf } from '../../src/volume/probe-volume.ts';
import { repairVolume } from '../../src/volume/repair.ts';
import { digests, toolOptions, withFile } from '../support/damaged-volumes.ts';
import { BLOCK_BYTES, SimMachine, pattern, smallArena, smallSettings } from '../support/engine-harness.ts';

const SETTINGS = smallSettings();
const HOUR_MS = 3_600_000;

/** Three processes that were killed, each behind a flushed write; `manifests` are those of their times. */
async function threeLives(machine: SimMachine): Promise<readonly Buffer[]> {
  const manifests: Buffer[] = [];
  await machine.create('/v', { sizeBytes: 4 * MIB });
  for (let life = 1; life <= 3; life += 1) {
    const volume = await machine.open('/v');
    manifests.push(machine.bytesOf('/v/manifest'));
    await volume.write((life - 1) * BLOCK_BYTES, pattern(life), false);
    await volume.flush();
    machine.restart();
  }
  return manifests;
}

function withManifest(machine: SimMachine, manifest: Buffer): SimMachine {
  const damaged = new SimMachine(SETTINGS);
  damaged.load('/v', withFile(machine.snapshot('/v'), 'manifest', manifest));
  return damaged;
}

test.each([1, 2])('a manifest of life %i of 3 is refused, named by check, and nothing is changed', async (life) => {
  const machine = new SimMachine(smallSettings({ flushIntervalMs: HOUR_MS }));
  const manifests = await machine.run(() => threeLives(machine));
  const damaged = withManifest(machine, manifests[life - 1]);
  const before = digests(damaged.snapshot('/v'));
  await damaged.run(async () => {
    const options = { ...toolOptions(damaged), settings: SETTINGS, arena: smallArena(SETTINGS) };
    await expect(damaged.open('/v')).rejects.toMatchObject({ code: 'corrupt' });
    await expect(damaged.open('/v')).rejects.toThrow(/the manifest is older than log file \d: it knows of epochs up to \d, the file is of epoch \d/u);
    await expect(openForServing(options)).rejects.toBeInstanceOf(VolumeError);
    expect(await damageOf(options)).toMatch(/the manifest is older than log file/u);
    const { findings } = await checkVolume({ ...options, deep: true });
    expect(findings.map(({ file }) => file)).toEqual(['manifest']);
  });
  expect(digests(damaged.snapshot('/v'))).toEqual(before);
});

test.each([1, 2])('a volume with a manifest of life %i of 3 has all that was flushed once it is repaired, and keeps what is written then', async (life) => {
  const machine = new SimMachine(smallSettings({ flushIntervalMs: HOUR_MS }));
  const manifests = await machine.run(() => threeLives(machine));
  const damaged = withManifest(machine, manifests[life - 1]);
  await damaged.run(async () => {
    expect(await repairVolume({ ...toolOptions(damaged), settings: SETTINGS, apply: true, uncertain: null })).toMatchObject({ state: 'repaired', lost: [] });
    const volume = await damaged.open('/v');
    await volume.write(3 * BLOCK_BYTES, pattern(4), false);
    await volume.flush();
    damaged.restart();
    const again = await damaged.open('/v');
    for (let block = 0; block < 4; block += 1) {
      const found = Buffer.alloc(BLOCK_BYTES);
      await again.read(block * BLOCK_BYTES, found);
      expect(found.equals(pattern(block + 1)), `block ${block}`).toBe(true);
    }
    await again.close();
    expect(await checkVolume({ ...toolOptions(damaged), settings: SETTINGS, deep: true })).toMatchObject({ isClean: true });
  });
});
