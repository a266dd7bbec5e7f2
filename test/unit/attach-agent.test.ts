/** The agent of an attached device, with a kernel and a server of the tests' own, on a clock that moves when it is told to. */
import { beforeEach, describe, expect, test } from 'vitest';
import { Agent, type AgentEnd, type AgentOptions } from '../../src/attach/agent.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { NBD_FLAG_CAN_MULTI_CONN, NBD_FLAG_HAS_FLAGS, NBD_FLAG_READ_ONLY } from '../../src/protocol/constants.ts';
import { formatNbdUri, parseNbdUri } from '../../src/protocol/uri.ts';
import { FakeKernel, FakeServer } from '../support/fake-kernel.ts';
import { ManualClock, settleMicrotasks } from '../support/fake-world.ts';
import { MemoryLogger } from '../support/server-harness.ts';

const MIB = 1024 * 1024;
const target = parseNbdUri('nbd://127.0.0.1:10809/demo');

let clock: ManualClock;
let server: FakeServer;
let kernel: FakeKernel;
let logger: MemoryLogger;
beforeEach(() => {
  clock = new ManualClock();
  server = new FakeServer();
  kernel = new FakeKernel(server);
  logger = new MemoryLogger();
});

interface Running {
  readonly agent: Agent;
  readonly end: Promise<AgentEnd>;
}

/** An agent at a device with that many connections. `adopted`: those of an agent that has gone. */
async function start(connections: number, options: Partial<AgentOptions> = {}, adopted = false): Promise<Running> {
  const backend = formatNbdUri(target);
  const dialled = await Promise.all(Array.from({ length: connections }, () => server.dial(target)));
  const descriptors = dialled.map(({ descriptor }) => descriptor);
  const message = { index: 0, sizeBytes: MIB, blockSizeBytes: 4096, serverFlags: server.terms.flags, timeoutSeconds: 5, deadTimeoutSeconds: 60, descriptors, backend };
  await kernel.connect(message);
  if (adopted) for (const descriptor of descriptors) server.close(descriptor);
  const agent = new Agent(
    { index: 0, target, backend, connections, sizeBytes: MIB, readOnly: false, deadTimeoutSeconds: 60, sizeCheckMs: 10_000, ...options },
    { kernel, dialler: server, clock, stateOf: server.stateOf, isAttached: () => Promise.resolve(kernel.devices.has(0)), log: (level, event, fields) => logger.log(level, event, fields) },
    adopted ? [] : descriptors,
  );
  const end = agent.run();
  await settleMicrotasks();
  kernel.calls.length = 0;
  return { agent, end };
}

async function pass(durationMs: number, stepMs = 50): Promise<void> {
  for (let passed = 0; passed < durationMs; passed += stepMs) {
    clock.advance(stepMs);
    await settleMicrotasks();
  }
}

async function stop({ agent, end }: Running): Promise<void> {
  agent.stop();
  expect(await end).toBe('stopped');
  expect(kernel.watchers).toBe(0);
  expect([...server.connections.keys()], 'descriptors that were left open').toEqual([]);
}

const events = (): string[] => logger.events.map(({ event }) => event);

describe('a server that goes and comes back', () => {
  test('is given new connections as soon as it is there, and the pause is told', async () => {
    const running = await start(3);
    server.isRunning = false;
    kernel.kill(0);
    await pass(4000);
    expect(kernel.alive(0)).toBe(0);
    server.isRunning = true;
    await pass(1000);
    expect(kernel.alive(0)).toBe(3);
    expect(kernel.calls).toEqual([`reconfigure 0 ${MIB} took 3 of 3`]);
    expect(events()).toEqual(['connection-lost', 'reconnected']);
    expect(Number(logger.events[1].fields.pauseMs)).toBeGreaterThanOrEqual(4000);
    expect(Number(logger.events[1].fields.pauseMs)).toBeLessThanOrEqual(5000);
    expect(running.agent.report.pauses).toBe(1);
    expect(running.agent.report.longestPauseMs).toBe(logger.events[1].fields.pauseMs);
    await stop(running);
  });

  test('is there still: one connection is replaced, at once, and the others are left alone', async () => {
    const running = await start(3);
    kernel.kill(0, { only: 1 });
    await settleMicrotasks();
    expect(kernel.alive(0)).toBe(3);
    expect(kernel.calls).toEqual([`reconfigure 0 ${MIB} took 1 of 1`]);
    await stop(running);
  });

  test('has died again before all is said', async () => {
    const running = await start(2);
    for (let round = 0; round < 20; round += 1) {
      server.isRunning = false;
      kernel.kill(0);
      await pass(round * 37);
      server.isRunning = true;
      await pass(1100);
      expect(kernel.alive(0), `round ${round}`).toBe(2);
    }
    expect(running.agent.report.pauses).toBe(20);
    await stop(running);
  });

  test('is asked at growing intervals, a second at most, and what is wrong is told once', async () => {
    const running = await start(1);
    let asked = 0;
    const dial = server.dial.bind(server);
    server.dial = (wanted) => {
      asked += 1;
      return dial(wanted);
    };
    server.isRunning = false;
    kernel.kill(0);
    await pass(20_000);
    expect(asked).toBeGreaterThan(20);
    expect(asked).toBeLessThan(28);
    expect(events()).toEqual(['connection-lost']);
    server.refusal = new VolumeError('not-found', 'no such export');
    server.isRunning = true;
    await pass(3000);
    expect(logger.events.map(({ fields }) => fields.reason)).toEqual(['no server answers for demo', 'no such export']);
    await stop(running);
  });

  test('stays away longer than requests wait: that is said', async () => {
    const running = await start(1);
    server.isRunning = false;
    kernel.kill(0);
    await pass(59_000, 500);
    expect(events()).not.toContain('requests-fail');
    await pass(3000, 500);
    expect(events().filter((event) => event === 'requests-fail')).toHaveLength(1);
    server.isRunning = true;
    await pass(2000, 500);
    expect(kernel.alive(0)).toBe(1);
    await stop(running);
  });

  test('has not read all that was sent on a dead connection: the new one waits for that', async () => {
    const running = await start(2);
    kernel.kill(0, { state: 'closing' });
    await pass(5000);
    expect(kernel.calls).toEqual([]);
    expect(events()).toEqual(['waiting-for-server']);
    for (const connection of server.connections.values()) connection.state = 'closed';
    await pass(100);
    expect(kernel.alive(0)).toBe(2);
    await stop(running);
  });

  test('never ends a dead connection: after half a minute it is not waited for', async () => {
    const running = await start(1);
    kernel.kill(0, { state: 'closing' });
    await pass(29_000, 500);
    expect(kernel.calls).toEqual([]);
    await pass(2000, 500);
    expect(kernel.alive(0)).toBe(1);
    expect(events()).toContain('old-connection-left');
    await stop(running);
  });

  test('gives the export for reading only: the device waits, as its writes would fail', async () => {
    const running = await start(1);
    server.terms = { ...server.terms, flags: server.terms.flags | NBD_FLAG_READ_ONLY };
    kernel.kill(0);
    await pass(3000);
    expect(kernel.alive(0)).toBe(0);
    expect(logger.events[0].fields.reason).toContain('for reading only');
    server.terms = { ...server.terms, flags: server.terms.flags & ~NBD_FLAG_READ_ONLY };
    await pass(1100);
    expect(kernel.alive(0)).toBe(1);
    await stop(running);
  });

  test('takes one connection only now: several are not reconnected, for a flush would not cover all', async () => {
    for (const only of [0, undefined]) {
      server.terms = { ...server.terms, flags: NBD_FLAG_HAS_FLAGS | NBD_FLAG_CAN_MULTI_CONN };
      const running = await start(2);
      server.terms = { ...server.terms, flags: NBD_FLAG_HAS_FLAGS };
      kernel.kill(0, { only });
      await pass(2000);
      expect(kernel.alive(0)).toBe(only === undefined ? 0 : 1);
      expect(logger.events.at(-1)?.fields.reason).toContain('--connections 1');
      await stop(running);
      await kernel.disconnect(0);
    }
  });
});

