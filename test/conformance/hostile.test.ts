/** Clients that break the protocol, stall, flood or die: they hurt nobody but themselves. */
import { afterEach, describe, expect, test } from 'vitest';
import { NBD_CMD_READ, NBD_CMD_WRITE, NBD_OPT_GO, NBD_OPT_LIST, NBD_REP_ERR_UNSUP } from '../../src/protocol/constants.ts';
import { infoRequestBytes, optionBytes, requestBytes } from '../support/nbd-bytes.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { type HarnessOptions, type LoggedEvent, ServerHarness } from '../support/server-harness.ts';
import { settled } from '../support/session-driver.ts';

const MIB = 1024 * 1024;
const stops: (() => Promise<void>)[] = [];

async function start(options: HarnessOptions = {}): Promise<ServerHarness> {
  const harness = await ServerHarness.start(options);
  stops.push(() => harness.stop());
  return harness;
}

afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

/** Some other client, as long as the test runs: it must never notice anything. */
async function bystander(harness: ServerHarness): Promise<() => Promise<void>> {
  const client = await NbdClient.open(harness.address);
  return async () => {
    const payload = Buffer.alloc(100_000, 0x5a);
    await client.write(15 * MIB, payload);
    expect((await client.read(15 * MIB, payload.length)).equals(payload)).toBe(true);
    await client.flush();
  };
}

const disconnections = ({ logger }: ServerHarness): LoggedEvent[] => logger.events.filter(({ event }) => event === 'client-disconnected');

async function disconnected(harness: ServerHarness, count = 1): Promise<LoggedEvent> {
  while (disconnections(harness).length < count) await settled();
  return disconnections(harness)[count - 1];
}

