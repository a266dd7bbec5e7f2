/** Attaching, detaching, rescuing, with a kernel and a server of the tests' own. */
import { beforeEach, describe, expect, test } from 'vitest';
import type { AttachOptions } from '../../src/attach/attacher.ts';
import { AttachTools, type SuperviseOptions } from '../../src/attach/attach-tools.ts';
import { deferred } from '../../src/base/async.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { NBD_FLAG_HAS_FLAGS } from '../../src/protocol/constants.ts';
import { parseNbdUri } from '../../src/protocol/uri.ts';
import { FakeKernel, FakeServer, refusalOf } from '../support/fake-kernel.ts';
import { ManualClock, settleMicrotasks, systemError } from '../support/fake-world.ts';
import { MemoryLogger } from '../support/server-harness.ts';

const MIB = 1024 * 1024;
const URI = 'nbd://127.0.0.1:10809/demo';
const local = parseNbdUri('nbd://127.0.0.1');
const options: AttachOptions = { target: parseNbdUri(URI), index: null, connections: 1, blockSizeBytes: 4096, timeoutSeconds: 5, deadTimeoutSeconds: 60 };

let clock: ManualClock;
let server: FakeServer;
let kernel: FakeKernel;
let tools: AttachTools;
let flushed: string[];
let warnings: string[];
let programs: string[];
let modprobe: { status: number; output: string };
let netlink: Error | null;
beforeEach(() => {
  clock = new ManualClock();
  server = new FakeServer();
  kernel = new FakeKernel(server);
  flushed = [];
  warnings = [];
  programs = [];
  modprobe = { status: 0, output: '' };
  netlink = null;
  tools = new AttachTools({
    openKernel: () => (netlink === null ? Promise.resolve(kernel) : Promise.reject(netlink)),
    dialler: server,
    devices: kernel,
    clock,
    flush: (path) => Promise.resolve(void flushed.push(path)),
    run: (program, words) => {
      programs.push([program, ...words].join(' '));
      if (program === 'modprobe' && modprobe.status === 0) kernel.count = 4;
      return Promise.resolve(program === 'modprobe' ? modprobe : { status: 0, output: '' });
    },
    stateOf: server.stateOf,
    warn: (text) => void warnings.push(text),
  });
});

/** Lets a call that sleeps end. */
async function passing<T>(call: Promise<T>): Promise<T> {
  let isEnded = false;
  const ended = call.finally(() => {
    isEnded = true;
  });
  ended.catch(() => undefined);
  for (let turn = 0; turn < 400 && !isEnded; turn += 1) {
    await settleMicrotasks();
    clock.advance(50);
  }
  return ended;
}

const nothingIsLeftOpen = (): void => expect([...server.connections.keys()]).toEqual([]);

