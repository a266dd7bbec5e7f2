/** `basalt settings` */
import type { Argv, Options } from 'yargs';
import type { ExportSettings } from '../../base/settings-types.ts';
import { environmentName, flagName } from '../../config/load-settings.ts';
import { nearest } from '../../config/nearest.ts';
import { describeRange, formatSetting } from '../../config/parse-setting.ts';
import { PROFILE_NAMES, type ProfileName } from '../../config/profiles.ts';
import { settingsToml } from '../../config/settings-toml.ts';
import { SETTINGS } from '../../config/settings.ts';
import { UsageError, type CliContext } from '../context.ts';
import { addSettingFlags, JSON_FLAG, once, readSettings, SETTINGS_FLAGS } from '../flags.ts';
import { formatJson, formatTable, type Cell } from '../output.ts';

function profileOf(value: string | readonly string[]): ProfileName {
  const text = once('profile')(value);
  const name = PROFILE_NAMES.find((candidate) => candidate === text);
  if (name !== undefined) return name;
  throw new UsageError(`profile "${text}" is none of ${PROFILE_NAMES.join(', ')}; did you mean ${nearest(text, PROFILE_NAMES)}?`, { flag: 'profile' });
}

export const settingsFlags = {
  toml: { type: 'boolean', default: false, describe: 'print the documented TOML file of all defaults instead' },
  profile: { type: 'string', requiresArg: true, choices: PROFILE_NAMES, coerce: profileOf, describe: 'print the TOML file for one kind of machine instead' },
  ...SETTINGS_FLAGS,
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

/** Such as `exports.demo: read-only, from 2 ranges, in TLS, for alice, bob`. */
function describeExport(name: string, { readOnly, allow, tlsRequired, tlsNames }: ExportSettings): string {
  const rules = [
    readOnly ? 'read-only' : 'writable',
    ...(allow === null ? [] : [`from ${allow.length === 1 ? 'one range' : `${allow.length} ranges`} of addresses`]),
    ...(tlsRequired ? ['in TLS'] : []),
    ...(tlsNames === null ? [] : [`for ${tlsNames.join(', ') || 'nobody'}`]),
  ];
  return `exports.${name}: ${rules.join(', ')}\n`;
}

export function addSettings(program: Argv, context: CliContext): Argv {
  return program.command(
    'settings',
    'list every setting with its value and where the value comes from',
    (verb) =>
      addSettingFlags(verb.options(settingsFlags))
        .example('$0 settings', 'all settings, their defaults and ranges')
        .example('$0 settings --toml > basalt.toml', 'a file to start from')
        .example('$0 settings --profile jetson-sd > basalt.toml', 'one for volumes on an SD card')
        .example('$0 settings --config basalt.toml', 'checks a file and shows what it changes'),
    async (parsed) => {
      if (parsed.toml && parsed.profile !== undefined) throw new UsageError('--toml prints all defaults, --profile a profile: give one of them', { flag: 'profile' });
      if (parsed.toml || parsed.profile !== undefined) {
        context.terminal.out(parsed.profile === undefined ? settingsToml() : await context.readProfile(parsed.profile));
        return;
      }
      const { origins, settings } = await readSettings(context, parsed);
      const all = [...SETTINGS].map(([key, setting]) => {
        const origin = origins.get(key);
        return { key, setting, value: origin?.value ?? setting.default, source: origin?.source ?? 'default' };
      });
      if (parsed.json) {
        context.terminal.out(
          formatJson(all.map(({ key, setting, value, source }) => ({ key, value, source, environment: environmentName(key), flag: `--${flagName(key)}`, ...setting }))),
        );
        return;
      }
      const rows = all.map(({ key, setting, value, source }): Cell[] => {
        const shown = formatSetting(setting, value);
        return [key, source === 'default' ? shown : `${shown} (${source})`, describeRange(setting), setting.description];
      });
      context.terminal.out(formatTable([['KEY', 'VALUE', 'RANGE', 'DESCRIPTION'], ...rows]));
      for (const [name, rules] of settings.exports) context.terminal.out(describeExport(name, rules));
    },
  );
}
