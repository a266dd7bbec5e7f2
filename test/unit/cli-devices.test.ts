import { beforeEach, describe, expect, test } from 'vitest';
import type { AttachedBy, ListedDevice } from '../../src/attach/attach-tools.ts';
import type { AttachOptions, Rescued } from '../../src/attach/attacher.ts';
import { VolumeError } from '../../src/base/errors.ts';
import type { DeviceTools } from '../../src/cli/context.ts';
import { formatNbdUri, type NbdTarget } from '../../src/protocol/uri.ts';
import { FakeCli, notAsked } from '../support/cli-double.ts';

const URI = 'nbd://127.0.0.1:10809/demo';
const attached: AttachedBy = { device: '/dev/nbd0', index: 0, uri: URI, sizeBytes: 1024 ** 3, readOnly: false, isNew: true, via: 'netlink' };
const device: ListedDevice = { index: 0, path: '/dev/nbd0', sizeBytes: 1024 ** 3, readOnly: false, isAttached: true, pid: 5, backend: URI, users: ['mounted on /mnt'] };

const refusing: DeviceTools = { attach: notAsked, supervise: notAsked, detach: notAsked, rescue: notAsked, list: notAsked };

let cli: FakeCli;
let asked: unknown[];
let targets: NbdTarget[];
beforeEach(() => {
  cli = new FakeCli();
  asked = [];
  targets = [];
});

function answer(tools: Partial<DeviceTools>): void {
  cli.devices = { ...refusing, ...tools };
}

const attach = (result: AttachedBy) => (options: AttachOptions) => {
  asked.push(options);
  targets.push(options.target);
  return Promise.resolve(result);
};

describe('attach', () => {
  test('takes a name at the server of this machine, with bounds for everything', async () => {
    answer({ attach: attach(attached) });
    expect(await cli.run('attach', 'demo')).toBe(0);
    expect(cli.out).toBe(`${URI} is attached as /dev/nbd0 (1 GiB)\n`);
    expect(asked).toEqual([{ target: { address: { host: '127.0.0.1', port: 10809 }, exportName: 'demo', tls: false }, index: null, connections: 1, blockSizeBytes: 4096, timeoutSeconds: 5, deadTimeoutSeconds: 120 }]);
  });

  test('takes a URI, a device, another server, and numbers', async () => {
    answer({ attach: attach({ ...attached, isNew: false }) });
    expect(await cli.run('attach', 'nbd+unix:///demo?socket=/s', '/dev/nbd7', '--connections', '4', '--block-size', '512', '--timeout', '30', '--dead-timeout', '600')).toBe(0);
    expect(cli.out).toContain('was attached as /dev/nbd0 already');
    expect(asked).toMatchObject([{ target: { address: { path: '/s' } }, index: 7, connections: 4, blockSizeBytes: 512, timeoutSeconds: 30, deadTimeoutSeconds: 600 }]);
    expect(await cli.run('attach', 'demo', 'nbd3', '--server', 'nbd+unix:///?socket=/s', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ ...attached, isNew: false });
    expect(targets.map(formatNbdUri)).toEqual(['nbd+unix:///demo?socket=/s', 'nbd+unix:///demo?socket=/s']);
  });

  test.each([
    [['attach'], 'attach: something is missing; usage: basalt attach NAME|URI [DEVICE]'],
    [['attach', 'demo', '/dev/sda'], 'attach: "/dev/sda" is no NBD device; write /dev/nbd0, or leave it out to take the first free one'],
    [['attach', 'demo', '--connections', '0'], '--connections takes one whole number from 1 to 16'],
    [['attach', 'demo', '--timeout', '1.5'], '--timeout takes one whole number from 1 to 3600'],
    [['attach', 'demo', '--timeout', '5', '--timeout', '6'], '--timeout takes one whole number from 1 to 3600'],
    [['attach', 'demo', '--dead-timout', '5'], 'attach: no flag --dead-timout; did you mean --dead-timeout?'],
    [['attach', 'demo', '--keep'], 'attach: --keep is for --supervise; without it a device always stays'],
    [['attach', 'demo', '--server', 'http://x'], 'server: "http://x" is no NBD URI: write nbd://HOST:PORT/NAME or nbd+unix:///NAME?socket=PATH'],
    [['attach', 'demo', '--server', 'nbd://h/x'], 'server: "nbd://h/x" names an export; give the whole URI in place of the name instead'],
    [['attach', 'nbd://'], '"nbd://" names no host: write nbd://HOST:PORT/NAME or nbd+unix:///NAME?socket=PATH'],
    [['detach'], 'detach: something is missing; usage: basalt detach DEVICE|NAME|URI'],
    [['attached', 'demo'], 'attached: unexpected argument "demo"; usage: basalt attached'],
    [['rescue', 'demo', '--force'], 'rescue: no flag --force; did you mean --server?'],
  ])('%j is wrong usage', async (words, message) => {
    answer({});
    expect([await cli.run(...words), cli.error]).toEqual([2, `basalt: ${message}\n`]);
  });

  test('that stays says how it began and how it ended', async () => {
    answer({
      supervise: (_, { onAttached, ...supervision }) => {
        asked.push(supervision);
        onAttached(attached);
        return Promise.resolve({ device: '/dev/nbd0', end: 'detached', pauses: 2, longestPauseMs: 1480 });
      },
    });
    expect(await cli.run('attach', 'demo', '--supervise', '--keep', '--size-check', '3', '--log-level', 'warn')).toBe(0);
    expect(asked).toEqual([{ sizeCheckMs: 3000, keep: true, logLevel: 'warn' }]);
    expect(cli.out).toBe(`${URI} is attached as /dev/nbd0 (1 GiB)\n/dev/nbd0 is detached; 2 times without a connection, 1.5 s at most\n`);
    expect(await cli.run('attach', 'demo', '--supervise', '--json')).toBe(0);
    const [first = '', ...rest] = cli.out.split('\n');
    expect(JSON.parse(first)).toEqual(attached);
    expect(JSON.parse(rest.join('\n'))).toEqual({ device: '/dev/nbd0', end: 'detached', pauses: 2, longestPauseMs: 1480 });
  });
});

