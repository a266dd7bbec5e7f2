import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import type { DeviceFacts } from '../../src/cli/device-facts.ts';
import type { FileFacts, Host, Space } from '../../src/cli/doctor/host.ts';
import { NODE_ALL_FROM, NODE_MINORS } from '../../src/cli/doctor/machine-checks.ts';
import { FakeCli } from '../support/cli-double.ts';
import { systemError } from '../support/fake-world.ts';
import { findingsOf, type Found } from '../support/findings.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';

const DATA = '/srv/volumes';
const LIMITS = 'Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 1048576              files     \n';
const NETLINK = 'sk               Eth Pid\n000000006c723c1b 0   0\n000000003442481b 16  0\n';

/** A sound machine, parts of which a test breaks. */
class FakeHost implements Host {
  nodeVersion = '24.11.0';
  platform = 'linux';
  architecture = 'arm64';
  kernel = '6.1.0';
  memoryBytes = 8 * GIB;
  userId = 1000;
  hasFastChecksum = true;
  koffi: string | null = null;
  now = Date.UTC(2027, 0, 1);
  readonly texts = new Map<string, string>([['/proc/self/limits', LIMITS], ['/proc/net/netlink', NETLINK]]);
  readonly files = new Map<string, FileFacts>([[DATA, { isDirectory: true, mode: 0o700, ownerId: 1000 }], ['/sys/module/nbd', { isDirectory: true, mode: 0o755, ownerId: 0 }]]);
  readonly notWritable = new Set<string>();
  readonly lists = new Map<string, string[]>();
  readonly programs = new Map<string, string>([['flock', 'flock from util-linux 2.38.1'], ['timedatectl', 'yes']]);
  freeSpace: Space = { freeBytes: 20 * GIB, totalBytes: 100 * GIB };
  device: DeviceFacts | null = { fileSystem: 'ext4', mountPoint: '/srv', isReadOnly: false, disk: 'sda', isCard: false, sectorBytes: 512, eraseBlockBytes: null, partitionOffsetBytes: 0 };
  syncMs = 3;
  syncError: Error | null = null;
  tls: string | VolumeError | null = null;

  koffiObstacle(): string | null {
    return this.koffi;
  }
  wallMs(): number {
    return this.now;
  }
  readText(path: string): Promise<string | null> {
    return Promise.resolve(this.texts.get(path) ?? null);
  }
  list(path: string): Promise<readonly string[]> {
    return Promise.resolve(this.lists.get(path) ?? []);
  }
  look(path: string): Promise<FileFacts | null> {
    return Promise.resolve(this.files.get(path) ?? null);
  }
  mayWrite(path: string): Promise<boolean> {
    return Promise.resolve(!this.notWritable.has(path));
  }
  space(): Promise<Space> {
    return Promise.resolve(this.freeSpace);
  }
  facts(): Promise<DeviceFacts | null> {
    return Promise.resolve(this.device);
  }
  run(program: string): Promise<string | null> {
    return Promise.resolve(this.programs.get(program) ?? null);
  }
  trySync(): Promise<number> {
    return this.syncError === null ? Promise.resolve(this.syncMs) : Promise.reject(this.syncError);
  }
  tlsProblem(): Promise<string | null> {
    return this.tls instanceof VolumeError ? Promise.reject(this.tls) : Promise.resolve(this.tls);
  }
}

let host: FakeHost;
let cli: FakeCli;
beforeEach(() => {
  host = new FakeHost();
  cli = new FakeCli();
  cli.host = host;
});

/** For members of objects, whose types do not say `any`. */
const containing = (text: string): unknown => expect.stringContaining(text);

/** What is not right, and the exit code. */
async function examine(...words: string[]): Promise<{ readonly code: number; readonly wrong: readonly Found[]; readonly all: readonly Found[] }> {
  const code = await cli.run('doctor', '--data', DATA, '--json', ...words);
  expect(cli.error).toBe('');
  const { ok, findings } = findingsOf(cli.out);
  expect(ok).toBe(code === 0);
  return { code, wrong: findings.filter(({ state }) => state !== 'ok'), all: findings };
}

test('a sound machine has nothing to mend, and all checks have names of their own', async () => {
  const { code, wrong, all } = await examine();
  expect([code, wrong]).toEqual([0, []]);
  const names = all.map(({ check }) => check);
  expect(names).toEqual(['node', 'system', 'flock', 'package crc32', 'package koffi', 'nbd module', 'netlink', 'clock', 'settings', 'open files', 'memory', 'data folder', 'file system', 'disk space', 'disk sync']);
});