describe.each(['ipv4', 'unix'] as const)('over %s', (listening) => {
  test.each<[string, Buffer]>([
    ['speaks HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')],
    ['sends zeroes', Buffer.alloc(100_000)],
    ['sends unknown client flags', Buffer.from('80000003', 'hex')],
    ['announces an option of 4 GiB', Buffer.concat([Buffer.from('00000003', 'hex'), optionBytes(99, Buffer.alloc(0), 0xffffffff)])],
    ['sends half an option and garbage', Buffer.concat([Buffer.from('00000003', 'hex'), optionBytes(3), Buffer.from('IHAVEOPS'), Buffer.alloc(100)])],
  ])('a client that %s is dropped', async (_, bytes) => {
    const harness = await start({ listening });
    const check = await bystander(harness);
    const client = await NbdClient.connect(harness.address);
    await client.take(18);
    client.send(bytes);
    expect((await disconnected(harness)).fields.reason).toBe('protocol error');
    await client.untilEnd();
    await check();
  });

  test.each<[string, Buffer]>([
    ['a wrong magic number', requestBytes({ command: NBD_CMD_READ, cookie: Buffer.alloc(8), magic: 0x25609514, length: 1 })],
    ['a write of 4 GiB', requestBytes({ command: NBD_CMD_WRITE, cookie: Buffer.alloc(8), length: 0xffffffff })],
    ['random bytes', Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 31) & 0xff))],
  ])('a client that sends %s instead of a request is dropped', async (_, bytes) => {
    const harness = await start({ listening });
    const check = await bystander(harness);
    const client = await NbdClient.open(harness.address);
    client.send(bytes);
    expect((await disconnected(harness)).fields).toMatchObject({ reason: 'protocol error', export: 'disk' });
    await client.untilEnd();
    await check();
    expect(harness.directory.holderCount('disk')).toBe(1);
  });

  test('a client that asks for 5000 lists is dropped', async () => {
    const harness = await start({ listening });
    const client = await NbdClient.connect(harness.address);
    await client.greet();
    client.send(Buffer.concat(Array.from({ length: 5000 }, () => optionBytes(NBD_OPT_LIST))));
    await disconnected(harness);
    const { event, fields } = await harness.logger.first('client-protocol-error');
    expect([event, fields.message]).toEqual(['client-protocol-error', 'more than 40 options']);
    expect(harness.server.bufferBytes).toBe(0);
  });

  test('a client that never reads its replies holds a bounded amount of memory and nobody up', async () => {
    const harness = await start({ listening, settings: { maxReplyBytes: 2 * MIB } });
    const check = await bystander(harness);
    const client = await NbdClient.open(harness.address);
    client.socket.pause();
    for (let count = 0; count < 500; count += 1) client.send(requestBytes({ command: NBD_CMD_READ, cookie: Buffer.alloc(8, count), length: MIB }));
    for (let round = 0; round < 5; round += 1) {
      await check();
      expect(harness.server.bufferBytes).toBeLessThan(4 * MIB);
    }
    await client.cut();
    await disconnected(harness);
    await check();
    await settled();
    expect(harness.server.bufferBytes).toBe(0);
  });

  test('clients that take no replies share one limit, give way to others that need it, and stop no small reads', async () => {
    const settings = { maxReplyBytes: 4 * MIB, replyBytes: 8 * MIB, payloadTimeoutMs: 400 };
    const harness = await start({ listening, settings });
    const check = await bystander(harness);
    const hoarders = await Promise.all(Array.from({ length: 12 }, () => NbdClient.open(harness.address)));
    for (const hoarder of hoarders) {
      hoarder.socket.pause();
      for (let count = 0; count < 4; count += 1) hoarder.send(requestBytes({ command: NBD_CMD_READ, cookie: Buffer.alloc(8, count), length: 2 * MIB }));
    }
    await settled();
    for (let round = 0; round < 5; round += 1) {
      await check();
      expect(harness.server.replyBytes).toBeLessThanOrEqual(8 * MIB);
    }
    const reader = await NbdClient.open(harness.address);
    const reply = await reader.request({ command: NBD_CMD_READ, length: 4 * MIB });
    expect(reply.error).toBe(0);
    const dropped = await harness.logger.first('client-disconnected');
    expect(dropped.fields).toMatchObject({ reason: 'did not take its replies' });
    await reader.cut();
    for (const hoarder of hoarders) await hoarder.cut();
    await disconnected(harness, 13);
    await check();
    await settled();
    expect(harness.server.replyBytes).toBe(0);
    expect(harness.server.bufferBytes).toBe(0);
  });

  test('a client that dies in the middle of its replies leaves nothing behind', async () => {
    const harness = await start({ listening });
    const check = await bystander(harness);
    for (let round = 1; round <= 5; round += 1) {
      const client = await NbdClient.open(harness.address);
      const lost = Array.from({ length: 30 }, () => client.request({ command: NBD_CMD_READ, length: MIB }).catch(() => null));
      await lost[round % 3];
      await client.cut();
      await Promise.all(lost);
      await disconnected(harness, round);
      await check();
    }
    expect(harness.server.connectionCount).toBe(1);
    expect(harness.directory.holderCount('disk')).toBe(1);
    await settled();
    expect(harness.server.bufferBytes).toBe(0);
  });

  test('half a payload is never applied, whatever becomes of its client', async () => {
    const harness = await start({ listening });
    const check = await bystander(harness);
    for (const [index, leave] of (['cut', 'end'] as const).entries()) {
      const client = await NbdClient.open(harness.address);
      const request = requestBytes({ command: NBD_CMD_WRITE, cookie: Buffer.alloc(8), payload: Buffer.alloc(3 * MIB, 0xff) });
      client.send(request.subarray(0, request.length - 1));
      await check();
      if (leave === 'cut') await client.cut();
      else client.endInput();
      await disconnected(harness, index + 1);
    }
    expect(harness.device.data.subarray(0, 3 * MIB).every((byte) => byte === 0)).toBe(true);
    await settled();
    expect(harness.server.bufferBytes).toBe(0);
  });
});

