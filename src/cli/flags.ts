/** Flags that several verbs share, and how they are read. */
import type { Argv, Options } from 'yargs';
import { parseSize } from '../base/units.ts';
import { VolumeError } from '../base/errors.ts';
import { nearest } from '../config/nearest.ts';
import { flagName, loadSettings, type FlagSource, type LoadedSettings } from '../config/load-settings.ts';
import { SETTINGS } from '../config/settings.ts';
import type { LogLevel } from '../env/env.ts';
import { UsageError, type CliContext } from './context.ts';

/** For `coerce`: a flag of one value is given once (yargs hands a repeated one over as a list). */
export function once(flag: string): (value: string | readonly string[]) => string {
  return (value) => {
    if (typeof value !== 'string') throw new UsageError(`--${flag} is given ${value.length} times; give it once`, { flag });
    return value;
  };
}

/** For `coerce`: a size such as 64KiB. */
export function sizeOf(name: string): (value: string | readonly string[]) => number {
  return (value) => {
    const text = once(name)(value);
    try {
      return parseSize(text);
    } catch (error) {
      if (error instanceof VolumeError) throw new UsageError(`${name}: ${error.message}`, { flag: name });
      throw error;
    }
  };
}

export const JSON_FLAG = { type: 'boolean', default: false, describe: 'print JSON (errors too, on standard error)' } as const satisfies Options;

export const DATA_FLAG = {
  type: 'string',
  requiresArg: true,
  default: './volumes',
  coerce: once('data'),
  describe: 'directory of the volumes',
} as const satisfies Options;

const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const satisfies readonly LogLevel[];

function logLevelOf(value: string | readonly string[]): LogLevel {
  const text = once('log-level')(value);
  const level = LOG_LEVELS.find((candidate) => candidate === text);
  if (level !== undefined) return level;
  throw new UsageError(`log-level "${text}" is none of ${LOG_LEVELS.join(', ')}; did you mean ${nearest(text, LOG_LEVELS)}?`, { flag: 'log-level' });
}

export const LOG_LEVEL_FLAG = { type: 'string', requiresArg: true, choices: LOG_LEVELS, default: 'info', coerce: logLevelOf, describe: 'least level of the JSON lines on standard error' } as const satisfies Options;

/** Where settings come from: a file, and single ones. */
export const SETTINGS_FLAGS = {
  config: { type: 'string', requiresArg: true, coerce: once('config'), describe: 'TOML file of settings (config/default.toml lists them all)' },
  set: { type: 'string', array: true, requiresArg: true, describe: 'one setting, as KEY=VALUE; may be repeated' },
} as const satisfies Record<string, Options>;

/** The flag of each setting, such as `engine.arena-bytes`. */
export function settingFlagNames(): string[] {
  return [...SETTINGS.keys()].map(flagName);
}

/** Gives a verb each setting as a flag of its own. Hidden in its help: `basalt settings` lists them. */
export function addSettingFlags<T>(verb: Argv<T>): Argv<T> {
  for (const key of SETTINGS.keys()) {
    const name = flagName(key);
    verb.option(name, { type: 'string', requiresArg: true, hidden: true, coerce: once(name) });
  }
  return verb;
}

/** What the flags above hold once parsed. */
export interface SettingsArguments {
  readonly config?: string | undefined;
  readonly set?: readonly string[] | undefined;
  readonly [flag: string]: unknown;
}

/** The settings of all sources: file, environment, flags. Throws `invalid-argument`. */
export async function readSettings(context: CliContext, parsed: SettingsArguments = {}): Promise<LoadedSettings> {
  const flags = (parsed.set ?? []).map(parseAssignment);
  for (const key of SETTINGS.keys()) {
    const name = flagName(key);
    const value = parsed[name];
    if (typeof value === 'string') flags.push({ flag: `--${name}`, key, value });
  }
  const toml = parsed.config === undefined ? undefined : { name: parsed.config, text: await context.readFile(parsed.config) };
  return loadSettings({ toml, environment: context.environment, flags });
}

function parseAssignment(text: string): FlagSource {
  const equals = text.indexOf('=');
  if (equals <= 0) throw new UsageError(`--set takes KEY=VALUE, as in --set engine.arena_bytes=256M, not "${text}"`, { flag: 'set' });
  return { flag: '--set', key: text.slice(0, equals).trim(), value: text.slice(equals + 1).trim() };
}
