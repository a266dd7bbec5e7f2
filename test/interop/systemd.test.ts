import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FakeCli } from '../support/cli-double.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';
import { interopTest, runTool } from './tools.ts';

const UNITS = join(PROJECT_ROOT, 'systemd');
const UNIT = /\.(?:service|socket)$/;
/** What each service may do, from 0 (nothing) to 10; without its restrictions it would be 9.2. The one that attaches needs netlink, devices and CAP_SYS_ADMIN. */
const EXPOSURE_MAX: ReadonlyMap<string, number> = new Map([['basalt.service', 2], ['basalt-attach@demo.service', 4]]);

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'basalt-units-'));
});
afterEach(() => rm(directory, { recursive: true }));

const instanceOf = (name: string): string => name.replace('@.', '@demo.');

/** Copies the units to where they name a program that is there, a template as one of its instances; the paths. */
async function copyUnits(change: (text: string) => string = (text) => text): Promise<string[]> {
  const names = (await readdir(UNITS)).filter((name) => UNIT.test(name));
  expect(names).toEqual(expect.arrayContaining(['basalt-attach@.service', 'basalt.service', 'basalt.socket']));
  for (const name of names) {
    const text = change(await readFile(join(UNITS, name), 'utf8'));
    await writeFile(join(directory, instanceOf(name)), text.replaceAll('/usr/bin/basalt', process.execPath));
  }
  return names.map((name) => join(directory, instanceOf(name)));
}

interopTest(['systemd-analyze'], 'the units are what systemd takes', async () => {
  const { status, out, error } = await runTool('systemd-analyze', ['verify', ...(await copyUnits())]);
  expect([status, out, error]).toEqual([0, '', '']);
});

interopTest(['systemd-analyze'], 'a slip in a unit is found', async () => {
  const units = await copyUnits((text) => text.replace('ProtectSystem=', 'ProtectSistem='));
  expect((await runTool('systemd-analyze', ['verify', ...units])).error).toContain("Unknown key 'ProtectSistem'");
});

interopTest(['systemd-analyze'], 'the services may do little', async () => {
  const services = (await copyUnits()).filter((path) => path.endsWith('.service'));
  expect(services.map((path) => basename(path)).toSorted()).toEqual([...EXPOSURE_MAX.keys()].toSorted());
  for (const [name, most] of EXPOSURE_MAX) {
    const { status, out } = await runTool('systemd-analyze', ['security', '--offline=true', `--threshold=${most * 10}`, join(directory, name)]);
    expect(status, out).toBe(0);
  }
});

test('the service starts what the command takes, and no more than once for settings that are refused', async () => {
  const text = await readFile(join(UNITS, 'basalt.service'), 'utf8');
  const words = /^ExecStart=\/usr\/bin\/basalt (.*)$/m.exec(text)?.[1]?.split(' ') ?? [];
  const cli = new FakeCli();
  cli.activated = [3, 4];
  expect(await cli.run(...words.filter((word) => !word.startsWith('$'))), cli.error).toBe(0);
  expect(cli.plans).toMatchObject([{ directory: '/var/lib/basalt', addresses: [], sockets: [], activated: [3, 4] }]);
  expect(await cli.run('serve', '--set', 'engine.arena=1G')).toBe(2);
  expect(text).toMatch(/^RestartPreventExitStatus=2$/m);
  // V8 could not run.
  expect(text).not.toMatch(/^MemoryDenyWriteExecute=/m);
});