test('the Node versions are those of package.json', () => {
  const manifest: unknown = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8'));
  expect(manifest).toMatchObject({ engines: { node: [...[...NODE_MINORS].map(([major, minor]) => `^${major}.${minor}`), `>=${NODE_ALL_FROM}`].join(' || ') } });
});

type Break = (machine: FakeHost) => void;

describe('a failure, with exit code 1 and what mends it, is', () => {
  test.each<[string, Break, string, string, string]>([
    ['an old Node', (it) => (it.nodeVersion = '20.18.9'), 'node', 'Node 20.18.9', 'install Node 24'],
    ['a Node between two lines', (it) => (it.nodeVersion = '23.5.0'), 'node', '20.19 or a later 20, 22.12 or a later 22, 24 or later', 'nvm install 24'],
    ['no flock', (it) => it.programs.delete('flock'), 'flock', 'flock is missing', 'sudo apt-get install util-linux'],
    ['a clock of long ago', (it) => (it.now = 0), 'clock', '1970-01-01', 'sudo timedatectl set-ntp true'],
    ['a data folder that is a file', (it) => it.files.set(DATA, { isDirectory: false, mode: 0o600, ownerId: 1000 }), 'data folder', 'no directory', '--data'],
    ["somebody else's data folder", (it) => it.notWritable.add(DATA), 'data folder', 'belongs to user 1000, with mode 700', `sudo chown -R "$(id -u):$(id -g)" ${DATA}`],
    ['a file system that became read-only', (it) => (it.device = { ...(it.device ?? raise()), isReadOnly: true }), 'file system', 'read-only', 'remount,rw /srv'],
    ['a full disk', (it) => (it.freeSpace = { freeBytes: 64 * KIB, totalBytes: GIB }), 'disk space', '64 KiB of 1 GiB are free', 'free some'],
    ['a disk that fails', (it) => (it.syncError = systemError('EIO')), 'disk sync', 'EIO', 'dmesg'],
  ])('%s', async (_, breakIt, check, message, mend) => {
    breakIt(host);
    const { code, wrong } = await examine();
    expect(code).toBe(1);
    expect(wrong).toEqual([{ check, state: 'failure', message: containing(message), mend: containing(mend) }]);
  });

  test('a folder that is missing where nobody may make it', async () => {
    host.files.delete(DATA);
    host.notWritable.add('/srv');
    const { code, wrong } = await examine();
    expect([code, wrong]).toEqual([1, [expect.objectContaining({ check: 'data folder', state: 'failure', mend: containing('sudo install -d -m 700') })]]);
  });

  test('a volume that root has made', async () => {
    host.lists.set(DATA, ['mine', 'roots', 'control.sock']);
    for (const name of ['mine', 'roots']) host.files.set(`${DATA}/${name}/manifest`, { isDirectory: false, mode: 0o600, ownerId: name === 'mine' ? 1000 : 0 });
    host.notWritable.add(`${DATA}/roots/manifest`);
    const { code, wrong } = await examine();
    expect([code, wrong]).toEqual([1, [expect.objectContaining({ check: 'volume files', message: containing('volume roots'), mend: containing(`${DATA}/roots`) })]]);
  });

  test.each([
    ['settings that are refused', 'engine.arena_byte = "1G"', 'did you mean'],
    ['settings that do not fit together', '[engine]\ndirty_bytes = "192M"', 'must be smaller than engine.arena_bytes'],
  ])('%s, and the rest is looked at all the same', async (_, text, message) => {
    cli.files.set('a.toml', text);
    const { code, wrong, all } = await examine('--config', 'a.toml');
    expect([code, wrong]).toEqual([1, [expect.objectContaining({ check: 'settings', state: 'failure', message: containing(message) })]]);
    expect(all.map(({ check }) => check)).toContain('disk sync');
  });

  test('a settings file that is not there', async () => {
    const { code, wrong } = await examine('--config', 'none.toml');
    expect([code, wrong]).toEqual([1, [expect.objectContaining({ check: 'settings', message: 'no file none.toml' })]]);
  });

  test('certificates that cannot be read', async () => {
    host.tls = new VolumeError('not-found', 'pki/server-cert.pem is not there');
    const { code, wrong } = await examine('--server.tls', 'forced', '--server.tls-certificates', 'pki');
    expect([code, wrong]).toEqual([1, [expect.objectContaining({ check: 'certificates', state: 'failure', mend: containing('basalt pki pki') })]]);
  });
});

