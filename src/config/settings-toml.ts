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

const EXPORTS = `# Who may use an export, and how: a table for each, by its name, and "*" for all that have none of their own. A client
# that may not see an export is told that there is none.
#
# [exports.NAME]
#   read_only = true                                  # false
#   allow = ["10.0.0.0/8", "fd00::/8", "unix"]        # where its clients may come from; "unix": unix sockets. Everywhere
#   tls = "required"                                  # "optional"
#   tls_names = ["alice", "host.example"]             # names of certificates (CN or DNS name) or of keys. All
`;

/** A default as TOML: sizes as text in the largest whole unit, everything else bare. */
function tomlValue(setting: Setting): string {
  if (setting.type === 'text' || setting.type === 'choice' || setting.type === 'flag') return JSON.stringify(setting.default);
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
  lines.push(EXPORTS);
  return lines.join('\n');
}