describe('attach', () => {
  test('takes the first free device, and keeps no descriptor', async () => {
    expect(await tools.attach({ ...options, connections: 3 })).toEqual({ device: '/dev/nbd0', index: 0, uri: URI, sizeBytes: MIB, readOnly: false, isNew: true, via: 'netlink' });
    expect(kernel.devices.get(0)?.message).toMatchObject({ backend: URI, blockSizeBytes: 4096, timeoutSeconds: 5, deadTimeoutSeconds: 60, serverFlags: server.terms.flags });
    expect(kernel.calls).toEqual([`connect any ${MIB} over 3`, 'close']);
    nothingIsLeftOpen();
  });

  test('loads the module, or says what is missing', async () => {
    kernel.count = 0;
    await tools.attach(options);
    expect(programs).toEqual(['modprobe nbd']);
    kernel.count = 0;
    modprobe = { status: 1, output: 'modprobe: FATAL: Module nbd not found in directory /lib/modules/6.1' };
    expect(await refusalOf(tools.attach(options))).toMatch(/^unsupported: .*no module nbd .*linux-modules-extra/);
    modprobe = { status: 1, output: "modprobe: ERROR: could not insert 'nbd': Operation not permitted" };
    expect(await refusalOf(tools.attach(options))).toMatch(/^denied: .*sudo modprobe nbd/);
  });

  test('needs root, and says so', async () => {
    kernel.isPrivileged = false;
    expect(await refusalOf(tools.attach(options))).toMatch(/^denied: .*sudo/);
    nothingIsLeftOpen();
  });

  test('of what is attached already brings it up to date, and is not a second device', async () => {
    await tools.attach({ ...options, connections: 2 });
    kernel.kill(0);
    server.terms = { ...server.terms, sizeBytes: 3 * MIB };
    expect(await tools.attach(options)).toMatchObject({ device: '/dev/nbd0', isNew: false, sizeBytes: 3 * MIB });
    expect(kernel.alive(0)).toBe(2);
    expect(kernel.devices.get(0)?.sizeBytes).toBe(3 * MIB);
    await expect(tools.attach({ ...options, index: 1 })).rejects.toThrow(/attached as \/dev\/nbd0 already/);
    expect([...kernel.devices.keys()]).toEqual([0]);
    nothingIsLeftOpen();
  });

  test('of a device that is in use says by whom', async () => {
    await tools.attach({ ...options, index: 2 });
    kernel.users.set(2, ['mounted on /mnt']);
    const other = parseNbdUri('nbd://127.0.0.1/other');
    const refusal = await refusalOf(tools.attach({ ...options, target: other, index: 2 }));
    expect(refusal).toContain(`attached to ${URI}, mounted on /mnt`);
    expect(refusal).toMatch(/^in-use: /);
    expect((await tools.attach({ ...options, target: other })).device).toBe('/dev/nbd0');
  });

  test('passes on what the server says, and leaves nothing half-done', async () => {
    for (const refusal of [new VolumeError('not-found', 'the server has no export'), new VolumeError('unsupported', 'the server wants TLS')]) {
      server.refusal = refusal;
      await expect(tools.attach(options)).rejects.toBe(refusal);
    }
    server.refusal = null;
    server.terms = { ...server.terms, flags: NBD_FLAG_HAS_FLAGS };
    await expect(tools.attach({ ...options, connections: 2 })).rejects.toThrow(/--connections 1/);
    server.terms = { ...server.terms, blockSizes: { minimumBytes: 1024, preferredBytes: 4096, maximumBytes: MIB } };
    await expect(tools.attach({ ...options, blockSizeBytes: 512 })).rejects.toThrow(/--block-size 1024/);
    server.terms = { ...server.terms, blockSizes: { minimumBytes: 65_536, preferredBytes: 65_536, maximumBytes: MIB } };
    await expect(tools.attach(options)).rejects.toThrow(/no blocks smaller than 65536/);
    server.terms = { ...server.terms, blockSizes: null, sizeBytes: 1024 };
    await expect(tools.attach(options)).rejects.toThrow(/1024 bytes, less than one block/);
    expect(kernel.devices.size).toBe(0);
    nothingIsLeftOpen();
  });
});