test('detach takes a device or a name, and says what it detached', async () => {
  answer({ detach: (what) => Promise.resolve(void asked.push(what)).then(() => device) });
  expect(await cli.run('detach', 'demo')).toBe(0);
  expect(cli.out).toBe('/dev/nbd0 is detached\n');
  expect(await cli.run('detach', '/dev/nbd0', '--json')).toBe(0);
  expect(JSON.parse(cli.out)).toEqual({ device: '/dev/nbd0', uri: URI });
  expect(asked).toEqual(['demo', '/dev/nbd0']);
});

test('what fails is told with its code', async () => {
  answer({ detach: () => Promise.reject(new VolumeError('in-use', '/dev/nbd0 is in use', { context: { device: '/dev/nbd0' } })) });
  expect(await cli.run('detach', 'demo', '--json')).toBe(1);
  expect(JSON.parse(cli.error)).toEqual({ error: { code: 'in-use', message: '/dev/nbd0 is in use', context: { device: '/dev/nbd0' } } });
});

test('attached is a table, or says how to begin', async () => {
  const free = { ...device, index: 1, path: '/dev/nbd1', sizeBytes: 0, isAttached: false, backend: null, users: [] };
  answer({ list: ({ all }) => Promise.resolve(all ? [device, { ...device, index: 2, path: '/dev/nbd2', backend: null, readOnly: true, users: [] }, free] : []) });
  expect(await cli.run('attached')).toBe(0);
  expect(cli.out).toBe('nothing is attached; sudo basalt attach NAME does it\n');
  expect(await cli.run('attached', '--all')).toBe(0);
  expect(cli.out.split('\n')).toEqual([
    'DEVICE     SIZE               EXPORT                      USED BY',
    `/dev/nbd0  1 GiB              ${URI}  mounted on /mnt`,
    '/dev/nbd2  1 GiB (read-only)  by another program          nobody',
    '/dev/nbd1  -                  free                        -',
    '',
  ]);
});

test.each<[Rescued, string]>([
  [{ device: '/dev/nbd0', outcome: 'reconnected', users: ['mounted on /mnt'] }, 'the server answers: /dev/nbd0 has new connections, and nothing is lost\n'],
  [{ device: '/dev/nbd0', outcome: 'freed', users: [] }, '/dev/nbd0 is free\n'],
  [{ device: '/dev/nbd0', outcome: 'held', users: ['mounted on /a', 'mounted on /b'] }, '/dev/nbd0 is disconnected, its requests fail, and it is free when nobody uses it any more (mounted on /a, mounted on /b): umount /a && umount /b (with -l if that does not end), and look at the file system with fsck when it is attached again\n'],
  [{ device: '/dev/nbd0', outcome: 'held', users: ['open in process 7 (fio)'] }, '/dev/nbd0 is disconnected, its requests fail, and it is free when nobody uses it any more (open in process 7 (fio)): end those who use it\n'],
])('rescue says what there is to do: %j', async (rescued, text) => {
  answer({ rescue: (_, __, mayLose) => Promise.resolve(void asked.push(mayLose)).then(() => rescued) });
  expect(await cli.run('rescue', 'nbd0')).toBe(0);
  expect(cli.out).toBe(text);
  expect(await cli.run('rescue', 'nbd0', '--yes', '--json')).toBe(0);
  expect(JSON.parse(cli.out)).toEqual(rescued);
  expect(asked).toEqual([false, true]);
});

test.each(['attach', 'detach', 'attached', 'rescue'])('%s --help has an example', async (verb) => {
  expect(await cli.run(verb, '--help')).toBe(0);
  expect(cli.out).toMatch(new RegExp(`Examples:\\s+(?:sudo )?basalt ${verb}`));
});