describe('a client that stalls', () => {
  test('in the handshake is dropped in time', async () => {
    const harness = await start({ settings: { handshakeTimeoutMs: 60 } });
    const client = await NbdClient.connect(harness.address);
    await client.greet();
    expect((await disconnected(harness)).fields.reason).toBe('handshake timeout');
    await client.untilEnd();
  });

  test('after the handshake may stay as long as it likes', async () => {
    const harness = await start({ settings: { handshakeTimeoutMs: 60, payloadTimeoutMs: 60 } });
    const client = await NbdClient.open(harness.address);
    const slow = await NbdClient.connect(harness.address);
    await disconnected(harness);
    await slow.untilEnd();
    expect(await client.read(0, 10)).toHaveLength(10);
  });

  test.each([10, 5000, 2 * MIB])('%i bytes into a request is dropped in time, and memory goes to those who wait', async (sentBytes) => {
    const harness = await start({ settings: { payloadTimeoutMs: 80, payloadBytes: 1 } });
    const stalled = await NbdClient.open(harness.address);
    const request = requestBytes({ command: NBD_CMD_WRITE, cookie: Buffer.alloc(8), payload: Buffer.alloc(3 * MIB, 0xff) });
    stalled.send(request.subarray(0, sentBytes));
    const other = await NbdClient.open(harness.address);
    await other.write(4 * MIB, Buffer.alloc(2 * MIB, 1));
    expect((await disconnected(harness)).fields.reason).toBe('stopped in the middle of a request');
    expect(harness.device.data[0]).toBe(0);
    expect(harness.device.data[4 * MIB]).toBe(1);
    await stalled.untilEnd();
    expect(await other.read(0, 10)).toHaveLength(10);
  });

  test('because the device is full is not blamed for it', async () => {
    const harness = await start({ settings: { payloadTimeoutMs: 40 } });
    const client = await NbdClient.open(harness.address);
    harness.device.full = true;
    const written = client.write(0, Buffer.alloc(3 * MIB, 1));
    const behind = client.write(3 * MIB, Buffer.alloc(3 * MIB, 2));
    const stalled = await NbdClient.open(harness.address);
    stalled.send(requestBytes({ command: NBD_CMD_WRITE, cookie: Buffer.alloc(8), length: 4096 }));
    await disconnected(harness); // that is the other one: the time has passed
    harness.device.makeRoom();
    await Promise.all([written, behind]);
    expect(disconnections(harness)).toHaveLength(1);
    await stalled.untilEnd();
  });

  test('but gets on slowly is let be', async () => {
    const harness = await start({ settings: { payloadTimeoutMs: 100 } });
    const client = await NbdClient.open(harness.address);
    const started = performance.now();
    const send = client.send.bind(client);
    const trickle = async (bytes: Uint8Array): Promise<void> => {
      for (let at = 0; at < bytes.length; at += 80_000) {
        send(bytes.subarray(at, at + 80_000));
        while (performance.now() < started + at / 4000) await settled(); // 80,000 bytes in 20 ms
      }
    };
    client.send = (bytes) => void trickle(bytes);
    await client.write(0, Buffer.alloc(MIB, 9));
    expect(performance.now() - started).toBeGreaterThan(200);
    await client.cut();
  });
});

test('more clients than allowed are turned away, and room is made when one leaves', async () => {
  const harness = await start({ settings: { maxConnections: 2 } });
  const clients = [await NbdClient.open(harness.address), await NbdClient.open(harness.address)];
  const third = await NbdClient.connect(harness.address);
  await third.untilEnd();
  expect((await harness.logger.first('client-turned-away')).level).toBe('warn');
  await clients[0].close();
  while (harness.server.connectionCount === 2) await settled();
  const fourth = await NbdClient.open(harness.address);
  expect(await fourth.read(0, 1)).toHaveLength(1);
  await Promise.all([fourth.close(), clients[1].close()]);
});

test('unknown options with much data do not lose the thread', async () => {
  const harness = await start({ settings: { maxOptionBytes: MIB } });
  const client = await NbdClient.connect(harness.address);
  await client.greet();
  for (const length of [0, 1, 10_000, 300_000, MIB]) {
    expect((await client.refusedOption(77, Buffer.alloc(length, 0x49))).type).toBe(NBD_REP_ERR_UNSUP);
  }
  await client.option(NBD_OPT_GO, infoRequestBytes('disk'));
  await client.cut();
});