describe('an export that changes its size', () => {
  test('changes the device, as often as is asked for', async () => {
    const running = await start(1);
    server.terms = { ...server.terms, sizeBytes: 2 * MIB };
    await pass(9000, 500);
    expect(kernel.devices.get(0)?.sizeBytes).toBe(MIB);
    await pass(3000, 500);
    expect(kernel.devices.get(0)?.sizeBytes).toBe(2 * MIB);
    expect(logger.events).toMatchObject([{ level: 'info', event: 'resized', fields: { fromBytes: MIB, toBytes: 2 * MIB } }]);
    server.terms = { ...server.terms, sizeBytes: MIB / 2 };
    await pass(12_000, 500);
    expect(kernel.devices.get(0)?.sizeBytes).toBe(MIB / 2);
    expect(logger.events[1].level).toBe('warn');
    await stop(running);
  });

  test('while its server was away changes it with the new connections', async () => {
    const running = await start(1);
    server.isRunning = false;
    kernel.kill(0);
    await pass(500);
    server.terms = { ...server.terms, sizeBytes: 2 * MIB };
    server.isRunning = true;
    await pass(1000);
    expect(kernel.devices.get(0)?.sizeBytes).toBe(2 * MIB);
    await stop(running);
  });
});

describe('an agent', () => {
  test('that takes over a device replaces what has died meanwhile', async () => {
    const dead = await start(2, {}, true);
    expect(server.dialled).toBe(4);
    expect(kernel.alive(0)).toBe(2);
    await stop(dead);
  });

  test('finds connections that died before it listened', async () => {
    const watch = kernel.watch.bind(kernel);
    kernel.watch = (onDead, onFailed) => {
      kernel.kill(0); // nobody hears that
      return watch(onDead, onFailed);
    };
    const running = await start(2);
    expect(kernel.alive(0)).toBe(2);
    await stop(running);
  });

  test('looks after its device when messages of the kernel were lost', async () => {
    const running = await start(1);
    for (const connection of kernel.devices.get(0)?.connections ?? []) connection.state = 'closed';
    await pass(3000);
    expect(kernel.alive(0)).toBe(0);
    kernel.lose();
    await settleMicrotasks();
    expect(kernel.alive(0)).toBe(1);
    await stop(running);
  });

  test('ends when somebody detaches the device, also while the server is away', async () => {
    for (const isRunning of [true, false]) {
      server.isRunning = true;
      const { end } = await start(1);
      server.isRunning = isRunning;
      if (!isRunning) kernel.kill(0);
      await pass(500);
      await kernel.disconnect(0);
      await pass(2000);
      expect(await end).toBe('detached');
    }
  });

  test('is stopped while the server is away, or does not end a dead connection', async () => {
    for (const state of ['closed', 'closing'] as const) {
      server.isRunning = true;
      const running = await start(1);
      server.isRunning = false;
      kernel.kill(0, { state });
      await pass(500);
      running.agent.stop();
      await pass(1100);
      await stop(running);
      await kernel.disconnect(0);
    }
  });

  test('fails where the kernel cannot be heard any more', async () => {
    const { end } = await start(1);
    kernel.failToListen(new VolumeError('io-error', 'gone'));
    await expect(end).rejects.toThrow('gone');
    expect(kernel.watchers).toBe(0);
  });
});
