/** Limits on connections, each at its edge, and who gives way to whom; what of an export a client may see by where it comes from. */
import { afterEach, describe, expect, test } from 'vitest';
import { deferred } from '../../src/base/async.ts';
import { parseRange } from '../../src/base/address-range.ts';
import type { ExportSettings, ExportTable } from '../../src/base/settings-types.ts';
import { NBD_OPT_GO, NBD_REP_ERR_UNKNOWN } from '../../src/protocol/constants.ts';
import { ExportAccess, addressOf, countKeyOf } from '../../src/server/access.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { infoRequestBytes } from '../support/nbd-bytes.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { type HarnessOptions, type LoggedEvent, ServerHarness } from '../support/server-harness.ts';
import { settled } from '../support/session-driver.ts';

const stops: (() => Promise<void>)[] = [];

async function start(options: HarnessOptions = {}): Promise<ServerHarness> {
  const harness = await ServerHarness.start(options);
  stops.push(() => harness.stop());
  return harness;
}

afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

async function greeted(harness: ServerHarness): Promise<NbdClient> {
  const client = await NbdClient.connect(harness.address);
  await client.greet();
  return client;
}

const ends = ({ logger }: ServerHarness): LoggedEvent[] => logger.events.filter(({ event }) => event === 'client-disconnected');

describe('a client that negotiates', () => {
  test('gives way to a newer one when there are as many as allowed, the oldest first', async () => {
    const harness = await start({ settings: { maxHalfOpen: 2 } });
    const [first, second] = [await greeted(harness), await greeted(harness)];
    expect(harness.server.counts.displaced).toBe(0);
    const third = await greeted(harness);
    await first.untilEnd();
    expect(ends(harness)[0].fields).toMatchObject({ connection: 1, reason: 'negotiated too long, and others wait' });
    await second.go('disk'); // it is one of those no more
    const fourth = await greeted(harness);
    await third.go('disk');
    await fourth.go('disk');
    expect(harness.server.counts).toMatchObject({ accepted: 4, displaced: 1, turnedAway: 0 });
    expect(harness.server.halfOpenCount).toBe(0);
    for (const client of [second, third, fourth]) await client.close();
  });

  test('gives way when the table of all connections is full', async () => {
    const harness = await start({ settings: { maxConnections: 2 } });
    const [served, stalled] = [await NbdClient.open(harness.address), await greeted(harness)];
    const next = await NbdClient.open(harness.address);
    await stalled.untilEnd();
    const turnedAway = await NbdClient.connect(harness.address);
    await turnedAway.untilEnd();
    expect(harness.server.counts).toMatchObject({ accepted: 3, displaced: 1, turnedAway: 1 });
    expect(await served.read(0, 10)).toHaveLength(10);
    for (const client of [served, next]) await client.close();
  });

  test('is not dropped while we look for its volume', async () => {
    const harness = await start({ settings: { maxHalfOpen: 1 } });
    const gate = deferred<void>();
    harness.directory.gate = gate.promise;
    const client = await greeted(harness);
    const going = client.go('disk');
    await settled();
    const other = await NbdClient.connect(harness.address);
    await other.untilEnd();
    expect(harness.server.counts).toMatchObject({ displaced: 0, turnedAway: 1 });
    gate.resolve();
    await going;
    await client.close();
  });

  test('a flood of them holds up nobody who gets on', async () => {
    const harness = await start({ listening: 'ipv4', settings: { maxConnections: 20, maxHalfOpen: 10 } });
    const flood = await Promise.all(Array.from({ length: 100 }, () => NbdClient.connect(harness.address)));
    const client = await NbdClient.open(harness.address);
    expect(await client.read(0, 10)).toHaveLength(10);
    expect(harness.server.connectionCount).toBeLessThanOrEqual(11);
    for (const each of flood) await each.cut();
    await client.close();
    while (harness.server.connectionCount > 0) await settled();
    expect(harness.server.halfOpenCount).toBe(0);
  });
});

const key = (text: string): string | null => countKeyOf(addressOf(text));

