/** The settings from all their sources, in rising order: defaults, TOML file, environment, flags. */
import { parse } from 'smol-toml';
import { VolumeError } from '../base/errors.ts';
import type { ExportTable } from '../base/settings-types.ts';
import { checkRelations } from './cross-checks.ts';
import { readExports } from './exports.ts';
import { nearest } from './nearest.ts';
import { parseSetting } from './parse-setting.ts';
import { buildSettings, SETTINGS, type ProgramSettings, type SettingValue } from './settings.ts';

/** Text of a TOML file and the name that messages call it by. */
export interface TomlSource {
  readonly name: string;
  readonly text: string;
}

/** A value given on the command line; `flag` is how messages call it: `--set`, `--engine.arena-bytes`. */
export interface FlagSource {
  readonly flag: string;
  readonly key: string;
  readonly value: string;
}

export interface SettingSources {
  readonly toml?: TomlSource | undefined;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly flags?: readonly FlagSource[];
}

export interface LoadedSettings {
  readonly settings: ProgramSettings;
  /** For each key that is not a default: its value, and where it came from. */
  readonly origins: ReadonlyMap<string, { readonly value: SettingValue; readonly source: string }>;
}

const ENVIRONMENT_PREFIX = 'BASALT_';
/** Variables that belong to the project's tests and benchmarks: a server they start must not trip over them. */
const FOREIGN_VARIABLE = /^BASALT_(?:REQUIRE|TEST|SIM|CRASH|BENCH)_/;

/** The environment variable of a key: `engine.arena_bytes` is `BASALT_ENGINE_ARENA_BYTES`. */
export function environmentName(key: string): string {
  return `${ENVIRONMENT_PREFIX}${key.replaceAll('.', '_').toUpperCase()}`;
}

/** The flag of a key, without the dashes: `engine.arena_bytes` is `engine.arena-bytes`. */
export function flagName(key: string): string {
  return key.replaceAll('_', '-');
}

/**
 * Merges the sources and checks everything. Throws `invalid-argument` that names the source, the key, the nearest right
 * key of an unknown one, and the range of a bad one.
 */
export function loadSettings(sources: SettingSources = {}): LoadedSettings {
  const origins = new Map<string, { value: SettingValue; source: string }>();
  const take = (source: string, key: string, raw: unknown): void => {
    origins.set(key, { value: parseSetting({ source, key }, raw), source });
  };
  const exports: ExportTable = sources.toml === undefined ? new Map() : readToml(sources.toml, take);
  readEnvironment(sources.environment ?? {}, take);
  readFlags(sources.flags ?? [], take);
  const settings = buildSettings(new Map([...origins].map(([key, { value }]) => [key, value])), exports);
  checkRelations(settings);
  return { settings, origins };
}

type Take = (source: string, key: string, raw: unknown) => void;

/** Hands the settings of a file to `take`; what is said of single exports is returned. */
function readToml({ name, text }: TomlSource, take: Take): ExportTable {
  let document: Readonly<Record<string, unknown>>;
  try {
    document = parse(text);
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    throw new VolumeError('invalid-argument', `${name}: not valid TOML: ${detail}`, { cause: error, context: { source: name } });
  }
  const visit = (prefix: string, table: object): void => {
    for (const [key, value] of Object.entries(table)) {
      const path = prefix === '' ? key : `${prefix}.${key}`;
      if (isTable(value) && isGroup(path)) visit(path, value);
      else take(name, path, value);
    }
  };
  const { exports, ...settings } = document;
  visit('', settings);
  return readExports(name, exports);
}

function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** Whether keys begin with `path` and a dot: only such tables are looked into, others are an unknown key. */
function isGroup(path: string): boolean {
  return [...SETTINGS.keys()].some((key) => key.startsWith(`${path}.`));
}

function readEnvironment(environment: Readonly<Record<string, string | undefined>>, take: Take): void {
  const keyOfName = new Map([...SETTINGS.keys()].map((key) => [environmentName(key), key]));
  for (const [name, value] of Object.entries(environment).toSorted(([first], [second]) => first.localeCompare(second))) {
    if (value === undefined || !name.startsWith(ENVIRONMENT_PREFIX) || FOREIGN_VARIABLE.test(name)) continue;
    const key = keyOfName.get(name);
    if (key === undefined) throw unknownVariable(name, keyOfName.keys());
    take(`environment variable ${name}`, key, value);
  }
}

function unknownVariable(name: string, known: Iterable<string>): VolumeError {
  const suggestion = nearest(name, known);
  return new VolumeError('invalid-argument', `environment variable ${name}: no such setting; did you mean ${suggestion}?`, {
    context: { source: 'environment', key: name },
  });
}

function readFlags(flags: readonly FlagSource[], take: Take): void {
  const seen = new Map<string, string>();
  for (const { flag, key, value } of flags) {
    const earlier = seen.get(key);
    if (earlier !== undefined) {
      throw new VolumeError('invalid-argument', `flag ${flag}: ${key} is given twice (also by ${earlier}); give it once`, { context: { source: flag, key } });
    }
    seen.set(key, flag);
    take(`flag ${flag}`, key, value);
  }
}
