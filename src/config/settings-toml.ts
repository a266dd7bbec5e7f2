/** Writes the settings table as a documented TOML file: `config/default.toml` is its output, and a test holds them together. */
import { environmentName, flagName } from './load-settings.ts';
import { describeRange, formatSetting } from './parse-setting.ts';
import { SETTINGS, type Setting } from './settings.ts';

const HEADER = `# Every setting of basalt with its default, made from the table in src/config/settings.ts.
# Uncomment what you change and pass the file with --config FILE. The same settings can be given as environment
# variables (${environmentName('engine.arena_bytes')}=256M) and as flags (--${flagName('engine.arena_bytes')}=256M, or
# --set engine.arena_bytes=256M), which win over the file in this order.
# Sizes: 4096, 64K, 512M, 10G, 1T (powers of 1024). Times: 500 or "500ms", "2s", "1min".
`;

/** A default as TOML: sizes as text in the largest whole unit, everything else bare. */
function tomlValue(setting: Setting): string {
  if (setting.type === 'text' || setting.type === 'choice') return JSON.stringify(setting.default);
  if (setting.type !== 'size') return String(setting.default);
  const text = formatSetting(setting, setting.default);
  return `"${text.replace(/ (?:([KMGTP])iB|B)$/, '$1')}"`;
}

/** The documented file, every setting commented out at its default. */
export function settingsToml(): string {
  const lines: string[] = [HEADER];
  let group = '';
  for (const [key, setting] of SETTINGS) {
    const [groupOfKey = '', name = ''] = key.split('.');
    if (groupOfKey !== group) {
      group = groupOfKey;
      lines.push(`[${group}]`, '');
    }
    lines.push(`# ${setting.description}`, `# ${describeRange(setting)}`, `#${name} = ${tomlValue(setting)}`, '');
  }
  return lines.join('\n');
}
