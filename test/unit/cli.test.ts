import { beforeEach, describe, expect, test } from 'vitest';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import { formatTable } from '../../src/cli/output.ts';
import { shellWord } from '../../src/cli/verbs/create.ts';
import { FakeCli } from '../support/cli-double.ts';

const VERBS = ['serve', 'create', 'list', 'show', 'stats', 'top', 'durability', 'compression', 'resize', 'rename', 'label', 'check', 'explain', 'repair', 'delete', 'attach', 'detach', 'attached', 'rescue', 'pki', 'tune', 'doctor', 'settings', 'completion'];

let cli: FakeCli;
beforeEach(() => {
  cli = new FakeCli();
});

describe('help', () => {
  test('names every verb and goes to standard output', async () => {
    expect(await cli.run('--help')).toBe(0);
    for (const verb of VERBS) expect(cli.out).toContain(`basalt ${verb}`);
    expect(cli.error).toBe('');
  });

  test.each(VERBS)('of %s has an example and --json', async (verb) => {
    expect(await cli.run(verb, '--help')).toBe(0);
    expect(cli.out).toMatch(new RegExp(`Examples:\\s+(?:sudo )?basalt ${verb}`));
    expect(cli.out).toContain('--json');
    expect(cli.opened).toEqual([]);
    expect(cli.plans).toEqual([]);
  });

  test('the version is printed', async () => {
    expect(await cli.run('--version')).toBe(0);
    expect(cli.out).toBe('1.2.3\n');
  });
});

describe('wrong usage exits 2 and names the nearest right thing', () => {
  test.each([
    [['craete', 'demo', '1G'], 'no verb "craete"; did you mean create?'],
    [['lst', '--json=false'], 'no verb "lst"; did you mean list?'],
    [[], 'a verb is missing: serve, create, list, show, stats, top, durability, compression, resize, rename, label, limit, drain, open-remote, takeover, follow, refresh, check, explain, scrub, repair, delete, attach, detach, attached, rescue, pki, tune, doctor, settings or completion'],
    [['list', '--dta', 'x'], 'list: no flag --dta; did you mean --data?'],
    [['create', 'demo', '1G', '--durabilty=strict'], 'create: no flag --durabilty; did you mean --durability?'],
    [['serve', '--engine.arena-byte', '64M'], 'serve: no flag --engine.arena-byte; did you mean --engine.arena-bytes?'],
    [['list', '-x'], 'list: no flag -x; did you mean'],
    [['list', 'surplus'], 'list: unexpected argument "surplus"; usage: basalt list'],
    [['show'], 'show: something is missing; usage: basalt show NAME'],
    [['create', 'demo'], 'create: something is missing; usage: basalt create NAME SIZE'],
    [['create', 'demo', '1G', '--data'], '--data takes a value'],
    [['create', 'demo', '1G', '--data', 'a', '--data', 'b'], '--data is given 2 times; give it once'],
    [['create', 'demo', '10X'], 'size: size "10X" is not understood'],
    [['create', 'demo', '1G', '--block-size', 'big'], 'block-size: size "big" is not understood'],
    [['create', 'demo', '1G', '--durability', 'stric'], 'durability "stric" is none of strict, batched, relaxed, async; did you mean strict?'],
    [['serve', '--log-level', 'warning'], 'log-level "warning" is none of debug, info, warn, error; did you mean warn?'],
    [['serve', '--set', 'engine.arena_bytes'], '--set takes KEY=VALUE'],
    [['serve', '--set', 'engine.arena=1G'], 'flag --set: engine.arena: no such setting; did you mean engine.arena_bytes?'],
    [['serve', '--engine.arena-bytes', '3M'], 'flag --engine.arena-bytes: engine.arena_bytes: 3 MiB is out of range: from 32 MiB to 1 TiB'],
  ])('basalt %j', async (words, message) => {
    expect(await cli.run(...words)).toBe(2);
    expect(cli.error).toContain(`basalt: ${message}`);
    expect(cli.error.split('\n').length, 'one line').toBe(2);
    expect(cli.out).toBe('');
    expect(cli.plans).toEqual([]);
    expect(cli.volumes.infos.size).toBe(0);
  });

  test('with --json the error is one line of JSON on standard error', async () => {
    expect(await cli.run('list', '--dta', 'x', '--json')).toBe(2);
    expect(JSON.parse(cli.error)).toEqual({ error: { code: 'usage', message: 'list: no flag --dta; did you mean --data?', context: { flag: 'dta' } } });
    expect(cli.out).toBe('');
  });

  test('a bad environment variable is found whatever the verb', async () => {
    cli.environment = { BASALT_ENGINE_ARENA: '1G' };
    expect(await cli.run('list')).toBe(2);
    expect(cli.error).toContain('did you mean BASALT_ENGINE_ARENA_BYTES?');
  });
});

