import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { formatSize } from '../../src/base/units.ts';
import { loadSettings } from '../../src/config/load-settings.ts';
import { PROFILE_NAMES, PROFILES } from '../../src/config/profiles.ts';
import { buildSettings } from '../../src/config/settings.ts';
import { FakeCli } from '../support/cli-double.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';

const textOf = (name: string): string => readFileSync(join(PROJECT_ROOT, 'config', `${name}.toml`), 'utf8');
const SETTING_LINE = /^([a-z_]+) = /;

/** The settings without a reason: one that has no comment above it, nor stands below its pair (log_file_bytes, log_file_count). */
function withoutReason(text: string): string[] {
  const lines = text.split('\n');
  return lines.flatMap((line, index) => {
    const name = SETTING_LINE.exec(line)?.[1];
    if (name === undefined) return [];
    const above = lines[index - 1] ?? '';
    const first = name.split('_')[0] ?? '';
    return above.startsWith('# ') || (SETTING_LINE.test(above) && above.startsWith(`${first}_`)) ? [] : [name];
  });
}

test('the profiles are all files of config/ but the defaults', () => {
  const files = readdirSync(join(PROJECT_ROOT, 'config')).toSorted();
  expect(files).toEqual(['default', ...PROFILE_NAMES].map((name) => `${name}.toml`).toSorted());
  expect(Object.keys(PROFILES)).toEqual(PROFILE_NAMES);
});

describe.each(PROFILE_NAMES)('config/%s.toml', (name) => {
  const text = textOf(name);

  test('is accepted whole, each line of it', () => {
    const { origins } = loadSettings({ toml: { name, text } });
    expect(origins.size).toBe(text.match(/^[a-z_]+ = /gm)?.length);
  });

  test('says why for each setting, and its own name where it says how to use it', () => {
    expect(withoutReason(text)).toEqual([]);
    expect(text).toContain(`basalt create ... --config ${name}.toml; basalt serve --config ${name}.toml`);
  });

  test('is the one that basalt settings prints', async () => {
    const cli = new FakeCli();
    expect(await cli.run('settings', '--profile', name)).toBe(0);
    expect(cli.out).toBe(text);
  });

  test('stands in the table of the README with the memory and the log that it has', () => {
    const { engine } = loadSettings({ toml: { name, text } }).settings;
    const row = readFileSync(join(PROJECT_ROOT, 'README.md'), 'utf8').split('\n').find((line) => line.startsWith(`| \`${name}\` |`)) ?? '';
    expect(row.split('|').slice(2, 5).map((cell) => cell.trim())).toEqual([PROFILES[name], formatSize(engine.arenaBytes), formatSize(engine.logFileBytes * engine.logFileCount)]);
  });
});

test('the README has the defaults right', () => {
  const { engine } = buildSettings();
  const row = readFileSync(join(PROJECT_ROOT, 'README.md'), 'utf8').split('\n').find((line) => line.startsWith('| none |')) ?? '';
  expect(row).toContain(`| ${formatSize(engine.arenaBytes)} | ${formatSize(engine.logFileBytes * engine.logFileCount)} |`);
});

test('log files on a card are whole erase blocks, and what goes to it is compressed', () => {
  const { engine } = loadSettings({ toml: { name: 'jetson-sd', text: textOf('jetson-sd') } }).settings;
  expect(engine.logFileBytes % engine.eraseBlockBytes).toBe(0);
  expect([engine.logCompress, engine.chunkCompress]).toEqual(['lz4', 'lz4']);
});

test('a setting without a reason is found', () => {
  expect(withoutReason('# why\na_b = 1\na_c = 2\nd_e = 3\n\nf = 4\n')).toEqual(['d_e', 'f']);
});

test('a profile that is none is refused with the nearest one, and no two files are asked for at once', async () => {
  const cli = new FakeCli();
  expect(await cli.run('settings', '--profile', 'jetson')).toBe(2);
  expect(cli.error).toContain('profile "jetson" is none of jetson-sd, nvme, wsl, s3, dev; did you mean jetson-sd?');
  expect(await cli.run('settings', '--profile', 'nvme', '--toml')).toBe(2);
  expect(cli.error).toContain('give one of them');
});
