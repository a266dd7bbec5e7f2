import { beforeEach, describe, expect, test } from 'vitest';
import { FakeCli, FakeVolumes, NOT_ASKED } from '../support/cli-double.ts';

let cli: FakeCli;
beforeEach(async () => {
  cli = new FakeCli();
  await cli.run('create', 'demo', '1G');
});

/** A server that has the volumes of the double: the verbs must do the same through it. */
function serve(): FakeVolumes {
  const served = new FakeVolumes();
  for (const [name, info] of cli.volumes.infos) served.infos.set(name, info);
  const bound = { describe: served.describe.bind(served), remove: served.remove.bind(served), rename: served.rename.bind(served), resize: served.resize.bind(served), labelsOf: served.labelsOf.bind(served), setLabels: served.setLabels.bind(served) };
  cli.server = { ...NOT_ASKED, ...bound };
  cli.opened.length = 0;
  return served;
}

describe.each(['without a server', 'with one'])('%s', (how) => {
  let volumes: FakeVolumes;
  beforeEach(() => {
    volumes = how === 'with one' ? serve() : cli.volumes;
  });

  test('rename gives a volume another name', async () => {
    expect(await cli.run('rename', 'demo', 'other', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ name: 'other', renamedFrom: 'demo' });
    expect([...volumes.infos.keys()]).toEqual(['other']);
    expect(await cli.run('rename', 'other', 'demo')).toBe(0);
    expect(cli.out).toBe('other is demo from now on\n');
    expect(await cli.run('rename', 'none', 'x')).toBe(1);
    expect(cli.error).toBe('basalt: no volume none\n');
  });

  test('label sets, takes away and shows labels', async () => {
    expect(await cli.run('label', 'demo')).toBe(0);
    expect(cli.out).toBe('demo has no labels\n');
    expect(await cli.run('label', 'demo', 'owner=alice', 'note=a = b', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ name: 'demo', labels: { owner: 'alice', note: 'a = b' } });
    expect(await cli.run('label', 'demo', 'note-')).toBe(0);
    expect(cli.out).toBe('owner  alice\n');
    expect(await cli.run('label', 'demo', 'note-')).toBe(2);
    expect(cli.error).toBe('basalt: there is no label "note"; there are: owner\n');
  });

  test('resize makes a volume larger, and smaller if that is wanted', async () => {
    expect(await cli.run('resize', 'demo', '2G', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ name: 'demo', sizeBytes: 2 ** 31 });
    expect(await cli.run('resize', 'demo', '1G', '--json')).toBe(2);
    expect(JSON.parse(cli.error)).toEqual({ error: { code: 'usage', message: 'making volume demo smaller cuts off 1073741824 bytes; add --yes if that is wanted', context: { needsConsent: true, volume: 'demo' } } });
    cli.answer = 'no';
    expect(await cli.run('resize', 'demo', '1G')).toBe(1);
    expect(cli.questions).toEqual(['making volume demo smaller cuts off 1073741824 bytes. Do it? [y/N] ']);
    expect(cli.error).toBe('demo keeps its size\n');
    expect(volumes.infos.get('demo')?.sizeBytes).toBe(2 ** 31);
    cli.answer = 'yes';
    expect(await cli.run('resize', 'demo', '1G')).toBe(0);
    expect(cli.out).toBe('demo has 1 GiB from now on; clients see it when they connect anew\n');
    expect(await cli.run('resize', 'demo', '64M', '--yes')).toBe(0);
    expect(volumes.infos.get('demo')?.sizeBytes).toBe(2 ** 26);
    expect(await cli.run('resize', 'none', '1G')).toBe(1);
    expect(await cli.run('resize', 'demo', 'big')).toBe(2);
  });

  test('delete asks, and deletes', async () => {
    cli.answer = 'n';
    expect(await cli.run('delete', 'demo')).toBe(1);
    expect(cli.questions).toEqual(['Delete demo (1 GiB, 4 KiB stored) and all its data? [y/N] ']);
    expect(volumes.infos.size).toBe(1);
    expect(await cli.run('delete', 'demo', '--yes', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ deleted: 'demo' });
    expect(volumes.infos.size).toBe(0);
  });

  test('nothing is opened here that a server has', async () => {
    await cli.run('rename', 'demo', 'other');
    expect(cli.opened.length).toBe(how === 'with one' ? 0 : 2);
  });
});

test.each([
  [['rename', 'demo'], 2, /something is missing; usage: basalt rename NAME NEW/],
  [['rename', 'demo', 'a', 'b'], 2, /unexpected argument "b"/],
  [['label', 'demo', 'owner'], 2, /"owner" is neither KEY=VALUE, which sets a label, nor KEY-, which takes one away/],
  [['label', 'demo', '=x'], 2, /"=x" is neither/],
  [['label', 'demo', 'a=1', 'a-'], 2, /"a" is given twice/],
  [['label', 'demo', '--jsn'], 2, /did you mean --json\?/],
  [['label'], 2, /something is missing; usage: basalt label NAME \[KEY=VALUE\.\.\.\]/],
] as const)('%j is refused', async (words, exitCode, message) => {
  expect(await cli.run(...words)).toBe(exitCode);
  expect(cli.error).toMatch(message);
});

test('show tells labels', async () => {
  await cli.run('label', 'demo', 'owner=alice', 'tier=scratch');
  await cli.run('show', 'demo');
  expect(cli.out).toMatch(/^labels +owner=alice, tier=scratch$/m);
});

describe('create with a server', () => {
  test('goes through it, with what was said of the log and nothing else', async () => {
    cli.opened.length = 0;
    const made: unknown[] = [];
    cli.server = {
      ...NOT_ASKED,
      create: (name, options) => {
        made.push([name, options]);
        return cli.volumes.create(name, options);
      },
    };
    expect(await cli.run('create', 'more', '1G', '--json', '--iops', '5', '--set', 'engine.log_file_count=9')).toBe(0);
    const limits = { operationsPerSecond: 5, burstOperations: null, bytesPerSecond: null, burstBytes: null };
    expect(made).toEqual([['more', { sizeBytes: 2 ** 30, blockSizeBytes: 4096, durability: 'batched', compression: 'default', limits, log: { logFileCount: 9 } }]]);
    expect(JSON.parse(cli.out)).toMatchObject({ name: 'more', limits });
    expect(cli.opened).toEqual([]);
    expect(await cli.run('create', 'more', '1G')).toBe(1);
    expect(cli.error).toContain('volume more exists');
  });
});
