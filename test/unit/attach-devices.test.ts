/** What the system says of its NBD devices, from files as /sys and /proc have them. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Devices, parseDeviceName } from '../../src/attach/devices.ts';
import { Scratch } from '../support/engine-harness.ts';

let scratch: Scratch;
let devices: Devices;
beforeEach(() => {
  scratch = new Scratch();
  devices = new Devices(scratch.path);
});
afterEach(() => scratch.remove());

function file(path: string, text: string): void {
  mkdirSync(dirname(`${scratch.path}${path}`), { recursive: true });
  writeFileSync(`${scratch.path}${path}`, text);
}

function device(index: number, { size = 0, ...files }: { size?: number; pid?: string; backend?: string } = {}): void {
  file(`/sys/block/nbd${index}/size`, `${size}\n`);
  file(`/sys/block/nbd${index}/ro`, '0\n');
  file(`/sys/block/nbd${index}/dev`, `43:${index * 32}\n`);
  for (const [name, text] of Object.entries(files)) file(`/sys/block/nbd${index}/${name}`, text);
}

test('names of devices are told from all others', () => {
  for (const [name, index] of [['/dev/nbd0', 0], ['nbd12', 12], ['/dev/nbd0p1', null], ['/dev/sda', null], ['nbd', null], ['nbd-1', null], ['./nbd0', null], ['nbd0 ', null], ['nbd1234567', null]] as const) expect(parseDeviceName(name), name).toBe(index);
});

test('a machine without the module has none', async () => {
  expect(await devices.isModuleLoaded()).toBe(false);
  expect(await devices.list()).toEqual([]);
  await expect(devices.find(0)).rejects.toMatchObject({ code: 'not-found' });
  file('/sys/module/nbd/initstate', 'live\n');
  expect(await devices.isModuleLoaded()).toBe(true);
});

test('devices are listed by number, with what they are attached to', async () => {
  device(10);
  device(2, { size: 2048, pid: '77\n', backend: 'nbd://127.0.0.1:10809/demo\n' });
  device(0, { size: 8, pid: '78\n', backend: '\n' });
  file('/sys/block/nbd0/ro', '1\n');
  file('/sys/block/sda/size', '1\n');
  const free = { sizeBytes: 0, readOnly: false, isAttached: false, pid: null, backend: null };
  expect(await devices.isModuleLoaded()).toBe(true);
  expect(await devices.list()).toEqual([
    { index: 0, path: '/dev/nbd0', sizeBytes: 4096, readOnly: true, isAttached: true, pid: 78, backend: null },
    { index: 2, path: '/dev/nbd2', sizeBytes: 1024 * 1024, readOnly: false, isAttached: true, pid: 77, backend: 'nbd://127.0.0.1:10809/demo' },
    { ...free, index: 10, path: '/dev/nbd10' },
  ]);
  expect(await devices.find(10)).toMatchObject({ index: 10, isAttached: false });
});

test('whoever uses a device or a partition of it is named', async () => {
  device(0);
  device(1);
  file('/sys/block/nbd1/nbd1p1/dev', '43:33\n');
  mkdirSync(`${scratch.path}/sys/block/nbd1/nbd1p1/holders/dm-3`, { recursive: true });
  expect(await devices.usersOf(1)).toEqual(['held by /dev/dm-3']);
  file('/proc/self/mountinfo', '20 1 43:0 / /mnt/zero rw - ext4 /dev/nbd0 rw\n21 1 43:33 / /mnt/with\\040space rw,relatime shared:1 - ext4 /dev/nbd1p1 rw\n22 1 0:40 / /mnt/b rw - btrfs /dev/nbd1 rw\n');
  file('/proc/1/mountinfo', '21 1 43:33 / /mnt/with\\040space rw - ext4 /dev/nbd1p1 rw\n23 1 43:32 / /other rw - ext4 /dev/nbd1 rw\n');
  file('/proc/swaps', 'Filename\tType\tSize\n/dev/nbd1p1  partition 100 0\n');
  mkdirSync(`${scratch.path}/proc/55/fd`, { recursive: true });
  symlinkSync('/dev/nbd1', `${scratch.path}/proc/55/fd/3`);
  file('/proc/55/comm', 'fio\n');
  mkdirSync(`${scratch.path}/proc/56/fd`, { recursive: true });
  symlinkSync('/dev/nbd10', `${scratch.path}/proc/56/fd/3`);
  expect(await devices.usersOf(1)).toEqual(['mounted on /mnt/with space', 'mounted on /mnt/b', 'mounted on /other', 'swap is on /dev/nbd1p1', 'held by /dev/dm-3', 'open in process 55 (fio)']);
  expect(await devices.usersOf(0)).toEqual(['mounted on /mnt/zero']);
});
