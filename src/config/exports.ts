/** What the file says of single exports: the tables `[exports.NAME]`. */
import { type AddressRange, parseRange } from '../base/address-range.ts';
import type { ExportSettings, ExportTable } from '../base/settings-types.ts';
import { nearest } from './nearest.ts';
import { bad, describe, type SettingPlace } from './parse-setting.ts';

const KEYS = ['read_only', 'allow', 'tls', 'tls_names'];
const TLS_WORDS = ['optional', 'required'];

/** Reads the value of `exports` in the file `source`. Throws `invalid-argument` as `parseSetting` does. */
export function readExports(source: string, raw: unknown): ExportTable {
  if (raw === undefined) return new Map();
  return new Map(Object.entries(tableOf({ source, key: 'exports' }, raw)).map(([name, table]) => [name, readExport(source, name, table)]));
}

function readExport(source: string, name: string, raw: unknown): ExportSettings {
  const place = (key: string): SettingPlace => ({ source, key: `exports.${/^[\w-]+$/.test(name) ? name : JSON.stringify(name)}${key}` });
  const table = tableOf(place(''), raw);
  for (const key of Object.keys(table)) {
    if (!KEYS.includes(key)) throw bad(place(`.${key}`), `no such setting; did you mean ${nearest(key, KEYS)}?`);
  }
  const { read_only: readOnly = false, allow, tls = 'optional', tls_names: names } = table;
  if (typeof readOnly !== 'boolean') throw bad(place('.read_only'), `must be true or false, not ${describe(readOnly)}`);
  if (typeof tls !== 'string' || !TLS_WORDS.includes(tls)) throw bad(place('.tls'), `must be one of ${TLS_WORDS.join(', ')}, not ${describe(tls)}`);
  const tlsNames = names === undefined ? null : textsOf(place('.tls_names'), names);
  if (tlsNames !== null && tls === 'optional' && 'tls' in table) throw bad(place('.tls'), 'is optional, but tls_names can only be asked for in TLS');
  return {
    readOnly,
    allow: allow === undefined ? null : textsOf(place('.allow'), allow).map((text) => rangeOf(place('.allow'), text)),
    tlsRequired: tls === 'required' || tlsNames !== null,
    tlsNames,
  };
}

function tableOf(place: SettingPlace, raw: unknown): Readonly<Record<string, unknown>> {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw) || raw instanceof Date) throw bad(place, `must be a table, not ${describe(raw)}`);
  return { ...raw };
}

function textsOf(place: SettingPlace, raw: unknown): readonly string[] {
  if (!Array.isArray(raw)) throw bad(place, `must be a list of texts, not ${describe(raw)}`);
  return raw.map((text: unknown) => {
    if (typeof text !== 'string' || text === '') throw bad(place, `must be a list of texts, and ${typeof text === 'string' ? 'one is empty' : `${describe(text)} is none`}`);
    return text;
  });
}

function rangeOf(place: SettingPlace, text: string): AddressRange | 'unix' {
  if (text === 'unix') return 'unix';
  const range = parseRange(text);
  if (range === null) throw bad(place, `${JSON.stringify(text)} is no address and no range such as 10.0.0.0/8 or fd00::/8 (nothing may follow the prefix), and not "unix"`);
  return range;
}