describe('detach', () => {
  test('flushes, and ends the device by its name, its URI or its path', async () => {
    for (const what of ['demo', URI, '/dev/nbd0', 'nbd0']) {
      await tools.attach(options);
      expect(await tools.detach(what, local)).toMatchObject({ path: '/dev/nbd0', backend: URI });
      expect(flushed.splice(0)).toEqual(['/dev/nbd0']);
      expect(kernel.devices.size).toBe(0);
    }
    nothingIsLeftOpen();
  });

  test('gives a device that lost its connections new ones before it flushes', async () => {
    await tools.attach({ ...options, connections: 2 });
    kernel.kill(0);
    kernel.calls.length = 0;
    await tools.detach('demo', local);
    expect(kernel.calls).toEqual([`reconfigure 0 ${MIB} took 2 of 8`, 'disconnect 0', 'close']);
  });

  test('loses nothing: not of a device in use, not without its server', async () => {
    await tools.attach(options);
    kernel.users.set(0, ['mounted on /mnt/x', 'open in process 7 (fio)']);
    await expect(tools.detach('demo', local)).rejects.toThrow(/mounted on \/mnt\/x, open in process 7 \(fio\); first: umount \/mnt\/x/);
    kernel.users.clear();
    server.isRunning = false;
    expect(await refusalOf(tools.detach('demo', local))).toMatch(/^unavailable: .*basalt rescue \/dev\/nbd0/);
    expect(kernel.alive(0)).toBe(1);
    expect(flushed).toEqual([]);
  });

  test('waits a moment for those who only look, and no longer', async () => {
    await tools.attach(options);
    kernel.users.set(0, ['open in process 9 (udev-worker)']);
    const waiting = passing(tools.detach('demo', local));
    await settleMicrotasks();
    kernel.users.clear();
    expect(await waiting).toMatchObject({ index: 0 });
    await tools.attach(options);
    kernel.users.set(0, ['open in process 7 (fio)']);
    expect(await refusalOf(passing(tools.detach('demo', local)))).toMatch(/^in-use: .*open in process 7 \(fio\); close it there/);
  });

  test('of what is not attached, or is none, says so', async () => {
    await expect(tools.detach('demo', local)).rejects.toMatchObject({ code: 'not-found' });
    await expect(tools.detach('/dev/nbd1', local)).rejects.toThrow(/\/dev\/nbd1 is not attached/);
    await expect(tools.detach('/dev/nbd9', local)).rejects.toThrow(/no \/dev\/nbd9/);
    await expect(tools.detach('/dev/sda', local)).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  test('of a name that two servers have asks which', async () => {
    await tools.attach({ ...options, target: parseNbdUri('nbd://a/x') });
    await tools.attach({ ...options, target: parseNbdUri('nbd://b/x') });
    await expect(tools.detach('x', local)).rejects.toThrow(/\/dev\/nbd0, \/dev\/nbd1/);
    expect(await tools.detach('x', parseNbdUri('nbd://b'))).toMatchObject({ index: 1 });
    expect(await tools.detach('x', local)).toMatchObject({ index: 0 });
  });
});

describe('rescue', () => {
  test('reconnects a device whose server answers, whoever uses it', async () => {
    await tools.attach({ ...options, connections: 2 });
    kernel.users.set(0, ['mounted on /mnt']);
    kernel.kill(0);
    expect(await tools.rescue('demo', local, true)).toEqual({ device: '/dev/nbd0', outcome: 'reconnected', users: ['mounted on /mnt'] });
    expect(kernel.alive(0)).toBe(2);
    nothingIsLeftOpen();
  });

  test('frees one whose server is gone, or has it no more', async () => {
    for (const code of ['unavailable', 'not-found'] as const) {
      server.refusal = null;
      await tools.attach(options);
      server.refusal = new VolumeError(code, 'gone');
      expect(await passing(tools.rescue('nbd0', local, false))).toEqual({ device: '/dev/nbd0', outcome: 'freed', users: [] });
    }
    server.refusal = null;
    await tools.attach(options);
    server.refusal = new VolumeError('unsupported', 'TLS');
    await expect(tools.rescue('nbd0', local, true)).rejects.toThrow('TLS');
  });

  test('loses what a mounted device holds only when it may', async () => {
    await tools.attach(options);
    kernel.users.set(0, ['mounted on /mnt']);
    server.isRunning = false;
    kernel.calls.length = 0;
    expect(await refusalOf(tools.rescue('demo', local, false))).toMatch(/^in-use: .*--yes/);
    expect(kernel.calls).toEqual(['close']);
    expect(await passing(tools.rescue('demo', local, true))).toEqual({ device: '/dev/nbd0', outcome: 'held', users: ['mounted on /mnt'] });
    expect(kernel.calls).toContain('disconnect 0');
  });
});

describe('without netlink', () => {
  test.each([['koffi is missing', systemError('ENOSYS')], ['the kernel is too old', new VolumeError('not-found', 'no NBD family')]])('as %s, nbd-client does it, with a warning', async (_, error) => {
    netlink = error;
    expect(await tools.attach({ ...options, connections: 2 })).toMatchObject({ device: '/dev/nbd0', via: 'nbd-client', sizeBytes: MIB });
    expect(programs).toEqual(['nbd-client -N demo 127.0.0.1 10809 /dev/nbd0 -b 4096 -timeout 60 -C 2']);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('a restart of the server will not be survived');
    expect(await refusalOf(tools.supervise(options, supervision().options))).toMatch(/^unsupported: .*npm install koffi/);
  });

  test('it detaches and frees, too, and keeps what is mounted', async () => {
    await tools.attach({ ...options, target: parseNbdUri('nbd+unix:///demo?socket=/s') });
    netlink = systemError('ENOSYS');
    kernel.users.set(0, ['mounted on /mnt']);
    await expect(tools.detach('nbd0', local)).rejects.toMatchObject({ code: 'in-use' });
    await expect(tools.rescue('nbd0', local, false)).rejects.toMatchObject({ code: 'in-use' });
    expect(programs).toEqual([]);
    kernel.users.clear();
    await tools.detach('nbd0', local);
    await tools.rescue('nbd0', local, false);
    expect(programs).toEqual(['nbd-client -d /dev/nbd0', 'nbd-client -d /dev/nbd0']);
  });
});

function supervision(more: Partial<SuperviseOptions> = {}): { options: SuperviseOptions; stop: () => void; logger: MemoryLogger; attached: string[] } {
  const stop = deferred<string>();
  const logger = new MemoryLogger();
  const attached: string[] = [];
  return {
    options: { sizeCheckMs: 10_000, keep: false, stop: stop.promise, log: (level, event, fields) => logger.log(level, event, fields), onAttached: ({ device, isNew }) => void attached.push(`${device} ${isNew}`), ...more },
    stop: () => stop.resolve('SIGTERM'),
    logger,
    attached,
  };
}

describe('supervise', () => {
  test('attaches, reconnects, and detaches when it is stopped', async () => {
    const { options: watched, stop, attached } = supervision();
    const end = tools.supervise({ ...options, connections: 2 }, watched);
    await settleMicrotasks();
    expect(attached).toEqual(['/dev/nbd0 true']);
    kernel.kill(0);
    await settleMicrotasks();
    expect(kernel.alive(0)).toBe(2);
    stop();
    expect(await passing(end)).toEqual({ device: '/dev/nbd0', end: 'detached', pauses: 1, longestPauseMs: 0 });
    expect(kernel.devices.size).toBe(0);
    nothingIsLeftOpen();
  });

  test('keeps what it is asked to keep, and the next one goes on with it', async () => {
    const first = supervision({ keep: true });
    const end = tools.supervise(options, first.options);
    await settleMicrotasks();
    first.stop();
    expect(await passing(end)).toMatchObject({ end: 'kept' });
    kernel.kill(0);
    const second = supervision();
    const next = tools.supervise(options, second.options);
    await settleMicrotasks();
    expect(second.attached).toEqual(['/dev/nbd0 false']);
    expect(kernel.alive(0)).toBe(1);
    second.stop();
    expect(await passing(next)).toMatchObject({ end: 'detached' });
    nothingIsLeftOpen();
  });

  test('leaves a device that is in use, or whose server is away', async () => {
    for (const cause of ['mounted', 'away'] as const) {
      server.isRunning = true;
      const { options: watched, stop, logger } = supervision();
      const end = tools.supervise(options, watched);
      await settleMicrotasks();
      if (cause === 'mounted') kernel.users.set(0, ['mounted on /mnt']);
      else server.isRunning = false;
      stop();
      expect(await passing(end)).toMatchObject({ end: 'kept' });
      expect(kernel.alive(0)).toBe(1);
      expect(logger.events.map(({ event }) => event)).toContain('left-attached');
      kernel.users.clear();
    }
    nothingIsLeftOpen();
  });

  test('waits for a server that is not there yet, and can be stopped meanwhile', async () => {
    server.isRunning = false;
    const { options: watched, stop, attached, logger } = supervision();
    const end = tools.supervise(options, watched);
    for (let turn = 0; turn < 5; turn += 1) {
      await settleMicrotasks();
      clock.advance(1000);
    }
    expect(attached).toEqual([]);
    expect(logger.events).toMatchObject([{ event: 'no-server' }]);
    server.isRunning = true;
    await settleMicrotasks();
    clock.advance(1000);
    await settleMicrotasks();
    expect(attached).toEqual(['/dev/nbd0 true']);
    stop();
    await passing(end);
    server.isRunning = false;
    const second = supervision();
    const never = tools.supervise(options, second.options);
    await settleMicrotasks();
    second.stop();
    expect(await passing(never)).toMatchObject({ end: 'not-attached' });
    nothingIsLeftOpen();
  });

  test('ends when somebody detaches the device', async () => {
    const end = tools.supervise(options, supervision().options);
    await settleMicrotasks();
    await kernel.disconnect(0);
    expect(await passing(end)).toMatchObject({ end: 'ended' });
    nothingIsLeftOpen();
  });

  test('fails for what does not pass by itself', async () => {
    server.refusal = new VolumeError('not-found', 'no such export');
    await expect(tools.supervise(options, supervision().options)).rejects.toThrow('no such export');
  });
});

test('the list names who uses what, and free devices if it is asked for them', async () => {
  await tools.attach({ ...options, index: 1 });
  kernel.users.set(1, ['mounted on /mnt']);
  expect(await tools.list({ all: false })).toMatchObject([{ path: '/dev/nbd1', backend: URI, users: ['mounted on /mnt'] }]);
  expect((await tools.list({ all: true })).map(({ path, isAttached }) => [path, isAttached])).toEqual([['/dev/nbd0', false], ['/dev/nbd1', true], ['/dev/nbd2', false], ['/dev/nbd3', false]]);
});
