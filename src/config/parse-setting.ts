/** One setting's value: from text or TOML to the number or text the table asks for, and back. */
import { VolumeError } from '../base/errors.ts';
import { formatSize, parseSize } from '../base/units.ts';
import { nearest } from './nearest.ts';
import { SETTINGS, type NumberSetting, type Setting, type SettingValue } from './settings.ts';

/** Where a value was written: `basalt.toml`, `environment variable BASALT_...`, `flag --set`. Begins every message about it. */
export interface SettingPlace {
  readonly source: string;
  readonly key: string;
}

export function bad(place: SettingPlace, problem: string): VolumeError {
  return new VolumeError('invalid-argument', `${place.source}: ${place.key}: ${problem}`, {
    context: { source: place.source, key: place.key },
  });
}

/** The setting of a key. Throws `invalid-argument` that names the nearest key. */
export function settingOf(place: SettingPlace): Setting {
  const setting = SETTINGS.get(place.key);
  if (setting === undefined) throw bad(place, `no such setting; did you mean ${nearest(place.key, SETTINGS.keys())}?`);
  return setting;
}

/**
 * Checks `raw` (text of a flag or variable, or a TOML value) against the table. Returns bytes, milliseconds, a count or a
 * text. Throws `invalid-argument` that names source, key, what is wrong and the range.
 */
export function parseSetting(place: SettingPlace, raw: unknown): SettingValue {
  const setting = settingOf(place);
  if (setting.type === 'text') {
    if (typeof raw !== 'string') throw bad(place, `must be a text, not ${describe(raw)}`);
    if (Buffer.byteLength(raw) > setting.maxBytes) throw bad(place, `is longer than ${setting.maxBytes} bytes`);
    if (raw.includes('\0')) throw bad(place, 'contains a NUL character');
    if (setting.form !== undefined && !new RegExp(setting.form.pattern).test(raw)) throw bad(place, `must be ${setting.form.says}, not ${JSON.stringify(raw)}`);
    return raw;
  }
  if (setting.type === 'flag') {
    if (typeof raw === 'boolean') return raw;
    if (raw !== 'true' && raw !== 'false') throw bad(place, `must be true or false, not ${typeof raw === 'string' ? JSON.stringify(raw) : describe(raw)}`);
    return raw === 'true';
  }
  if (setting.type === 'choice') {
    if (typeof raw !== 'string' || !setting.values.includes(raw)) throw bad(place, `must be ${describeRange(setting)}, not ${typeof raw === 'string' ? JSON.stringify(raw) : describe(raw)}`);
    return raw;
  }
  const value = toNumber(place, setting, raw);
  if (!(value >= setting.min && value <= setting.max)) {
    throw bad(place, `${formatSetting(setting, value)} is out of range: ${describeRange(setting)}`);
  }
  if (setting.step > 0 && value % setting.step !== 0) {
    throw bad(place, `${formatSetting(setting, value)} is not a multiple of ${formatSetting(setting, setting.step)}`);
  }
  return value;
}

export function describe(raw: unknown): string {
  if (raw instanceof Date) return 'a date';
  if (typeof raw === 'object' && raw !== null) return Array.isArray(raw) ? 'a list' : 'a table';
  return `${typeof raw} ${String(raw)}`;
}

const DURATION_FACTORS: Readonly<Record<string, number>> = { '': 1, ms: 1, s: 1000, min: 60_000, h: 3_600_000 };

function toNumber(place: SettingPlace, setting: NumberSetting, raw: unknown): number {
  if (typeof raw === 'number') {
    if (setting.type === 'milliseconds' || setting.type === 'amount' ? Number.isFinite(raw) : Number.isSafeInteger(raw)) return raw;
    throw bad(place, `${raw} is not a whole number below 2^53`);
  }
  if (typeof raw !== 'string') throw bad(place, `must be ${KIND[setting.type]}, not ${describe(raw)}`);
  if (setting.type === 'size') {
    try {
      return parseSize(raw);
    } catch (error) {
      throw bad(place, error instanceof Error ? error.message : String(error));
    }
  }
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(raw);
  const factor = setting.type === 'milliseconds' ? DURATION_FACTORS[(match?.[2] ?? '').toLowerCase()] : 1;
  const isPlain = setting.type === 'milliseconds' || (setting.type === 'count' ? /^\s*\d+\s*$/ : /^\s*[\d.]+\s*$/).test(raw);
  if (match === null || factor === undefined || !isPlain) throw bad(place, `"${raw}" is not ${KIND[setting.type]}: ${describeRange(setting)}`);
  return Number(match[1]) * factor;
}

const KIND: Readonly<Record<NumberSetting['type'], string>> = {
  size: 'a size such as 64M',
  count: 'a whole number',
  milliseconds: 'a time such as 500ms, 2s or 1min',
  amount: 'a number such as 0.023',
};

/** A value as people write it: `64 MiB`, `500 ms`, `2 s`, `4`; exact. */
export function formatSetting(setting: Setting, value: SettingValue): string {
  if (typeof value !== 'number') return JSON.stringify(value);
  if (setting.type === 'size') {
    const short = formatSize(value);
    return short.includes('.') ? `${value} B` : short;
  }
  return setting.type === 'milliseconds' ? formatDuration(value) : String(value);
}

function formatDuration(ms: number): string {
  const unit = ['h', 'min', 's'].find((name) => ms > 0 && ms % DURATION_FACTORS[name] === 0);
  return unit === undefined ? `${ms} ms` : `${ms / DURATION_FACTORS[unit]} ${unit}`;
}

/** `from 1 MiB to 4 GiB, a multiple of 64 KiB`. */
export function describeRange(setting: Setting): string {
  if (setting.type === 'text') return setting.form?.says ?? `at most ${setting.maxBytes} bytes`;
  if (setting.type === 'flag') return 'true or false';
  if (setting.type === 'choice') return `one of ${setting.values.join(', ')}`;
  const range = `from ${formatSetting(setting, setting.min)} to ${formatSetting(setting, setting.max)}`;
  return setting.step > 1 ? `${range}, a multiple of ${formatSetting(setting, setting.step)}` : range;
}
