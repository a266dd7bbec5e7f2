import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseRange } from '../../src/base/address-range.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import { environmentName, flagName, loadSettings, type SettingSources } from '../../src/config/load-settings.ts';
import { formatSetting, parseSetting } from '../../src/config/parse-setting.ts';
import { settingsToml } from '../../src/config/settings-toml.ts';
import { buildSettings, SETTINGS, type SettingValue } from '../../src/config/settings.ts';

function errorOf(action: () => unknown): VolumeError {
  try {
    action();
  } catch (error) {
    if (error instanceof VolumeError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const messageOf = (sources: SettingSources): string => {
  const error = errorOf(() => loadSettings(sources));
  expect(error.code).toBe('invalid-argument');
  return error.message;
};

describe('the table', () => {
  test('each default lies in its own range, on its own step, and the defaults fit together', () => {
    for (const [key, setting] of SETTINGS) {
      expect(parseSetting({ source: 'table', key }, setting.default), key).toBe(setting.default);
    }
    expect(loadSettings().origins.size).toBe(0);
  });

  test('each setting is documented', () => {
    for (const [key, setting] of SETTINGS) {
      expect(setting.description.length, key).toBeGreaterThan(15);
      expect(key).toMatch(/^(engine|remote|server|control|process)\.[a-z][a-z_]*$/);
    }
  });

  test('the settings objects carry the default of each row, and nothing else', () => {
    const { exports, ...groups } = buildSettings();
    expect(exports.size).toBe(0);
    const properties = Object.entries(groups).flatMap(([group, settings]) =>
      Object.entries<SettingValue>({ ...settings }).map(([name, value]): [string, SettingValue] => [
        `${group}.${name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`,
        value,
      ]),
    );
    expect(new Map(properties)).toEqual(new Map([...SETTINGS].map(([key, setting]) => [key, setting.default])));
    expect(buildSettings(new Map([['engine.arena_bytes', GIB]])).engine.arenaBytes).toBe(GIB);
  });

  test('engine.log_compress is one of its words', () => {
    const place = { source: 'flag --set', key: 'engine.log_compress' };
    expect(['off', 'lz4', 'auto'].map((value) => parseSetting(place, value))).toEqual(['off', 'lz4', 'auto']);
    expect(() => parseSetting(place, 'on')).toThrow('flag --set: engine.log_compress: must be one of off, lz4, auto, not "on"');
    expect(() => parseSetting(place, true)).toThrow('flag --set: engine.log_compress: must be one of off, lz4, auto, not boolean true');
  });

  test('config/default.toml is the table (make config writes it), and setting every line of it changes nothing', () => {
    const written = readFileSync(new URL('../../config/default.toml', import.meta.url), 'utf8');
    expect(written).toBe(settingsToml());
    const active = written.replaceAll(/^#(?=[a-z_]+ = )/gm, '');
    const loaded = loadSettings({ toml: { name: 'default.toml', text: active } });
    expect(loaded.origins.size).toBe(SETTINGS.size);
    expect(loaded.settings).toEqual(buildSettings());
  });
});

describe('sources', () => {
  test('each later source wins: defaults, file, environment, flags', () => {
    const toml = { name: 'a.toml', text: '[engine]\nbatch_ms = 1\nbatch_blocks = 11\nretry_ms = 111\n' };
    const environment = { BASALT_ENGINE_BATCH_BLOCKS: '22', BASALT_ENGINE_RETRY_MS: '222', PATH: '/bin' };
    const flags = [{ flag: '--set', key: 'engine.retry_ms', value: '333' }];
    const { settings, origins } = loadSettings({ toml, environment, flags });
    expect(settings.engine).toMatchObject({ batchMs: 1, batchBlocks: 22, retryMs: 333, asyncIntervalMs: 1000 });
    expect([...origins].map(([key, { source }]) => [key, source])).toEqual([
      ['engine.batch_ms', 'a.toml'],
      ['engine.batch_blocks', 'environment variable BASALT_ENGINE_BATCH_BLOCKS'],
      ['engine.retry_ms', 'flag --set'],
    ]);
  });

  test('every key can be set by its variable and by its flag name', () => {
    for (const [key, setting] of SETTINGS) {
      const value = String(setting.default);
      expect(loadSettings({ environment: { [environmentName(key)]: value } }).origins.has(key), key).toBe(true);
      expect(flagName(key).replaceAll('-', '_')).toBe(key);
    }
  });

  test('TOML takes sizes as text or number, dotted keys, and times with a unit', () => {
    const text = 'engine.log_file_bytes = "128M"\nengine.flush_interval_ms = "2s"\nserver.default_export = "demo"\nserver.payload_bytes = 1073741824\n';
    const { engine, server } = loadSettings({ toml: { name: 'a.toml', text } }).settings;
    expect(engine).toMatchObject({ logFileBytes: 128 * MIB, flushIntervalMs: 2000 });
    expect(server).toMatchObject({ defaultExport: 'demo', payloadBytes: GIB });
  });

  test("the variables of the project's own tests are not settings", () => {
    expect(loadSettings({ environment: { BASALT_REQUIRE_INTEROP: '1', BASALT_SIM_SEED: '7' } }).origins.size).toBe(0);
  });
});

const exportsOf = (text: string): unknown => Object.fromEntries(loadSettings({ toml: { name: 'a.toml', text } }).settings.exports);

describe('exports', () => {
  const NOTHING = { readOnly: false, allow: null, tlsRequired: false, tlsNames: null };

  test('each table says who may use an export, and what is not said is allowed', () => {
    const text = `
server = { tls = "selective", tls_psk_file = "keys.psk" }
[exports."*"]
allow = []
[exports."größe & Co"]
read_only = true
[exports.demo]
allow = ["10.0.0.0/8", "::1", "unix"]
tls = "required"
[exports.named]
tls_names = ["alice", "host.example"]
`;
    expect(exportsOf(text)).toEqual({
      '*': { ...NOTHING, allow: [] },
      'größe & Co': { ...NOTHING, readOnly: true },
      demo: { ...NOTHING, allow: [parseRange('10.0.0.0/8'), parseRange('::1'), 'unix'], tlsRequired: true },
      named: { ...NOTHING, tlsRequired: true, tlsNames: ['alice', 'host.example'] },
    });
  });

  test.each([
    ['exports = 3', 'a.toml: exports: must be a table, not number 3'],
    ['exports.demo = []', 'a.toml: exports.demo: must be a table, not a list'],
    ['exports.demo.readonly = true', 'a.toml: exports.demo.readonly: no such setting; did you mean read_only?'],
    ['exports."a b".read_only = "yes"', 'a.toml: exports."a b".read_only: must be true or false, not string yes'],
    ['exports.demo.allow = "10.0.0.0/8"', 'a.toml: exports.demo.allow: must be a list of texts, not string 10.0.0.0/8'],
    ['exports.demo.allow = [10]', 'a.toml: exports.demo.allow: must be a list of texts, and number 10 is none'],
    ['exports.demo.allow = ["10.0.0.1/8"]', 'a.toml: exports.demo.allow: "10.0.0.1/8" is no address and no range such as 10.0.0.0/8'],
    ['exports.demo.tls = "yes"', 'a.toml: exports.demo.tls: must be one of optional, required, not string yes'],
    ['exports.demo.tls_names = [""]', 'a.toml: exports.demo.tls_names: must be a list of texts, and one is empty'],
    ['exports.demo = { tls = "optional", tls_names = ["a"] }', 'a.toml: exports.demo.tls: is optional, but tls_names can only be asked for in TLS'],
    ['exports.demo.tls = "required"', 'exports.demo requires TLS, and server.tls is "off"'],
    ['exports.demo.tls_names = ["a"]\nserver.tls = "forced"\nserver.tls_certificates = "pki"', 'exports.demo.tls_names: nobody proves a name without server.tls_verify_peer'],
  ])('%s is refused', (text, message) => {
    expect(messageOf({ toml: { name: 'a.toml', text } })).toContain(message);
  });
});

describe('TLS', () => {
  test.each([
    [['server.tls=forced'], 'server.tls = "forced" needs server.tls_certificates or server.tls_psk_file'],
    [['server.tls_certificates=pki'], 'do nothing while server.tls is "off"'],
    [['server.tls_verify_peer=true'], 'do nothing while server.tls is "off"'],
    [['server.tls=forced', 'server.tls_psk_file=k', 'server.tls_verify_peer=true'], 'server.tls_verify_peer needs server.tls_certificates'],
    [['server.tls=forced', 'server.tls_psk_file=k', 'server.tls_verify_peer=1'], 'server.tls_verify_peer: must be true or false, not "1"'],
    [['server.socket_mode=rw'], 'server.socket_mode: must be an octal mode such as 0660, not "rw"'],
    [['server.socket_owner=a:b:c'], 'server.socket_owner: must be USER, USER:GROUP or :GROUP, not "a:b:c"'],
  ])('%j is refused', (words, message) => {
    const flags = words.map((word) => ({ flag: '--set', key: word.slice(0, word.indexOf('=')), value: word.slice(word.indexOf('=') + 1) }));
    expect(messageOf({ flags })).toContain(message);
  });
});

describe('bad input', () => {
  test('an unknown key names its source and the nearest right one', () => {
    expect(messageOf({ toml: { name: 'a.toml', text: '[engine]\narena_byte = 1\n' } })).toBe(
      'a.toml: engine.arena_byte: no such setting; did you mean engine.arena_bytes?',
    );
    expect(messageOf({ environment: { BASALT_ENGNE_BATCH_MS: '1' } })).toBe(
      'environment variable BASALT_ENGNE_BATCH_MS: no such setting; did you mean BASALT_ENGINE_BATCH_MS?',
    );
    expect(messageOf({ flags: [{ flag: '--set', key: 'server.max_conections', value: '1' }] })).toContain('did you mean server.max_connections?');
  });

  test('an unknown table, and a table where a value belongs, are unknown or bad keys', () => {
    expect(messageOf({ toml: { name: 'a.toml', text: '[engines]\narena_bytes = 1\n' } })).toContain('a.toml: engines: no such setting');
    expect(messageOf({ toml: { name: 'a.toml', text: '[engine.arena_bytes]\nx = 1\n' } })).toContain('must be a size such as 64M, not a table');
    expect(messageOf({ toml: { name: 'a.toml', text: 'engine = 3\n' } })).toContain('a.toml: engine: no such setting');
  });

  test('a value out of range, off its step or of the wrong kind names key and range', () => {
    const cases: readonly (readonly [string, string])[] = [
      ['arena_bytes = "1M"', 'engine.arena_bytes: 1 MiB is out of range: from 32 MiB to 1 TiB, a multiple of 4 MiB'],
      ['arena_bytes = "161M"', 'engine.arena_bytes: 161 MiB is not a multiple of 4 MiB'],
      ['arena_bytes = "many"', 'engine.arena_bytes: size "many" is not understood'],
      ['arena_bytes = true', 'engine.arena_bytes: must be a size such as 64M, not boolean true'],
      ['log_file_count = 2.5', 'engine.log_file_count: 2.5 is not a whole number below 2^53'],
      ['log_file_count = "4s"', 'engine.log_file_count: "4s" is not a whole number: from 3 to 64'],
      ['log_file_count = -4', 'engine.log_file_count: -4 is out of range: from 3 to 64'],
      ['batch_ms = "soon"', 'engine.batch_ms: "soon" is not a time such as 500ms, 2s or 1min'],
      ['batch_ms = nan', 'engine.batch_ms: NaN is not a whole number'],
      ['batch_ms = 2024-01-01', 'engine.batch_ms: must be a time such as 500ms, 2s or 1min, not a date'],
    ];
    for (const [line, expected] of cases) {
      expect(messageOf({ toml: { name: 'a.toml', text: `[engine]\n${line}\n` } })).toContain(`a.toml: ${expected}`);
    }
    expect(messageOf({ toml: { name: 'a.toml', text: '[server]\ndefault_export = 3\n' } })).toContain('must be a text, not number 3');
    expect(messageOf({ flags: [{ flag: '--set', key: 'server.default_export', value: 'x'.repeat(4097) }] })).toContain('longer than 4096 bytes');
  });

  test('a file that is not TOML names the file', () => {
    expect(messageOf({ toml: { name: 'broken.toml', text: '[engine\n' } })).toMatch(/^broken\.toml: not valid TOML: /);
  });

  test('the same key by two flags is refused', () => {
    const flags = [
      { flag: '--set', key: 'engine.batch_ms', value: '1' },
      { flag: '--engine.batch-ms', key: 'engine.batch_ms', value: '2' },
    ];
    expect(messageOf({ flags })).toBe('flag --engine.batch-ms: engine.batch_ms is given twice (also by --set); give it once');
  });

  test('settings that do not fit together are all named', () => {
    const flags = [
      { flag: '--set', key: 'engine.arena_bytes', value: '160M' },
      { flag: '--set', key: 'engine.log_file_count', value: '4' },
      { flag: '--set', key: 'server.payload_bytes', value: '1M' },
    ];
    const message = messageOf({ flags });
    expect(message).toContain('engine.dirty_bytes (160 MiB) must be smaller than engine.arena_bytes (160 MiB)');
    expect(message).toContain('must be at least twice engine.dirty_bytes (2 x 160 MiB)');
    expect(message).toContain('server.max_request_bytes (32 MiB) must not exceed server.payload_bytes (1 MiB)');
  });

  test('an erase block is a power of two, or none', () => {
    const given = { flag: '--set', key: 'engine.erase_block_bytes' };
    expect(messageOf({ flags: [{ ...given, value: '6M' }] })).toContain('engine.erase_block_bytes (6 MiB) must be a power of two, or 0');
    const accepted = ['0', '4M', '64M'].map((value) => loadSettings({ flags: [{ ...given, value }] }).settings.engine.eraseBlockBytes);
    expect(accepted).toEqual([0, 4 * MIB, 64 * MIB]);
  });
});

test('sizes and times are shown in the largest unit that is exact', () => {
  const setting = SETTINGS.get('engine.index_bytes');
  if (setting === undefined) throw new Error('no such setting');
  expect(formatSetting(setting, 64 * MIB)).toBe('64 MiB');
  expect(formatSetting(setting, 64 * MIB + KIB)).toBe('67109888 B');
  const time = SETTINGS.get('engine.batch_ms');
  if (time === undefined) throw new Error('no such setting');
  expect([0, 0.5, 1500, 2000, 120_000, 7_200_000].map((ms) => formatSetting(time, ms))).toEqual(['0 ms', '0.5 ms', '1500 ms', '2 s', '2 min', '2 h']);
});