describe('create', () => {
  test('takes sizes as people write them and prints how to serve and attach', async () => {
    expect(await cli.run('create', 'demo', '1G', '--data', 'my volumes')).toBe(0);
    expect(cli.volumes.infos.get('demo')).toMatchObject({ sizeBytes: GIB, blockSizeBytes: 4096, durability: 'batched' });
    expect(cli.opened[0]?.directory).toBe('my volumes');
    expect(cli.out).toContain('created demo: 1 GiB in blocks of 4 KiB, batched');
    expect(cli.out).toContain("basalt serve --data 'my volumes'");
    expect(cli.out).toContain('nbd-client -N demo 127.0.0.1 10809 /dev/nbd0');
    expect(cli.volumes.closed).toBe(1);
  });

  test('takes every option, and names that look like numbers or need quotes', async () => {
    expect(await cli.run('create', '007', '64KiB', '--block-size', '64K', '--durability', 'async', '--accept-data-loss', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toMatchObject({ name: '007', sizeBytes: 64 * KIB, blockSizeBytes: 64 * KIB, durability: 'async' });
    expect(await cli.run('create', "it's", '1M')).toBe(0);
    expect(cli.out).toContain(String.raw`-N 'it'\''s' `);
    expect(cli.out).toContain("nbdinfo 'nbd://127.0.0.1/it's'".replace("it's", String.raw`it'\''s`));
  });

  test('gives the engine the settings of the file and the flags', async () => {
    cli.files.set('a.toml', '[engine]\nlog_file_bytes = "128M"\nlog_file_count = 8\n');
    expect(await cli.run('create', 'demo', '1G', '--config', 'a.toml', '--set', 'engine.log_file_count=6', '--set', 'engine.batch_ms=7')).toBe(0);
    expect(cli.opened[0]?.settings).toMatchObject({ logFileBytes: 128 * MIB, logFileCount: 6, batchMs: 7 });
  });

  test('of a name that exists fails with 1, and the volumes are closed', async () => {
    await cli.run('create', 'demo', '1G');
    expect(await cli.run('create', 'demo', '2G', '--json')).toBe(1);
    expect(JSON.parse(cli.error)).toEqual({ error: { code: 'already-exists', message: 'volume demo exists', context: { volume: 'demo' } } });
    expect(cli.volumes.closed).toBe(2);
  });

  test('a config file that is not there fails with 1', async () => {
    expect(await cli.run('create', 'demo', '1G', '--config', 'none.toml')).toBe(1);
    expect(cli.error).toBe('basalt: no file none.toml\n');
  });
});

describe('list and show', () => {
  test('print aligned tables', async () => {
    await cli.run('create', 'a', '512M', '--durability', 'strict');
    await cli.run('create', 'longer-name', '1T');
    expect(await cli.run('list')).toBe(0);
    expect(cli.out).toBe(
      'NAME         SIZE     DURABILITY  STORED  OPEN  DAMAGE\n' +
        'a            512 MiB  strict      4 KiB   no    not looked for\n' +
        'longer-name  1 TiB    batched     4 KiB   no    not looked for\n',
    );
    expect(await cli.run('show', 'a')).toBe(0);
    expect(cli.out).toContain('size        512 MiB (536870912 bytes)\n');
    expect(cli.out).toContain('created     2026-11-20T10:00:00.000Z\n');
    expect(cli.out).toContain('checkpoint  none yet\n');
    expect(cli.out).toContain('log         4 files of 16 MiB, whole erase blocks of up to 16 MiB\n');
  });

  test('print JSON for machines', async () => {
    await cli.run('create', 'a', '512M');
    expect(await cli.run('list', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toMatchObject([{ name: 'a', sizeBytes: 512 * MIB, open: false }]);
    expect(await cli.run('show', 'a', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toMatchObject({ name: 'a', id: '0123456789abcdef0123456789abcdef' });
  });

  test('an empty directory says what to do next', async () => {
    expect(await cli.run('list', '--data', 'here')).toBe(0);
    expect(cli.out).toBe('no volumes in here; make one with: basalt create NAME SIZE\n');
  });

  test('a volume that is not there fails with 1', async () => {
    expect(await cli.run('show', 'none')).toBe(1);
    expect(cli.error).toBe('basalt: no volume none\n');
  });
});

describe('delete', () => {
  beforeEach(async () => {
    await cli.run('create', 'demo', '1G');
  });

  test('asks, and deletes after a yes', async () => {
    cli.answer = ' Yes ';
    expect(await cli.run('delete', 'demo')).toBe(0);
    expect(cli.questions).toEqual(['Delete demo (1 GiB, 4 KiB stored) and all its data? [y/N] ']);
    expect(cli.volumes.infos.size).toBe(0);
    expect(cli.out).toBe('deleted demo\n');
  });

  test.each(['', 'n', 'yeah', 'demo'])('keeps the volume after the answer "%s"', async (answer) => {
    cli.answer = answer;
    expect(await cli.run('delete', 'demo')).toBe(1);
    expect(cli.volumes.infos.size).toBe(1);
    expect(cli.error).toBe('demo is kept\n');
  });

  test('with nobody to ask refuses with 2', async () => {
    expect(await cli.run('delete', 'demo')).toBe(2);
    expect(cli.error).toContain('add --yes');
    expect(cli.volumes.infos.size).toBe(1);
  });

  test('with --yes does not ask', async () => {
    expect(await cli.run('delete', 'demo', '--yes', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ deleted: 'demo' });
    expect(cli.questions).toEqual([]);
    expect(cli.volumes.infos.size).toBe(0);
  });

  test('a damaged volume can be deleted, one that is not there cannot', async () => {
    cli.volumes.damaged.add('demo');
    cli.answer = 'y';
    expect(await cli.run('delete', 'demo')).toBe(0);
    expect(cli.questions[0]).toContain('damaged: volume demo: manifest: bad checksum');
    expect(cli.volumes.infos.size).toBe(0);
    expect(await cli.run('delete', 'none', '--yes')).toBe(1);
  });
});

describe('serve', () => {
  test('listens on 127.0.0.1:10809 unless told otherwise', async () => {
    expect(await cli.run('serve')).toBe(0);
    expect(cli.plans[0]).toMatchObject({ directory: './volumes', addresses: ['127.0.0.1:10809'], sockets: [], logLevel: 'info', json: false });
  });

  test('takes several addresses and sockets', async () => {
    await cli.run('serve', '--listen', '[::1]:1', '--listen', '127.0.0.1:2', '--socket', '/a b', '--socket', '/c', '--log-level', 'debug', '--json');
    expect(cli.plans[0]).toMatchObject({ addresses: ['[::1]:1', '127.0.0.1:2'], sockets: ['/a b', '/c'], logLevel: 'debug', json: true });
    await cli.run('serve', '--socket', '/c');
    expect(cli.plans[1]).toMatchObject({ addresses: [], sockets: ['/c'] });
  });

  test('takes every setting as a flag, over variables and the file', async () => {
    cli.files.set('a.toml', 'server.max_connections = 1\nserver.max_options = 77\nengine.batch_ms = 1\n');
    cli.environment = { BASALT_SERVER_MAX_CONNECTIONS: '2', BASALT_ENGINE_BATCH_MS: '2' };
    await cli.run('serve', '--config', 'a.toml', '--server.max-connections', '3');
    const settings = cli.plans[0]?.settings;
    expect(settings?.server).toMatchObject({ maxConnections: 3, maxOptions: 77 });
    expect(settings?.engine.batchMs).toBe(2);
  });

  test('takes the sockets that systemd has opened, and no others beside them', async () => {
    cli.activated = [3, 4];
    await cli.run('serve');
    expect(cli.plans[0]).toMatchObject({ addresses: [], sockets: [], activated: [3, 4], stdio: false });
    expect(await cli.run('serve', '--socket', '/c')).toBe(2);
    expect(cli.error).toContain('systemd has opened the sockets (LISTEN_FDS)');
  });

  test('on standard input serves nothing else', async () => {
    await cli.run('serve', '--stdio');
    expect(cli.plans[0]).toMatchObject({ addresses: [], sockets: [], activated: [], stdio: true });
    expect(await cli.run('serve', '--stdio', '--listen', '127.0.0.1:1')).toBe(2);
    expect(cli.error).toContain('--stdio serves standard input alone');
  });

  test('hands on what the file says of exports', async () => {
    cli.files.set('a.toml', '[exports.demo]\nread_only = true\n');
    await cli.run('serve', '--config', 'a.toml');
    expect(cli.plans[0]?.settings.exports.get('demo')).toMatchObject({ readOnly: true });
  });

  test('passes on the exit code', async () => {
    cli.serveExitCode = 1;
    expect(await cli.run('serve')).toBe(1);
  });
});

describe('pki', () => {
  test('makes certificates for this machine and what is asked for', async () => {
    expect(await cli.run('pki', 'my pki', '--host', 'nbd.example', '--host', '10.0.0.1', '--client', 'alice', '--days', '30')).toBe(0);
    expect(cli.pkis).toEqual([{ directory: 'my pki', hosts: ['nbd.example', '10.0.0.1'], clientName: 'alice', days: 30 }]);
    expect(cli.out).toContain("--server.tls-certificates 'my pki'");
  });

  test.each([
    ['--days', '0'],
    ['--days', 'x'],
    ['--client', 'größe'],
    ['--host', ''],
    ['--client', 'a,b'],
  ])('refuses %s %j', async (flag, value) => {
    expect(await cli.run('pki', 'p', flag, value)).toBe(2);
    expect(cli.pkis).toEqual([]);
  });
});

describe('settings', () => {
  test('lists every setting with its range and source', async () => {
    cli.environment = { BASALT_ENGINE_BATCH_MS: '2s' };
    expect(await cli.run('settings')).toBe(0);
    expect(cli.out).toMatch(/^engine\.batch_ms +2 s \(environment variable BASALT_ENGINE_BATCH_MS\) +from 1 ms to 1 h/m);
    expect(cli.out).toMatch(/^server\.default_export +"" +at most 4096 bytes/m);
  });

  test('lists what is said of exports behind them', async () => {
    cli.files.set('a.toml', 'exports.demo = { read_only = true, allow = ["10.0.0.0/8", "unix"] }\nexports."*".allow = []\n');
    expect(await cli.run('settings', '--config', 'a.toml')).toBe(0);
    expect(cli.out).toContain('\nexports.demo: read-only, from 2 ranges of addresses\nexports.*: writable, from 0 ranges of addresses\n');
  });

  test('as TOML is a file that can be passed back', async () => {
    expect(await cli.run('settings', '--toml')).toBe(0);
    expect(cli.out).toContain('#arena_bytes = "');
    cli.files.set('a.toml', cli.out.replace(/^#batch_ms = .*$/m, 'batch_ms = 77'));
    expect(await cli.run('settings', '--config', 'a.toml')).toBe(0);
    expect(cli.out).toMatch(/^engine\.batch_ms +77 ms \(a\.toml\)/m);
  });

  test('as JSON names variable and flag', async () => {
    expect(await cli.run('settings', '--json', '--engine.arena-bytes=256M')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          key: 'engine.arena_bytes',
          value: 256 * MIB,
          source: 'flag --engine.arena-bytes',
          environment: 'BASALT_ENGINE_ARENA_BYTES',
          flag: '--engine.arena-bytes',
        }),
      ]),
    );
  });
});

test('a table puts numbers to the right and leaves no spaces at the end', () => {
  expect(formatTable([['A', 'B', 'C'], ['x', 5, 'long'], ['yyy', 100, '']])).toBe('A    B    C\nx      5  long\nyyy  100\n');
});

test('a word is quoted for the shell only where it needs it', () => {
  expect(['demo', 'a b', '$x', "q'"].map(shellWord)).toEqual(['demo', "'a b'", "'$x'", String.raw`'q'\'''`]);
});
