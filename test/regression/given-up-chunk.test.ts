/**
 * A chunk behind the checkpoint that is damaged, with records that the log has no more: what was written there is given up, and a repair did not say so.
 */
import { expect, test } from 'vitest';
import { repairVolume } from '../../src/volume/repair.ts';
import { fileOf, flipped, toolOptions, withFile } from '../support/damaged-volumes.ts';
import { SimMachine, pattern, smallSettings } from '../support/engine-harness.ts';

const SETTINGS = smallSettings({ flushIntervalMs: 10 });

test('a repair says that it gives up what a damaged chunk alone had', async () => {
  const machine = new SimMachine(SETTINGS);
  await machine.run(async () => {
    await machine.create('/v');
    const first = await machine.open('/v');
    await first.write(0, pattern(1), false);
    await first.close();
    const second = await machine.open('/v');
    await second.write(0, pattern(2), false);
    await machine.process.sleep(100);
    machine.restart();
  });
  const files = machine.snapshot('/v');
  const before = [...files.keys()].filter((name) => name.startsWith('chunks/')).toSorted();
  expect(before.length).toBe(2);
  const chunk = fileOf(files, before[1]);
  // A power cut took what of the log was not synced: its chunk was durable. The chunk's footer rots.
  let damaged = withFile(files, before[1], flipped(chunk, chunk.length - 30));
  for (const name of files.keys()) if (name.startsWith('log/') && name.endsWith('.log')) damaged = withFile(damaged, name, Buffer.alloc(0));
  damaged = withFile(damaged, 'log/synced', null);
  const broken = new SimMachine(SETTINGS);
  await broken.run(async () => {
    broken.load('/v', damaged);
    const report = await repairVolume({ ...toolOptions(broken), settings: SETTINGS, apply: false, uncertain: 'lost' });
    expect(report.steps.join('\n')).toContain('What was written since is given up (which blocks is not known)');
  });
});