describe('connections of one address', () => {
  test('are limited, and room is made when one leaves', async () => {
    const harness = await start({ listening: 'ipv4', settings: { maxConnectionsPerAddress: 2 } });
    const clients = [await NbdClient.open(harness.address), await NbdClient.open(harness.address)];
    const third = await NbdClient.connect(harness.address);
    await third.untilEnd();
    expect((await harness.logger.first('client-turned-away')).fields).toMatchObject({ peer: '127.0.0.1' });
    await clients[0].close();
    while (harness.server.connectionCount === 2) await settled();
    const fourth = await NbdClient.open(harness.address);
    await Promise.all([clients[1].close(), fourth.close()]);
  });

  test('give way to their own kind while they negotiate', async () => {
    const harness = await start({ listening: 'ipv4', settings: { maxConnectionsPerAddress: 1 } });
    const stalled = await greeted(harness);
    const client = await NbdClient.open(harness.address);
    await stalled.untilEnd();
    expect(harness.server.counts).toMatchObject({ displaced: 1, turnedAway: 0 });
    await client.close();
  });

  test('do not count for unix sockets', async () => {
    const harness = await start({ settings: { maxConnectionsPerAddress: 1 } });
    const clients = [await NbdClient.open(harness.address), await NbdClient.open(harness.address)];
    await Promise.all(clients.map((client) => client.close()));
  });

  test('are those of a /64 in IPv6', () => {
    expect(key('2001:db8::1')).toBe(key('2001:db8::ffff:0:0:2'));
    expect(key('2001:db8:0:1::1')).not.toBe(key('2001:db8::1'));
    expect(key('::ffff:10.0.0.1')).toBe(key('10.0.0.1'));
    expect(key('10.0.0.2')).not.toBe(key('10.0.0.1'));
  });
});

describe('a client that asks for nothing', () => {
  test('is closed after the time that is set', async () => {
    const harness = await start({ settings: { idleTimeoutMs: 120 } });
    const client = await NbdClient.open(harness.address);
    await client.untilEnd();
    expect((await harness.logger.first('client-disconnected')).fields.reason).toBe('asked for nothing');
    expect(harness.server.counts.idle).toBe(1);
  });

  test('may stay for ever otherwise, and so may one that asks now and then', async () => {
    const harness = await start({ settings: { idleTimeoutMs: 150 } });
    const client = await NbdClient.open(harness.address);
    const began = performance.now();
    while (performance.now() < began + 400) await client.read(0, 10);
    expect(harness.server.counts.idle).toBe(0);
    await client.close();
  });

  test('does not mean one that waits for us', async () => {
    const harness = await start({ settings: { idleTimeoutMs: 60 } });
    harness.device.settleTime = 'by hand';
    const client = await NbdClient.open(harness.address);
    const written = client.write(0, Buffer.alloc(10, 1));
    const other = await NbdClient.open(harness.address);
    await other.untilEnd(); // the time has passed
    harness.device.settleAll();
    await written;
    await client.close();
  });
});

const rules = (changes: Partial<ExportSettings>): ExportSettings => ({ readOnly: false, allow: null, tlsRequired: false, tlsNames: null, ...changes });

function rangesOf(...texts: readonly string[]): ExportSettings['allow'] {
  return texts.map((text) => {
    const range = text === 'unix' ? 'unix' : parseRange(text);
    if (range === null) throw new Error(`${text} is no range`);
    return range;
  });
}

const exports: ExportTable = new Map([
  ['local', rules({ allow: rangesOf('127.0.0.0/8', '::1') })],
  ['elsewhere', rules({ allow: rangesOf('10.0.0.0/8', 'fd00::/8') })],
  ['file', rules({ allow: rangesOf('unix') })],
  ['looked', rules({ readOnly: true })],
  ['nobody', rules({ allow: [] })],
]);

describe('exports by address', () => {
  test.each([
    ['ipv4', ['local', 'looked', 'other']],
    ['ipv6', ['local', 'looked', 'other']],
    ['unix', ['file', 'looked', 'other']],
  ] as const)('a client over %s sees those that are for it', async (listening, visible) => {
    const all = [...exports.keys(), 'other'];
    const harness = await start({ listening, exports, devices: all.map((name) => new MemoryDevice({ name })) });
    const client = await greeted(harness);
    expect((await client.list()).map(({ name }) => name).toSorted()).toEqual([...visible].toSorted());
    for (const name of [...all, 'none'].filter((each) => !visible.some((seen) => seen === each))) {
      expect(await client.refusedOption(NBD_OPT_GO, infoRequestBytes(name))).toEqual({ type: NBD_REP_ERR_UNKNOWN, text: `there is no export "${name}"` });
    }
    await client.go('looked');
    await expect(client.write(0, Buffer.alloc(10))).rejects.toMatchObject({ errno: 1 });
    expect(await client.read(0, 10)).toHaveLength(10);
    await client.close();
    expect(harness.server.counts.refused).toBe(all.length - visible.length + 1);
  });

  test('the table * is for those without one of their own', () => {
    const access = new ExportAccess(new Map([...exports, ['*', rules({ allow: [] })]]), 'off');
    const client = access.clientOf({ address: addressOf('127.0.0.1'), secured: null });
    expect(['local', 'other', '*'].map((name) => client.termsOf(name))).toEqual(['writable', 'hidden', 'hidden']);
  });
});
