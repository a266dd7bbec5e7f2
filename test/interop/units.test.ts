/** The units of systemd/, looked at by systemd itself. */
import { readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Scratch } from '../support/engine-harness.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';
import { interopTest, runTool } from './tools.ts';

const units = readdirSync(join(PROJECT_ROOT, 'systemd')).filter((name) => /\.(?:service|socket)$/.test(name));
const scratch = new Scratch();
afterAll(() => scratch.remove());

test('there are units', () => {
  expect(units).toContain('basalt-attach@.service');
});

for (const unit of units) {
  // A template is looked at as one of its instances.
  const path = join(scratch.path, unit.replace('@.', '@demo.'));
  symlinkSync(join(PROJECT_ROOT, 'systemd', unit), path);

  interopTest(['systemd-analyze'], `${unit} passes systemd-analyze verify`, async () => {
    // The programs of this unit are found by PATH; others that it wants may not be on this machine.
    const { status, out, error } = await runTool('systemd-analyze', ['verify', path]);
    expect(`${out}${error}`.split('\n').filter((line) => line.includes(unit.split('@')[0]))).toEqual([]);
    expect(status, error).toBe(0);
  });

  interopTest(['systemd-analyze'], `${unit} is hardened: systemd-analyze security finds it at most 4.0 of 10`, async () => {
    const { out } = await runTool('systemd-analyze', ['security', '--offline=true', '--threshold=40', path]);
    const level = /exposure level for [^:]+: ([\d.]+)/.exec(out)?.[1];
    expect(Number(level)).toBeLessThanOrEqual(4);
  });
}