describe('a warning, with exit code 0, is', () => {
  test.each<[string, Break, string, string, string | null]>([
    ['another system', (it) => (it.platform = 'darwin'), 'system', 'made for Linux', 'WSL 2'],
    ['another processor', (it) => (it.architecture = 'riscv64'), 'system', 'tested on x64 and arm64', null],
    ['no fast checksum', (it) => (it.hasFastChecksum = false), 'package crc32', 'does not load', 'npm install @node-rs/crc32'],
    ['an nbd module that is not loaded', (it) => unloadNbd(it, true), 'nbd module', 'not loaded', 'sudo modprobe nbd'],
    ['a kernel without nbd', (it) => unloadNbd(it, false), 'nbd module', 'no nbd module', 'linux-modules-extra'],
    ['no netlink, and no nbd-client', (it) => it.texts.delete('/proc/net/netlink'), 'netlink', 'nothing here attaches', 'sudo apt-get install nbd-client'],
    ['a clock that nobody keeps right', (it) => it.programs.set('timedatectl', 'no'), 'clock', 'nothing keeps the clock right', 'set-ntp true'],
    ['few files', (it) => it.texts.set('/proc/self/limits', LIMITS.replace('1048576', '1024   ')), 'open files', 'only 1024 files', 'LimitNOFILE=1424'],
    ['little memory', (it) => (it.memoryBytes = 256 * MIB), 'memory', 'more than there is', 'jetson-sd'],
    ['a control group with little memory', (it) => it.texts.set('/sys/fs/cgroup/memory.max', `${256 * MIB}\n`), 'memory', 'of 256 MiB', 'jetson-sd'],
    ['a folder that is not there yet', (it) => it.files.delete(DATA), 'data folder', 'not there yet', 'basalt create NAME SIZE'],
    ['a folder for all to write', (it) => it.files.set(DATA, { isDirectory: true, mode: 0o777, ownerId: 1000 }), 'data folder', 'mode 777', `chmod go-w ${DATA}`],
    ['memory as a disk', (it) => (it.device = { ...(it.device ?? raise()), fileSystem: 'tmpfs' }), 'file system', 'is memory', '--data'],
    ['a network as a disk', (it) => (it.device = { ...(it.device ?? raise()), fileSystem: 'nfs4' }), 'file system', 'not on this machine', '--data'],
    ['a disk nearly full', (it) => (it.freeSpace = { freeBytes: 900 * MIB, totalBytes: GIB }), 'disk space', '900 MiB of 1 GiB', 'free some'],
    ['a slow sync', (it) => (it.syncMs = 900), 'disk sync', 'after 900.0 ms', 'basalt tune'],
  ])('%s', async (_, breakIt, check, message, mend) => {
    breakIt(host);
    const { code, wrong } = await examine();
    const expectedMend = mend === null ? null : containing(mend);
    expect(wrong).toEqual([{ check, state: 'warning', message: containing(message), mend: expectedMend }]);
    expect(code).toBe(0);
  });

  test('a missing koffi: no mapped log, and nbd-client in place of netlink', async () => {
    host.koffi = 'the package koffi is not installed';
    host.programs.set('nbd-client', 'nbd-client version 3.24');
    const { code, wrong } = await examine();
    expect([code, wrong.map(({ check, mend }) => [check, mend])]).toEqual([0, [['package koffi', expect.stringContaining('npm install koffi')], ['netlink', expect.stringContaining('npm install koffi')]]]);
  });

  test('a certificate that is no longer valid', async () => {
    host.tls = 'expired yesterday';
    const { code, wrong } = await examine('--server.tls', 'forced', '--server.tls-certificates', 'pki');
    expect([code, wrong]).toEqual([0, [expect.objectContaining({ check: 'certificates', state: 'warning', message: 'server-cert.pem expired yesterday' })]]);
  });
});

function unloadNbd(machine: FakeHost, hasFile: boolean): void {
  machine.files.delete('/sys/module/nbd');
  if (hasFile) machine.texts.set('/lib/modules/6.1.0/modules.dep', 'kernel/fs/ext4.ko:\nkernel/drivers/block/nbd.ko.xz:\n');
}

function raise(): never {
  throw new Error('the machine has a disk');
}

test('for people it says what mends each, and counts', async () => {
  host.programs.delete('flock');
  host.programs.set('timedatectl', 'no');
  expect(await cli.run('doctor', '--data', DATA)).toBe(1);
  expect(cli.out).toMatch(/^ok {7}node +Node 24\.11\.0$/m);
  expect(cli.out).toMatch(/^FAILURE {2}flock +the program flock is missing/m);
  expect(cli.out).toMatch(/^ +mend: sudo apt-get install util-linux$/m);
  expect(cli.out.endsWith('13 ok, 1 warning, 1 failure\n')).toBe(true);
});
